"""Questions side by side: in order, at most so many at once, and none goes on when one has failed."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from sidecar.together import in_order, together


async def test_answers_come_in_order_and_never_more_than_so_many_are_asked_at_once() -> None:
    under_way, most = 0, 0

    async def ask(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(10 - number % 10):
            await asyncio.sleep(0)
        under_way -= 1
        return number

    assert await together([partial(ask, number) for number in range(40)], 7) == list(range(40))
    assert most == 7
    assert await together([], 7) == []


async def test_the_first_that_fails_ends_the_others() -> None:
    ended: list[int] = []

    async def ask(number: int) -> None:
        if number == 2:
            raise KeyError(number)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with pytest.raises(KeyError):
        await together([partial(ask, number) for number in range(6)], 4)
    assert sorted(ended) == [0, 1, 3]


async def test_who_leaves_takes_the_questions_along() -> None:
    ended = asyncio.Event()

    async def ask() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    asking = asyncio.create_task(together([ask, ask], 2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert ended.is_set()


async def test_each_begins_when_what_it_needs_is_answered_and_not_later() -> None:
    told: list[str] = []
    slow = asyncio.Event()

    async def ask(at: int) -> None:
        told.append(f"begin {at}")
        if at == 0:
            await slow.wait()
        told.append(f"end {at}")
        if at == 3:
            slow.set()

    # 3 needs 2, which needs 1: none of them waits for 0, and 4 does
    await in_order([[], [], [1], [2], [0, 3]], ask)
    assert told == [
        "begin 0", "begin 1", "end 1", "begin 2", "end 2", "begin 3", "end 3", "end 0", "begin 4", "end 4",
    ]  # fmt: skip


async def test_what_waits_for_one_that_fails_is_not_asked() -> None:
    asked: list[int] = []

    async def ask(at: int) -> None:
        asked.append(at)
        if at == 1:
            raise KeyError(at)
        await asyncio.Event().wait()

    with pytest.raises(KeyError):
        await in_order([[], [], [1]], ask)
    assert asked == [0, 1]
