"""Calls of gRPC on one HTTP/2 connection of a client: one message out and one in.

Many calls share the connection, and one timer serves all deadlines.
"""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from sidecar.net.grpc_outbox import Outbox
from sidecar.wire import grpc, hpack, http2
from sidecar.wire.grpc import CallFailed, ResponseBlock, Status
from sidecar.wire.hpack import Field
from sidecar.wire.http2 import DATA, END_HEADERS, END_STREAM, FRAME_HEAD, HEADERS, ProtocolError
from sidecar.wire.http2_connection import Http2Connection, opening
from sidecar.wire.http2_windows import SendWindows

MAX_MESSAGE = 1024 * 1024
"""Bytes of an answer."""
MAX_BLOCK = 64 * 1024
"""Bytes of a block of headers."""

# no table of the server's, so that its blocks stand for themselves; no pushes
_HELLO = http2.PREFACE + opening(
    (http2.HEADER_TABLE_SIZE, 0), (http2.ENABLE_PUSH, 0), (http2.INITIAL_WINDOW_SIZE, MAX_MESSAGE + 64)
)  # fmt: skip
PONG_AFTER = 0.1
"""Seconds after which pings are answered. A server of grpc-go pings at each question while no ping of its own is
unanswered, to learn how far away we are: a read and a write for each, which are a tenth of what a question takes."""
MOST_PINGS = 8
"""Pings that wait for their answers; with one more all are answered."""
_MOST_CALLS = 100
"""Calls at once, until the server says how many."""


class GrpcMethod:
    """A method with the headers of its calls; `timeout` in seconds is for every call. `path` is `/service/Method`.

    `authorization` is the value of that header, where the server wants one; `secure` says that the calls go by TLS.
    """

    def __init__(
        self, path: str, authority: str, timeout: float, authorization: str = "", *, secure: bool = False
    ) -> None:  # fmt: skip
        self.path = path
        self.timeout = timeout
        self.fields = grpc.call_fields(path, authority, timeout, authorization, secure=secure)


class UnaryCall(ABC):
    """One call: what it asks, and what becomes of its answer. `deadline` is in the loop's time; `headers` go with this
    call, besides the method's. Each call ends once, by `succeed` or by `fail`, or never where it was given up."""

    __slots__ = (
        "answer", "begun", "connection", "deadline", "headers", "method", "more", "number", "over", "since",
        "unsent",
    )  # fmt: skip

    def __init__(self, method: GrpcMethod, deadline: float, headers: Sequence[Field]) -> None:
        self.method = method
        self.deadline = deadline
        self.headers = headers
        self.over = False  # nobody waits for it
        self.connection: ClientConnection | None = None
        self.number = 0
        self.since = 0.0
        self.more = 0
        self.unsent = b""
        self.begun = False  # its answer's headers have come
        self.answer = b""

    @abstractmethod
    def message(self) -> bytes:
        """The question; asked for when the call goes out."""

    @abstractmethod
    def succeed(self, message: bytes) -> None:
        """End with the answer's message."""

    @abstractmethod
    def fail(self, error: CallFailed) -> None:
        """End without an answer."""

    def goes_on(self, now: float) -> bool:
        """Return whether somebody waits beyond the deadline, which has come; then there is a later one."""
        return False

    def give_up(self) -> None:
        """Tell the server that nobody waits for the answer any more, if the call is under way."""
        if self.connection is not None:
            self.connection.give_up(self.number)


class AwaitedCall(UnaryCall):
    """A call whose one asker waits for its answer."""

    __slots__ = ("_future", "_message")

    def __init__(self, method: GrpcMethod, message: bytes, deadline: float, headers: Sequence[Field]) -> None:
        super().__init__(method, deadline, headers)
        self._message = message
        self._future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def message(self) -> bytes:
        return self._message

    def succeed(self, message: bytes) -> None:
        if not self._future.done():
            self._future.set_result(message)

    def fail(self, error: CallFailed) -> None:
        if not self._future.done():
            # one of its own for each: whoever raises it adds to its traceback
            self._future.set_exception(CallFailed(error.status, error.detail))

    async def result(self) -> bytes:
        """The answer's message. Raises CallFailed."""
        try:
            return await self._future
        except asyncio.CancelledError:
            self.give_up()
            raise


C = TypeVar("C", bound=UnaryCall)


class ClientConnection(asyncio.Protocol):
    """One connection, of which the server's table holds the headers of the method `indexed`. `usable` says whether a
    call may begin on it."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, indexed: GrpcMethod) -> None:
        self.ready: asyncio.Future[None] = loop.create_future()
        self.usable = False
        self._given_up = False
        self._loop = loop
        self._indexed = indexed
        self._blocks = hpack.with_indexing(indexed.fields)
        self._block = self._blocks[0]
        self._calls: dict[int, UnaryCall] = {}
        self._next = 1
        self._outbox = Outbox(loop)
        self._write = self._outbox.write
        self._windows = SendWindows(self._calls, self._write, last=END_STREAM)
        self._http2 = Http2Connection(
            self, self._write, self._windows, max_block=MAX_BLOCK, write_pong=self._pong_later
        )
        self._pongs: list[bytes] = []
        self._pong_timer: asyncio.TimerHandle | None = None
        self._heard = 0.0  # when something came from the server
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._most = _MOST_CALLS
        self._room: deque[asyncio.Future[None]] = deque()  # calls that wait for one to end
        self._promised = 0  # room for those of them who know, and have not begun

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self._outbox.transport = cast(asyncio.Transport, transport)
        if self._given_up:
            self.transport.abort()
        else:
            self.transport.write(_HELLO)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            self._http2.feed(data)
        except ProtocolError as error:
            self._break(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(CallFailed(Status.UNAVAILABLE, "the connection was closed"))

    def _break(self, error: ProtocolError) -> None:
        """Be done with a server that does not speak the protocol."""
        spoke = self.ready.done()
        self._write(http2.goaway(0, error.code))
        self._outbox.flush()
        self._end(CallFailed(Status.INTERNAL if spoke else Status.UNAVAILABLE, f"not HTTP/2: {error}"))

    def _end(self, error: CallFailed) -> None:
        self.usable = False
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            call.fail(error)
        if not self.ready.done():
            self.ready.set_exception(error)
        self._let_in()
        self.close()

    def close(self) -> None:
        """Close at once, or as soon as it is open; what is under way fails."""
        self.usable = False
        self._given_up = True
        # nobody waits any more for what has not begun
        self.ready.cancel()
        for timer in (self._timer, self._pong_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._pong_timer = None
        if hasattr(self, "transport") and not self.transport.is_closing():
            self.transport.abort()

    # --- calls ---

    def start_together(self, calls: Sequence[C]) -> Sequence[C]:
        """Start calls now, in one piece of output; return those for which there is no room."""
        started = 0
        self._outbox.hold()
        try:
            while started < len(calls) and self.usable and self._has_room():
                self._start(calls[started])
                started += 1
        finally:
            self._outbox.flush()
        return calls[started:]

    async def start_later(self, call: UnaryCall) -> None:
        """Start a call when there is room for it, until its deadline, unless it is over by then. Raises CallFailed."""
        if self._has_room():
            self._start_or_leave(call)
            return
        await self._wait_for_room(call.deadline)
        self._promised -= 1
        self._start_or_leave(call)

    def _start_or_leave(self, call: UnaryCall) -> None:
        if self.usable and not call.over:
            self._start(call)
            return
        # its room is the next one's
        self._let_in()
        if not call.over:
            raise CallFailed(Status.UNAVAILABLE, "the connection was closed")

    def _start(self, call: UnaryCall) -> None:
        number = self._next
        self._next = number + 2
        if self._next > http2.MAX_STREAM:
            self.usable = False
        self._calls[number] = call
        call.connection, call.number, call.since = self, number, self._loop.time()
        call.begun, call.answer, call.more = False, b"", 0
        if call.deadline < self._timer_at:
            self._arm(call.deadline)
        self._begin(number, call)

    def _begin(self, number: int, call: UnaryCall) -> None:
        if call.method is self._indexed:
            block, self._block = self._block, self._blocks[1]
        else:
            block = hpack.without_indexing(call.method.fields)
        if call.headers:
            block += hpack.without_indexing(call.headers)
        data = grpc.prefixed(call.message())
        size = len(data)
        if self._windows.take(size, call):
            length = len(block)
            self._write(
                b"".join(
                    (
                        FRAME_HEAD.pack(length >> 8, length & 0xFF, HEADERS, END_HEADERS, number), block,
                        FRAME_HEAD.pack(size >> 8, size & 0xFF, DATA, END_STREAM, number), data,
                    )
                )
            )  # fmt: skip
            return
        self._write(http2.frame(HEADERS, END_HEADERS, number, block))
        self._windows.wait(number, call, data)

    def _has_room(self) -> bool:
        return len(self._calls) + self._promised < self._most

    async def _wait_for_room(self, deadline: float) -> None:
        """Wait for a promise of room, in the order in which the calls came."""
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
            self._promised -= 1
            self._let_in()

    def _let_in(self) -> None:
        """Promise the room that there is to those who wait; all of them are told of the connection's end."""
        while self._room and (self._has_room() or not self.usable):
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)
                self._promised += 1

    def _remove(self, number: int) -> None:
        call = self._calls.pop(number)
        if call.unsent:
            self._windows.forget(number, call)
        if self._room:
            self._let_in()
        if not self._calls and not self.usable:
            self.close()

    def give_up(self, number: int) -> None:
        """Tell the server that nobody waits for this answer any more."""
        if number in self._calls:
            self._remove(number)
            if not self.transport.is_closing():
                self._write(http2.rst_stream(number, http2.CANCEL))

    def _refuse(self, number: int, error: CallFailed) -> None:
        """End a call whose answer cannot be one."""
        self._calls[number].fail(error)
        self.give_up(number)

    # --- pings ---

    def _pong_later(self, frame: bytes) -> None:
        self._pongs.append(frame)
        if len(self._pongs) > MOST_PINGS:
            self._send_pongs()
        elif self._pong_timer is None:
            self._pong_timer = self._loop.call_later(PONG_AFTER, self._send_pongs)

    def _send_pongs(self) -> None:
        if self._pong_timer is not None:
            self._pong_timer.cancel()
            self._pong_timer = None
        pongs, self._pongs = self._pongs, []
        self._write(b"".join(pongs))

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
        for number, call in late:
            if not call.goes_on(now):
                self._refuse(number, CallFailed(Status.DEADLINE_EXCEEDED, "no answer in time"))
        if self._calls:
            self._arm(min(call.deadline for call in self._calls.values()))

    # --- what the server's frames say ---

    def _require_ended(self, stream: int) -> None:
        """Raise ProtocolError for a stream that never was."""
        if stream >= self._next or not stream & 1:
            raise ProtocolError(f"a frame of stream {stream}")

    def on_data(self, stream: int, data: bytes, ended: bool) -> None:
        """See Events."""
        call = self._calls.get(stream)
        if call is None:
            self._require_ended(stream)
            return
        if not call.begun:
            raise ProtocolError("a body before its head")
        call.answer = call.answer + data if call.answer else data
        if len(call.answer) > MAX_MESSAGE + grpc.PREFIX:
            self._refuse(stream, CallFailed(Status.RESOURCE_EXHAUSTED, f"an answer over {MAX_MESSAGE} bytes"))
        elif ended:
            self._refuse(stream, CallFailed(Status.INTERNAL, "an answer without a status"))

    def on_headers(self, stream: int, block: bytes, ended: bool) -> None:
        """See Events."""
        said = grpc.response_block(block)
        call = self._calls.get(stream)
        if call is None:
            self._require_ended(stream)
        elif ended:
            self._finish(stream, call, said)
        elif call.begun:
            raise ProtocolError("headers in the middle of a body")
        elif not said.interim:
            call.begun = True
            if said.not_headers is not None:
                self._refuse(stream, said.not_headers)

    def _finish(self, stream: int, call: UnaryCall, said: ResponseBlock) -> None:
        """The answer has ended with a block: its trailers, or its only headers."""
        failed = said.not_trailers if call.begun else said.not_headers or said.not_trailers
        message = grpc.message_of(call.answer)
        if failed is not None:
            call.fail(failed)
        elif message is None:
            call.fail(CallFailed(Status.INTERNAL, "an answer that is not one whole message"))
        else:
            call.succeed(message)
        if call.unsent:
            # it did not wait for all of the question, and need not
            self.give_up(stream)
        else:
            self._remove(stream)

    def on_settings(self, settings: Mapping[int, int]) -> None:
        """See Events."""
        first = not self.ready.done()
        if settings.get(http2.HEADER_TABLE_SIZE, hpack.DEFAULT_TABLE) < hpack.DEFAULT_TABLE:
            self._without_table(first)
        if first:
            self._most = http2.MAX_STREAM
            self.usable = True
            self.ready.set_result(None)
        self._most = settings.get(http2.MAX_CONCURRENT_STREAMS, self._most)
        self._let_in()

    def _without_table(self, first: bool) -> None:
        """The server allows less of a table than what we fill it with by default: go on without, from the beginning."""
        if not first:
            self.usable = False
            return
        block = hpack.without_indexing(self._indexed.fields)
        self._block, self._blocks = hpack.NO_TABLE + block, (block, block)

    def on_window(self, stream: int, more: int) -> None:
        """See Events."""
        call = self._calls.get(stream)
        if call is None:
            self._require_ended(stream)
        else:
            self._windows.widen_stream(stream, call, more)

    def on_reset(self, stream: int, code: int) -> None:
        """See Events."""
        call = self._calls.get(stream)
        if call is None:
            self._require_ended(stream)
        else:
            call.fail(grpc.failure_of_reset(code))
            self._remove(stream)

    def on_goaway(self, last: int) -> None:
        """No more calls here; those that the server has not taken may be made again (RFC 9113 section 6.8)."""
        self.usable = False
        for number in [each for each in self._calls if each > last]:
            self._calls[number].fail(CallFailed(Status.UNAVAILABLE, "the server goes away"))
            self._remove(number)
        self._let_in()
        if not self._calls:
            self.close()

    def on_pong(self, payload: bytes) -> None:
        """Nothing: none is sent."""
