"""What an app sends, and what the client then reads, through a real socket."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.gate.codes import Code
from tests.net.raw_http import Running, read_all, reply, running, until


def start(status: int, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


LENGTH_2 = (b"content-length", b"2")

# path -> the messages of the app, in order
SCRIPTS: dict[str, list[Any]] = {
    "/length": [start(200, LENGTH_2, (b"X-Mixed", b"a")), body(b"ok")],
    "/length-in-pieces": [start(200, (b"Content-Length", b"4")), body(b"ab", True), body(b"", True), body(b"cd")],
    "/chunks": [start(200), body(b"ab", True), body(b"", True), body(b"cde", True), body(b"")],
    "/chunks-at-once": [start(200), body(b"abcde")],
    "/both": [start(200, LENGTH_2, (b"transfer-encoding", b"chunked")), body(b"ok")],
    "/hop": [
        start(
            200, LENGTH_2, (b"Connection", b"keep-alive, x-secret"), (b"keep-alive", b"timeout=9"), (b"upgrade", b"x"),
            (b"te", b"trailers"), (b"trailer", b"x"), (b"proxy-connection", b"close"), (b"x-kept", b"1"),
        ),
        body(b"ok"),
    ],
    "/close": [start(200, LENGTH_2, (b"connection", b"Close")), body(b"ok")],
    "/dated": [start(200, LENGTH_2, (b"Date", b"Tue, 01 Jan 2030 00:00:00 GMT")), body(b"ok")],
    "/204": [start(204, (b"content-length", b"0")), body(b"")],
    "/204-with-body": [start(204), body(b"hidden")],
    "/304": [start(304, (b"content-length", b"42"), (b"etag", b'"a"')), body(b"")],
    "/299": [start(299, LENGTH_2), body(b"ok")],
    "/no-headers-key": [{"type": "http.response.start", "status": 200}, {"type": "http.response.body"}],
    "/same-length-twice": [start(200, LENGTH_2, LENGTH_2), body(b"ok")],
    "/interim": [
        {"type": "http.response.interim", "status": 103, "headers": [(b"link", b"</a.css>")]},
        start(200, LENGTH_2), body(b"ok"),
    ],
    # mistakes before a byte was sent
    "/bad/cr": [start(200, (b"x-a", b"a\rb")), body(b"ok")],
    "/bad/lf": [start(200, (b"x-a", b"a\nSet-Cookie: b")), body(b"ok")],
    "/bad/crlf": [start(200, (b"x-a", b"a\r\nSet-Cookie: b")), body(b"ok")],
    "/bad/nul": [start(200, (b"x-a", b"a\0b")), body(b"ok")],
    "/bad/date": [start(200, (b"date", b"a\r\nSet-Cookie: b")), body(b"ok")],
    "/bad/name": [start(200, (b"x-a: b\r\nx", b"a")), body(b"ok")],
    "/bad/name-space": [start(200, (b"x a", b"a")), body(b"ok")],
    "/bad/length": [start(200, (b"content-length", b"+2")), body(b"ok")],
    "/bad/lengths": [start(200, LENGTH_2, (b"content-length", b"3")), body(b"ok")],
    "/bad/status": [start(101), body(b"")],
    "/bad/status-600": [start(600), body(b"")],
    "/bad/interim-101": [{"type": "http.response.interim", "status": 101}, start(200, LENGTH_2), body(b"ok")],
    "/bad/interim-header": [{"type": "http.response.interim", "status": 103, "headers": [(b"a", b"b\r\nc: d")]}],
    "/bad/body-first": [body(b"ok")],
    "/bad/type": [{"type": "http.response.push"}],
    "/bad/too-long": [start(200, LENGTH_2), body(b"okk")],
    "/bad/too-long-with-more": [start(200, LENGTH_2), body(b"okk", True), body(b"")],
    "/bad/too-short": [start(200, LENGTH_2), body(b"o")],
    "/bad/two-starts": [start(200, LENGTH_2), start(200, LENGTH_2), body(b"ok")],
    "/bad/nothing": [],
    "/bad/raise": [ValueError("secret words")],
    # mistakes after the head was sent: `None` lets the loop turn
    "/late/raise": [start(200), body(b"abc", True), None, ValueError("secret words")],
    "/late/return": [start(200), body(b"abc", True), None],
    "/late/head-only": [start(200, LENGTH_2), None],
    "/late/too-short": [start(200, (b"content-length", b"9")), body(b"abc", True), None, body(b"")],
    "/late/too-long": [start(200, (b"content-length", b"4")), body(b"abc", True), None, body(b"de")],
}  # fmt: skip


def in_one_message(messages: list[Any]) -> list[Any] | None:
    """The same answer as http.response.whole, where it is a head and a body."""
    if [type(message) for message in messages] != [dict, dict]:
        return None
    first, second = messages
    if (first["type"], second["type"], second.get("more_body")) != ("http.response.start", "http.response.body", False):
        return None
    return [{**first, "type": "http.response.whole", "body": second["body"]}]


AS_ONE = {path: whole for path, messages in SCRIPTS.items() if (whole := in_one_message(messages))}
SCRIPTS.update({f"/whole{path}": messages for path, messages in AS_ONE.items()})
SCRIPTS["/bad/whole-after-start"] = [start(200, LENGTH_2), *AS_ONE["/length"]]


async def app(scope: Any, receive: Any, send: Any) -> None:
    script = SCRIPTS.get(scope["path"])
    if script is None:
        await WRITTEN[scope["path"]](scope, receive, send)
        return
    for message in script:
        if message is None:
            await asyncio.sleep(0.01)
        elif isinstance(message, Exception):
            raise message
        else:
            await send(message)


async def _sse(scope: Any, receive: Any, send: Any) -> None:
    await send(start(200, (b"content-type", b"text/event-stream")))
    await asyncio.sleep(1.5)
    await send(body(b"data: 1\n\n", True))
    await asyncio.sleep(0.3)
    await send(body(b""))


async def _after(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, 200, b"ok")
    scope["test.seen"].events.append((await receive())["type"])
    await asyncio.sleep(0.05)
    scope["test.seen"].events.append("background")


async def _swallow(scope: Any, receive: Any, send: Any) -> None:
    await send(start(200, LENGTH_2))
    try:
        await send(body(b"okk"))
    except RuntimeError:
        scope["test.seen"].events.append("refused")


async def _big(scope: Any, receive: Any, send: Any) -> None:
    await send(start(200))
    for number in range(256):
        await send(body(b"x" * 65536, more=True))
        scope["test.seen"].events.append(str(number))
    await send(body(b""))


async def _echo(scope: Any, receive: Any, send: Any) -> None:
    await read_all(receive, scope["test.seen"])
    await reply(send, 200, scope["test.seen"].body)


WRITTEN = {"/sse": _sse, "/after": _after, "/swallow": _swallow, "/big": _big, "/echo": _echo}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(app) as server:
        yield server


def get(path: str, version: str = "1.1", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/{version}\r\nHost: app.test\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("path", "content", "framing"),
    [
        ("/length", b"ok", "content-length"),
        ("/length-in-pieces", b"abcd", "content-length"),
        ("/chunks", b"abcde", "transfer-encoding"),
        ("/chunks-at-once", b"abcde", "transfer-encoding"),
        ("/both", b"ok", "content-length"),
        ("/same-length-twice", b"ok", "content-length"),
        ("/299", b"ok", "content-length"),
        ("/no-headers-key", b"", "transfer-encoding"),
    ],
)
def test_an_answer_has_one_framing_and_the_connection_is_kept(
    server: Running, path: str, content: bytes, framing: str
) -> None:
    with server.client() as client:
        for _ in range(2):
            client.send(get(path))
            answer = client.answer()
            assert answer.body == content
            assert answer.header(framing) != []
            assert answer.header("connection") == []


@pytest.mark.parametrize("path", AS_ONE)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_answer_in_one_message_is_the_same(server: Running, path: str, method: str) -> None:
    if method == "HEAD" and path.startswith("/bad/"):
        return
    answers = []
    for target in (path, f"/whole{path}"):
        with server.client() as client:
            client.send(get(target, method=method))
            answer = client.answer(method)
            kept = [header for header in answer.headers if header[0] not in ("date", "x-request-id")]
            answers.append((answer.head.partition(b"\r\n")[0], kept, answer.body))
    assert answers[0] == answers[1]


def test_names_are_written_in_lower_case_and_the_date_comes_once(server: Running) -> None:
    with server.client() as client:
        client.send(get("/length"))
        answer = client.answer()
        assert b"x-mixed: a" in answer.head
        assert len(answer.header("date")) == 1
        assert answer.header("server") == []
        client.send(get("/dated"))
        assert client.answer().header("date") == ["Tue, 01 Jan 2030 00:00:00 GMT"]


def test_headers_about_the_connection_are_never_copied_from_the_app(server: Running) -> None:
    with server.client() as client:
        client.send(get("/hop"))
        answer = client.answer()
        assert {name for name, _ in answer.headers} == {"date", "content-length", "x-kept"}


def test_the_app_may_ask_for_the_connection_to_be_closed(server: Running) -> None:
    with server.client() as client:
        client.send(get("/close"))
        answer = client.answer()
        assert (answer.body, answer.header("connection")) == (b"ok", ["close"])
        assert client.closed()


@pytest.mark.parametrize(
    ("path", "lengths"), [("/length", ["2"]), ("/chunks", []), ("/204", []), ("/304", ["42"]), ("/big", [])]
)
def test_head_has_the_headers_of_get_and_no_body(server: Running, path: str, lengths: list[str]) -> None:
    with server.client() as client:
        client.send(get(path, method="HEAD") + get("/length"))
        answer = client.answer("HEAD")
        assert answer.header("content-length") == lengths
        assert answer.header("transfer-encoding") == []
        assert client.answer().body == b"ok"


@pytest.mark.parametrize(("path", "status"), [("/204", 204), ("/204-with-body", 204), ("/304", 304)])
def test_204_and_304_have_no_body_whatever_the_app_sends(server: Running, path: str, status: int) -> None:
    with server.client() as client:
        client.send(get(path) + get("/length"))
        answer = client.answer()
        assert (answer.status, answer.header("transfer-encoding")) == (status, [])
        assert client.answer().body == b"ok"


@pytest.mark.parametrize(("path", "content"), [("/length", b"ok"), ("/chunks", b"abcde")])
def test_http_1_0_gets_no_chunks_and_is_closed(server: Running, path: str, content: bytes) -> None:
    with server.client() as client:
        client.send(get(path, "1.0"))
        answer = client.answer()
        assert answer.body == content
        assert answer.header("transfer-encoding") == []
        assert answer.header("connection") == ["close"]
        assert client.closed()


def test_an_interim_answer_goes_to_http_1_1_only(server: Running) -> None:
    with server.client() as client:
        client.send(get("/interim"))
        interim = client.answer()
        assert (interim.status, interim.headers) == (103, [("link", "</a.css>")])
        assert client.answer().body == b"ok"
    with server.client() as client:
        client.send(get("/interim", "1.0"))
        assert client.answer().status == 200


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.startswith("/bad/")])
def test_a_mistake_of_the_app_before_anything_was_sent_is_a_500_that_tells_nothing(
    server: Running, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL, "sidecar.server"), server.client() as client:
        client.send(get(path) + get("/length"))
        answer = client.answer()
        assert (answer.status, answer.code) == (500, Code.INTERNAL_ERROR)
        assert answer.header("connection") == ["close"]
        assert answer.header("set-cookie") == []
        assert b"secret" not in answer.body
        assert client.closed()


def test_the_500_to_head_has_no_body(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.CRITICAL, "sidecar.server"), server.client() as client:
        client.send(get("/bad/raise", method="HEAD"))
        assert client.answer("HEAD").status == 500
        assert client.closed()


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.startswith("/late/")])
def test_a_truncated_answer_never_looks_complete(
    server: Running, path: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL, "sidecar.server"), server.client() as client:
        client.send(get(path, version))
        # a reset says so even where the framing is the end of the connection
        with pytest.raises((EOFError, ConnectionResetError)):
            client.answer()


def test_an_app_that_swallows_the_refusal_of_a_body_too_long_is_not_believed(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL, "sidecar.server"), server.client() as client:
        client.send(get("/swallow"))
        assert client.answer().status == 500
        assert server.seen[-1].events == ["refused"]


def test_an_error_of_the_app_is_logged_with_its_traceback(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    with server.client() as client:
        client.send(get("/bad/raise"))
        assert client.answer().status == 500
    until(lambda: bool(caplog.records))
    assert [(record.name, record.levelname) for record in caplog.records] == [("sidecar.server", "ERROR")]
    assert "ValueError" in caplog.text


def test_the_head_of_a_stream_is_sent_at_once_and_each_event_as_it_comes(server: Running) -> None:
    with server.client() as client:
        begin = time.monotonic()
        client.send(get("/sse"))
        assert client._line() == b"HTTP/1.1 200 OK"
        assert time.monotonic() - begin < 1.2
        while client._line():
            pass
        assert list(client._chunks()) == [b"data: 1\n\n"]


def test_head_and_body_that_follow_at_once_are_one_segment(server: Running) -> None:
    with server.client() as client:
        client.send(get("/length"))
        assert client.socket.recv(65536).endswith(b"\r\n\r\nok")


def test_work_after_the_answer_goes_on_and_the_next_request_does_not_wait(server: Running) -> None:
    with server.client() as client:
        client.send(get("/after") + get("/length"))
        client.answer()
        seen = server.seen[-1] if server.seen[-1].target == b"/after" else server.seen[-2]
        assert client.answer().body == b"ok"
    until(lambda: seen.events == ["http.disconnect", "background"])


def test_a_client_that_does_not_read_holds_the_app_back(server: Running) -> None:
    with server.client() as client:
        client.send(get("/big"))
        until(lambda: server.seen[-1].target == b"/big")
        seen = server.seen[-1]
        time.sleep(0.3)
        before = len(seen.events)
        assert before < 256
        assert len(client.answer().body) == 256 * 65536
        assert len(seen.events) == 256


def test_a_body_comes_whole_to_the_app_in_whatever_pieces(server: Running) -> None:
    content = bytes(range(256)) * 2000
    with server.client() as client:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        assert client.answer().body == content
        chunks = b"".join(b"%x\r\n%b\r\n" % (1000, content[at : at + 1000]) for at in range(0, len(content), 1000))
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert client.answer().body == content


def test_100_is_sent_only_when_the_app_first_reads(server: Running) -> None:
    request = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    with server.client() as client:
        client.send(request % b"/echo")
        assert client.answer().status == 100
        client.send(b"ok")
        assert client.answer().body == b"ok"
        # a body that is there already needs no 100
        client.send(request % b"/echo" + b"ok")
        assert client.answer().status == 200
        client.send(request % b"/length")
        answer = client.answer()
        assert (answer.status, answer.header("connection")) == (200, ["close"])
