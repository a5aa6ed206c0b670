"""Questions of one request side by side, and in order where one waits for another: none goes on when one has failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def together(asks: Sequence[Callable[[], Awaitable[T]]], most: int) -> list[T]:
    """Return the answers in the order of `asks`. Raises what the first one that fails raises."""
    if len(asks) == 1:
        # as most are: it needs no task of its own
        return [await asks[0]()]
    answers: dict[int, T] = {}
    left = iter(enumerate(asks))

    async def work() -> None:
        for at, ask in left:
            answers[at] = await ask()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(most, len(asks))):
                group.create_task(work())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [answers[at] for at in range(len(asks))]


async def in_order(needs: Sequence[Sequence[int]], ask: Callable[[int], Awaitable[None]]) -> None:
    """Ask each question by its number as soon as those that it needs, which stand before it, are answered. Raises what
    the first one that fails raises."""
    if len(needs) == 1:
        return await ask(0)
    answered = [asyncio.Event() for _ in needs]

    async def work(at: int) -> None:
        for need in needs[at]:
            await answered[need].wait()
        await ask(at)
        answered[at].set()

    try:
        async with asyncio.TaskGroup() as group:
            for at in range(len(needs)):
                group.create_task(work(at))
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
