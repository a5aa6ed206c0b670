"""`pdp/cerbos_call.py`: each answer at its question, whatever the PDP does; what is odd anywhere is a fault for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvloop
from cerbos.effect.v1 import effect_pb2
from cerbos.request.v1 import request_pb2
from cerbos.response.v1 import response_pb2
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.decision import Question, Resource, judge
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.net.grpc_client_connection import GrpcMethod
from sidecar.pdp.cerbos_call import CheckCall, PendingQuestion
from sidecar.pdp.cerbos_messages import BATCH, MAX_NAMED, entries_of, principal_of
from sidecar.wire.grpc import CallFailed, Status
from tests.faults.fakes import allowing
from tests.pdp.hostile_pdp import BAD, BEHAVIORS, Pdp, Wanted, interleaved, told_of_all
from tests.tries import tries

ALICE = Principal("alice", ("user",), {}, "iss", 0.0, {})
METHOD = GrpcMethod("/a.B/C", "a", 1.0)


def asked(number: int, deadline: float = 1.0, *, alone: bool = False, **changes: Any) -> PendingQuestion:
    resource = Resource("doc", str(number), "read", {"n": number})._replace(**changes)
    question = Question(f"r-{number}", ALICE, (resource,), alone=alone)
    return PendingQuestion(
        question, entries_of(question.resources), asyncio.get_running_loop().create_future(), deadline
    )


class World:
    """One call, and what it told."""

    def __init__(self, *questions: PendingQuestion, most: int = BATCH) -> None:
        self.ended = 0
        self.goes_on = False
        self.call = CheckCall(
            METHOD, ("iss", principal_of(ALICE)), questions[0], most=most, waited=False,
            failed=lambda *_: self.goes_on, ended=self._end,
        )  # fmt: skip
        self.questions = questions
        assert all([self.call.takes(each) for each in questions[1:]])

    def _end(self, _: CheckCall) -> None:
        self.ended += 1

    def request(self) -> request_pb2.CheckResourcesRequest:
        return request_pb2.CheckResourcesRequest.FromString(self.call.message())

    def answer(self, change: Callable[[response_pb2.CheckResourcesResponse], Any] = lambda _: None) -> None:
        message = allowing(self.request())
        change(message)
        self.call.succeed(message.SerializeToString())

    def codes(self) -> list[str]:
        """What each question was told: "allow", "deny", or the code of its refusal."""
        return [self._code(each) for each in self.questions]

    def _code(self, each: PendingQuestion) -> str:
        try:
            (allowed,) = judge(each.question, each.answer.result())
        except Refused as refused:
            return refused.code
        return "allow" if allowed else "deny"


def deny(message: response_pb2.CheckResourcesResponse, place: int) -> None:
    message.results[place].actions["read"] = effect_pb2.EFFECT_DENY


# --- who goes in it ---


async def test_each_question_keeps_its_request_id_and_gets_the_answer_of_its_place() -> None:
    world = World(asked(1), asked(2), asked(3))
    request = world.request()
    assert (request.request_id, [each.resource.id for each in request.resources]) == ("r-1", ["1", "2", "3"])
    world.answer(lambda message: deny(message, 1))
    assert world.codes() == ["allow", "deny", "allow"]
    answers = [each.answer.result() for each in world.questions]
    assert [each.request_id for each in answers] == ["r-1", "r-2", "r-3"]
    assert len({each.call_id for each in answers}) == world.ended == 1


async def test_equal_questions_share_a_place_and_others_of_the_same_kind_and_id_do_not() -> None:
    world = World(asked(1), asked(1), asked(1, attributes={"n": 2}), asked(1, action="edit"), asked(1, scope="s"))
    assert len(world.request().resources) == 4
    world.answer(lambda message: deny(message, 1))
    assert world.codes() == ["allow", "allow", "deny", "allow", "allow"]


async def test_a_call_takes_so_many_resources_and_so_many_bytes_and_none_after_it_has_gone_out() -> None:
    call = World(*(asked(number) for number in range(BATCH))).call
    assert (call.resources, call.takes(asked(BATCH))) == (BATCH, False)
    big = World(asked(1)).call
    assert not big.takes(asked(2, id="x" * MAX_NAMED))
    gone = World(asked(1)).call
    gone.message()
    assert not gone.takes(asked(2))


async def test_one_that_wants_a_call_of_its_own_gets_it() -> None:
    assert not World(asked(1)).call.takes(asked(2, alone=True))
    assert not World(asked(1, alone=True)).call.takes(asked(2))
    assert not World(asked(1), most=1).call.takes(asked(2))


# --- what is odd ---

ODD: dict[str, Callable[[response_pb2.CheckResourcesResponse], Any]] = {
    "another request": lambda m: setattr(m, "request_id", "r-2"),
    "one less": lambda m: m.results.pop(),
    "one more": lambda m: m.results.append(m.results[0]),
    "two swapped": lambda m: m.results.extend([m.results.pop(0)]),
    "another kind": lambda m: setattr(m.results[1].resource, "kind", "x"),
    "another id": lambda m: setattr(m.results[2].resource, "id", "1"),
    "no action": lambda m: m.results[1].actions.clear(),
    "another action": lambda m: m.results[1].actions.update({"edit": effect_pb2.EFFECT_ALLOW}),
    "an unknown effect": lambda m: m.results[1].actions.update({"read": cast("effect_pb2.Effect", 77)}),
    "no match": lambda m: m.results[1].actions.update({"read": effect_pb2.EFFECT_NO_MATCH}),
}


@pytest.mark.parametrize("odd", ODD)
async def test_what_is_odd_at_one_place_is_a_fault_for_all(odd: str) -> None:
    world = World(asked(1), asked(2), asked(3))
    world.answer(ODD[odd])
    assert world.codes() == [Code.PDP_MISMATCH] * 3
    assert (world.call.fault, world.ended) == (Code.PDP_MISMATCH, 1)


async def test_attributes_that_do_not_fit_a_schema_are_their_own_questions_fault() -> None:
    world = World(asked(1), asked(2))
    world.answer(lambda message: message.results[1].validation_errors.add(path="/n"))
    assert world.codes() == ["allow", Code.PDP_MISMATCH]


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff\xff", b"\x0a", b"\x0a\x03r-1\x12\x01"])
async def test_bytes_that_are_no_answer_are_a_fault_for_all(data: bytes) -> None:
    world = World(asked(1), asked(2))
    world.call.message()
    world.call.succeed(data)
    assert set(world.codes()) <= {Code.PDP_MISMATCH, Code.PDP_BAD_ANSWER}
    assert world.ended == 1


# --- how it ends ---


async def test_a_failure_is_told_to_each_with_an_exception_of_its_own_unless_it_goes_on() -> None:
    world = World(asked(1), asked(2))
    world.goes_on = True
    world.call.fail(CallFailed(Status.UNAVAILABLE, "away"))
    assert (world.ended, world.call.over) == (0, False)
    world.goes_on = False
    world.call.fail(CallFailed(Status.UNAVAILABLE, "away"))
    assert world.codes() == [Code.PDP_UNAVAILABLE] * 2
    assert world.questions[0].answer.exception() is not world.questions[1].answer.exception()
    world.call.fail(CallFailed(Status.INTERNAL))
    world.answer()
    assert world.ended == 1


async def test_each_question_has_its_own_deadline() -> None:
    world = World(asked(1, 5.0), asked(2, 3.0), asked(3, 9.0))
    assert world.call.deadline == 3.0
    assert world.call.goes_on(3.0)
    assert [each.answer.done() for each in world.questions] == [False, True, False]
    assert world.call.deadline == 5.0
    assert world.call.goes_on(5.0)
    world.answer()
    assert world.codes() == [Code.PDP_TIMEOUT, Code.PDP_TIMEOUT, "allow"]
    late = World(asked(1, 5.0), asked(2, 5.0))
    assert not late.call.goes_on(6.0)
    late.call.fail(CallFailed(Status.DEADLINE_EXCEEDED))
    assert (late.codes(), late.call.fault, late.ended) == ([Code.PDP_TIMEOUT] * 2, Code.PDP_TIMEOUT, 1)


async def test_one_that_leaves_takes_nothing_from_the_others_and_the_last_one_ends_the_call() -> None:
    world = World(asked(1), asked(2), asked(3))
    world.questions[0].leave()
    assert (world.ended, world.call.over) == (0, False)
    world.answer()
    assert [world._code(each) for each in world.questions[1:]] == ["allow", "allow"]
    left = World(asked(1), asked(2))
    for each in left.questions:
        each.leave()
        each.leave()
    assert (left.ended, left.call.over, left.call.answered, left.call.fault) == (1, True, False, None)


# --- a hostile PDP ---


@pytest.mark.slow
def test_thousands_of_interleaved_questions_of_50_principals_get_their_own_answer_or_a_fault() -> None:
    """About 8,000 questions; `make fuzz` asks a million."""
    told, pdp = interleaved(10)
    assert told["own"] > 1_000
    assert set(told) <= {
        "own", "left", Code.PDP_UNAVAILABLE, Code.PDP_MISMATCH, Code.PDP_BUSY, Code.PDP_BAD_ANSWER, Code.PDP_STATUS,
    }  # fmt: skip
    assert sum(count for size, count in pdp.sizes.items() if size > 1) > 100
    assert pdp.told.keys() == set(BEHAVIORS) - {"never"}


WANTED = st.builds(
    Wanted, st.integers(0, 2), st.sampled_from(["a", "b", "a", "b", "a", BAD]), st.sampled_from(["1", "2"]),
    st.integers(0, 5), st.sampled_from([None] * 5 + [0.0, 0.001, 0.004]),
)  # fmt: skip


@tries(40)
@given(
    st.lists(st.lists(st.lists(WANTED, max_size=12), max_size=3), max_size=4),
    st.lists(st.sampled_from(BEHAVIORS) | st.just("answer"), max_size=12),
    st.integers(1, 6),
    st.integers(1, 4),
)
def test_whatever_is_asked_and_done_each_is_told_its_own_and_nothing_is_left(
    askers: list[list[list[Wanted]]], behaviors: list[str], places: int, streams: int
) -> None:
    """Numbers repeat here, so that equal questions share a place. `told_of_all` holds each answer against its question."""
    asking = told_of_all(askers, Pdp(behaviors), places=places, streams=streams, timeout=0.15)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        told = runner.run(asking)
    assert sum(told.values()) == sum(len(burst) for bursts in askers for burst in bursts)
