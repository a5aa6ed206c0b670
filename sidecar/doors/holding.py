"""Answers of the app that are held whole until they are settled: how large each is, and how many large ones at once.

A list of 10 MiB takes up to 40 MiB while it is judged. Small ones are bounded by the connections; of large ones there
are some at a time, and the app of each other waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

SMALL = 1024 * 1024
"""Bytes that every answer may have."""
LARGE_AT_ONCE = 4
"""Larger ones that are held at once."""
LEAVING_AT_ONCE = 16
"""Larger ones that go out at once, as fast as their clients take them."""
WITHIN = 10.0
"""Seconds that an answer waits for its place among the large ones."""

Read = Callable[[], Awaitable[bytes]]
"""Reads the next bytes of an answer, b"" at its end."""


class NoRoom(Exception):
    """Too many large answers are held."""


class HeldBack(NamedTuple):
    """Bytes of an answer that did not go out yet: all of them, or as many as were read before they were too many."""

    data: bytes
    whole: bool


class Holding:
    """The places of one process. `small` in bytes, `within` in seconds."""

    def __init__(
        self, *, small: int = SMALL, large: int = LARGE_AT_ONCE, leaving: int = LEAVING_AT_ONCE, within: float = WITHIN
    ) -> None:
        self._small = small
        self._within = within
        self._places = asyncio.Semaphore(large)
        self._exits = asyncio.Semaphore(leaving)
        self._leaving: set[object] = set()

    @asynccontextmanager
    async def hold(self, read: Read, most: int, announced: int | None) -> AsyncGenerator[HeldBack]:
        """Hold a body of at most so many bytes, or the beginning of one that has more; `announced` is its length if
        that is known. It keeps its place until this ends. Raises NoRoom, and what `read` raises."""
        if announced is not None and announced > most:
            yield HeldBack(b"", False)
            return
        held, size, placed = list[bytes](), 0, False
        try:
            while data := await read():
                size += len(data)
                if self._small < size <= most and not placed:
                    await self._take(self._places)
                    placed = True
                held.append(data)
                if size > most:
                    break
            whole = b"".join(held)
            held.clear()
            yield HeldBack(whole, size <= most)
        finally:
            if placed:
                self._places.release()

    async def leave(self, answer: object, size: int) -> None:
        """Take a place for an answer that goes out, if it is a large one, until it has `left`. Raises NoRoom."""
        if size > self._small:
            await self._take(self._exits)
            self._leaving.add(answer)

    def is_leaving(self, answer: object) -> bool:
        """Return whether an answer has a place to go out."""
        return answer in self._leaving

    def left(self, answer: object) -> None:
        """Give back the place of an answer that has gone out, or will not."""
        if answer in self._leaving:
            self._leaving.remove(answer)
            self._exits.release()

    async def _take(self, places: asyncio.Semaphore) -> None:
        try:
            async with asyncio.timeout(self._within):
                await places.acquire()
        except TimeoutError:
            raise NoRoom from None
