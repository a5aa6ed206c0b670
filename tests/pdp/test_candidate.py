"""Candidate policies are asked beside the requests: nobody waits, and what differs is told and counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from sidecar.gate.codes import Code, Ground
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Resource, Result
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import EachAsked, Facts, Preflight, Refuse, Refused, Verdict
from sidecar.pdp import candidate as module
from sidecar.pdp.candidate import MAX_WAITING, TOLD_A_SECOND, Candidate, DecisionDifference, decided
from sidecar.pdp.policy_reload import PolicyState
from sidecar.record.metrics import CANDIDATE_RESULTS
from tests.fakes import until
from tests.permits import Permit

ALICE = Principal("alice", ("user",), {}, "https://i", 9.0, {})
OURS, THEIRS = "0" * 16, "1" * 16


def facts(*ids: str, answered: bool = True, each: EachAsked | None = None) -> Facts:
    resources = tuple(Resource("doc", one, "view", {}, ("edit",)) for one in ids or ("1",))
    asked = Question("r1", ALICE, resources, ((b"traceparent", b"x"),), alone=True)
    return Facts(
        "r1", "GET", "/docs/1", route="/docs/{id}", call_id="c" if answered else "", policy="p", asked=asked, each=each
    )


def allowed(known: Facts | None = None, would_refuse: Code | None = None) -> Verdict:
    return Permit(b"GET", b"/", (), Ground.ALLOWED, known or facts(), would_refuse=would_refuse)


def denied(known: Facts | None = None) -> Verdict:
    return Refuse(Code.DENIED_BY_POLICY, known or facts())


class World:
    """The port, what it was asked, and what it says. It `holds` its answers until it is told."""

    def __init__(self) -> None:
        self.asked: list[Question] = []
        self.effects: dict[str, str] = {}
        self.fault: Exception | None = None
        self.holds = asyncio.Event()
        self.holds.set()
        self.counts = dict.fromkeys(CANDIDATE_RESULTS, 0)
        self.told: list[DecisionDifference] = []
        self.state = PolicyState(1, "", 0.0, THEIRS)
        self.candidate = Candidate(self, self.state, lambda: OURS, self.count, self.told.append)

    def count(self, result: str, number: int) -> None:
        self.counts[result] += number

    async def check(self, question: Question) -> PdpAnswer:
        self.asked.append(question)
        await self.holds.wait()
        if self.fault is not None:
            raise self.fault
        results = [
            Result("doc", one.id, dict.fromkeys((one.action, *one.more_actions), self.effects.get(one.id, ALLOW)), policies={"view": "q"})
            for one in question.resources
        ]  # fmt: skip
        return PdpAnswer(question.request_id, "call", tuple(results))

    def counted(self) -> dict[str, int]:
        return {result: number for result, number in self.counts.items() if number}


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "EVERY", 0.0)
    made = World()
    running = asyncio.get_running_loop().create_task(made.candidate.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_what_differs_is_told_with_both_policies_and_their_revisions(world: World) -> None:
    world.effects = {"1": DENY}
    world.candidate.put(allowed())
    world.candidate.put(denied())
    await until(lambda: sum(world.counts.values()) == 2)
    assert world.counted() == {"same": 1, "allow_to_deny": 1}
    (found,) = world.told
    assert (found.facts.request_id, found.resource.id, found.ours) == ("r1", "1", True)
    assert (found.policy, found.revision, found.candidate_policy, found.candidate_revision) == ("p", OURS, "q", THEIRS)
    world.effects = {}
    world.candidate.put(denied())
    await until(lambda: world.counts["deny_to_allow"])
    assert not world.told[-1].ours
    # nothing of it is a part of the request's trace
    assert {(question.trace, question.alone) for question in world.asked} == {((), False)}


async def test_each_resource_of_many_is_compared(world: World) -> None:
    world.effects = {"1": DENY, "2": DENY}
    each = EachAsked(("1", "2", "3"), ("2", "3"), (True, False, False))
    world.candidate.put(denied(facts("1", "2", "3", each=each)))
    await until(lambda: sum(world.counts.values()) == 3)
    assert world.counted() == {"same": 1, "allow_to_deny": 1, "deny_to_allow": 1}
    assert [(found.resource.id, found.ours, found.policy) for found in world.told] == [
        ("1", True, ""),
        ("3", False, ""),
    ]


async def test_a_bug_of_ours_ends_no_comparison_but_its_own(world: World) -> None:
    world.fault = ZeroDivisionError()
    world.candidate.put(denied())
    await until(lambda: world.counts["failed"])
    assert world.candidate.fault.startswith("ZeroDivisionError")
    world.fault = None
    world.candidate.put(allowed())
    await until(lambda: world.counts["same"])
    assert world.candidate.fault == ""


@pytest.mark.parametrize(
    ("verdict", "ours"),
    [
        (allowed(), (True,)), (denied(), (False,)), (allowed(would_refuse=Code.DENIED_BY_POLICY), (False,)),
        (allowed(would_refuse=Code.PDP_TIMEOUT), ()), (Refuse(Code.PDP_TIMEOUT, facts(answered=False)), ()),
        (Refuse(Code.QUERY_NOT_ALLOWED, facts()), ()), (Permit(b"GET", b"/", (), Ground.PUBLIC, facts(answered=False)), ()),
        (Preflight((), facts()), ()), (Refuse(Code.PDP_TIMEOUT, facts(each=EachAsked(("1",)))), ()),
    ],
)  # fmt: skip
def test_only_what_the_policies_decided_is_compared(verdict: Verdict, ours: tuple[bool, ...]) -> None:
    assert decided(verdict) == ours


def test_in_shadow_a_refusal_from_the_apps_answer_counts() -> None:
    known = facts()
    known.would_refuse = Code.DENIED_BY_POLICY
    assert decided(allowed(known)) == (False,)


async def test_a_candidate_that_does_not_answer_holds_nobody_up_and_questions_are_dropped(world: World) -> None:
    world.holds.clear()
    for _ in range(2 * MAX_WAITING):
        # no await: a request only puts its question into a queue
        world.candidate.put(allowed())
    assert world.asked == []
    assert world.counted() == {"dropped": MAX_WAITING}
    await until(lambda: world.asked)
    assert len(world.asked) == module.TOGETHER
    world.holds.set()
    await until(lambda: world.counts["same"] == MAX_WAITING)


async def test_one_that_is_not_there_is_counted_and_told_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sidecar.candidate"):
        for fault in (Code.PDP_UNAVAILABLE, Code.PDP_TIMEOUT, Code.PDP_OPEN):
            world.fault = Refused(fault, "gone")
            world.candidate.put(allowed())
            await until(partial(_begins, world.candidate, fault))
    assert world.counted() == {"failed": 3}
    assert [record.getMessage() for record in caplog.records] == [
        "the candidate policies give no answer (pdp_unavailable: gone): requests go on, and are not compared"
    ]
    # of one question alone it says nothing
    world.fault = None
    world.candidate.put(allowed())
    await until(lambda: not world.candidate.fault)
    world.fault = Refused(Code.PDP_MISMATCH)
    world.candidate.put(allowed())
    await until(lambda: world.counts["failed"] == 4)
    assert world.candidate.fault == ""


async def test_before_it_has_started_nobody_is_asked(world: World) -> None:
    world.state.generation = 0
    world.candidate.put(allowed())
    await until(lambda: world.counts["failed"])
    assert (world.asked, world.candidate.fault) == ([], "not started")


async def test_so_many_differences_are_told_in_a_second_and_the_next_says_how_many_were_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    world.effects = {"1": DENY}
    many = TOLD_A_SECOND + 7
    for _ in range(many):
        world.candidate.put(allowed())
    await _turns(lambda: world.counts["allow_to_deny"] == many)
    assert len(world.told) == TOLD_A_SECOND
    now = 101.0
    world.candidate.put(allowed())
    await _turns(lambda: len(world.told) > TOLD_A_SECOND)
    assert [found.untold for found in world.told] == [0] * TOLD_A_SECOND + [7]


def _begins(candidate: Candidate, code: Code) -> bool:
    return candidate.fault.startswith(code)


async def _turns(condition: Callable[[], object]) -> None:
    """Let the loop turn, whose time stands still."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("not within so many turns")
