"""The gate's questions: of requests whose body says what they ask for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sidecar.config.routes.file import read_routes
from sidecar.gate.ask import Ask, Operation
from sidecar.gate.body import Show, Viewer
from sidecar.gate.codes import Code, Ground
from sidecar.gate.decision import Question
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.obligation import AnswerItems, Reduce, Watch
from sidecar.gate.references import parse_template
from sidecar.gate.request import Raw, Reading, Request
from sidecar.gate.routing import RouteTable
from sidecar.gate.verdict import Forward, Refuse, Refused, Verdict
from sidecar.wire import strict_json
from tests.gate.test_each import NOW, TOKEN, World
from tests.gate.test_obligation import Whole
from tests.tokens import CLIENT, ISSUER

ROUTES = """
version: 1
lookups:
  shown: {url: "http://h/{id}", attributes: {owner: o}}
  hidden: {url: "http://h/{id}", attributes: {owner: o}, missing: hide}
routes:
  - {path: /graphql, resource: "-", actions: {GET: ask, POST: ask}}
"""


class Told:
    """A reply that nobody writes."""

    content_type = b""

    def status(self, status: int) -> int:
        """See Reply."""
        return 200

    def body(self, code: Code, status: int, request_id: str, more: Mapping[str, object]) -> bytes:
        """See Reply."""
        return b"{}"


class Listed:
    """A body that is a list of `[kind, id, lookup]`, each of which is an operation. One that is no list is refused."""

    reply = Told()

    def rows(self, body: bytes) -> list[Any]:
        found = strict_json.loads(body or b"[]")
        if not isinstance(found, list):
            raise Refused(Code.BODY_INVALID, "no list", reply=self.reply)
        return found

    asks: Mapping[str, Ask] = {}

    def read(self, request: Request, body: bytes) -> Sequence[Operation]:
        return [
            Operation(
                Ask(
                    "read",
                    kind,
                    parse_template("{args.id}"),
                    {"size": parse_template("{args.size:int?}")},
                    (lookup,) if lookup else (),
                ),
                {"id": id_, "size": 7},
                f"{kind}.{id_}",
                self.reply,
            )
            for kind, id_, lookup in self.rows(body)
        ]


async def send(
    world: World, body: str, *, method: str = "POST", door: bool = True, mode: Any = "enforce",
    answer: Whole | None = None,
) -> Verdict:  # fmt: skip
    read = read_routes(ROUTES, "routes.yaml", {})
    (route,) = read.table.routes
    asks = {name: replace(ask, operations=Listed(), answer=answer) for name, ask in route.asks.items()}
    tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), world.find)
    rules = Rules(RouteTable([route._replace(asks=asks)]), read.lookups, tokens, Reading(), world.cache)
    gate = Gate(rules, world, world, now=lambda: NOW, timer=lambda: 0.0, mode=mode)
    data = body.encode()
    headers = [(b"host", b"a"), (b"authorization", b"Bearer " + TOKEN), (b"content-length", str(len(data)).encode())]

    async def whole(limit: int, show: Show, viewer: Viewer) -> None:
        show(data)

    raw = Raw(method, b"/graphql", headers if data else headers[:2], "", "http", "r1", False, None, True)
    return await gate.decide(raw, whole if door else None)


def asked(question: Question) -> list[tuple[str, str, str, dict[str, Any]]]:
    return [(one.kind, one.id, one.action, dict(one.attributes)) for one in question.resources]


async def test_one_operation_is_asked_about_as_a_route_would_be() -> None:
    world = World()
    verdict = await send(world, '[["doc", "1", "shown"]]')
    assert isinstance(verdict, Forward)
    assert asked(world.questions[0]) == [("doc", "1", "read", {"size": 7, "owner": "a-1"})]
    assert (verdict.facts.kind, verdict.facts.resource_id, verdict.facts.action) == ("doc", "1", "read")
    assert verdict.facts.each is None


async def test_several_operations_are_one_question_and_all_must_be_allowed() -> None:
    world = World()
    verdict = await send(world, '[["doc", "1", "shown"], ["note", "2", ""]]')
    assert isinstance(verdict, Forward)
    assert [asked(question) for question in world.questions] == [
        [("doc", "1", "read", {"size": 7, "owner": "a-1"}), ("note", "2", "read", {"size": 7})]
    ]
    world.denied = {"2"}
    verdict = await send(world, '[["doc", "1", "shown"], ["note", "2", ""]]')
    assert isinstance(verdict, Refuse)
    assert (verdict.code, verdict.more) == (Code.DENIED_BY_POLICY, {"each": {"asked": 2, "denied": 1}})
    assert verdict.facts.each is not None
    assert verdict.facts.each.denied == ("note.2",)


async def test_the_route_may_have_a_rule_for_answers_to_whatever_is_asked() -> None:
    for body in ('[["doc", "1", ""]]', '[["doc", "1", ""], ["note", "2", ""]]'):
        world, rule = World(), Whole()
        verdict = await send(world, body, answer=rule)
        assert isinstance(verdict, Forward)
        reduce, _ = verdict.obligations
        assert isinstance(reduce, Reduce)
        world.denied = {"b"}
        allowed = await reduce.judge(AnswerItems("doc", ("list",), ["a", "b"], [{}, {}]))
        assert (reduce.rule, allowed) == (rule, [frozenset(["list"]), frozenset()])
        shadow = await send(world, body, answer=rule, mode="shadow")
        assert isinstance(shadow, Forward)
        assert isinstance(shadow.obligations[0], Watch)


async def test_a_refusal_is_told_in_the_protocol_of_the_body() -> None:
    world = World()
    world.denied = {"1"}
    for body, code in (('[["doc", "1", ""]]', Code.DENIED_BY_POLICY), ('"no list"', Code.BODY_INVALID)):
        verdict = await send(world, body)
        assert isinstance(verdict, Refuse)
        assert (verdict.code, verdict.facts.reply) == (code, Listed.reply)
    # before the body is read there is no such protocol
    unread = await send(world, "[]", door=False)
    assert unread.facts.reply is None


async def test_what_asks_for_nothing_needs_a_token_alone() -> None:
    world = World()
    verdict = await send(world, "", method="GET")
    assert isinstance(verdict, Forward)
    assert verdict.ground is Ground.AUTHENTICATED
    assert world.questions == []


@pytest.mark.parametrize(("lookup", "code"), [("shown", Code.DENIED_BY_POLICY), ("hidden", Code.RESOURCE_HIDDEN)])
async def test_of_several_one_that_is_missing_and_one_that_is_denied_are_one_answer(lookup: str, code: Code) -> None:
    """CWE-204: or the answer tells which ids there are, of the one or of the other."""
    body = f'[["doc", "1", "{lookup}"], ["doc", "2", "shown"]]'
    told = []
    for denied, gone in (({"1"}, set()), (set(), {"1"}), ({"2"}, set()), (set(), {"2"}), ({"1"}, {"2"})):
        world = World()
        world.denied, world.gone = denied, gone
        verdict = await send(world, body)
        assert isinstance(verdict, Refuse)
        told.append(verdict.client_code)
    assert told == [code] * 5


async def test_a_door_without_a_body_is_refused_before_anybody_is_asked() -> None:
    world = World()
    verdict = await send(world, '[["doc", "1", ""]]', door=False)
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.PROXY_UNABLE
    assert world.questions == []


async def test_in_shadow_a_refused_operation_is_told_and_permitted() -> None:
    world = World()
    world.denied = {"1"}
    verdict = await send(world, '[["doc", "1", ""], ["doc", "2", ""]]', mode="shadow")
    assert isinstance(verdict, Forward)
    assert verdict.would_refuse is Code.DENIED_BY_POLICY
