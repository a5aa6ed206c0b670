"""The stages in a row -> one verdict: what is asked in which order, and what a permit holds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWK

from sidecar.gate.ask import Ask, asks
from sidecar.gate.body import Show, Viewer
from sidecar.gate.claims import Claim
from sidecar.gate.codes import Code, Ground
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Resource, Result
from sidecar.gate.decision_cache import DecisionCache
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import CONDITIONS, NOT_ASKED, Gate
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Issuer, Principal, PrincipalRules, Tokens
from sidecar.gate.lookup import Attribute, Call, Lookup, Missing, Reply, ResourceField
from sidecar.gate.mode import MODES, Mode
from sidecar.gate.narrowing import ListQuestion, Narrowed, Push
from sidecar.gate.obligation import AnswerItems, HeldAnswer, KeepPrivate, Obligation, Reduce, Watch
from sidecar.gate.query import rule_of
from sidecar.gate.references import parse_template
from sidecar.gate.request import Raw, Reading, Request
from sidecar.gate.routing import Access, Cors, Route, RouteTable, parse_path
from sidecar.gate.session import Presented
from sidecar.gate.settle import Released, settle, settle_whole
from sidecar.gate.trace import Trace
from sidecar.gate.values import Type
from sidecar.gate.verdict import Forward, Preflight, Refuse, Refused, Verdict
from sidecar.release.fields import FieldRule
from sidecar.release.lookup import AnswerLookupRule
from sidecar.release.single import FieldsRule
from tests.fakes import OneByOne
from tests.gate.test_obligation import Whole
from tests.tokens import CLIENT, ISSUER, claims, mint, public_key

NOW = 1_700_000_000.0


def policy(path: str, actions: dict[str, str | Ask], *, recheck: float = 0.0, **more: Any) -> Route:
    return Route(path, parse_path(path), Access.POLICY, asks(actions, kind="doc", **more), recheck=recheck)


TABLE = RouteTable([
    Route("/public", parse_path("/public"), Access.PUBLIC, asks({"GET": ""})),
    Route("/me", parse_path("/me"), Access.AUTHENTICATED, asks({"GET": ""})),
    Route("/cors", parse_path("/cors"), Access.AUTHENTICATED, asks({"GET": ""}), cors=Cors(frozenset(["https://f"]), ("GET",))),
    policy("/docs", {"GET": "list", "POST": "create"}),
    policy("/new", {"POST": "create"}, attributes={"owner": parse_template("{body.owner}")}),
    policy("/docs/{id}", {"GET": "view", "WS": "listen"}, id=parse_template("{path.id}"), lookup=("doc",), recheck=30.0),
    policy("/t/{id}", {"GET": "view"}, id=parse_template("{path.id}"), lookup=("doc",), attributes={"owner": parse_template("{query.owner}")}),
    policy("/found", {"GET": "view"}, id=parse_template("{query.id}")),
    policy("/mine", {"GET": "list", "WS": "listen"}, query=rule_of(["page"], ["owner"]), set_query={"owner": parse_template("{principal.id}")}),
    policy("/paged", {"GET": "list", "WS": "listen"}, query=rule_of(["page"], ()), attributes={"page": parse_template("{query.page?}")}),
    Route("/my", parse_path("/my"), Access.AUTHENTICATED, asks({"GET": ""}, query=rule_of(None, ["owner", "org"], given=False), set_query={
        "owner": parse_template("eq.{claims.sub}"), "org": parse_template("{claims.org}")})),
    policy("/notes", {
        "GET": "list",
        "POST": Ask("create", "note", attributes={"owner": parse_template("{body.owner}")}, max_body=9),
    }),
    policy("/scoped", {"GET": "view"}, scope=parse_template("tenants.{claims.tenant}")),
    policy("/whole", {"GET": "list", "PUT": "list", "WS": "listen"}, answer=Whole(asks=("view_phone", "list"))),
    policy("/both/{id}", {"GET": "view"}, id=parse_template("{path.id}"), lookup=("doc",), scope=parse_template("{header.x-scope}")),
])  # fmt: skip
LOOKUPS = {
    "doc": Lookup("doc", Hook("http://h", ("/", ResourceField.ID)), {"owner": Attribute(jmespath.compile("o").search)})
}


class World(OneByOne):
    """The ports, what they were asked, and what they say next."""

    def __init__(self, reading: Reading | None = None) -> None:
        self.reading = reading or Reading()
        self.asked: list[str] = []
        self.effect = ALLOW
        self.reply: Reply | BaseException = Reply(200, "application/json", b'{"o": "a-1"}')
        self.answer: PdpAnswer | BaseException | None = None
        self.question: Question | None = None
        self.questions: list[Question] = []
        self.body: bytes | Refused = b'{"owner": "a-1"}'
        self.clock = 0.0

    async def find(self, issuer: str, kid: str) -> PyJWK:
        self.asked.append("keys")
        return public_key("k1")

    async def ask(self, call: Call) -> Reply:
        self.asked.append(f"hook {call.question}")
        if isinstance(self.reply, BaseException):
            raise self.reply
        return self.reply

    async def check(self, question: Question) -> PdpAnswer:
        self.asked.append("cerbos")
        self.question = question
        if isinstance(self.answer, BaseException):
            raise self.answer
        self.questions.append(question)
        results = [
            Result(
                resource.kind, resource.id, dict.fromkeys((resource.action, *resource.more_actions), self.effect),
                False, {resource.action: "policy"}, ("owner",),
            )
            for resource in question.resources
        ]  # fmt: skip
        return self.answer or PdpAnswer(question.request_id, "call", tuple(results))

    async def read_body(self, limit: int, show: Show, viewer: Viewer) -> None:
        self.asked.append(f"body {limit}")
        if isinstance(self.body, Refused):
            raise self.body
        show(self.body)

    def timer(self) -> float:
        self.clock += 1.0
        return self.clock

    def gate(self, **more: Any) -> Gate:
        rules = PrincipalRules()
        tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, rules, self.find)
        return Gate(Rules(TABLE, LOOKUPS, tokens, self.reading), self, self, now=lambda: NOW, timer=self.timer, **more)


TOKEN = mint(claims(NOW))


async def decide(
    world: World, target: str, method: str = "GET", *headers: tuple[bytes, bytes], token: bytes | None = TOKEN, websocket: bool = False,
    holds_answer: bool = False, **more: Any,
) -> Verdict:  # fmt: skip
    own = [(b"host", b"app.test")] + ([(b"authorization", b"Bearer " + token)] if token else [])
    raw = Raw(method, target.encode(), [*own, *headers], "10.0.0.9", "http", "r1", websocket, None, holds_answer)
    return await world.gate(**more).decide(raw, world.read_body)


JSON = (b"content-type", b"application/json")


async def test_the_permit_is_exactly_what_is_sent() -> None:
    world = World()
    verdict = await decide(
        world, "/%64ocs/7?x=%2e", "GET", (b"x-mine", b"1"), (b"x-auth-roles", b"admin"), (b"keep-alive", b"1")
    )
    assert isinstance(verdict, Forward)
    assert (verdict.method, verdict.target, verdict.ground) == (b"GET", b"/docs/7?x=%2e", Ground.ALLOWED)
    assert verdict.headers == (
        (b"host", b"app.test"), (b"authorization", b"Bearer " + TOKEN), (b"x-mine", b"1"), (b"x-forwarded-for", b"10.0.0.9"),
        (b"x-forwarded-proto", b"http"), (b"x-forwarded-host", b"app.test"), (b"x-request-id", b"r1"), (b"x-auth-subject", b"a-1"),
        (b"x-auth-roles", b"user"),
    )  # fmt: skip
    assert (verdict.expires, verdict.recheck, verdict.would_refuse) == (NOW + 3600, 30.0, None)


async def test_the_stages_ask_in_their_order_and_the_facts_say_what_they_found() -> None:
    world = World()
    verdict = await decide(world, "/docs/7")
    assert world.asked == ["keys", "hook /7", "cerbos"]
    facts = verdict.facts
    assert (facts.request_id, facts.method, facts.path, facts.route, facts.peer) == (
        "r1",
        "GET",
        "/docs/7",
        "/docs/{id}",
        "10.0.0.9",
    )
    assert (facts.principal, facts.kind, facts.resource_id, facts.action) == ("a-1", "doc", "7", "view")
    assert facts.asker == (ISSUER, "a-1")
    assert (facts.host, facts.roles, facts.websocket) == ("app.test", ("user",), False)
    assert (facts.call_id, facts.policy) == ("call", "policy")
    assert list(facts.stages) == ["request", "routing", "identity", "lookup", "decision"]
    assert set(facts.stages.values()) == {1.0}
    assert world.question is not None
    assert world.question.resources[0].attributes == {"owner": "a-1"}
    assert world.question.principal.roles == ("user",)


@pytest.mark.parametrize("sampled", [True, False])
async def test_only_a_question_whose_trace_is_sampled_wants_a_call_of_its_own(sampled: bool) -> None:
    world = World()
    trace = Trace("a" * 32, "b" * 16, "c" * 16, "d" * 16, "e" * 16, sampled)
    raw = Raw(
        "GET",
        b"/docs/7",
        [(b"host", b"app.test"), (b"authorization", b"Bearer " + TOKEN)],
        "10.0.0.9",
        "http",
        "r1",
        trace=trace,
    )
    await world.gate().decide(raw, world.read_body)
    assert world.question is not None
    assert (world.question.trace, world.question.alone) == (trace.headers("d" * 16), sampled)
    await decide(world, "/docs/7")
    assert (world.question.trace, world.question.alone) == ((), False)


async def test_a_lookup_counts_before_what_the_request_says() -> None:
    world = World()
    await decide(world, "/t/7?owner=mallory")
    assert world.question is not None
    assert world.question.resources[0].attributes == {"owner": "a-1"}


@pytest.mark.parametrize(
    ("lookup", "reply"),
    [
        (LOOKUPS["doc"]._replace(missing=Missing.EMPTY), Reply(404, "application/json", b"")),
        (LOOKUPS["doc"]._replace(optional=frozenset(["owner"])), Reply(200, "application/json", b"{}")),
    ],
)
async def test_where_a_lookup_has_no_value_the_request_does_not_fill_in(lookup: Lookup, reply: Reply) -> None:
    world = World()
    world.reply = reply
    gate = world.gate()
    gate.rules = replace(gate.rules, lookups={"doc": lookup})
    own = [(b"host", b"app.test"), (b"authorization", b"Bearer " + TOKEN)]
    raw = Raw("GET", b"/t/7?owner=a-1", own, "", "http", "r1")
    assert isinstance(await gate.decide(raw, world.read_body), Forward)
    assert world.question is not None
    assert world.question.resources[0].attributes == {}


@pytest.mark.parametrize(
    ("kind", "code"), [(None, Code.CLAIM_MISSING), ("x", Code.CLAIM_INVALID), (3, None), ("3", None)]
)
async def test_neither_hook_nor_pdp_is_asked_about_a_principal_that_lacks_a_claim(
    kind: object, code: Code | None
) -> None:
    world = World()
    rules = PrincipalRules(attributes={"level": Claim("level", Type.INT)})
    tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, rules, world.find)
    gate = world.gate()
    gate.rules = replace(gate.rules, tokens=tokens)

    async def decided(target: str) -> Verdict:
        bearer = (b"authorization", b"Bearer " + mint(claims(NOW, level=kind)))
        raw = Raw("GET", target.encode(), [(b"host", b"app.test"), bearer], "10.0.0.9", "http", "r1")
        return await gate.decide(raw, world.read_body)

    verdict = await decided("/docs/7")
    if code is None:
        assert isinstance(verdict, Forward)
        assert world.question is not None
        assert world.question.principal.attributes == {"level": 3}
    else:
        assert isinstance(verdict, Refuse)
        assert (verdict.code, world.asked) == (code, ["keys"])
        assert "claim level" in verdict.detail
        assert verdict.facts.principal == "a-1"
    assert isinstance(await decided("/me"), Forward)


@pytest.mark.parametrize(
    ("target", "method", "token", "code", "asked"),
    [
        ("/docs/..", "GET", None, Code.TARGET_AMBIGUOUS, []),
        ("/none", "GET", None, Code.ROUTE_UNMAPPED, []),
        ("/docs/a@b", "GET", None, Code.SEGMENT_INVALID, []),
        ("/docs/7", "DELETE", None, Code.METHOD_UNMAPPED, []),
        ("/docs/7", "GET", None, Code.TOKEN_MISSING, []),
        ("/docs/7", "GET", b"a.b.c", Code.TOKEN_INVALID, []),
        ("/docs/7", "GET", mint(claims(NOW, **{"cognito:groups": None})), Code.NO_ROLES, ["keys"]),
        ("/new", "POST", None, Code.TOKEN_MISSING, []),
        ("/new", "POST", TOKEN, Code.BODY_TYPE_UNSUPPORTED, ["keys"]),
        ("/t/7", "GET", TOKEN, Code.REFERENCE_INVALID, ["keys"]),
        ("/public", "POST", None, Code.METHOD_UNMAPPED, []),
        ("/docs/7", "OPTIONS", None, Code.METHOD_UNMAPPED, []),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_refused_before_anybody_is_asked_more(
    target: str, method: str, token: bytes | None, code: Code, asked: list[str]
) -> None:
    world = World()
    verdict = await decide(world, target, method, token=token)
    assert isinstance(verdict, Refuse)
    assert (verdict.code, world.asked) == (code, asked)
    assert verdict.facts.path


async def test_public_and_authenticated_ask_no_policy() -> None:
    world = World()
    verdict = await decide(world, "/public", token=b"nonsense")
    assert isinstance(verdict, Forward)
    assert (verdict.ground, verdict.expires, world.asked) == (Ground.PUBLIC, None, [])
    assert not {b"x-auth-subject", b"x-auth-roles"} & set(dict(verdict.headers))
    verdict = await decide(world, "/me")
    assert isinstance(verdict, Forward)
    assert (verdict.ground, world.asked) == (Ground.AUTHENTICATED, ["keys"])


async def test_a_route_without_an_id_asks_about_minus() -> None:
    world = World()
    await decide(world, "/docs")
    assert world.question is not None
    assert (world.question.resources[0].id, world.question.resources[0].action) == ("-", "list")


async def test_a_body_is_read_only_where_a_reference_needs_it() -> None:
    world = World()
    assert isinstance(await decide(world, "/new", "POST", JSON), Forward)
    assert world.asked == ["keys", "body 1048576", "cerbos"]
    world.body = Refused(Code.BODY_TOO_LARGE)
    verdict = await decide(world, "/new", "POST", JSON)
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.BODY_TOO_LARGE
    world.asked.clear()
    await decide(world, "/docs", "POST", JSON)
    assert world.asked == ["keys", "cerbos"]


async def test_head_is_decided_as_get_and_a_handshake_as_ws() -> None:
    world = World()
    head = await decide(world, "/docs/7", "HEAD")
    assert (head.facts.action, getattr(head, "method", None)) == ("view", b"HEAD")
    assert (await decide(world, "/docs/7", websocket=True)).facts.action == "listen"
    refused = await decide(world, "/docs", websocket=True)
    assert isinstance(refused, Refuse)
    assert refused.code is Code.METHOD_UNMAPPED


@pytest.mark.parametrize("effect", [DENY, "EFFECT_NO_MATCH", "", "x"])
async def test_without_an_allow_there_is_no_permit(effect: str) -> None:
    world = World()
    world.effect = effect
    verdict = await decide(world, "/docs/7")
    assert isinstance(verdict, Refuse)
    assert verdict.code is (Code.DENIED_BY_POLICY if effect == DENY else Code.PDP_MISMATCH)


OWN = ("r1", "doc", "7", "view", ALLOW, False)
OTHERS: tuple[list[Any], ...] = ([""], ["Doc"], ["8", "07"], ["edit", "*"], [DENY, "", "EFFECT_UNSPECIFIED"], [True])


@given(
    *(st.sampled_from([own, *others]) for own, others in zip(OWN, OTHERS, strict=True)),
    st.integers(0, 2),
)
def test_nothing_but_one_plain_allow_for_this_question_makes_a_permit(
    request_id: str, kind: str, identifier: str, action: str, effect: str, invalid: bool, times: int
) -> None:
    world = World()
    world.answer = PdpAnswer(request_id, "call", (Result(kind, identifier, {action: effect}, invalid),) * times)
    verdict = asyncio.run(decide(world, "/docs/7"))
    good = ((request_id, kind, identifier, action, effect, invalid), times) == (OWN, 1)
    assert isinstance(verdict, Forward if good else Refuse)


@pytest.mark.parametrize("port", ["reply", "answer"])
@pytest.mark.parametrize(
    "error",
    [
        Refused(Code.PDP_TIMEOUT),
        KeyError("x"),
        RecursionError(),
        UnicodeEncodeError("a", "b", 0, 1, "c"),
        MemoryError(),
    ],
)
async def test_whatever_a_port_raises_is_a_refusal(port: str, error: Exception) -> None:
    world = World()
    setattr(world, port, error)
    verdict = await decide(world, "/docs/7")
    assert isinstance(verdict, Refuse)
    assert verdict.code is (Code.PDP_TIMEOUT if isinstance(error, Refused) else Code.INTERNAL_ERROR)


async def test_an_answer_without_results_is_a_mismatch() -> None:
    world = World()
    world.answer = PdpAnswer("r1", "call", ())
    verdict = await decide(world, "/docs/7")
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.PDP_MISMATCH


@pytest.mark.parametrize(
    ("missing", "told"), [(Missing.DENY, Code.DENIED_BY_POLICY), (Missing.HIDE, Code.RESOURCE_HIDDEN)]
)
async def test_the_client_is_told_one_thing_of_what_is_not_there_and_what_is_not_its_own(
    missing: Missing, told: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOOKUPS, "doc", LOOKUPS["doc"]._replace(missing=missing))
    world = World()
    world.effect = DENY
    denied = await decide(world, "/docs/7")
    world.reply = Reply(404, "application/json", b"{}")
    gone = await decide(world, "/docs/7")
    assert isinstance(denied, Refuse)
    assert isinstance(gone, Refuse)
    assert denied.client_code is gone.client_code is told
    assert (denied.code, gone.code) == (
        Code.DENIED_BY_POLICY, Code.RESOURCE_MISSING if missing is Missing.DENY else Code.RESOURCE_HIDDEN,
    )  # fmt: skip
    # what failed is what the client is told, and so is a refusal where nothing is looked up
    world.reply = Reply(500, "text/plain", b"")
    for failed in (await decide(world, "/docs/7"), await decide(world, "/docs", "GET")):
        assert isinstance(failed, Refuse)
        assert failed.client_code is failed.code


@pytest.mark.parametrize(
    ("missing", "document", "told"),
    [
        (Missing.HIDE, b'{"id": 7, "o": "a-1"}', Code.RESOURCE_HIDDEN),
        (Missing.DENY, b'{"id": 7, "o": "a-1"}', Code.LOOKUP_MISMATCH),
        # an attribute that is not there is a fault of the hook's
        (Missing.HIDE, b'{"id": "07"}', Code.LOOKUP_MISMATCH),
    ],
)
async def test_hide_does_not_tell_that_the_hook_has_another_resource(
    missing: Missing, document: bytes, told: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook that reads `07` as 7 answers about 7, and of what is not there it says nothing at all."""
    echo = jmespath.compile("id").search
    monkeypatch.setitem(LOOKUPS, "doc", LOOKUPS["doc"]._replace(missing=missing, echo=echo))
    world = World()
    world.reply = Reply(200, "application/json", document)
    verdict = await decide(world, "/docs/07")
    assert isinstance(verdict, Refuse)
    assert (verdict.code, verdict.client_code) == (Code.LOOKUP_MISMATCH, told)


async def test_where_a_lookup_decides_without_attributes_a_denial_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOOKUPS, "doc", LOOKUPS["doc"]._replace(missing=Missing.EMPTY))
    world = World()
    world.effect, world.reply = DENY, Reply(404, "application/json", b"{}")
    verdict = await decide(world, "/docs/7")
    assert isinstance(verdict, Refuse)
    assert verdict.client_code is verdict.code is Code.DENIED_BY_POLICY


async def test_a_scope_that_is_refused_does_not_tell_what_is_there() -> None:
    world = World()
    for world.reply in (Reply(200, "application/json", b'{"o": "a-1"}'), Reply(404, "application/json", b"{}")):
        verdict = await decide(world, "/both/7", "GET", (b"x-scope", b"a/b"))
        assert isinstance(verdict, Refuse)
        assert verdict.client_code is Code.REFERENCE_INVALID
        assert "hook /7" not in world.asked


async def test_a_cancelled_decision_is_cancelled() -> None:
    world = World()
    world.answer = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await decide(world, "/docs/7")


async def test_preflights_are_answered_by_the_route_and_answers_are_marked() -> None:
    world = World()
    origin, asks = (b"origin", b"https://f"), (b"access-control-request-method", b"GET")
    verdict = await decide(world, "/cors", "OPTIONS", origin, asks, token=None)
    assert isinstance(verdict, Preflight)
    assert (b"access-control-allow-origin", b"https://f") in verdict.headers
    verdict = await decide(world, "/me", "OPTIONS", origin, asks, token=None)
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.CORS_REFUSED
    for token in (TOKEN, None):
        marked = await decide(world, "/cors", "GET", origin, token=token)
        assert not isinstance(marked, Preflight)
        assert (b"access-control-allow-origin", b"https://f") in marked.reply_headers
    assert world.asked == ["keys"]


async def test_shadow_mode_permits_everything_and_says_what_it_would_have_been() -> None:
    world = World()
    world.effect = DENY
    for target, code in (
        ("/docs/7", Code.DENIED_BY_POLICY),
        ("/none", Code.ROUTE_UNMAPPED),
        ("/a/../b", Code.TARGET_AMBIGUOUS),
    ):
        verdict = await decide(world, target, "GET", (b"x-auth-subject", b"root"), mode="shadow")
        assert isinstance(verdict, Forward)
        assert (verdict.ground, verdict.would_refuse, verdict.target) == (Ground.SHADOW, code, target.encode())
        assert dict(verdict.headers).get(b"x-auth-subject") != b"root"
    allowed = await decide(world, "/me", mode="shadow")
    assert isinstance(allowed, Forward)
    assert (allowed.ground, allowed.would_refuse) == (Ground.AUTHENTICATED, None)


async def test_the_assertion_is_made_for_the_principal_at_this_moment() -> None:
    def sign(principal: Principal, now: float, app: str) -> bytes:
        return f"{principal.id}@{now:.0f}".encode()

    verdict = await decide(World(), "/me", sign=sign)
    assert isinstance(verdict, Forward)
    assert dict(verdict.headers)[b"x-auth-assertion"] == b"a-1@1700000000"


async def test_a_stage_that_fails_has_its_time_in_the_facts() -> None:
    world = World()
    world.reply = Refused(Code.LOOKUP_TIMEOUT)
    assert (await decide(world, "/docs/7")).facts.stages == {"request": 1, "routing": 1, "identity": 1, "lookup": 1}
    assert (await decide(world, "/me", token=None)).facts.stages == {"request": 1, "routing": 1, "identity": 1}
    assert (await decide(world, "/docs/..")).facts.stages == {"request": 1}
    assert (await decide(world, "/none")).facts.stages == {"request": 1, "routing": 1}
    assert (await decide(world, "/public")).facts.stages == {"request": 1, "routing": 1}


@pytest.mark.parametrize("mode", MODES)
async def test_an_assertion_that_cannot_be_made_is_a_refusal_in_each_mode(mode: Mode) -> None:
    def sign(_: Principal, __: float, ___: str) -> bytes:
        raise ValueError("no key")

    world = World()
    for effect in (ALLOW, DENY):
        world.effect = effect
        for target in ("/me", "/docs/7"):
            verdict = await decide(world, target, sign=sign, mode=mode)
            if (effect, target, mode) == (DENY, "/docs/7", "enforce"):
                continue
            assert isinstance(verdict, Refuse)
            assert (verdict.code, verdict.detail) == (Code.INTERNAL_ERROR, "ValueError: no key")


@pytest.mark.parametrize("mode", MODES)
async def test_a_clock_that_fails_permits_nothing_outside_shadow(mode: Mode) -> None:
    world = World()

    def broken() -> float:
        raise OSError("no clock")

    own = [(b"host", b"app.test"), (b"authorization", b"Bearer " + TOKEN)]
    rules = world.gate().rules
    for now, timer in ((broken, world.timer), (lambda: NOW, broken)):
        gate = Gate(rules, world, world, mode=mode, now=now, timer=timer)
        verdict = await gate.decide(Raw("GET", b"/docs/7", own, "", "http", "r1"), world.read_body)
        code = verdict.would_refuse if isinstance(verdict, Forward) else getattr(verdict, "code", None)
        assert (code, isinstance(verdict, Forward)) == (Code.INTERNAL_ERROR, mode == "shadow")


async def test_a_refusal_of_our_own_fault_can_be_read_by_the_origin_that_asked() -> None:
    def sign(_: Principal, __: float, ___: str) -> bytes:
        raise ValueError

    verdict = await decide(World(), "/cors", "GET", (b"origin", b"https://f"), sign=sign)
    assert isinstance(verdict, Refuse)
    assert (b"access-control-allow-origin", b"https://f") in verdict.reply_headers


async def test_a_route_that_names_options_gets_its_preflights_itself() -> None:
    route = Route(
        "/o", parse_path("/o"), Access.PUBLIC, asks({"OPTIONS": ""}), cors=Cors(frozenset(["https://f"]), ("GET",))
    )
    world = World()
    rules = world.gate().rules
    gate = Gate(
        Rules(RouteTable([route]), {}, rules.tokens, Reading()), world, world, now=lambda: NOW, timer=world.timer
    )
    headers = [(b"host", b"app.test"), (b"origin", b"https://f"), (b"access-control-request-method", b"GET")]
    verdict = await gate.decide(Raw("OPTIONS", b"/o", headers, "", "http", "r1"), world.read_body)
    assert isinstance(verdict, Forward)
    assert (b"access-control-allow-origin", b"https://f") in verdict.reply_headers


async def test_shadow_mode_sends_the_canonical_target_where_there_is_one() -> None:
    world = World()
    world.effect = DENY
    verdict = await decide(world, "/%64ocs/7?x=%64", mode="shadow")
    assert isinstance(verdict, Forward)
    assert (verdict.target, verdict.would_refuse) == (b"/docs/7?x=%64", Code.DENIED_BY_POLICY)
    assert (b"x-auth-subject", b"a-1") in verdict.headers


async def test_the_word_for_a_handshake_is_no_method() -> None:
    verdict = await decide(World(), "/docs/7", "WS")
    assert isinstance(verdict, Refuse)
    assert (verdict.code, verdict.methods) == (Code.METHOD_UNMAPPED, ("GET", "HEAD"))


# --- other places of a token ---


class Cookies:
    """A source whose sessions are tokens themselves; with "late" it cannot be asked."""

    vary = b"Cookie"

    def holds(self, request: Request) -> bool:
        return b"cookie" in request.seen

    async def present(self, request: Request, now: float, tokens: Tokens) -> Presented:
        value = request.seen[b"cookie"].removeprefix(b"__Host-session=")
        if value == b"late":
            raise Refused(Code.SESSION_STORE_UNAVAILABLE)
        return Presented(value, None, (b"__Host-session=renewed",))


def session(value: bytes) -> tuple[bytes, bytes]:
    return (b"cookie", b"__Host-session=" + value)


OWN_ORIGIN = (b"origin", b"https://app.test")


async def test_a_session_stands_in_for_a_bearer_token_and_its_cookie_goes_to_the_client_alone() -> None:
    verdict = await decide(World(), "/me", "GET", session(TOKEN), token=None, sources=(Cookies(),))
    assert isinstance(verdict, Forward)
    assert verdict.cookies == (b"__Host-session=renewed",)
    assert dict(verdict.headers)[b"x-auth-subject"] == b"a-1"
    assert b"cookie" not in dict(verdict.headers)
    assert b"authorization" not in dict(verdict.headers)


async def test_a_refused_request_keeps_the_renewed_session() -> None:
    world = World()
    world.effect = DENY
    verdict = await decide(world, "/docs", "GET", session(TOKEN), token=None, sources=(Cookies(),))
    assert isinstance(verdict, Refuse)
    assert (verdict.code, verdict.cookies) == (Code.DENIED_BY_POLICY, (b"__Host-session=renewed",))


@pytest.mark.parametrize(
    ("value", "code"),
    [(b"late", Code.SESSION_STORE_UNAVAILABLE), (b"no.token", Code.TOKEN_INVALID), (TOKEN[:-4] + b"AAAA", Code.TOKEN_INVALID)],
)  # fmt: skip
async def test_what_a_session_gives_is_verified_like_any_token(value: bytes, code: Code) -> None:
    verdict = await decide(World(), "/me", "GET", session(value), token=None, sources=(Cookies(),))
    assert isinstance(verdict, Refuse)
    assert verdict.code is code


async def test_a_reload_while_a_source_is_asked_changes_nothing_of_the_request() -> None:
    """The source is handed what verifies the tokens of this request, and the request goes on by the same rules."""
    world = World()
    handed = []

    class Slow(Cookies):
        async def present(self, request: Request, now: float, tokens: Tokens) -> Presented:
            handed.append(tokens)
            # nobody is trusted any more, and nothing is open
            gate.rules = Rules(RouteTable([]), {}, Tokens({}, PrincipalRules(), world.find), Reading())
            return await super().present(request, now, tokens)

    gate = world.gate(sources=(Slow(),))
    before = gate.rules.tokens
    raw = Raw("GET", b"/me", [(b"host", b"app.test"), session(TOKEN)], "10.0.0.9", "http", "r1")
    assert isinstance(await gate.decide(raw, world.read_body), Forward)
    assert handed == [before]
    verdict = await gate.decide(raw, world.read_body)
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.ROUTE_UNMAPPED


class Balancer(Cookies):
    """Another source, which is asked after the first."""

    vary = b"Cookie, X-Data"

    def holds(self, request: Request) -> bool:
        return b"accept" in request.seen

    async def present(self, request: Request, now: float, tokens: Tokens) -> Presented:
        return Presented(request.seen[b"accept"])


@pytest.mark.parametrize(
    ("target", "mode", "obligations"),
    [
        ("/public", "enforce", ()), ("/me", "enforce", (KeepPrivate(b"Authorization"),)),
        ("/docs/7", "enforce", (KeepPrivate(b"Authorization"),)), ("/docs/7", "shadow", (KeepPrivate(b"Authorization"),)),
        ("/nowhere", "shadow", ()), ("/nowhere", "shadow-policy", (KeepPrivate(b"Authorization"),)), ("/public", "shadow", ()),
    ],
)  # fmt: skip
async def test_a_permit_says_by_which_headers_its_answer_is_for_one_alone(
    target: str, mode: Mode, obligations: tuple[Obligation, ...]
) -> None:
    verdict = await decide(World(), target, mode=mode)
    assert isinstance(verdict, Forward)
    assert verdict.obligations == obligations


async def test_in_shadow_mode_what_would_be_refused_is_for_one_alone_too() -> None:
    world = World()
    world.effect = DENY
    verdict = await decide(world, "/docs/7", mode="shadow")
    assert isinstance(verdict, Forward)
    assert (verdict.ground, verdict.obligations) == (Ground.SHADOW, (KeepPrivate(b"Authorization"),))


async def test_an_answer_by_a_session_depends_on_all_that_goes_before_it() -> None:
    """And one that carries a renewed session is for no cache at all."""
    sources = (Cookies(), Balancer())
    by_session = await decide(World(), "/docs/7", "GET", session(TOKEN), token=None, sources=sources)
    assert isinstance(by_session, Forward)
    assert by_session.obligations == (KeepPrivate(b"Cookie, Authorization", no_store=bool(by_session.cookies)),)
    assert by_session.cookies
    by_balancer = await decide(World(), "/docs/7", "GET", (b"accept", TOKEN), token=None, sources=sources)
    assert isinstance(by_balancer, Forward)
    assert by_balancer.obligations == (KeepPrivate(b"Cookie, X-Data, Authorization"),)
    by_bearer = await decide(World(), "/docs/7", "GET", session(TOKEN), sources=sources)
    assert isinstance(by_bearer, Forward)
    assert by_bearer.obligations == (KeepPrivate(b"Authorization"),)


async def test_a_door_that_cannot_hold_the_answer_gets_no_permit_that_needs_it() -> None:
    world = World()
    verdict = await decide(world, "/whole")
    assert isinstance(verdict, Refuse)
    assert (verdict.code, world.asked) == (Code.PROXY_UNABLE, [])
    permit = await decide(world, "/whole", holds_answer=True)
    assert isinstance(permit, Forward)
    reduce, private = permit.obligations
    assert isinstance(reduce, Reduce)
    assert (reduce.rule, reduce.granted) == (Whole(asks=("view_phone", "list")), frozenset(("list", "view_phone")))
    # made for one alone
    assert private == KeepPrivate(b"Authorization", no_store=True)
    (question,) = world.questions
    assert question.resources[0].more_actions == ("view_phone",)


async def test_an_answer_that_is_reduced_comes_whole_and_as_json() -> None:
    headers = [(name, b"x") for name in (*NOT_ASKED, *CONDITIONS, b"accept")]
    permit = await decide(World(), "/whole", "HEAD", *headers, holds_answer=True)
    assert isinstance(permit, Forward)
    assert permit.method == b"GET"
    names = {name for name, _ in permit.headers}
    assert b"accept" in names
    conditions = {b"if-range", b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since"}
    assert names.isdisjoint({b"accept-encoding", b"range", b"a-im", *conditions})


async def test_a_change_keeps_its_conditions_where_its_answer_is_reduced() -> None:
    headers = [(name, b"x") for name in (*NOT_ASKED, *CONDITIONS)]
    permit = await decide(World(), "/whole", "PUT", *headers, holds_answer=True)
    assert isinstance(permit, Forward)
    assert permit.method == b"PUT"
    names = {name for name, _ in permit.headers}
    assert names >= {b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since"}
    assert names.isdisjoint({b"accept-encoding", b"range", b"if-range", b"a-im"})


async def test_items_are_asked_for_the_principal_of_the_request_and_in_its_scope() -> None:
    world = World()
    permit = await decide(world, "/whole", holds_answer=True)
    assert isinstance(permit, Forward)
    reduce = permit.obligations[0]
    assert isinstance(reduce, Reduce)
    items = AnswerItems("note", ("read", "view_phone"), ["0", "1", "2"], [{"owner": "u1"}] * 3)
    assert await reduce.judge(items) == [frozenset(("read", "view_phone"))] * 3
    question = world.questions[-1]
    assert question.principal is world.questions[0].principal
    assert question.resources == tuple(
        Resource("note", str(number), "read", {"owner": "u1"}, ("view_phone",)) for number in range(3)
    )
    world.effect = DENY
    assert await reduce.judge(items) == [frozenset()] * 3


@pytest.mark.parametrize("holds_answer", [True, False])
async def test_shadow_mode_records_that_a_door_cannot_and_changes_no_answer(holds_answer: bool) -> None:
    world = World()
    world.effect = DENY
    permit = await decide(world, "/whole", mode="shadow", holds_answer=holds_answer)
    assert isinstance(permit, Forward)
    assert permit.would_refuse is (Code.DENIED_BY_POLICY if holds_answer else Code.PROXY_UNABLE)
    assert not any(obligation.needs_body for obligation in permit.obligations)


async def test_a_body_that_a_door_does_not_get_is_not_decided_without() -> None:
    world = World()
    raw = Raw("POST", b"/new", [(b"host", b"app.test"), (b"authorization", b"Bearer " + TOKEN), JSON], "", "http", "r1")
    verdict = await world.gate().decide(raw, None)
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.PROXY_UNABLE
    assert "cerbos" not in world.asked


async def test_authorization_goes_before_a_session() -> None:
    other = mint(claims(NOW, sub="b-2"))
    verdict = await decide(World(), "/me", "GET", session(TOKEN), token=other, sources=(Cookies(),))
    assert isinstance(verdict, Forward)
    assert dict(verdict.headers)[b"x-auth-subject"] == b"b-2"
    assert verdict.cookies == ()


@pytest.mark.parametrize("websocket", [False, True])
async def test_what_changes_something_with_a_session_comes_from_our_own_pages(websocket: bool) -> None:
    target, method = ("/docs/7", "GET") if websocket else ("/docs", "POST")
    for headers, passes in (((OWN_ORIGIN,), True), ((), False), (((b"origin", b"https://evil.test"),), False)):
        verdict = await decide(
            World(), target, method, session(TOKEN), *headers, token=None, websocket=websocket, sources=(Cookies(),)
        )
        assert isinstance(verdict, Forward) is passes
        if isinstance(verdict, Refuse):
            assert verdict.code is Code.ORIGIN_REFUSED


async def test_a_bearer_token_needs_no_origin() -> None:
    verdict = await decide(World(), "/docs", "POST", (b"origin", b"https://evil.test"), sources=(Cookies(),))
    assert isinstance(verdict, Forward)


# --- decisions that are remembered ---


async def twice(world: World, gate: Gate, one: str = "/docs/7", two: str = "/docs/7") -> list[Verdict]:
    headers = [(b"host", b"app.test"), (b"authorization", b"Bearer " + TOKEN)]
    return [
        await gate.decide(Raw("GET", target.encode(), headers, "10.0.0.9", "http", "r1"), world.read_body)
        for target in (one, two)
    ]


@pytest.mark.parametrize("effect", [ALLOW, DENY])
async def test_a_decision_is_asked_for_once_where_decisions_are_remembered(effect: str) -> None:
    world = World()
    world.effect = effect
    gate = world.gate()
    gate.rules = replace(gate.rules, decisions=DecisionCache(10.0))
    first, second = await twice(world, gate)
    assert world.asked.count("cerbos") == 1
    assert isinstance(first, Forward) is isinstance(second, Forward) is (effect == ALLOW)
    assert (first.facts.cache, second.facts.cache) == ("miss", "hit")
    assert (second.facts.call_id, second.facts.policy) == ("call", "policy")
    # what the hook says is asked for each time: another owner is another question
    assert world.asked.count("hook /7") == 2


async def test_another_resource_or_another_state_of_it_is_asked_for() -> None:
    world = World()
    gate = world.gate()
    gate.rules = replace(gate.rules, decisions=DecisionCache(10.0))
    await twice(world, gate, "/docs/7", "/docs/8")
    assert world.asked.count("cerbos") == 2
    world.reply = Reply(200, "application/json", b'{"o": "b-2"}')
    await twice(world, gate)
    assert world.asked.count("cerbos") == 3


@pytest.mark.parametrize(
    "fault", [Refused(Code.PDP_TIMEOUT), KeyError("bug"), PdpAnswer("another", "c", ()), PdpAnswer("r1", "c", ())]
)
async def test_a_fault_is_never_remembered(fault: Any) -> None:
    world = World()
    world.answer = fault
    gate = world.gate()
    gate.rules = replace(gate.rules, decisions=DecisionCache(10.0))
    for verdict in await twice(world, gate):
        assert isinstance(verdict, Refuse)
        assert verdict.code is not Code.DENIED_BY_POLICY
    world.answer = None
    assert all([isinstance(verdict, Forward) for verdict in await twice(world, gate)])
    assert world.asked.count("cerbos") == 3


async def test_without_being_asked_to_nothing_is_remembered() -> None:
    world = World()
    verdicts = await twice(world, world.gate())
    assert world.asked.count("cerbos") == 2
    assert [verdict.facts.cache for verdict in verdicts] == ["", ""]


async def test_the_time_of_a_decision_runs_from_when_it_was_asked_for() -> None:
    """What changes while Cerbos answers is in nobody's answer, however long that takes."""

    class Slow(World):
        async def check(self, question: Question) -> PdpAnswer:
            self.clock += 10.0
            return await super().check(question)

    world = Slow()
    gate = world.gate()
    gate.rules = replace(gate.rules, decisions=DecisionCache(10.0))
    verdicts = await twice(world, gate)
    assert [verdict.facts.cache for verdict in verdicts] == ["miss", "miss"]


async def test_what_is_decided_by_rules_that_were_replaced_is_remembered_for_nobody() -> None:
    world = World()
    gate = world.gate()
    old = gate.rules = replace(gate.rules, decisions=DecisionCache(10.0))

    class Reloading(World):
        async def check(self, question: Question) -> PdpAnswer:
            gate.rules = replace(old, decisions=DecisionCache(10.0))
            return await world.check(question)

    gate._asking.pdp = Reloading()
    verdicts = await twice(world, gate)
    assert [verdict.facts.cache for verdict in verdicts] == ["miss", "miss"]


async def test_whoever_explains_is_told_nothing_from_memory() -> None:
    world = World()
    gate = world.gate()
    gate.rules = replace(gate.rules, decisions=DecisionCache(10.0))
    await twice(world, gate)
    gate.rules = gate.rules.by(gate.rules.tokens)
    verdicts = await twice(world, gate)
    assert [verdict.facts.cache for verdict in verdicts] == ["", ""]
    assert world.asked.count("cerbos") == 3


@pytest.mark.parametrize("tenant", ["acme", "a.b-c_d", "7", "A" * 200])
async def test_a_scope_names_the_policy_that_is_asked(tenant: str) -> None:
    world = World()
    verdict = await decide(world, "/scoped", token=mint(claims(NOW, tenant=tenant)))
    assert isinstance(verdict, Forward)
    assert world.question is not None
    assert world.question.resources[0].scope == f"tenants.{tenant}"
    await decide(world, "/docs")
    assert world.question.resources[0].scope == ""


async def test_an_empty_id_is_refused_and_nobody_asked() -> None:
    """Cerbos answers INVALID_ARGUMENT, which would be a 503 of a client's making."""
    world = World()
    verdict = await decide(world, "/found?id=")
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.REFERENCE_INVALID
    assert "cerbos" not in world.asked
    assert isinstance(await decide(world, "/found?id=7"), Forward)


async def test_the_log_names_the_policy_of_the_action_that_was_asked_for() -> None:
    world = World()
    effects = {"list": ALLOW, "view": ALLOW}
    policies = {"list": "resource.doc.vdefault", "view": "resource.doc.vdefault/acme"}
    world.answer = PdpAnswer("0" * 32, "call", (Result("doc", "7", effects, False, policies),))
    verdict = await decide(world, "/found?id=7")
    assert verdict.facts.policy == "resource.doc.vdefault/acme"


@pytest.mark.parametrize("tenant", [None, "", ".", "a.", "a..b", "a.-x", "-x", "a b", "a/b", "ä", "a\n", 7, ["acme"]])
async def test_what_is_no_scope_is_refused_and_nobody_asked(tenant: object) -> None:
    world = World()
    verdict = await decide(world, "/scoped", token=mint(claims(NOW, tenant=tenant)))
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.REFERENCE_INVALID
    assert "cerbos" not in world.asked


# --- the query ---


@pytest.mark.parametrize(
    ("query", "attributes"), [("", {}), ("?", {}), ("?page=2", {"page": "2"}), ("?p%61ge=2", {"page": "2"})]
)
async def test_a_listed_query_goes_through_and_an_optional_value_may_be_left_out(
    query: str, attributes: dict[str, str]
) -> None:
    world = World()
    for websocket in (False, True):
        verdict = await decide(world, "/paged" + query, websocket=websocket)
        assert isinstance(verdict, Forward)
        assert verdict.target == ("/paged" + query).encode()
        assert world.question is not None
        assert world.question.resources[0].attributes == attributes


@pytest.mark.parametrize("query", ["_where=1", "page=1&owner=b", "Page=1", "page[]=1", "page=1;x", "%zz=1"])
async def test_another_name_is_refused_before_anybody_is_asked(query: str) -> None:
    for websocket in (False, True):
        world = World()
        verdict = await decide(world, f"/paged?{query}", websocket=websocket)
        assert isinstance(verdict, Refuse)
        assert (verdict.code, world.asked) == (Code.QUERY_NOT_ALLOWED, [])


@pytest.mark.parametrize("query", ["", "?", "?owner=b", "?OWNER=b&%6fwner=c", "?owner[]=b&[owner]=c&owner"])
async def test_what_the_sidecar_sets_takes_the_place_of_every_spelling(query: str) -> None:
    for websocket in (False, True):
        verdict = await decide(World(), "/mine" + query, websocket=websocket)
        assert isinstance(verdict, Forward)
        assert verdict.target == b"/mine?owner=a-1"
        assert verdict.facts.path == "/mine"


async def test_the_rest_of_the_query_stays_as_it_came_and_in_its_order() -> None:
    verdict = await decide(World(), "/mine?page=%32&owner=b&page=3")
    assert isinstance(verdict, Forward)
    assert verdict.target == b"/mine?page=%32&page=3&owner=a-1"
    refused = await decide(World(), "/mine?page=1&x=2&owner=b")
    assert isinstance(refused, Refuse)
    assert refused.code is Code.QUERY_NOT_ALLOWED


async def test_a_value_is_percent_encoded_on_a_route_without_a_policy_too() -> None:
    token = mint(claims(NOW, org="a&b=c d/é"))
    verdict = await decide(World(), "/my?x=1&Org=other&owner[]=b", token=token)
    assert isinstance(verdict, Forward)
    assert verdict.target == b"/my?x=1&owner=eq.a-1&org=a%26b%3Dc%20d%2F%C3%A9"
    missing = await decide(World(), "/my")
    assert isinstance(missing, Refuse)
    assert missing.code is Code.REFERENCE_INVALID


async def test_shadow_mode_forwards_a_refused_query_as_it_came() -> None:
    world = World()
    for target, code in (("/mine?owner=b&x=1", Code.QUERY_NOT_ALLOWED), ("/mine?owner=b", Code.DENIED_BY_POLICY)):
        world.effect = DENY
        verdict = await decide(world, target, mode="shadow")
        assert isinstance(verdict, Forward)
        assert (verdict.would_refuse, verdict.target) == (code, target.encode())


# --- an action of its own ---


async def test_a_method_asks_what_its_own_action_says() -> None:
    world = World()
    world.body = b'{"owner": "a-1"}'
    verdict = await decide(world, "/notes", "POST", JSON)
    assert isinstance(verdict, Forward)
    assert world.asked == ["keys", "body 9", "cerbos"]
    assert world.question is not None
    asked = world.question.resources[0]
    assert (asked.kind, asked.action, asked.attributes) == ("note", "create", {"owner": "a-1"})
    for method in ("GET", "HEAD"):
        world.asked.clear()
        assert isinstance(await decide(world, "/notes", method), Forward)
        assert world.asked == ["keys", "cerbos"]
        assert (world.question.resources[0].kind, world.question.resources[0].attributes) == ("doc", {})


PREFLIGHT = ((b"origin", b"https://any.test"), (b"access-control-request-method", b"PUT"))


def gate_with(route: Route, *, mode: Mode = "enforce") -> Gate:
    gate = World().gate(mode=mode)
    gate.rules = replace(gate.rules, table=RouteTable([route]))
    return gate


async def test_a_preflight_goes_to_the_app_where_the_route_says_so_without_anybodys_name() -> None:
    gate = gate_with(policy("/docs", {"GET": "list"})._replace(app_preflight=True))
    own = [
        (b"host", b"app.test"),
        (b"authorization", b"Bearer " + TOKEN),
        (b"cookie", b"a=1"),
        (b"x-auth-subject", b"root"),
    ]
    verdict = await gate.decide(Raw("OPTIONS", b"/docs?a=b", [*own, *PREFLIGHT], "", "http", "r"), None)
    assert isinstance(verdict, Forward)
    assert (verdict.method, verdict.target, verdict.ground, verdict.expires) == (
        b"OPTIONS",
        b"/docs?a=b",
        Ground.PREFLIGHT,
        None,
    )
    assert (verdict.reply_headers, verdict.obligations, verdict.facts.principal) == ((), (), "")
    names = {name for name, _ in verdict.headers}
    assert names >= {b"origin", b"access-control-request-method"}
    assert not names & {b"authorization", b"cookie", b"x-auth-subject", b"x-auth-roles"}


@pytest.mark.parametrize("left_out", PREFLIGHT)
async def test_another_options_than_a_preflight_is_a_method_as_ever(left_out: tuple[bytes, bytes]) -> None:
    gate = gate_with(policy("/docs", {"GET": "list"})._replace(app_preflight=True))
    headers = [(b"host", b"app.test"), *(pair for pair in PREFLIGHT if pair != left_out)]
    verdict = await gate.decide(Raw("OPTIONS", b"/docs", headers, "", "http", "r"), None)
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.METHOD_UNMAPPED
    elsewhere = await gate.decide(
        Raw("OPTIONS", b"/other", [(b"host", b"app.test"), *PREFLIGHT], "", "http", "r"), None
    )
    assert isinstance(elsewhere, Refuse)
    assert elsewhere.code is Code.ROUTE_UNMAPPED


async def test_a_method_beyond_the_usual_ones_is_decided_where_a_route_names_it_and_refused_elsewhere() -> None:
    gate = gate_with(policy("/docs", {"GET": "list", "MKCALENDAR": "create"}))
    for method, code in (("MKCALENDAR", None), ("FOO", Code.METHOD_UNMAPPED), ("MKCOL", Code.METHOD_UNMAPPED)):
        headers = [(b"host", b"app.test"), (b"authorization", b"Bearer " + TOKEN)]
        verdict = await gate.decide(Raw(method, b"/docs", headers, "", "http", "r"), None)
        if isinstance(verdict, Refuse):
            assert (verdict.code, verdict.methods) == (code, ("GET", "HEAD", "MKCALENDAR"))
        else:
            assert (verdict.facts.action, code) == ("create", None)
    fallback = World().gate()
    fallback.rules = replace(fallback.rules, table=RouteTable([], Access.AUTHENTICATED))
    headers = [(b"host", b"app.test"), (b"authorization", b"Bearer " + TOKEN)]
    verdict = await fallback.decide(Raw("MKCALENDAR", b"/docs", headers, "", "http", "r"), None)
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.METHOD_UNMAPPED


# --- lists: what the app is asked for ---


class Planner:
    """A PDP's plans: what they are, and what was asked."""

    def __init__(self, narrowed: Narrowed | None = None, *, all_allowed: bool = False) -> None:
        self.narrowed = narrowed or Narrowed()
        self.open = all_allowed
        self.asked: list[tuple[str, str]] = []

    async def narrow(self, question: ListQuestion, push: Push, query: bytes) -> Narrowed:
        self.asked.append((question.kind, question.action))
        return self.narrowed

    async def all_allowed(self, question: ListQuestion) -> bool:
        self.asked.append((question.kind, question.action))
        return self.open


PUSHED = Push("json-server", "id", {}, "doc", "read")
EMPTY = HeldAnswer(200, [], b"[]")


async def listed(
    target: str, rule: Whole | AnswerLookupRule, plans: Planner | None, push: Push | None = PUSHED, **more: Any
) -> Verdict:
    world = World()
    gate = world.gate(plans=plans, **more)
    ask = Ask("list", "doc", push=push, **{"answer" if isinstance(rule, Whole) else "answer_lookup": rule})  # type: ignore[arg-type]
    route = Route("/list", parse_path("/list"), Access.POLICY, asks({"GET": ask}))
    gate.rules = replace(gate.rules, table=RouteTable([route]))
    headers = [(b"host", b"app.test"), (b"authorization", b"Bearer " + TOKEN), (b"x-auth-filter", b"mine")]
    raw = Raw("GET", target.encode(), headers, "10.0.0.9", "http", "r1", holds_answer=True)
    return await gate.decide(raw, world.read_body)


async def test_the_app_is_asked_for_less_where_the_policy_can_be_said_to_it() -> None:
    narrowed = Narrowed((("owner", "a b"),), ((b"x-auth-filter", b"signed"),), "weakened")
    planner = Planner(narrowed)
    permit = await listed("/list?page=2", Whole(), planner)
    assert isinstance(permit, Forward)
    assert (permit.target, permit.given) == (b"/list?page=2&owner=a%20b", None)
    assert [value for name, value in permit.headers if name == b"x-auth-filter"] == [b"signed"]
    assert planner.asked == [("doc", "read")]
    assert isinstance(permit.obligations[0], Reduce)
    assert permit.obligations[0].pushed == "weakened"


@pytest.mark.parametrize(("plans", "push"), [(None, PUSHED), (Planner(Narrowed((("a", "b"),))), None)])
async def test_without_a_plan_or_a_dialect_the_query_stays(plans: Planner | None, push: Push | None) -> None:
    permit = await listed("/list?page=2", Whole(), plans, push)
    assert isinstance(permit, Forward)
    assert permit.target == b"/list?page=2"
    assert isinstance(permit.obligations[0], Reduce)
    assert permit.obligations[0].pushed == ("none" if push is not None else "")


async def test_where_nothing_can_be_allowed_the_app_is_not_asked_if_its_answer_is_known() -> None:
    planner = Planner(Narrowed(pushed="exact", nothing=True))
    permit = await listed("/list", Whole(nothing=EMPTY), planner)
    assert isinstance(permit, Forward)
    assert permit.given == EMPTY
    permit = await listed("/list", Whole(), planner)
    assert isinstance(permit, Forward)
    assert permit.given is None


async def test_a_plan_that_cannot_be_had_refuses_the_list() -> None:
    class Broken(Planner):
        async def narrow(self, question: ListQuestion, push: Push, query: bytes) -> Narrowed:
            raise Refused(Code.PDP_STATUS)

    verdict = await listed("/list", Whole(), Broken())
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.PDP_STATUS


@pytest.mark.parametrize("mode", ["shadow", "shadow-policy"])
@pytest.mark.parametrize("searches", [True, False])
async def test_in_shadow_the_app_is_asked_for_what_the_client_asked_and_the_answer_is_watched(
    mode: Mode, searches: bool
) -> None:
    planner, rule = Planner(Narrowed((("owner", "a"),)), all_allowed=searches), Whole(named=(("doc", "view_phone"),))
    permit = await listed("/list?phone=1", rule, planner, mode=mode)
    assert isinstance(permit, Forward)
    # the plan is for the field that is searched, and for nothing that narrows
    assert (permit.target, planner.asked) == (b"/list?phone=1", [("doc", "view_phone")])
    assert permit.would_refuse is (None if searches else Code.QUERY_NOT_ALLOWED)
    private = KeepPrivate(b"Authorization")
    if not searches:
        assert permit.obligations == (private,)
        return
    watch, rest = permit.obligations
    assert isinstance(watch, Watch)
    assert isinstance(watch.demand, Reduce)
    assert (watch.demand.rule, watch.needs_body, rest) == (rule, False, private)
    settled = settle(permit, HeldAnswer(200, []), streams=True)
    assert isinstance(settled, Released)
    assert (settled.watch, settled.body) == (watch.demand, None)


@pytest.mark.parametrize(
    ("plans", "passes"), [(Planner(all_allowed=True), True), (Planner(all_allowed=False), False), (None, False)]
)
async def test_a_hidden_field_is_searched_only_by_who_may_see_it_everywhere(
    plans: Planner | None, passes: bool
) -> None:
    rule = Whole(named=(("doc", "view_phone"),))
    verdict = await listed("/list?phone=1", rule, plans, None)
    assert isinstance(verdict, Forward) is passes
    if isinstance(verdict, Refuse):
        assert verdict.code is Code.QUERY_NOT_ALLOWED
    if plans is not None:
        assert plans.asked == [("doc", "view_phone")]
    assert isinstance(await listed("/list", rule, plans, None), Forward)


@pytest.mark.parametrize(("granted", "open_", "asked"), [(True, False, []), (False, True, [("doc", "view_phone")])])
async def test_one_thing_is_looked_for_by_a_field_of_it_that_its_sender_may_see(
    granted: bool, open_: bool, asked: list[tuple[str, str]]
) -> None:
    rule = Whole(asks=("view_phone",) if granted else (), named=(("", "view_phone"),))
    planner = Planner(all_allowed=open_)
    assert isinstance(await listed("/list?phone=1", rule, planner, None), Forward)
    assert planner.asked == asked
    refused = await listed("/list?phone=1", rule._replace(asks=()), Planner(all_allowed=False), None)
    assert isinstance(refused, Refuse)
    assert refused.code is Code.QUERY_NOT_ALLOWED


@pytest.mark.parametrize(
    ("plans", "passes"), [(Planner(all_allowed=True), True), (Planner(all_allowed=False), False), (None, False)]
)
async def test_what_is_decided_later_is_looked_for_by_a_field_that_its_sender_may_see_everywhere(
    plans: Planner | None, passes: bool
) -> None:
    rule = AnswerLookupRule({}, fields=FieldsRule((FieldRule(("phone",), "view_phone"),)))
    assert isinstance(await listed("/list?phone=1", rule, plans, None), Forward) is passes
    assert isinstance(await listed("/list?page=1", rule, plans, None), Forward)
    assert isinstance(await listed("/list?phone=1", rule, plans, None, mode="shadow"), Forward)


# --- what a record may tell of the question ---


@pytest.mark.parametrize("mode", ["enforce", "shadow-policy", "shadow"])
async def test_the_facts_have_the_question_however_it_was_decided(mode: Mode) -> None:
    world = World()
    gate = world.gate(mode=mode)
    gate.rules = replace(gate.rules, decisions=DecisionCache(10.0))

    async def asked(target: str) -> tuple[object, Verdict]:
        headers = [(b"host", b"app.test"), (b"authorization", b"Bearer " + TOKEN)]
        raw = Raw("GET", target.encode(), headers, "10.0.0.9", "http", "r1", False, None, True)
        verdict = await gate.decide(raw, world.read_body)
        return verdict.facts.asked, verdict

    question, verdict = await asked("/docs/7?token=SECRET")
    assert isinstance(question, Question)
    assert (question, verdict.facts.query) == (world.question, b"token=SECRET")
    assert question.resources == (Resource("doc", "7", "view", {"owner": "a-1"}),)
    remembered, verdict = await asked("/docs/7")
    assert verdict.facts.cache == "hit"
    assert remembered == question
    world.effect = DENY
    denied, verdict = await asked("/docs/8")
    assert isinstance(denied, Question)
    assert (denied.resources[0].id, denied.principal.id) == ("8", "a-1")
    reduced, _ = await asked("/whole")
    assert isinstance(reduced, Question)
    assert [one.action for one in reduced.resources] == ["list"]
    world.answer = Refused(Code.PDP_TIMEOUT)
    failed, verdict = await asked("/docs/9")
    assert isinstance(failed, Question)
    assert failed.resources[0].id == "9"
    for target in ("/me", "/public", "/nowhere"):
        assert (await asked(target))[0] is None


async def test_a_decision_from_the_apps_answer_has_what_the_app_said() -> None:
    world = World()
    rule = AnswerLookupRule({"owner": Attribute(jmespath.compile("o").search)})
    route = policy("/said/{id}", {"GET": "view"}, id=parse_template("{path.id}"), answer_lookup=rule)
    gate = world.gate()
    gate.rules = replace(gate.rules, table=RouteTable([route]))
    headers = [(b"host", b"app.test"), (b"authorization", b"Bearer " + TOKEN)]
    raw = Raw("GET", b"/said/7", headers, "10.0.0.9", "http", "r1", False, None, True)
    permit = await gate.decide(raw, world.read_body)
    assert isinstance(permit, Forward)
    assert permit.facts.asked is None
    answer = HeldAnswer(200, [(b"content-type", b"application/json")], b'{"o": "b-2"}')
    assert isinstance(await settle_whole(permit, answer), Released)
    assert permit.facts.asked == world.question
    assert isinstance(permit.facts.asked, Question)
    assert permit.facts.asked.resources[0].attributes == {"owner": "b-2"}
