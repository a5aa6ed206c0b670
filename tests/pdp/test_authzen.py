"""`pdp/authzen.py` against the real Cerbos' AuthZEN endpoint, and against a fake for what that cannot be made to do."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from typing import Any

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, DENY, Question, Resource, judge
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.net.pool import Origin
from sidecar.pdp.authzen import CALL, CERBOS_ROLES, AuthZen, Target, calls_for, subject_of
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.client import MAX_CALL
from sidecar.pdp.embedded import EmbeddedCerbos
from tests.fakes import Behave, Clock, Web, answer, cut, drip, held, json_answer, raw, refusal, silence
from tests.policy_table import RealCerbos, cases, real_cerbos
from tests.stack import ROOT, binary, free_port

ALICE = Principal("alice", ("user",), {"town": "Köln"}, "iss", 0.0, {})
SCHEMA = '{"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}'
CLOSED = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: closed
  version: default
  schemas: {principalSchema: {ref: "cerbos:///closed.json"}}
  rules:
    - {actions: [read], effect: EFFECT_ALLOW, roles: [user]}
"""
TYPED = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: typed
  version: default
  schemas: {resourceSchema: {ref: "cerbos:///typed.json"}}
  rules:
    - {actions: [read], effect: EFFECT_ALLOW, roles: [user]}
    - actions: [count]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {match: {expr: "R.attr.n == 9007199254740991.0 && R.attr.deep[0]['ü'] && R.attr.none == null && P.attr.town == 'Köln'"}}
    - actions: [share]
      effect: EFFECT_ALLOW
      roles: [user]
      condition: {match: {expr: "R.attr.grants.exists(g, g.who == P.id && 'write' in g.rights) && R.attr.meta.flags.open && P.attr.teams.blue == 1"}}
"""
GRANTED: list[tuple[Any, Any, Any, bool]] = [
    ([{"who": "alice", "rights": ["read", "write"]}], {"flags": {"open": True}}, {"blue": 1}, True),
    (
        [{"who": "bob", "rights": ["write"]}, {"rights": ["write"], "who": "alice"}],
        {"flags": {"open": True}},
        {"blue": 1.0},
        True,
    ),
    ([{"who": "alice", "rights": ["read"]}], {"flags": {"open": True}}, {"blue": 1}, False),
    ([{"who": "alice", "rights": ["write"]}], {"flags": {"open": False}}, {"blue": 1}, False),
    ([{"who": "alice", "rights": ["write"]}], {"flags": {"open": 1}}, {"blue": 1}, False),
    ([{"who": "alice", "rights": ["write"]}], {"flags": {"open": True}}, {"blue": True}, False),
    ([{"who": "alice", "rights": ["write"]}], {"flags": {"open": True}}, {"blue": "1"}, False),
    ([], {}, {}, False),
]
"""Grants and meta of a resource, teams of the principal, and whether TYPED lets it be shared."""


def contact(number: int | str = 1, action: str = "read", owner: str = "alice", more: tuple[str, ...] = ()) -> Resource:
    return Resource("contact", str(number), action, {"owner": owner}, more)


def question(*resources: Resource, principal: Principal = ALICE, request_id: str = "r-1") -> Question:
    return Question(request_id, principal, resources)


@asynccontextmanager
async def client(target: str, **options: Any) -> AsyncIterator[AuthZen]:
    authzen = AuthZen(target, **{"timeout": 2.0, "now": time.monotonic, **options})
    try:
        yield authzen
    finally:
        await authzen.aclose()


@asynccontextmanager
async def fake(behave: Behave, **options: Any) -> AsyncIterator[tuple[AuthZen, Web]]:
    """A client of a fake PDP that does this."""
    async with Web(behave) as web, client(f"authzen+{web.origin}/pdp", **options) as authzen:
        yield authzen, web


# --- the real Cerbos ---


@pytest.fixture(scope="module")
def cerbos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCerbos]:
    """The real Cerbos with the demo's policies, and one with a schema."""
    folder = tmp_path_factory.mktemp("authzen")
    shutil.copytree(ROOT / "policies", folder / "policies")
    (folder / "policies/typed.yaml").write_text(TYPED)
    (folder / "policies/closed.yaml").write_text(CLOSED)
    (folder / "policies/_schemas").mkdir()
    (folder / "policies/_schemas/closed.json").write_text('{"type": "object", "additionalProperties": false}')
    (folder / "policies/_schemas/typed.json").write_text(SCHEMA)
    with real_cerbos(folder, folder / "policies") as running:
        yield running


@pytest.mark.process
async def test_every_case_of_the_policy_table_has_the_same_answer_by_grpc_and_by_authzen(cerbos: RealCerbos) -> None:
    table = cases()
    assert len(table) >= 100
    grpc = Cerbos(cerbos.grpc, timeout=2, now=time.monotonic)
    async with client(cerbos.authzen) as authzen:
        for case in table:
            asked = question(case.resource, principal=case.principal)
            by_grpc, by_authzen = await grpc.check(asked), await authzen.check(asked)
            assert by_authzen == by_grpc._replace(call_id="r-1"), case
            assert judge(asked, by_authzen) == [case.allowed], case
    await grpc.aclose()


@pytest.mark.process
@pytest.mark.parametrize("together", [True, False])
async def test_maps_and_lists_of_maps_reach_a_policy_by_grpc_and_by_authzen(cerbos: RealCerbos, together: bool) -> None:
    """Those that differ in the type of one value alone are asked at once too: no two may share an answer."""
    grpc = Cerbos(cerbos.grpc, timeout=2, now=time.monotonic)
    async with client(cerbos.authzen) as authzen:
        asked = [
            question(
                Resource("typed", "1", "share", {"grants": grants, "meta": meta, "n": 1}),
                principal=ALICE._replace(attributes={"teams": teams}),
            )
            for grants, meta, teams, _ in GRANTED
        ]
        for pdp in (grpc, authzen):
            if together:
                answers = await asyncio.gather(*map(pdp.check, asked))
            else:
                answers = [await pdp.check(one) for one in asked]
            assert [judge(one, answer) for one, answer in zip(asked, answers, strict=True)] == [
                [row[3]] for row in GRANTED
            ]
    await grpc.aclose()


async def test_the_table_in_one_question_has_the_same_answers(cerbos: RealCerbos) -> None:
    """As the console and the permissions API ask: many resources at once, and several actions of one."""
    principals = {case.principal.id + str(case.principal.roles): case.principal for case in cases()}
    grpc = Cerbos(cerbos.grpc, timeout=2, now=time.monotonic)
    async with client(cerbos.authzen) as authzen:
        for principal in principals.values():
            of_it = [case for case in cases() if case.principal == principal]
            asked = question(*(case.resource for case in of_it), principal=principal)
            by_grpc, by_authzen = await grpc.check(asked), await authzen.check(asked)
            assert judge(asked, by_authzen) == judge(asked, by_grpc) == [case.allowed for case in of_it]
            several = question(contact(2, "list", more=("read", "update", "export")), contact(3, owner="bob"))
            by_grpc, by_authzen = await grpc.check(several), await authzen.check(several)
            assert by_authzen == by_grpc._replace(call_id="r-1")
    await grpc.aclose()


async def test_resources_that_differ_in_attributes_alone_are_each_judged_by_their_own(cerbos: RealCerbos) -> None:
    """Cerbos 0.51 answers evaluations of the same type and id with the attributes of the first."""
    asked = question(*(contact("-", "update", owner) for owner in ("alice", "bob", "alice", "eve")))
    async with client(cerbos.authzen) as authzen:
        assert judge(asked, await authzen.check(asked)) == [True, False, True, False]


async def test_attributes_that_break_the_schema_are_no_answer(cerbos: RealCerbos) -> None:
    async with client(cerbos.authzen) as authzen:
        asked = question(Resource("typed", "1", "read", {"n": "many"}))
        with pytest.raises(Refused, match="schema") as refused:
            judge(asked, await authzen.check(asked))
        assert refused.value.code is Code.PDP_MISMATCH


async def test_a_principal_schema_that_forbids_other_properties_refuses_cerbos_roles(cerbos: RealCerbos) -> None:
    """The guide says so. By gRPC roles are no attribute."""
    asked = question(Resource("closed", "1", "read", {}), principal=ALICE._replace(attributes={}))
    grpc = Cerbos(cerbos.grpc, timeout=2, now=time.monotonic)
    assert judge(asked, await grpc.check(asked)) == [True]
    await grpc.aclose()
    async with client(cerbos.authzen) as authzen:
        with pytest.raises(Refused, match="schema"):
            judge(asked, await authzen.check(asked))


async def test_values_of_every_type_arrive_as_they_are(cerbos: RealCerbos) -> None:
    attributes = {"n": 2**53 - 1, "deep": [{"ü": True}], "none": None}
    async with client(cerbos.authzen) as authzen:
        asked = question(Resource("typed", "1", "count", attributes))
        assert judge(asked, await authzen.check(asked)) == [True]


@pytest.mark.process
async def test_cerbos_serves_by_port_and_by_socket() -> None:
    embedded = EmbeddedCerbos(ROOT / "policies", binary=str(binary()))
    await embedded.start()
    async with client("authzen+" + embedded.target.replace("grpc.sock", "http.sock")) as authzen:
        # it opens its sockets one after the other, and the start waits for that of gRPC
        async with asyncio.timeout(20):
            while not await authzen.serving():
                await asyncio.sleep(0.01)
        asked = question(contact(1, "update"))
        assert judge(asked, await authzen.check(asked)) == [True]
        await embedded.stop()
        assert not await authzen.serving()
        assert await refusal(authzen.check(asked)) is Code.PDP_UNAVAILABLE


async def test_a_principal_without_a_role_is_never_asked_about(cerbos: RealCerbos) -> None:
    """By AuthZEN Cerbos 0.51 lets a subject without roles do what any role may; by gRPC it refuses the question."""
    nobody = ALICE._replace(roles=())
    async with client(cerbos.authzen) as authzen:
        assert await refusal(authzen.check(question(contact(), principal=nobody))) is Code.NO_ROLES


def test_what_the_guide_says_of_cerbos_is_so(cerbos: RealCerbos) -> None:
    """When this fails, Cerbos has been mended: take it out of the guide, and look at `calls_for` and `_echoed` again."""
    update = [
        {"resource": {"type": "contact", "id": "1", "properties": {"owner": owner}}} for owner in ("alice", "bob")
    ]
    with closing(http.client.HTTPConnection("127.0.0.1", cerbos.port, timeout=5)) as connection:

        def asked(path: str, message: dict[str, Any]) -> tuple[str | None, Any]:
            named = {"content-type": "application/json", "x-request-id": "mine"}
            connection.request("POST", path, json.dumps({"context": {"cerbos.requestId": "r"}, **message}), named)
            answered = connection.getresponse()
            return answered.getheader("x-request-id"), json.loads(answered.read())

        nobody = {"type": "user", "id": "alice"}
        assert asked("/access/v1/evaluation", {"subject": nobody, "action": {"name": "read"}, **update[1]}) == (
            None, {"decision": True},
        )  # fmt: skip
        alice = {**nobody, "properties": {"cerbos.roles": ["user"]}}
        message = {"subject": alice, "action": {"name": "update"}, "evaluations": update}
        assert asked("/access/v1/evaluations", message)[1] == {"evaluations": [{"decision": True}, {"decision": True}]}


# --- what is sent ---


async def test_a_question_is_one_evaluation_with_its_own_credential_and_id() -> None:
    async with fake(json_answer({"decision": True}, 200, "X-Request-ID: r-1"), token="t.o~k") as (authzen, web):
        asked = question(contact(7, "update"))
        assert judge(asked, await authzen.check(asked)) == [True]
    line, headers = web.asked[0]
    assert line == "POST /pdp/access/v1/evaluation HTTP/1.1"
    assert (headers["authorization"], headers["x-request-id"]) == ("Bearer t.o~k", "r-1")
    assert (headers["content-type"], headers["accept"]) == ("application/json", "application/json")
    assert "accept-encoding" not in headers
    assert json.loads(web.bodies[0]) == {
        "subject": {"type": "user", "id": "alice", "properties": {"town": "Köln", "cerbos.roles": ["user"]}},
        "resource": {"type": "contact", "id": "7", "properties": {"owner": "alice"}},
        "action": {"name": "update"},
        "context": {"cerbos.requestId": "r-1", "cerbos.includeMeta": True},
    }


async def test_the_guide_shows_the_message_that_is_sent() -> None:
    text = (ROOT / "docs/guides/authzen.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"<!-- example: evaluation.json -->\n```json\n(.*?)```", text, re.DOTALL)
    async with fake(json_answer({"decision": True})) as (authzen, web):
        principal = ALICE._replace(attributes={"department": "sales"})
        await authzen.check(question(contact(7, "update"), principal=principal, request_id="4f7c0a"))
    assert json.loads(web.bodies[0]) == json.loads(shown)


async def test_several_are_evaluations_of_one_subject() -> None:
    answers = json_answer({"evaluations": [{"decision": True}, {"decision": False}, {"decision": True}]})
    async with fake(answers, roles="roles") as (authzen, web):
        asked = question(contact(1, "read", more=("update",)), contact(2))
        got = await authzen.check(asked)
    assert [result.effects for result in got.results] == [{"read": ALLOW, "update": DENY}, {"read": ALLOW}]
    assert web.asked[0][0] == "POST /pdp/access/v1/evaluations HTTP/1.1"
    sent = json.loads(web.bodies[0])
    assert sent["subject"]["properties"]["roles"] == sent["subject"]["properties"]["cerbos.roles"] == ["user"]
    assert [(each["resource"]["id"], each["action"]["name"]) for each in sent["evaluations"]] == [
        ("1", "read"), ("1", "update"), ("2", "read"),
    ]  # fmt: skip


def test_a_message_holds_so_many_evaluations_and_no_two_resources_of_one_name() -> None:
    resources = [contact("-", "read", str(owner), ("update",)) for owner in range(3)] + [contact(n) for n in range(50)]
    calls = calls_for(resources)
    placed = sorted((item.place, item.action) for call in calls for item in call)
    wanted = [(at, action) for at, each in enumerate(resources) for action in (each.action, *each.more_actions)]
    assert placed == sorted(wanted)
    for call in calls:
        assert len(call) <= CALL
        names = {(item.resource.kind, item.resource.id): item.place for item in call}
        assert all(names[item.resource.kind, item.resource.id] == item.place for item in call)


def test_attributes_never_stand_for_roles() -> None:
    for name in (CERBOS_ROLES, "roles"):
        with pytest.raises(Refused) as refused:
            subject_of(ALICE._replace(attributes={name: ["admin"]}), (CERBOS_ROLES, "roles"))
        assert refused.value.code is Code.REFERENCE_INVALID


@pytest.mark.parametrize("value", [2**53, float("nan"), float("inf"), "\ud800", {1: 2}, object(), [[[]]] * 2**6])
async def test_a_value_that_json_cannot_tell_is_not_told(value: Any) -> None:
    if isinstance(value, list):
        for _ in range(40):
            value = [value]
    async with fake(json_answer({"decision": True})) as (authzen, web):
        asked = question(contact()._replace(attributes={"x": value}))
        assert await refusal(authzen.check(asked)) is Code.REFERENCE_INVALID
        assert web.asked == []


# --- what is answered ---

RESULT = {"resource": {"kind": "contact", "id": "1"}, "actions": {"read": "EFFECT_ALLOW"}}
CONTEXT = {"requestId": "r-1", "results": [RESULT]}


def told(**changes: Any) -> Behave:
    return json_answer({"decision": True, "context": {"cerbos.response": {**CONTEXT, **changes}}})


BAD = {
    "a status": (json_answer({"decision": True}, 201), Code.PDP_STATUS),
    "no content": (answer(204), Code.PDP_STATUS),
    "a redirect": (json_answer({"decision": True}, 302, "Location: /pdp/other"), Code.PDP_STATUS),
    "who are you": (json_answer({"decision": True}, 401), Code.PDP_STATUS),
    "forbidden": (json_answer({"decision": True}, 403), Code.PDP_STATUS),
    "too many": (json_answer({"decision": True}, 429), Code.PDP_STATUS),
    "an error": (json_answer({"decision": True}, 500), Code.PDP_STATUS),
    "another type": (answer(200, b'{"decision": true}', kind="text/plain"), Code.PDP_STATUS),
    "two types": (json_answer({"decision": True}, 200, "Content-Type: text/html"), Code.PDP_STATUS),
    "no JSON": (answer(200, b'{"decision": true'), Code.PDP_BAD_ANSWER),
    "twice": (answer(200, b'{"decision": false, "decision": true}'), Code.PDP_BAD_ANSWER),
    "no object": (json_answer([True]), Code.PDP_BAD_ANSWER),
    "a string": (json_answer({"decision": "true"}), Code.PDP_BAD_ANSWER),
    "a number": (json_answer({"decision": 1}), Code.PDP_BAD_ANSWER),
    "null": (json_answer({"decision": None}), Code.PDP_BAD_ANSWER),
    "nothing": (json_answer({}), Code.PDP_BAD_ANSWER),
    "another case": (json_answer({"Decision": True}), Code.PDP_BAD_ANSWER),
    "a list for one": (json_answer({"evaluations": [{"decision": True}]}), Code.PDP_BAD_ANSWER),
    "a context that is none": (json_answer({"decision": True, "context": "x"}), Code.PDP_BAD_ANSWER),
    "an error inside": (json_answer({"decision": False, "context": {"error": {"status": 500}}}), Code.PDP_STATUS),
    "too large": (json_answer({"decision": True, "context": {"x": "a" * 2**20}}), Code.PDP_BAD_ANSWER),
    "encoded": (json_answer({"decision": True}, 200, "Content-Encoding: gzip"), Code.PDP_BAD_ANSWER),
    "not HTTP": (raw(b"nonsense\r\n\r\n"), Code.PDP_BAD_ANSWER),
    "cut": (cut(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), Code.PDP_PARTIAL),
    "gone": (cut(), Code.PDP_UNAVAILABLE),
    "silent": (silence, Code.PDP_TIMEOUT),
    "dripping": (drip(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" * 9, 0.02), Code.PDP_TIMEOUT),
    "for another request": (json_answer({"decision": True}, 200, "X-Request-ID: r-2"), Code.PDP_MISMATCH),
    "for two requests": (
        json_answer({"decision": True}, 200, "X-Request-ID: r-1", "X-Request-ID: r-2"), Code.PDP_MISMATCH,
    ),
    "told for another request": (told(requestId="r-2"), Code.PDP_MISMATCH),
    "told of another resource": (
        told(results=[{"resource": {"kind": "contact", "id": "2"}, "actions": {"read": ALLOW}}]), Code.PDP_MISMATCH,
    ),
    "told twice": (told(results=[RESULT, RESULT]), Code.PDP_MISMATCH),
    "told otherwise": (
        told(results=[{"resource": {"kind": "contact", "id": "1"}, "actions": {"read": DENY}}]), Code.PDP_MISMATCH,
    ),
    "told of another action": (
        told(results=[{"resource": {"kind": "contact", "id": "1"}, "actions": {"edit": ALLOW}}]), Code.PDP_MISMATCH,
    ),
    "told of a broken schema": (
        told(results=[{**RESULT, "validationErrors": [{"path": "/n"}]}]), Code.PDP_MISMATCH,
    ),
    "told in another shape": (told(results=[[]]), Code.PDP_BAD_ANSWER),
    "told as a number": (json_answer({"decision": True, "context": {"cerbos.response": 7}}), Code.PDP_BAD_ANSWER),
}  # fmt: skip


@pytest.mark.parametrize("how", BAD)
async def test_whatever_is_not_exactly_a_decision_is_none(how: str) -> None:
    behave, code = BAD[how]
    async with fake(behave, timeout=0.2) as (authzen, web):
        asked = question(contact())
        with pytest.raises(Refused) as refused:
            judge(asked, await authzen.check(asked))
        assert refused.value.code is code
        assert {line for line, _ in web.asked} <= {"POST /pdp/access/v1/evaluation HTTP/1.1"}


@pytest.mark.parametrize(
    ("evaluations", "code"),
    [
        ([], Code.PDP_MISMATCH),
        ([{"decision": True}], Code.PDP_MISMATCH),
        ([{"decision": True}] * 3, Code.PDP_MISMATCH),
        ([{"decision": True}, {"decision": "false"}], Code.PDP_BAD_ANSWER),
        ([{"decision": True}, True], Code.PDP_BAD_ANSWER),
        ({"0": {"decision": True}}, Code.PDP_BAD_ANSWER),
        (None, Code.PDP_BAD_ANSWER),
    ],
)
async def test_evaluations_are_as_many_as_were_asked_for(evaluations: Any, code: Code) -> None:
    async with fake(json_answer({"decision": True, "evaluations": evaluations})) as (authzen, _):
        assert await refusal(authzen.check(question(contact(1), contact(2)))) is code


async def test_one_message_that_is_answered_for_another_request_makes_the_whole_a_mismatch() -> None:
    evaluations = {"evaluations": [{"decision": True}] * CALL}
    async with fake(json_answer(evaluations, 200, "X-Request-ID: other")) as (authzen, web):
        asked = question(*map(contact, range(2 * CALL)))
        with pytest.raises(Refused) as refused:
            judge(asked, await authzen.check(asked))
    assert refused.value.code is Code.PDP_MISMATCH
    assert len(web.asked) == 2


@pytest.mark.parametrize("context", [
    {"obligations": [{"id": "mask"}]}, {"obligations": {"mask": ["phone"]}}, {"obligations": "log"},
    {"Obligations": [{"Id": "mask"}]}, {"obligation": {"id": "mask"}, "reason": "x"},
])  # fmt: skip
async def test_an_allow_with_an_obligation_is_no_allow(context: Any) -> None:
    async with fake(json_answer({"decision": True, "context": context})) as (authzen, web):
        assert await refusal(authzen.check(question(contact()))) is Code.OBLIGATION_UNKNOWN
        web.behave = json_answer({"evaluations": [{"decision": True}, {"decision": True, "context": context}]})
        assert await refusal(authzen.check(question(contact(1), contact(2)))) is Code.OBLIGATION_UNKNOWN


@pytest.mark.parametrize("beside", [{"obligations": [{"id": "mask"}]}, {"context": {"obligations": ["log"]}}])
async def test_an_obligation_counts_wherever_it_stands(beside: dict[str, Any]) -> None:
    """In the context, beside the decision, and beside the list of all evaluations."""
    async with fake(json_answer({"decision": True, **beside})) as (authzen, web):
        assert await refusal(authzen.check(question(contact()))) is Code.OBLIGATION_UNKNOWN
        web.behave = json_answer({"evaluations": [{"decision": True, **beside}, {"decision": False}]})
        assert await refusal(authzen.check(question(contact(1), contact(2)))) is Code.OBLIGATION_UNKNOWN
        web.behave = json_answer({"evaluations": [{"decision": True}, {"decision": True}], **beside})
        assert await refusal(authzen.check(question(contact(1), contact(2)))) is Code.OBLIGATION_UNKNOWN


@pytest.mark.parametrize(("decision", "context"), [
    (True, {"obligations": []}), (True, {"obligations": None}), (True, {"advice": [{"id": "x"}]}),
    (False, {"obligations": [{"id": "mask"}]}),
])  # fmt: skip
async def test_no_obligation_advice_and_a_deny_are_what_they_say(decision: bool, context: Any) -> None:
    async with fake(json_answer({"decision": decision, "context": context})) as (authzen, _):
        assert judge(question(contact()), await authzen.check(question(contact()))) == [decision]


async def test_messages_are_cut_by_bytes(cerbos: RealCerbos) -> None:
    """Each of these alone is decided, and all of them are beyond what Cerbos takes at once."""
    notes = "n" * 90_000
    asked = question(*(Resource("contact", str(n), "read", {"owner": "alice", "notes": notes}) for n in range(60)))
    assert max(sum(len(item.encoded) for item in call) for call in calls_for(asked.resources)) <= MAX_CALL
    long = [Resource("contact", "é" * 9000 + str(n), "read", {"owner": "alice"}) for n in range(20)]
    async with client(cerbos.authzen, timeout=10.0) as authzen:
        assert judge(asked, await authzen.check(asked)) == [True] * 60
        assert judge(question(*long), await authzen.check(question(*long))) == [True] * 20


async def test_a_question_that_nobody_takes_is_the_clients_fault() -> None:
    async with fake(json_answer({"decision": True})) as (authzen, web):
        huge = Resource("contact", "1", "read", {"owner": "alice", "notes": "n" * 5_000_000})
        assert await refusal(authzen.check(question(huge))) is Code.REFERENCE_INVALID
    assert not web.asked


# --- when it fails ---


async def test_a_kept_connection_that_died_is_no_fault() -> None:
    """A server may close an idle connection at the moment in which we use it: an evaluation changes nothing."""
    async with Web(json_answer({"decision": True})) as web, client(f"authzen+{web.origin}") as authzen:
        await authzen.check(question(contact()))

        async def dies_once(writer: asyncio.StreamWriter) -> None:
            web.behave = json_answer({"decision": True})
            writer.close()

        web.behave = dies_once
        assert (await authzen.check(question(contact()))).results[0].effects == {"read": ALLOW}
        assert web.connections == 2


async def test_one_that_does_not_answer_is_left_alone_and_looked_at_again() -> None:
    clock = Clock()
    async with fake(cut(), now=clock) as (authzen, web):
        for _ in range(5):
            assert await refusal(authzen.check(question(contact()))) is Code.PDP_UNAVAILABLE
        asked = web.connections
        assert await refusal(authzen.check(question(contact()))) is Code.PDP_OPEN
        assert web.connections == asked
        web.behave = json_answer({"decision": False})
        clock.advance(2.1)
        assert (await authzen.check(question(contact()))).results[0].effects == {"read": DENY}


async def test_one_that_refuses_questions_is_there() -> None:
    async with fake(json_answer({}, 500)) as (authzen, _):
        for _ in range(7):
            assert await refusal(authzen.check(question(contact()))) is Code.PDP_STATUS


async def test_so_many_calls_at_once_and_no_more() -> None:
    gate = asyncio.Event()
    async with fake(held(gate, json_answer({"decision": True})), limit=4) as (authzen, web):
        running = [asyncio.ensure_future(authzen.check(question(contact()))) for _ in range(6)]
        while len(web.asked) < 2:
            await asyncio.sleep(0.001)
        assert await refusal(authzen.check(question(contact()))) is Code.PDP_BUSY
        # another's places are free
        other = question(contact())._replace(principal=ALICE._replace(id="bob"))
        running.append(asyncio.ensure_future(authzen.check(other)))
        while len(web.asked) < 3:
            await asyncio.sleep(0.001)
        gate.set()
        assert len(await asyncio.gather(*running)) == 7


# --- readiness ---

METADATA = {
    "policy_decision_point": "https://pdp.example",
    "access_evaluation_endpoint": "https://pdp.example/pdp/access/v1/evaluation",
}


@pytest.mark.parametrize(
    ("behave", "serving"),
    [
        (json_answer(METADATA), True),
        (json_answer({}, 404), True),
        (json_answer({}, 405), True),
        (json_answer({}, 401), False),
        (json_answer({}, 403), False),
        (json_answer({}, 500), False),
        (json_answer({}, 503), False),
        (json_answer({}, 302, "Location: /"), False),
        (json_answer({}), False),
        (json_answer({"access_evaluation_endpoint": "https://pdp.example/other"}), False),
        (json_answer({"access_evaluation_endpoint": 7}), False),
        (answer(200, b"<html>", kind="text/html"), False),
        (cut(), False),
        (silence, False),
    ],
)
async def test_serving_is_what_its_metadata_tells(behave: Behave, serving: bool) -> None:
    async with fake(behave, timeout=0.2, token="secret") as (authzen, web):
        assert await authzen.serving() is serving
        assert web.asked[0][0] == "GET /.well-known/authzen-configuration/pdp HTTP/1.1"
        assert web.asked[0][1]["authorization"] == "Bearer secret"


async def test_nobody_there_is_not_serving() -> None:
    async with client(f"authzen+http://127.0.0.1:{free_port()}") as authzen:
        assert not await authzen.serving()


def test_targets() -> None:
    https = Origin("https", "pdp.example", 443)
    assert Target.parse("authzen+https://pdp.example") == (https, "")
    assert Target.parse("authzen+https://pdp.example/stores/x/") == (https, "/stores/x")
    assert Target.parse("authzen+http://[::1]:8181") == (Origin("http", "::1", 8181), "")
    assert Target.parse("authzen+unix:/run/pdp.sock") == (Origin("unix", path="/run/pdp.sock"), "")
    with pytest.raises(ValueError, match="expected"):
        Target.parse("authzen+ftp://pdp.example")
