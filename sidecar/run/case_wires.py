"""Both ends of a case's way: the client and the app, real connections of HTTP/1.1 that take no port."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from sidecar.study.cases import AppAnswer, Sent
from sidecar.wire.grammar import Header
from sidecar.wire.http1_request import CHUNKED, Head, HeadReader, body_of
from sidecar.wire.http1_response import ResponseReader, encode_request
from sidecar.wire.response_head import STATUS_LINES, render

WITHIN = 20.0
"""Seconds for an answer: a case that takes longer has failed."""
_PIECE = 64 * 1024
_BODILESS = (204, 304)
_SWITCHING = 101
# RFC 6455 section 1.3
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
HANDSHAKE: list[Header] = [
    (b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", base64.b64encode(b"a case's own key")),
]  # fmt: skip


class GivenApp:
    """The protected app of a case, on a unix socket: it answers as the case says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Sent] = []
        self.answered: list[AppAnswer] = []
        self.unanswered: list[str] = []
        self._answers: list[AppAnswer] = []
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, path: Path) -> None:
        """Listen on a socket that nobody else has."""
        self._server = await asyncio.start_unix_server(self._serve, path)

    def begin(self, answers: Sequence[AppAnswer]) -> None:
        """Forget the case before, and answer with these, one after the other."""
        self.asked, self.answered, self.unanswered, self._answers = [], [], [], list(answers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while (head := await _head(reader)) is not None:
                await _skip_body(reader, head)
                writer.write(self._answer(head))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, head: Head) -> bytes:
        target = head.target.decode("ascii", "replace")
        headers: dict[str, list[str]] = {}
        for name, value in head.headers:
            headers.setdefault(name.decode("ascii"), []).append(value.decode("utf-8", "replace"))
        self.asked.append(Sent(head.method, target, headers))
        if head.websocket:
            return _accepted(head)
        if not self._answers:
            self.unanswered.append(f"{head.method} {target}")
            return _written(AppAnswer(500), head.method)
        answer = self._answers.pop(0)
        self.answered.append(answer)
        return _written(answer, head.method)

    async def aclose(self) -> None:
        """Close what is open."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()
        await asyncio.sleep(0)


async def _head(reader: asyncio.StreamReader) -> Head | None:
    """Read the head of a request, which our own client wrote; None at the end."""
    try:
        data = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    return HeadReader().feed(data)


async def _skip_body(reader: asyncio.StreamReader, head: Head) -> None:
    if head.length not in (0, CHUNKED):
        await reader.readexactly(head.length)
    elif head.length == CHUNKED:
        body = body_of(head.length)
        while not body.done:
            body.feed(await reader.read(_PIECE))


def _written(answer: AppAnswer, method: str) -> bytes:
    headers, _ = render(answer.headers)
    length = b"" if answer.status in _BODILESS else b"\r\ncontent-length: %d" % len(answer.body)
    body = b"" if answer.status in _BODILESS or method == "HEAD" else answer.body
    return b"".join([STATUS_LINES[answer.status], headers, length, b"\r\n\r\n", body])


def _accepted(head: Head) -> bytes:
    key = next(value for name, value in head.headers if name == b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())  # noqa: S324 - as RFC 6455 says
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-accept: %b\r\n\r\n" % accept
    )


class Answered(NamedTuple):
    """Answer that the client got. It is not `whole` where it broke off."""

    status: int
    headers: list[Header]
    body: bytes
    whole: bool


class CaseRequest(NamedTuple):
    """Request of a case, as its client sends it."""

    method: str
    target: str
    headers: Sequence[Header]
    body: bytes | None
    websocket: bool = False

    def encode(self) -> bytes:
        """Return its bytes."""
        length = None if self.body is None else len(self.body)
        head = encode_request(self.method.encode("ascii"), self.target.encode("ascii"), self.headers, length)
        return head + (self.body or b"")


async def exchange(protocol: Callable[[], asyncio.BaseProtocol], asked: CaseRequest) -> Answered:
    """Send a request on a connection of its own, which `protocol` serves, and return the answer. Raises TimeoutError,
    and ConnectionError where there is none."""
    loop = asyncio.get_running_loop()
    client = _Client(ResponseReader(asked.method == "HEAD", upgrade=asked.websocket), loop.create_future())
    ours, theirs = socket.socketpair()
    await loop.connect_accepted_socket(protocol, theirs)
    transport, _ = await loop.connect_accepted_socket(lambda: client, ours)
    try:
        async with asyncio.timeout(WITHIN):
            transport.write(asked.encode())
            await client.ended
    finally:
        transport.close()
    answer = client.answer
    if not answer.head_done:
        raise ConnectionError("the connection was closed before it")
    whole = answer.complete or answer.ends_with_connection
    return Answered(answer.status, answer.raw_headers, b"".join(client.body), whole)


class _Client(asyncio.Protocol):
    """Reads one answer; `ended` is done when no more of it comes."""

    def __init__(self, answer: ResponseReader, ended: asyncio.Future[None]) -> None:
        self.answer = answer
        self.ended = ended
        self.body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.body.append(self.answer.feed(data))
        if self.answer.complete:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
