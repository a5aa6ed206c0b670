"""The life of a connection, through real sockets: what is refused, whose turn it is, and how it ends."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from uvicorn.server import ServerState

from sidecar.gate.codes import Code
from sidecar.net.http_connection import StrictProtocol
from sidecar.net.http_server import config
from sidecar.net.limits import Drain, Limits
from tests.net.raw_http import HANDSHAKE, QUICK, Client, Running, Seen, read_all, reply, running, until

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    await APPS.get(scope["path"], _read_and_answer)(scope, receive, send, scope["test.seen"])


async def _read_and_answer(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    if await read_all(receive, seen):
        await reply(send, 200, b"%b %b" % (scope["raw_target"], seen.body))


async def _deny(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    await reply(send, 403, b"no")


async def _slow(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    try:
        await asyncio.sleep(0.5)
    except asyncio.CancelledError:
        seen.events.append("cancelled")
        raise
    await reply(send, 200, b"slow")


async def _forever(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        seen.events.append("cancelled")
        raise


async def _endless(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    try:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        seen.events.append("cancelled")
        raise


async def _both(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    """Answer without end and read the body meanwhile, as a proxy does."""
    reading = asyncio.create_task(read_all(receive, seen))
    try:
        await _endless(scope, receive, send, seen)
    finally:
        reading.cancel()


async def _late_reader(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    await asyncio.sleep(0.6)
    await _count(receive, send)


async def _held_reader(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    await asyncio.to_thread(seen.let_go.wait)
    await _count(receive, send)


async def _count(receive: Any, send: Any) -> None:
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    await reply(send, 200, b"%d" % length)


async def _started_reader(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await read_all(receive, seen)
    await send({"type": "http.response.body", "body": b"ok"})


HUGE = 32 * 1024 * 1024


async def _huge(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    await reply(send, 200, b"x" * HUGE)


APPS = {
    "/deny": _deny,
    "/slow": _slow,
    "/forever": _forever,
    "/endless": _endless,
    "/both": _both,
    "/late": _late_reader,
    "/held": _held_reader,
    "/started": _started_reader,
    "/huge": _huge,
}


@pytest.fixture(scope="module")
def module_server() -> Iterator[Running]:
    with running(app) as server:
        yield server


@pytest.fixture(scope="module")
def module_quick() -> Iterator[Running]:
    with running(app, QUICK) as server:
        yield server


@pytest.fixture
def server(module_server: Running) -> Running:
    module_server.seen.clear()
    return module_server


@pytest.fixture
def quick(module_quick: Running) -> Running:
    module_quick.seen.clear()
    return module_quick


def post(path: str, *lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"POST {path} HTTP/1.1", "Host: a", *lines, "")).encode("latin-1")


def flood(client: Client, piece: bytes, pause: float = 0) -> int:
    """Send until the server has had enough: it closed, or takes nothing. -> how many bytes went out."""
    sent = 0
    try:
        while sent < 100_000_000:
            client.socket.sendall(piece)
            sent += len(piece)
            time.sleep(pause)
    except (BrokenPipeError, ConnectionResetError, TimeoutError):
        return sent
    raise AssertionError("nobody stopped it")


# --- the scope ---


def test_the_scope_has_the_target_as_it_came_and_final_headers(server: Running) -> None:
    with server.client() as client:
        client.send(b"GET /a%2Fb/%c3%a9?q=%zz&%41 HTTP/1.1\r\nHost: App.Test\r\nX-A: B\r\n\r\n")
        assert client.answer().status == 200
        own = client.socket.getsockname()
    scope = server.seen[0].scope
    assert scope["raw_target"] == b"/a%2Fb/%c3%a9?q=%zz&%41"
    assert (scope["raw_path"], scope["query_string"]) == (b"/a%2Fb/%c3%a9", b"q=%zz&%41")
    assert scope["path"] == "/a/b/é"
    assert scope["headers"] == [(b"host", b"App.Test"), (b"x-a", b"B")]
    assert (scope["type"], scope["method"], scope["http_version"], scope["scheme"]) == ("http", "GET", "1.1", "http")
    assert (scope["client"], scope["server"]) == (own, ("127.0.0.1", server.port))
    assert (scope["root_path"], scope["state"], scope["asgi"]["version"]) == ("", {}, "3.0")
    assert "extensions" not in scope


# --- what is refused before the app is started ---

REFUSED = {
    "rtsp": (b"DESCRIBE /docs/1 RTSP/1.0\r\nHost: a\r\n\r\n", 400, Code.REQUEST_INVALID),
    "http/0.9": (b"GET /docs/1\r\n\r\n", 400, Code.REQUEST_INVALID),
    "http/2.0": (b"GET /docs/1 HTTP/2.0\r\nHost: a\r\n\r\n", 400, Code.REQUEST_INVALID),
    "h2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, Code.REQUEST_INVALID),
    "absolute-form": (b"GET http://evil.test/x HTTP/1.1\r\nHost: a\r\n\r\n", 400, Code.TARGET_AMBIGUOUS),
    "fragment": (b"GET /admin/x#/public HTTP/1.1\r\nHost: a\r\n\r\n", 400, Code.TARGET_AMBIGUOUS),
    "long target": (b"GET /docs/" + b"A" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, Code.TARGET_TOO_LONG),
    "two hosts": (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, Code.HEADER_AMBIGUOUS),
    "no host": (b"GET /x HTTP/1.1\r\n\r\n", 400, Code.REQUEST_INVALID),
    "bare lf": (GET.replace(b"\r\n", b"\n"), 400, Code.REQUEST_INVALID),
    "nul": (b"GET /x HTTP/1.1\r\nHost: a\r\nX-A: o\0ne\r\n\r\n", 400, Code.REQUEST_INVALID),
    "underscore": (b"GET /x HTTP/1.1\r\nHost: a\r\nX_A: 1\r\n\r\n", 400, Code.HEADER_AMBIGUOUS),
    "cl.te": (post("/docs", "Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400, "request_invalid"),
    "te.cl": (post("/docs", "Transfer-Encoding: chunked", "Content-Length: 4") + b"0\r\n\r\n", 400, "request_invalid"),
    "xchunked": (post("/docs", "Transfer-Encoding: xchunked") + b"0\r\n\r\n", 400, Code.REQUEST_INVALID),
    "te list": (post("/docs", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 400, Code.REQUEST_INVALID),
    "te with nbsp": (post("/docs", "Transfer-Encoding: \xa0chunked\xa0") + b"0\r\n\r\n", 400, Code.REQUEST_INVALID),
    "space before colon": (post("/docs", "Transfer-Encoding : chunked") + b"0\r\n\r\n", 400, Code.REQUEST_INVALID),
    "connect": (b"CONNECT /docs/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 41\r\n\r\n", 400, Code.REQUEST_INVALID),
    "handshake with a body": (HANDSHAKE[:-2] + b"Content-Length: 41\r\n\r\n", 400, Code.REQUEST_INVALID),
    "handshake, version 777": (HANDSHAKE.replace(b"13\r\n", b"777\r\n"), 400, Code.REQUEST_INVALID),
    "handshake, bad key": (HANDSHAKE.replace(b"dGhl", b"dG="), 400, Code.REQUEST_INVALID),
    "expectation": (post("/docs", "Content-Length: 1", "Expect: y"), 417, Code.REQUEST_INVALID),
    "many headers": (b"GET /x HTTP/1.1\r\nHost: a\r\n" + b"X-A: 1\r\n" * 100 + b"\r\n", 431, "headers_too_large"),
    "large head": (b"GET /x HTTP/1.1\r\nHost: a\r\nX-A: " + b"a" * 32768 + b"\r\n\r\n", 431, "headers_too_large"),
}


@pytest.mark.parametrize("split", ["whole", "in two", "after a request"])
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_never_starts_the_app_and_nothing_after_it_runs(
    server: Running, case: tuple[bytes, int, str], split: str
) -> None:
    data, status, code = case
    with server.client() as client:
        if split == "in two":
            client.send(data[: len(data) // 2], data[len(data) // 2 :] + SMUGGLED)
        else:
            client.send((GET if split == "after a request" else b"") + data + SMUGGLED)
        if split == "after a request":
            assert client.answer().status == 200
        answer = client.answer()
        assert (answer.status, answer.code) == (status, code)
        assert answer.header("connection") == ["close"]
        assert len(answer.header("date")) == 1
        assert client.closed()
    assert server.targets == ([b"/x"] if split == "after a request" else [])


def test_one_empty_line_before_a_request_is_ignored(server: Running) -> None:
    with server.client() as client:
        client.send(b"\r\n" + GET + b"\r\n" + GET)
        assert [client.answer().status for _ in range(2)] == [200, 200]


def test_an_endless_header_is_refused_while_it_comes(server: Running) -> None:
    with server.client() as client:
        client.send(b"GET /x HTTP/1.1\r\nHost: a\r\nX-A: ")
        assert flood(client, b"a" * 65536) < 16 * 1024 * 1024
    assert server.targets == []


# --- trailers, offers to upgrade, pipelining: whose bytes are whose ---

TRAILERS = post("/docs", "Transfer-Encoding: chunked") + (
    b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\nHost: evil\r\nX-Auth-Subject: root\r\n\r\n"
)
H2C = post("/docs", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA", "Content-Length: 35")
H2C_CHUNKED = post("/docs", "Connection: Upgrade", "Upgrade: h2c", "Transfer-Encoding: chunked")


def splits(data: bytes, every: int) -> list[tuple[bytes, ...]]:
    return [(data,), *((data[:at], data[at:]) for at in range(1, len(data), every))]


def test_a_trailer_is_never_a_header_wherever_the_bytes_are_cut(server: Running) -> None:
    for segments in splits(TRAILERS + GET, 1):
        server.seen.clear()
        with server.client() as client:
            client.send(*segments, pause=0.001)
            assert client.answer().body == b"/docs {}"
            assert client.answer().body == b"/x "
        expected = [(b"host", b"a"), (b"transfer-encoding", b"chunked")]
        assert server.seen[0].headers == server.seen[0].scope["headers"] == expected


@pytest.mark.parametrize(
    "data",
    [H2C + SMUGGLED, H2C_CHUNKED + b"23\r\n" + SMUGGLED + b"\r\n0\r\n\r\n"],
    ids=["content-length", "chunked"],
)
def test_the_body_after_an_offer_is_a_body_and_the_next_request_still_runs(server: Running, data: bytes) -> None:
    assert len(SMUGGLED) == 35
    for segments in splits(data + GET, 2):
        server.seen.clear()
        with server.client() as client:
            client.send(*segments, pause=0.001)
            assert client.answer().body == b"/docs " + SMUGGLED
            assert client.answer().body == b"/x "
        assert server.targets == [b"/docs", b"/x"]
        assert not {b"upgrade", b"http2-settings"} & set(dict(server.seen[0].headers))


def test_an_offer_byte_by_byte_after_and_before_other_requests(server: Running) -> None:
    data = GET + H2C + SMUGGLED + GET
    with server.client() as client:
        client.send(*(bytes([octet]) for octet in data), pause=0.0005)
        assert [client.answer().body for _ in range(3)] == [b"/x ", b"/docs " + SMUGGLED, b"/x "]
    assert server.targets == [b"/x", b"/docs", b"/x"]


def test_pipelined_requests_are_answered_in_order_and_one_at_a_time(server: Running) -> None:
    requests = b"".join(
        b"GET /slow?%d HTTP/1.1\r\nHost: a\r\n\r\nGET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % (n, n) for n in (1, 2)
    )
    with server.client() as client:
        client.send(requests)
        until(lambda: len(server.seen) == 1)
        time.sleep(0.2)
        assert server.targets == [b"/slow?1"]
        assert [client.answer().body for _ in range(4)] == [b"slow", b"/1 ", b"slow", b"/2 "]


def test_a_thousand_pipelined_requests_in_one_segment(server: Running) -> None:
    with server.client() as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(1000)))
        assert [client.answer().body for _ in range(1000)] == [b"/%d " % number for number in range(1000)]


def test_what_a_client_pipelines_without_end_waits_in_the_kernel() -> None:
    with running(app) as server, server.client(timeout=0.3) as client:
        client.send(b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n")
        assert flood(client, GET * 1000) < 32 * 1024 * 1024
        assert server.targets == [b"/forever"]


def test_connection_close_is_the_last_request(server: Running) -> None:
    with server.client() as client:
        client.send(GET[:-2] + b"Connection: close\r\n\r\n" + SMUGGLED)
        assert client.answer().header("connection") == ["close"]
        assert client.closed()
    assert server.targets == [b"/x"]


# --- bodies ---


@pytest.mark.parametrize("rest", [b"", b"{}", b"x" * 300_000])
def test_an_answer_to_an_unread_body_closes_and_nothing_of_it_runs(server: Running, rest: bytes) -> None:
    with server.client() as client:
        client.send(post("/deny", "Content-Length: 100000000") + rest + SMUGGLED)
        answer = client.answer()
        assert (answer.status, answer.body, answer.header("connection")) == (403, b"no", ["close"])
        assert client.closed()
    assert server.targets == [b"/deny"]


def test_a_body_of_100_mb_is_never_read_to_its_end(server: Running) -> None:
    with server.client() as client:
        client.send(post("/deny", "Content-Length: 100000000"))
        assert client.answer().status == 403
        assert flood(client, b"x" * 65536) < 16 * 1024 * 1024


def test_a_client_that_sends_first_and_reads_later_still_gets_the_answer(server: Running) -> None:
    with server.client() as client:
        client.send(post("/deny", "Content-Length: 100000"))
        client.send(*[b"x" * 10_000] * 10, pause=0.02)
        assert client.answer().status == 403


def test_a_body_that_the_app_does_not_read_yet_waits_in_the_kernel(server: Running) -> None:
    length = 24 * 1024 * 1024
    with server.client(timeout=0.3) as client:
        client.send(post("/held", f"Content-Length: {length}"))
        sent = flood(client, b"x" * 4096)
        assert sent < length // 2
    server.seen[0].let_go.set()
    with server.client() as client:
        client.send(post("/late", f"Content-Length: {length}") + b"x" * length)
        assert client.answer().body == b"%d" % length


def test_a_broken_chunk_is_400_and_the_app_hears_of_the_end(server: Running) -> None:
    with server.client() as client:
        client.send(post("/docs", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n", b"zz\r\n" + SMUGGLED)
        answer = client.answer()
        assert (answer.status, answer.code) == (400, Code.REQUEST_INVALID)
        assert client.closed()
    until(lambda: server.seen[0].events == ["http.request", "http.disconnect"])
    assert server.targets == [b"/docs"]


def test_a_broken_chunk_under_an_answer_lets_the_answer_end_and_closes(server: Running) -> None:
    with server.client() as client:
        client.send(post("/started", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n", b"zz\r\n" + SMUGGLED)
        answer = client.answer()
        assert (answer.status, answer.body, answer.header("connection")) == (200, b"ok", ["close"])
        assert client.closed()
    assert server.seen[0].events == ["http.request", "http.disconnect"]
    assert server.targets == [b"/started"]


# --- a client that leaves ---


def test_a_client_that_closes_in_the_body_is_no_end_of_the_body(server: Running) -> None:
    with server.client() as client:
        client.send(post("/docs", "Content-Length: 10") + b'{"a"')
        until(lambda: server.seen != [] and server.seen[0].body == b'{"a"')
        client.socket.shutdown(socket.SHUT_WR)
        assert client.closed()
    until(lambda: not server.server.server_state.tasks)
    assert (server.seen[0].events, server.seen[0].complete) == (["http.request"], False)


@pytest.mark.parametrize("path", ["/forever", "/endless"])
@pytest.mark.parametrize("reset", [False, True])
def test_the_app_is_cancelled_when_its_client_has_gone_and_nothing_is_logged(
    server: Running, path: str, reset: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), server.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        until(lambda: server.seen != [])
        time.sleep(0.05)
        if reset:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
        until(lambda: server.seen[0].events == ["cancelled"])
        until(lambda: not server.server.server_state.tasks)
    assert caplog.records == []


async def test_a_request_whose_client_went_before_the_app_began_leaves_no_task_behind() -> None:
    state, settings = ServerState(), config(app)
    near, far = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_accepted_socket(lambda: StrictProtocol(settings, state, {}), near)
    transport.abort()
    protocol.data_received(GET)
    assert len(state.tasks) == 1
    far.close()
    async with asyncio.timeout(5):
        while (state.tasks, state.connections) != (set(), set()):
            await asyncio.sleep(0.002)


# --- timers ---


def seconds_until_closed(client: Client) -> float:
    begin = time.monotonic()
    client.rest()
    return time.monotonic() - begin


def test_a_silent_connection_is_closed_without_a_word(quick: Running) -> None:
    with quick.client() as client:
        begin = time.monotonic()
        assert client.rest() == b""
        assert 0.2 < time.monotonic() - begin < 10


def drip(client: Client, piece: bytes) -> None:
    """Send a piece every 50 ms until the server has something to say, which must be soon."""
    begin = time.monotonic()
    while not select.select([client.socket], [], [], 0.05)[0]:
        client.send(piece)
        assert time.monotonic() - begin < 10, "the server lets itself be dripped on"


@pytest.mark.parametrize("piece", [b"", b"X"])
@pytest.mark.parametrize("prefix", [b"", GET])
def test_half_a_request_line_and_a_dripped_head_are_answered_408(quick: Running, prefix: bytes, piece: bytes) -> None:
    with quick.client() as client:
        client.send(prefix + b"GET /x HT")
        if prefix:
            assert client.answer().status == 200
        drip(client, piece)
        answer = client.answer()
        assert (answer.status, answer.code) == (408, Code.REQUEST_TIMEOUT)
        assert client.closed()


def test_a_later_head_has_the_time_of_a_head_from_its_first_byte() -> None:
    with running(app, Limits(head=30, keep_alive=0.1, tick=0.02)) as server, server.client() as client:
        client.send(GET + GET[:9])
        assert client.answer().status == 200
        time.sleep(0.4)
        client.send(GET[9:])
        assert client.answer().status == 200


def test_once_a_drain_has_begun_each_answer_is_the_last_of_its_connection() -> None:
    drain = Drain()
    with (
        running(app, host="127.0.0.1", port=0, drain=drain) as server,
        server.client() as kept,
        server.client() as idle,
    ):
        kept.send(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ("connection", "close") not in kept.answer().headers
        drain.begun = True
        kept.send(b"GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ("connection", "close") in kept.answer().headers
        assert kept.closed()
        # one that comes later is served as well
        idle.send(b"GET /3 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert ("connection", "close") in idle.answer().headers
    assert server.targets == [b"/1", b"/2", b"/3"]


def test_an_idle_connection_is_closed_after_the_keep_alive_time(quick: Running) -> None:
    with quick.client() as client:
        for _ in range(3):
            client.send(GET)
            assert client.answer().status == 200
            time.sleep(0.1)
        assert 0.1 < seconds_until_closed(client) < 10


@pytest.mark.parametrize("piece", [b"", b"x"])
def test_a_stalled_or_dripped_body_is_answered_408(quick: Running, piece: bytes) -> None:
    with quick.client() as client:
        client.send(post("/docs", "Content-Length: 1000") + b"x")
        drip(client, piece)
        answer = client.answer()
        assert (answer.status, answer.code) == (408, Code.REQUEST_TIMEOUT)
        assert client.closed()
    until(lambda: quick.seen[0].events[-1] == "http.disconnect")


def test_a_slow_body_that_keeps_coming_is_read_to_its_end(quick: Running) -> None:
    with quick.client() as client:
        client.send(post("/docs", "Content-Length: 16000"))
        client.send(*[b"x" * 2000] * 8, pause=0.1)
        assert len(client.answer().body) == 16000 + len(b"/docs ")


def test_an_app_that_takes_its_time_is_not_the_fault_of_the_client(quick: Running) -> None:
    with quick.client() as client:
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.answer().body == b"slow"
        client.send(post("/late", "Content-Length: 2") + b"ok")
        assert client.answer().body == b"2"


def test_a_client_that_takes_nothing_is_cut_off(quick: Running) -> None:
    with quick.client() as client:
        client.send(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: quick.seen != [] and quick.seen[0].events == ["cancelled"])


@pytest.mark.parametrize("piece", [b"3\r\nabc\r\n", b"zz\r\n"], ids=["drips in", "is broken"])
def test_a_client_that_takes_nothing_is_cut_off_whatever_becomes_of_its_body(quick: Running, piece: bytes) -> None:
    with quick.client() as client:
        client.send(post("/both", "Transfer-Encoding: chunked"))
        # each piece gives the body more time than passes
        for _ in range(100):
            time.sleep(0.02)
            try:
                client.socket.sendall(piece * 100)
            except OSError:
                break
        until(lambda: "cancelled" in quick.seen[0].events, 1)


def test_after_an_answer_to_an_unread_body_the_connection_ends_soon(quick: Running) -> None:
    with quick.client() as client:
        client.send(post("/deny", "Content-Length: 1000"))
        assert client.answer().status == 403
        begin = time.monotonic()
        assert flood(client, b"x", pause=0.02) < 1000
        assert time.monotonic() - begin < 10


@pytest.mark.parametrize("path", ["/deny", "/refused?a#b"])
def test_the_client_hears_at_once_that_no_more_comes_while_the_server_still_drops_what_is_sent(path: str) -> None:
    with running(app, Limits(linger=60)) as server, server.client() as client:
        client.send(post(path, "Content-Length: 1000"))
        assert client.answer().status in (400, 403)
        assert client.closed()
        client.send(b"x" * 500)


def read_huge(client: Client, pause: float) -> None:
    left = HUGE
    while left > 0:
        data = client.socket.recv(min(left, 1024 * 1024), socket.MSG_WAITALL)
        assert data, "cut off"
        left -= len(data)
        time.sleep(pause)


def test_an_answer_that_is_taken_slowly_is_not_cut_off() -> None:
    with running(app, Limits(stall=2.0, keep_alive=0.1, tick=0.02)) as server, server.client() as client:
        client.send(b"GET /huge HTTP/1.1\r\nHost: a\r\n\r\n")
        read_huge(client, pause=0.08)


@pytest.mark.parametrize(
    "request_bytes", [GET.replace(b"/x", b"/huge"), post("/huge", "Content-Length: 9")], ids=["kept", "body unread"]
)
def test_an_answer_that_is_taken_late_is_not_cut_off(request_bytes: bytes) -> None:
    with running(app, Limits(linger=0.1, keep_alive=0.1, tick=0.02)) as server, server.client() as client:
        client.send(request_bytes)
        time.sleep(0.6)
        read_huge(client, pause=0)


def test_a_client_that_takes_no_answers_is_not_heard() -> None:
    """Each further request would hold another answer."""
    with running(app, Limits(stall=60)) as server, server.client() as client:
        client.socket.settimeout(2)
        requests = GET.replace(b"/x", b"/huge") + GET.replace(b"/x", b"/after")
        client.send(requests)
        time.sleep(0.5)
        assert server.targets == [b"/huge"]
        read_huge(client, pause=0)
        until(lambda: server.targets == [b"/huge", b"/after"])


# --- many connections ---


def test_beyond_the_limit_idle_connections_make_room_and_busy_ones_do_not() -> None:
    with running(app, Limits(connections=3, tick=0.02)) as server:
        idle = [server.client() for _ in range(3)]
        for client in idle:
            client.send(GET)
            client.answer()
        busy = []
        for _ in range(3):
            client = server.client()
            client.send(b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n")
            busy.append(client)
            until(lambda: len([each for each in server.targets if each == b"/forever"]) == len(busy))
        assert all(client.closed() for client in idle)
        with server.client() as turned_away:
            turned_away.send(GET)
            answer = turned_away.answer()
            assert (answer.status, answer.code) == (503, Code.OVERLOADED)
            assert turned_away.closed()
        for client in [*idle, *busy]:
            client.socket.close()
        until(lambda: not server.server.server_state.connections)
        with server.client() as client:
            client.send(GET)
            assert client.answer().status == 200


def test_one_that_has_just_come_is_not_closed_before_one_that_has_long_been_idle() -> None:
    """Its time for a head ends before the other's for the next request does."""
    with running(app, Limits(connections=2, head=5, keep_alive=60, tick=0.02)) as server, server.client() as old:
        old.send(GET)
        old.answer()
        # times are as exact as a tick
        time.sleep(0.1)
        with server.client() as new:
            until(lambda: len(server.server.server_state.connections) == 2)
            with server.client() as third:
                assert old.closed()
                for client in (new, third):
                    client.send(GET)
                    assert client.answer().status == 200


def test_one_that_was_turned_away_has_no_place_to_give_up() -> None:
    with running(app, Limits(connections=1, linger=5, tick=0.02)) as server, server.client() as busy:
        busy.send(b"GET /forever HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: server.targets == [b"/forever"])
        with server.client(), server.client() as third:
            third.send(GET)
            assert third.answer().code == Code.OVERLOADED


# --- shutdown ---


def test_at_shutdown_idle_connections_close_and_running_answers_end_with_close() -> None:
    server = Running(app)
    server.start()
    with server.client() as idle, server.client() as used, server.client() as running_one:
        used.send(GET)
        used.answer()
        running_one.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: len(server.seen) == 2)
        server.server.should_exit = True
        answer = running_one.answer()
        assert (answer.body, answer.header("connection")) == (b"slow", ["close"])
        assert idle.closed()
        assert used.closed()
        assert running_one.closed()
    server.stop()


# --- by itself ---


def test_the_protocol_serves_by_itself_with_the_limits_of_the_rules() -> None:
    limits = Limits()
    assert (limits.head, limits.body, limits.keep_alive) == (10, 30, 75)
    assert (limits.linger, limits.linger_bytes, limits.buffer) == (1, 131072, 65536)
    with running(app) as server:
        server.server.config.http_protocol_class = StrictProtocol  # type: ignore[assignment]  # uvicorn names no buffered ones
        with server.client() as client:
            client.send(GET)
            assert client.answer().status == 200
