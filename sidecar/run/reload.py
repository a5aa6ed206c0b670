"""Reloads the route file and the policies: applies a change as a whole, or not at all."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from sidecar.gate.gate import Gate
from sidecar.gate.verdict import Destination
from sidecar.net.app_reader import AppReader
from sidecar.net.upstream import Upstream
from sidecar.run.deciding import (
    Configured,
    Deciding,
    key_store,
    tokens_of,
    wall_clock,
)
from sidecar.run.errors import Errors, StartError
from sidecar.run.route_file import load_routes, load_trust, require_callback, require_in_force
from sidecar.run.sources import require_sources
from sidecar.run.tasks import Tasks
from sidecar.run.upstreams import make_named
from sidecar.trust.jwks import KeyStore

log = logging.getLogger("sidecar")

WATCH_EVERY = 1.0
"""Seconds between two looks at the route file."""
RETIRED_FOR = 10.0
"""Seconds after which key sets, apps and lookups that a reload has replaced are given up: requests that began before
may ask them."""

Stamp = tuple[int, int, int, int] | None
"""Of a file: time of its last change in ns, size, inode, device."""


class Reload:
    """Gives `gate` other rules whenever the route file changes, and other decisions whenever the policies do.

    `stamp` is that of the file from before it was read. `fault` says why the last reload left the routes as they were,
    "" where it did not.
    """

    def __init__(self, deciding: Deciding, gate: Gate, upstream: Upstream, stamp: Stamp, tasks: Tasks) -> None:
        self.generation = 1
        self.loaded_at = wall_clock()
        self.fault = ""
        self._deciding = deciding
        self._gate = gate
        self._upstream = upstream
        self._stamp = stamp
        self._tasks = tasks
        self._running = asyncio.Lock()
        if deciding.policies is not None:
            deciding.policies.state.changed = self.forget_decisions

    def readiness(self) -> str:
        """Return what `/readyz` tells: `ok`, or where the fault of a route file is that could not be used."""
        # no more than the place: what stands there is for the log
        return f"failed: {self.fault.splitlines()[0].partition(': ')[0]}" if self.fault else "ok"

    def forget_decisions(self) -> None:
        """Forget decisions that other policies made; one that is under way is kept where nobody finds it."""
        self._gate.rules = self._deciding.configured.rules(self._deciding.reading)

    async def reload_routes(self) -> None:
        """Put the route file as it is now in force; a file that cannot be used leaves the running routes in force."""
        settings, metrics = self._deciding.settings, self._deciding.metrics
        async with self._running:
            # before it is read: what is written later is another change
            self._stamp = stamp_of(settings.routes)
            try:
                # in a thread: a large file takes longer to read than requests may wait
                routes = await asyncio.to_thread(load_routes, settings, self._deciding.environ)
                # alone: nothing that a draft names is imported
                require_in_force(settings, routes)
                errors = Errors()
                errors.tried(require_callback, settings, routes)
                trust = errors.tried(load_trust, settings, routes)
                put_upstreams_in_force = errors.tried(make_named, self._upstream, routes)
                functions = not errors.problems
                await asyncio.to_thread(errors.tried, require_sources, settings, routes, functions=functions)
                if trust is None or put_upstreams_in_force is None or errors.problems:
                    raise StartError(*errors.problems)  # noqa: TRY301 - all are told alike
            except StartError as error:
                self.fault = str(error)
                metrics.reloaded("failed")
                log.error("routes not reloaded, the running ones stay in force:\n%s", error)  # noqa: TRY400 - a user's fault
                return
            before = self._deciding.configured
            keys, tokens = before.keys, before.tokens
            if trust != before.trust:
                keys = key_store(settings, trust, metrics)
                keys.adopt(before.keys)
                # nothing of it is in force before it can be used, or is known to be late
                await keys.warm()
            if keys is not before.keys or routes.principal != before.routes.principal:
                tokens = tokens_of(routes, trust, keys, metrics)
            gone = put_upstreams_in_force()
            self._put_in_force(Configured(routes, trust, keys, tokens))
            if gone:
                self._tasks.spawn(_retire_upstreams(self._upstream, self._deciding.app_reader, gone))

    def _put_in_force(self, configured: Configured) -> None:
        """All of it at once: no request sees the one of the old and the other of the new."""
        before = self._deciding.configured
        if configured.keys is not before.keys:
            self._tasks.spawn(_retire(before.keys))
        self._tasks.spawn(_retire_lookups(self._deciding))
        self._gate.rules = configured.rules(self._deciding.reading)
        self._deciding.configured, self.generation = configured, self.generation + 1
        self.loaded_at, self.fault = wall_clock(), ""
        self._deciding.metrics.reloaded("ok")
        log.info("routes reloaded, generation %d", self.generation)

    async def watch(self) -> None:
        """Reload whenever the route file changes: in place, replaced, or behind a link that leads elsewhere now."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            if stamp_of(self._deciding.settings.routes) != self._stamp:
                await self.reload_routes()


def stamp_of(path: str) -> Stamp:
    """Return a mark that differs once the file that `path` leads to was changed or replaced; None where it leads to
    none."""
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev


async def _retire(keys: KeyStore) -> None:
    try:
        await asyncio.sleep(RETIRED_FOR)
    finally:
        await keys.aclose()


async def _retire_lookups(deciding: Deciding) -> None:
    await asyncio.sleep(RETIRED_FOR)
    # those of a later reload, where there was one meanwhile
    await deciding.hooks.retain(lambda: deciding.configured.routes.lookups.values())


async def _retire_upstreams(upstream: Upstream, reader: AppReader, gone: tuple[Destination, ...]) -> None:
    await asyncio.sleep(RETIRED_FOR)
    await asyncio.gather(upstream.retire(gone), reader.retire(gone))
