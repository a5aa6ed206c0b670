"""`doors/ext_authz.py`: what Envoy asks becomes one request, and what the gate says becomes Envoy's to do."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import HeaderValueOption
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.routes.file import read_routes
from sidecar.doors import door
from sidecar.doors.envoy import grpc_status
from sidecar.doors.ext_authz import ExtAuthz, read_question
from sidecar.doors.held_body import LentBody
from sidecar.doors.refusal import Refusals
from sidecar.gate.body import Viewer
from sidecar.gate.codes import Code, Ground
from sidecar.gate.gate import Gate
from sidecar.gate.obligation import KeepPrivate
from sidecar.gate.references import parse_template
from sidecar.gate.request import Raw, Reading
from sidecar.gate.routing import RouteTable
from sidecar.gate.to_app import AuthorizationRule, ToApp
from sidecar.gate.verdict import Facts, Preflight, Refuse, Refused, Verdict
from sidecar.net.room import Room, owner_of
from sidecar.record.journal import Journal
from sidecar.record.metrics import Metrics
from sidecar.wire.grammar import Header
from sidecar.wire.grpc import CallFailed, Status
from tests.gate.test_gate import TABLE, TOKEN, World
from tests.log import Kept
from tests.permits import Permit
from tests.tokens import ISSUER

ROOM = Room(1024**2, "SIDECAR_HELD_MEMORY")
BEARER = (b"authorization", b"Bearer " + TOKEN)
OVERWRITE, APPEND = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD, HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
REPLACE = HeaderValueOption.OVERWRITE_IF_EXISTS


def question(
    *headers: Header, method: str = "GET", path: str = "/docs/7", host: str = "app.test", peer: str = "10.0.0.9",
    exact: bool = True, pseudo: tuple[Header, ...] | None = None, body: bytes = b"", text: str = "",
) -> bytes:  # fmt: skip
    """A CheckRequest as Envoy makes it, with its pseudo-headers among the headers."""
    asked = CheckRequest()
    http = asked.attributes.request.http
    asked.attributes.source.address.socket_address.address = peer
    http.method, http.path, http.host, http.scheme, http.protocol = method, path, host, "http", "HTTP/1.1"
    http.raw_body, http.body = body, text
    if pseudo is None:
        pseudo = (
            (b":authority", host.encode()), (b":path", path.encode()), (b":method", method.encode()), (b":scheme", b"http"),
        )  # fmt: skip
    for name, value in (*pseudo, *headers):
        if exact:
            http.header_map.headers.add(key=name.decode(), raw_value=value)
        else:
            there = http.headers.get(name.decode())
            http.headers[name.decode()] = value.decode() if there is None else f"{there},{value.decode()}"
    made: bytes = asked.SerializeToString()
    return made


def raw_of(message: bytes) -> Raw:
    return read_question(message, "r1").raw


# --- a question as a request ---


@pytest.mark.parametrize("exact", [True, False])
def test_a_question_is_a_request(exact: bool) -> None:
    raw = raw_of(question(BEARER, (b"x-a", b"1"), exact=exact, path="/docs/7?x=%2e"))
    assert raw._replace(headers=sorted(raw.headers)) == Raw(
        "GET", b"/docs/7?x=%2e", sorted([(b"host", b"app.test"), BEARER, (b"x-a", b"1")]), "10.0.0.9", "http", "r1"
    )  # fmt: skip


def test_doubled_headers_stay_two_and_bytes_stay_bytes() -> None:
    raw = raw_of(question((b"x-a", b"1"), (b"x-a", b"\xff"), (b"cookie", b"a=\xe9")))
    assert raw.headers[1:] == [(b"x-a", b"1"), (b"x-a", b"\xff"), (b"cookie", b"a=\xe9")]


@pytest.mark.parametrize(
    ("pseudo", "about"),
    [
        ((b":path", b"/admin"), ":path"),
        ((b":path", b"/docs/7\xff"), ":path"),
        ((b":method", b"DELETE"), ":method"),
        ((b":authority", b"evil.test"), ":authority"),
        ((b"host", b"evil.test"), "host"),
    ],
)
def test_two_values_of_one_thing_are_refused(pseudo: Header, about: str) -> None:
    with pytest.raises(Refused, match=about) as refused:
        raw_of(question(pseudo=(pseudo,)))
    assert refused.value.code is Code.REQUEST_INVALID


def test_two_tokens_that_envoy_joined_are_two() -> None:
    with pytest.raises(Refused) as refused:
        raw_of(question((b"authorization", b"Bearer a.b.c,Bearer a.b.c")))
    assert refused.value.code is Code.HEADER_AMBIGUOUS


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (b"10.0.0.9", b""), (b"6.6.6.6,10.0.0.9", b"6.6.6.6"), (b"6.6.6.6, 10.0.0.9", b"6.6.6.6"),
        (b"10.0.0.9,6.6.6.6", b"10.0.0.9,6.6.6.6"),
    ],
)  # fmt: skip
def test_what_envoy_said_of_its_client_is_not_said_twice(said: bytes, left: bytes) -> None:
    assert (b"x-forwarded-for", left) in raw_of(question((b"x-forwarded-for", said))).headers


@pytest.mark.parametrize(("peer", "found"), [("10.0.0.9", "10.0.0.9"), ("::1", "::1"), ("", ""), ("/a.sock", "")])
def test_the_peer_is_the_client_of_envoy(peer: str, found: str) -> None:
    assert raw_of(question(peer=peer)).peer == found


@pytest.mark.parametrize(
    ("said", "scheme"), [(b"https", "https"), (b"http", "http"), (b"gopher", "http"), (b"", "http")]
)
def test_the_scheme_is_what_envoy_says(said: bytes, scheme: str) -> None:
    assert raw_of(question((b"x-forwarded-proto", said))).scheme == scheme


@pytest.mark.parametrize(
    ("method", "upgrade", "websocket"),
    [("GET", b"websocket", True), ("GET", b"WebSocket", True), ("POST", b"websocket", False), ("GET", b"h2c", False)],
)
def test_a_handshake_is_one(method: str, upgrade: bytes, websocket: bool) -> None:
    assert raw_of(question((b"upgrade", upgrade), method=method)).websocket is websocket


@pytest.mark.parametrize(
    ("kind", "grpc"),
    [(b"application/grpc", True), (b"application/grpc+proto", True), (b"application/grpc-web", False), (b"", False)],
)
def test_a_call_of_grpc_is_one(kind: bytes, grpc: bool) -> None:
    assert read_question(question((b"content-type", kind)), "r").grpc is grpc


LENGTH = (b"content-length", b"3")
WHOLE = (b"x-envoy-auth-partial-body", b"false")


@pytest.mark.parametrize(
    ("headers", "body", "text", "found"),
    [
        ((LENGTH, WHOLE), b"abc", "", b"abc"),
        ((LENGTH, WHOLE), b"", "abc", b"abc"),
        ((WHOLE,), b"", "", b""),
        ((LENGTH, WHOLE), b"abcd", "", Code.BODY_TOO_LARGE),
        ((LENGTH, (b"x-envoy-auth-partial-body", b"true")), b"ab", "", Code.BODY_TOO_LARGE),
        ((LENGTH, (b"x-envoy-auth-partial-body", b"maybe")), b"ab", "", Code.BODY_TOO_LARGE),
        ((LENGTH,), b"", "", Code.PROXY_UNABLE),
        ((), b"", "", Code.PROXY_UNABLE),
        ((LENGTH, WHOLE), b"ab", "", Code.BODY_INVALID),
    ],
)
async def test_a_body_is_whole_or_refused(
    headers: tuple[Header, ...], body: bytes, text: str, found: bytes | Code
) -> None:
    asked = read_question(question(*headers, method="POST", body=body, text=text), "r")
    assert b"x-envoy-auth-partial-body" not in dict(asked.raw.headers)
    shown: list[bytes] = []
    lent = LentBody(Room(1024**2, "SIDECAR_HELD_MEMORY"), "10.0.0.9")
    if isinstance(found, bytes):
        await asked.show_body(lent, 3, shown.append, Viewer(("https://issuer", "alice"), keeps=True))
        assert b"".join(shown) == found
    else:
        with pytest.raises(Refused) as refused:
            await asked.show_body(lent, 3, shown.append, Viewer(("https://issuer", "alice"), keeps=True))
        assert refused.value.code is found


async def test_a_body_takes_room_while_it_is_read() -> None:
    text = b'{"owner": "a-1"}'
    length, kind = (b"content-length", b"%d" % len(text)), (b"content-type", b"application/json")
    asked = question(BEARER, length, kind, WHOLE, method="POST", path="/new", body=text)
    assert (await Door(World().gate()).ask(asked)).status.code == 0
    assert ROOM.used == 0
    with ROOM.taken(owner_of((ISSUER, "a-1"), ""), 1024**2 // 2):
        denied = (await Door(World().gate()).ask(asked)).denied_response
    assert (denied.status.code, "body_no_room" in denied.body) == (503, True)
    assert ROOM.used == 0


def test_a_body_without_a_length_is_one_all_the_same() -> None:
    assert (b"transfer-encoding", b"chunked") in raw_of(question(WHOLE, method="POST", body=b"abc")).headers
    assert (b"transfer-encoding", b"chunked") not in raw_of(question(WHOLE, LENGTH, method="POST", body=b"abc")).headers


def test_headers_in_two_forms_are_refused() -> None:
    both = question() + question(exact=False)
    with pytest.raises(Refused, match="two forms"):
        raw_of(both)


# --- a verdict as an answer ---


class Fixed:
    """A gate that has made up its mind."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict

    async def decide(self, raw: Raw, read_body: Any) -> Verdict:
        return self.verdict


class Door:
    """A door with its journal's lines."""

    def __init__(self, gate: Any, refusals: Refusals | None = None) -> None:
        self.stream = Kept()
        journal = Journal(self.stream, Metrics(), lambda: 1_700_000_000.0)
        self.door = ExtAuthz(
            door.Door(gate, journal, refusals or Refusals(), lambda: 0.0, lambda: 1.0, lambda: "r1"), ROOM
        )

    async def ask(self, message: bytes) -> CheckResponse:
        return CheckResponse.FromString(await self.door.check(message))

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def changed(options: list[HeaderValueOption]) -> dict[str, tuple[str, int]]:
    return {each.header.key: (each.header.value, each.append_action) for each in options}


async def test_an_allow_tells_what_to_add_and_to_remove() -> None:
    door = Door(World().gate())
    forged = [(b"x-auth-roles", b"admin"), (b"x-original-url", b"/admin"), (b"x-mine", b"1")]
    answer = await door.ask(question(BEARER, *forged, (b"x-forwarded-for", b"6.6.6.6,10.0.0.9")))
    assert answer.status.code == 0
    found = changed(answer.ok_response.headers)
    assert found["x-auth-subject"] == ("a-1", OVERWRITE)
    assert found["x-forwarded-for"] == ("10.0.0.9", OVERWRITE)
    assert all(action == OVERWRITE for _, action in found.values())
    assert {"x-original-url", "x-auth-assertion"} <= set(answer.ok_response.headers_to_remove)
    assert not {"x-mine", "authorization", "host"} & {*found, *answer.ok_response.headers_to_remove}
    assert not set(found) & set(answer.ok_response.headers_to_remove)
    (line,) = door.lines
    assert (line["outcome"], line["code"], line["status"], line["peer"]) == ("allow", "allowed", 200, "10.0.0.9")
    facts = {name: value.string_value for name, value in answer.dynamic_metadata.fields.items()}
    assert facts == {"principal": "a-1", "route": line["route"], "code": "allowed", "request_id": "r1"}


async def test_the_canonical_path_is_what_envoy_is_told_to_send() -> None:
    answer = await Door(World().gate()).ask(question(BEARER, path="/%64ocs/7?a=%2e"))
    assert changed(answer.ok_response.headers)[":path"] == ("/docs/7?a=%2e", OVERWRITE)
    assert ":path" not in changed((await Door(World().gate()).ask(question(BEARER))).ok_response.headers)


@pytest.mark.parametrize("path", ["/mine", "/mine?owner=mallory", "/mine?OWNER[]=mallory"])
async def test_a_query_that_the_sidecar_sets_is_what_envoy_is_told_to_send(path: str) -> None:
    answer = await Door(World().gate()).ask(question(BEARER, path=path))
    assert changed(answer.ok_response.headers)[":path"] == ("/mine?owner=a-1", OVERWRITE)


async def test_values_that_envoy_joined_or_replaced_are_sent_as_they_were_decided() -> None:
    headers = [BEARER, (b"x-a", b"1"), (b"x-a", b"2"), (b"x-b", b"caf!"), (b"x-c", b"3")]
    found = changed((await Door(World().gate()).ask(question(*headers, exact=False))).ok_response.headers)
    assert found["x-a"] == ("1,2", OVERWRITE)
    assert found["x-b"] == ("caf!", OVERWRITE)
    assert found[":path"] == ("/docs/7", OVERWRITE)
    assert "x-c" not in found
    exact = changed((await Door(World().gate()).ask(question(*headers))).ok_response.headers)
    assert not {"x-a", "x-b", ":path"} & set(exact)


HOSTS = """\
version: 1
routes:
  - {path: "/docs/{id}", hosts: [blog.test, "*.blogs.test"], access: public}
  - {path: "/docs/{id}", hosts: [payroll.test], access: authenticated}
"""


def gate_by_host() -> Gate:
    """Of two hosts that have the same paths, and what everybody may read at one of them."""
    gate, table = World().gate(), read_routes(HOSTS, "routes.yaml", {}).table
    gate.rules = replace(gate.rules, table=table, reading=Reading(hosts=table.hosts))
    return gate


BY_HOST = {
    "blog.test": "", "BLOG.test": "", "blog.test:8443": "", "a.blogs.test": "", "payroll.test": "token_missing",
    "payroll.test:80": "token_missing", "evil.test": "host_not_allowed", "payroll.test.": "host_not_allowed",
    "a.b.blogs.test": "host_not_allowed", "blogs.test": "host_not_allowed", "": "request_invalid",
    "blog.test,payroll.test": "request_invalid", "blog.test@payroll.test": "request_invalid",
}  # fmt: skip
"""Host of a request without a token -> why it is refused, "" where it is not."""


@pytest.mark.parametrize("host", BY_HOST)
@pytest.mark.parametrize("exact", [True, False])
async def test_the_host_that_envoy_holds_chooses_the_route(host: str, exact: bool) -> None:
    answer = await Door(gate_by_host()).ask(question(host=host, exact=exact))
    refused = json.loads(answer.denied_response.body)["code"] if answer.HasField("denied_response") else ""
    assert refused == BY_HOST[host]
    if not refused:
        # and what was decided is what Envoy sends
        assert changed(answer.ok_response.headers)["x-forwarded-host"] == (host, OVERWRITE)


@pytest.mark.parametrize("name", [b"x-forwarded-host", b"forwarded", b"x-original-host", b"x-host"])
async def test_a_client_of_envoy_chooses_no_route_by_another_header(name: bytes) -> None:
    door = Door(gate_by_host())
    for host, other, code in (
        ("payroll.test", b"blog.test", "token_missing"),
        ("blog.test", b"payroll.test", "public"),
    ):
        await door.ask(question((name, b"host=" + other if name == b"forwarded" else other), host=host))
        assert door.lines[-1]["code"] == code


async def test_te_is_for_calls_alone() -> None:
    trailers, kind = (b"te", b"trailers"), (b"content-type", b"application/grpc")
    assert "te" in (await Door(World().gate()).ask(question(BEARER, trailers))).ok_response.headers_to_remove
    assert "te" not in (await Door(World().gate()).ask(question(BEARER, trailers, kind))).ok_response.headers_to_remove


async def test_a_refusal_is_our_problem() -> None:
    door = Door(World().gate())
    answer = await door.ask(question())
    assert answer.status.code == Status.UNAUTHENTICATED
    denied = answer.denied_response
    assert denied.status.code == 401
    assert json.loads(denied.body)["code"] == "token_missing"
    found = changed(denied.headers)
    assert found["content-type"] == ("application/problem+json", OVERWRITE)
    assert found["www-authenticate"][0].startswith("Bearer")
    assert "content-length" not in found
    assert [line["code"] for line in door.lines] == ["token_missing"]
    assert answer.dynamic_metadata.fields["code"].string_value == "token_missing"


async def test_a_browser_is_sent_to_the_sign_in() -> None:
    door = Door(World().gate(), Refusals(login=True))
    denied = (await door.ask(question((b"accept", b"text/html")))).denied_response
    assert denied.status.code == 302
    assert changed(denied.headers)["location"][0] == "/_sidecar/login?return_to=/docs/7"


@pytest.mark.parametrize("code", list(Code))
async def test_a_refused_call_has_a_status_of_its_own(code: Code) -> None:
    door = Door(Fixed(Refuse(code, Facts("r1", "POST", "/a.B/C"))))
    answer = await door.ask(question((b"content-type", b"application/grpc"), method="POST", path="/a.B/C"))
    found = changed(answer.denied_response.headers)
    assert int(found["grpc-status"][0]) not in (Status.OK, Status.UNKNOWN) or code.startswith("upstream")
    assert "content-type" not in found
    assert answer.denied_response.body == code


def test_the_statuses_of_refused_calls() -> None:
    assert (grpc_status(401), grpc_status(403), grpc_status(404)) == (
        Status.UNAUTHENTICATED, Status.PERMISSION_DENIED, Status.NOT_FOUND,
    )  # fmt: skip


async def test_cookies_and_marks_are_for_the_client() -> None:
    permit = Permit(
        b"GET", b"/docs/7", ((b"host", b"app.test"),), Ground.ALLOWED, Facts("r1", "GET", "/docs/7"),
        reply_headers=((b"vary", b"Origin"),), cookies=(b"a=1; Secure", b"b=2; Secure"),
    )  # fmt: skip
    answer = await Door(Fixed(permit)).ask(question())
    reply = [
        (each.header.key, each.header.value, each.append_action) for each in answer.ok_response.response_headers_to_add
    ]
    assert reply == [
        ("vary", "Origin", APPEND),
        ("set-cookie", "a=1; Secure", APPEND),
        ("set-cookie", "b=2; Secure", APPEND),
    ]


@pytest.mark.parametrize("privacy", [None, KeepPrivate(b"Authorization"), KeepPrivate(b"Cookie, Authorization", True)])
async def test_the_apps_answer_to_a_principal_is_for_no_shared_cache(privacy: KeepPrivate | None) -> None:
    """Beside what the app says, the strictest of which counts; what others read is replaced where the app has it."""
    permit = Permit(
        b"GET", b"/docs/7", ((b"host", b"app.test"),), Ground.ALLOWED, Facts("r1", "GET", "/docs/7"),
        obligations=(privacy,) if privacy is not None else (),
    )  # fmt: skip
    reply = changed((await Door(Fixed(permit)).ask(question())).ok_response.response_headers_to_add)
    if privacy is None:
        assert reply == {}
        return
    assert reply.pop("cache-control") == ("private, no-store" if privacy.no_store else "private", APPEND)
    assert reply.pop("vary") == (privacy.vary.decode(), APPEND)
    assert {"expires", "surrogate-control", "cdn-cache-control", "cloudflare-cdn-cache-control"} <= set(reply)
    assert {action for _, action in reply.values()} == {REPLACE}
    assert {value for value, _ in reply.values()} == {"no-store", "0"}


async def test_a_preflight_is_answered() -> None:
    door = Door(Fixed(Preflight(((b"access-control-allow-origin", b"https://f"),), Facts("r1", "OPTIONS", "/cors"))))
    answer = await door.ask(question(method="OPTIONS"))
    assert answer.denied_response.status.code == 204
    assert changed(answer.denied_response.headers)["access-control-allow-origin"][0] == "https://f"
    assert [line["code"] for line in door.lines] == ["preflight"]


async def test_what_envoy_cannot_be_told_is_refused() -> None:
    headers = ((b"host", b"app.test"), (b"cookie", b"a=\xff"))
    door = Door(Fixed(Permit(b"GET", b"/docs/7", headers, Ground.PUBLIC, Facts("r1", "GET", "/docs/7"))))
    answer = await door.ask(question((b"cookie", b"a=\xff; __Host-session=x")))
    assert answer.denied_response.status.code == 400
    assert [(line["outcome"], line["code"]) for line in door.lines] == [("refuse", "header_ambiguous")]


async def test_a_question_that_contradicts_itself_is_refused_and_told() -> None:
    door = Door(World().gate())
    answer = await door.ask(question(BEARER, pseudo=((b":path", b"/public"),)))
    assert answer.denied_response.status.code == 400
    assert [(line["outcome"], line["code"]) for line in door.lines] == [("refuse", "request_invalid")]


async def test_what_is_no_question_is_no_answer() -> None:
    with pytest.raises(CallFailed) as failed:
        await Door(World().gate()).ask(b"\xff\xff")
    assert failed.value.status is Status.INVALID_ARGUMENT


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(message: bytes) -> None:
    with contextlib.suppress(ValueError, Refused):
        read_question(message, "r")


async def test_envoy_is_told_each_header_of_to_app_and_what_becomes_of_a_clients() -> None:
    to_app = ToApp(((b"remote-user", parse_template("{principal.id}")),), AuthorizationRule.DROP)
    table = RouteTable([route._replace(to_app=to_app) for route in TABLE.routes])
    gate = World().gate()
    gate.rules = replace(gate.rules, table=table, reading=Reading(reserved=table.reserved))
    forged = (b"remote-user", b"root")
    answer = await Door(gate).ask(question(BEARER, forged, forged))
    assert changed(answer.ok_response.headers)["remote-user"] == ("a-1", OVERWRITE)
    assert "authorization" in answer.ok_response.headers_to_remove
    answer = await Door(gate).ask(question(forged, path="/public"))
    assert "remote-user" in answer.ok_response.headers_to_remove
