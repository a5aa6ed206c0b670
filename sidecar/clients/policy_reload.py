"""Has Cerbos read its policies again when their folder changed: a ConfigMap's volume changes in a way it does not see.

Kubernetes swaps one link, `..data`, for a new one (pkg/volume/util/atomic_writer.go); the names of the policies
stay the links that they were. What watches those names by inotify hears nothing. We look at what stands behind them.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from pathlib import Path

from sidecar.clients.unary import CallFailed, Channel, Method, Status

log = logging.getLogger("sidecar.cerbos")

WATCH_EVERY = 1.0
"""Seconds between two looks at the folder."""
RELOAD_WITHIN = 10.0
"""Seconds for Cerbos to compile what it reads."""
_WAIT = b"\x08\x01"
"""A ReloadStoreRequest with `wait: true`: the answer comes when the policies are in force, or cannot be."""
_AGAIN = frozenset((Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED))

Stamp = frozenset[tuple[str, int, int, int]]


class PolicyReload:
    """Watches `folder` for the Cerbos at `target`, whose Admin API takes `credentials` (`user:password`).

    `unread`: that Cerbos has not read the folder yet, and so will read what is there now or something newer.
    """

    def __init__(self, target: str, credentials: str, folder: Path, *, unread: bool = False) -> None:
        authority = "localhost" if target.startswith("unix:") else target
        basic = "Basic " + base64.b64encode(credentials.encode("ascii")).decode("ascii")
        self._method = Method("/cerbos.svc.v1.CerbosAdminService/ReloadStore", authority, RELOAD_WITHIN, basic)
        self._channel = Channel(target, self._method)
        self._folder = folder
        # what a Cerbos that runs has read may be older than what is here now: the first look asks, too
        self._told: Stamp = stamp_of(folder) if unread else frozenset()

    async def watch(self) -> None:
        """Look at the folder for ever."""
        while True:
            await self.look()
            await asyncio.sleep(WATCH_EVERY)

    async def look(self) -> None:
        """Have the policies read again if they changed since Cerbos was last told."""
        stamp = stamp_of(self._folder)
        if not stamp or stamp == self._told:
            return
        deadline = asyncio.get_running_loop().time() + RELOAD_WITHIN
        try:
            await self._channel.call(self._method, _WAIT, deadline)
        except CallFailed as error:
            if error.status in _AGAIN:
                return
            log.error("policies not reloaded, the running ones stay in force: %s %s", error.status.name, error.detail)  # noqa: TRY400 - an answer, not a fault of ours
        else:
            log.info("Cerbos has read the policies in %s", self._folder)
        self._told = stamp

    async def aclose(self) -> None:
        """Close the connection."""
        await self._channel.aclose()


def stamp_of(folder: Path) -> Stamp:
    """What tells one content of a policy folder from another: the files that Cerbos reads, with what is behind links.

    Cerbos skips names that begin with a dot, and so do we. An unreadable folder has an empty stamp.
    """
    found = set()
    try:
        for path in folder.rglob("*"):
            inside = path.relative_to(folder)
            if not any(part.startswith(".") for part in inside.parts) and path.is_file():
                stat = path.stat()
                found.add((str(inside), stat.st_mtime_ns, stat.st_size, stat.st_ino))
    except OSError:
        return frozenset()  # changed while we looked: the next look sees it whole
    return frozenset(found)
