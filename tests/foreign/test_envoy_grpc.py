"""What the table of cases does not show of the real Envoy: calls of gRPC, bodies, WebSockets, its log, and the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.foreign.cases import Ask
from tests.foreign.envoy_grpc import CONFIG, EXT_AUTHZ, Envoy, asked_by_grpc
from tests.foreign.world import HOSTILE, Guest, Outcome, World, running_world
from tests.paused import paused
from tests.stack import Answer, Recorder, Seen, raw_reply, wait_for

SERVICE = "envoy.service.auth.v3.Authorization"
CALLS = """\
  - {path: /test.Echo/Say, resource: document, attributes: {owner: "{header.x-owner}"}, actions: {POST: create}}
  - {path: /test.Echo/Talk, access: authenticated, methods: [POST]}
  - {path: /test.Echo/Reads, resource: document, attributes: {owner: "{body.owner}"}, actions: {POST: create}}
  - {path: "/any/{x:any}", access: public, allow: [semicolon, encoded_slash]}
  - {path: /by-header, resource: document, attributes: {owner: "{header.x-owner}"}, actions: {GET: view}}
  - {path: /upload, access: authenticated, methods: [PUT]}
"""
# so that each line of Envoy's log says what the sidecar told it
LOG = """\
                access_log:
                  - name: envoy.access_loggers.stdout
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog
                      log_format: {text_format_source: {inline_string: "META %DYNAMIC_METADATA(envoy.filters.http.ext_authz)% ID %REQ(X-REQUEST-ID)%\\n"}}
"""


@dataclass
class Setup:
    """The world, and the shipped configuration in it before an app that speaks HTTP and one that speaks gRPC."""

    world: World
    envoy: Envoy
    calls: EchoService
    changed: Envoy

    def send(self, ask: Ask, envoy: Envoy | None = None) -> Outcome:
        return self.world.send((envoy or self.envoy).port, ask)

    def last(self, envoy: Envoy | None = None) -> dict[str, Any]:
        return (envoy or self.envoy).sidecar.decisions()[-1]


class EchoService(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The protected app: says what it hears, once or as long as one talks. `heard` is the metadata of each call."""

    def __init__(self) -> None:
        self.heard: list[dict[str, str]] = []
        self.server = grpc.server(ThreadPoolExecutor(4))
        self.server.add_generic_rpc_handlers((self,))
        self.port: int = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def service(self, details: Any) -> Any:
        self.heard.append(dict(details.invocation_metadata))
        if details.method == "/test.Echo/Talk":
            return grpc.stream_stream_rpc_method_handler(lambda texts, context: texts)
        return grpc.unary_unary_rpc_method_handler(lambda text, context: text)


@pytest.fixture(scope="module")
def module_setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    """All of it, once; `changed` is an Envoy that repairs paths and joins headers, as others configure theirs."""
    folder = tmp_path_factory.mktemp("envoy")
    calls = EchoService()
    with running_world(folder) as world:
        routes = folder / "routes.yaml"
        routes.write_text(
            (HOSTILE / "routes.yaml").read_text().replace("<hook>", f"127.0.0.1:{world.hook.port}") + CALLS
        )
        own = {"SIDECAR_ROUTES": str(routes)}
        more = {"                # who the client is": LOG + "                # who the client is"}
        others = {
            "normalize_path: false": "normalize_path: true", "merge_slashes: false": "merge_slashes: true",
            "KEEP_UNCHANGED": "UNESCAPE_AND_FORWARD", "encode_raw_headers: true": "encode_raw_headers: false",
            "                      with_request_body": "                      #",
        }  # fmt: skip
        with (
            asked_by_grpc(world, "shipped", calls.port, more, EXT_AUTHZ, **own) as envoy,
            asked_by_grpc(world, "changed", 1, others, EXT_AUTHZ, **own) as changed,
        ):
            yield Setup(world, envoy, calls, changed)
    calls.server.stop(None).wait()


@pytest.fixture
def setup(module_setup: Setup) -> Setup:
    module_setup.calls.heard.clear()
    return module_setup


# --- calls of gRPC ---


@contextmanager
def channel(port: int) -> Iterator[grpc.Channel]:
    with closing(grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.default_authority", "app.test")])) as made:
        yield made


def say(setup: Setup, *metadata: tuple[str, str], method: str = "/test.Echo/Say") -> bytes:
    with channel(setup.envoy.port) as made:
        answer: bytes = made.unary_unary(method)(b"hello", metadata=metadata, timeout=10)
    return answer


def refused(setup: Setup, *metadata: tuple[str, str], method: str = "/test.Echo/Say") -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as failed:
        say(setup, *metadata, method=method)
    return failed.value


def bearer(setup: Setup, user: str) -> tuple[str, str]:
    return "authorization", f"Bearer {setup.world.token(user)}"


def test_a_call_is_decided_by_its_path_and_goes_through(setup: Setup) -> None:
    forged = ("x-auth-subject", "root"), ("x-original-url", "/admin")
    assert say(setup, bearer(setup, "alice"), ("x-owner", "a-1"), *forged) == b"hello"
    (heard,) = setup.calls.heard
    assert (heard["x-auth-subject"], heard["x-auth-roles"]) == ("a-1", "user")
    assert "x-original-url" not in heard
    last = setup.last()
    assert (last["path"], last["action"], last["outcome"]) == ("/test.Echo/Say", "create", "allow")


@pytest.mark.parametrize(
    ("user", "owner", "method", "code", "says"),
    [
        ("alice", "b-1", "/test.Echo/Say", grpc.StatusCode.PERMISSION_DENIED, "denied_by_policy"),
        ("", "a-1", "/test.Echo/Say", grpc.StatusCode.UNAUTHENTICATED, "token_missing"),
        ("expired", "a-1", "/test.Echo/Say", grpc.StatusCode.UNAUTHENTICATED, "token_expired"),
        ("alice", "", "/test.Echo/Say", grpc.StatusCode.INVALID_ARGUMENT, "reference_invalid"),
        ("alice", "a-1", "/test.Echo/Other", grpc.StatusCode.PERMISSION_DENIED, "route_unmapped"),
        ("alice", "a-1", "/docs/1", grpc.StatusCode.UNIMPLEMENTED, "method_unmapped"),
    ],
)
def test_a_refused_call_ends_with_a_status(
    setup: Setup, user: str, owner: str, method: str, code: grpc.StatusCode, says: str
) -> None:
    metadata = [bearer(setup, user)] if user else []
    error = refused(setup, *metadata, *([("x-owner", owner)] if owner else []), method=method)
    assert (error.code(), error.details()) == (code, says)
    told = {**dict(error.initial_metadata() or ()), **dict(error.trailing_metadata() or ())}
    assert told["x-request-id"] == setup.last()["request_id"]
    assert setup.calls.heard == []


def test_a_refusal_is_trailers_alone(setup: Setup) -> None:
    """One block of headers that ends the stream, under the status 200 (PROTOCOL-HTTP2.md, "Trailers-Only")."""
    # without a message, so that its end and the refusal cannot cross
    command = [
        "curl", "-s", "-i", "-X", "POST", "--http2-prior-knowledge", "--max-time", "10",
        "-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "host: app.test",
        f"http://127.0.0.1:{setup.envoy.port}/test.Echo/Say",
    ]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\r", "")
    head, _, body = said.partition("\n\n")
    assert head.startswith("HTTP/2 200")
    assert "\ngrpc-status: 16" in head
    assert "\ngrpc-message: token_missing" in head
    assert "\ncontent-type: application/grpc" in head
    assert body == ""


def test_a_call_that_talks_is_not_held_up(setup: Setup) -> None:
    """It is decided before it has ended: nobody waits for a body that has no end."""
    heard = threading.Event()

    def texts() -> Iterator[bytes]:
        yield b"one"
        assert heard.wait(10)
        yield b"two"

    with channel(setup.envoy.port) as made:
        answers = made.stream_stream("/test.Echo/Talk")(texts(), metadata=[bearer(setup, "alice")], timeout=10)
        assert next(answers) == b"one"
        heard.set()
        assert list(answers) == [b"two"]


# --- bodies ---

JSON = ("Content-Type: application/json",)


def body_of(owner: str, size: int) -> bytes:
    start = json.dumps({"owner": owner, "text": ""})[:-2].encode()
    return start + b"x" * (size - len(start) - 2) + b'"}'


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (body_of("a-1", 30), 200, "allowed"),
        (body_of("b-1", 30), 403, "denied_by_policy"),
        (body_of("a-1", 1024 * 1024 - 1), 200, "allowed"),
        (body_of("a-1", 1024 * 1024 + 1), 413, "body_too_large"),
        (b'{"owner":"a-1","owner":"b-1"}', 400, "body_invalid"),
    ],
    ids=["small", "denied", "as large as may be", "too large", "two owners"],
)
def test_a_body_that_a_route_reads(setup: Setup, body: bytes, status: int, code: str) -> None:
    outcome = setup.send(Ask("/docs", "POST", "alice", JSON, body))
    assert outcome.status == status
    assert setup.last()["code"] == code
    assert [seen.body for seen in outcome.seen] == ([body] if status == 200 else [])


def test_a_body_in_chunks_is_read_whole(setup: Setup) -> None:
    for owner, status in (("a-1", 200), ("b-1", 403)):
        data = body_of(owner, 40)
        with closing(_sent(setup, "POST /docs", *JSON, "Transfer-Encoding: chunked")) as client:
            for part in (data[:7], data[7:]):
                client.send(b"%x\r\n%b\r\n" % (len(part), part))
            client.send(b"0\r\n\r\n")
            assert client.reply("POST").status == status


def _sent(setup: Setup, start: str, *headers: str) -> Any:
    client = Guest(setup.envoy.port)
    lines = [f"{start} HTTP/1.1", "Host: app.test", f"Authorization: Bearer {setup.world.token('alice')}", *headers]
    client.send("\r\n".join([*lines, "", ""]).encode())
    client.close = client.socket.close  # type: ignore[attr-defined]
    return client


def test_a_large_body_passes_where_nobody_reads_it(setup: Setup) -> None:
    body = os.urandom(3 * 1024 * 1024)
    outcome = setup.send(Ask("/upload", "PUT", "alice", (), body))
    assert outcome.status == 200
    assert outcome.seen[0].body == body


def test_without_the_filter_s_body_a_route_that_reads_it_is_refused(setup: Setup) -> None:
    outcome = setup.send(Ask("/docs", "POST", "alice", JSON, body_of("a-1", 30)), setup.changed)
    assert (outcome.status, outcome.seen) == (501, [])
    assert setup.last(setup.changed)["code"] == "proxy_unable"


# --- what was decided is what is sent ---


@pytest.mark.parametrize(
    "target",
    [
        "/any/a", "/any/%61", "/any/%2561", "/any/a;b", "/any/a%2fb", "/any/a%2Fb", "/any/../any/b", "/any/%2e%2e/any/b",
        "//any//a", "/any/a/", "/any/a%5cb", "/any/caf%c3%a9", "/any/%C3%A9", "/any/caf\xe9", "/any/a!", "/any/~a", "/any/a?b=%2e%2e/../c",
        "/any/%7Ea", "/any/.a", "/any/a..b",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["shipped", "changed"])
def test_the_path_that_was_decided_is_the_path_that_is_sent(setup: Setup, kind: str, target: str) -> None:
    """Whatever Envoy makes of it before it asks."""
    envoy = setup.envoy if kind == "shipped" else setup.changed
    outcome = setup.send(Ask(target), envoy)
    assert len(outcome.seen) == (outcome.status == 200)
    if outcome.seen:
        assert outcome.seen[0].target.partition("?")[0] == setup.last(envoy)["path"]
        assert outcome.seen[0].target.startswith("/any/")


@pytest.mark.parametrize(
    ("headers", "shipped", "changed"),
    [
        (("X-Owner: a-1",), 200, 200),
        (("X-Owner: a-1", "X-Owner: b-1"), 400, 403),
        (("X-Owner: b-1", "X-Owner: a-1"), 400, 403),
        (("X-Owner: a-1\xff",), 400, 403),
    ],
)
def test_the_header_that_was_decided_is_the_header_that_is_sent(
    setup: Setup, headers: tuple[str, ...], shipped: int, changed: int
) -> None:
    for envoy, status in ((setup.envoy, shipped), (setup.changed, changed)):
        outcome = setup.send(Ask("/by-header", user="alice", headers=headers), envoy)
        assert (outcome.status, len(outcome.seen)) == (status, status == 200)


def test_joined_values_and_replaced_bytes_are_sent_as_they_were_read(setup: Setup) -> None:
    headers = (
        "X-A: 1",
        "X-A: 2",
        "X-B: caf\xe9",
        "X-C: 3",
        "Cookie: __Host-session=x; a=1",
        "Cookie: b=2",
        "Accept: text/css, */*",
    )
    outcome = setup.send(Ask("/any/a", headers=headers), setup.changed)
    (seen,) = outcome.seen
    assert seen.values("x-a") == ["1,2"]
    assert "\xe9" not in seen.values("x-b")[0]
    assert seen.values("x-c") == ["3"]
    assert "__Host-session" not in str(seen.headers)
    assert seen.values("accept") == ["text/css, */*"]
    assert seen.values("cookie") == ["a=1,b=2"]


def test_a_session_s_cookie_that_envoy_hid_behind_another_is_refused(setup: Setup) -> None:
    headers = "Cookie: a=1", "Cookie: __Host-session=x; b=2"
    outcome = setup.send(Ask("/any/a", headers=headers), setup.changed)
    assert (outcome.status, outcome.seen) == (400, [])
    (seen,) = setup.send(Ask("/any/a", headers=headers)).seen
    assert "__Host-session" not in str(seen.headers)


# --- the rest ---


def _switching(_: Recorder, connection: Any, seen: Seen) -> None:
    raw_reply(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")(
        _, connection, seen
    )


@pytest.mark.parametrize(("target", "status"), [("/ws/1", 101), ("/ws/2", 403)])
def test_a_websocket_is_decided_at_its_handshake(setup: Setup, target: str, status: int) -> None:
    answer: Answer = _switching
    setup.world.app.reset(answer)
    setup.world.hook.owners = {"1": "a-1", "2": "b-1"}
    handshake = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    with closing(_sent(setup, f"GET {target}", *handshake)) as client:
        assert client.reply("GET").status == status
    assert setup.last()["action"] == "subscribe"
    assert len(setup.world.app.seen) == (status == 101)
    if status == 101:
        assert setup.world.app.seen[0].values("x-auth-subject") == ["a-1"]


def test_envoy_s_log_knows_who_and_why(setup: Setup) -> None:
    setup.send(Ask("/docs/1", user="alice"))
    allowed = setup.last()
    setup.send(Ask("/docs/2", user="alice"))
    denied = setup.last()
    for line, code in ((allowed, "allowed"), (denied, "denied_by_policy")):
        wait_for(lambda line=line: line["request_id"] in setup.envoy.log())  # type: ignore[misc]
        text = next(each for each in setup.envoy.log().splitlines() if line["request_id"] in each)
        told = json.loads(text.partition("META ")[2].partition(" ID ")[0])
        # Envoy adds how long it took
        told.pop("ext_authz_duration", None)
        assert told == {"principal": "a-1", "route": "/docs/{id}", "code": code, "request_id": line["request_id"]}


def test_the_answer_to_the_client_says_nobody_s_name(setup: Setup) -> None:
    outcome = setup.world.send(setup.envoy.port, Ask("/docs/1", user="alice"))
    assert outcome.reply is not None
    assert outcome.reply.values("x-auth-subject") == []
    ask = Ask("/docs/1", user="alice")
    setup.world.app.reset(raw_reply(b"HTTP/1.1 200 X\r\nX-Auth-Subject: root\r\nContent-Length: 0\r\n\r\n"))
    with closing(_sent(setup, f"GET {ask.target}")) as client:
        reply = client.reply("GET")
    assert (reply.status, reply.values("x-auth-subject")) == (200, [])


def health(port: int, service: str = SERVICE) -> bytes:
    with channel(port) as made:
        question = b"\x0a" + bytes([len(service)]) + service.encode()
        answer: bytes = made.unary_unary("/grpc.health.v1.Health/Check")(question, timeout=5)
    return answer


def test_the_health_service_follows_readiness(setup: Setup) -> None:
    assert health(setup.envoy.asks) == b"\x08\x01"


def test_a_sidecar_that_does_not_answer_is_a_refusal(setup: Setup) -> None:
    """Envoy waits 2 s, and lets nothing through."""
    with paused(setup.envoy.sidecar.pid):
        outcome = setup.send(Ask("/public/a"))
        assert (outcome.status, outcome.seen) == (503, [])
    wait_for(lambda: setup.send(Ask("/public/a")).status == 200)


def test_workers_share_a_unix_socket_and_end_what_they_began(setup: Setup, tmp_path: Path) -> None:
    """Both answer; on SIGTERM a question under way is answered, and no new one is taken."""
    path = tmp_path / "ask.sock"
    slow = threading.Event()

    def owner(recorder: Recorder, connection: Any, seen: Seen) -> None:
        slow.set()
        time.sleep(0.3)
        setup.world.hook._owner(recorder, connection, seen)

    with setup.world.sidecar("workers", SIDECAR_EXT_AUTHZ_LISTEN=f"unix:{path}", SIDECAR_WORKERS="2") as sidecar:
        question = _question(setup.world.token("alice"))
        with closing(grpc.insecure_channel(f"unix:{path}")) as made:
            check = made.unary_unary(f"/{SERVICE}/Check")
            assert b"x-auth-subject" in check(question, timeout=5)
            setup.world.hook.reset(owner)
            under_way = check.future(question, timeout=5)
            assert slow.wait(5)
            os.kill(sidecar.pid, signal.SIGTERM)
            assert b"x-auth-subject" in under_way.result()
            wait_for(lambda: _is_refused(path))
        setup.world.hook.restore()


def _is_refused(path: Path) -> bool:
    with closing(grpc.insecure_channel(f"unix:{path}")) as made:
        try:
            made.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=1)
        except grpc.RpcError as error:
            return bool(error.code() is grpc.StatusCode.UNAVAILABLE)
    return False


def _question(token: str) -> bytes:
    from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

    asked = CheckRequest()
    http = asked.attributes.request.http
    http.method, http.path, http.host = "GET", "/docs/1", "app.test"
    http.header_map.headers.add(key="authorization", raw_value=f"Bearer {token}".encode())
    made: bytes = asked.SerializeToString()
    return made


def test_the_configuration_fails_closed_and_asks_about_everything() -> None:
    text = CONFIG.read_text()
    for line in (
        "failure_mode_allow: false",
        "status_on_error: {code: ServiceUnavailable}",
        "encode_raw_headers: true",
    ):
        assert line in text
    assert text.count("disabled: true") == 1
    assert "failure_mode_allow: true" not in text
