"""Kept-alive connections to one server: the protected app, which takes nothing without a permit, or a lookup hook."""

from __future__ import annotations

import asyncio
import math
import re
import select
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, cast

from sidecar.gate.answer_headers import clean_headers
from sidecar.gate.verdict import Forward
from sidecar.net.breaker import Breaker
from sidecar.wire.http1_response import (
    CHUNKED,
    LAST_CHUNK,
    BadAnswer,
    Header,
    ResponseReader,
    encode_chunk,
    encode_request,
)

PIECE = 28 * 1024
"""Bytes of an answer that are read at once, and that wait here while their client takes what came before: with the
piece that the client's connection holds, and what that holds in any case, 64 KiB for a client that takes nothing."""
_BUFFER = memoryview(bytearray(PIECE))
"""Of all connections: what is read into it is copied before anything else is read."""
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"))
"""Methods that may be sent again (RFC 9110 section 9.2.2)."""


class FaultKind(StrEnum):
    """How a server failed to answer."""

    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    PARTIAL = "partial"
    OPEN = "open"
    BUSY = "busy"


class Fault(Exception):
    """There is no answer, or not the whole of it. `detail` is for the log."""

    def __init__(self, kind: FaultKind, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a server is: `host` and `port`, or the `path` of a unix socket."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, url: str) -> Origin:
        """Parse `http(s)://host[:port]` or `unix:/path`. Raises ValueError."""
        if url.startswith("unix:/"):
            return cls("unix", path=url.removeprefix("unix:"))
        match = re.fullmatch(r"(https?)://(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?", url)
        port = int(match[4] or (443 if match[1] == "https" else 80)) if match else 0
        if match is None or not 0 < port < 65536:
            raise ValueError(f"found {url!r}, expected http(s)://host:port or unix:/path")
        return cls(match[1], match[2] or match[3], port)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: for a connection, for the whole head of an answer, and between two pieces of its body."""

    connect: float = 2.0
    head: float = 30.0
    idle: float = 60.0


class Body(Protocol):
    """A request's body. `length` in bytes, None where it is not known; `complete` when no more has to be awaited."""

    length: int | None
    complete: bool

    async def read(self) -> bytes:
        """The next bytes, b"" at the end. What it raises breaks the request off at the server."""


class Upgraded(NamedTuple):
    """The answer to a handshake; only with status 101 is the transport a tunnel, and `tail` its first bytes."""

    status: int
    headers: list[Header]
    transport: asyncio.Transport
    tail: bytes


class _Connection(asyncio.BufferedProtocol):
    """One connection, and on it one exchange at a time."""

    transport: asyncio.Transport

    def __init__(self, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self.reader: ResponseReader | None = None
        self.answered = False  # whether any byte of the answer under way has come
        self.fault: Exception | None = None
        self.idle_since = 0.0
        self.sent = 0  # bytes of the body that the transport took, to see whether an upload moves
        self.request_sent = False  # whether all of the request was given to the transport
        self.pump: asyncio.Task[None] | None = None
        self.deadline = math.inf  # of what is waited for, in the loop's time
        self.body: deque[bytes] = deque()
        self.permit: Forward | None = None  # of the exchange under way, where it is the protected app's
        self.owners: tuple[str, ...] | None = None  # by whom it is used, once that was asked
        self._pool = pool
        self.loop = loop
        self._poll = select.poll()
        self._made = False
        self._given_up = False
        self._ended_in_order = False
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
            self.break_off(Fault(FaultKind.PROTOCOL, str(error)))
            return
        if part:
            self._queue(part)
        if reader.residual:
            self._give_up_residual()
        self._wake()

    def _give_up_residual(self) -> None:
        self._pool.residual += 1
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
        self._pool.forget(self)
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
        kind = FaultKind.PARTIAL if self.answered else FaultKind.UNAVAILABLE
        self.fault = Fault(kind, "the connection was closed")

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

    def begin(self, reader: ResponseReader) -> None:
        """Expect the answer that `reader` reads. Raises Fault if the connection has ended already."""
        if self.transport.is_closing():
            raise Fault(FaultKind.UNAVAILABLE, "the connection was closed before the request")
        self.reader = reader
        self.answered = self.request_sent = False
        self.sent = 0

    def give_up(self) -> None:
        """Close at once, and with it whatever is under way on it."""
        self._given_up = True
        self._pool.forget(self)
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
        self._pool.wake_at(deadline)
        return waiter

    def expire(self) -> None:
        """The deadline has passed."""
        self._settle(False)

    async def upload(self, body: Body) -> None:
        """Write the body as it comes. Whatever ends it early breaks the exchange off."""
        try:
            await self._upload(body)
            self.request_sent = True
        except asyncio.CancelledError:
            self.break_off(Fault(FaultKind.PARTIAL, "the upload was cancelled"))
            raise
        except Exception as error:  # noqa: BLE001 - it is raised again where the answer is awaited
            self.break_off(error)
        self._wake()

    async def _upload(self, body: Body) -> None:
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
                raise Fault(FaultKind.PARTIAL, "a body of another length than announced")
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        if self.transport.is_closing():
            raise Fault(FaultKind.PARTIAL, "the connection was closed during the upload")
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

    __slots__ = ("_connection", "_pool", "_reader", "length", "request_done", "status")

    def __init__(self, pool: Pool, connection: _Connection, reader: ResponseReader) -> None:
        self.status = reader.status
        self.length = reader.length
        self._pool = pool
        self._connection: _Connection | None = connection
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
            deadline = asyncio.get_running_loop().time() + self._pool.timeouts.idle
            if not await connection.wait(deadline) and connection.sent == sent:
                connection.break_off(Fault(FaultKind.TIMEOUT, "no bytes of the body"))

    def whole(self) -> bytes:
        """Take the part of the body that has come and was not read: all of it where the answer is `complete`."""
        return self._connection.take() if self._connection is not None else b""

    def close(self) -> None:
        """Be done with it: the connection is kept if the exchange ended well, and closed if not. Again is nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.give_back(connection)


class Answer(NamedTuple):
    """A whole answer to `Pool.get`: status, all of its headers with names in lower case, and body."""

    status: int
    headers: list[Header]
    body: bytes


class Pool:
    """Connections to one origin. Counters for metrics: `open` connections (and those being opened), `idle` ones among
    them, requests on `reused` connections and `retried` ones, and `residual`: connections that were closed for bytes
    that belonged to no answer.

    `owners` tells in whose name a permit is used: none of them gets more connections than are free.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        timeouts: Timeouts | None = None,
        max_connections: int = 512,
        max_idle: int = 128,
        idle_lifetime: float = 55.0,
        tls: ssl.SSLContext | None = None,
        breaker: Breaker | None = None,
        owners: Callable[[Forward], tuple[str, ...]] = lambda _: (),
    ) -> None:
        self.origin = origin
        self.timeouts = timeouts or Timeouts()
        self.open = self.reused = self.residual = self.retried = 0
        self._max_connections = max_connections
        self._max_idle = max_idle
        self._idle_lifetime = idle_lifetime
        self._tls = tls or (ssl.create_default_context() if origin.scheme == "https" else None)
        self._breaker = breaker
        self._owners = owners
        self._connections: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self._closed = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf

    @property
    def is_open(self) -> bool:
        """Return whether the breaker turns requests away."""
        return self._breaker is not None and self._breaker.is_open

    @property
    def idle(self) -> int:
        """Kept connections that nobody uses."""
        return len(self._idle)

    # --- the protected app ---

    async def send(self, permit: Forward, body: Body | None) -> Response:
        """Send what the permit says, and wait for the head of the answer. Raises Fault, or what `body.read` raises."""
        # below that nobody can have more than is free
        if self.open - len(self._idle) >= self._max_connections // 2:
            self._refuse_greedy(permit)
        length = None if body is None else CHUNKED if body.length is None else body.length
        head = encode_request(permit.method, permit.target, permit.headers, length)
        connection, reader = await self._exchange(head, permit.method, body, permit)
        return Response(self, connection, reader)

    def _refuse_greedy(self, permit: Forward) -> None:
        """Raise Fault for one who has as many connections as are free: so many leave each of the others their share
        (A. K. Choudhury and E. L. Hahne, "Dynamic queue length thresholds", 1998)."""
        owners = self._owners(permit)
        used = [self._owners_of(connection) for connection in self._connections if connection.permit is not None]
        free = self._max_connections - len(used)
        if any(sum(owner in each for each in used) >= free for owner in owners):
            raise Fault(FaultKind.BUSY, f"{len(used)} connections are in use, {free} or more of them by this client")

    def _owners_of(self, connection: _Connection) -> tuple[str, ...]:
        if connection.owners is None and connection.permit is not None:
            connection.owners = self._owners(connection.permit)
        return connection.owners or ()

    async def upgrade(self, permit: Forward, headers: Iterable[Header]) -> Upgraded:
        """Send the permit's request with the headers of a handshake, on a connection of its own. Raises Fault."""
        if self.open - len(self._idle) >= self._max_connections // 2:
            self._refuse_greedy(permit)
        head = encode_request(permit.method, permit.target, headers, None)
        connection = await self._connect(permit)
        reader = ResponseReader(False, upgrade=True)
        await self._ask(connection, reader, head, None)
        if not connection.transport.is_closing():
            connection.transport.pause_reading()
        self.forget(connection)
        return Upgraded(reader.status, reader.raw_headers, connection.transport, reader.tail)

    # --- a lookup hook, or a PDP ---

    async def get(self, target: bytes, headers: Iterable[Header], *, max_body: int, deadline: float) -> Answer:
        """GET `target`, the whole exchange within `deadline` seconds, redirects not followed. Raises Fault."""
        head = encode_request(b"GET", target, [(b"host", self._authority()), *headers], None)
        return await self._within(deadline, head, b"GET", max_body)

    async def post(
        self, target: bytes, headers: Iterable[Header], body: bytes, *, max_body: int, deadline: float
    ) -> Answer:
        """POST `body` as `get` gets; never sent a second time. Raises Fault."""
        head = encode_request(b"POST", target, [(b"host", self._authority()), *headers], len(body))
        return await self._within(deadline, head + body, b"POST", max_body)

    async def _within(self, deadline: float, message: bytes, method: bytes, max_body: int) -> Answer:
        try:
            async with asyncio.timeout(deadline):
                connection, reader = await self._exchange(message, method, None)
                return await self._whole(connection, reader, max_body)
        except TimeoutError:
            raise Fault(FaultKind.TIMEOUT, f"no whole answer within {deadline:g} s") from None

    async def _whole(self, connection: _Connection, reader: ResponseReader, max_body: int) -> Answer:
        response = Response(self, connection, reader)
        parts: list[bytes] = []
        size = 0
        try:
            if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in reader.raw_headers):
                raise Fault(FaultKind.PROTOCOL, "an encoded body, expected identity")
            while data := await response.read():
                parts.append(data)
                size += len(data)
                if size > max_body:
                    raise Fault(FaultKind.PROTOCOL, f"a body over {max_body} bytes")
        finally:
            response.close()
        return Answer(reader.status, reader.raw_headers, b"".join(parts))

    def _authority(self) -> bytes:
        origin = self.origin
        if origin.scheme == "unix":
            return b"localhost"
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        default = 443 if origin.scheme == "https" else 80
        return (host if origin.port == default else f"{host}:{origin.port}").encode("ascii")

    # --- exchanges ---

    async def _exchange(
        self, head: bytes, method: bytes, body: Body | None, permit: Forward | None = None
    ) -> tuple[_Connection, ResponseReader]:
        """Send and wait for the head; again on a new connection where a kept one was dead and nothing is lost by it."""
        connection = self._kept()
        if connection is not None:
            self.reused += 1
            connection.permit = permit
            reader = ResponseReader(method == b"HEAD")
            try:
                await self._ask(connection, reader, head, body)
            except Fault as fault:
                dead = fault.kind is FaultKind.UNAVAILABLE and not connection.answered
                if not (dead and method in IDEMPOTENT and body is None):
                    raise
                self.retried += 1
            else:
                return connection, reader
        connection = await self._connect(permit)
        reader = ResponseReader(method == b"HEAD")
        await self._ask(connection, reader, head, body)
        return connection, reader

    async def _ask(self, connection: _Connection, reader: ResponseReader, head: bytes, body: Body | None) -> None:
        connection.begin(reader)
        try:
            if body is not None and not body.complete:
                connection.transport.write(head)
                connection.pump = self._spawn(connection.upload(body))
            else:
                connection.transport.write(head if body is None else b"".join([head, *await _framed(body)]))
                connection.request_sent = True
            await self._await_head(connection, reader)
        except BaseException:
            if connection.pump is not None:
                connection.pump.cancel()
            connection.give_up()
            raise

    async def _await_head(self, connection: _Connection, reader: ResponseReader) -> None:
        """Wait for the head: one time covers the whole of it, and begins again only when the upload has moved."""
        loop = connection.loop
        sent, deadline = -1, 0.0
        while not reader.head_done:
            if connection.fault is not None:
                raise connection.fault
            now = loop.time()
            if connection.sent != sent:
                sent, deadline = connection.sent, now + self.timeouts.head
            if now >= deadline:
                raise Fault(FaultKind.TIMEOUT, "no head of an answer")
            await connection.wait(deadline)

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)
        return task

    # --- connections ---

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_quiet:
                return connection
            connection.give_up()
        return None

    async def _connect(self, permit: Forward | None) -> _Connection:
        self._make_room()
        breaker = self._breaker
        if breaker is not None and not breaker.allows():
            raise Fault(FaultKind.OPEN, "it has failed several times in a row")
        try:
            connection = await self._open(permit)
        except Fault:
            if breaker is not None:
                breaker.failed()
            raise
        if breaker is not None:
            breaker.succeeded()
        return connection

    def _make_room(self) -> None:
        """See that one more connection may be opened; an unused one gives way. Raises Fault."""
        if self._closed:
            raise Fault(FaultKind.UNAVAILABLE, "the pool is closed")
        if len(self._connections) < self._max_connections:
            return
        if not self._idle:
            raise Fault(FaultKind.BUSY, f"{self._max_connections} connections are in use")
        self._idle.pop(0).give_up()

    async def _open(self, permit: Forward | None) -> _Connection:
        loop, origin = asyncio.get_running_loop(), self.origin
        connection = _Connection(self, loop)
        # a place is used from now on: many may be opened at once
        connection.permit = permit
        self._connections.add(connection)
        self.open = len(self._connections)
        try:
            async with asyncio.timeout(self.timeouts.connect):
                if origin.scheme == "unix":
                    await loop.create_unix_connection(lambda: connection, origin.path)
                else:
                    await loop.create_connection(lambda: connection, origin.host, origin.port, ssl=self._tls)
        except TimeoutError:
            connection.give_up()
            raise Fault(FaultKind.TIMEOUT, f"no connection within {self.timeouts.connect:g} s") from None
        except (OSError, ValueError) as error:
            connection.give_up()
            raise Fault(FaultKind.UNAVAILABLE, f"{type(error).__name__}: {error}") from None
        except BaseException:
            # the loop may have made the connection, and does not always say then that it lost it
            connection.give_up()
            raise
        return connection

    def give_back(self, connection: _Connection) -> None:
        """The exchange on it is over: keep it if it ended well and to the last byte, close it if not."""
        if connection.pump is not None and not connection.request_sent:
            connection.pump.cancel()
        if not _is_reusable(connection) or len(self._idle) >= self._max_idle or self._closed:
            connection.give_up()
            return
        # what nobody read of a whole answer
        connection.take()
        connection.reader = connection.pump = connection.permit = connection.owners = None
        loop = connection.loop
        connection.idle_since = loop.time()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._idle_lifetime, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = None
        oldest = loop.time() - self._idle_lifetime
        # used last in, first out, so the one that waits longest stands first
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.pop(0).give_up()
        if self._idle:
            self._sweeper = loop.call_later(max(self._idle[0].idle_since - oldest, 0.1), self._sweep, loop)

    def wake_at(self, deadline: float) -> None:
        """See that connections whose deadline has passed by then hear of it: one timer for all, since a timer for each
        wait would cost more than the wait."""
        if deadline < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
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

    def forget(self, connection: _Connection) -> None:
        """The connection is gone, or no longer ours."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self.open = len(self._connections)

    async def aclose(self) -> None:
        """Close every connection, and open none any more."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._alarm is not None:
            self._alarm.cancel()
        pumps = list(self._pumps)
        for task in pumps:
            task.cancel()
        for connection in list(self._connections):
            connection.give_up()
        await asyncio.gather(*pumps, return_exceptions=True)
        # the transports tell their protocols in the loop's next turn
        await asyncio.sleep(0)


def _is_reusable(connection: _Connection) -> bool:
    reader = connection.reader
    return (
        reader is not None
        and reader.complete
        and reader.keep_alive
        and not reader.residual
        and connection.request_sent
        and connection.fault is None
        and not connection.transport.is_closing()
        # a server that answers before it has read everything may not read the rest
        and not connection.transport.get_write_buffer_size()
    )


async def _framed(body: Body) -> list[bytes]:
    parts: list[bytes] = []
    while data := await body.read():
        parts.append(data if body.length is not None else encode_chunk(data))
    if body.length is None:
        parts.append(LAST_CHUNK)
    elif sum(map(len, parts)) != body.length:
        raise Fault(FaultKind.PARTIAL, "a body of another length than announced")
    return parts
