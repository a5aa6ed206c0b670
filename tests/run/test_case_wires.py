"""Both ends of a case: the app answers what it is given, and the client gets one whole answer; neither takes a port."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sidecar.run import case_wires
from sidecar.run.case_wires import HANDSHAKE, Answered, CaseRequest, GivenApp, exchange
from sidecar.study.cases import AppAnswer
from sidecar.wire.http1_response import ResponseReader, encode_request

HOST = (b"host", b"x")


async def asked(path: Path, *requests: CaseRequest) -> list[tuple[int, dict[bytes, bytes], bytes]]:
    """What the app says to requests on one connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    found = []
    for request in requests:
        answer, body = ResponseReader(request.method == "HEAD", upgrade=request.websocket), b""
        writer.write(request.encode())
        while not answer.complete:
            body += answer.feed(await reader.read(65536))
        found.append((answer.status, dict(answer.raw_headers), body))
    writer.close()
    return found


async def test_the_app_answers_one_after_the_other_and_remembers(tmp_path: Path) -> None:
    app = GivenApp()
    await app.start(tmp_path / "app")
    app.begin(
        [AppAnswer(201, ((b"x-a", b"b"), (b"content-length", b"99")), b"made"), AppAnswer(204), AppAnswer(body=b"abc")]
    )
    answers = await asked(
        tmp_path / "app", CaseRequest("POST", "/a?b", [HOST, (b"x-user", b"alice")], b"body"), CaseRequest("GET", "/b", [HOST], None),
        CaseRequest("HEAD", "/c", [HOST], None), CaseRequest("GET", "/d", [HOST], None),
    )  # fmt: skip
    assert answers == [
        (201, {b"x-a": b"b", b"content-length": b"4"}, b"made"), (204, {}, b""),
        (200, {b"content-length": b"3"}, b""), (500, {b"content-length": b"0"}, b""),
    ]  # fmt: skip
    assert [(one.method, one.target) for one in app.asked] == [
        ("POST", "/a?b"), ("GET", "/b"), ("HEAD", "/c"), ("GET", "/d")
    ]  # fmt: skip
    assert app.asked[0].headers["x-user"] == ["alice"]
    assert (len(app.answered), app.unanswered) == (3, ["GET /d"])
    app.begin([])
    assert (app.asked, app.answered, app.unanswered) == ([], [], [])
    await app.aclose()


async def test_the_app_reads_a_body_whose_length_nobody_knows(tmp_path: Path) -> None:
    app = GivenApp()
    await app.start(tmp_path / "app")
    app.begin([AppAnswer(body=b"a"), AppAnswer(body=b"b")])
    reader, writer = await asyncio.open_unix_connection(tmp_path / "app")
    writer.write(encode_request(b"POST", b"/", [HOST], -1) + b"3\r\nabc\r\n")
    await asyncio.sleep(0)
    writer.write(b"0\r\n\r\n" + encode_request(b"GET", b"/", [HOST], None))
    assert (await reader.readuntil(b"\r\n\r\na"))[:12] == b"HTTP/1.1 200"
    writer.close()
    await app.aclose()


async def test_the_app_takes_a_websocket(tmp_path: Path) -> None:
    app = GivenApp()
    await app.start(tmp_path / "app")
    app.begin([])
    ((status, headers, _),) = await asked(
        tmp_path / "app", CaseRequest("GET", "/", [HOST, *HANDSHAKE], None, websocket=True)
    )
    assert (status, len(headers[b"sec-websocket-accept"])) == (101, 28)
    await app.aclose()


class Server(asyncio.Protocol):
    """Answers with given bytes, and closes."""

    def __init__(self, data: bytes, *, closes: bool = True) -> None:
        self.data = data
        self.closes = closes

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(self.data)
        if self.closes:
            self.transport.close()


async def test_the_client_gets_one_answer_and_whether_it_is_whole() -> None:
    request = CaseRequest("GET", "/", [HOST], None)
    whole = await exchange(lambda: Server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"), request)
    assert whole == Answered(200, [(b"content-length", b"2")], b"ab", True)
    until_close = await exchange(lambda: Server(b"HTTP/1.1 200 OK\r\n\r\nab"), request)
    assert (until_close.body, until_close.whole) == (b"ab", True)
    cut = await exchange(lambda: Server(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"), request)
    assert (cut.body, cut.whole) == (b"ab", False)


async def test_no_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConnectionError):
        await exchange(lambda: Server(b""), CaseRequest("GET", "/", [HOST], None))
    monkeypatch.setattr(case_wires, "WITHIN", 0.01)
    with pytest.raises(TimeoutError):
        await exchange(lambda: Server(b"", closes=False), CaseRequest("GET", "/", [HOST], None))
