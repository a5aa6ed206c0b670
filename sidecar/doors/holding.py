"""Answers of the app that are held whole until they are settled: how large each is, and how many large ones at once.

A list of 10 MiB takes up to 40 MiB while it is judged. Small ones share the room of all that is held in memory; of
large ones there are some at a time, and the app of each other waits. Each owner has half of that at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from sidecar.net.room import NoRoom, Room
from sidecar.net.shares import Shares

SMALL = 1024 * 1024
"""Bytes that every answer may have."""
JUDGED = 4
"""Times the size of an answer that it takes while it is judged."""
TINY = 64 * 1024
"""Bytes that every connection may have on their way."""
LARGE_AT_ONCE = 4
"""Larger ones that are held at once."""
LEAVING_AT_ONCE = 16
"""Larger ones that go out at once, as fast as their clients take them."""
WITHIN = 10.0
"""Seconds that an answer waits for its place among the large ones."""
QUEUE = 64
"""Large ones of one owner that may wait for a place."""

Read = Callable[[], Awaitable[bytes]]
"""Reads the next bytes of an answer, b"" at its end."""


class HeldBack(NamedTuple):
    """Bytes of an answer that did not go out yet: all of them, or as many as were read before they were too many."""

    data: bytes
    whole: bool


class Holding:
    """The places of one process, and the room in its `memory` for small ones. `small` in bytes, `within` in seconds."""

    def __init__(
        self, memory: Room, *, small: int = SMALL, large: int = LARGE_AT_ONCE, leaving: int = LEAVING_AT_ONCE,
        within: float = WITHIN,
    ) -> None:  # fmt: skip
        self._memory = memory
        self._small = small
        self._within = within
        self._places = Shares(large, QUEUE)
        self._exits = Shares(leaving, QUEUE)
        self._leaving: dict[object, _Leaving] = {}

    @asynccontextmanager
    async def hold(self, read: Read, most: int, announced: int | None, owner: str) -> AsyncGenerator[HeldBack]:
        """Hold a body of at most so many bytes, or the beginning of one that has more; `announced` is its length if
        that is known. It keeps its place until this ends. Raises NoRoom, and what `read` raises."""
        if announced is not None and announced > most:
            yield HeldBack(b"", False)
            return
        held, size, taken, placed = list[bytes](), 0, 0, False
        try:
            while data := await read():
                size += len(data)
                if placed:
                    pass
                elif self._small < size <= most:
                    await self._take(self._places, owner)
                    placed = True
                else:
                    self._memory.take(owner, JUDGED * len(data))
                    taken += JUDGED * len(data)
                held.append(data)
                if size > most:
                    break
            whole = b"".join(held)
            held.clear()
            yield HeldBack(whole, size <= most)
        finally:
            if taken:
                self._memory.give_back(owner, taken)
            if placed:
                self._places.give_back(("", owner))

    async def leave(self, answer: object, size: int, owner: str) -> None:
        """Take a place for an answer that goes out, if it is a large one, or room if it is not tiny, until it has
        `left`. Raises NoRoom."""
        if size > self._small:
            await self._take(self._exits, owner)
            self._leaving[answer] = _Leaving(owner, 0)
        elif size > TINY:
            self._memory.take(owner, size)
            self._leaving[answer] = _Leaving(owner, size)

    def is_leaving(self, answer: object) -> bool:
        """Return whether an answer has a place to go out."""
        return answer in self._leaving

    def left(self, answer: object) -> None:
        """Give back the place of an answer that has gone out, or will not."""
        leaving = self._leaving.pop(answer, None)
        if leaving is None:
            return
        if leaving.size:
            self._memory.give_back(leaving.owner, leaving.size)
        else:
            self._exits.give_back(("", leaving.owner))

    async def _take(self, places: Shares, owner: str) -> None:
        asker = ("", owner)
        deadline = asyncio.get_running_loop().time() + self._within
        if not places.take(asker) and not await places.wait(asker, deadline):
            raise NoRoom("too many large answers are held at once")


class _Leaving(NamedTuple):
    """Place of an answer that goes out: a large one's is an exit, another's is room of its size."""

    owner: str
    size: int
