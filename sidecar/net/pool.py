"""Keep-alive connections to one server: bounded in number, and closed when idle for too long."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Generic, final

from sidecar.net.addresses import Addresses, Endpoint, Resolve, resolve_by_system
from sidecar.net.breaker import Breaker
from sidecar.net.connection import Connection, Deadlines, Fault, Permit, RequestBody, Timeouts
from sidecar.net.dialer import Dialer
from sidecar.record.reasons import FaultKind, Reason
from sidecar.wire.grammar import HOST, PORT
from sidecar.wire.http1_response import ResponseReader

IDEMPOTENT = frozenset((b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE"))
"""Methods that may be sent again (RFC 9110 section 9.2.2)."""

OBJECTS_WITHIN = 0.1
"""Seconds in which a server that is only reached may close: in TLS 1.3 it asks for a certificate in the handshake, and
says after it that it got none; a forwarded port closes where nobody listens behind it."""


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
        match = re.fullmatch(rf"(https?)://({HOST})(?::({PORT}))?", url)
        port = int(match[3] or (443 if match[1] == "https" else 80)) if match else 0
        if match is None or port == 0:
            raise ValueError(f"found {url!r}, expected http(s)://host:port or unix:/path")
        return cls(match[1], match[2].strip("[]"), port)

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.scheme}://{self.authority.decode('ascii')}"

    @property
    def authority(self) -> bytes:
        """Its name in a Host header."""
        if self.scheme == "unix":
            return b"localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return (host if self.port == default else f"{host}:{self.port}").encode("ascii")


@final
class Pool(Generic[Permit]):
    """Connections to one origin. Counters for metrics: `open` connections (and those being opened), `idle` ones among
    them, requests on `reused` connections and `retried` ones, and `residual`: connections that were closed for bytes
    that belonged to no answer.

    A name is resolved by `resolve`, and each address has a breaker that `breaker` makes. `server_name` is asked for and
    checked in TLS, in place of the origin's host.

    A pool of `Forward` sends nothing for which no permit is shown; one of None asks for nothing to be shown.
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
        server_name: str = "",
        breaker: Callable[[], Breaker] | None = None,
        resolve: Resolve = resolve_by_system,
    ) -> None:
        self.origin = origin
        self.timeouts = timeouts or Timeouts()
        self.open = self.reused = self.residual = self.retried = 0
        self.max_connections = max_connections
        self.crowded = max_connections // 2
        """Connections in use below which nobody can have more than are free."""
        self._max_idle = max_idle
        self._idle_lifetime = idle_lifetime
        self.connections: set[Connection[Permit]] = set()
        self.kept: list[Connection[Permit]] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self._closed = False
        self._drained: asyncio.Event | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._deadlines = Deadlines(self.connections)
        is_path = origin.scheme == "unix"
        self._addresses = Addresses(
            origin.path or origin.host, origin.port, is_path=is_path, resolve=resolve, breaker=breaker,
            connections=self.connections, changed=self._retire,
        )  # fmt: skip
        self._dialer = Dialer(
            self._addresses, None if is_path else origin.port,
            tls or (ssl.create_default_context() if origin.scheme == "https" else None),
            server_name or origin.host, self.timeouts.connect, self._has_room,
        )  # fmt: skip

    @property
    def is_open(self) -> bool:
        """Return whether the breakers turn requests away: that of each address."""
        return self._addresses.is_open

    @property
    def idle(self) -> int:
        """Kept connections that nobody uses."""
        return len(self.kept)

    # --- exchanges ---

    async def exchange(
        self, permit: Permit, head: bytes, method: bytes, body: RequestBody | None
    ) -> tuple[Connection[Permit], ResponseReader]:
        """Send and wait for the head; again on a new connection where a kept one was dead and nothing is lost by it.
        Raises Fault, or what `body.read` raises."""
        connection = self._take_kept()
        if connection is not None:
            self.reused += 1
            connection.permit = permit
            reader = ResponseReader(method == b"HEAD")
            try:
                await connection.ask(reader, head, body)
            except Fault as fault:
                dead = fault.kind is FaultKind.UNAVAILABLE and not connection.answered
                if not (dead and method in IDEMPOTENT and body is None):
                    raise
                self.retried += 1
            else:
                return connection, reader
        connection = await self.connect(permit)
        reader = ResponseReader(method == b"HEAD")
        await connection.ask(reader, head, body)
        return connection, reader

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run an upload, held until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._pumps.add(task)
        task.add_done_callback(self._pumps.discard)
        return task

    # --- connections ---

    def _take_kept(self) -> Connection[Permit] | None:
        while self.kept:
            connection = self.kept.pop()
            if connection.is_quiet:
                return connection
            connection.give_up()
        return None

    async def connect(self, permit: Permit) -> Connection[Permit]:
        """Open one more connection. Raises Fault."""
        self._make_room()
        return await self._dialer.dial(partial(self._make, permit))

    async def reach(self) -> None:
        """Open a connection and close it; nothing is sent on it. Raises Fault, also of a server that closes at once."""
        self._make_room()
        connection = await self._dialer.dial(partial(self._make, None))
        try:
            await connection.require_open(OBJECTS_WITHIN)
        finally:
            connection.give_up()

    def _has_room(self) -> bool:
        return len(self.connections) < self.max_connections

    def _make_room(self) -> None:
        """See that one more connection may be opened; an unused one gives way. Raises Fault."""
        if self._closed:
            raise Fault(Reason.SHUTTING_DOWN, "the pool is closed")
        if self._has_room():
            return
        if not self.kept:
            raise Fault(Reason.CONNECTION_LIMIT_REACHED, f"{self.max_connections} connections are in use")
        self.kept.pop(0).give_up()

    def _make(self, permit: Permit | None, address: Endpoint) -> Connection[Permit]:
        """A connection that is to be opened: its place is taken from now on, as many may be opened at once."""
        self._make_room()
        loop = asyncio.get_running_loop()
        connection: Connection[Permit] = Connection(self, self._deadlines, loop, address.host)
        connection.permit = permit
        self.connections.add(connection)
        self.open = len(self.connections)
        return connection

    def _retire(self, hosts: frozenset[str]) -> None:
        """Close the connections to addresses that are no longer the server's, those in use when their exchange ends."""
        for connection in self.connections:
            connection.retired = connection.host not in hosts
        for connection in [each for each in self.kept if each.retired]:
            connection.give_up()

    def give_back(self, connection: Connection[Permit]) -> None:
        """The exchange on it is over: keep it if it ended well and to the last byte, close it if not."""
        if connection.pump is not None and not connection.request_sent:
            connection.pump.cancel()
        if not connection.is_reusable or len(self.kept) >= self._max_idle or self._closed:
            connection.give_up()
            return
        # what nobody read of a whole answer
        connection.take()
        connection.reader = connection.pump = connection.permit = connection.owners = None
        loop = connection.loop
        connection.idle_since = loop.time()
        self.kept.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._idle_lifetime, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = None
        oldest = loop.time() - self._idle_lifetime
        # used last in, first out, so the one that waits longest stands first
        while self.kept and self.kept[0].idle_since <= oldest:
            self.kept.pop(0).give_up()
        if self.kept:
            self._sweeper = loop.call_later(max(self.kept[0].idle_since - oldest, 0.1), self._sweep, loop)

    def forget(self, connection: Connection[Permit]) -> None:
        """The connection is gone, or no longer ours."""
        self.connections.discard(connection)
        if self._drained is not None and not self.connections:
            self._drained.set()
        if connection in self.kept:
            self.kept.remove(connection)
        self.open = len(self.connections)

    async def drain(self) -> None:
        """Open no connection any more, and close each when what runs on it has ended."""
        self._closed, self._drained = True, asyncio.Event()
        for connection in list(self.kept):
            connection.give_up()
        if self.connections:
            await self._drained.wait()
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection, and open none any more."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._deadlines.close()
        await self._addresses.aclose()
        pumps = list(self._pumps)
        for task in pumps:
            task.cancel()
        for connection in list(self.connections):
            connection.give_up()
        await asyncio.gather(*pumps, return_exceptions=True)
        # the transports tell their protocols in the loop's next turn
        await asyncio.sleep(0)
