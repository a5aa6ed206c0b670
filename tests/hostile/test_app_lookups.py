"""What a client, or the app, could do by a lookup that asks the app: each is tried against a running sidecar."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from tests.faults.fakes import FakeCerbos
from tests.stack import ROOT, Recorder, Seen, Sidecar, Web, running_sidecar
from tests.tokens import CLIENT, POOL, claims, key_set, mint

ROUTES = """\
version: 1
to_app: {headers: {Remote-User: "{principal.id}"}}
lookups:
  order: {upstream: "/api/orders/{id}?of={query.of}", attributes: {owner: owner}, cache: 1m, timeout: 2s}
  mine: {upstream: "/api/orders/{id}", as: principal, attributes: {owner: owner}, cache: 1m, timeout: 2s}
  loop: {upstream: "/loop/{id}", attributes: {owner: owner}, timeout: 2s}
routes:
  - path: "/orders/{id:any}"
    resource: contact
    id: "{path.id}"
    query: [of]
    lookup: order
    allow: [encoded_slash]
    actions: {GET: read, POST: update}
  - {path: "/mine/{id:any}", resource: contact, id: "{path.id}", query: [], lookup: mine, actions: {GET: read, POST: update}}
  - {path: /list, resource: contact, query: [], actions: {GET: list}, items: {at: "@", id: id, lookup: mine, max: 100}}
  - {path: "/loop/{id:any}", resource: contact, id: "{path.id}", query: [], lookup: loop, actions: {GET: read}}
"""


@dataclass
class World:
    """A sidecar before an app that knows all orders of everybody, and says of each host another owner."""

    sidecar: Sidecar
    app: Recorder
    token: str

    @property
    def lookups(self) -> list[Seen]:
        """What the app was asked by lookups."""
        return [seen for seen in self.app.seen if seen.values("x-auth-lookup")]


def respond(connection: socket.socket, body: bytes, *more: str, status: int = 200) -> None:
    lines = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(body)}", *more, "", ""]
    connection.sendall("\r\n".join(lines).encode() + body)


def app(_: Recorder, connection: socket.socket, seen: Seen) -> None:
    """Answer with the host as the owner, and all that an answer could have an effect by."""
    body = json.dumps({"owner": (seen.values("host") or [""])[0], "secret": "of the app"}).encode()
    respond(connection, body, "Set-Cookie: sid=evil", "Cache-Control: max-age=9999", "X-Auth-Subject: root")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, cerbos, upstream = Web(), FakeCerbos(), Recorder()
    keys.json("/jwks", key_set())
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks", "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}",
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("app-lookups")
    with running_sidecar(folder, ROUTES, ROOT / "policies", f"http://127.0.0.1:{upstream.port}", environ) as sidecar:
        yield World(sidecar, upstream, mint(claims(time.time())).decode())
    for part in (keys, cerbos, upstream):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    shared.app.reset()
    shared.app.answer = app
    return shared


IDS = {
    "%2e%2e": None, "..%2fadmin": None, "a%2fb": "a%2Fb", "a%3fadmin=1": None, "a%23b": None, "a%5cb": None,
    "a%00b": None, "a%0d%0aX-Auth-Subject:%20root": None, "%252e%252e": None, "a;b=c": None, "a&of=x": "a%26of%3Dx",
    "%7Bid%7D": "%7Bid%7D", "%c3%a9": "%C3%A9", "%ff": None, "@evil.test": "%40evil.test", "http:%2f%2fevil.test": None,
}  # fmt: skip
"""An id as a client writes it -> the one segment that the app is asked about, None where the request is refused."""


@pytest.mark.parametrize("written", IDS)
def test_a_client_fills_one_segment_and_chooses_nothing_else(world: World, written: str) -> None:
    got = world.sidecar.get(f"/orders/{written}?of=%26admin%3D1%23", world.token)
    segment = IDS[written]
    if segment is None:
        assert (got.status, world.app.received) == (400, b"")
    else:
        (asked,) = world.lookups
        assert (asked.method, asked.target) == ("GET", f"/api/orders/{segment}?of=%26admin%3D1%23")
        assert asked.body == b""


def test_a_lookup_of_a_request_with_a_body_has_none_and_changes_nothing(world: World) -> None:
    assert world.sidecar.request("POST", "/mine/8", world.token, b"x" * 1000).status == 200
    (asked,) = world.lookups
    assert (asked.method, asked.body) == ("GET", b"")
    assert not asked.values("content-length")
    assert not asked.values("transfer-encoding")


LISTED = [
    "../admin", "a/../b", "a?admin=1", "a#b", "a\\b", "a\r\nX-Auth-Subject: root", "%2e%2e", "{id}", "@evil.test", "http://evil.test",
]  # fmt: skip


def test_what_somebody_wrote_as_an_id_of_an_item_is_one_segment(world: World) -> None:
    def answer(recorder: Recorder, connection: socket.socket, seen: Seen) -> None:
        if seen.target == "/list":
            respond(connection, json.dumps([{"id": one} for one in written]).encode())
        elif seen.target.startswith("/api/orders/"):
            app(recorder, connection, seen)
        else:
            respond(connection, b"{}", status=404)

    world.app.answer = answer
    for one in LISTED:
        written = [one]
        world.app.seen.clear()
        got = world.sidecar.get("/list", world.token)
        assert all(seen.target.startswith("/api/orders/") for seen in world.lookups), one
        if got.status == 200:
            (asked,) = world.lookups
            assert asked.target.removeprefix("/api/orders/") == quote(one, safe="")
            assert (asked.values("x-auth-subject"), asked.body) == (["a-1"], b"")
        else:
            assert (got.status, world.lookups) == (502, []), one
    # more of them than the route says are not asked about
    written = [f"o{number}" for number in range(101)]
    world.app.seen.clear()
    got = world.sidecar.get("/list", world.token)
    assert (got.status, got.code, world.lookups) == (502, "items_too_many", [])


FORGED = {
    "x_auth_subject": "root", "x_auth_roles": "admin", "x_auth_assertion": "e30.e30.e30", "remote_user": "root",
    "cookie": "sid=1", "x_forwarded_host": "evil.test", "x_forwarded_for": "9.9.9.9", "x_http_method_override": "DELETE",
    "x_original_url": "/admin", "range": "bytes=0-1", "if_none_match": '"1"', "accept_encoding": "gzip", "x_tenant": "other",
}  # fmt: skip


@pytest.mark.parametrize("path", ["/orders/9?of=1", "/mine/9"])
def test_nothing_that_a_client_says_of_itself_goes_along(world: World, path: str) -> None:
    assert world.sidecar.get(path, world.token, **FORGED).status == 200
    (asked,) = world.lookups
    told = {name.lower(): value for name, value in asked.headers}
    assert "root" not in str(told.values())
    assert "evil.test" not in str(told.values())
    assert (
        not {
            "cookie",
            "x-http-method-override",
            "x-original-url",
            "range",
            "if-none-match",
            "x-tenant",
            "x-forwarded-for",
        }
        & told.keys()
    )
    assert told["accept-encoding"] == "identity"
    assert told.get("remote-user") == ("a-1" if path == "/mine/9" else None)


def test_an_answer_under_one_host_is_none_under_another(world: World) -> None:
    """Or whoever chooses the host would decide with the owner of another tenant."""
    for host in ("one.test", "two.test", "one.test"):
        world.sidecar.get("/orders/10?of=1", world.token, host=host)
    assert [seen.values("host") for seen in world.lookups] == [["one.test"], ["two.test"]]


def test_an_answer_to_one_token_is_none_to_another(world: World) -> None:
    other = mint(claims(time.time(), sub="a-2")).decode()
    for token in (world.token, other, world.token, other):
        world.sidecar.get("/mine/11", token)
    assert [seen.values("remote-user") for seen in world.lookups] == [["a-1"], ["a-2"]]


def test_nothing_of_the_answer_reaches_the_client(world: World) -> None:
    def answer(recorder: Recorder, connection: socket.socket, seen: Seen) -> None:
        if seen.values("x-auth-lookup"):
            app(recorder, connection, seen)
        else:
            respond(connection, b'{"the": "answer"}')

    world.app.answer = answer
    got = world.sidecar.get("/orders/12?of=1", world.token)
    assert (got.status, got.body) == (200, b'{"the": "answer"}')
    assert got.header("set-cookie") is None
    assert "secret" not in world.sidecar.log()


SPELLINGS = ["X-Auth-Lookup", "x-auth-lookup", "X-AUTH-LOOKUP", "X_Auth_Lookup", "x-auth_lookup"]


@pytest.mark.parametrize("name", SPELLINGS)
def test_no_client_says_that_it_is_a_lookup(world: World, name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", world.sidecar.port, timeout=10)
    with closing(connection):
        headers = {name: "order", "authorization": f"Bearer {world.token}"}
        connection.request("GET", "/mine/13", headers=headers)
        answer = connection.getresponse()
        code = json.loads(answer.read())["code"]
    assert (answer.status, code) in ((508, "lookup_loop"), (400, "header_ambiguous"))
    assert world.app.received == b""


def test_no_client_takes_the_mark_away(world: World) -> None:
    got = world.sidecar.get("/mine/14", world.token, connection="close, x-auth-lookup")
    assert (got.code, world.app.received) == ("header_ambiguous", b"")


@pytest.mark.parametrize("sends_on", [True, False])
def test_an_app_that_comes_back_ends(world: World, sends_on: bool) -> None:
    """With the headers that it got it is refused at once; without them the lookup's time ends it."""

    def answer(recorder: Recorder, connection: socket.socket, seen: Seen) -> None:
        if not seen.values("x-auth-lookup"):
            respond(connection, b"{}")
            return
        more = {"x_auth_lookup": seen.values("x-auth-lookup")[0]} if sends_on else {}
        number = int(seen.target.rpartition("/")[2])
        back = world.sidecar.get(f"/loop/{number + 1}", world.token, **more)
        respond(connection, b"{}", status=back.status)

    world.app.answer = answer
    started = time.monotonic()
    got = world.sidecar.get("/loop/1", world.token)
    assert time.monotonic() - started < 8
    if sends_on:
        assert got.code == "lookup_status"
        assert len(world.lookups) == 1
        codes = [line["code"] for line in world.sidecar.decisions()[-2:]]
        assert codes == ["lookup_loop", "lookup_status"]
    else:
        assert got.code in ("lookup_timeout", "lookup_status")
    # nothing goes on behind it
    world.app.answer = app
    assert world.sidecar.get("/mine/15", world.token).status == 200
