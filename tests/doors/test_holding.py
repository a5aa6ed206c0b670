"""Answers that are held whole: each within its bound, and some large ones at once."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from sidecar.doors.holding import JUDGED, TINY, Holding
from sidecar.net.room import NoRoom, Room


def room(most: int = 1000) -> Room:
    return Room(most, "SIDECAR_HELD_MEMORY")


class Body:
    """A body in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


@pytest.mark.parametrize("announced", [None, 6])
async def test_a_body_is_held_whole(announced: int | None) -> None:
    async with Holding(room()).hold(Body(b"abc", b"def").read, 6, announced, "alice") as body:
        assert body == (b"abcdef", True)


async def test_of_a_body_beyond_its_bound_nothing_is_held() -> None:
    body = Body(b"abc", b"def", b"ghi")
    async with Holding(room()).hold(body.read, 5, None, "alice") as held:
        assert held == (b"abcdef", False)
    assert body.pieces == [b"ghi"]
    unread = Body(b"abc")
    async with Holding(room()).hold(unread.read, 5, 6, "alice") as held:
        assert held == (b"", False)
    assert unread.pieces == [b"abc"]


async def test_small_ones_need_no_place_and_large_ones_wait_for_one() -> None:
    holding = Holding(room(), small=3, large=2, within=0.01)
    async with AsyncExitStack() as stack:
        for name in ("alice", "bob"):
            await stack.enter_async_context(holding.hold(Body(b"abcd").read, 9, None, name))
        async with holding.hold(Body(b"abc").read, 9, None, "alice") as body:
            assert body.data == b"abc"
        with pytest.raises(NoRoom):
            await stack.enter_async_context(holding.hold(Body(b"abcd").read, 9, None, "alice"))
    # those that ended gave their places back
    async with holding.hold(Body(b"ab", b"cd").read, 9, None, "alice") as body:
        assert body.data == b"abcd"


async def test_a_place_is_given_back_whatever_happens() -> None:
    holding = Holding(room(), small=1, large=1, within=5.0)

    async def fails() -> bytes:
        raise OSError("gone")

    pieces = [b"abc"]

    async def read() -> bytes:
        return pieces.pop() if pieces else await fails()

    with pytest.raises(OSError, match="gone"):
        async with holding.hold(read, 9, None, "alice"):
            pass
    with pytest.raises(RuntimeError, match="a bug"):
        async with holding.hold(Body(b"abc").read, 9, None, "alice"):
            raise RuntimeError("a bug")
    waiting = asyncio.create_task(_held(holding))
    assert await asyncio.wait_for(waiting, 5) == b"abc"


async def _held(holding: Holding) -> bytes:
    async with holding.hold(Body(b"abc").read, 9, None, "alice") as body:
        return body.data


async def test_large_answers_that_go_out_have_places_until_they_have_left() -> None:
    holding = Holding(room(), small=3, leaving=1, within=0.01)
    await holding.leave("small", 3, "alice")
    await holding.leave("large", 4, "alice")
    assert (holding.is_leaving("small"), holding.is_leaving("large")) == (False, True)
    with pytest.raises(NoRoom):
        await holding.leave("another", 4, "alice")
    for answer in ("small", "another", "large", "large"):
        holding.left(answer)
    # one place, however often it is given back
    await holding.leave("another", 4, "alice")
    with pytest.raises(NoRoom):
        await holding.leave("large", 4, "alice")


async def test_one_owner_has_half_of_the_places() -> None:
    holding = Holding(room(), small=1, large=2, leaving=2, within=0.01)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(holding.hold(Body(b"ab").read, 9, None, "alice"))
        with pytest.raises(NoRoom, match="too many large answers"):
            await stack.enter_async_context(holding.hold(Body(b"ab").read, 9, None, "alice"))
        await stack.enter_async_context(holding.hold(Body(b"ab").read, 9, None, "bob"))
    await holding.leave("first", 2, "alice")
    with pytest.raises(NoRoom):
        await holding.leave("second", 2, "alice")
    await holding.leave("other", 2, "bob")


async def test_a_small_one_takes_room_while_it_is_judged_and_until_it_has_left() -> None:
    memory = room(10 * TINY)
    holding = Holding(memory)
    with pytest.raises(NoRoom, match="SIDECAR_HELD_MEMORY"):
        async with holding.hold(Body(b"a" * TINY, b"b" * TINY).read, 9 * TINY, None, "alice"):
            raise AssertionError("there is no room")
    assert memory.used == 0
    async with holding.hold(Body(b"a" * TINY).read, 9 * TINY, None, "alice") as body:
        assert (len(body.data), memory.used) == (TINY, JUDGED * TINY)
    await holding.leave("tiny", TINY, "alice")
    await holding.leave("small", TINY + 1, "alice")
    assert (holding.is_leaving("tiny"), holding.is_leaving("small"), memory.used) == (False, True, TINY + 1)
    for answer in ("tiny", "small", "small"):
        holding.left(answer)
    assert memory.used == 0
