"""The app's answer line by line: each goes out when it is judged, some at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from sidecar.doors.holding import JUDGED, TINY
from sidecar.gate.obligation import ReduceLines, Units
from sidecar.net.room import Lent

WINDOW = 50
"""Lines that are judged together: as many as Cerbos takes in one call by default."""
MOST = 256 * 1024
"""Bytes of whole lines that wait for others, after which none is read before they have gone out."""

Read = Callable[[], Coroutine[Any, Any, bytes]]
"""Reads the next bytes of an answer, b"" at its end."""


async def judged(read: Read, demand: ReduceLines, lent: Lent) -> AsyncGenerator[bytes]:
    """Yield what may go out of the lines that `read` gives, in room that is `lent`. Raises what `read` raises, NoRoom,
    and Refused where a line cannot be judged: what came before it has gone out."""
    rule, judge = demand.rule, demand.judge
    windows = rule.units()
    pieces = _Pieces(read)
    try:
        while windows.lines or not pieces.at_end():
            await _fill(windows, pieces, rule.wait, lent)
            waiting = windows.size
            lines = windows.take(WINDOW)
            lent.holds(room_of(windows.size + JUDGED * (waiting - windows.size)))
            data = await rule.window(lines, judge)
            del lines
            # until the client has taken it
            lent.holds(room_of(windows.size + len(data)))
            if data:
                yield data
    finally:
        pieces.close()


def room_of(size: int) -> int:
    """Return the room that so many bytes of an answer take, none where they are few."""
    return size if size > TINY else 0


async def _fill(windows: Units, pieces: _Pieces, wait: float, lent: Lent) -> None:
    """Wait for a line, and so long for others."""
    until = None
    while len(windows.lines) < WINDOW and not (windows.lines and windows.size >= MOST) and not pieces.at_end():
        if windows.lines and until is None:
            until = asyncio.get_running_loop().time() + wait
        piece = await pieces.next(until)
        if piece is None:
            return
        windows.add(piece)
        lent.holds(room_of(windows.size))
        if pieces.at_end():
            windows.end()


class _Pieces:
    """Reads ahead by one piece: a wait that ends loses nothing."""

    def __init__(self, read: Read) -> None:
        self._ended = False
        self._read = read
        self._reading: asyncio.Task[bytes] | None = None

    def at_end(self) -> bool:
        """Return whether there are no more."""
        return self._ended

    async def next(self, until: float | None) -> bytes | None:
        """The next bytes, None where there are none until then, in the loop's time."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        if until is not None:
            left = max(until - asyncio.get_running_loop().time(), 0)
            done, _ = await asyncio.wait([self._reading], timeout=left)
            if not done:
                return None
        data = await self._reading
        self._reading, self._ended = None, not data
        return data

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
