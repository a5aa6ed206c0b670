"""One connection to a server: one exchange at a time on it, and one clock for all that wait."""

from __future__ import annotations

import asyncio
import math
import select
import ssl
from collections import deque
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

from sidecar.net.answer_headers import clean_headers
from sidecar.net.faults import reason_of
from sidecar.record.reasons import FaultKind, Reason
from sidecar.wire.grammar import Header
from sidecar.wire.http1_response import LAST_CHUNK, BadAnswer, Flaw, ResponseReader, encode_chunk

PIECE = 28 * 1024
"""Bytes of an answer that are read at once, and that wait here while their client takes what came before: with the
piece that the client's connection holds, and what that holds in any case, 64 KiB for a client that takes nothing."""
_BUFFER = memoryview(bytearray(PIECE))
"""Of all connections: what is read into it is copied before anything else is read."""

_REASONS = {flaw: reason for flaw in Flaw for reason in Reason if flaw.value == reason.value}

Permit = TypeVar("Permit")
"""The warrant of an exchange: the permit of a request, or None where nothing has to be."""


class Fault(Exception):
    """There is no answer, or not the whole of it. `detail` says more than the reason, for the log."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    @property
    def kind(self) -> FaultKind:
        """Return how the server failed to answer."""
        return self.reason.kind

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: for a connection, for the whole head of an answer, and between two pieces of its body."""

    connect: float = 2.0
    head: float = 30.0
    idle: float = 60.0


class RequestBody(Protocol):
    """A request's body. `length` in bytes, None where it is not known."""

    length: int | None

    @property
    def complete(self) -> bool:
        """True if no more has to be awaited, and all is in memory."""

    async def read(self) -> bytes:
        """The next bytes, b"" at the end. What it raises breaks the request off at the server."""


class Keeper(Protocol):
    """The owner of a connection. `residual` counts connections that were closed for bytes that belonged to no
    answer."""

    timeouts: Timeouts
    residual: int

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run an upload, held until it ends."""

    def give_back(self, connection: Connection[Any]) -> None:
        """Take the connection back: the exchange on it is over."""

    def forget(self, connection: Connection[Any]) -> None:
        """Give the connection's place to another: it is gone, or no longer ours."""


class Deadlines:
    """One timer for all of these connections, since a timer for each wait would cost more than the wait."""

    def __init__(self, connections: Iterable[Connection[Any]]) -> None:
        self._connections = connections
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf

    def wake_at(self, deadline: float) -> None:
        """See that connections whose deadline has passed by then hear of it."""
        if deadline < self._alarm_at:
            self.close()
            self._alarm_at = deadline
            self._alarm = asyncio.get_running_loop().call_at(deadline, self._ring)

    def _ring(self) -> None:
        # the timer may be early by a tick of its clock
        now = max(asyncio.get_running_loop().time(), self._alarm_at)
        self._alarm, self._alarm_at = None, math.inf
        for connection in list(self._connections):
            if connection.deadline <= now:
                connection.expire()
        later = min((each.deadline for each in self._connections if each.deadline > now), default=math.inf)
        if later < math.inf:
            self.wake_at(later)

    def close(self) -> None:
        """Stop the timer."""
        if self._alarm is not None:
            self._alarm.cancel()


class Connection(asyncio.BufferedProtocol, Generic[Permit]):
    """One connection to `host`, an address or a socket's path, and on it one exchange at a time. `permit` is what was
    shown for the one under way."""

    transport: asyncio.Transport

    def __init__(
        self, keeper: Keeper, deadlines: Deadlines, loop: asyncio.AbstractEventLoop, host: str = ""
    ) -> None:  # fmt: skip
        self.reader: ResponseReader | None = None
        self.answered = False  # whether any byte of the answer under way has come
        self.fault: Exception | None = None
        self.idle_since = 0.0
        self.sent = 0  # bytes of the body that the transport took, to see whether an upload moves
        self.request_sent = False  # whether all of the request was given to the transport
        self.pump: asyncio.Task[None] | None = None
        self.deadline = math.inf  # of what is waited for, in the loop's time
        self.body: deque[bytes] = deque()
        self.permit: Permit | None = None
        self.owners: tuple[str, ...] | None = None  # by whom it is used, once that was asked
        self.host = host
        self.retired = False  # whether its address is no longer the server's
        self._keeper = keeper
        self._deadlines = deadlines
        self.loop = loop
        self._poll = select.poll()
        self._made = False
        self._given_up = False
        self._ended_in_order = False
        self._lost_by: Exception | None = None
        self._reading_paused = False
        self._waiter: asyncio.Future[bool] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._write_paused = False

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._made = True
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        if self._given_up:
            self.give_up()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_BUFFER[:nbytes])
        if self._given_up:
            return
        reader = self.reader
        if reader is None:
            # nobody asked: bytes that belong to no answer are never given to anybody
            self._give_up_residual()
            return
        self.answered = True
        try:
            part = reader.feed(data)
        except BadAnswer as error:
            self.break_off(Fault(_REASONS[error.flaw], str(error)))
            return
        if part:
            self._queue(part)
        if reader.residual:
            self._give_up_residual()
        self._wake()

    def _give_up_residual(self) -> None:
        self._keeper.residual += 1
        self.give_up()

    def _queue(self, part: bytes) -> None:
        self.body.append(part)
        # nobody waits for it: whoever reads has not yet passed on what came before
        if self._waiter is None and not self._reading_paused:
            self._reading_paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended_in_order = _ended_in_order(self.transport)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._keeper.forget(self)
        self._lost_by = exc
        reader = self.reader
        if reader is not None and not reader.complete and self.fault is None:
            self._end_early(reader)
        self._write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._wake()

    def _end_early(self, reader: ResponseReader) -> None:
        """The connection ended before the answer was known to be whole: it may end with the connection, or be cut."""
        if reader.ends_with_connection and self._ended_in_order:
            reader.complete = True
            return
        if self.answered:
            self.fault = Fault(Reason.HTTP_RESPONSE_INCOMPLETE, "the connection was closed")
        else:
            self.fault = self._closed("after the request")

    def _closed(self, when: str) -> Fault:
        """The connection was closed before an answer; an alert of TLS may have said why."""
        if isinstance(self._lost_by, ssl.SSLError):
            return Fault(reason_of(self._lost_by), str(self._lost_by))
        return Fault(Reason.CONNECTION_TERMINATED, f"the connection was closed {when}")

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # --- what the exchange does ---

    @property
    def is_quiet(self) -> bool:
        """Return whether it is open and nothing waits in its socket: an end, or bytes that would seem the next
        answer."""
        return not self.transport.is_closing() and not self._poll.poll(0)

    @property
    def is_reusable(self) -> bool:
        """Return whether the exchange on it ended well and to the last byte, so that another may follow."""
        reader = self.reader
        return (
            reader is not None
            and reader.complete
            and reader.keep_alive
            and not reader.residual
            and self.request_sent
            and self.fault is None
            and not self.retired
            and not self.transport.is_closing()
            # a server that answers before it has read everything may not read the rest
            and not self.transport.get_write_buffer_size()
        )

    async def require_open(self, seconds: float) -> None:
        """Wait whether the server closes it, before anything was sent. Raises Fault."""
        if not self.transport.is_closing():
            await self.wait(self.loop.time() + seconds)
        if self.transport.is_closing():
            # the transport says why in the loop's next turn
            await asyncio.sleep(0)
            raise self._closed("before the request")

    async def ask(self, reader: ResponseReader, head: bytes, body: RequestBody | None) -> None:
        """Send a request and wait for the head of its answer, which `reader` reads. Raises Fault, or what `body.read`
        raises; then the connection is closed."""
        if self.transport.is_closing():
            # the transport says why in the loop's next turn
            await asyncio.sleep(0)
            raise self._closed("before the request")
        self.reader = reader
        self.answered = self.request_sent = False
        self.sent = 0
        try:
            if body is not None and not body.complete:
                self.transport.write(head)
                self.pump = self._keeper.spawn(self._upload(body))
            else:
                self.transport.write(head if body is None else b"".join([head, *await _framed(body)]))
                self.request_sent = True
            await self._await_head(reader)
        except BaseException:
            if self.pump is not None:
                self.pump.cancel()
            self.give_up()
            raise

    async def _await_head(self, reader: ResponseReader) -> None:
        """Wait for the head: one time covers the whole of it, and begins again only when the upload has moved."""
        loop = self.loop
        sent, deadline = -1, 0.0
        while not reader.head_done:
            if self.fault is not None:
                raise self.fault
            now = loop.time()
            if self.sent != sent:
                sent, deadline = self.sent, now + self._keeper.timeouts.head
            if now >= deadline:
                raise Fault(
                    Reason.HTTP_RESPONSE_TIMEOUT, f"no head of an answer within {self._keeper.timeouts.head:g} s"
                )
            await self.wait(deadline)

    def give_up(self) -> None:
        """Close at once, and with it whatever is under way on it."""
        self._given_up = True
        self._keeper.forget(self)
        if self._made:
            self.transport.abort()

    def break_off(self, fault: Exception) -> None:
        """Give the connection up, and with it the exchange, which ends with `fault`."""
        if self.fault is None:
            self.fault = fault
        self.give_up()
        self._wake()

    def _wake(self) -> None:
        self._settle(True)

    def _settle(self, happened: bool) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter, self.deadline = None, math.inf
            if not waiter.done():
                waiter.set_result(happened)

    def wait(self, deadline: float) -> asyncio.Future[bool]:
        """Done when something happens; False if nothing does until `deadline` in the loop's time."""
        self._waiter = waiter = self.loop.create_future()
        self.deadline = deadline
        self._deadlines.wake_at(deadline)
        return waiter

    def expire(self) -> None:
        """The deadline has passed."""
        self._settle(False)

    async def _upload(self, body: RequestBody) -> None:
        """Write the body as it comes. Whatever ends it early breaks the exchange off."""
        try:
            await self._write_body(body)
            self.request_sent = True
        except asyncio.CancelledError:
            self.break_off(Fault(Reason.HTTP_REQUEST_INCOMPLETE, "the upload was cancelled"))
            raise
        except Exception as error:  # noqa: BLE001 - it is raised again where the answer is awaited
            self.break_off(error)
        self._wake()

    async def _write_body(self, body: RequestBody) -> None:
        left = body.length
        if left is None:
            while data := await body.read():
                await self._write(encode_chunk(data))
            await self._write(LAST_CHUNK)
            return
        # the last byte that was announced is the end: the server may answer to it, and not wait for ours
        while left:
            data = await body.read()
            left -= len(data)
            if left < 0 or not data:
                # one byte too many would be read as the next request
                raise Fault(Reason.HTTP_REQUEST_INCOMPLETE, "a body of another length than announced")
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        if self.transport.is_closing():
            raise Fault(Reason.HTTP_REQUEST_INCOMPLETE, "the connection was closed during the upload")
        self.transport.write(data)
        self.sent += len(data)
        if self._write_paused:
            self._drained = self.loop.create_future()
            await self._drained

    def take(self) -> bytes:
        """All of the body that has come and was not taken."""
        if not self.body:
            return b""
        data = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        self.body.clear()
        if self._reading_paused and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()
        return data


async def _framed(body: RequestBody) -> list[bytes]:
    parts: list[bytes] = []
    while data := await body.read():
        parts.append(data if body.length is not None else encode_chunk(data))
    if body.length is None:
        parts.append(LAST_CHUNK)
    elif sum(map(len, parts)) != body.length:
        raise Fault(Reason.HTTP_REQUEST_INCOMPLETE, "a body of another length than announced")
    return parts


def _ended_in_order(transport: asyncio.Transport) -> bool:
    """Return whether the end is the server's own. Anybody on the way can cut a connection: with TLS, a body that ends
    with it is whole only if the server's closure alert came (RFC 9112 section 9.8)."""
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return True
    try:
        rest: bytes = tls.read(1)
    except ssl.SSLZeroReturnError:
        return True
    except (OSError, ValueError):
        return False
    return not rest


class Response:
    """An answer whose head has come: `status`, and `length` of the body or None.

    `request_done` is False when the server answered before it had taken the whole request.
    """

    __slots__ = ("_connection", "_keeper", "_reader", "length", "request_done", "status")

    def __init__(self, keeper: Keeper, connection: Connection[Any], reader: ResponseReader) -> None:
        self.status = reader.status
        self.length = reader.length
        self._keeper = keeper
        self._connection: Connection[Any] | None = connection
        self._reader = reader
        self.request_done = connection.request_sent

    @property
    def headers(self) -> list[Header]:
        """Its headers for the client; a new list each time."""
        return clean_headers(self._reader.raw_headers)

    @property
    def complete(self) -> bool:
        """Return whether all of the answer has come, so that `read` will not wait."""
        return self._reader.complete

    async def read(self) -> bytes:
        """The next bytes of the body, b"" at its end; without waiting where they have come. Raises Fault: PARTIAL,
        TIMEOUT or PROTOCOL; or what the request's `body.read` raised."""
        connection = self._connection
        if connection is None:
            return b""
        while True:
            data = connection.take()
            if data:
                return data
            if self._reader.complete:
                # whatever became of the connection after that: the answer is whole
                self.close()
                return b""
            if connection.fault is not None:
                raise connection.fault
            sent = connection.sent
            deadline = asyncio.get_running_loop().time() + self._keeper.timeouts.idle
            if not await connection.wait(deadline) and connection.sent == sent:
                seconds = self._keeper.timeouts.idle
                connection.break_off(Fault(Reason.CONNECTION_READ_TIMEOUT, f"no bytes of the body for {seconds:g} s"))

    def whole(self) -> bytes:
        """Take the part of the body that has come and was not read: all of it where the answer is `complete`."""
        return self._connection.take() if self._connection is not None else b""

    def close(self) -> None:
        """Be done with it: the connection is kept if the exchange ended well, and closed if not. Again is nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._keeper.give_back(connection)
