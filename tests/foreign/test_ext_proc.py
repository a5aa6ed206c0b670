"""Answers of the app by way of a real Envoy that shows them (ext_proc): what a person may see, and nothing on any fault."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from tests.foreign.cases import Ask
from tests.foreign.envoy_grpc import EXT_PROC, Envoy, asked_by_grpc, before
from tests.foreign.test_envoy_grpc import EchoService
from tests.foreign.world import HOSTILE, Guest, Outcome, World, running_world
from tests.paused import pause, paused, resume
from tests.stack import Answer, Recorder, Seen, raw_reply, reply, wait_for

MIB = 1024 * 1024
LISTS = """\
  - path: /list
    resource: document
    attributes: {owner: "{principal.id}"}
    query: [n]
    actions: {GET: view}
    items: {at: items, id: id, action: view, attributes: {owner: owner}, fields: {phone: delete}, total: total, max: 5000}
  - path: /looked-up
    resource: document
    attributes: {owner: "{principal.id}"}
    actions: {GET: view}
    items: {at: items, id: id, action: view, lookup: document, fields: {phone: delete}, max: 100}
  - {path: "/one/{id}", resource: document, id: "{path.id}", lookup: document, actions: {GET: view}, fields: {phone: delete}}
  - path: /lines
    resource: document
    attributes: {owner: "{principal.id}"}
    actions: {GET: view}
    items: {at: lines, id: id, action: view, attributes: {owner: owner}, fields: {phone: delete}}
  - path: /notes/{id}
    resource: document
    id: "{path.id}"
    lookup: {from: answer, attributes: {owner: owner}, missing: hide}
    actions: {GET: view}
  - {path: /upload, access: authenticated, methods: [PUT]}
  - {path: /test.Echo/Talk, access: authenticated, methods: [POST]}
"""
JSON = "Content-Type: application/json"
SECRET = "not-hers"


@dataclass
class Setup:
    """The world, and the shipped configuration in it."""

    world: World
    envoy: Envoy
    calls: EchoService

    def send(self, ask: Ask, answer: Answer | None = None) -> Outcome:
        if answer is not None:
            self.world.answer = answer
        return self.world.send(self.envoy.port, ask)

    def last(self) -> dict[str, Any]:
        return self.envoy.sidecar.decisions()[-1]


def routes_in(folder: Path, world: World) -> str:
    path = folder / "routes.yaml"
    path.write_text((HOSTILE / "routes.yaml").read_text().replace("<hook>", f"127.0.0.1:{world.hook.port}") + LISTS)
    return str(path)


@pytest.fixture(scope="module")
def module_setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    folder, calls = tmp_path_factory.mktemp("ext-proc"), EchoService()
    with (
        running_world(folder) as world,
        asked_by_grpc(
            world,
            "shipped",
            calls.port,
            by=EXT_PROC,
            SIDECAR_ROUTES=routes_in(folder, world),
            SIDECAR_CERBOS_TIMEOUT="500ms",
        ) as envoy,
    ):
        yield Setup(world, envoy, calls)
    calls.server.stop(None).wait()


@pytest.fixture
def setup(module_setup: Setup) -> Setup:
    module_setup.world.hook.owners = {"1": "a-1", "2": "b-1"}
    return module_setup


def listed(*owners: str, text: str = "") -> bytes:
    items = [
        {"id": number, "owner": owner, "phone": "555" if owner == "a-1" else SECRET, "text": text}
        for number, owner in enumerate(owners)
    ]
    return json.dumps({"total": len(items), "items": items}).encode()


MIXED = listed("a-1", "b-1", "a-1", "c-1")
LIST = Ask("/list", user="alice")


def chunked(body: bytes, *headers: str, trailers: bytes = b"") -> Answer:
    head = "\r\n".join(["HTTP/1.1 200 X", *headers, "Transfer-Encoding: chunked", "", ""]).encode()
    return raw_reply(head + b"%x\r\n%b\r\n0\r\n" % (len(body), body) + trailers + b"\r\n")


# --- what a person may see ---


@pytest.mark.parametrize(
    "answer", [reply(200, MIXED, JSON, 'ETag: "1"'), chunked(MIXED, JSON)], ids=["length", "chunked"]
)
def test_a_list_shows_what_a_person_may_see(setup: Setup, answer: Answer) -> None:
    outcome = setup.send(LIST, answer)
    assert outcome.reply is not None
    shown = json.loads(outcome.reply.body)
    assert (outcome.status, [item["id"] for item in shown["items"]], shown["total"]) == (200, [0, 2], 2)
    assert SECRET.encode() not in outcome.reply.body
    assert all("phone" not in item for item in shown["items"])
    assert outcome.reply.values("etag") == []
    assert outcome.reply.values("cache-control") == ["private, no-store"]
    line = setup.last()
    assert (line["status"], line["peer"]) == (200, "127.0.0.2")
    assert line["items"] == {"seen": 4, "kept": 2, "masked": 2, "calls": 1}


def test_items_that_are_looked_up_are_shown_as_their_lookup_says(setup: Setup) -> None:
    answer = reply(200, listed("none", "b-1", "a-1", "a-1"), JSON)
    outcome = setup.send(Ask("/looked-up", user="alice"), answer)
    assert outcome.reply is not None
    # the hook has 1 and 2, of which the first is hers
    assert [item["id"] for item in json.loads(outcome.reply.body)["items"]] == [1]
    assert setup.last()["items"] == {"seen": 4, "kept": 1, "masked": 1, "calls": 1}
    setup.world.hook.owners = {}
    outcome = setup.send(Ask("/looked-up", user="alice"), answer)
    assert outcome.reply is not None
    assert json.loads(outcome.reply.body)["items"] == []


def test_an_admin_sees_all_of_it(setup: Setup) -> None:
    outcome = setup.send(Ask("/list", user="root"), reply(200, MIXED, JSON))
    assert outcome.reply is not None
    assert (outcome.status, outcome.reply.body) == (200, MIXED)


@pytest.mark.parametrize(("user", "shown"), [("alice", False), ("root", True)])
def test_a_field_of_one_answer_is_hidden(setup: Setup, user: str, shown: bool) -> None:
    outcome = setup.send(Ask("/one/1", user=user), reply(200, b'{"id": 1, "phone": "555"}', JSON))
    assert outcome.reply is not None
    assert (outcome.status, b"555" in outcome.reply.body) == (200, shown)


@pytest.mark.parametrize(
    ("user", "answer", "status", "code"),
    [
        ("alice", reply(200, b'{"owner": "a-1"}', JSON), 200, "allowed"),
        ("bob", reply(200, b'{"owner": "a-1"}', JSON), 404, "denied_by_policy"),
        ("alice", reply(200, b'{"owner": 1', JSON), 503, "lookup_bad_answer"),
    ],
    ids=["hers", "not his", "no JSON"],
)
def test_a_decision_is_made_from_the_answer(setup: Setup, user: str, answer: Answer, status: int, code: str) -> None:
    outcome = setup.send(Ask("/notes/7", user=user), answer)
    assert outcome.reply is not None
    assert (outcome.status, setup.last()["code"], len(outcome.seen)) == (status, code, 1)
    assert (b"owner" in outcome.reply.body) is (status == 200)


def test_a_list_is_asked_for_whole_and_unpacked(setup: Setup) -> None:
    headers = ("Accept-Encoding: gzip", "Range: bytes=0-9", 'If-None-Match: "1"', "X-Auth-Subject: root")
    (seen,) = setup.send(Ask("/list?n=1", user="alice", headers=headers), reply(200, MIXED, JSON)).seen
    names = {name.lower() for name, _ in seen.headers}
    assert not {"accept-encoding", "range", "if-none-match"} & names
    assert (seen.target, seen.values("x-auth-subject")) == ("/list?n=1", ["a-1"])


def test_head_is_answered_as_get_is(setup: Setup) -> None:
    outcome = setup.send(Ask("/list", "HEAD", "alice"), reply(200, MIXED, JSON))
    assert outcome.reply is not None
    assert (outcome.status, outcome.reply.body, [seen.method for seen in outcome.seen]) == (200, b"", ["GET"])
    assert (setup.last()["method"], setup.last()["items"]["kept"]) == ("HEAD", 2)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_same_by_http_2(setup: Setup, method: str) -> None:
    setup.world.app.reset(reply(200, MIXED, JSON))
    command = [
        "curl", "-s", "-i", *(["-I"] if method == "HEAD" else []), "--http2-prior-knowledge", "--max-time", "10",
        "-H", "host: app.test", "-H", f"authorization: Bearer {setup.world.token('alice')}",
        f"http://127.0.0.1:{setup.envoy.port}/list",
    ]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.replace("\r", "")
    head, _, body = said.partition("\n\n")
    assert head.startswith("HTTP/2 200")
    if method == "HEAD":
        assert body == ""
    else:
        assert [item["id"] for item in json.loads(body)["items"]] == [0, 2]


def lines_of(*owners: str) -> list[bytes]:
    return [json.dumps({"id": at, "owner": owner, "phone": SECRET}).encode() + b"\n" for at, owner in enumerate(owners)]


NDJSON = "Content-Type: application/x-ndjson"


def test_lines_go_out_while_the_app_writes_them(setup: Setup) -> None:
    go_on = threading.Event()
    one, two, three = lines_of("a-1", "b-1", "a-1")

    def answer(_: Recorder, connection: Any, __: Seen) -> None:
        connection.sendall(f"HTTP/1.1 200 X\r\n{NDJSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        connection.sendall(b"%x\r\n%b\r\n" % (len(one + two[:9]), one + two[:9]))
        assert go_on.wait(10)
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(two[9:] + three), two[9:] + three))

    setup.world.app.reset(answer)
    client = Guest(setup.envoy.port)
    with closing(client.socket):
        client.send(setup.world.bytes_of(Ask("/lines", user="alice")))
        first = client.until(b'"owner": "a-1"}\n')
        go_on.set()
        rest = client.until(b"0\r\n\r\n")
    assert SECRET.encode() not in first + rest
    assert b'"id": 2' in rest
    assert b"b-1" not in first + rest


def test_many_lines(setup: Setup) -> None:
    """Of 10,000 half is shown; Envoy shows them in pieces, of which many are under way at once."""
    body = b"".join(lines_of(*["a-1", "b-1"] * 5000))
    outcome = setup.send(Ask("/lines", user="alice"), reply(200, body, NDJSON))
    assert outcome.reply is not None
    assert [json.loads(line)["id"] for line in outcome.reply.body.splitlines()] == list(range(0, 10_000, 2))


@pytest.mark.parametrize("bad", [b"{}\n", b"nothing\n", b'{"id": 1, "owner": "a-1", "owner": "b-1"}\n'])
def test_a_line_that_cannot_be_judged_breaks_the_answer_off(setup: Setup, bad: bytes) -> None:
    line = lines_of("a-1")[0]
    setup.world.app.reset(chunked(line + bad + line, NDJSON))
    client = Guest(setup.envoy.port)
    with closing(client.socket):
        client.send(setup.world.bytes_of(Ask("/lines", user="alice")))
        # where Envoy has not sent the head yet it can say so
        with contextlib.suppress(EOFError):
            assert client.reply("GET").status >= 500
        assert bad not in client.data
    wait_for(lambda: setup.last().get("code") == "items_unreadable")


def test_a_large_list(setup: Setup) -> None:
    """6 MiB, of which half is shown: more than one message of gRPC has by default, and than a window."""
    owners = ["a-1", "b-1"] * 300
    body = listed(*owners, text="x" * 10_000)
    assert len(body) > 6_000_000
    outcome = setup.send(LIST, reply(200, body, JSON))
    assert outcome.reply is not None
    assert (outcome.status, len(json.loads(outcome.reply.body)["items"])) == (200, 300)
    assert setup.last()["items"] == {"seen": 600, "kept": 300, "masked": 300, "calls": 12}


def test_many_at_once_each_get_their_own(setup: Setup) -> None:
    setup.world.app.reset(reply(200, listed("a-1", "b-1", text="x" * 50_000), JSON))

    def one(number: int) -> list[str]:
        user = ("alice", "bob")[number % 2]
        client = Guest(setup.envoy.port)
        owners = []
        with closing(client.socket):
            for _ in range(3):
                client.send(setup.world.bytes_of(Ask("/list", user=user)))
                owners += [item["owner"] for item in json.loads(client.reply("GET").body)["items"]]
        return owners

    setup.world.token("alice"), setup.world.token("bob")
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(one, range(40)))
    assert found == [["a-1"] * 3, ["b-1"] * 3] * 20


# --- what is not released ---


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (reply(200, b"<html>" + SECRET.encode(), JSON), 502, "items_unreadable"),
        (reply(200, MIXED), 502, "items_unreadable"),
        (reply(200, MIXED, JSON, "Content-Encoding: gzip"), 502, "items_unreadable"),
        (reply(206, MIXED, JSON), 502, "items_unreadable"),
        (reply(200, b"", JSON), 502, "items_unreadable"),
        (reply(200, b'{"items": [{"owner": "a-1"}]}', JSON), 502, "items_unreadable"),
        (reply(200, listed(*["a-1"] * 5001), JSON), 502, "items_too_many"),
    ],
    ids=["no JSON", "another type", "an encoding", "a part", "nothing", "no id", "too many"],
)
def test_an_answer_that_is_not_a_list_is_not_released(setup: Setup, answer: Answer, status: int, code: str) -> None:
    outcome = setup.send(LIST, answer)
    assert outcome.reply is not None
    assert (outcome.status, json.loads(outcome.reply.body)["code"]) == (status, code)
    assert outcome.reply.values("content-encoding") == []
    assert (setup.last()["code"], setup.last()["status"]) == (code, status)


@pytest.mark.parametrize("form", [reply, chunked], ids=["length", "chunked"])
def test_more_than_envoy_holds_is_not_released(setup: Setup, form: Callable[..., Answer]) -> None:
    body = listed("a-1", text="x" * 11 * MIB)
    outcome = setup.send(LIST, reply(200, body, JSON) if form is reply else chunked(body, JSON))
    assert outcome.reply is not None
    assert outcome.status in (500, 502)
    assert b"xxxx" not in outcome.reply.body


@pytest.mark.parametrize("status", [302, 404, 500])
def test_an_error_or_a_redirect_of_the_app_is_its_own(setup: Setup, status: int) -> None:
    outcome = setup.send(LIST, reply(status, b"its own", "Location: /a"))
    assert outcome.reply is not None
    assert (outcome.status, outcome.reply.body, setup.last()["status"]) == (status, b"its own", status)


def test_an_answer_that_breaks_off_is_not_released(setup: Setup) -> None:
    def answer(_: Recorder, connection: Any, __: Seen) -> None:
        connection.sendall(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n" + MIXED)
        connection.shutdown(2)

    outcome = setup.send(LIST, answer)
    assert outcome.reply is not None
    assert outcome.status >= 500
    assert SECRET.encode() not in outcome.reply.body
    wait_for(lambda: setup.last()["status"] == 499)


def test_a_refused_request_never_reaches_the_app(setup: Setup) -> None:
    for ask, status in ((Ask("/list"), 401), (Ask("/one/2", user="alice"), 403), (Ask("/nowhere", user="alice"), 403)):
        outcome = setup.send(ask, reply(200, MIXED, JSON))
        assert (outcome.status, outcome.seen) == (status, [])


# --- what passes as it comes ---


def test_the_app_s_own_answers_pass_and_keep_private(setup: Setup) -> None:
    answer = reply(
        200, b"hi", "Set-Cookie: a=1", "Set-Cookie: b=2", "Set-Cookie: __Host-session=forged", "X-Auth-Subject: root",
        "Cache-Control: public, max-age=60", "X-Mine: 1",
    )  # fmt: skip
    outcome = setup.send(Ask("/docs/1", user="alice"), answer)
    assert outcome.reply is not None
    assert (outcome.reply.values("set-cookie"), outcome.reply.values("x-auth-subject")) == (["a=1", "b=2"], [])
    assert outcome.reply.values("cache-control") == ["private, max-age=60"]
    assert outcome.reply.values("x-mine") == ["1"]


def test_a_stream_of_the_app_is_not_held_up(setup: Setup) -> None:
    go_on = threading.Event()

    def answer(_: Recorder, connection: Any, __: Seen) -> None:
        connection.sendall(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        assert go_on.wait(10)
        connection.sendall(b"3\r\ntwo\r\n0\r\n\r\n")

    setup.world.app.reset(answer)
    client = Guest(setup.envoy.port)
    with closing(client.socket):
        client.send(setup.world.bytes_of(Ask("/docs/1", user="alice")))
        assert b"one" in client.until(b"one")
        go_on.set()
        assert b"two" in client.until(b"two")


def test_a_large_download_is_not_held_up(setup: Setup) -> None:
    body = os.urandom(30 * MIB)
    outcome = setup.send(Ask("/docs/1", user="alice"), reply(200, body))
    assert outcome.reply is not None
    assert (outcome.status, outcome.reply.body == body) == (200, True)


def test_a_large_upload_is_not_held_up(setup: Setup) -> None:
    body = os.urandom(12 * MIB)
    outcome = setup.send(Ask("/upload", "PUT", "alice", (), body), reply(201, b"made"))
    assert (outcome.status, [seen.body == body for seen in outcome.seen]) == (201, [True])


def test_a_call_that_talks_is_not_held_up(setup: Setup) -> None:
    heard = threading.Event()

    def texts() -> Iterator[bytes]:
        yield b"one"
        assert heard.wait(10)
        yield b"two"

    options = [("grpc.default_authority", "app.test")]
    with closing(grpc.insecure_channel(f"127.0.0.1:{setup.envoy.port}", options)) as channel:
        talk = channel.stream_stream("/test.Echo/Talk")
        answers = talk(texts(), metadata=[("authorization", f"Bearer {setup.world.token('alice')}")], timeout=10)
        assert next(answers) == b"one"
        heard.set()
        assert list(answers) == [b"two"]
        with pytest.raises(grpc.RpcError) as refused:
            list(talk(iter([b"x"]), timeout=10))
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, "token_missing")


@pytest.mark.parametrize(("target", "status"), [("/ws/1", 101), ("/ws/2", 403)])
def test_a_websocket_is_decided_at_its_handshake(setup: Setup, target: str, status: int) -> None:
    setup.world.app.reset(
        raw_reply(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
    )
    handshake = (
        "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )  # fmt: skip
    client = Guest(setup.envoy.port)
    with closing(client.socket):
        client.send(setup.world.bytes_of(Ask(target, user="alice", headers=handshake)))
        if status == 101:
            assert client.until(b"hello").startswith(b"HTTP/1.1 101")
        else:
            assert client.reply("GET").status == status
    assert len(setup.world.app.seen) == (status == 101)


# --- bodies of requests ---


def body_of(owner: str, size: int = 40) -> bytes:
    start = json.dumps({"owner": owner, "text": ""})[:-2].encode()
    return start + b"x" * (size - len(start) - 2) + b'"}'


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (body_of("a-1"), 201, "allowed"), (body_of("b-1"), 403, "denied_by_policy"),
        (body_of("a-1", MIB - 1), 201, "allowed"), (body_of("a-1", MIB + 1), 413, "body_too_large"),
        (b'{"owner":"a-1","owner":"b-1"}', 400, "body_invalid"),
    ],
    ids=["small", "denied", "as large as may be", "too large", "two owners"],
)  # fmt: skip
def test_a_body_that_a_route_reads(setup: Setup, body: bytes, status: int, code: str) -> None:
    outcome = setup.send(Ask("/docs", "POST", "alice", (JSON,), body), reply(201, b"made"))
    assert (outcome.status, setup.last()["code"]) == (status, code)
    assert [seen.body for seen in outcome.seen] == ([body] if status == 201 else [])


def test_a_body_in_chunks_that_envoy_does_not_hold_is_too_large(setup: Setup) -> None:
    setup.world.app.reset()
    client = Guest(setup.envoy.port)
    with closing(client.socket):
        ask = Ask("/docs", "POST", "alice", (JSON, "Transfer-Encoding: chunked"))
        client.send(setup.world.bytes_of(ask))
        client.send((b"%x\r\n%b\r\n" % (MIB, bytes(MIB))) * 11)
        assert client.reply("POST").status == 413
    assert (setup.last()["code"], setup.world.app.seen) == ("body_too_large", [])


# --- Envoy's own answers ---


@pytest.mark.parametrize(("start", "status"), [(b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET http://a/b HTTP/1.1\r\nHost: app.test\r\n\r\n", 404)])  # fmt: skip
def test_a_refusal_of_envoy_s_own_keeps_its_status(setup: Setup, start: bytes, status: int) -> None:
    setup.world.app.reset()
    client = Guest(setup.envoy.port)
    with closing(client.socket):
        client.send(start)
        assert client.reply("GET").status == status
    assert setup.world.app.seen == []


# --- faults ---


def test_a_sidecar_that_is_stopped_releases_nothing(setup: Setup, tmp_path: Path) -> None:
    """Killed after it had let the head of an answer go on to its body, and again while nobody listens."""
    routes = routes_in(tmp_path, setup.world)
    begun, go_on = threading.Event(), threading.Event()

    def answer(_: Recorder, connection: Any, seen: Seen) -> None:
        head = f"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: {len(MIXED)}\r\n\r\n"
        connection.sendall(head.encode() + MIXED[:20])
        begun.set()
        assert go_on.wait(10)
        connection.sendall(MIXED[20:])

    with asked_by_grpc(setup.world, "killed", by=EXT_PROC, SIDECAR_ROUTES=routes) as envoy:
        setup.world.app.reset(answer)
        client = Guest(envoy.port)
        with closing(client.socket):
            client.send(setup.world.bytes_of(LIST))
            assert begun.wait(10)
            os.kill(envoy.sidecar.pid, signal.SIGKILL)
            go_on.set()
            got = client.reply("GET")
        assert got.status >= 500
        assert SECRET.encode() not in got.body
        assert b"owner" not in got.body
        outcome = setup.world.send(envoy.port, LIST)
        assert (outcome.status >= 500, outcome.seen) == (True, [])


def test_a_sidecar_that_is_late_releases_nothing(setup: Setup, tmp_path: Path) -> None:
    """It stands still between the head and the body of an answer, for longer than Envoy waits."""
    begun, go_on = threading.Event(), threading.Event()

    def answer(_: Recorder, connection: Any, seen: Seen) -> None:
        begun.set()
        assert go_on.wait(10)
        reply(200, MIXED, JSON)(_, connection, seen)

    changes = {"message_timeout: 10s": "message_timeout: 0.3s"}
    routes = routes_in(tmp_path, setup.world)
    with asked_by_grpc(setup.world, "late", changes=changes, by=EXT_PROC, SIDECAR_ROUTES=routes) as envoy:
        setup.world.app.reset(answer)
        client = Guest(envoy.port)
        with closing(client.socket):
            client.send(setup.world.bytes_of(LIST))
            assert begun.wait(10)
            with paused(envoy.sidecar.pid):
                go_on.set()
                got = client.reply("GET")
        assert got.status >= 500
        assert SECRET.encode() not in got.body


class Less(NamedTuple):
    """A file that shows less to the sidecar: a word of ours, what stands in its place, and what becomes of a list and of
    a body that a route reads."""

    word: str
    other: str
    lists: int
    bodies: int
    ready: int = 421


LESS = {
    "no override": Less("allow_mode_override: true", "allow_mode_override: false", 200, 201),
    "no body": Less("response_body_mode: BUFFERED_PARTIAL", "response_body_mode: NONE", 501, 201),
    "streamed": Less("response_body_mode: BUFFERED_PARTIAL", "response_body_mode: STREAMED", 501, 201),
    "buffered": Less("response_body_mode: BUFFERED_PARTIAL", "response_body_mode: BUFFERED", 200, 201),
    "no request body": Less("request_body_mode: BUFFERED_PARTIAL", "request_body_mode: NONE", 200, 501),
    "buffered request": Less("request_body_mode: BUFFERED_PARTIAL", "request_body_mode: BUFFERED", 200, 201),
    "no request": Less("request_header_mode: SEND", "request_header_mode: SKIP", 500, 500, 500),
    "no head": Less("response_header_mode: SEND", "response_header_mode: SKIP", 200, 201),
    "no changes": Less("allow_all_routing: true,", "disallow_all: true,", 500, 500),
}


@pytest.mark.parametrize("less", LESS.values(), ids=list(LESS))
def test_a_configuration_that_shows_less_lets_nothing_more_through(
    setup: Setup, less: Less, request: pytest.FixtureRequest
) -> None:
    """Whatever a file says of what is shown to the sidecar, a list passes filtered or not at all."""
    world, shipped, changes = setup.world, setup.envoy, {less.word: less.other}
    name = request.node.callspec.id.replace(" ", "-")
    with before(world, shipped.sidecar, shipped.asks, name, 1, changes, EXT_PROC, less.ready) as envoy:
        world.answer = reply(200, MIXED, JSON)
        outcome = world.send(envoy.port, LIST)
        assert outcome.reply is not None
        assert SECRET.encode() not in outcome.reply.body
        shown = json.loads(outcome.reply.body)["items"] if outcome.status == 200 else []
        assert (outcome.status, [item["id"] for item in shown]) == (less.lists, [0, 2] if less.lists == 200 else [])
        world.answer = reply(201, b"made")
        outcome = world.send(envoy.port, Ask("/docs", "POST", "alice", (JSON,), body_of("a-1")))
        assert outcome.status == less.bodies
        whole = less.other == "request_body_mode: BUFFERED"
        assert {bool(seen.values("content-length")) for seen in outcome.seen} <= {whole}
        outcome = world.send(envoy.port, Ask("/docs", "POST", "alice", (JSON,), body_of("b-1")))
        assert outcome.status >= 400


def test_without_the_pdp_nothing_is_released(setup: Setup) -> None:
    """The list itself was allowed, and nobody can say what is in it."""
    gone = threading.Event()

    def answer(_: Recorder, connection: Any, seen: Seen) -> None:
        pause(cerbos)
        gone.set()
        reply(200, MIXED, JSON)(_, connection, seen)

    process = setup.world.cerbos._process
    assert process is not None
    cerbos = process.pid
    try:
        outcome = setup.send(LIST, answer)
    finally:
        resume(cerbos)
    assert outcome.reply is not None
    assert (outcome.status, json.loads(outcome.reply.body)["code"]) == (503, "pdp_timeout")
    assert (setup.last()["code"], gone.is_set()) == ("pdp_timeout", True)


def test_a_stopping_sidecar_ends_what_it_began(setup: Setup, tmp_path: Path) -> None:
    """And in time: no stream is open for as long as an answer takes that nobody holds."""
    begun, go_on = threading.Event(), threading.Event()

    def answer(_: Recorder, connection: Any, seen: Seen) -> None:
        begun.set()
        assert go_on.wait(10)
        reply(200, MIXED, JSON)(_, connection, seen)

    routes = routes_in(tmp_path, setup.world)
    with asked_by_grpc(setup.world, "stopping", by=EXT_PROC, SIDECAR_ROUTES=routes) as envoy:
        setup.world.app.reset(answer)
        client = Guest(envoy.port)
        with closing(client.socket):
            client.send(setup.world.bytes_of(LIST))
            assert begun.wait(10)
            os.kill(envoy.sidecar.pid, signal.SIGTERM)
            go_on.set()
            got = client.reply("GET")
        assert (got.status, [item["id"] for item in json.loads(got.body)["items"]]) == (200, [0, 2])


def test_envoy_s_log_may_know_who_and_why(setup: Setup) -> None:
    log = """\
                access_log:
                  - name: envoy.access_loggers.stdout
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog
                      log_format: {text_format_source: {inline_string: "META %DYNAMIC_METADATA(envoy.filters.http.ext_proc)%\\n"}}
"""
    changes = {"                # who the client is": log + "                # who the client is"}
    with before(setup.world, setup.envoy.sidecar, setup.envoy.asks, "log", 1, changes, EXT_PROC) as envoy:
        setup.world.answer = reply(200, MIXED, JSON)
        setup.world.send(envoy.port, LIST)
        line = envoy.sidecar.decisions()[-1]
        wait_for(lambda: line["request_id"] in envoy.log())
        text = next(each for each in envoy.log().splitlines() if line["request_id"] in each)
    told = json.loads(text.partition("META ")[2])
    assert told == {"principal": "a-1", "route": "/list", "code": "allowed", "request_id": line["request_id"]}
