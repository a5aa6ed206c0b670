"""Calls of gRPC on one HTTP/2 connection of a server: one message in and one out, or many each way.

A client that stops waiting for an answer ends its call.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

from sidecar.net.grpc_limits import MAX_CALLS, MAX_MESSAGE, GrpcPlaces
from sidecar.net.grpc_outbox import Outbox
from sidecar.net.grpc_server_stream import ServerStream, StreamHandler
from sidecar.wire import grpc, http2
from sidecar.wire.grpc import CallFailed, Status
from sidecar.wire.hpack import DEFAULT_TABLE, BlockReader
from sidecar.wire.http2 import DATA, END_HEADERS, END_STREAM, FRAME_HEAD, HEADERS, ProtocolError
from sidecar.wire.http2_connection import Http2Connection, opening
from sidecar.wire.http2_windows import SendWindows

log = logging.getLogger("sidecar.grpc")

MAX_BLOCK = 16 * 1024
"""Bytes of a block of headers."""
MAX_RESETS = 2 * MAX_CALLS
"""Calls that a client may end itself, more than it let come to an answer."""
SLACK = 64 * 1024
"""Bytes that a client may send beyond a message: those that it is told of once they are so many."""

Handler = Callable[[bytes], Awaitable[bytes]]
"""Answers one message. Raises CallFailed for a call that ends without an answer."""


def _hello(message: int) -> bytes:
    """First frames of a server that takes messages of so many bytes."""
    return opening(
        (http2.MAX_CONCURRENT_STREAMS, MAX_CALLS), (http2.INITIAL_WINDOW_SIZE, message + SLACK),
        (http2.MAX_HEADER_LIST_SIZE, MAX_BLOCK),
    )  # fmt: skip


_HELLO = _hello(MAX_MESSAGE)
_DRAINED = b"\0drained"
_SMALL = 64
"""Bytes of a frame that costs more than it carries."""
_KNOWN_BLOCKS = 32 * 1024
"""Bytes of the blocks that a connection knows again: those of about 15 calls that differ."""
_END = END_HEADERS | END_STREAM


class ServerCall:
    """One call, on a stream of its own. `task` is None until the question is complete; `since` is when its question
    began, and then when its answer had to wait."""

    __slots__ = ("handler", "more", "parts", "since", "size", "task", "unsent")

    def __init__(self, handler: Handler, since: float) -> None:
        self.handler = handler
        self.since = since
        self.parts: list[bytes] = []
        self.size = 0
        self.more = 0
        self.unsent = b""
        self.task: asyncio.Task[None] | None = None


NO_TALKS: Mapping[bytes, StreamHandler] = {}


class ServerConnection(asyncio.Protocol):
    """One connection of a client. `handlers` are by path, as are `talks`, the methods of many messages. `places`
    are what it shares with the others of its server, and `lost` is told of its end."""

    transport: asyncio.Transport
    owner = ""

    def __init__(
        self, handlers: Mapping[bytes, Handler], places: GrpcPlaces, lost: Callable[[], None],
        talks: Mapping[bytes, StreamHandler] = NO_TALKS,
    ) -> None:  # fmt: skip
        self._handlers = handlers
        self._talks = talks
        self._places = places
        self._limits = places.limits
        self._ticker = places.ticker
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._blocks = BlockReader(DEFAULT_TABLE, _KNOWN_BLOCKS)
        self._calls: dict[int, ServerCall | ServerStream] = {}
        self._outbox = Outbox(self._loop, places.limits.unsent)
        self._write = self._outbox.write
        self._windows = SendWindows(self._calls, self._write, sent=self._end_answer)
        self._http2 = Http2Connection(
            self, self._write, self._windows, max_block=MAX_BLOCK, preface=http2.PREFACE, on_cost=self._spend
        )
        self._last = 0  # the newest stream of the client
        self._drained = self._ended = False
        self._holds = 0  # bytes of questions whose calls have not ended
        self._resets = 0
        self._frames = 0  # that are no part of a call, since the clock's last look
        self._partial_since = self._used = self._blocked_since = math.inf
        self.deadline = math.inf

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self._outbox.transport = cast(asyncio.Transport, transport)
        places, limits = self._places, self._limits
        self._ticker.start()
        if len(places.connections) >= limits.connections and not self._ticker.shed():
            self.transport.abort()
        places.connections.add(self)
        self._used = self._partial_since = self._ticker.now
        self.deadline = self._ticker.now + limits.greeting
        self.transport.write(_HELLO if limits.message == MAX_MESSAGE else _hello(limits.message))

    def data_received(self, data: bytes) -> None:
        try:
            if self._http2.feed(data):
                self._partial_since = self._ticker.now
                self.deadline = min(self.deadline, self._ticker.now)
        except ProtocolError as error:
            self._break(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        self._places.connections.discard(self)
        for stream, call in list(self._calls.items()):
            if call.task is not None:
                call.task.cancel()
            self._end(stream)
        self._lost()

    def pause_writing(self) -> None:
        """A client that does not take what it asked for is not heard until it does: pings and calls are answered."""
        self._blocked_since = self.deadline = self._ticker.now
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._blocked_since = math.inf
        if not self.transport.is_closing():
            self.transport.resume_reading()

    # --- what the clock says ---

    @property
    def idle(self) -> bool:
        """Return whether it may make room: it has no call, and has had none of late."""
        return not self._calls and (not self._http2.is_open or self._ticker.now - self._used >= self._limits.young)

    @property
    def idle_since(self) -> float:
        return self._used

    def expire(self) -> None:
        """Look whether the client is late with anything."""
        now, limits = self._ticker.now, self._limits
        self._frames = 0
        waits = self._http2.waits
        if waits and now - self._partial_since >= (limits.question if self._http2.is_open else limits.greeting):
            self._break(ProtocolError("nothing whole has come for too long", http2.ENHANCE_YOUR_CALM))
        elif now - self._blocked_since >= limits.answer:
            self.transport.abort()
        elif not self._calls and now - self._used >= limits.idle:
            self.close()
        else:
            self._expire_calls(now)
            busy = self._calls or waits or self._blocked_since < math.inf
            self.deadline = now + limits.tick if busy else self._used + limits.idle

    def _expire_calls(self, now: float) -> None:
        for stream, call in list(self._calls.items()):
            if isinstance(call, ServerStream):
                self._expire_stream(stream, call, now)
            elif call.task is None and now - call.since >= self._limits.question:
                self._fail(stream, CallFailed(Status.DEADLINE_EXCEEDED, "the question does not end"))
                self._write(http2.rst_stream(stream, http2.NO_ERROR))
            elif call.unsent and now - call.since >= self._limits.answer:
                self._end(stream)
                self._write(http2.rst_stream(stream, http2.CANCEL))
        if self._calls:
            self._used = now

    def close(self) -> None:
        """Take no more calls, and close; nothing is under way."""
        self._leave(http2.NO_ERROR)

    def _break(self, error: ProtocolError) -> None:
        log.warning("a connection that is not gRPC's: %s", error)
        self._leave(error.code)

    def _leave(self, code: int) -> None:
        self._write(http2.goaway(self._last, code))
        self._outbox.flush()
        # what waits for a client that takes nothing would wait with it
        (self.transport.close if self._blocked_since == math.inf else self.transport.abort)()

    # --- the end ---

    def drain(self) -> None:
        """Take no more calls once the client knows of it, answer those that it has made, and close.

        RFC 9113 section 6.8: a first GOAWAY that refuses no stream, and another when what was on its way has come.
        """
        self._write(http2.goaway(http2.MAX_STREAM, http2.NO_ERROR) + http2.frame(http2.PING, 0, 0, _DRAINED))

    def _end_drain(self) -> None:
        self._drained = True
        self._write(http2.goaway(self._last, http2.NO_ERROR))
        self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._drained and not self._calls:
            self._outbox.flush()
            self.transport.close()

    # --- what the client's frames say ---

    def on_headers(self, stream: int, block: bytes, ended: bool) -> None:
        """See Events."""
        if not stream & 1 or stream <= self._last:
            raise ProtocolError(f"headers of the stream {stream} after {self._last}")
        # read in any case: the table must go along
        fields = dict(self._blocks.read(block))
        self._last = stream
        if self._drained or not self._places.has_call_for(len(self._calls)):
            self._write(http2.rst_stream(stream, http2.REFUSED_STREAM))
            return
        if not fields.get(b"content-type", b"").startswith(grpc.CONTENT_TYPE):
            self._write(http2.frame(HEADERS, _END, stream, grpc.UNSUPPORTED_MEDIA_TYPE))
            return
        path = fields.get(b":path", b"")
        handler = self._handlers.get(path)
        if handler is None or fields.get(b":method") != b"POST":
            talk = self._talks.get(path)
            if talk is not None and handler is None and fields.get(b":method") == b"POST":
                self._start_stream(stream, talk, ended)
            else:
                self._write_failure(stream, CallFailed(Status.UNIMPLEMENTED, "no such method"))
            return
        self._places.calls += 1
        call = self._calls[stream] = ServerCall(handler, self._ticker.now)
        self.deadline = min(self.deadline, call.since)
        self._used = call.since
        if ended:
            self._start(stream, call)

    def on_data(self, stream: int, data: bytes, ended: bool) -> None:
        """See Events."""
        call = self._calls.get(stream)
        if call is None:
            if stream > self._last or not stream & 1:
                raise ProtocolError(f"data of the stream {stream}")
            return  # of a call that has ended
        if call.task is not None:
            if isinstance(call, ServerStream) and not call.ended:
                self._hear(stream, call, data, ended)
                return
            raise ProtocolError("data after the end")
        assert isinstance(call, ServerCall)  # noqa: S101 - for the type checker: every stream has its task
        if ended:
            self._hold(stream, call, data)
            if stream in self._calls:
                self._start(stream, call)
            return
        if len(data) < _SMALL:
            self._spend(1)
        self._hold(stream, call, data)

    def on_settings(self, settings: Mapping[int, int]) -> None:
        """Nothing but its window is of interest: no table is used, and nothing is pushed."""

    def on_window(self, stream: int, more: int) -> None:
        """See Events."""
        call = self._calls.get(stream)
        # of a call that has ended it says nothing
        if call is not None:
            self._windows.widen_stream(stream, call, more)

    def on_pong(self, payload: bytes) -> None:
        """See Events."""
        if payload == _DRAINED:
            self._end_drain()

    def on_reset(self, stream: int, code: int) -> None:
        """See Events."""
        if stream > self._last or not stream & 1:
            raise ProtocolError("a reset of nothing")
        call = self._calls.get(stream)
        if call is not None:
            self._resets += 1
            if self._resets > MAX_RESETS:
                raise ProtocolError("too many calls that were given up", http2.ENHANCE_YOUR_CALM)
            if call.task is not None:
                call.task.cancel()
            self._end(stream)

    def on_goaway(self, last: int) -> None:
        """Nothing: it is about pushes of ours."""

    def _spend(self, frames: int) -> None:
        """Count what is no part of a call: a client may send so much in a second."""
        self._frames += frames
        self.deadline = min(self.deadline, self._ticker.now)
        if self._frames > self._limits.frames:
            raise ProtocolError("too many frames that are no part of a call", http2.ENHANCE_YOUR_CALM)

    # --- calls ---

    def _hold(self, stream: int, call: ServerCall, payload: bytes) -> None:
        """Keep a part of a question, or end its call."""
        size = len(payload)
        call.size += size
        self._holds += size
        self._places.held += size
        if call.size > self._limits.message + grpc.PREFIX:
            why = f"over {self._limits.message} bytes"
        elif not self._places.has_bytes_for(self._holds):
            why = "too many questions at once"
        else:
            call.parts.append(payload)
            return
        self._fail(stream, CallFailed(Status.RESOURCE_EXHAUSTED, why))
        self._write(http2.rst_stream(stream, http2.NO_ERROR))

    def _start(self, stream: int, call: ServerCall) -> None:
        parts, call.parts = call.parts, []
        call.task = self._loop.create_task(self._answer(stream, call, parts))

    async def _answer(self, stream: int, call: ServerCall, parts: list[bytes]) -> None:
        try:
            answer = await call.handler(_message(parts))
        except CallFailed as error:
            failed = error
        except Exception:
            log.exception("a call failed")
            failed = CallFailed(Status.INTERNAL)
        else:
            if stream in self._calls:
                self._resets = max(0, self._resets - 1)
                self._write_answer(stream, call, answer)
            return
        self._fail(stream, failed)

    def _write_answer(self, stream: int, call: ServerCall, answer: bytes) -> None:
        """Send the answer of a call, what the client does not take now later."""
        data = grpc.prefixed(answer)
        size = len(data)
        if self._windows.take(size, call):
            self._end(stream)
            self._write(
                b"".join(
                    (
                        FRAME_HEAD.pack(0, len(grpc.RESPONSE_HEADERS), HEADERS, END_HEADERS, stream),
                        grpc.RESPONSE_HEADERS,
                        FRAME_HEAD.pack(size >> 8, size & 0xFF, DATA, 0, stream), data,
                        FRAME_HEAD.pack(0, len(grpc.TRAILERS_OK), HEADERS, _END, stream), grpc.TRAILERS_OK,
                    )
                )
            )  # fmt: skip
            return
        self._write(http2.frame(HEADERS, END_HEADERS, stream, grpc.RESPONSE_HEADERS))
        call.since = self._ticker.now
        self._windows.wait(stream, call, data)
        self._outbox.bound(self._windows.waiting)

    def _end_answer(self, stream: int) -> None:
        """All of an answer that had to wait is sent."""
        call = self._calls[stream]
        if isinstance(call, ServerStream):
            call.since = self._ticker.now
            if call.finished:
                self._end_stream(stream, call)
            return
        self._write(http2.frame(HEADERS, _END, stream, grpc.TRAILERS_OK))
        self._end(stream)

    def _fail(self, stream: int, error: CallFailed) -> None:
        """End a call without an answer, unless it has ended."""
        if stream in self._calls:
            self._write_failure(stream, error)
            self._end(stream)

    # --- calls of many messages ---

    def _start_stream(self, stream: int, talk: StreamHandler, ended: bool) -> None:
        self._places.calls += 1
        self._used = now = self._ticker.now
        call = self._calls[stream] = ServerStream(
            now, self._limits.message, lambda message: self._send(stream, call, message),
            lambda size: self._give_back(stream, call, size),
        )  # fmt: skip
        self.deadline = min(self.deadline, now)
        call.ended = ended
        call.task = self._loop.create_task(self._talk(stream, call, talk))

    async def _talk(self, stream: int, call: ServerStream, talk: StreamHandler) -> None:
        try:
            await talk(call)
        except CallFailed as error:
            failed = error
        except Exception:
            log.exception("a call failed")
            failed = CallFailed(Status.INTERNAL)
        else:
            if stream in self._calls:
                self._resets = max(0, self._resets - 1)
                call.finished = True
                if not call.unsent:
                    self._end_stream(stream, call)
            return
        if stream in self._calls:
            self._fail_stream(stream, call, failed)

    def _hear(self, stream: int, call: ServerStream, data: bytes, ended: bool) -> None:
        """Take a part of what a client says."""
        size = len(data)
        call.size += size
        self._holds += size
        self._places.held += size
        try:
            whole = call.hear(data, ended, self._ticker.now)
        except CallFailed as error:
            self._fail_stream(stream, call, error)
            return
        if call.size > self._limits.message + SLACK or not self._places.has_bytes_for(self._holds):
            self._fail_stream(stream, call, CallFailed(Status.RESOURCE_EXHAUSTED, "too many questions at once"))
        elif not whole and size < _SMALL:
            self._spend(1)

    def _give_back(self, stream: int, call: ServerStream, size: int) -> None:
        """A message is done with: its client may send as much again."""
        if stream not in self._calls:
            return
        call.size -= size
        self._holds -= size
        self._places.held -= size
        call.owed += size
        if call.owed >= SLACK and not call.ended:
            self._write(http2.window_update(stream, call.owed))
            call.owed = 0

    def _send(self, stream: int, call: ServerStream, message: bytes) -> None:
        """Send a message of a call, unless that has ended."""
        if stream not in self._calls:
            return
        call.since = self._ticker.now
        if not call.answered:
            call.answered = True
            self._write(http2.frame(HEADERS, END_HEADERS, stream, grpc.RESPONSE_HEADERS))
        data = grpc.prefixed(message)
        if not call.unsent and self._windows.take(len(data), call):
            call.more -= len(data)
            self._write(http2.frame(DATA, 0, stream, data))
            return
        self._windows.add(stream, call, data)
        self._outbox.bound(self._windows.waiting)

    def _expire_stream(self, stream: int, call: ServerStream, now: float) -> None:
        limits, silent = self._limits, now - call.since
        patience = limits.answer if call.unsent else limits.question if call.waits else limits.silence
        if silent >= patience:
            self._fail_stream(stream, call, CallFailed(Status.DEADLINE_EXCEEDED, "the call does not go on"))

    def _fail_stream(self, stream: int, call: ServerStream, error: CallFailed) -> None:
        """End a call otherwise than well; what of its answer waits is left out."""
        block = grpc.trailers(error) if call.answered else grpc.trailers_only(error)
        self._write(http2.frame(HEADERS, _END, stream, block) + http2.rst_stream(stream, http2.NO_ERROR))
        if call.task is not None and not call.task.done():
            call.task.cancel()
        self._end(stream)

    def _end_stream(self, stream: int, call: ServerStream) -> None:
        """All is said, and sent."""
        block = grpc.TRAILERS_OK if call.answered else grpc.RESPONSE_HEADERS + grpc.TRAILERS_OK
        self._write(http2.frame(HEADERS, _END, stream, block))
        if not call.ended:
            # RFC 9113 section 8.1: what the client might still say is not wanted
            self._write(http2.rst_stream(stream, http2.NO_ERROR))
        self._end(stream)

    def _write_failure(self, stream: int, error: CallFailed) -> None:
        self._write(http2.frame(HEADERS, _END, stream, grpc.trailers_only(error)))

    def _end(self, stream: int) -> None:
        """The call is over, in whatever way."""
        call = self._calls.pop(stream)
        self._places.calls -= 1
        if call.size:
            self._holds -= call.size
            self._places.held -= call.size
        if call.unsent:
            self._windows.forget(stream, call)
        if self._drained and not self._ended:
            # what is written in this turn comes first
            self._loop.call_soon(self._close_when_idle)


def _message(parts: list[bytes]) -> bytes:
    """The one message of a call. Raises CallFailed."""
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    message = grpc.message_of(body)
    if message is not None:
        return message
    if grpc.is_compressed(body):
        raise CallFailed(Status.UNIMPLEMENTED, "a compressed message")
    raise CallFailed(Status.INTERNAL, "not one whole message")
