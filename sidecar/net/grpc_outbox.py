"""Output of one connection of gRPC: within the windows that its client gives, and within bounds of ours.

RFC 9113 section 5.2: a window for the connection and one for each stream. A client may open none of them, or open them
and take nothing; what waits for it is counted, and ends the connection when it is more than a client may leave.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from sidecar.net.grpc_client import CallFailed
from sidecar.wire import http2

MAX_UNSENT = 4 * 1024 * 1024
"""Bytes that wait for one client; with more it is given up."""

Method = Callable[[bytes], Awaitable[bytes]]
"""Answers one message. Raises CallFailed for a call that ends without an answer."""


def literal(name: bytes, value: bytes) -> bytes:
    """A field that changes no table (RFC 7541 section 6.2.2); both lengths are below 127."""
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


_OK_STATUS = b"\x88"  # `:status: 200` of the static table
HEAD_OF_ANSWER = _OK_STATUS + literal(b"content-type", b"application/grpc")
_END_OF_ANSWER = literal(b"grpc-status", b"0")
END = http2.END_HEADERS | http2.END_STREAM


def failure(stream: int, error: CallFailed) -> bytes:
    """The end of a call without an answer: trailers alone."""
    block = HEAD_OF_ANSWER + literal(b"grpc-status", b"%d" % error.status)
    if error.detail:
        block += literal(b"grpc-message", quote(error.detail[:100], safe=" ")[:120].encode("ascii"))
    return http2.frame(http2.HEADERS, END, stream, block)


class Call:
    """One call, on a stream of its own. `task` is None until the question is complete; `since` is when its question
    began, and then when its answer had to wait; `more` is what the client takes besides the initial window."""

    __slots__ = ("method", "more", "parts", "since", "size", "task", "unsent")

    def __init__(self, method: Method, since: float) -> None:
        self.method = method
        self.since = since
        self.parts: list[bytes] = []
        self.size = 0
        self.task: asyncio.Task[None] | None = None
        self.more = 0
        self.unsent = b""


class WindowTooWide(Exception):
    """A window over 2^31 - 1 (RFC 9113 section 6.9.1)."""


class Outbox:
    """Writes frames, what is written in one turn of the loop as one piece. `calls` are by stream, and `sent` is told of
    each that has all of its answer."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, calls: dict[int, Call], sent: Callable[[int], None]) -> None:
        self._loop = loop
        self._calls = calls
        self._sent = sent
        self._out: list[bytes] = []
        self._window = self._initial = http2.DEFAULT_WINDOW
        self._ready: deque[int] = deque()  # streams with an answer that the connection's window holds up
        self._stalled: set[int] = set()  # and those that their own window holds up
        self.waiting = 0  # bytes of answers that wait for a window

    @property
    def stalled(self) -> int:
        """Streams that their own windows hold up."""
        return len(self._stalled)

    def write(self, data: bytes) -> None:
        """Write whole frames that need no window."""
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(data)

    def flush(self) -> None:
        """Give the transport what was written."""
        out, self._out = self._out, []
        if out and not self.transport.is_closing():
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            self._bound(self.transport.get_write_buffer_size())

    def _bound(self, unsent: int) -> None:
        if unsent > MAX_UNSENT:
            self.transport.abort()

    def answer(self, stream: int, call: Call, answer: bytes, now: float) -> None:
        """Send the answer of a call, what the client does not take now later."""
        data = b"\0" + len(answer).to_bytes(4, "big") + answer
        size = len(data)
        if size <= http2.MAX_FRAME and size <= self._window and size <= self._initial + call.more and not self._ready:
            self._window -= size
            self._sent(stream)
            self.write(
                b"".join(
                    (
                        http2.FRAME_HEAD.pack(0, len(HEAD_OF_ANSWER), http2.HEADERS, http2.END_HEADERS, stream),
                        HEAD_OF_ANSWER,
                        http2.FRAME_HEAD.pack(size >> 8, size & 0xFF, http2.DATA, 0, stream), data,
                        http2.FRAME_HEAD.pack(0, len(_END_OF_ANSWER), http2.HEADERS, END, stream), _END_OF_ANSWER,
                    )
                )
            )  # fmt: skip
            return
        self.write(http2.frame(http2.HEADERS, http2.END_HEADERS, stream, HEAD_OF_ANSWER))
        call.unsent, call.since = data, now
        self.waiting += size
        self._ready.append(stream)
        self._send_ready()
        self._bound(self.waiting)

    def forget(self, stream: int, call: Call) -> None:
        """The call has ended before its answer was sent."""
        self.waiting -= len(call.unsent)
        self._stalled.discard(stream)

    def widen(self, more: int) -> None:
        """The client takes so many bytes more of all its streams. Raises WindowTooWide."""
        self._window += more
        if self._window > http2.MAX_WINDOW:
            raise WindowTooWide
        self._send_ready()

    def widen_stream(self, stream: int, call: Call, more: int) -> None:
        """The client takes so many bytes more of one stream. Raises WindowTooWide."""
        call.more += more
        if self._initial + call.more > http2.MAX_WINDOW:
            raise WindowTooWide
        if stream in self._stalled:
            self._stalled.discard(stream)
            self._ready.append(stream)
            self._send_ready()

    def resize(self, initial: int) -> None:
        """The client takes so many bytes of each stream to begin with, of those that are open too (section 6.9.2)."""
        wider, self._initial = initial > self._initial, initial
        if wider and self._stalled:
            self._ready.extend(sorted(self._stalled))
            self._stalled.clear()
            self._send_ready()

    def _send_ready(self) -> None:
        while self._ready and self._window > 0:
            stream = self._ready.popleft()
            call = self._calls.get(stream)
            if call is not None and call.unsent:
                self._send_some(stream, call)

    def _send_some(self, stream: int, call: Call) -> None:
        while call.unsent:
            size = min(len(call.unsent), self._window, self._initial + call.more, http2.MAX_FRAME)
            if size <= 0:
                if self._window > 0:
                    self._stalled.add(stream)
                else:
                    self._ready.appendleft(stream)
                return
            part, call.unsent = call.unsent[:size], call.unsent[size:]
            self._window -= size
            self.waiting -= size
            call.more -= size
            self.write(http2.frame(http2.DATA, 0, stream, part))
        self.write(http2.frame(http2.HEADERS, END, stream, _END_OF_ANSWER))
        self._sent(stream)
