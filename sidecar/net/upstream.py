"""Client of the protected app: sends only what a permit allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple, final

from sidecar.gate.verdict import Forward
from sidecar.net.connection import Body, Connection, Fault, Response
from sidecar.net.pool import Pool
from sidecar.record.reasons import Reason
from sidecar.wire.grammar import Header
from sidecar.wire.http1_response import CHUNKED, ResponseReader, encode_request


class Upgraded(NamedTuple):
    """The answer to a handshake; only with status 101 is the transport a tunnel, and `tail` its first bytes."""

    status: int
    headers: list[Header]
    transport: asyncio.Transport
    tail: bytes


class Handshake(NamedTuple):
    """Parts of a WebSocket handshake besides the permit's headers: the sidecar's key, and the subprotocols that are
    offered, without extensions (RFC 6455 section 4.1)."""

    key: bytes
    protocols: tuple[bytes, ...] = ()


@final
class Upstream:
    """Sends what permits say, by the connections of `pool`.

    `owners` gives the owners of a permit: none of them gets more connections than are free.
    """

    def __init__(self, pool: Pool[Forward], owners: Callable[[Forward], tuple[str, ...]] = lambda _: ()) -> None:
        self._pool = pool
        self._owners = owners
        # below that nobody can have more than is free
        self._crowded = pool.max_connections // 2

    @property
    def place(self) -> str:
        """Where the app is, as the log names it. Nobody gets its origin, of which another client could be made."""
        return f"SIDECAR_UPSTREAM: {self._pool.origin}"

    @property
    def busy(self) -> int:
        """Connections that are in use, or being opened."""
        return self._pool.open - self._pool.idle

    @property
    def idle(self) -> int:
        """Kept connections that nobody uses."""
        return self._pool.idle

    @property
    def is_open(self) -> bool:
        """Return whether the breaker turns requests away."""
        return self._pool.is_open

    async def send(self, permit: Forward, body: Body | None) -> Response:
        """Send what the permit says, and wait for the head of the answer. Raises Fault, or what `body.read` raises."""
        _require_permit(permit)
        pool = self._pool
        if pool.open - len(pool.kept) >= self._crowded:
            self._refuse_greedy(permit)
        length = None if body is None else CHUNKED if body.length is None else body.length
        head = encode_request(permit.method, permit.target, permit.headers, length)
        connection, reader = await pool.exchange(permit, head, permit.method, body)
        return Response(pool, connection, reader)

    async def upgrade(self, permit: Forward, handshake: Handshake) -> Upgraded:
        """Send the permit's request with the fields `handshake` besides its headers, on a connection of its own. Raises
        Fault."""
        _require_permit(permit)
        pool = self._pool
        if pool.open - len(pool.kept) >= self._crowded:
            self._refuse_greedy(permit)
        head = encode_request(permit.method, permit.target, handshake_headers(permit, handshake), None)
        connection = await pool.connect(permit)
        reader = ResponseReader(False, upgrade=True)
        await connection.ask(reader, head, None)
        if not connection.transport.is_closing():
            connection.transport.pause_reading()
        pool.forget(connection)
        return Upgraded(reader.status, reader.raw_headers, connection.transport, reader.tail)

    async def reach(self) -> None:
        """Open a connection to the app and close it; nothing is sent on it. Raises Fault."""
        await self._pool.reach()

    def _refuse_greedy(self, permit: Forward) -> None:
        """Raise Fault for one who has as many connections as are free: the others keep their share
        (A. K. Choudhury and E. L. Hahne, "Dynamic queue length thresholds", 1998)."""
        owners = self._owners(permit)
        used = [self._owners_of(connection) for connection in self._pool.connections if connection.permit is not None]
        free = self._pool.max_connections - len(used)
        if any(sum(owner in each for each in used) >= free for owner in owners):
            detail = f"{len(used)} connections are in use, {free} or more of them by this client"
            raise Fault(Reason.CONNECTION_LIMIT_REACHED, detail)

    def _owners_of(self, connection: Connection[Forward]) -> tuple[str, ...]:
        if connection.owners is None and connection.permit is not None:
            connection.owners = self._owners(connection.permit)
        return connection.owners or ()

    async def aclose(self) -> None:
        """Close every connection, and open none any more."""
        await self._pool.aclose()


def _require_permit(permit: Forward) -> None:
    """See that a permit is one: to the type checker, a value of type Any is everything."""
    if not isinstance(permit, Forward):
        raise TypeError(f"found {type(permit).__name__}, expected the permit of a request")


def handshake_headers(permit: Forward, handshake: Handshake) -> list[Header]:
    """Return the permit's headers as a handshake of our own."""
    protocols = [(b"sec-websocket-protocol", b", ".join(handshake.protocols))] if handshake.protocols else []
    return [
        *(pair for pair in permit.headers if not pair[0].startswith(b"sec-websocket-")),
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", handshake.key),
        *protocols,
    ]
