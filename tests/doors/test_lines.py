"""Lines go out when they are judged, some at a time, and none waits for long."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from sidecar.doors.holding import JUDGED, TINY
from sidecar.doors.lines import MOST, WINDOW, judged
from sidecar.gate.codes import Code
from sidecar.gate.obligation import ReduceLines
from sidecar.gate.verdict import Refused
from sidecar.net.room import Lent, NoRoom, Room
from sidecar.release.lines import LinesRule
from tests.release.test_items import RULE, Policy, rows


class App:
    """An answer that comes in pieces; None waits for more."""

    def __init__(self, *pieces: bytes | Exception | None) -> None:
        self.pieces = list(pieces)
        self.more = asyncio.Event()
        self.cancelled = False

    async def read(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        if piece is None:
            try:
                await self.more.wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
            return await self.read()
        return piece


def line(at: int) -> bytes:
    return json.dumps(rows(at + 1)[at]).encode() + b"\n"


def by(app: App, policy: Policy, room: Room | None = None) -> AsyncGenerator[bytes]:
    return judged(app.read, ReduceLines(LinesRule(RULE), policy), Lent(room or Room(1024**3, "x"), "alice"))


async def test_lines_are_judged_by_the_window() -> None:
    policy = Policy()
    sent = b"".join(map(line, range(120)))
    out = [data async for data in by(App(sent[:1000], sent[1000:7000], sent[7000:]), policy)]
    assert [len(asked.ids) for asked in policy.asked] == [WINDOW, WINDOW, 20]
    assert [json.loads(each)["id"] for each in b"".join(out).splitlines()] == [at for at in range(120) if at % 3]


async def test_a_line_does_not_wait_for_others_that_do_not_come() -> None:
    app, policy = App(line(2) + line(4)[:9], None, line(4)[9:]), Policy()
    async with aclosing(by(app, policy)) as lines:
        assert await asyncio.wait_for(anext(lines), 5) == line(2)
        app.more.set()
        assert await asyncio.wait_for(anext(lines), 5) == line(4)
        with pytest.raises(StopAsyncIteration):
            await anext(lines)


async def test_the_last_line_needs_no_end() -> None:
    assert [data async for data in by(App(line(2)[:-1]), Policy())] == [line(2)[:-1]]
    assert [data async for data in by(App(), Policy())] == []


async def test_a_client_that_leaves_ends_the_reading() -> None:
    app = App(line(2), None)
    async with aclosing(by(app, Policy())) as lines:
        await anext(lines)
    await asyncio.sleep(0)
    assert app.cancelled


async def test_a_fault_of_the_app_or_of_a_line_ends_it_after_what_was_judged() -> None:
    app = App(b"".join(map(line, range(50))), OSError("gone"))
    async with aclosing(by(app, Policy())) as lines:
        assert len((await anext(lines)).splitlines()) == 33
        with pytest.raises(OSError, match="gone"):
            await anext(lines)
    with pytest.raises(Refused) as refused:
        [data async for data in by(App(line(2), b"x\n"), Policy())]
    assert refused.value.code is Code.ITEMS_UNREADABLE


async def test_large_lines_do_not_wait_for_many_others_and_take_room_until_they_have_gone_out() -> None:
    large = json.dumps({**rows(3)[2], "more": "a" * (MOST // 2)}).encode() + b"\n"
    app, room = App(*[large[at : at + 4096] for _ in range(20) for at in range(0, len(large), 4096)]), Room(2**30, "x")
    out = []
    async with aclosing(by(app, Policy(), room)) as lines:
        async for data in lines:
            assert len(data) <= room.used <= len(data) + MOST
            out.append(data)
    assert b"".join(out) == 20 * large
    assert max(map(len, out)) <= MOST + len(large)


@pytest.mark.parametrize("pieces", [[line(2)[:-2] + b" " * 2 * TINY], [line(2)[:-2] + b" " * (2 * TINY - 1) + b"}\n"]])
async def test_lines_for_which_there_is_no_room_end_it(pieces: list[bytes]) -> None:
    room = Room(JUDGED * TINY, "SIDECAR_HELD_MEMORY")
    with pytest.raises(NoRoom, match="SIDECAR_HELD_MEMORY"):
        [data async for data in by(App(line(2), *pieces, line(4)), Policy(), room)]
