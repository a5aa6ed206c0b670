"""Unary calls of gRPC as a server answers them: what one kind of client needs of HTTP/2, and nothing else.

gRPC over HTTP/2 (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md) on RFC 9113 with prior knowledge (section 3.3): the other
side of `net/grpc_client.py`. A call is one message in and one out; what is answered in one turn of the loop goes out as
one piece. A client that stops waiting for an answer ends its call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import socket
import struct
from collections.abc import Callable, Mapping
from typing import cast

from sidecar.net.grpc_client import CallFailed, Status
from sidecar.net.grpc_limits import MAX_CALLS, MAX_MESSAGE, Limits, Places
from sidecar.net.grpc_outbox import END, Call, Method, Outbox, WindowTooWide, failure, literal
from sidecar.wire import http2
from sidecar.wire.header_blocks import BlockReader
from sidecar.wire.hpack import BadBlock

log = logging.getLogger("sidecar.grpc")

MAX_BLOCK = 16 * 1024
"""Bytes of a block of headers."""
MAX_RESETS = 2 * MAX_CALLS
"""Calls that a client may end itself, more than it let come to an answer."""

_REFILL = 16 * 1024 * 1024


_WINDOW = MAX_MESSAGE + 64
_SETTINGS = struct.pack(
    ">HIHIHI", http2.MAX_STREAMS, MAX_CALLS, http2.INITIAL_WINDOW, _WINDOW, http2.MAX_LIST, MAX_BLOCK
)
_MORE_ROOM = struct.pack(">I", 2 * _REFILL - http2.DEFAULT_WINDOW)
_HELLO = http2.frame(http2.SETTINGS, 0, 0, _SETTINGS) + http2.frame(http2.WINDOW_UPDATE, 0, 0, _MORE_ROOM)


_UNSUPPORTED_MEDIA_TYPE = literal(b":status", b"415")
_DRAINED = b"\0drained"
_SMALL = 64
"""Bytes of a frame that costs more than it carries."""


class _Broken(Exception):
    """The client's bytes are not HTTP/2 that has one reading; `code` is for the GOAWAY."""

    def __init__(self, why: str, code: int = http2.PROTOCOL_ERROR) -> None:
        super().__init__(why)
        self.code = code


class Connection(asyncio.Protocol):
    """One connection of a client. `methods` are by path; `places` are what it shares with the others of its server, and
    `lost` is told of its end."""

    transport: asyncio.Transport
    owner = ""

    def __init__(self, methods: Mapping[bytes, Method], places: Places, lost: Callable[[], None]) -> None:
        self._methods = methods
        self._places = places
        self._limits = places.limits
        self._ticker = places.ticker
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._reader = BlockReader()
        self._calls: dict[int, Call] = {}
        self._outbox = Outbox(self._loop, self._calls, self._end)
        self._write = self._outbox.write
        self._last = 0  # the newest stream of the client
        self._held = b""
        self._greeted = self._settled = self._drained = self._ended = False
        self._headers: tuple[int, int, bytes] | None = None  # of a block that goes on: stream, flags, what has come
        self._taken = 0  # bytes of bodies since the window was last filled
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
        self.transport.write(_HELLO)

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        try:
            at = self._take_frames(data) if self._greeted else self._greet(data)
        except (_Broken, BadBlock) as error:
            self._break(error)
            return
        if at < len(data):
            # another frame than the one that was held
            if (at or not self._held) and self._headers is None:
                self._wait_for_more()
            self._held = data[at:]
        else:
            self._held = b""

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
        return not self._calls and (not self._settled or self._ticker.now - self._used >= self._limits.young)

    def expire(self) -> None:
        """Look whether the client is late with anything."""
        now, limits = self._ticker.now, self._limits
        self._frames = 0
        waits = self._held or self._headers is not None or not self._settled
        if waits and now - self._partial_since >= (limits.question if self._settled else limits.greeting):
            self._break(_Broken("nothing whole has come for too long", http2.ENHANCE_YOUR_CALM))
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
            if call.task is None and now - call.since >= self._limits.question:
                self._fail(stream, CallFailed(Status.DEADLINE_EXCEEDED, "the question does not end"))
                self._reset(stream, http2.NO_ERROR)
            elif call.unsent and now - call.since >= self._limits.answer:
                self._end(stream)
                self._reset(stream, http2.CANCEL)
        if self._calls:
            self._used = now

    def _wait_for_more(self) -> None:
        self._partial_since = self._ticker.now
        self.deadline = min(self.deadline, self._ticker.now)

    def _spend(self, frames: int) -> None:
        self._frames += frames
        self.deadline = min(self.deadline, self._ticker.now)
        if self._frames > self._limits.frames:
            raise _Broken("too many frames that are no part of a call", http2.ENHANCE_YOUR_CALM)

    def close(self) -> None:
        """Take no more calls, and close; nothing is under way."""
        self._leave(http2.NO_ERROR)

    # --- bytes ---

    def _greet(self, data: bytes) -> int:
        if not data.startswith(http2.PREFACE[: len(data)]) and not data.startswith(http2.PREFACE):
            raise _Broken("no preface of HTTP/2")
        if len(data) < len(http2.PREFACE):
            return 0
        self._greeted = True
        return self._take_frames(data, len(http2.PREFACE))

    def _take_frames(self, data: bytes, at: int = 0) -> int:
        end = len(data)
        while end - at >= 9:
            high, low, kind, flags, stream = http2.FRAME_HEAD.unpack_from(data, at)
            after = at + 9 + (high << 8 | low)
            if after - at > http2.MAX_FRAME + 9:
                raise _Broken("a frame that is too long", 6)
            if after > end:
                break
            self._take(kind, flags, stream & http2.MAX_STREAM, data[at + 9 : after])
            at = after
        return at

    def _break(self, error: Exception) -> None:
        code = error.code if isinstance(error, _Broken) else 9  # COMPRESSION_ERROR
        log.warning("a connection that is not gRPC's: %s", error)
        self._leave(code)

    def _leave(self, code: int) -> None:
        self._write(http2.frame(http2.GOAWAY, 0, 0, struct.pack(">II", self._last, code)))
        self._outbox.flush()
        # what waits for a client that takes nothing would wait with it
        (self.transport.close if self._blocked_since == math.inf else self.transport.abort)()

    # --- the end ---

    def drain(self) -> None:
        """Take no more calls once the client knows of it, answer those that it has made, and close.

        RFC 9113 section 6.8: a first GOAWAY that refuses no stream, and another when what was on its way has come.
        """
        self._write(
            http2.frame(http2.GOAWAY, 0, 0, struct.pack(">II", http2.MAX_STREAM, http2.NO_ERROR))
            + http2.frame(http2.PING, 0, 0, _DRAINED)
        )

    def _end_drain(self) -> None:
        self._drained = True
        self._write(http2.frame(http2.GOAWAY, 0, 0, struct.pack(">II", self._last, http2.NO_ERROR)))
        self._close_when_idle()

    def _close_when_idle(self) -> None:
        if self._drained and not self._calls:
            self._outbox.flush()
            self.transport.close()

    # --- frames ---

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._headers is not None and kind != http2.CONTINUATION:
            raise _Broken("a block of headers that is broken off")
        if not self._settled and kind != http2.SETTINGS:
            raise _Broken("no settings at the beginning")
        if kind == http2.DATA:
            self._take_data(flags, stream, payload)
        elif kind == http2.HEADERS:
            self._take_headers(flags, stream, payload)
        elif kind == http2.WINDOW_UPDATE:
            self._take_window(stream, payload)
        elif kind == http2.SETTINGS:
            self._take_settings(flags, stream, payload)
        else:
            self._take_rare(kind, flags, stream, payload)

    def _take_rare(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self._spend(1)
        if kind == http2.PING:
            self._take_ping(flags, stream, payload)
        elif kind == http2.RST_STREAM:
            self._take_reset(stream, payload)
        elif kind == http2.CONTINUATION:
            self._take_continuation(flags, stream, payload)
        elif kind == http2.PUSH_PROMISE:
            raise _Broken("a push of a client")
        # a client's GOAWAY is about pushes of ours; PRIORITY and what nobody knows are ignored (section 5.5)

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        payload = _unpadded(flags, payload)
        if flags & http2.HAS_PRIORITY:
            if len(payload) < 5:
                raise _Broken("a priority that is cut off")
            payload = payload[5:]
        if not stream & 1 or stream <= self._last:
            raise _Broken(f"headers of the stream {stream} after {self._last}")
        if flags & http2.END_HEADERS:
            self._begin(stream, flags, payload)
        else:
            self._headers = (stream, flags, payload)
            self._wait_for_more()

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._headers is None or self._headers[0] != stream:
            raise _Broken("a block of headers that goes on without a beginning")
        first, block = self._headers[1], self._headers[2] + payload
        if len(block) > MAX_BLOCK or not payload:
            raise _Broken("a block of headers that does not end", http2.ENHANCE_YOUR_CALM)
        self._headers = (stream, first, block)
        if flags & http2.END_HEADERS:
            self._headers = None
            self._begin(stream, first, block)

    def _begin(self, stream: int, flags: int, block: bytes) -> None:
        # read in any case: the table must go along
        fields = self._reader.read(block)
        self._last = stream
        if self._drained or not self._places.has_call_for(len(self._calls)):
            self._reset(stream, http2.REFUSED_STREAM)
            return
        found = dict(fields)
        if not found.get(b"content-type", b"").startswith(b"application/grpc"):
            self._write(http2.frame(http2.HEADERS, END, stream, _UNSUPPORTED_MEDIA_TYPE))
            return
        method = self._methods.get(found.get(b":path", b""))
        if method is None or found.get(b":method") != b"POST":
            self._write(failure(stream, CallFailed(Status.UNIMPLEMENTED, "no such method")))
            return
        self._places.calls += 1
        call = self._calls[stream] = Call(method, self._ticker.now)
        self.deadline = min(self.deadline, call.since)
        self._used = call.since
        if flags & http2.END_STREAM:
            self._start(stream, call)

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        self._taken += len(payload)
        if self._taken >= _REFILL:
            self._write(http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken)))
            self._taken = 0
        call = self._calls.get(stream)
        if call is None:
            if stream > self._last or not stream & 1:
                raise _Broken(f"data of the stream {stream}")
            return  # of a call that has ended
        if call.task is not None:
            raise _Broken("data after the end")
        payload = _unpadded(flags, payload)
        if flags & http2.END_STREAM:
            self._hold(stream, call, payload)
            if stream in self._calls:
                self._start(stream, call)
            return
        if len(payload) < _SMALL:
            self._spend(1)
        self._hold(stream, call, payload)

    def _hold(self, stream: int, call: Call, payload: bytes) -> None:
        """Keep a part of a question, or end its call."""
        size = len(payload)
        call.size += size
        self._holds += size
        self._places.held += size
        if call.size > MAX_MESSAGE + 5:
            why = f"over {MAX_MESSAGE} bytes"
        elif not self._places.has_bytes_for(self._holds):
            why = "too many questions at once"
        else:
            call.parts.append(payload)
            return
        self._fail(stream, CallFailed(Status.RESOURCE_EXHAUSTED, why))
        self._reset(stream, http2.NO_ERROR)

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) % 6 or (flags & http2.ACK and payload):
            raise _Broken("settings of a wrong length")
        self._settled = True
        if flags & http2.ACK:
            return
        self._spend(1 + len(payload) // _SMALL + self._outbox.stalled // _SMALL)
        initial = [value for number, value in struct.iter_unpack(">HI", payload) if number == http2.INITIAL_WINDOW]
        if initial:
            if max(initial) > http2.MAX_WINDOW:
                raise _Broken("a window that is too wide", 3)
            self._outbox.resize(initial[-1])
        self._write(http2.frame(http2.SETTINGS, http2.ACK, 0, b""))

    def _take_window(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _Broken("a window update of a wrong length")
        self._spend(1)
        more = int.from_bytes(payload, "big") & http2.MAX_WINDOW
        call = self._calls.get(stream)
        if stream and call is None:
            return  # of a call that has ended
        # section 6.9: an increment of 0 MUST be treated as an error
        if not more:
            raise _Broken("a window that is no wider")
        try:
            if call is not None:
                self._outbox.widen_stream(stream, call, more)
            else:
                self._outbox.widen(more)
        except WindowTooWide:
            raise _Broken("a window that is too wide", 3) from None

    def _take_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) != 8:
            raise _Broken("a ping of a wrong length")
        if not flags & http2.ACK:
            self._write(http2.frame(http2.PING, http2.ACK, 0, payload))
        elif payload == _DRAINED:
            self._end_drain()

    def _take_reset(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4 or stream > self._last or not stream & 1:
            raise _Broken("a reset of nothing")
        call = self._calls.get(stream)
        if call is not None:
            self._resets += 1
            if self._resets > MAX_RESETS:
                raise _Broken("too many calls that were given up", http2.ENHANCE_YOUR_CALM)
            if call.task is not None:
                call.task.cancel()
            self._end(stream)

    def _reset(self, stream: int, code: int) -> None:
        self._write(http2.frame(http2.RST_STREAM, 0, stream, struct.pack(">I", code)))

    # --- calls ---

    def _start(self, stream: int, call: Call) -> None:
        parts, call.parts = call.parts, []
        call.task = self._loop.create_task(self._answer(stream, call, parts))

    async def _answer(self, stream: int, call: Call, parts: list[bytes]) -> None:
        try:
            answer = await call.method(_message(parts))
        except CallFailed as error:
            failed = error
        except Exception:
            log.exception("a call failed")
            failed = CallFailed(Status.INTERNAL)
        else:
            if stream in self._calls:
                self._resets = max(0, self._resets - 1)
                self._outbox.answer(stream, call, answer, self._ticker.now)
            return
        self._fail(stream, failed)

    def _fail(self, stream: int, error: CallFailed) -> None:
        """End a call without an answer, unless it has ended."""
        if stream in self._calls:
            self._write(failure(stream, error))
            self._end(stream)

    def _end(self, stream: int) -> None:
        """The call is over, in whatever way."""
        call = self._calls.pop(stream)
        self._places.calls -= 1
        if call.size:
            self._holds -= call.size
            self._places.held -= call.size
        if call.unsent:
            self._outbox.forget(stream, call)
        if self._drained and not self._ended:
            # what is written in this turn comes first
            self._loop.call_soon(self._close_when_idle)


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & http2.PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _Broken("padding of a wrong length")
    return payload[1 : len(payload) - payload[0]]


def _message(parts: list[bytes]) -> bytes:
    """The one message of a call (PROTOCOL-HTTP2.md, "Length-Prefixed-Message"). Raises CallFailed."""
    data = parts[0] if len(parts) == 1 else b"".join(parts)
    if data[:1] == b"\1":
        raise CallFailed(Status.UNIMPLEMENTED, "a compressed message")
    if len(data) < 5 or data[0] or int.from_bytes(data[1:5], "big") != len(data) - 5:
        raise CallFailed(Status.INTERNAL, "not one whole message")
    return data[5:]


class Server:
    """Answers the calls of everybody who connects. `methods` are by path, as `/package.Service/Method`."""

    def __init__(self, methods: Mapping[bytes, Method], limits: Limits | None = None) -> None:
        self._methods = methods
        self._limits = limits or Limits()
        self._none = asyncio.Event()
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Answer on a listening socket."""
        loop = asyncio.get_running_loop()
        places = Places(self._limits, loop)
        self._connections = cast(set[Connection], places.connections)
        serve = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        self._server = await serve(lambda: Connection(self._methods, places, self._lost), sock=sock)

    async def stop(self, within: float) -> None:
        """Take no more connections, let every client know, and give what is under way so many seconds."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            self._none.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._none.wait(), within)
        for connection in list(self._connections):
            connection.transport.abort()

    def _lost(self) -> None:
        if not self._connections:
            self._none.set()
