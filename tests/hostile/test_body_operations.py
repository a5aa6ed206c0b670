"""What a client can do by a body that says what is asked: have one operation decided on, and another one executed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

import grpc
import pytest
from cerbos.effect.v1 import effect_pb2
from cerbos.request.v1 import request_pb2

from tests.conftest import policies
from tests.faults.fakes import FakeCerbos, allowing
from tests.faults.test_faults import environment, token
from tests.stack import Got, Recorder, Sidecar, Web, reply, running_sidecar
from tests.tokens import key_set

ROUTES = """\
version: 1
routes:
  - {path: /mcp, mcp: {server: crm}}
  - path: /graphql
    resource: contact
    graphql:
      get: true
      Query.contact: {id: "{args.id}", action: read}
      Mutation.removeContact: {id: "{args.id}", action: delete}
"""
JSON = "application/json"


def denying(request: request_pb2.CheckResourcesRequest, _: grpc.ServicerContext) -> bytes:
    """Everything is allowed but what has the id `wipe` or 13, and what is called delete."""
    message = allowing(request)
    for result in message.results:
        for action in result.actions:
            if action == "delete" or result.resource.id.rpartition("/")[2] in ("wipe", "13"):
                result.actions[action] = effect_pb2.EFFECT_DENY
    return message.SerializeToString()


@dataclass
class World:
    """One sidecar before an app that would execute all that reaches it."""

    sidecar: Sidecar
    app: Recorder
    token: str

    def post(self, path: str, body: bytes, kind: str = JSON, **headers: str) -> Got:
        self.app.reset()
        return self.sidecar.request("POST", path, self.token, body, content_type=kind, **headers)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, cerbos, app = Web(), FakeCerbos(), Recorder()
    keys.json("/jwks", key_set())
    cerbos.check = denying
    environ = {**environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}"}
    where = f"http://127.0.0.1:{app.port}"
    with running_sidecar(tmp_path_factory.mktemp("operations"), ROUTES, policies(), where, environ) as sidecar:
        yield World(sidecar, app, token())
    for part in (keys, cerbos, app):
        part.close()


def call(name: str, **more: object) -> bytes:
    params = {"name": name, "arguments": {}}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params, **more}).encode()


WIPE = call("wipe")
FINE = call("fine")
MCP = {
    "as it is": WIPE,
    "a batch": b"[" + FINE + b"," + WIPE + b"]",
    "a batch of one": b"[" + WIPE + b"]",
    "two in a row": FINE + WIPE,
    "two lines": FINE + b"\n" + WIPE,
    "the name twice": FINE.replace(b'"arguments"', b'"name": "wipe", "arguments"'),
    "the name twice, escaped": FINE.replace(b'"arguments"', b'"n\\u0061me": "wipe", "arguments"'),
    "the name in other letters": FINE.replace(b'"arguments"', b'"Name": "wipe", "arguments"'),
    "the parameters twice": FINE[:-1] + b', "params": {"name": "wipe", "arguments": {}}}',
    "the method twice": FINE[:-1] + b', "method": "tools/call2"}',
    "escaped": WIPE.replace(b"wipe", b"w\\u0069pe"),
    "a zero byte": WIPE.replace(b"wipe", b"fine\\u0000wipe"),
    "a method in other letters": WIPE.replace(b"tools/call", b"Tools/Call"),
    "a method that nobody knows": WIPE.replace(b"tools/call", b"tools/execute"),
    "as a notification": WIPE.replace(b'"id": 1, ', b""),
    "an id of null": WIPE.replace(b'"id": 1', b'"id": null'),
    "an answer beside it": WIPE[:-1] + b', "result": {}}',
    "an answer alone": b'{"jsonrpc": "2.0", "id": 1, "result": {}, "method": "tools/call", "params": {"name": "wipe"}}',
    "a list of parameters": b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ["wipe"]}',
    "a mark before it": b"\xef\xbb\xbf" + WIPE,
    "UTF-16": WIPE.decode().encode("utf-16"),
    "UTF-7's brackets": b"+AHs-" + WIPE[1:],
    "a comment": b"/* " + FINE + b" */" + WIPE,
    "a comma too many": WIPE[:-1] + b",}",
    "NaN": WIPE.replace(b'"id": 1', b'"id": NaN'),
    "deep": b'{"a":' * 5000 + WIPE + b"}" * 5000,
    "another version": WIPE.replace(b"2.0", b"1.0"),
    "nothing": b"",
}


@pytest.mark.parametrize("how", MCP)
def test_no_message_hides_the_tool_that_it_calls(world: World, how: str) -> None:
    got = world.post("/mcp", MCP[how], accept="application/json, text/event-stream")
    assert world.app.received == b""
    # a request that was understood has an error of JSON-RPC
    assert "error" in json.loads(got.body) if got.status == 200 else 400 <= got.status < 500


KINDS = (
    "text/plain", "application/json; charset=utf-16", "application/json, text/plain", "multipart/form-data; boundary=a",
    "application/x-www-form-urlencoded", "application/graphql", "application/json-seq", "",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_only_the_app_might_read_reaches_none(world: World, kind: str) -> None:
    for path, body in (("/mcp", FINE), ("/graphql", b'{"query": "{contact(id: 7) {id}}"}')):
        got = world.post(path, body, kind)
        assert (400 <= got.status < 500, world.app.received) == (True, b"")


@pytest.mark.parametrize(
    "headers",
    [{"mcp_method": "tools/list"}, {"mcp_name": "wipe"}, {"content_encoding": "gzip"}, {"x_http_method_override": "GET"}],
)  # fmt: skip
def test_no_header_says_something_else_than_the_body(world: World, headers: dict[str, str]) -> None:
    version = {"mcp_protocol_version": "2026-07-28"} if any(name.startswith("mcp") for name in headers) else {}
    got = world.post("/mcp", FINE, accept="application/json, text/event-stream", **headers, **version)
    if "x_http_method_override" in headers:
        assert not world.app.seen or not world.app.seen[0].values("x-http-method-override")
    else:
        assert (400 <= got.status < 500, world.app.received) == (True, b"")


def query(text: str, **more: object) -> bytes:
    return json.dumps({"query": text, **more}).encode()


READ = "query A {contact(id: 7) {id}}"
REMOVE = "mutation B {removeContact(id: 7) {id}}"
GRAPHQL = {
    "as it is": query(REMOVE),
    "an id that is denied": query("{contact(id: 13) {id}}"),
    "two operations, none chosen": query(f"{READ} {REMOVE}"),
    "two operations, the other chosen": query(f"{READ} {REMOVE}", operationName="B"),
    "two of one name": query(f"{READ} {REMOVE.replace('B', 'A')}", operationName="A"),
    "one chosen that is not there": query(READ, operationName="B"),
    "an alias": query("{contact: contact(id: 13) {id}}"),
    "an alias of another": query("mutation {contact: removeContact(id: 7) {id}}"),
    "two aliases": query("{a: contact(id: 7) {id} b: contact(id: 13) {id}}"),
    "a fragment": query("{...F} fragment F on Query {contact(id: 13) {id}}"),
    "a fragment in line": query("{... on Query {contact(id: 13) {id}}}"),
    "a fragment that goes round": query("{...F} fragment F on Query {...F contact(id: 13) {id}}"),
    "skipped or not": query("query($s: Boolean!) {contact(id: 13) @skip(if: $s) {id}}", variables={"s": False}),
    "an argument twice": query("{contact(id: 7, id: 13) {id}}"),
    "a variable": query("query($i: ID!) {contact(id: $i) {id}}", variables={"i": "13"}),
    "a default": query("query($i: ID = 13) {contact(id: $i) {id}}"),
    "a variable that is not declared": query("{contact(id: $i) {id}}", variables={"i": 7}),
    "variables twice": b'{"query": "query($i: ID!) {contact(id: $i) {id}}", "variables": {"i": 7}, "variables": {"i": 13}}',
    "a variable twice": b'{"query": "query($i: ID!) {contact(id: $i) {id}}", "variables": {"i": 7, "i": 13}}',
    "variables in a text": query("query($i: ID!) {contact(id: $i) {id}}", variables='{"i": 13}'),
    "the query twice": b'{"query": "{contact(id: 7) {id}}", "query": "{contact(id: 13) {id}}"}',
    "the query twice, escaped": b'{"query": "{contact(id: 7) {id}}", "qu\\u0065ry": "{contact(id: 13) {id}}"}',
    "a block text": query('{contact(id: """13""") {id}}'),
    "an escaped text": query('{contact(id: "\\u0031\\u0033") {id}}'),
    "a comment": query("{contact(id: 7 #) {id}}\n) {id} x: contact(id: 13) {id}}"),
    "a field that nobody names": query("{contact(id: 7) {id} contacts {id}}"),
    "a subscription": query("subscription {contact(id: 7) {id}}"),
    "introspection": query("{__schema {types {name}}}"),
    "a batch": b"[" + query(READ) + b"," + query(REMOVE) + b"]",
    "a stored query": json.dumps({"extensions": {"persistedQuery": {"version": 1, "sha256Hash": "a" * 64}}}).encode(),
    "a stored query beside one": query(READ, extensions={"persistedQuery": {"version": 1, "sha256Hash": "a" * 64}}),
    "an id of a document": query(READ, documentId="a"),
    "many aliases": query("{" + " ".join(f"a{at}: contact(id: 7) {{id}}" for at in range(3000)) + "}"),
    "deep": query("{contact(id: 7) " + "{a" * 3000 + "}" * 3000 + "}"),
    "a type": query("type Query {a: Int} {contact(id: 13) {id}}"),
    "nothing": query(""),
}


@pytest.mark.parametrize("how", GRAPHQL)
def test_no_document_hides_the_field_that_it_asks_for(world: World, how: str) -> None:
    got = world.post("/graphql", GRAPHQL[how])
    assert (400 <= got.status < 500, world.app.received) == (True, b"")


@pytest.mark.parametrize(
    "target", ["/graphql?query=mutation{removeContact(id:7){id}}", "/graphql?query={contact(id:7){id}}"]
)
def test_a_document_in_the_query_beside_one_in_the_body_reaches_no_app(world: World, target: str) -> None:
    got = world.post(target, query(READ))
    assert (400 <= got.status < 500, world.app.received) == (True, b"")


OWN = "1868a90c"
SESSION_HEADERS = {
    "the server's own": {"mcp_session_id": OWN},
    "a tag of nobody": {"mcp_session_id": f"{'A' * 22}.{OWN}"},
    "two in one": {"mcp_session_id": "BOUND, BOUND"},
    "one and the server's own": {"mcp_session_id": f"BOUND,{OWN}"},
    "cut short": {"mcp_session_id": f"BOUND{chr(0x7F)}"},
    "another server's id": {"mcp_session_id": "BOUND2"},
    "in quotes": {"mcp_session_id": '"BOUND"'},
    "nothing": {"mcp_session_id": ""},
    "too long": {"mcp_session_id": "BOUND" + "a" * 5000},
}


@pytest.mark.parametrize("how", SESSION_HEADERS)
def test_no_spelling_names_a_session_that_was_not_given_out(world: World, how: str) -> None:
    accept = "application/json, text/event-stream"
    world.app.reset(reply(200, b"{}", "Content-Type: application/json", f"Mcp-Session-Id: {OWN}"))
    sent = {"content_type": JSON, "accept": accept}
    bound = world.sidecar.request("POST", "/mcp", world.token, FINE, **sent).header("mcp-session-id") or ""
    assert bound.endswith(f".{OWN}")
    headers = {name: value.replace("BOUND", bound) for name, value in SESSION_HEADERS[how].items()}
    got = world.post("/mcp", FINE, accept=accept, **headers)
    assert (400 <= got.status < 500, world.app.received) == (True, b""), got
    assert world.post("/mcp", FINE, accept=accept, mcp_session_id=bound).status == 200
    assert world.app.seen[0].values("mcp-session-id") == [OWN]


def in_url(body: bytes) -> str:
    """The members of a body as parameters of a URL, one that comes twice as often as it comes."""
    pairs = json.loads(body, object_pairs_hook=list)
    texts = [(name, value if isinstance(value, str) else json.dumps(dict(value))) for name, value in pairs]
    return "/graphql?" + urlencode(texts)


FINE_URL = "/graphql?query=%7Bcontact(id%3A7)%7Bid%7D%7D"
DENIED_URL = FINE_URL.replace("7)", "13)")
URLS = {
    **{how: in_url(body) for how, body in GRAPHQL.items() if body[:1] == b"{" and how not in ("many aliases", "deep")},
    "many aliases in a URL": in_url(query("{" + " ".join(f"a{at}: contact(id: 7) {{id}}" for at in range(60)) + "}")),
    "the query twice in a URL": f"{FINE_URL}&{DENIED_URL.partition('?')[2]}",
    "the query with an escape in its name": f"{FINE_URL}&quer%79={DENIED_URL.partition('=')[2]}",
    "the query in capitals": f"{FINE_URL}&QUERY={DENIED_URL.partition('=')[2]}",
    "the query in a list": f"{FINE_URL}&query[]={DENIED_URL.partition('=')[2]}",
    "the query in a list, by number": f"{FINE_URL}&query%5B1%5D={DENIED_URL.partition('=')[2]}",
    "the query behind a blank": f"{FINE_URL}&+query={DENIED_URL.partition('=')[2]}",
    "the query behind a semicolon": f"{FINE_URL};query={DENIED_URL.partition('=')[2]}",
    "an escape of an escape": f"{FINE_URL}&%2571uery={DENIED_URL.partition('=')[2]}",
    "a zero byte": f"{FINE_URL}&query%00={DENIED_URL.partition('=')[2]}",
    "variables within": f"{FINE_URL.replace('7', '$i', 1)}&variables[i]=13",
    "another method by a parameter": f"{FINE_URL}&_method=POST",
    "a document in UTF-16": "/graphql?query=%FE%FF%00%7B",
    "a list in a URL": "/graphql?" + urlencode({"query": json.dumps([{"query": READ}])}),
}


@pytest.mark.parametrize("how", URLS)
def test_no_url_hides_the_field_that_it_asks_for(world: World, how: str) -> None:
    world.app.reset()
    got = world.sidecar.get(URLS[how], world.token)
    assert (400 <= got.status < 500, world.app.received) == (True, b"")


def test_a_query_in_a_url_reaches_the_app_as_it_was_sent_and_one_with_a_body_does_not(world: World) -> None:
    world.app.reset()
    assert world.sidecar.get(FINE_URL, world.token, x_http_method_override="POST").status == 200
    (seen,) = world.app.seen
    assert (seen.method, seen.target, seen.values("x-http-method-override")) == ("GET", FINE_URL, [])
    world.app.reset()
    got = world.sidecar.request("GET", FINE_URL, world.token, query(REMOVE), content_type=JSON)
    assert (got.status, world.app.received) == (400, b"")


@pytest.mark.parametrize(("path", "body"), [("/mcp", FINE), ("/graphql", query(READ))])
def test_what_is_allowed_reaches_the_app_as_it_was_sent(world: World, path: str, body: bytes) -> None:
    assert world.post(path, body, accept="application/json, text/event-stream").status == 200
    (seen,) = world.app.seen
    assert seen.body == body
