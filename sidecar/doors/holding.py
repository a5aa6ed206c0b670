"""Answers of the app that are held whole until they are settled: how large each is, and how many large ones at once.

A list of 10 MiB takes up to 40 MiB while it is judged. Small ones share the room of all that is held in memory; of
large ones there are some at a time, and the app of each other waits. Each owner has half of that at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
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
        self.memory = memory
        self.small = small
        self._within = within
        self._places = Shares(large, QUEUE)
        self._exits = Shares(leaving, QUEUE)
        self._leaving: dict[object, _Leaving] = {}

    def hold(self, read: Read, most: int, announced: int | None, owner: str) -> Hold:
        """Hold a body of at most so many bytes, or the beginning of one that has more; `announced` is its length if
        that is known. It keeps its place until this ends. Raises NoRoom, and what `read` raises."""
        return Hold(self, read, most, announced, owner)

    async def take(self, owner: str) -> None:
        """Take a place among the large ones that are held. Raises NoRoom."""
        await self._take(self._places, owner)

    def give_back(self, owner: str, taken: int, *, placed: bool) -> None:
        """Give back what a body took: so many bytes, and a place among the large ones."""
        if taken:
            self.memory.give_back(owner, taken)
        if placed:
            self._places.give_back(("", owner))

    async def leave(self, answer: object, size: int, owner: str) -> None:
        """Take a place for an answer that goes out, if it is a large one, or room if it is not tiny, until it has
        `left`. Raises NoRoom."""
        if size > self.small:
            await self._take(self._exits, owner)
            self._leaving[answer] = _Leaving(owner, 0)
        elif size > TINY:
            self.memory.take(owner, size)
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
            self.memory.give_back(leaving.owner, leaving.size)
        else:
            self._exits.give_back(("", leaving.owner))

    async def _take(self, places: Shares, owner: str) -> None:
        asker = ("", owner)
        deadline = asyncio.get_running_loop().time() + self._within
        if not places.take(asker) and not await places.wait(asker, deadline):
            raise NoRoom("too many large answers are held at once")


class Hold:
    """A body while it is held: `async with` reads it, and gives back at its end what it took. A generator would cost as
    much as all the rest of it."""

    __slots__ = ("_announced", "_holding", "_most", "_owner", "_placed", "_read", "_taken")

    def __init__(self, holding: Holding, read: Read, most: int, announced: int | None, owner: str) -> None:
        self._holding, self._read, self._most, self._announced, self._owner = holding, read, most, announced, owner
        self._taken, self._placed = 0, False

    async def __aenter__(self) -> HeldBack:
        most, holding = self._most, self._holding
        if self._announced is not None and self._announced > most:
            return HeldBack(b"", False)
        held, size = list[bytes](), 0
        try:
            while data := await self._read():
                size += len(data)
                if self._placed:
                    pass
                elif holding.small < size <= most:
                    await holding.take(self._owner)
                    self._placed = True
                else:
                    holding.memory.take(self._owner, JUDGED * len(data))
                    self._taken += JUDGED * len(data)
                held.append(data)
                if size > most:
                    break
        except BaseException:
            await self.__aexit__()
            raise
        return HeldBack(b"".join(held), size <= most)

    async def __aexit__(self, *error: object) -> None:
        self._holding.give_back(self._owner, self._taken, placed=self._placed)


class _Leaving(NamedTuple):
    """Place of an answer that goes out: a large one's is an exit, another's is room of its size."""

    owner: str
    size: int
