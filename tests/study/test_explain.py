"""Claims in place of a token, and a PDP that remembers; the whole is tested with `sidecar explain` in test_cli.py."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.routes.file import read_routes
from sidecar.gate.claims import Claim
from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Resource, Result
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.identity import Issuer, Principal, PrincipalRules, Tokens
from sidecar.gate.lookup import Call, Reply
from sidecar.gate.mode import Mode
from sidecar.gate.protected import Protected
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.verdict import Refuse, Refused
from sidecar.study.explain import GivenClaims, _asked, default_host, explain
from sidecar.study.recording import RecordingPDP
from tests.fakes import OneByOne

REQUEST = read(Raw("GET", b"/", [(b"host", b"x")], "", "http", "r"), Reading())


async def test_given_claims_make_a_principal_by_the_same_rules() -> None:
    principal = await GivenClaims(
        {"cognito:groups": ["user"], "email": "e@x"}, PrincipalRules(attributes={"mail": Claim("email")})
    ).principal_of(REQUEST, 0.0)
    assert (principal.id, principal.roles, principal.attributes) == ("anonymous", ("user",), {"mail": "e@x"})


async def test_given_claims_that_no_token_could_have_are_refused() -> None:
    with pytest.raises(Refused):
        await GivenClaims({"sub": "a\r\nb"}, PrincipalRules()).principal_of(REQUEST, 0.0)


@pytest.mark.parametrize(
    ("claims", "passes"),
    [
        ({}, True), ({"client_id": "web"}, True), ({"client_id": "job"}, True), ({"client_id": "other"}, False),
        ({"client_id": ["web"]}, False), ({"client_id": "web", "iss": "https://a"}, True),
        ({"client_id": "job", "iss": "https://a"}, False), ({"client_id": "job", "iss": "https://nobody"}, True),
    ],
)  # fmt: skip
async def test_given_claims_are_of_an_app_client_whose_tokens_are_taken(claims: dict[str, Any], passes: bool) -> None:
    async def no_key(issuer: str, kid: str) -> Any:
        raise AssertionError("no token is verified")

    issuers = {name: Issuer(name, frozenset([client])) for name, client in (("https://a", "web"), ("https://b", "job"))}
    trusted = Tokens(issuers, PrincipalRules(), no_key, by_host={"b.test": {"https://b": issuers["https://b"]}})
    given = GivenClaims(claims, PrincipalRules(), trusted)
    if passes:
        await given.at("a.test").principal_of(REQUEST, 0.0)
    else:
        with pytest.raises(Refused, match="expected an app client whose tokens are taken"):
            await given.at("a.test").principal_of(REQUEST, 0.0)
    if claims.get("client_id") == "web":
        with pytest.raises(Refused):
            await given.at("b.test").principal_of(REQUEST, 0.0)


async def test_given_claims_need_no_audience_and_a_wrong_one_is_refused() -> None:
    for aud, passes in (({}, True), ({"aud": "https://a/mcp"}, True), ({"aud": "https://b"}, False)):
        claims = GivenClaims(aud, PrincipalRules())
        principal = await claims.principal_of(REQUEST, 0.0)
        claims.require_audience(principal, None)
        try:
            claims.require_audience(principal, Protected("https://a/mcp"))
        except Refused:
            assert not passes
        else:
            assert passes


@pytest.mark.parametrize(
    ("claims", "remedy"),
    [
        (None, ["remedy     say who asks: --claims with the claims of a token, or --token with a token"]),
        ({"sub": "a"}, ["remedy     put the user into a group, or set `defaults.roles`"]),
        ({"sub": "a", "cognito:groups": ["user"]}, []),
    ],
)
async def test_a_principal_that_is_left_out_is_told_with_what_to_do(
    claims: dict[str, object] | None, remedy: list[str]
) -> None:
    class Nobody(GivenClaims):
        async def principal_of(self, *_: object) -> Principal:
            raise Refused(Code.TOKEN_MISSING)

    who = Nobody({}, PrincipalRules()) if claims is None else GivenClaims(claims, PrincipalRules())
    table = read_routes("version: 1\nroutes: [{path: /x, resource: r, actions: {GET: a}}]\n", "r", {}).table
    pdp = RecordingPDP(AllowedOf())
    gate = Gate(Rules(table, {}, who, Reading()), None, pdp, now=lambda: 0.0, timer=lambda: 0.0)  # type: ignore[arg-type]
    _, lines = await explain(gate, pdp, Raw("GET", b"/x", [(b"host", b"x")], "", "http", "r"), b"")
    assert [line for line in lines if line.startswith("remedy")] == remedy


async def test_the_scope_is_told_where_there_is_one() -> None:
    principal = await GivenClaims({}, PrincipalRules()).principal_of(REQUEST, 0.0)
    for scope, told in (("acme", ["scope      acme"]), ("", [])):
        lines = _asked(Question("r", principal, (Resource("doc", "1", "read", {}, (), scope),)))
        assert [line for line in lines if line.startswith("scope")] == told


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ("attributes: {o: '{query.owner}'}", ["query      the rule depends on owner, and any other parameter passes"]),
        ("attributes: {o: '{query.owner}'}, query: [owner]", []),
        (
            "set_query: {tenant: '{principal.id}'}",
            [
                "query      the rule depends on tenant, and any other parameter passes",
                "sent       /x?owner=b&tenant=anonymous",
            ],
        ),
        ("query: [owner], set_query: {tenant: '{principal.id}'}", ["sent       /x?owner=b&tenant=anonymous"]),
    ],
)
async def test_an_open_query_and_a_set_one_are_told(route: str, told: list[str]) -> None:
    table = read_routes(
        f"version: 1\nroutes: [{{path: /x, resource: r, actions: {{GET: a}}, {route}}}]\n", "r", {}
    ).table
    claims = GivenClaims({"cognito:groups": ["user"]}, PrincipalRules())

    class PDP:
        async def check(self, question: Question) -> PdpAnswer:
            return PdpAnswer(question.request_id, "call", (Result("r", "-", {"a": ALLOW}),))

    pdp = RecordingPDP(PDP())
    gate = Gate(Rules(table, {}, claims, Reading()), None, pdp, now=lambda: 0.0, timer=lambda: 0.0)  # type: ignore[arg-type]
    _, lines = await explain(gate, pdp, Raw("GET", b"/x?owner=b", [(b"host", b"x")], "", "http", "r"), b"")
    assert [line for line in lines if line.startswith(("query ", "sent "))] == told


class AllowedOf:
    """A PDP that allows on each contact the actions that it is told, and lists and everything else."""

    def __init__(self, **allowed: str) -> None:
        self.allowed = allowed

    async def check(self, question: Question) -> PdpAnswer:
        results = []
        for each in question.resources:
            allowed = self.allowed.get(f"_{each.id}", "list read view")
            actions = (each.action, *each.more_actions)
            effects = {action: ALLOW if action in allowed else DENY for action in actions}
            results.append(Result(each.kind, each.id, effects, False, dict.fromkeys(actions, f"resource.{each.kind}")))
        return PdpAnswer(question.request_id, "call", tuple(results))


LISTS = """\
version: 1
routes:
  - path: /list
    resource: contact
    actions: {GET: list}
    items: {at: data.rows, id: id, attributes: {owner: owner, tag: tag}, optional: [tag], fields: {phone: view, a.b: see}}
  - {path: "/one/{id}", resource: contact, id: "{path.id}", actions: {GET: read}, fields: {phone: view, name: read}}
  - {path: /plain, resource: contact, actions: {GET: list}}
"""


async def told(path: str, answer: str | None, **allowed: str) -> list[str]:
    """The lines about the answer, and the verdict."""
    table = read_routes(LISTS, "r", {}).table
    claims, pdp = GivenClaims({"cognito:groups": ["user"]}, PrincipalRules()), RecordingPDP(AllowedOf(**allowed))
    gate = Gate(Rules(table, {}, claims, Reading()), None, pdp, now=lambda: 0.0, timer=lambda: 0.0)  # type: ignore[arg-type]
    raw = Raw("GET", path.encode(), [(b"host", b"x")], "", "http", "r", holds_answer=True)
    _, lines = await explain(gate, pdp, raw, b"", answer.encode() if answer is not None else None)
    return lines[lines.index("           derived roles (none)") + 1 :] if len(lines) > 6 else lines


ROWS = '{"data": {"rows": [{"id": 1, "owner": "a"}, {"id": 2, "owner": "b"}, {"id": 3, "owner": "c", "phone": 5}]}}'


async def test_a_statement_is_told_with_the_names_of_its_parameters_alone() -> None:
    text = (
        "version: 1\nlookups: {doc: {sql: 'select o from docs where id = :id and org = :org', database: DOCS_URL, "
        "parameters: {id: '{id:int}', org: '{principal.id}'}, attributes: {owner: o}}}\n"
        "routes: [{path: '/{id}', resource: r, id: '{path.id}', lookup: doc, actions: {GET: a}}]\n"
    )
    routes = read_routes(text, "r", {"DOCS_URL": "postgresql://reader:s3cret@db.internal/app"})
    claims = GivenClaims({"cognito:groups": ["user"], "sub": "mallory"}, PrincipalRules())

    class Sources(OneByOne):
        async def ask(self, call: Call) -> Reply:
            return Reply(200, "application/json", b'{"o": "alice"}')

    class PDP:
        async def check(self, question: Question) -> PdpAnswer:
            return PdpAnswer(question.request_id, "call", (Result("r", "7", {"a": ALLOW}),))

    pdp = RecordingPDP(PDP())
    gate = Gate(
        Rules(routes.table, routes.lookups, claims, Reading()), Sources(), pdp, now=lambda: 0.0, timer=lambda: 0.0
    )  # fmt: skip
    _, lines = await explain(gate, pdp, Raw("GET", b"/7", [(b"host", b"x")], "", "http", "r"), b"")
    assert "lookup     doc: DOCS_URL: select o from docs where id = :id and org = :org (:id int, :org)" in lines
    assert "s3cret" not in str(lines)
    assert [line.split()[0] for line in lines if line.split()[0] in ("resource", "lookup", "roles", "pdp", "verdict")] == [
        "resource", "lookup", "roles", "resource", "pdp", "verdict",
    ]  # fmt: skip
    # what is refused before asks nobody
    _, lines = await explain(gate, RecordingPDP(PDP()), Raw("PUT", b"/7", [(b"host", b"x")], "", "http", "r"), b"")
    assert not [line for line in lines if line.startswith("lookup")]
    nobody = GivenClaims({"sub": "a\r\nb"}, PrincipalRules())
    gate = Gate(
        Rules(routes.table, routes.lookups, nobody, Reading()), Sources(), pdp, now=lambda: 0.0, timer=lambda: 0.0
    )  # fmt: skip
    _, lines = await explain(gate, pdp, Raw("GET", b"/7", [(b"host", b"x")], "", "http", "r"), b"")
    assert not [line for line in lines if line.startswith("lookup")]


async def test_a_list_is_told_item_by_item() -> None:
    rule = [
        "items      contact, action read, each of the list at data.rows, attributes owner, tag?",
        "fields     phone by view, a.b by see",
    ]
    assert await told("/list", ROWS, _1="read view see", _2="view", _3="read") == [
        *rule,
        "item       1 kept; policy resource.contact",
        "item       2 dropped; policy resource.contact",
        "item       3 kept without phone, a.b; policy resource.contact",
        "answer     2 of 3 items, 1 without fields, 70 of 107 bytes, questions 1",
        "verdict    FORWARD allowed",
    ]
    assert await told("/list", None) == [
        *rule,
        "answer     the app's answer decides what is shown: give one with --answer FILE",
        "verdict    FORWARD allowed",
    ]
    assert (await told("/list", '{"data": {"rows": [{"id": 1}]}}'))[2:] == [
        "answer     31 bytes, of which nothing goes out",
        "verdict    REFUSE items_unreadable (items[0]: attributes.owner: found nothing)",
    ]


async def test_items_that_are_looked_up_are_told_with_those_that_are_missing() -> None:
    text = (
        "version: 1\nlookups: {doc: {sql: 'select id, o from docs where id in :ids', database: DOCS_URL, batch: true, "
        "attributes: {owner: o}}}\n"
        "routes: [{path: /list, resource: r, actions: {GET: list}, items: {at: '@', id: id, lookup: doc}}]\n"
    )
    routes = read_routes(text, "r", {"DOCS_URL": "sqlite:///docs.db"})
    claims = GivenClaims({"cognito:groups": ["user"]}, PrincipalRules())

    class Sources(OneByOne):
        async def ask(self, call: Call) -> Reply:
            return Reply(200 if call.resource_id == "1" else 404, "application/json", b'{"id": "1", "o": "alice"}')

    pdp = RecordingPDP(AllowedOf(_1="read"))
    gate = Gate(
        Rules(routes.table, routes.lookups, claims, Reading()), Sources(), pdp, now=lambda: 0.0, timer=lambda: 0.0
    )  # fmt: skip
    raw = Raw("GET", b"/list", [(b"host", b"x")], "", "http", "r", holds_answer=True)
    _, lines = await explain(gate, pdp, raw, b"", b'[{"id": 1}, {"id": 2}]')
    assert lines[-6:] == [
        "items      r, action read, each of the list at @, lookup doc",
        "lookup     doc: DOCS_URL: select id, o from docs where id in :ids (:ids)",
        "item       1 kept; policy resource.r",
        "item       2 dropped; a lookup does not have it",
        "answer     1 of 2 items, 0 without fields, 11 of 22 bytes, questions 1",
        "verdict    FORWARD allowed",
    ]
    _, lines = await explain(gate, pdp, raw, b"")
    assert not [line for line in lines if line.startswith("lookup")]
    _, lines = await explain(gate, RecordingPDP(AllowedOf()), raw, b"", b'[{"id": 2}]')
    assert lines[-2] == "answer     0 of 1 items, 0 without fields, 2 of 11 bytes, questions 0"


async def test_an_answer_about_one_thing_is_told_by_its_fields() -> None:
    assert await told("/one/7", '{"name": "x", "phone": 5}', _7="read") == [
        "fields     phone by view, name by read",
        "hidden     phone",
        "answer     13 of 25 bytes, questions 0",
        "verdict    FORWARD allowed",
    ]
    assert (await told("/one/7", "[]"))[1:] == [
        "answer     2 bytes, of which nothing goes out",
        "verdict    REFUSE items_unreadable (fields: found another value, expected an object)",
    ]


async def test_an_answer_that_no_rule_is_for_goes_out_as_it_comes() -> None:
    assert await told("/plain", "nothing of JSON") == [
        "answer     goes out as it comes: the route has no `items` and no `fields`",
        "verdict    FORWARD allowed",
    ]
    assert await told("/plain", None) == ["verdict    FORWARD allowed"]


MODES = """\
version: 1
routes:
  - {path: /some, resource: r, actions: {GET: a}, mode: {enforce: 10%, otherwise: shadow}}
  - {path: /plain, resource: r, actions: {GET: a}}
"""
ALICE, BOB = {"sub": "alice", "cognito:groups": ["user"]}, {"sub": "bob", "cognito:groups": ["user"]}
SOME = "mode       enforce for 10%, otherwise shadow"


@pytest.mark.parametrize(
    ("path", "claims", "mode", "line"),
    [
        ("/plain", ALICE, "enforce", []),
        ("/plain", ALICE, "shadow", ["mode       shadow, which forwards it and records the refusal"]),
        ("/some", ALICE, "shadow", [f"{SOME}: enforce for this request"]),
        ("/some", BOB, "enforce", [f"{SOME}: shadow for this request, which forwards it and records the refusal"]),
        ("/a/../b", ALICE, "shadow-policy", ["mode       shadow-policy"]),
        ("/none", ALICE, "shadow-policy", ["mode       shadow-policy, which forwards it and records the refusal"]),
    ],
)
async def test_the_mode_is_told_where_it_is_not_the_enforcing_one_and_the_verdict_as_if_it_were(
    path: str, claims: dict[str, object], mode: Mode, line: list[str]
) -> None:
    tokens, pdp = GivenClaims(claims, PrincipalRules()), RecordingPDP(AllowedOf(**{"_-": ""}))
    rules = Rules(read_routes(MODES, "r", {}).table, {}, tokens, Reading())
    gate = Gate(rules, None, pdp, now=lambda: 0.0, timer=lambda: 0.0)  # type: ignore[arg-type]
    raw = Raw("GET", path.encode(), [(b"host", b"x")], "", "http", "r")
    verdict, lines = await explain(gate, pdp, raw, b"", None, mode)
    assert [one for one in lines if one.startswith("mode ")] == line
    assert lines[-1].startswith("verdict    REFUSE")
    assert isinstance(verdict, Refuse)


def test_a_request_that_names_no_host_is_at_one_that_has_its_path() -> None:
    table = read_routes(
        "version: 1\nroutes:\n  - {path: /a, access: public, hosts: [a.test, 'b.test:8443']}\n"
        "  - {path: /c, access: public, hosts: '*.c.test'}\n",
        "routes.yaml", {},
    ).table  # fmt: skip
    hosts = {b"/a?x=1": "a.test", b"/c": "any.c.test", b"/nowhere": "any.c.test", b"/../a": "any.c.test"}
    assert {target: default_host(table, None, target) for target in hosts} == hosts
    assert default_host(table, frozenset(["b.test:8443", "x.test"]), b"/a") == "b.test:8443"
    plain = read_routes("version: 1\nroutes: [{path: /a, access: public}]\n", "routes.yaml", {}).table
    assert default_host(plain, None, b"/a") == "localhost"
    assert default_host(plain, frozenset(["*.x.test"]), b"/a") == "any.x.test"
