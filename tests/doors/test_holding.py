"""Answers that are held whole: each within its bound, and some large ones at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from sidecar.doors.holding import Holding, NoRoom


class Body:
    """A body in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


@pytest.mark.parametrize("announced", [None, 6])
async def test_a_body_is_held_whole(announced: int | None) -> None:
    async with Holding().hold(Body(b"abc", b"def").read, 6, announced) as body:
        assert body == (b"abcdef", True)


async def test_of_a_body_beyond_its_bound_nothing_is_held() -> None:
    body = Body(b"abc", b"def", b"ghi")
    async with Holding().hold(body.read, 5, None) as held:
        assert held == (b"abcdef", False)
    assert body.pieces == [b"ghi"]
    unread = Body(b"abc")
    async with Holding().hold(unread.read, 5, 6) as held:
        assert held == (b"", False)
    assert unread.pieces == [b"abc"]


async def test_small_ones_need_no_place_and_large_ones_wait_for_one() -> None:
    holding = Holding(small=3, large=2, within=0.01)
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(holding.hold(Body(b"abcd").read, 9, None))
        async with holding.hold(Body(b"abc").read, 9, None) as body:
            assert body.data == b"abc"
        with pytest.raises(NoRoom):
            await stack.enter_async_context(holding.hold(Body(b"abcd").read, 9, None))
    # those that ended gave their places back
    async with holding.hold(Body(b"ab", b"cd").read, 9, None) as body:
        assert body.data == b"abcd"


async def test_a_place_is_given_back_whatever_happens() -> None:
    holding = Holding(small=1, large=1, within=5.0)

    async def fails() -> bytes:
        raise OSError("gone")

    pieces = [b"abc"]

    async def read() -> bytes:
        return pieces.pop() if pieces else await fails()

    with pytest.raises(OSError, match="gone"):
        async with holding.hold(read, 9, None):
            pass
    with pytest.raises(RuntimeError, match="a bug"):
        async with holding.hold(Body(b"abc").read, 9, None):
            raise RuntimeError("a bug")
    waiting = asyncio.create_task(_held(holding))
    assert await asyncio.wait_for(waiting, 5) == b"abc"


async def _held(holding: Holding) -> bytes:
    async with holding.hold(Body(b"abc").read, 9, None) as body:
        return body.data


async def test_large_answers_that_go_out_have_places_until_they_have_left() -> None:
    holding = Holding(small=3, leaving=1, within=0.01)
    await holding.leave("small", 3)
    await holding.leave("large", 4)
    assert (holding.is_leaving("small"), holding.is_leaving("large")) == (False, True)
    with pytest.raises(NoRoom):
        await holding.leave("another", 4)
    for answer in ("small", "another", "large", "large"):
        holding.left(answer)
    # one place, however often it is given back
    await holding.leave("another", 4)
    with pytest.raises(NoRoom):
        await holding.leave("large", 4)
