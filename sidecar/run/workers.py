"""Processes of the sidecar: a single serving one, or a parent that shares its ports with workers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import uvloop

from sidecar.config.setting_table import Settings
from sidecar.config.settings import Understood
from sidecar.gate.mode import Mode
from sidecar.pdp.embedded import EmbeddedCerbos
from sidecar.pdp.policy_reload import publish_to
from sidecar.record import logs
from sidecar.record.metrics import Metrics
from sidecar.record.workers import PUBLISH_EVERY, ParentFile, WorkerFile
from sidecar.run.candidate import CANDIDATE, candidate_cerbos
from sidecar.run.deciding import TREE_KEY, wall_clock
from sidecar.run.errors import StartError
from sidecar.run.interpreter import SLOW, is_optimized
from sidecar.run.parts import Prepared, prepare
from sidecar.run.pdp import POLICIES, embedded_cerbos, embedded_reload, starting_cerbos
from sidecar.run.reload import Stamp, stamp_of
from sidecar.run.route_file import require_in_force
from sidecar.run.serving import Sidecar, Sockets
from sidecar.tether import tethered

log = logging.getLogger("sidecar")

SHARE = "_AUTHORIZATION_SIDECAR_METRICS"
"""Set by the parent for each worker: the file through which it counts as one with the others. No setting of a user."""
INHERITED = "_AUTHORIZATION_SIDECAR_SOCKETS"
"""Set by the parent for its workers: the numbers of its listening sockets. No setting of a user."""
FIRST_BACKOFF, MAX_BACKOFF = 0.1, 10.0
"""Seconds before a worker that ended is replaced: doubled from the first to the last while they keep ending."""
GOOD_RUN = 30.0
"""Seconds of life after which the end of a worker is not held against the next one."""
LEEWAY = 5.0
"""Seconds beyond the drain delay and the shutdown timeout after which a worker that has not ended is killed."""


def serve(read: Understood, environ: dict[str, str], flags: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError, with every problem of `read` and of what it names."""
    settings = read.settings
    # until there is something to reload, whoever asks for it is not to end us
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logs.configure(settings.log_level)
    _allow_files(settings.max_connections)
    for warning in read.warnings:
        log.warning("%s", warning)
    inherited, share = environ.pop(INHERITED, ""), environ.pop(SHARE, "")
    environ.setdefault(TREE_KEY, secrets.token_hex(32))
    stamp = stamp_of(settings.routes)
    # before any port is opened, and with several workers once for all of them
    metrics = Metrics(WorkerFile(Path(share)) if share else None)
    prepared = prepare(read, environ, metrics, listens=not inherited)
    require_in_force(settings, prepared.deciding.configured.routes)
    sockets = Sockets.inherit(settings, map(int, inherited.split(","))) if inherited else Sockets.open(settings)
    if settings.workers == 1:
        uvloop.run(_serve_here(prepared, stamp, sockets))
    else:
        gc.enable()
        with tempfile.TemporaryDirectory(prefix="sidecar-metrics-") as folder:
            workers = _Workers(settings, environ, flags, sockets, ParentFile(Path(folder)))
            uvloop.run(workers.run())


def _allow_files(connections: int) -> None:
    """Let this process open what so many clients need: a socket each, one to the upstream for each, and some."""
    wanted = 2 * connections + 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < wanted:
            log.warning("%d open files are allowed, %d clients may need %d", most, connections, wanted)


async def _serve_here(prepared: Prepared, stamp: Stamp, sockets: Sockets) -> None:
    await Sidecar(prepared, stamp).run(sockets, lambda: _announce(prepared.deciding.settings))


_MEANING: Mapping[Mode, str] = {
    "enforce": "",
    "shadow-policy": ": rules and policies refuse nothing, only recorded",
    "shadow": ": nothing is refused, only recorded",
}


def _announce(settings: Settings) -> None:
    """Log where the process serves, and how."""
    log.log(
        logging.INFO if settings.mode == "enforce" else logging.WARNING, "serving on %s, admin on %s, mode %s%s",
        settings.listen, settings.admin_listen, settings.mode, _MEANING[settings.mode],
    )  # fmt: skip
    if settings.question_log:
        log.info("question log %s: what is asked about requests, and what the app answers", settings.question_log)
    if not is_optimized():
        log.info(SLOW)


class _Workers:
    """The parent: runs the embedded Cerbos and the workers, replaces one that ends, and stops them all."""

    def __init__(
        self, settings: Settings, environ: dict[str, str], flags: Mapping[str, str], sockets: Sockets,
        counted: ParentFile,
    ) -> None:  # fmt: skip
        self._settings = settings
        self._sockets = sockets
        self._counted = counted
        self._stop = asyncio.Event()
        numbers = ",".join(map(str, sockets.numbers()))
        self._environ = {**environ, **flags, INHERITED: numbers, "SIDECAR_WORKERS": "1"}
        self._running: set[asyncio.subprocess.Process] = set()
        self._started = 0
        self._restarts = 0
        self._embedded: EmbeddedCerbos | None = None

    async def run(self) -> None:
        """Start everything, wait for the signal to stop, stop everything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_all)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._signal(signal.SIGHUP))
        counting = loop.create_task(self._count())
        try:
            async with self._cerbos(), self._candidate(), asyncio.TaskGroup() as group:
                for _ in range(self._settings.workers):
                    group.create_task(self._keep_one())
        except OSError as error:
            raise StartError(f"SIDECAR_CERBOS: {error}") from None
        finally:
            counting.cancel()

    @contextlib.asynccontextmanager
    async def _cerbos(self) -> AsyncIterator[None]:
        """The embedded Cerbos and the watch of its policies; a Cerbos that we do not run is told by each worker."""
        self._embedded = embedded = embedded_cerbos(self._settings, self._environ)
        if embedded is None:
            yield
            return
        state = embedded.snapshot.link.with_name("state.json")
        reload = embedded_reload(embedded, wall_clock, publish_to(state))
        watching: asyncio.Task[None] | None = None
        try:
            with starting_cerbos():
                await embedded.start()
            watching = asyncio.get_running_loop().create_task(reload.watch())
            self._environ["SIDECAR_CERBOS"], self._environ[POLICIES] = embedded.target, str(state)
            self._environ.pop("SIDECAR_CERBOS_ADMIN", None)
            yield
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            await reload.aclose()
            await embedded.stop()

    @contextlib.asynccontextmanager
    async def _candidate(self) -> AsyncIterator[None]:
        """The Cerbos of the candidate policies, for which nobody waits."""
        cerbos = candidate_cerbos(self._settings, wall_clock)
        if cerbos is None:
            yield
            return
        self._environ[CANDIDATE] = cerbos.told_to_workers
        running = asyncio.get_running_loop().create_task(cerbos.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await cerbos.aclose()

    def _stop_all(self) -> None:
        if self._stop.is_set():
            # a second signal ends their drain delay
            self._signal(signal.SIGTERM)
        self._stop.set()
        # the workers have their own: a connection that none of them takes must not wait for us
        for sock in self._sockets:
            if sock is not None:
                sock.close()

    def _signal(self, number: int) -> None:
        for process in self._running:
            if process.returncode is None:
                process.send_signal(number)

    async def _count(self) -> None:
        """Keep what the parent counts where the workers find it."""
        while True:
            self._publish()
            logs.flush()
            await asyncio.sleep(PUBLISH_EVERY)

    def _publish(self) -> None:
        restarts = self._embedded.restarts if self._embedded is not None else 0
        with contextlib.suppress(OSError):
            self._counted.publish(
                {"sidecar_worker_restarts": {(): [self._restarts]}, "sidecar_cerbos_restarts": {(): [restarts]}}
            )

    async def _keep_one(self) -> None:
        loop, backoff = asyncio.get_running_loop(), FIRST_BACKOFF
        stopped: asyncio.Future[Any] = asyncio.ensure_future(self._stop.wait())
        while not self._stop.is_set():
            since = loop.time()
            try:
                ended = await self._run_one(stopped)
            except OSError as error:
                ended = f"no worker could be started: {error}"
            if self._stop.is_set():
                return
            self._restarts += 1
            self._publish()
            if loop.time() - since > GOOD_RUN:
                backoff = FIRST_BACKOFF
            log.error("%s, starting another in %.1f s", ended, backoff)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), backoff)
            backoff = min(backoff * 2, MAX_BACKOFF)

    async def _run_one(self, stopped: asyncio.Future[Any]) -> str:
        """One worker from its start to its end. -> how it ended. Raises OSError where it cannot be started."""
        self._started += 1
        file = self._counted.worker(self._started)
        process = await asyncio.create_subprocess_exec(
            *tethered([sys.executable, "-m", "sidecar.cli", "run"]),
            env={**self._environ, SHARE: str(file)}, pass_fds=self._sockets.numbers(),
        )  # fmt: skip
        self._running.add(process)
        ended: asyncio.Future[Any] = asyncio.ensure_future(process.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        if process.returncode is None:
            process.terminate()
            within = self._settings.drain_delay + self._settings.shutdown_timeout + LEEWAY
            if not (await asyncio.wait([ended], timeout=within))[0]:
                process.kill()
        await ended
        self._running.discard(process)
        self._counted.take_over(file)
        return f"worker {process.pid} ended with {process.returncode}"
