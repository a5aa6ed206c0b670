"""The app's answer at a door: as much as may be held, and a code for each kind of fault."""

from __future__ import annotations

from typing import cast

import pytest

from sidecar.doors.app_answer import UPSTREAM_CODES, settled_whole
from sidecar.doors.holding import TINY, Holding
from sidecar.gate.codes import Code, Ground
from sidecar.gate.obligation import AnswerLookup, Decide, HeldAnswer, Reduce, Reduced
from sidecar.gate.settle import Released
from sidecar.gate.verdict import Facts, Refuse, Refused
from sidecar.net.connection import Response
from sidecar.net.room import Room
from sidecar.record.reasons import FaultKind
from tests.permits import Permit


def room(most: int = 1000) -> Room:
    return Room(most, "SIDECAR_HELD_MEMORY")


class Pieces:
    """An answer that comes in pieces."""

    def __init__(self, *pieces: bytes, length: int | None = None) -> None:
        self.pieces = [*pieces]
        self.length = length

    async def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


class Shout:
    """A rule that needs the whole."""

    max_size = 100

    async def reduce(self, held: HeldAnswer, *_: object) -> Reduced:
        return Reduced(held._replace(body=(held.body or b"").upper()), {"seen": 1})


async def settled(answer: Pieces, most: int, holding: Holding | None = None) -> Released | Refuse:
    async def judge(_: object) -> list[frozenset[str]]:
        return []

    demand = Reduce(Shout(), judge, frozenset())
    permit = Permit(b"GET", b"/", (), Ground.ALLOWED, Facts("r", "GET", "/"), obligations=(demand,))
    return await settled_whole(holding or Holding(room()), permit, cast(Response, answer), HeldAnswer(200, []), most)


async def test_the_whole_is_settled() -> None:
    made = await settled(Pieces(b"ab", b"c"), 3)
    assert made == Released(200, [], b"ABC", counts={"seen": 1})


@pytest.mark.parametrize("answer", [Pieces(b"ab", b"cd"), Pieces(b"abcd"), Pieces(b"never read", length=4)])
async def test_more_than_may_be_held_is_refused_and_no_more_is_read(answer: Pieces) -> None:
    made = await settled(answer, 3)
    assert isinstance(made, Refuse)
    assert made.code is Code.ITEMS_TOO_MANY
    assert len(answer.pieces) == (answer.length is not None)


async def test_an_answer_for_which_there_is_no_room_is_refused() -> None:
    made = await settled(Pieces(b"abc"), 3, Holding(room(), small=1, large=0, within=0.01))
    assert isinstance(made, Refuse)
    assert made.code is Code.UPSTREAM_BUSY


async def test_small_answers_share_the_memory_and_give_it_back() -> None:
    memory = room(4 * TINY)
    made = await settled(Pieces(b"a" * TINY), 2 * TINY, Holding(memory))
    assert isinstance(made, Refuse)
    assert (made.code, made.detail[:19]) == (Code.UPSTREAM_BUSY, "SIDECAR_HELD_MEMORY")
    assert memory.used == 0
    assert isinstance(await settled(Pieces(b"a" * (TINY // 2)), 2 * TINY, Holding(memory)), Released)
    assert memory.used == 0


async def test_a_large_answer_has_a_place_to_go_out_until_it_has_left() -> None:
    holding, answer = Holding(room(), small=1, leaving=1, within=0.01), Pieces(b"abc")
    assert isinstance(await settled(answer, 3, holding), Released)
    assert holding.is_leaving(answer)
    busy = await settled(Pieces(b"abc"), 3, holding)
    assert isinstance(busy, Refuse)
    assert busy.code is Code.UPSTREAM_BUSY
    holding.left(answer)
    assert isinstance(await settled(Pieces(b"abc"), 3, holding), Released)


async def test_what_shadow_releases_of_one_that_is_too_large_has_room_until_it_has_left() -> None:
    class Never:
        max_size, missing, asks, names = TINY, "deny", (), frozenset[str]()

        def read(self, *_: object) -> dict[str, object]:
            raise Refused(Code.ITEMS_TOO_MANY)

    async def conclude(_: object) -> frozenset[str]:
        raise AssertionError("it is never read")

    memory, answer = room(100 * TINY), Pieces(b"a" * TINY, b"b" * TINY, b"c")
    holding = Holding(memory)
    decide = Decide(cast(AnswerLookup, Never()), "1", conclude, shadow=True)
    permit = Permit(b"GET", b"/", (), Ground.ALLOWED, Facts("r", "GET", "/"), obligations=(decide,))
    made = await settled_whole(holding, permit, cast(Response, answer), HeldAnswer(200, []), TINY)
    assert isinstance(made, Released)
    assert (len(made.before), memory.used) == (2 * TINY, 2 * TINY)
    holding.left(answer)
    assert memory.used == 0


def test_each_kind_of_fault_has_a_code() -> None:
    assert set(UPSTREAM_CODES) == set(FaultKind)
