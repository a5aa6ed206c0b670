"""One request about many resources: which they are, what is asked of them, and what a client learns of the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jwt import PyJWK

from sidecar.gate.body import Show, Viewer
from sidecar.gate.codes import Code, Ground
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Result
from sidecar.gate.decision_cache import DecisionCache
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.lookup import Call, Reply
from sidecar.gate.request import Raw, Reading
from sidecar.gate.verdict import EachAsked, Forward, Refuse, Refused, Verdict
from tests.config.routes.reading import read_once
from tests.fakes import OneByOne
from tests.tokens import CLIENT, ISSUER, claims, mint, public_key

NOW = 1_700_000_000.0
TOKEN = mint(claims(NOW))
ROUTES = """\
version: 1
lookups:
  doc: {url: "http://hook/{path.org}/docs/{id}", attributes: {owner: o}}
  sealed: {url: "http://hook/docs/{id}", attributes: {owner: o}, missing: hide, echo: id}
  loose: {url: "http://hook/docs/{id}", attributes: {owner: o}, missing: empty}
routes:
  - path: /{org}/archive
    resource: doc
    attributes: {org: "{path.org}", owner: "{header.x-owner?}"}
    each: {at: "{body.ids}", lookup: doc, max: 60}
    actions: {POST: archive}
  - {path: /sealed, resource: doc, each: {at: "{body}", lookup: sealed}, actions: {POST: archive}}
  - {path: /loose, resource: doc, each: {at: "{body.ids:list}", id: "@:int", lookup: loose}, actions: {POST: archive}}
  - path: /import
    resource: doc
    each: {at: "{body.docs}", id: key, attributes: {owner: o, tags: "t:list", size: "s || n"}, optional: [tags, size]}
    actions: {PUT: import}
  - {path: /some, resource: doc, query: [id], each: {at: "{query.id}"}, actions: {DELETE: delete}}
  - {path: /many, resource: doc, query: [ids], each: {at: "{query.ids}", id: "@:int", separator: ","}, actions: {DELETE: delete}}
""".replace('"{body}"', '"{body.@}"')


class World(OneByOne):
    """The ports. Whoever is in `denied` is denied, and of the ids in `gone` the hook has none."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.calls: list[Call] = []
        self.denied: set[str] = set()
        self.gone: set[str] = set()
        self.reply: dict[str, Any] = {"o": "a-1"}
        self.fault: Refused | None = None
        self.cache: DecisionCache | None = None

    async def find(self, issuer: str, kid: str) -> PyJWK:
        return public_key("k1")

    async def ask(self, call: Call) -> Reply:
        self.calls.append(call)
        if self.fault is not None and call.resource_id == "5":
            raise self.fault
        if call.resource_id in self.gone:
            return Reply(404, "", b"")
        return Reply(200, "application/json", json.dumps({"id": call.resource_id, **self.reply}).encode())

    async def check(self, question: Question) -> PdpAnswer:
        self.questions.append(question)
        results = [
            Result(one.kind, one.id, {one.action: DENY if one.id in self.denied else ALLOW}, False, {one.action: f"p{one.id}"})
            for one in question.resources
        ]  # fmt: skip
        return PdpAnswer(question.request_id, "call", tuple(results))

    async def send(self, method: str, target: str, body: Any = None, *, door: bool = True, **more: Any) -> Verdict:
        routes = read_once(ROUTES)
        tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), self.find)
        rules = Rules(routes.table, routes.lookups, tokens, Reading(), self.cache)
        gate = Gate(rules, self, self, now=lambda: NOW, timer=lambda: 0.0, **more)
        data = b"" if body is None else json.dumps(body).encode()
        headers = [(b"host", b"a"), (b"authorization", b"Bearer " + TOKEN), (b"x-owner", b"mallory")]
        headers += (
            [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())] if data else []
        )

        async def read(limit: int, show: Show, viewer: Viewer) -> None:
            show(data)

        raw = Raw(method, target.encode(), headers, "", "http", "r1", False, None, True)
        return await gate.decide(raw, read if door else None)

    def asked(self) -> list[tuple[str, dict[str, Any]]]:
        return [(one.id, dict(one.attributes)) for question in self.questions for one in question.resources]


@pytest.fixture
def world() -> World:
    return World()


def refused(verdict: Verdict) -> Refuse:
    assert isinstance(verdict, Refuse), verdict
    return verdict


# --- which they are ---


async def test_all_are_asked_about_in_one_question_and_each_by_what_its_own_lookup_says(world: World) -> None:
    verdict = await world.send("POST", "/acme/archive", {"ids": [1, "two", 3]})
    assert isinstance(verdict, Forward)
    assert verdict.ground is Ground.ALLOWED
    (question,) = world.questions
    assert [one[:3] for one in question.resources] == [("doc", name, "archive") for name in ("1", "two", "3")]
    # what a client says of the owner does not stand in for what the hook says
    assert world.asked() == [(name, {"org": "acme", "owner": "a-1"}) for name in ("1", "two", "3")]
    assert [call.question for call in world.calls] == ["/acme/docs/1", "/acme/docs/two", "/acme/docs/3"]
    facts = verdict.facts
    assert (facts.kind, facts.resource_id, facts.each) == ("doc", "", EachAsked(("1", "two", "3"), (), (True,) * 3))
    assert (facts.call_id, facts.policy) == ("call", "p1")


async def test_one_that_stands_there_twice_is_asked_about_once(world: World) -> None:
    await world.send("POST", "/acme/archive", {"ids": [7, "7", 7]})
    assert [name for name, _ in world.asked()] == ["7"]
    assert len(world.calls) == 1


async def test_one_of_which_two_things_are_said_is_asked_about_twice(world: World) -> None:
    docs = [
        {"key": 7, "o": "a-1"},
        {"key": "7", "o": "b"},
        {"key": 7, "o": "a-1"},
        {"key": 7, "o": "a-1", "s": 1},
        {"key": 7, "o": "a-1", "s": True},
    ]
    await world.send("PUT", "/import", {"docs": docs})
    assert world.asked() == [
        ("7", {"owner": "a-1"}), ("7", {"owner": "b"}), ("7", {"owner": "a-1", "size": 1}), ("7", {"owner": "a-1", "size": True}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/acme/archive", {}, "each.at: found nothing, expected a list"),
        ("/acme/archive", {"IDS": [1]}, "each.at: found nothing, expected a list"),
        ("/acme/archive", {"ids": []}, "each.at: found 0 elements, expected 1 to 60"),
        ("/acme/archive", {"ids": list(range(61))}, "each.at: found 61 elements, expected 1 to 60"),
        ("/acme/archive", {"ids": {"a": 1}}, "each.at: found dict, expected a list"),
        ("/acme/archive", {"ids": "7"}, "each.at: found str, expected a list"),
        ("/acme/archive", {"ids": [1, None]}, "each[1]: id: found nothing, expected a text or a whole number"),
        ("/acme/archive", {"ids": [True]}, "each[0]: id: found bool"),
        ("/acme/archive", {"ids": [7.0]}, "each[0]: id: found float"),
        ("/acme/archive", {"ids": [[7]]}, "each[0]: id: found list"),
        ("/acme/archive", {"ids": [{"id": 7}]}, "each[0]: id: found dict"),
        ("/acme/archive", {"ids": [""]}, "each[0]: id: found str"),
        ("/acme/archive", {"ids": ["a\nb"]}, "each[0]: id: expected 1 to 1024 characters without controls"),
        ("/acme/archive", {"ids": ["x" * 1025]}, "each[0]: id: expected 1 to 1024"),
        ("/acme/archive", {"ids": [2**53]}, "each[0]: id: found int, expected int"),
        ("/acme/archive", {"ids": [".."]}, "id: found '..', expected what can be one path segment"),
        ("/loose", {"ids": ["7"]}, "each[0]: id: found str, expected int"),
        ("/loose", {"ids": [1, "07"]}, "each[1]: id: found str, expected int"),
    ],
)
async def test_a_list_that_is_none_is_refused_before_anybody_is_asked(
    world: World, path: str, body: Any, says: str
) -> None:
    refusal = refused(await world.send("POST", path, body))
    assert refusal.code in (Code.BODY_INVALID, Code.REFERENCE_INVALID)
    assert says in refusal.detail
    assert (world.calls, world.questions) == ([], [])


@pytest.mark.parametrize(
    ("docs", "says"),
    [
        ([{"key": 1}], "each[0]: attributes.owner: found nothing"),
        ([{"key": 1, "o": "a"}, {"key": 2, "o": None}], "each[1]: attributes.owner: found nothing"),
        ([{"key": 1, "O": "a"}], "each[0]: attributes.owner: found nothing"),
        ([{"key": 1, "o": {}}], "each[0]: attributes.owner: found dict"),
        ([{"key": 1, "o": "a", "t": "x"}], "each[0]: attributes.tags: found str, expected list"),
        ([{"Key": 1, "o": "a"}], "each[0]: id: found nothing"),
        ([{"key": 1, "Key": 2, "o": "a"}], "two names in one JSON object that are one without case"),
        # an app without case finds these, where the rule would go without
        ([{"key": 1, "o": "a", "T": ["x"]}], "each: found 'T', another spelling of a name that it reads"),
        ([{"key": 1, "o": "a", "N": 5}], "each: found 'N', another spelling of a name that it reads"),
        (["x"], "each[0]: id: found nothing"),
        ([None], "each[0]: id: found nothing"),
    ],
)
async def test_an_element_that_lacks_something_is_refused(world: World, docs: Any, says: str) -> None:
    refusal = refused(await world.send("PUT", "/import", {"docs": docs}))
    assert (refusal.code, world.questions) == (Code.BODY_INVALID, [])
    assert says in refusal.detail


@pytest.mark.parametrize(
    ("target", "ids"),
    [
        ("/some?id=1", ["1"]), ("/some?id=1&id=b%2Cc&id=1", ["1", "b,c"]), ("/many?ids=1", ["1"]), ("/many?ids=3,1,3", ["3", "1"]),
        ("/many?ids=3%2C1", ["3", "1"]),
    ],
)  # fmt: skip
async def test_the_values_of_a_query_are_a_list(world: World, target: str, ids: list[str]) -> None:
    assert isinstance(await world.send("DELETE", target), Forward)
    assert [name for name, _ in world.asked()] == ids


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("/some", "found 0 elements, expected 1 to 100"), ("/some?id=", "each[0]: id: found str"),
        ("/some?" + "&".join(f"id={n}" for n in range(101)), "found 101 elements"), ("/some?id=1&id=%00", "without controls"),
        ("/many?ids=1&ids=2", "query.ids: found 2, expected one"), ("/many?ids=1,,2", "each[1]: id: found str, expected int"),
        ("/many?ids=1,07", "each[1]: id: found str, expected int"), ("/many?ids=1,-0", "each[1]: id: found str, expected int"),
        ("/many?ids=1, 2", None), ("/many?ids=", "found str, expected int"),
    ],
)  # fmt: skip
async def test_a_query_without_a_clear_list_is_refused(world: World, target: str, says: str | None) -> None:
    refusal = refused(await world.send("DELETE", target))
    assert world.questions == []
    if says is not None:
        assert refusal.code is Code.REFERENCE_INVALID
        assert says in refusal.detail


@pytest.mark.parametrize("name", ["Id", "id%5B%5D", "i%64", "id[]"])
async def test_another_spelling_of_the_parameter_is_no_more_elements(world: World, name: str) -> None:
    verdict = await world.send("DELETE", f"/some?id=1&{name}=2")
    if isinstance(verdict, Forward):
        assert [one for one, _ in world.asked()] == ["1", "2"]  # `i%64` is the name itself
    else:
        assert world.questions == []


async def test_the_facts_have_one_question_about_all_that_are_there(world: World) -> None:
    world.cache, world.gone = DecisionCache(1.0), {"3"}
    await world.send("POST", "/acme/archive", {"ids": [1]})
    verdict = await world.send("POST", "/acme/archive", {"ids": [1, 2, 3]})
    assert isinstance(verdict.facts.asked, Question)
    assert [one.id for one in verdict.facts.asked.resources] == ["1", "2"]
    world.gone = {"1"}
    assert (await world.send("POST", "/acme/archive", {"ids": [1]})).facts.asked is None


# --- what is learned of the answer ---


async def test_one_that_is_denied_refuses_all_and_only_the_number_is_told(world: World) -> None:
    world.denied = {"2", "4"}
    refusal = refused(await world.send("POST", "/acme/archive", {"ids": [1, 2, 3, 4]}))
    assert (refusal.code, refusal.client_code) == (Code.DENIED_BY_POLICY, Code.DENIED_BY_POLICY)
    assert refusal.more == {"each": {"asked": 4, "denied": 2}}
    assert refusal.facts.each == EachAsked(("1", "2", "3", "4"), ("2", "4"), (True, False, True, False))
    assert (refusal.detail, refusal.facts.policy) == ("each: 2 of 4 not allowed", "p2")


@pytest.mark.parametrize(
    ("path", "told"), [("/acme/archive", Code.DENIED_BY_POLICY), ("/sealed", Code.RESOURCE_HIDDEN)]
)
async def test_one_that_is_missing_is_told_as_one_that_is_denied(world: World, path: str, told: Code) -> None:
    def body(*ids: int) -> Any:
        return list(ids) if path == "/sealed" else {"ids": ids}

    world.denied, world.gone = {"2"}, {"3"}
    answers = [refused(await world.send("POST", path, body(1, number, 4))) for number in (2, 3)]
    assert [(one.client_code, one.more) for one in answers] == [(told, {"each": {"asked": 3, "denied": 1}})] * 2
    both = refused(await world.send("POST", path, body(2, 3)))
    assert (both.code, both.client_code) == (Code.DENIED_BY_POLICY, told)
    assert both.more == {"each": {"asked": 2, "denied": 2}}
    assert both.detail == "each: 2 of 2 not allowed, 1 of them missing"
    only = refused(await world.send("POST", path, body(3)))
    missing = Code.RESOURCE_HIDDEN if path == "/sealed" else Code.RESOURCE_MISSING
    assert (only.code, only.client_code, only.facts.call_id) == (missing, told, "")


async def test_a_hook_that_tells_of_another_is_told_as_one_that_is_missing_where_that_is_hidden(world: World) -> None:
    world.reply = {"id": "7", "o": "a-1"}
    refusal = refused(await world.send("POST", "/sealed", ["07"]))
    assert (refusal.code, refusal.client_code) == (Code.LOOKUP_MISMATCH, Code.RESOURCE_HIDDEN)
    assert refusal.more == {"each": {"asked": 1, "denied": 1}}


async def test_one_that_is_missing_is_asked_about_without_attributes_where_the_lookup_says_so(world: World) -> None:
    world.gone = {"3"}
    assert isinstance(await world.send("POST", "/loose", {"ids": [1, 3]}), Forward)
    assert world.asked() == [("1", {"owner": "a-1"}), ("3", {})]


# --- faults ---


async def test_one_lookup_without_an_answer_is_the_fault_of_all(world: World) -> None:
    world.fault = Refused(Code.LOOKUP_TIMEOUT, "late")
    refusal = refused(await world.send("POST", "/acme/archive", {"ids": list(range(50))}))
    assert (refusal.code, refusal.more, world.questions) == (Code.LOOKUP_TIMEOUT, {}, [])


async def test_a_door_without_the_body_refuses_it_as_it_does_every_body(world: World) -> None:
    refusal = refused(await world.send("POST", "/acme/archive", {"ids": [1]}, door=False))
    assert (refusal.code, world.questions) == (Code.PROXY_UNABLE, [])


async def test_an_answer_about_fewer_or_others_allows_nothing(world: World) -> None:
    check = world.check
    for spoil in (
        lambda answer: answer._replace(results=answer.results[:-1]),
        lambda answer: answer._replace(results=answer.results[::-1]),
        lambda answer: answer._replace(request_id="other"),
    ):

        async def check_and_spoil(question: Question, spoil: Any = spoil) -> PdpAnswer:
            answer: PdpAnswer = spoil(await check(question))
            return answer

        world.check = check_and_spoil  # type: ignore[method-assign]
        refusal = refused(await world.send("POST", "/acme/archive", {"ids": [1, 2]}))
        assert refusal.code is Code.PDP_MISMATCH


async def test_in_shadow_mode_it_goes_on_and_the_facts_say_which_would_not(world: World) -> None:
    world.denied = {"2"}
    verdict = await world.send("POST", "/acme/archive", {"ids": [1, 2]}, mode="shadow")
    assert isinstance(verdict, Forward)
    assert verdict.would_refuse is Code.DENIED_BY_POLICY
    assert verdict.facts.each == EachAsked(("1", "2"), ("2",), (True, False))


# --- what is remembered ---


async def test_each_decision_is_remembered_by_itself(world: World) -> None:
    world.cache, world.denied = DecisionCache(1.0), {"2"}
    first = await world.send("POST", "/acme/archive", {"ids": [1, 2]})
    second = await world.send("POST", "/acme/archive", {"ids": [2, 3, 1]})
    third = await world.send("POST", "/acme/archive", {"ids": [1, 3]})
    assert [[one.id for one in question.resources] for question in world.questions] == [["1", "2"], ["3"]]
    assert [verdict.facts.cache for verdict in (first, second, third)] == ["miss", "miss", "hit"]
    assert refused(second).facts.each == EachAsked(("2", "3", "1"), ("2",), (False, True, True))
    assert isinstance(third, Forward)
    assert (third.facts.call_id, third.facts.policy) == ("call", "p1")
