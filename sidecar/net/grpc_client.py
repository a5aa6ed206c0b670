"""Unary calls of gRPC on one HTTP/2 connection: what a client of one server needs of both protocols, and nothing else.

gRPC over HTTP/2 (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md) on RFC 9113 with prior knowledge (section 3.3). Many
calls share the connection; what they write in one turn of the loop goes out as one piece, and one timer serves all
deadlines.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import struct
from collections import deque
from collections.abc import Coroutine, Mapping
from enum import IntEnum
from typing import Any, cast
from urllib.parse import unquote

from sidecar.wire import hpack, http2
from sidecar.wire.hpack import BadBlock, Field

CONNECT_WITHIN = 1.0
"""Seconds for a connection, until the server has said its settings."""
MAX_MESSAGE = 1024 * 1024
"""Bytes of an answer."""
MAX_BLOCK = 64 * 1024
"""Bytes of a block of headers."""


class Status(IntEnum):
    """How a call ended (github.com/grpc/grpc, doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


def tls_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """TLS for calls, with the server's name checked: `ca` is a PEM file of CAs, the system's where it is "";
    `certificate` and `key` are PEM files of our own, or "". Raises OSError, ValueError."""
    context = ssl.create_default_context(cafile=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    if certificate:
        # a key with a pass phrase is an error: nobody is here to be asked for one
        context.load_cert_chain(certificate, key, password="")
    return context


class CallFailed(Exception):
    """There is no answer; `status` is never OK. `detail` is for the log."""

    def __init__(self, status: Status, detail: str = "") -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


class _Broken(Exception):
    """The server's bytes are not HTTP/2 that has one reading."""


# --- the connection's beginning, and how a call ends ---

_HEAD = http2.FRAME_HEAD.pack
_DEFAULT_TABLE = 4096

_RESETS = {
    7: Status.UNAVAILABLE,  # REFUSED_STREAM: nothing was done for it
    8: Status.CANCELLED,
    11: Status.RESOURCE_EXHAUSTED,  # ENHANCE_YOUR_CALM
    12: Status.PERMISSION_DENIED,  # INADEQUATE_SECURITY
}
"""Error code of RST_STREAM -> status, as PROTOCOL-HTTP2.md has it; INTERNAL for the others."""
_HTTP = {
    b"401": Status.UNAUTHENTICATED,
    b"403": Status.PERMISSION_DENIED,
    b"404": Status.UNIMPLEMENTED,
    b"400": Status.INTERNAL,
    b"429": Status.UNAVAILABLE,
    b"502": Status.UNAVAILABLE,
    b"503": Status.UNAVAILABLE,
    b"504": Status.UNAVAILABLE,
}
"""HTTP status -> status of an answer that has none (doc/http-grpc-status-mapping.md); UNKNOWN for the others."""


_STATUSES = {b"%d" % status: status for status in Status if status}


_OUR_WINDOW = MAX_MESSAGE + 64
_REFILL = 16 * 1024 * 1024
# no table of the server's, so that its blocks stand for themselves; no pushes
_SETTINGS = struct.pack(">HIHIHI", http2.TABLE_SIZE, 0, http2.ENABLE_PUSH, 0, http2.INITIAL_WINDOW, _OUR_WINDOW)
_HELLO = (
    http2.PREFACE
    + http2.frame(http2.SETTINGS, 0, 0, _SETTINGS)
    + http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 2 * _REFILL - http2.DEFAULT_WINDOW))
)


class Method:
    """A method with the headers of its calls; `timeout` in seconds is for every call. `path` is `/service/Method`.

    `authorization` is the value of that header, where the server wants one; `secure` says that the calls go by TLS.
    """

    def __init__(
        self, path: str, authority: str, timeout: float, authorization: str = "", *, secure: bool = False
    ) -> None:  # fmt: skip
        self.path = path
        self.timeout = timeout
        self.fields = [
            (b":method", b"POST"),
            (b":scheme", b"https" if secure else b"http"),
            (b":path", path.encode("ascii")),
            (b":authority", authority.encode("ascii")),
            (b"content-type", b"application/grpc"),
            (b"user-agent", b"authorization-sidecar"),
            (b"te", b"trailers"),
            (b"grpc-timeout", b"%dm" % max(1, math.ceil(timeout * 1000))),
        ]
        if authorization:
            self.fields.append((b"authorization", authorization.encode("ascii")))


class _Call:
    """One call under way, on a stream of its own."""

    __slots__ = ("answer", "deadline", "future", "head", "since", "unsent", "window")

    def __init__(self, future: asyncio.Future[bytes], since: float, deadline: float, window: int) -> None:
        self.future = future
        self.since = since
        self.deadline = deadline
        self.window = window  # bytes that the server takes
        self.unsent = b""
        self.head: Mapping[bytes, bytes] | None = None
        self.answer = b""


class _Connection(asyncio.Protocol):
    """One connection. `usable` says whether a call may begin on it."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, taught: Method) -> None:
        self.ready: asyncio.Future[None] = loop.create_future()
        self.usable = False
        self._given_up = False
        self._loop = loop
        self._taught = taught
        self._blocks = hpack.taught(taught.fields)
        self._block = self._blocks[0]
        self._calls: dict[int, _Call] = {}
        self._next = 1
        self._held = b""
        self._out: list[bytes] = []
        self._heard = 0.0  # when something came from the server
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._headers: tuple[int, int, bytes] | None = None  # of a block that goes on: stream, flags, what has come
        self._taken = 0  # bytes of bodies since the window was last filled
        self._window = self._initial_window = http2.DEFAULT_WINDOW
        self._waiting: deque[int] = deque()  # streams that have more to send than the server takes
        self._most = 100
        self._room: deque[asyncio.Future[None]] = deque()  # calls that wait for one to end

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._given_up:
            self.transport.abort()
        else:
            self.transport.write(_HELLO)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        if self._held:
            data = self._held + data
        at, end = 0, len(data)
        try:
            while end - at >= 9:
                high, low, kind, flags, stream = http2.FRAME_HEAD.unpack_from(data, at)
                after = at + 9 + (high << 8 | low)
                if after - at > http2.MAX_FRAME + 9:
                    raise _Broken("a frame that is too long")  # noqa: TRY301 - all that is broken ends below
                if after > end:
                    break
                self._take(kind, flags, stream & http2.MAX_STREAM, data[at + 9 : after])
                at = after
        except (_Broken, BadBlock) as error:
            self._break(str(error))
            return
        self._held = data[at:] if at < end else b""

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(CallFailed(Status.UNAVAILABLE, "the connection was closed"))

    def _break(self, why: str) -> None:
        """Be done with a server that does not speak the protocol."""
        spoke = self.ready.done()
        self._write(http2.frame(http2.GOAWAY, 0, 0, struct.pack(">II", 0, http2.PROTOCOL_ERROR)))
        self._flush()
        self._end(CallFailed(Status.INTERNAL if spoke else Status.UNAVAILABLE, f"not HTTP/2: {why}"))

    def _end(self, error: CallFailed) -> None:
        self.usable = False
        for call in self._calls.values():
            _fail(call, error)
        self._calls.clear()
        if not self.ready.done():
            self.ready.set_exception(error)
        self._let_in()
        self.close()

    def close(self) -> None:
        """Close at once, or as soon as it is open; what is under way fails."""
        self.usable = False
        self._given_up = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if hasattr(self, "transport") and not self.transport.is_closing():
            self.transport.abort()

    # --- calls ---

    async def call(self, method: Method, message: bytes, deadline: float, headers: tuple[Field, ...]) -> bytes:
        """One call, until `deadline` in the loop's time. Raises CallFailed."""
        while len(self._calls) >= self._most:
            await self._wait_for_room(deadline)
        if not self.usable:
            raise CallFailed(Status.UNAVAILABLE, "the connection was closed")
        number = self._next
        self._next = number + 2
        if self._next > http2.MAX_STREAM:
            self.usable = False
        call = self._calls[number] = _Call(
            self._loop.create_future(), self._loop.time(), deadline, self._initial_window
        )  # fmt: skip
        if deadline < self._timer_at:
            self._arm(deadline)
        self._begin(number, call, method, message, headers)
        try:
            return await call.future
        except asyncio.CancelledError:
            self._give_up(number)
            raise

    def _begin(self, number: int, call: _Call, method: Method, message: bytes, headers: tuple[Field, ...]) -> None:
        if method is self._taught:
            block, self._block = self._block, self._blocks[1]
        else:
            block = hpack.spelled(method.fields)
        if headers:
            block += hpack.spelled(headers)
        size = len(message)
        data = b"\0" + size.to_bytes(4, "big") + message
        size += 5
        if size <= http2.MAX_FRAME and size <= self._window and size <= call.window:
            self._window -= size
            length = len(block)
            self._write(
                b"".join(
                    (
                        _HEAD(length >> 8, length & 0xFF, http2.HEADERS, http2.END_HEADERS, number), block,
                        _HEAD(size >> 8, size & 0xFF, http2.DATA, http2.END_STREAM, number), data,
                    )
                )
            )  # fmt: skip
            return
        self._write(http2.frame(http2.HEADERS, http2.END_HEADERS, number, block))
        call.unsent = data
        self._waiting.append(number)
        self._send_waiting()

    def _send_waiting(self) -> None:
        """Send of the long messages what the server takes now (RFC 9113 section 5.2)."""
        for _ in range(len(self._waiting)):
            number = self._waiting.popleft()
            call = self._calls.get(number)
            if call is not None and not self._send_some(number, call):
                self._waiting.append(number)

    def _send_some(self, number: int, call: _Call) -> bool:
        """Return whether all of the call's message was sent."""
        while call.unsent:
            size = min(len(call.unsent), self._window, call.window, http2.MAX_FRAME)
            if size <= 0:
                return False
            part, call.unsent = call.unsent[:size], call.unsent[size:]
            self._window -= size
            call.window -= size
            self._write(http2.frame(http2.DATA, 0 if call.unsent else http2.END_STREAM, number, part))
        return True

    async def _wait_for_room(self, deadline: float) -> None:
        room: asyncio.Future[None] = self._loop.create_future()
        self._room.append(room)
        try:
            async with asyncio.timeout_at(deadline):
                await room
        except TimeoutError:
            self._pass_on(room)
            raise CallFailed(Status.DEADLINE_EXCEEDED, "the server takes no more calls at once") from None
        except asyncio.CancelledError:
            self._pass_on(room)
            raise

    def _pass_on(self, room: asyncio.Future[None]) -> None:
        """One who leaves as its turn comes lets the next one in."""
        if room.done() and not room.cancelled():
            self._let_in()

    def _let_in(self) -> None:
        while self._room:
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)
                if self.usable:
                    return

    def _remove(self, number: int) -> None:
        del self._calls[number]
        if self._room:
            self._let_in()
        if not self._calls and not self.usable:
            self.close()

    def _give_up(self, number: int) -> None:
        """Tell the server that nobody waits for this answer any more."""
        if number in self._calls:
            self._remove(number)
            if not self.transport.is_closing():
                self._write(http2.frame(http2.RST_STREAM, 0, number, struct.pack(">I", http2.CANCEL)))

    def _refuse(self, number: int, error: CallFailed) -> None:
        """End a call whose answer cannot be one."""
        _fail(self._calls[number], error)
        self._give_up(number)

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and not self.transport.is_closing():
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))

    # --- deadlines ---

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        """End the calls whose time is over, and look again when that of the next one is."""
        # the timer may be early by a tick of its clock
        now = max(self._loop.time(), self._timer_at)
        late = [(number, call) for number, call in self._calls.items() if call.deadline <= now]
        self._timer, self._timer_at = None, math.inf
        # whoever is gone without a word cannot be told from one that is slow: new calls go elsewhere
        if any(self._heard < call.since for _, call in late):
            self.usable = False
        for number, _ in late:
            self._refuse(number, CallFailed(Status.DEADLINE_EXCEEDED, "no answer in time"))
        if self._calls:
            self._arm(min(call.deadline for call in self._calls.values()))

    # --- frames ---

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._headers is not None and kind != http2.CONTINUATION:
            raise _Broken("a block of headers that is broken off")
        if kind == http2.DATA:
            self._take_data(flags, stream, payload)
        elif kind == http2.HEADERS:
            self._take_headers(flags, stream, payload)
        elif kind == http2.SETTINGS:
            self._take_settings(flags, payload)
        elif not self.ready.done():
            raise _Broken("no settings at the beginning")
        else:
            self._take_rare(kind, flags, stream, payload)

    def _take_rare(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == http2.WINDOW_UPDATE:
            self._take_window(stream, payload)
        elif kind == http2.PING:
            if not flags & http2.ACK:
                self._write(http2.frame(http2.PING, http2.ACK, 0, payload))
        elif kind == http2.RST_STREAM:
            self._take_reset(stream, payload)
        elif kind == http2.GOAWAY:
            self._take_goaway(payload)
        elif kind == http2.CONTINUATION:
            self._take_continuation(flags, stream, payload)
        elif kind == http2.PUSH_PROMISE:
            raise _Broken("a push")

    def _call_of(self, stream: int) -> _Call | None:
        """The call of a stream, None for one that has ended. Raises _Broken for one that never was."""
        call = self._calls.get(stream)
        if call is None and (stream >= self._next or not stream & 1):
            raise _Broken(f"a frame of stream {stream}")
        return call

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        call = self._call_of(stream)
        self._taken += len(payload)
        if self._taken >= _REFILL:
            self._write(http2.frame(http2.WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken)))
            self._taken = 0
        if call is None:
            return
        if call.head is None:
            raise _Broken("a body before its head")
        data = _unpadded(flags, payload)
        call.answer = call.answer + data if call.answer else data
        if len(call.answer) > MAX_MESSAGE + 5:
            self._refuse(stream, CallFailed(Status.RESOURCE_EXHAUSTED, f"an answer over {MAX_MESSAGE} bytes"))
        elif flags & http2.END_STREAM:
            self._refuse(stream, CallFailed(Status.INTERNAL, "an answer without a status"))

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        block = _unpadded(flags, payload)
        if flags & http2.HAS_PRIORITY:
            block = block[5:]
        if flags & http2.END_HEADERS:
            self._take_block(flags, stream, block)
        else:
            self._headers = (stream, flags, block)

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._headers is None or self._headers[0] != stream:
            raise _Broken("a continuation of nothing")
        begun, block = self._headers[1], self._headers[2] + payload
        if len(block) > MAX_BLOCK:
            raise _Broken(f"headers over {MAX_BLOCK} bytes")
        if flags & http2.END_HEADERS:
            self._headers = None
            self._take_block(begun, stream, block)
        else:
            self._headers = (stream, begun, block)

    def _take_block(self, flags: int, stream: int, block: bytes) -> None:
        call = self._call_of(stream)
        fields = hpack.read_block(block)
        if call is None:
            return
        if flags & http2.END_STREAM:
            self._finish(stream, call, fields)
        elif call.head is not None:
            raise _Broken("headers in the middle of a body")
        elif not fields.get(b":status", b"").startswith(b"1"):
            call.head = fields
            wrong = _wrong_head(fields)
            if wrong is not None:
                self._refuse(stream, wrong)

    def _finish(self, stream: int, call: _Call, fields: Mapping[bytes, bytes]) -> None:
        """The answer has ended with these fields: its trailers, or its only headers."""
        wrong = (_wrong_head(fields) if call.head is None else None) or _wrong_end(fields, call.answer)
        if wrong is not None:
            _fail(call, wrong)
        elif not call.future.done():
            call.future.set_result(call.answer[5:])
        if call.unsent:
            # it did not wait for all of the question, and need not
            self._give_up(stream)
        else:
            self._remove(stream)

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if flags & http2.ACK:
            return
        if len(payload) % 6:
            raise _Broken("settings of a wrong length")
        settings = dict(struct.iter_unpack(">HI", payload))
        first = not self.ready.done()
        if settings.get(http2.TABLE_SIZE, _DEFAULT_TABLE) < _DEFAULT_TABLE:
            self._without_table(first)
        if first:
            self._most = http2.MAX_STREAM
        self._most = settings.get(http2.MAX_STREAMS, self._most)
        window = settings.get(http2.INITIAL_WINDOW, self._initial_window)
        if window > http2.MAX_WINDOW:
            raise _Broken("a window that is too wide")
        for call in self._calls.values():
            call.window += window - self._initial_window
        self._initial_window = window
        self._write(http2.frame(http2.SETTINGS, http2.ACK, 0, b""))
        if first:
            self.usable = True
            self.ready.set_result(None)
        self._send_waiting()

    def _without_table(self, first: bool) -> None:
        """The server allows less of a table than what we fill it with by default: go on without, from the beginning."""
        if not first:
            self.usable = False
            return
        block = hpack.spelled(self._taught.fields)
        self._block, self._blocks = hpack.NO_TABLE + block, (block, block)

    def _take_window(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _Broken("a window update of a wrong length")
        more = int.from_bytes(payload, "big") & http2.MAX_WINDOW
        if stream:
            call = self._call_of(stream)
            if call is not None:
                call.window += more
        else:
            self._window += more
        if self._waiting:
            self._send_waiting()

    def _take_reset(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise _Broken("a reset of a wrong length")
        call = self._call_of(stream)
        if call is not None:
            code = int.from_bytes(payload, "big")
            _fail(call, CallFailed(_RESETS.get(code, Status.INTERNAL), f"reset with {code}"))
            self._remove(stream)

    def _take_goaway(self, payload: bytes) -> None:
        """No more calls here; those that the server has not taken may be made again (RFC 9113 section 6.8)."""
        if len(payload) < 8:
            raise _Broken("a goaway of a wrong length")
        self.usable = False
        last = int.from_bytes(payload[:4], "big") & http2.MAX_STREAM
        for number in [each for each in self._calls if each > last]:
            _fail(self._calls[number], CallFailed(Status.UNAVAILABLE, "the server goes away"))
            self._remove(number)
        self._let_in()
        if not self._calls:
            self.close()


def _fail(call: _Call, error: CallFailed) -> None:
    if not call.future.done():
        # one of its own for each: whoever raises it adds to its traceback
        call.future.set_exception(CallFailed(error.status, error.detail))


def _unpadded(flags: int, payload: bytes) -> bytes:
    if not flags & http2.PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise _Broken("padding of a wrong length")
    return payload[1 : len(payload) - payload[0]]


def _wrong_head(fields: Mapping[bytes, bytes]) -> CallFailed | None:
    """Why these are not the headers of an answer of gRPC."""
    status = fields.get(b":status", b"")
    kind = fields.get(b"content-type", b"")
    if status != b"200":
        return CallFailed(_HTTP.get(status, Status.UNKNOWN), f"HTTP status {status[:16].decode('latin-1')}")
    if not kind.startswith(b"application/grpc"):
        return CallFailed(Status.UNKNOWN, f"found {kind[:64].decode('latin-1')!r}, expected application/grpc")
    return None


def _wrong_end(fields: Mapping[bytes, bytes], answer: bytes) -> CallFailed | None:
    """Why this is not the end of a good answer: one whole message, uncompressed, and the status OK."""
    status = fields.get(b"grpc-status", b"")
    if status != b"0":
        detail = unquote(fields.get(b"grpc-message", b"")[:1024].decode("latin-1"))
        return CallFailed(_STATUSES.get(status, Status.UNKNOWN), detail)
    if len(answer) < 5 or answer[0] or int.from_bytes(answer[1:5], "big") != len(answer) - 5:
        return CallFailed(Status.INTERNAL, "an answer that is not one whole message")
    return None


class Channel:
    """Calls to a server at `host:port` or `unix:/path`; a connection is opened when one is needed.

    Calls of the method `taught` are the cheapest. With `tls`, as `tls_context` makes it, a port is asked over TLS.
    """

    def __init__(self, target: str, taught: Method, tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self._taught = taught
        self._connection: _Connection | None = None
        self._opening: asyncio.Task[_Connection] | None = None
        self._closed = False

    def call(
        self, method: Method, message: bytes, deadline: float, headers: tuple[Field, ...] = ()
    ) -> Coroutine[Any, Any, bytes]:
        """Call with a message, wait for the answer's until `deadline` in the loop's time. `headers` go with this call,
        besides the method's. Raises CallFailed."""
        connection = self._connection
        if connection is None or not connection.usable:
            return self._connect_and_call(method, message, deadline, headers)
        return connection.call(method, message, deadline, headers)

    async def _connect_and_call(
        self, method: Method, message: bytes, deadline: float, headers: tuple[Field, ...]
    ) -> bytes:
        connection = await self._connect(deadline)
        return await connection.call(method, message, deadline, headers)

    async def _connect(self, deadline: float) -> _Connection:
        if self._closed:
            raise CallFailed(Status.UNAVAILABLE, "the channel is closed")
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._opened)
        opening = self._opening
        # not awaited itself: one who leaves does not take the connection from the others
        await asyncio.wait([opening], timeout=max(deadline - asyncio.get_running_loop().time(), 0.0))
        if not opening.done():
            raise CallFailed(Status.DEADLINE_EXCEEDED, "no connection in time")
        if opening.cancelled():
            raise CallFailed(Status.UNAVAILABLE, "the channel is closed")
        error = opening.exception()
        if isinstance(error, CallFailed):
            raise CallFailed(error.status, error.detail)
        return opening.result()

    def _opened(self, opening: asyncio.Task[_Connection]) -> None:
        self._opening = None
        # everybody who waited may have left: then nobody else takes note of what it raised
        if not opening.cancelled() and opening.exception() is None:
            self._connection = opening.result()

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        connection = _Connection(loop, self._taught)
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                if self._target.startswith("unix:"):
                    await loop.create_unix_connection(lambda: connection, self._target.removeprefix("unix:"))
                else:
                    host, _, port = self._target.rpartition(":")
                    await loop.create_connection(lambda: connection, host.strip("[]"), int(port), ssl=self._tls)
                    self._require_h2(connection.transport)
                await connection.ready
        except TimeoutError:
            raise CallFailed(Status.UNAVAILABLE, f"no connection within {CONNECT_WITHIN:g} s") from None
        except (OSError, ValueError) as error:
            raise CallFailed(Status.UNAVAILABLE, f"{type(error).__name__}: {error}") from None
        finally:
            if not connection.usable:
                connection.close()
        return connection

    def _require_h2(self, transport: asyncio.Transport) -> None:
        if self._tls is None:
            return
        tls = transport.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != "h2":
            raise CallFailed(Status.UNAVAILABLE, "a server whose TLS does not agree on h2 (RFC 9113 section 3.3)")

    async def aclose(self) -> None:
        """Close; what is under way fails."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()
            # the transport tells its protocol in the loop's next turn
            await asyncio.sleep(0)
