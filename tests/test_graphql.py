"""GraphQL through the gate to a server of others: what was decided is what was executed."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest

from sidecar.doors.refusal import Refusals
from sidecar.gate.body import Show, Viewer
from sidecar.gate.codes import Code, Ground
from sidecar.gate.decision import Resource
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.request import Raw, Reading
from sidecar.gate.verdict import EachAsked, Forward, Refuse, Verdict
from tests.config.routes.reading import read_once
from tests.gate.test_each import NOW, TOKEN, World
from tests.graphql_app import EXECUTED, Call, app
from tests.tokens import CLIENT, ISSUER

ROUTES = """\
version: 1
lookups:
  contact: {url: "http://hook/contacts/{id}", attributes: {owner: o}}
routes:
  - path: /graphql
    resource: contact
    graphql:
      batch: 3
      get: true
      max_fields: 50
      max_aliases: 100
      Query.contact: {id: "{args.id}", action: read}
      Query.contacts: {attributes: {owner: "{args.owner?}", limit: "{args.limit:int?}"}, action: list}
      Query.search: {attributes: {owner: "{args.filter.owner}", tags: "{args.filter.tags:list?}"}, action: search}
      Mutation.deleteContact: {id: "{args.id}", action: delete}
      Mutation.createContact: {attributes: {owner: "{args.input.owner}", name: "{args.input.name}"}, action: create}
  - {path: /looked-up, resource: contact, graphql: {Query.contact: {id: "{args.id:int}", lookup: contact, action: read}}}
"""
JSON = ((b"content-type", b"application/json"),)
RAW = Raw("POST", b"/graphql", [(b"host", b"a")], "10.0.0.1", "http", "r1")


def gate_of(world: World) -> Gate:
    read = read_once(ROUTES)
    tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), world.find)
    rules = Rules(read.table, read.lookups, tokens, Reading(), world.cache)
    return Gate(rules, world, world, now=lambda: NOW, timer=lambda: 0.0, mode="enforce")


async def send(
    world: World, body: Any, path: bytes = b"/graphql", *, method: str = "POST", headers: Any = JSON
) -> Verdict:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = [(b"host", b"a"), (b"authorization", b"Bearer " + TOKEN), (b"content-length", b"%d" % len(data))]

    async def whole(limit: int, show: Show, viewer: Viewer) -> None:
        show(data)

    return await gate_of(world).decide(Raw(method, path, [*own, *headers], "10.0.0.1", "http", "r1"), whole)


def asked(world: World) -> list[Resource]:
    return [resource for question in world.questions for resource in question.resources]


async def test_each_root_field_is_asked_about_in_one_question() -> None:
    world = World()
    text = 'query Q($i:ID!){a:contact(id:$i){name} contact(id:7){id} ...F} fragment F on Query{contacts(owner:"x"){id} __typename}'
    verdict = await send(world, {"query": text, "variables": {"i": 8}, "operationName": "Q"})
    assert isinstance(verdict, Forward)
    assert verdict.ground is Ground.ALLOWED
    assert len(world.questions) == 1
    assert asked(world) == [
        Resource("contact", "8", "read", {}), Resource("contact", "7", "read", {}), Resource("contact", "-", "list", {"owner": "x"}),
    ]  # fmt: skip
    assert verdict.facts.each == EachAsked(
        ("Query.contact as a", "Query.contact", "Query.contacts"), (), (True, True, True)
    )


async def test_a_field_that_is_denied_refuses_the_request_and_the_log_names_it() -> None:
    world = World()
    world.denied = {"7"}
    verdict = await send(world, {"query": "{a:contact(id:6){id} b:contact(id:7){id}}"})
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.DENIED_BY_POLICY
    assert verdict.facts.each is not None
    assert verdict.facts.each.denied == ("Query.contact as b",)
    alone = await send(world, {"query": '{contact(id:"7"){id}}'})
    assert isinstance(alone, Refuse)
    assert (alone.code, alone.facts.kind, alone.facts.resource_id, alone.facts.action) == (
        Code.DENIED_BY_POLICY,
        "contact",
        "7",
        "read",
    )


@pytest.mark.parametrize(
    "spelling", ['id:"7"', "id:7", 'id:"\\u0037"', 'id:"""7"""', "id:$i", "id:$j", "id:$k", "id:$l"]
)
async def test_an_id_has_one_text_however_it_is_written(spelling: str) -> None:
    world = World()
    text = f'query($i:ID=0,$j:ID=0,$k:ID=7,$l:ID="7"){{contact({spelling}){{id}}}}'
    for path in (b"/graphql", b"/looked-up"):
        assert isinstance(await send(world, {"query": text, "variables": {"i": "7", "j": 7}}, path), Forward)
    assert [(one.kind, one.id) for one in asked(world)] == [("contact", "7")] * 2
    assert [call.resource_id for call in world.calls] == ["7"]


@pytest.mark.parametrize(
    "value", ['"07"', '" 7"', '"+7"', '"7.0"', "7.0", "7e0", "[7]", "{a:7}", "true", "null", "$i", "9007199254740993", '""', '"\uff17"'],
)  # fmt: skip
async def test_an_id_that_a_server_may_read_otherwise_is_refused(value: str) -> None:
    world = World()
    verdict = await send(world, {"query": f"query($i:ID){{contact(id:{value}){{id}}}}"}, b"/looked-up")
    assert isinstance(verdict, Refuse)
    assert verdict.code is Code.BODY_INVALID
    assert world.questions == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"query": "{secret}"}, Code.OPERATION_UNMAPPED), ({"query": "{contact(id:1){id} secret}"}, Code.OPERATION_UNMAPPED),
        ({"query": "{contact:secret}"}, Code.OPERATION_UNMAPPED), ({"query": "{secret @skip(if:true) contact(id:1){id}}"}, Code.OPERATION_UNMAPPED),
        ({"query": "{...F} fragment F on Nothing{secret}"}, Code.OPERATION_UNMAPPED), ({"query": "mutation{contact(id:1){id}}"}, Code.OPERATION_UNMAPPED),
        ({"query": "subscription{contact(id:1){id}}"}, Code.OPERATION_UNMAPPED), ({"query": "{__schema{types{name}}}"}, Code.OPERATION_UNMAPPED),
        ({"query": "{_entities(representations:[]){id}}"}, Code.OPERATION_UNMAPPED), ({"query": '{node(id:"x"){id}}'}, Code.OPERATION_UNMAPPED),
        ([{"query": "{contact(id:1){id}}"}, {"query": "{secret}"}], Code.OPERATION_UNMAPPED), ([{"query": "{contact(id:1){id}}"}] * 4, Code.BODY_INVALID),
        (b'{"query":"{contact(id:1){id}}","query":"{secret}"}', Code.BODY_INVALID), (b'{"query":"{contact(id:1){id}}","Query":"{secret}"}', Code.BODY_INVALID),
        (b'\xef\xbb\xbf{"query":"{contact(id:1){id}}"}', Code.BODY_INVALID), (b"{contact(id:1){id}}", Code.BODY_INVALID), (b"", Code.BODY_INVALID),
        (b'{"query":"query($i:ID!){contact(id:$i){id}}","variables":{"i":1,"i":2}}', Code.BODY_INVALID),
        (b'{"query":"query($i:ID!){contact(id:$i){id}}","variables":{"i":1,"I":2}}', Code.BODY_INVALID),
        ({"query": "{search(filter:{owner:1,OWNER:2}){id}}"}, Code.BODY_INVALID), ({"query": "{search(filter:{Owner:2}){id}}"}, Code.BODY_INVALID),
        ({"query": "{contacts(Owner:2){id}}"}, Code.BODY_INVALID),
    ],
)  # fmt: skip
async def test_what_is_not_named_or_not_read_in_one_way_is_refused_before_anybody_is_asked(
    body: Any, code: Code
) -> None:
    world = World()
    verdict = await send(world, body)
    assert isinstance(verdict, Refuse)
    assert verdict.code is code
    assert world.questions == []


@pytest.mark.parametrize(
    ("method", "told"),
    [("GET", "`graphql.get` is off: queries come by POST alone"), ("HEAD", "`graphql.get` is off"), ("PUT", "")],
)
async def test_a_query_by_get_where_it_is_off_says_so(method: str, told: str) -> None:
    verdict = await send(World(), b"", b"/looked-up?query=%7Bsecret%7D", method=method, headers=())
    assert isinstance(verdict, Refuse)
    assert (verdict.code, verdict.methods) == (Code.METHOD_UNMAPPED, ("POST",))
    assert (verdict.detail.startswith(told), bool(verdict.detail)) == (True, bool(told))


@pytest.mark.parametrize(
    ("method", "path", "headers", "code"),
    [
        ("GET", b"/looked-up?query=%7Bsecret%7D", (), Code.METHOD_UNMAPPED), ("HEAD", b"/graphql?query=%7Bsecret%7D", (), Code.OPERATION_UNMAPPED), ("DELETE", b"/graphql", (), Code.METHOD_UNMAPPED),
        ("PUT", b"/graphql", JSON, Code.METHOD_UNMAPPED), ("POST", b"/graphql?query=%7Bsecret%7D", JSON, Code.QUERY_NOT_ALLOWED),
        ("POST", b"/graphql?operationName=B", JSON, Code.QUERY_NOT_ALLOWED), ("POST", b"/graphql?x", JSON, Code.QUERY_NOT_ALLOWED),
        ("POST", b"/graphql", (), Code.BODY_TYPE_UNSUPPORTED), ("POST", b"/graphql", [(b"content-type", b"application/graphql")], Code.BODY_TYPE_UNSUPPORTED),
        ("POST", b"/graphql", [(b"content-type", b"multipart/form-data; boundary=x")], Code.BODY_TYPE_UNSUPPORTED),
        ("POST", b"/graphql", [(b"content-type", b"application/x-www-form-urlencoded")], Code.BODY_TYPE_UNSUPPORTED),
        ("POST", b"/graphql", [(b"content-type", b"text/plain")], Code.BODY_TYPE_UNSUPPORTED),
        ("POST", b"/graphql", [*JSON, (b"content-encoding", b"gzip")], Code.BODY_TYPE_UNSUPPORTED),
    ],
)  # fmt: skip
async def test_a_document_comes_in_the_json_body_of_a_post_and_nowhere_else(
    method: str, path: bytes, headers: Any, code: Code
) -> None:
    body = b"" if method in ("GET", "HEAD", "DELETE") else {"query": "{contact(id:1){id}}"}
    verdict = await send(World(), body, path, method=method, headers=headers)
    assert isinstance(verdict, Refuse)
    assert verdict.code is code


def by_url(**said: Any) -> bytes:
    """A request in a URL, as clients write it: what is no text is JSON."""
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in said.items()}
    return b"/graphql?" + urlencode(texts).encode()


async def get(world: World, path: bytes, headers: Any = ()) -> Verdict:
    """The verdict about a GET, of which no door is asked for a body."""

    async def nobody(limit: int, show: Show, viewer: Viewer) -> None:
        raise AssertionError("a GET has no body")

    own = [(b"host", b"a"), (b"authorization", b"Bearer " + TOKEN), *headers]
    return await gate_of(world).decide(Raw("GET", path, own, "10.0.0.1", "http", "r1"), nobody)


async def test_a_query_may_come_by_get_where_the_route_says_so() -> None:
    world = World()
    text = 'query Q($i:ID!){a:contact(id:$i){name} contacts(owner:"x y"){id}} mutation M{deleteContact(id:1)}'
    path = by_url(query=text, variables={"i": "8"}, operationName="Q", extensions={})
    verdict = await get(world, path)
    assert isinstance(verdict, Forward)
    # byte for byte as it came
    assert verdict.target == path
    assert asked(world) == [Resource("contact", "8", "read", {}), Resource("contact", "-", "list", {"owner": "x y"})]
    world.denied = {"8"}
    denied = await get(world, path)
    assert isinstance(denied, Refuse)
    assert denied.code is Code.DENIED_BY_POLICY


ONE = quote("{contact(id:1){id}}").encode()


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (by_url(query="mutation{deleteContact(id:1)}"), Code.METHOD_UNMAPPED), (by_url(query="mutation{__typename}"), Code.METHOD_UNMAPPED),
        (by_url(query="subscription{contact(id:1){id}}"), Code.METHOD_UNMAPPED),
        (by_url(query="query Q{contact(id:1){id}} mutation M{deleteContact(id:1)}", operationName="M"), Code.METHOD_UNMAPPED),
        (by_url(query="{secret}"), Code.OPERATION_UNMAPPED), (by_url(query="{__schema{types{name}}}"), Code.OPERATION_UNMAPPED),
        (b"/graphql", Code.BODY_INVALID), (b"/graphql?query=", Code.BODY_INVALID), (b"/graphql?query", Code.BODY_INVALID),
        (b"/graphql?variables=%7B%7D", Code.BODY_INVALID), (b"/graphql?query=" + ONE + b"&query=" + ONE, Code.REFERENCE_INVALID),
        (b"/graphql?query=" + ONE + b"&%71uery=%7Bsecret%7D", Code.REFERENCE_INVALID), (b"/graphql?query=" + ONE + b"&Query=%7Bsecret%7D", Code.QUERY_NOT_ALLOWED),
        (b"/graphql?query=" + ONE + b"&query[]=%7Bsecret%7D", Code.QUERY_NOT_ALLOWED), (b"/graphql?query=" + ONE + b"&id=7", Code.QUERY_NOT_ALLOWED),
        (b"/graphql?query=" + ONE + b"&documentId=7", Code.QUERY_NOT_ALLOWED), (b"/graphql?query=" + ONE + b"&x=1", Code.QUERY_NOT_ALLOWED),
        (b"/graphql?query=" + ONE + b";query=%7Bsecret%7D", Code.QUERY_NOT_ALLOWED), (b"/graphql?query=" + ONE + b"%", Code.REFERENCE_INVALID),
        (b"/graphql?query=%FF", Code.REFERENCE_INVALID), (by_url(query="{contact(id:1){id}}", operationName=""), Code.BODY_INVALID),
        (by_url(query="{contact(id:1){id}}", variables=""), Code.BODY_INVALID), (by_url(query="{contact(id:1){id}}", variables="[]"), Code.BODY_INVALID),
        (by_url(query="query($i:ID){contact(id:$i){id}}", variables='{"i":1,"i":2}'), Code.BODY_INVALID),
        (by_url(query="query($i:ID){contact(id:$i){id}}", variables='"{\\"i\\":1}"'), Code.BODY_INVALID),
        (by_url(query="{contact(id:1){id}}", extensions={"persistedQuery": {"version": 1}}), Code.BODY_INVALID),
        (by_url(extensions={"persistedQuery": {"version": 1, "sha256Hash": "a"}}), Code.BODY_INVALID),
        (by_url(query='[{"query":"{secret}"}]'), Code.BODY_INVALID), (b"/graphql?" + quote('[{"query":"{secret}"}]').encode(), Code.QUERY_NOT_ALLOWED),
    ],
)  # fmt: skip
async def test_a_url_that_does_not_say_one_query_is_refused_before_anybody_is_asked(path: bytes, code: Code) -> None:
    world = World()
    verdict = await get(world, path)
    assert isinstance(verdict, Refuse)
    assert (verdict.code, world.questions) == (code, [])
    if code is Code.METHOD_UNMAPPED:
        made = Refusals().whole(verdict, verdict.code, RAW)
        assert (made.status, dict(made.headers)[b"allow"]) == (405, b"POST")


async def test_a_get_with_a_body_is_refused() -> None:
    for header in ((b"content-length", b"2"), (b"transfer-encoding", b"chunked")):
        verdict = await get(World(), by_url(query="{contact(id:1){id}}"), [header])
        assert isinstance(verdict, Refuse)
        assert verdict.code is Code.BODY_UNEXPECTED


async def test_what_asks_for_nothing_of_the_api_is_for_whoever_is_signed_in() -> None:
    world = World()
    verdict = await send(world, {"query": "{__typename}"})
    assert isinstance(verdict, Forward)
    assert (verdict.ground, world.questions) == (Ground.AUTHENTICATED, [])


# --- generated requests, and a real server ---

_SCALAR = ["1", "22", '"x"', '"1"', '"""x"""', '"\\u0078"']


def _argument(rng: Random, kind: str, values: list[str], declared: dict[str, str], variables: dict[str, Any]) -> str:
    """A value in one of the ways to write it: a literal, a variable, or one with a default."""
    way, value, name = rng.randrange(4), rng.choice(values), f"v{len(declared)}"
    if way < 2:
        return value
    default = f"={rng.choice(values)}" if way == 3 else ""
    declared[name] = f"${name}:{kind}{default}"
    if not default or rng.random() < 0.5:
        text = value.strip('"').replace("\\u0078", "x")
        variables[name] = text if value.startswith('"') or rng.random() < 0.5 else int(value)
        if kind == "Int":
            variables[name] = int(value)
    return f"${name}"


def _field(rng: Random, mutation: bool, declared: dict[str, str], variables: dict[str, Any]) -> str:
    def scalar(kind: str = "ID!") -> str:
        return _argument(rng, kind, _SCALAR, declared, variables)

    name = rng.choice(["deleteContact", "createContact"] if mutation else ["contact", "contacts", "search"])
    if name == "deleteContact":
        arguments, inner = f"(id:{scalar()})", ""
    elif name == "createContact":
        arguments, inner = f'(input:{{owner:{scalar()} name:"n"}})', "{id}"
    elif name == "contact":
        arguments, inner = f"(id:{scalar()})", "{...C colleague{id}}"
    elif name == "search":
        tags = rng.choice(["", ' tags:["a","b"]', " tags:[]"])
        arguments, inner = f"(filter:{{owner:{scalar()}{tags}}})", "{...C}"
    else:
        limit = _argument(rng, "Int", ["1", "2"], declared, variables) if rng.random() < 0.5 else ""
        arguments, inner = f"(limit:{limit})" if limit else f"(owner:{scalar('ID')})", "{id}"
    return (
        f"a{rng.randrange(10**6)}:{name}{arguments}{rng.choice(['', '', '@skip(if:true)', '@include(if:true)'])}{inner}"
    )


def generated(rng: Random) -> dict[str, Any]:
    """A valid request for the API, with fragments, aliases, directives and variables."""
    declared: dict[str, str] = {}
    variables: dict[str, Any] = {}
    mutation = rng.random() < 0.3
    root = "Mutation" if mutation else "Query"
    parts, fragments = [], ["fragment C on Contact{id name}"]
    used = False
    for number in range(rng.randint(1, 4)):
        field = _field(rng, mutation, declared, variables)
        used = used or "...C" in field
        way = rng.randrange(5)
        if way == 0:
            field = f"...on {root}{{{field}}}"
        elif way == 1:
            field = f"...@skip(if:{rng.choice(['true', 'false'])}){{{field}}}"
        elif way == 2:
            fragments.append(f"fragment F{number} on {root}{{...G{number}}} fragment G{number} on {root}{{{field}}}")
            field = f"...F{number}"
        parts.append(field)
    head = f"{root.lower()} Q" + (f"({','.join(declared.values())})" if declared else "")
    text = f"{head}{{{' '.join(parts)}}} " + " ".join(fragments if used else fragments[1:])
    request: dict[str, Any] = {"query": text, "operationName": "Q"}
    if variables:
        request["variables"] = variables
    return request


def as_resource(call: Call) -> tuple[str, str, str]:
    """What a resolver was called with, as a policy is asked about it."""
    field, arguments = call
    action = {
        "Query.contact": "read",
        "Query.contacts": "list",
        "Query.search": "search",
        "Mutation.deleteContact": "delete",
    }.get(field, "create")
    one = arguments.pop("id", "-")
    return action, one, json.dumps(arguments, sort_keys=True)


async def test_what_was_decided_by_a_url_is_what_a_server_executes() -> None:
    rng, executed, refused = Random(6), 0, 0
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        for _ in range(60):
            request, world = generated(rng), World()
            if "@skip(if:true)" in request["query"]:
                continue
            path = by_url(**request)
            verdict = await get(world, path)
            EXECUTED.clear()
            answer = await client.get(path.decode(), headers={"accept": "application/json"})
            if request["query"].startswith("mutation"):
                assert isinstance(verdict, Refuse)
                assert (verdict.code, EXECUTED) == (Code.METHOD_UNMAPPED, [])
                refused += 1
                continue
            assert isinstance(verdict, Forward), (request, verdict)
            assert "errors" not in answer.json(), (request, answer.json())
            decided = sorted((one.action, one.id, json.dumps(one.attributes, sort_keys=True)) for one in asked(world))
            assert sorted(map(as_resource, EXECUTED)) == decided, request
            executed += len(EXECUTED)
    assert executed > 20
    assert refused > 5


async def test_what_was_decided_is_what_a_server_executes() -> None:
    rng, executed, skipped = Random(5), 0, 0
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
        for _ in range(150):
            request, world = generated(rng), World()
            data = json.dumps(request).encode()
            verdict = await send(world, data)
            assert isinstance(verdict, Forward), (request, verdict)
            decided = sorted((one.action, one.id, json.dumps(one.attributes, sort_keys=True)) for one in asked(world))
            EXECUTED.clear()
            answer = await client.post("/graphql", content=data, headers={"content-type": "application/json"})
            assert "errors" not in answer.json(), (request, answer.json())
            found = sorted(map(as_resource, EXECUTED))
            if "@skip(if:true)" in request["query"]:
                skipped += 1
                for one in found:
                    decided.remove(one)
            else:
                executed += len(found)
                assert found == decided, request
    assert executed > 100
    assert skipped > 10


async def test_a_client_of_graphql_is_told_of_a_refusal_in_its_own_form() -> None:
    world, accept = World(), (b"accept", b"application/graphql-response+json, application/json;q=0.9")
    world.denied = {"7"}
    for text, code in (("{contact(id:7){id}}", "denied_by_policy"), ("{a:contact(id:6){id} contact(id:7){id}}", "denied_by_policy"),
                       ("{secret}", "operation_unmapped"), ("{contact(", "body_invalid"), ("{contact(id:true){id}}", "body_invalid")):  # fmt: skip
        verdict = await send(world, {"query": text}, headers=[*JSON, accept])
        assert isinstance(verdict, Refuse)
        made = Refusals().whole(verdict, verdict.code, RAW)
        assert dict(made.headers)[b"content-type"] == b"application/graphql-response+json"
        assert made.status == (400 if code == "body_invalid" else 403)
        assert json.loads(made.body)["errors"][0]["extensions"]["code"] == code
        problem = await send(world, {"query": text})
        assert isinstance(problem, Refuse)
        assert (
            dict(Refusals().whole(problem, problem.code, RAW).headers)[b"content-type"] == b"application/problem+json"
        )
