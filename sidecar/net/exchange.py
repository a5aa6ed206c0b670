"""One request's ASGI conversation: what the app receives, and how what it sends becomes one answer with one framing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from sidecar.gate.codes import Code
from sidecar.net.early_answer import problem
from sidecar.wire.response_head import STATUS_LINES, render, render_date

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_logger = logging.getLogger("sidecar.server")


class ExchangeConnection(Protocol):
    """Port: the connection as a conversation uses it."""

    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    blocked: bool

    def fixed_headers(self) -> bytes:
        """The headers of every answer, each as CRLF, name, colon, value."""

    async def drained(self) -> None:
        """Return when the client has taken enough of what was written."""

    def awaits_body(self) -> None:
        """The app waits for bytes of the body from now on."""

    def answered(self, cycle: Cycle) -> None:
        """The answer is complete and written."""

    def ended(self, cycle: Cycle) -> None:
        """The app has returned, or raised."""

    def abort(self) -> None:
        """Close the connection so that what was sent of an answer cannot look complete."""


class IncompleteAnswer(Exception):
    """Raised by an app that gives up an answer which it has begun: the connection breaks, and nothing is logged."""


_NOT_STARTED, _STARTED, _COMPLETE = range(3)
_NO_BODY, _LENGTH, _CHUNKS, _UNTIL_CLOSE = range(4)
_NO_CONTENT, _NOT_MODIFIED = 204, 304
_BODILESS = frozenset((_NO_CONTENT, _NOT_MODIFIED))


class Cycle:
    """One request and its answer. `has_body` and `expects_continue` are the request's; `keep_alive` may turn False.

    `gone` says that nothing can be sent any more, `broken` that the rest of the request's body will not come.
    """

    __slots__ = (
        "_body", "_continue", "_framing", "_has_body", "_head", "_is_head", "_left", "_link", "_read_all", "_stage",
        "_version", "_waiter", "broken", "buffered", "gone", "keep_alive", "received_all", "taken", "task", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        link: ExchangeConnection,
        method: str,
        version: str,
        has_body: bool,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self.task: asyncio.Task[None] | None = None
        self.keep_alive = keep_alive
        self.gone = self.broken = self.taken = self.waiting = False
        self.received_all = not has_body
        self.buffered = 0
        self._link = link
        self._version = version
        self._is_head = method == "HEAD"
        self._has_body = has_body
        self._continue = expects_continue and has_body
        self._body: list[bytes] = []
        self._read_all = False
        self._waiter: asyncio.Future[None] | None = None
        self._stage = _NOT_STARTED
        self._head = b""
        self._framing = _NO_BODY
        self._left = 0

    @property
    def started(self) -> bool:
        """Return whether the app has begun to answer."""
        return self._stage != _NOT_STARTED

    # what the connection says

    def add_body(self, body: bytes, last: bool) -> None:
        """Bytes of the request's body have come; `last` says that there are no more."""
        if body:
            self._body.append(body)
            self.buffered += len(body)
        self.received_all = last
        self.wake()

    def wake(self) -> None:
        """Let a waiting `receive` look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def hand_over(self) -> None:
        """The app has taken the connection itself: nothing is answered through this conversation."""
        self.taken = True
        self._stage = _COMPLETE

    # the app's side

    async def run(self, app: Callable[..., Awaitable[None]], request: Any, *more: Any) -> None:
        """Run the app to its end, with `receive` and `send` after these arguments; an answer that it left unfinished is
        never made to look finished."""
        try:
            await app(request, *more, self.receive, self.send)
        except asyncio.CancelledError:
            if self._stage != _COMPLETE:
                self._link.abort()
            raise
        except IncompleteAnswer:
            self._fail()
        except Exception:
            if not self.gone:
                _logger.exception("the app raised")
            self._fail()
        else:
            if self._stage != _COMPLETE and not self.gone:
                _logger.error("the app returned without a complete answer")
                self._fail()
        finally:
            self._link.ended(self)

    def _fail(self) -> None:
        if self.gone or self._stage == _COMPLETE:
            return
        if self._stage == _STARTED and not self._head:
            self._link.abort()
            return
        self._stage, self._head, self.keep_alive = _COMPLETE, b"", False
        fixed = self._link.fixed_headers()
        self._link.transport.write(problem(500, Code.INTERNAL_ERROR, fixed, body=not self._is_head))
        self._link.answered(self)

    async def receive(self) -> Message:
        """ASGI `receive`: the body as it comes, then http.disconnect once nobody waits for an answer any more."""
        if self._continue:
            self._continue = False
            # RFC 9110 section 10.1.1: a 100 is of no use once the body, or our answer, is under way
            if not self.buffered and self._stage == _NOT_STARTED and not self.gone:
                self._link.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.gone or self.broken or self._stage == _COMPLETE):
            if self._body or (self.received_all and not self._read_all):
                return self._next_body()
            await self._wait()
        return {"type": "http.disconnect"}

    def _next_body(self) -> Message:
        body = b"".join(self._body)
        self._body.clear()
        self.buffered = 0
        self._read_all = self.received_all
        return {"type": "http.request", "body": body, "more_body": not self.received_all}

    async def _wait(self) -> None:
        self._waiter = self._link.loop.create_future()
        self.waiting = not self.received_all
        if self.waiting:
            self._link.awaits_body()
        try:
            await self._waiter
        finally:
            self.waiting = False
            self._waiter = None

    async def send(self, message: Message) -> None:
        """ASGI `send`; http.response.interim for an interim answer, and http.response.whole for one in one message:
        `status`, `headers`, `body`. Once the client has left, all is dropped."""
        if self._link.blocked and not self.gone:
            await self._link.drained()
        if self.gone:
            return
        kind = message["type"]
        if kind == "http.response.body" and self._stage == _STARTED:
            self._send_body(message.get("body", b""), message.get("more_body", False))
            if self._link.blocked and message.get("more_body", False):
                # before the app gets the next piece from where it has it
                await self._link.drained()
        elif kind == "http.response.start" and self._stage == _NOT_STARTED:
            self._start(message["status"], message.get("headers", ()))
            # most apps send the body at once: then head and body are one segment, and this finds nothing to do
            self._link.loop.call_soon(self._flush)
        elif kind == "http.response.whole" and self._stage == _NOT_STARTED:
            self._start(message["status"], message["headers"])
            self._send_body(message["body"], False)
        elif kind == "http.response.interim" and self._stage == _NOT_STARTED:
            self._send_interim(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"{kind} at stage {self._stage} of the answer")

    def _send_interim(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if not 102 <= status <= 199:
            raise RuntimeError(f"the interim status {status}, expected 102 to 199")
        # RFC 9110 section 15.2: "A server MUST NOT send a 1xx response to an HTTP/1.0 client"
        if self._version != "1.0":
            self._link.transport.write(b"%b%b\r\n\r\n" % (STATUS_LINES[status], render(headers)[0]))

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if not 200 <= status <= 599:
            raise RuntimeError(f"the status {status}, expected 200 to 599")
        rendered, ours = render(headers)
        length, fixed = self._judge(ours)
        # a body that nobody reads to its end would be read as the next request
        if self._has_body and not self._read_all:
            self.keep_alive = False
        framing = self._choose_framing(status, length)
        closing = b"" if self.keep_alive else b"\r\nconnection: close"
        self._head = b"".join((STATUS_LINES[status], fixed, rendered, framing, closing, b"\r\n\r\n"))
        self._stage = _STARTED

    def _judge(self, ours: list[tuple[bytes, bytes]]) -> tuple[int | None, bytes]:
        """-> (the length that the app declares, the headers of every answer or the app's own Date)."""
        length: int | None = None
        fixed = b""
        for name, value in ours:
            if name == b"content-length":
                if not value.isdigit() or (length is not None and length != int(value)):
                    raise RuntimeError(f"the content-length {value[:64]!r}, expected one number")
                length = int(value)
            elif name == b"date":
                fixed = render_date(value)
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive = False
        return length, fixed or self._link.fixed_headers()

    def _choose_framing(self, status: int, length: int | None) -> bytes:
        """RFC 9112 section 6.3: one framing, ours. -> its header."""
        declared = b"" if length is None or status == _NO_CONTENT else b"\r\ncontent-length: %d" % length
        if self._is_head or status in _BODILESS:
            self._framing = _NO_BODY
            return declared
        if length is not None:
            self._framing, self._left = _LENGTH, length
            return declared
        if self._version == "1.1":
            self._framing = _CHUNKS
            return b"\r\ntransfer-encoding: chunked"
        self._framing, self.keep_alive = _UNTIL_CLOSE, False
        return b""

    def _flush(self) -> None:
        if self._head and not self.gone:
            self._link.transport.write(self._head)
            self._head = b""

    def _send_body(self, body: bytes, more: bool) -> None:
        data = self._frame(body, more)
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self._link.transport.write(data)
        if not more:
            self._stage = _COMPLETE
            self.wake()
            self._link.answered(self)

    def _frame(self, body: bytes, more: bool) -> bytes:
        if self._framing == _LENGTH:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("a body of another length than its content-length")
            return body
        if self._framing == _CHUNKS:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk if more else chunk + b"0\r\n\r\n"
        return body if self._framing == _UNTIL_CLOSE else b""
