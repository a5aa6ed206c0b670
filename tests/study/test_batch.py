"""Many requests of one principal: one question, each answer where it belongs, and no fault of one becomes another's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sidecar.gate.ask import asks
from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Result
from sidecar.gate.each import Each
from sidecar.gate.evaluation import Rules
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Principal, PrincipalRules, Tokens
from sidecar.gate.lookup import Attribute, Call, Lookup, Reply, ResourceField
from sidecar.gate.references import parse_reference, parse_template
from sidecar.gate.request import Raw, Reading
from sidecar.gate.routing import Access, Route, RouteTable, parse_path
from sidecar.gate.verdict import EachAsked, Forward, Refuse, Refused, Verdict
from sidecar.lookups.asking import MAX_RUNNING, Lookups
from sidecar.lookups.http import HttpSource
from sidecar.study.batch import AT_ONCE, MAX_ACTIONS, decide_all
from tests.fakes import OneByOne, Web, json_answer, until

ALICE = Principal("alice", ("user",), {}, "i", 2e9, {"sub": "a"})
ACTIONS = {"GET": "view", "PUT": "edit", "DELETE": "delete"}
TABLE = RouteTable([
    Route("/me", parse_path("/me"), Access.AUTHENTICATED, asks({"GET": ""})),
    Route("/docs/{id}", parse_path("/docs/{id}"), Access.POLICY, asks(ACTIONS, kind="doc", id=parse_template("{path.id}"))),
    Route("/docs", parse_path("/docs"), Access.POLICY, asks(ACTIONS, kind="doc", each=Each(parse_reference("query.id"), Attribute(lambda text: text), {}))),
])  # fmt: skip


async def no_key(issuer: str, kid: str) -> None:
    raise AssertionError("no token is verified")


class World(OneByOne):
    """Cerbos and the hooks. `spoil` changes an answer."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.fault: Exception | None = None
        self.spoil: Callable[[PdpAnswer], PdpAnswer] = lambda answer: answer

    async def ask(self, call: Call) -> Reply:
        raise AssertionError("no lookup")

    async def check(self, question: Question) -> PdpAnswer:
        self.questions.append(question)
        await asyncio.sleep(0)
        if self.fault is not None:
            raise self.fault
        results = tuple(
            Result(
                one.kind,
                one.id,
                {action: ALLOW if action == "view" else DENY for action in (one.action, *one.more_actions)},
            )
            for one in question.resources
        )
        return self.spoil(PdpAnswer(question.request_id, "call", results))

    async def decide(self, *requests: tuple[str, str]) -> list[Verdict]:
        rules = Rules(TABLE, {}, Tokens({}, PrincipalRules(), no_key), Reading())  # type: ignore[arg-type]
        raws = [
            Raw(method, path.encode(), [(b"host", b"a")], "", "http", f"r{n}")
            for n, (method, path) in enumerate(requests)
        ]
        return await decide_all(raws, ALICE, rules, self, self, now=lambda: 0.0, timer=lambda: 0.0, request_id="batch")


async def test_all_is_one_question_and_each_gets_its_part() -> None:
    world = World()
    verdicts = await world.decide(
        ("GET", "/docs/1"),
        ("GET", "/me"),
        ("PUT", "/docs/1"),
        ("GET", "/nowhere"),
        ("DELETE", "/docs/2"),
        ("GET", "/docs/1"),
    )
    assert [isinstance(verdict, Forward) for verdict in verdicts] == [True, True, False, False, False, True]
    (question,) = world.questions
    assert [(one.id, one.action, one.more_actions) for one in question.resources] == [
        ("1", "view", ("edit",)), ("2", "delete", ()),
    ]  # fmt: skip
    assert question.request_id == "batch"


async def test_requests_about_many_share_the_question_too() -> None:
    world = World()
    verdicts = await world.decide(
        ("DELETE", "/docs?id=1&id=2"), ("GET", "/docs?id=2&id=3&id=2"), ("GET", "/docs/1"), ("GET", "/docs?id=")
    )
    assert [isinstance(verdict, Forward) for verdict in verdicts] == [False, True, True, False]
    (question,) = world.questions
    assert [(one.id, one.action, one.more_actions) for one in question.resources] == [
        ("1", "delete", ("view",)), ("2", "delete", ("view",)), ("3", "view", ()),
    ]  # fmt: skip
    assert verdicts[0].facts.each == EachAsked(("1", "2"), ("1", "2"), (False, False))


async def test_what_needs_no_answer_asks_nothing() -> None:
    world = World()
    await world.decide(("GET", "/me"), ("GET", "/nowhere"))
    assert world.questions == []


@pytest.mark.parametrize("fault", [Refused(Code.PDP_TIMEOUT), KeyError("bug")])
async def test_a_fault_is_that_of_all_who_asked_and_of_nobody_else(fault: Exception) -> None:
    world = World()
    world.fault = fault
    one, two, three = await world.decide(("GET", "/docs/1"), ("GET", "/me"), ("PUT", "/docs/2"))
    assert isinstance(two, Forward)
    for verdict in (one, three):
        assert isinstance(verdict, Refuse)
        assert verdict.code in (Code.PDP_TIMEOUT, Code.INTERNAL_ERROR)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda answer: answer._replace(request_id="another"),
        lambda answer: answer._replace(results=answer.results[:-1]),
        lambda answer: answer._replace(results=answer.results[::-1]),
        lambda answer: answer._replace(results=tuple(result._replace(effects={}) for result in answer.results)),
        lambda answer: answer._replace(results=tuple(result._replace(kind="x") for result in answer.results)),
    ],
)
async def test_an_answer_to_something_else_allows_nothing(spoil: object) -> None:
    world = World()
    world.spoil = spoil  # type: ignore[assignment]
    for verdict in await world.decide(("GET", "/docs/1"), ("GET", "/docs/2")):
        assert isinstance(verdict, Refuse)
        assert verdict.code is Code.PDP_MISMATCH


async def test_more_actions_than_cerbos_takes_are_another_entry() -> None:
    from sidecar.gate.decision import Resource
    from sidecar.study.batch import _merged

    questions = [Question("r", ALICE, (Resource("doc", "1", f"a{n}", {}),)) for n in range(2 * MAX_ACTIONS + 1)]
    entries, places = _merged(questions)
    assert [1 + len(entry.more_actions) for entry in entries] == [MAX_ACTIONS, MAX_ACTIONS, 1]
    for question, (place,) in zip(questions, places, strict=True):
        assert question.resources[0].action in (entries[place].action, *entries[place].more_actions)


async def test_one_that_cannot_be_asked_about_leaves_the_others_their_answers() -> None:
    world = World()
    check = world.check

    async def picky(question: Question) -> PdpAnswer:
        if any(resource.id == "2" for resource in question.resources):
            raise Refused(Code.REFERENCE_INVALID, "a question of 5000000 bytes")
        return await check(question)

    world.check = picky  # type: ignore[method-assign]
    verdicts = await world.decide(("GET", "/docs/1"), ("GET", "/docs/2"), ("GET", "/docs/3"))
    assert [isinstance(verdict, Forward) for verdict in verdicts] == [True, False, True]
    assert isinstance(verdicts[1], Refuse)
    assert verdicts[1].code is Code.REFERENCE_INVALID


# --- lookups of many ids ---


def _id_of(request_line: str) -> str:
    return request_line.split()[1].removeprefix("/ids/")


class Ids:
    """A hook that holds its answers about ids of four digits until it is let go, and a route that asks it."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.web = Web(self.answer)
        self.hooks = Lookups({Hook: HttpSource()}, now=lambda: 0.0)

    async def answer(self, writer: asyncio.StreamWriter) -> None:
        if len(_id_of(self.web.asked[-1][0])) == 4:
            await self.go.wait()
        await json_answer({"owner": "alice"})(writer)

    def asked(self) -> list[str]:
        return [_id_of(line) for line, _ in self.web.asked]

    async def decide(self, principal: Principal, *ids: int) -> list[Verdict]:
        owner = {"owner": Attribute(lambda document: document["owner"])}
        lookup = Lookup("id", Hook(self.web.origin, ("/ids/", ResourceField.ID)), owner, timeout=60.0)
        asked = asks(ACTIONS, kind="id", id=parse_template("{path.id}"), lookup=("id",))
        route = Route("/ids/{id}", parse_path("/ids/{id}"), Access.POLICY, asked)
        rules = Rules(RouteTable([route]), {"id": lookup}, Tokens({}, PrincipalRules(), no_key), Reading())  # type: ignore[arg-type]
        raws = [Raw("GET", b"/ids/%d" % one, [(b"host", b"a")], "", "http", f"r{one}") for one in ids]
        return await decide_all(
            raws, principal, rules, self.hooks, World(), now=lambda: 0.0, timer=lambda: 0.0, request_id="batch"
        )


async def settled(count: Callable[[], int]) -> int:
    """The count when it stands."""
    last = -1
    while last != count():
        last = count()
        await asyncio.sleep(0.1)
    return last


async def test_one_call_starts_so_many_lookups_at_once() -> None:
    world = Ids()
    async with world.web:
        call = asyncio.ensure_future(world.decide(ALICE, *range(1000, 1500)))
        await until(lambda: len(world.web.asked) == AT_ONCE)
        assert await settled(lambda: len(world.web.asked)) == AT_ONCE
        world.go.set()
        assert all(isinstance(verdict, Forward) for verdict in await call)
        await world.hooks.aclose()
    assert sorted(world.asked()) == [str(one) for one in range(1000, 1500)]


@pytest.mark.slow
async def test_calls_of_500_ids_leave_another_principal_its_places() -> None:
    world = Ids()
    async with world.web:
        # half as many again as have places
        assert 6 * AT_ONCE == 3 * MAX_RUNNING // 4
        calls = [asyncio.ensure_future(world.decide(ALICE, *range(at, at + 500))) for at in range(1000, 4000, 500)]
        await until(lambda: len(world.web.asked) == MAX_RUNNING // 2)
        # all of hers are held, and wait
        assert await settled(lambda: len(world.web.asked)) == MAX_RUNNING // 2
        bob = ALICE._replace(id="bob")
        for one in range(1, 20):
            (verdict,) = await world.decide(bob, one)
            assert isinstance(verdict, Forward)
        assert len(world.web.asked) == MAX_RUNNING // 2 + 19
        world.go.set()
        verdicts = [verdict for verdicts in await asyncio.gather(*calls) for verdict in verdicts]
        assert len(verdicts) == 3000
        assert all(isinstance(verdict, Forward) for verdict in verdicts)
        await world.hooks.aclose()
