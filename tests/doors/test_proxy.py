"""Each answer of the contract, through real sockets: its status, its code, and what the upstream saw of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from contextlib import closing

import jwt
import pytest

from tests.conftest import Stack
from tests.faults.fakes import more
from tests.stack import Recorder, Seen, raw_reply, reply, wait_for


def test_an_allowed_request_is_forwarded_as_it_came_with_ours_added(stack: Stack) -> None:
    stack.upstream.reset(reply(200, b"{}", "X-App: 1"))
    got = stack.sidecar.get("/contacts/1?x=%2e&y=a%20b", stack.tokens["alice"], x_mine="1", x_auth_roles="admin")
    assert (got.status, got.body, got.header("x-app")) == (200, b"{}", "1")
    (seen,) = stack.upstream.seen
    assert (seen.method, seen.target) == ("GET", "/contacts/1?x=%2e&y=a%20b")
    names = sorted(name for name, _ in seen.headers)
    assert names == [
        "accept-encoding", "authorization", "host", "x-auth-assertion", "x-auth-roles", "x-auth-subject",
        "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-mine", "x-request-id",
    ]  # fmt: skip
    assert seen.values("x-auth-subject") == ["alice"]
    assert seen.values("x-auth-roles") == ["user"]
    assert seen.values("x-forwarded-for") == ["127.0.0.1"]


def refused(stack: Stack, method: str, path: str, accept: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """The whole of alice's answer, but for what differs each time."""
    got = stack.sidecar.request(method, path, stack.tokens["alice"], accept=accept)
    request_id = got.header("x-request-id") or ""
    same = [(name, value) for name, value in got.headers if name not in ("x-request-id", "date")]
    return got.status, same, got.body.replace(request_id.encode(), b"-")


@pytest.mark.parametrize(
    ("method", "others", "nobodys", "accept", "status", "codes"),
    [
        ("PUT", "/contacts/2", "/contacts/7", "*/*", 403, ("denied_by_policy", "resource_missing")),
        ("GET", "/strangers/1", "/contacts/7", "text/html", 403, ("denied_by_policy", "resource_missing")),
        ("PUT", "/hidden/2", "/hidden/7", "*/*", 404, ("denied_by_policy", "resource_hidden")),
    ],
)
def test_what_is_not_there_and_what_is_not_yours_are_one_answer(
    stack: Stack, method: str, others: str, nobodys: str, accept: str, status: int, codes: tuple[str, str]
) -> None:
    """Nobody who asks for many ids learns which of them there are; the log keeps the truth."""
    stack.hook.json("/hidden/2", {"id": 2, "owner_id": "stranger"})
    denied, missing = refused(stack, method, others, accept), refused(stack, method, nobodys, accept)
    assert denied == missing
    assert denied[0] == status
    lines = stack.sidecar.decisions()[-2:]
    assert tuple(line["code"] for line in lines) == codes
    assert len({line.get("told", line["code"]) for line in lines}) == 1
    assert [line["status"] for line in lines] == [status, status]


@pytest.mark.parametrize(
    ("method", "path", "user", "status", "code"),
    [
        ("GET", "/contacts/1", None, 401, "token_missing"),
        ("GET", "/contacts/%2e%2e/x", "alice", 400, "target_ambiguous"),
        ("GET", "/contacts/a@b", "alice", 400, "segment_invalid"),
        ("PUT", "/contacts/2", "alice", 403, "denied_by_policy"),
        ("GET", "/strangers/1", "alice", 403, "denied_by_policy"),
        ("GET", "/nowhere", "admin", 403, "route_unmapped"),
        ("GET", "/_sidecar/none", "admin", 403, "route_unmapped"),
        ("GET", "/contacts/7", "alice", 403, "denied_by_policy"),
        ("GET", "/hidden/7", "alice", 404, "resource_hidden"),
        ("POST", "/contacts/1", "alice", 405, "method_unmapped"),
        ("GET", "/contacts", "alice", 400, "reference_invalid"),
        ("GET", "/contacts?owner=a&owner=b", "alice", 400, "reference_invalid"),
        ("POST", "/public", None, 405, "method_unmapped"),
        ("OPTIONS", "/me", None, 405, "method_unmapped"),
    ],
)
def test_a_refusal_has_its_status_and_code_and_the_upstream_sees_nothing(
    stack: Stack, method: str, path: str, user: str | None, status: int, code: str
) -> None:
    got = stack.sidecar.request(method, path, stack.tokens[user] if user else None)
    assert (got.status, got.code) == (status, code)
    assert stack.upstream.received == b""
    line = stack.sidecar.decisions()[-1]
    assert (line["outcome"], line.get("told", line["code"]), line["status"]) == ("refuse", code, status)
    assert got.header("x-request-id") == line["request_id"]


@pytest.mark.parametrize(
    ("token", "code"), [("x", "token_invalid"), ("a.b.c", "token_invalid"), ("x" * 20000, "token_invalid")]
)
def test_a_bad_token_is_401_with_a_challenge(stack: Stack, token: str, code: str) -> None:
    got = stack.sidecar.get("/me", token)
    assert (got.status, got.code) == (401, code)
    assert got.header("www-authenticate") == 'Bearer error="invalid_token"'
    assert stack.upstream.received == b""


def test_405_lists_what_the_route_has(stack: Stack) -> None:
    assert stack.sidecar.request("POST", "/contacts/1").header("allow") == "DELETE, GET, HEAD, PATCH, PUT"


@pytest.mark.parametrize(
    ("user", "method", "contact", "status"),
    [
        ("alice", "GET", 2, 200), ("alice", "PUT", 1, 200), ("alice", "DELETE", 1, 200), ("alice", "DELETE", 2, 403),
        ("bob", "PUT", 1, 403), ("bob", "PUT", 2, 200), ("admin", "PUT", 1, 200), ("admin", "DELETE", 2, 200),
    ],
)  # fmt: skip
def test_update_and_delete_differ_by_owner_and_role(
    stack: Stack, user: str, method: str, contact: int, status: int
) -> None:
    got = stack.sidecar.request(method, f"/contacts/{contact}", stack.tokens[user])
    assert got.status == status
    assert len(stack.upstream.seen) == (status == 200)


def test_the_decision_log_has_what_an_auditor_asks_and_no_secret(stack: Stack) -> None:
    stack.sidecar.get("/contacts/1?token=SECRETQUERY", stack.tokens["alice"], cookie="c=SECRETCOOKIE")
    line = stack.sidecar.decisions()[-1]
    assert (line["principal"], line["kind"], line["id"], line["action"]) == ("alice", "contact", "1", "read")
    assert (line["route"], line["outcome"], line["code"]) == ("/contacts/{id}", "allow", "allowed")
    assert set(line["ms"]) == {"request", "routing", "identity", "lookup", "decision"}
    assert line["call_id"]
    assert line["policy"] == "resource.contact.vdefault"
    assert (line["mode"], line["roles"]) == ("enforce", ["user"])
    assert (line["method"], line["host"]) == ("GET", f"127.0.0.1:{stack.sidecar.port}")
    text = (stack.sidecar.folder / "decisions.jsonl").read_text() + stack.sidecar.log()
    for secret in ("SECRETQUERY", "SECRETCOOKIE", stack.tokens["alice"][-40:]):
        assert secret not in text


@pytest.mark.parametrize(
    ("page", "code"),
    [
        ((200, "text/html", b"{}"), "lookup_status"),
        ((200, "application/json", b"{}"), "lookup_mismatch"),
        ((200, "application/json", b'{"id": 2, "owner_id": "alice"}'), "lookup_mismatch"),
        ((200, "application/json", b'{"id": 1, "owner_id": ["alice"]}'), "lookup_mismatch"),
        ((200, "application/json", b'{"id": 1, "owner_id": "bob", "owner_id": "alice"}'), "lookup_bad_answer"),
        ((200, "application/json", b'{"id": 1, "owner_id": NaN}'), "lookup_bad_answer"),
        ((200, "application/json", b'{"id": 1, "owner_id": "' + b"a" * 70000 + b'"}'), "lookup_bad_answer"),
        ((500, "application/json", b"{}"), "lookup_status"),
        ((302, "application/json", b"{}"), "lookup_status"),
        ((400, "application/json", b"{}"), "lookup_status"),
        ((403, "application/json", b"{}"), "lookup_auth"),
    ],
)  # fmt: skip
def test_whatever_the_hook_says_wrong_is_503(stack: Stack, page: tuple[int, str, bytes], code: str) -> None:
    stack.hook.pages["/contacts/1"] = page
    got = stack.sidecar.get("/contacts/1", stack.tokens["alice"])
    # nobody is told to ask again where the hook is set up wrongly
    retry = "60" if code in ("lookup_status", "lookup_auth") else "2"
    assert (got.status, got.code, got.header("retry-after")) == (503, code, retry)
    assert stack.upstream.received == b""


def test_a_late_hook_is_503(stack: Stack) -> None:
    stack.hook.delay = 3
    before = stack.sidecar.metric("sidecar_dep_errors_total", dep="lookup", fault="timeout")
    assert stack.sidecar.get("/contacts/1", stack.tokens["alice"]).code == "lookup_timeout"
    assert stack.sidecar.metric("sidecar_dep_errors_total", dep="lookup", fault="timeout") == before + 1
    assert stack.upstream.received == b""


def test_the_hook_gets_nothing_of_the_user(stack: Stack) -> None:
    stack.sidecar.get("/contacts/1", stack.tokens["alice"], cookie="a=b", x_mine="1")
    ((path, headers),) = stack.hook.asked
    assert path == "/contacts/1"
    assert set(headers) == {"host", "accept"}


def test_a_browser_gets_a_page_and_a_client_a_problem(stack: Stack) -> None:
    page = stack.sidecar.get("/nowhere", accept="text/html,*/*")
    assert page.status == 403
    assert page.header("content-type") == "text/html; charset=utf-8"
    assert b"route_unmapped" in page.body


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b'{"owner": "alice"}', "application/json", 200, ""),
        (b'{"owner": "alice"}', "application/json; charset=utf-8", 200, ""),
        (b'{"owner": "alice"}', "text/plain", 415, "body_type_unsupported"),
        (b'{"owner": ["alice"]}', "application/json", 400, "body_invalid"),
        (b'{"owner": "a", "owner": "b"}', "application/json", 400, "body_invalid"),
        (b"", "application/json", 400, "body_invalid"),
        (b'{"owner": "' + b"a" * 2000 + b'"}', "application/json", 413, "body_too_large"),
    ],
)
def test_a_body_that_a_route_reads_is_strict_json_and_forwarded_as_it_came(
    stack: Stack, body: bytes, kind: str, status: int, code: str
) -> None:
    got = stack.sidecar.request("POST", "/new", stack.tokens["alice"], body, content_type=kind)
    assert got.status == status
    if code:
        assert got.code == code
        assert stack.upstream.received == b""
    else:
        assert stack.upstream.seen[0].body == body


def test_the_assertion_verifies_by_the_published_keys(stack: Stack) -> None:
    stack.sidecar.get("/me", stack.tokens["alice"], x_auth_assertion="forged")
    (token,) = stack.upstream.seen[0].values("x-auth-assertion")
    keys = jwt.PyJWKSet.from_dict(json.loads(stack.sidecar.get("/_sidecar/jwks.json").body))
    audience = f"http://127.0.0.1:{stack.upstream.port}"
    claims = jwt.decode(token, keys[jwt.get_unverified_header(token)["kid"]], ["ES256"], audience=audience)
    assert (claims["sub"], claims["roles"]) == ("alice", ["user"])


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (raw_reply(b"nonsense\r\n\r\n"), 502, "upstream_protocol"),
        (raw_reply(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"), 502, "upstream_protocol"),
        (raw_reply(b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), 502, "upstream_protocol"),
        (raw_reply(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), 502, "upstream_protocol"),
        (lambda _, connection, __: connection.close(), 502, "upstream_unavailable"),
        (lambda *_: None, 504, "upstream_timeout"),
    ],
    ids=["garbage", "999", "101", "two framings", "closed", "silent"],
)  # fmt: skip
def test_an_upstream_that_does_not_answer_well_is_502_or_504(
    stack: Stack, answer: object, status: int, code: str
) -> None:
    stack.upstream.reset(answer)  # type: ignore[arg-type]
    got = stack.sidecar.request("POST", "/upload", stack.tokens["alice"], b"x")
    assert (got.status, got.code) == (status, code)
    line = stack.sidecar.decisions()[-1]
    assert (line["outcome"], line["code"], line["dep"]) == ("allow", code, "upstream")


def test_an_answer_that_breaks_off_breaks_the_clients_connection_off(stack: Stack) -> None:
    def half(_: Recorder, connection: socket.socket, __: Seen) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        connection.close()

    stack.upstream.reset(half)
    with closing(socket.create_connection(("127.0.0.1", stack.sidecar.port), 5)) as client:
        client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(65536):
                data += part
    # ten bytes were announced: what came can't be taken for the whole
    assert len(data.partition(b"\r\n\r\n")[2]) < 10
    wait_for(lambda: stack.sidecar.decisions()[-1]["event"] == "broken_off")
    # it is the upstream's fault, and no reason for a traceback of ours
    assert "Traceback" not in stack.sidecar.log()
    assert "traceback" not in stack.sidecar.log()


def test_events_are_passed_on_at_once(stack: Stack) -> None:
    go_on = threading.Event()

    def events(_: Recorder, connection: socket.socket, __: Seen) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        go_on.wait(5)
        connection.sendall(b"data: 2\n\n")
        connection.close()

    stack.upstream.reset(events)
    with closing(socket.create_connection(("127.0.0.1", stack.sidecar.port), 5)) as client:
        client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        while b"data: 1" not in data:
            data += more(client)
        assert b"data: 2" not in data
        go_on.set()
        while b"0\r\n\r\n" not in data:
            data += more(client)
        assert b"data: 2" in data


def test_a_client_that_leaves_takes_its_request_back(stack: Stack) -> None:
    stack.upstream.reset(lambda *_: None)
    client = socket.create_connection(("127.0.0.1", stack.sidecar.port), 5)
    client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_for(lambda: stack.upstream.seen)
    open_before = stack.upstream.open
    client.close()
    wait_for(lambda: stack.upstream.open < open_before, what="the upstream's connection is closed")
    wait_for(lambda: stack.sidecar.decisions()[-1]["status"] == 499)


def test_a_body_is_only_asked_for_when_it_may_come(stack: Stack) -> None:
    """Expect: 100-continue: a refusal comes without the body, an upload is invited."""
    head = "POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
    with closing(socket.create_connection(("127.0.0.1", stack.sidecar.port), 5)) as client:
        client.sendall(f"{head}\r\n".encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 401")
    with closing(socket.create_connection(("127.0.0.1", stack.sidecar.port), 5)) as client:
        client.sendall(f"{head}Authorization: Bearer {stack.tokens['alice']}\r\n\r\n".encode())
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    assert stack.upstream.seen[0].body == b"hello"
    assert stack.upstream.seen[0].values("expect") == []


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_streams(stack: Stack, chunked: bool) -> None:
    stack.upstream.reset(reply())
    body = b"x" * 300_000
    headers = f"POST /upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stack.tokens['alice']}\r\n"
    with closing(socket.create_connection(("127.0.0.1", stack.sidecar.port), 5)) as client:
        if chunked:
            client.sendall(f"{headers}Transfer-Encoding: chunked\r\n\r\n".encode())
            for at in range(0, len(body), 100_000):
                client.sendall(b"%x\r\n%b\r\n" % (100_000, body[at : at + 100_000]))
                time.sleep(0.01)
            client.sendall(b"0\r\nX-Trailer: 1\r\n\r\n")
        else:
            client.sendall(f"{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
    (seen,) = stack.upstream.seen
    assert seen.body == body
    assert seen.values("x-trailer") == []


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_none(stack: Stack, status: int) -> None:
    stack.upstream.reset(raw_reply(f"HTTP/1.1 {status} X\r\nETag: 1\r\n\r\n".encode()))
    got = stack.sidecar.get("/public")
    assert (got.status, got.body, got.header("etag")) == (status, b"", "1")
    assert stack.sidecar.get("/public").status == status


def test_head_is_decided_as_get_and_has_no_body(stack: Stack) -> None:
    stack.upstream.reset(reply(200, b"0123456789"))
    got = stack.sidecar.request("HEAD", "/contacts/1", stack.tokens["alice"])
    assert (got.status, got.body, got.header("content-length")) == (200, b"", "10")
    assert stack.sidecar.decisions()[-1]["action"] == "read"


def test_what_the_app_says_of_identity_or_of_our_cookies_is_not_passed_on(stack: Stack) -> None:
    own = ("X-Auth-Subject: root", "Set-Cookie: __Host-session=evil; Path=/; Secure", "Set-Cookie: app=1")
    stack.upstream.reset(reply(200, b"ok", *own, "Connection: x-secret", "X-Secret: 1"))
    got = stack.sidecar.get("/public")
    assert [value for name, value in got.headers if name == "set-cookie"] == ["app=1"]
    assert got.header("x-auth-subject") is None
    assert got.header("x-secret") is None


def test_cors_is_answered_for_listed_origins_and_marked_on_answers(stack: Stack) -> None:
    ask = {"access_control_request_method": "GET"}
    preflight = stack.sidecar.request("OPTIONS", "/cors", None, None, origin="https://front.example", **ask)
    assert (preflight.status, preflight.header("access-control-allow-origin")) == (204, "https://front.example")
    assert preflight.header("access-control-allow-methods") == "GET"
    assert (
        stack.sidecar.request("OPTIONS", "/cors", None, None, origin="https://evil.test", **ask).code == "cors_refused"
    )
    assert (
        stack.sidecar.request("OPTIONS", "/me", None, None, origin="https://front.example", **ask).code
        == "cors_refused"
    )
    assert stack.upstream.received == b""
    stack.upstream.reset(reply(200, b"ok", "Access-Control-Allow-Origin: *"))
    got = stack.sidecar.get("/cors", stack.tokens["alice"], origin="https://front.example")
    origins = [value for name, value in got.headers if name == "access-control-allow-origin"]
    assert (origins, got.header("vary")) == (["https://front.example"], "Origin, Authorization")
    refused = stack.sidecar.get("/cors", origin="https://front.example")
    assert (refused.status, refused.header("access-control-allow-origin")) == (401, "https://front.example")


def test_a_loosening_holds_for_its_route_alone(stack: Stack) -> None:
    assert stack.sidecar.get("/files/a%2fb", stack.tokens["alice"]).status == 200
    assert stack.upstream.seen[0].target == "/files/a%2fb"
    assert stack.sidecar.get("/contacts/a%2fb", stack.tokens["alice"]).code == "target_ambiguous"
    assert stack.sidecar.get("/files/..%2fb", stack.tokens["alice"]).code == "target_ambiguous"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (
            b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "request_invalid",
        ),
        (b"GET http://evil.test/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target_ambiguous"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "target_too_long"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX_A: 1\r\n\r\n", 400, "header_ambiguous"),
    ],
)
def test_what_is_no_request_is_refused_and_journaled_too(stack: Stack, data: bytes, status: int, code: str) -> None:
    before = stack.sidecar.metric("sidecar_requests_total", code=code, outcome="refuse")
    with closing(socket.create_connection(("127.0.0.1", stack.sidecar.port), 5)) as client:
        client.sendall(data)
        answer = http.client.HTTPResponse(client)
        answer.begin()
        problem = json.loads(answer.read())
    assert (answer.status, problem["code"]) == (status, code)
    line = stack.sidecar.decisions()[-1]
    assert (line["outcome"], line["code"], line["status"], line["peer"]) == ("refuse", code, status, "127.0.0.1")
    assert line["request_id"] == problem["request_id"] == answer.getheader("x-request-id")
    assert stack.sidecar.metric("sidecar_requests_total", code=code, outcome="refuse") == before + 1
    assert stack.upstream.received == b""
