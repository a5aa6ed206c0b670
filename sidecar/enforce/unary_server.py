"""Unary calls of gRPC as a server answers them: what one kind of client needs of HTTP/2, and nothing else.

gRPC over HTTP/2 (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md) on RFC 9113 with prior knowledge (section 3.3): the other
side of `clients/unary.py`. A call is one message in and one out; what is answered in one turn of the loop goes out as
one piece. A client that stops waiting for an answer ends its call.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import cast
from urllib.parse import quote

from sidecar.clients import http2
from sidecar.clients.hpack import BadBlock
from sidecar.clients.unary import CallFailed, Status
from sidecar.enforce.header_blocks import BlockReader

log = logging.getLogger("sidecar.grpc")

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of a question; gRPC's own default."""
MAX_BLOCK = 16 * 1024
"""Bytes of a block of headers."""
MAX_CALLS = 1024
"""Calls at once on one connection."""
MAX_CONNECTIONS = 1024
"""Connections at once; one more is closed. A client of this kind needs one for each of its threads."""
MAX_RESETS = 2 * MAX_CALLS
"""Calls that a client may end itself, more than it let come to an answer."""

Method = Callable[[bytes], Awaitable[bytes]]
"""Answers one message. Raises CallFailed for a call that ends without an answer."""

_REFILL = 16 * 1024 * 1024


_WINDOW = MAX_MESSAGE + 64
_SETTINGS = struct.pack(
    ">HIHIHI", http2.MAX_STREAMS, MAX_CALLS, http2.INITIAL_WINDOW, _WINDOW, http2.MAX_LIST, MAX_BLOCK
)
_MORE_ROOM = struct.pack(">I", 2 * _REFILL - http2.DEFAULT_WINDOW)
_HELLO = http2.frame(http2.SETTINGS, 0, 0, _SETTINGS) + http2.frame(http2.WINDOW_UPDATE, 0, 0, _MORE_ROOM)


def _literal(name: bytes, value: bytes) -> bytes:
    """A field that changes no table (RFC 7541 section 6.2.2); both lengths are below 127."""
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


_OK_STATUS = b"\x88"  # `:status: 200` of the static table
_HEAD_OF_ANSWER = _OK_STATUS + _literal(b"content-type", b"application/grpc")
_END_OF_ANSWER = _literal(b"grpc-status", b"0")
_END = http2.END_HEADERS | http2.END_STREAM
_UNSUPPORTED_MEDIA_TYPE = _literal(b":status", b"415")
_DRAINED = b"\0drained"


class _Broken(Exception):
    """The client's bytes are not HTTP/2 that has one reading; `code` is for the GOAWAY."""

    def __init__(self, why: str, code: int = http2.PROTOCOL_ERROR) -> None:
        super().__init__(why)
        self.code = code


class _Call:
    """One call, on a stream of its own. `task` is None until the question is complete."""

    __slots__ = ("method", "parts", "size", "task", "unsent", "window")

    def __init__(self, method: Method, window: int) -> None:
        self.method = method
        self.parts: list[bytes] = []
        self.size = 0
        self.task: asyncio.Task[None] | None = None
        self.window = window  # bytes that the client takes
        self.unsent = b""


class Connection(asyncio.Protocol):
    """One connection of a client. `methods` are by path; `opened` and `lost` are told of it at its two ends."""

    transport: asyncio.Transport

    def __init__(
        self, methods: Mapping[bytes, Method], opened: Callable[[Connection], None], lost: Callable[[Connection], None]
    ) -> None:
        self._methods = methods
        self._opened = opened
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._reader = BlockReader()
        self._calls: dict[int, _Call] = {}
        self._last = 0  # the newest stream of the client
        self._held = b""
        self._greeted = self._settled = self._drained = False
        self._headers: tuple[int, int, bytes] | None = None  # of a block that goes on: stream, flags, what has come
        self._out: list[bytes] = []
        self._window = self._initial_window = http2.DEFAULT_WINDOW
        self._taken = 0  # bytes of bodies since the window was last filled
        self._resets = 0
        self._waiting: deque[int] = deque()  # streams with more to send than the client takes

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._opened(self)
        self.transport.write(_HELLO)

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        try:
            at = self._take_frames(data) if self._greeted else self._greet(data)
        except (_Broken, BadBlock) as error:
            self._break(error)
            return
        self._held = data[at:] if at < len(data) else b""

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(self)
        for call in self._calls.values():
            if call.task is not None:
                call.task.cancel()
        self._calls.clear()

    def pause_writing(self) -> None:
        """A client that does not read what it asked for is not asked to wait for more: its windows are its bound."""

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
        self._write(http2.frame(http2.GOAWAY, 0, 0, struct.pack(">II", self._last, code)))
        self._flush()
        self.transport.close()

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
            self._flush()
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
        if self._drained or len(self._calls) >= MAX_CALLS:
            self._reset(stream, http2.REFUSED_STREAM)
            return
        found = dict(fields)
        if not found.get(b"content-type", b"").startswith(b"application/grpc"):
            self._write(http2.frame(http2.HEADERS, _END, stream, _UNSUPPORTED_MEDIA_TYPE))
            return
        method = self._methods.get(found.get(b":path", b""))
        if method is None or found.get(b":method") != b"POST":
            self._write(_failure(stream, CallFailed(Status.UNIMPLEMENTED, "no such method")))
            return
        call = self._calls[stream] = _Call(method, self._initial_window)
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
        call.size += len(payload)
        if call.size > MAX_MESSAGE + 5:
            del self._calls[stream]
            self._write(_failure(stream, CallFailed(Status.RESOURCE_EXHAUSTED, f"over {MAX_MESSAGE} bytes")))
            self._reset(stream, http2.NO_ERROR)
            return
        call.parts.append(payload)
        if flags & http2.END_STREAM:
            self._start(stream, call)

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) % 6 or (flags & http2.ACK and payload):
            raise _Broken("settings of a wrong length")
        self._settled = True
        if flags & http2.ACK:
            return
        for number, value in struct.iter_unpack(">HI", payload):
            if number == http2.INITIAL_WINDOW:
                if value > http2.MAX_WINDOW:
                    raise _Broken("a window that is too wide", 3)
                for call in self._calls.values():
                    call.window += value - self._initial_window
                self._initial_window = value
        self._write(http2.frame(http2.SETTINGS, http2.ACK, 0, b""))
        self._send_waiting()

    def _take_window(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _Broken("a window update of a wrong length")
        more = int.from_bytes(payload, "big") & http2.MAX_WINDOW
        call = self._calls.get(stream)
        if call is not None:
            call.window += more
        elif not stream:
            self._window += more
            if self._window > http2.MAX_WINDOW:
                raise _Broken("a window that is too wide", 3)
        if self._waiting:
            self._send_waiting()

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
        call = self._calls.pop(stream, None)
        if call is not None:
            self._resets += 1
            if self._resets > MAX_RESETS:
                raise _Broken("too many calls that were given up", http2.ENHANCE_YOUR_CALM)
            if call.task is not None:
                call.task.cancel()
            self._close_when_idle()

    def _reset(self, stream: int, code: int) -> None:
        self._write(http2.frame(http2.RST_STREAM, 0, stream, struct.pack(">I", code)))

    # --- calls ---

    def _start(self, stream: int, call: _Call) -> None:
        call.task = self._loop.create_task(self._answer(stream, call))

    async def _answer(self, stream: int, call: _Call) -> None:
        try:
            answer = await call.method(_message(call.parts))
        except CallFailed as error:
            failed = error
        except Exception:
            log.exception("a call failed")
            failed = CallFailed(Status.INTERNAL)
        else:
            self._send(stream, call, answer)
            return
        if self._calls.pop(stream, None) is not None:
            self._write(_failure(stream, failed))
            self._close_when_idle()

    def _send(self, stream: int, call: _Call, answer: bytes) -> None:
        if stream not in self._calls:
            return
        self._resets = max(0, self._resets - 1)
        data = b"\0" + len(answer).to_bytes(4, "big") + answer
        size, block = len(data), _HEAD_OF_ANSWER
        if size <= http2.MAX_FRAME and size <= self._window and size <= call.window and not self._waiting:
            self._window -= size
            del self._calls[stream]
            self._write(
                b"".join(
                    (
                        http2.FRAME_HEAD.pack(0, len(block), http2.HEADERS, http2.END_HEADERS, stream), block,
                        http2.FRAME_HEAD.pack(size >> 8, size & 0xFF, http2.DATA, 0, stream), data,
                        http2.FRAME_HEAD.pack(0, len(_END_OF_ANSWER), http2.HEADERS, _END, stream), _END_OF_ANSWER,
                    )
                )
            )  # fmt: skip
            if self._drained:
                self._close_when_idle()
            return
        self._write(http2.frame(http2.HEADERS, http2.END_HEADERS, stream, block))
        call.unsent = data
        self._waiting.append(stream)
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Send of the answers that wait what the client takes now (RFC 9113 section 5.2)."""
        for _ in range(len(self._waiting)):
            stream = self._waiting.popleft()
            call = self._calls.get(stream)
            if call is not None and not self._send_some(stream, call):
                self._waiting.append(stream)

    def _send_some(self, stream: int, call: _Call) -> bool:
        """Whether all of the answer was sent."""
        while call.unsent:
            size = min(len(call.unsent), self._window, call.window, http2.MAX_FRAME)
            if size <= 0:
                return False
            part, call.unsent = call.unsent[:size], call.unsent[size:]
            self._window -= size
            call.window -= size
            self._write(http2.frame(http2.DATA, 0, stream, part))
        del self._calls[stream]
        self._write(http2.frame(http2.HEADERS, _END, stream, _END_OF_ANSWER))
        self._close_when_idle()
        return True

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and not self.transport.is_closing():
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))


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


def _failure(stream: int, error: CallFailed) -> bytes:
    """Trailers alone: a call without an answer."""
    block = _HEAD_OF_ANSWER + _literal(b"grpc-status", b"%d" % error.status)
    if error.detail:
        block += _literal(b"grpc-message", quote(error.detail[:100], safe=" ")[:120].encode("ascii"))
    return http2.frame(http2.HEADERS, _END, stream, block)


class Server:
    """Answers the calls of everybody who connects. `methods` are by path, as `/package.Service/Method`."""

    def __init__(self, methods: Mapping[bytes, Method]) -> None:
        self._methods = methods
        self._connections: set[Connection] = set()
        self._none = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Answer on a listening socket."""
        loop = asyncio.get_running_loop()
        serve = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        self._server = await serve(lambda: Connection(self._methods, self._opened, self._lost), sock=sock)

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

    def _opened(self, connection: Connection) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            connection.transport.abort()
        self._connections.add(connection)

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._none.set()
