"""Client of the protected app: sends only what a permit allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, final

from sidecar.gate.verdict import Destination, Forward
from sidecar.net.connection import Connection, Fault, RequestBody, Response
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


class UpstreamState(NamedTuple):
    """State of one app, "" being that of the settings: its connections that are in use or being opened, its kept ones,
    and whether the breaker turns requests away."""

    name: str
    busy: int
    idle: int
    is_open: bool


MakePool = Callable[[Destination], Pool[Forward]]
"""Makes the connections to a named app, none of which is open. Raises what its maker likes."""


def _state_of(name: str, pool: Pool[Forward]) -> UpstreamState:
    return UpstreamState(name, pool.open - pool.idle, pool.idle, pool.is_open)


@final
class Upstream:
    """Sends what permits say, by the connections of `pool`, which is None where each permit has to name its app.

    `owners` gives the owners of a permit: none of them gets more connections to one app than are free. `make` makes the
    connections of a named app.
    """

    def __init__(
        self, pool: Pool[Forward] | None, owners: Callable[[Forward], tuple[str, ...]] = lambda _: (),
        make: MakePool | None = None,
    ) -> None:  # fmt: skip
        self._pool = pool
        self._owners = owners
        self._make = make
        self._named: dict[Destination, Pool[Forward]] = {}
        self._retired: dict[Destination, Pool[Forward]] = {}
        self._draining: set[Pool[Forward]] = set()

    # --- the apps ---

    def made(self, named: Destination) -> Pool[Forward]:
        """The connections of a named app: those that it has, or new ones, none of which is open. Raises what `make`
        raises."""
        known = self._named.get(named) or self._retired.get(named)
        if known is None:
            assert self._make is not None  # noqa: S101 - for the type checker
            known = self._make(named)
        return known

    def put_in_force(self, named: Mapping[Destination, Pool[Forward]]) -> tuple[Destination, ...]:
        """Lead to these apps from now on. -> those that are gone, to be given up by `retire` when no request any more
        can have a permit to one of them"""
        gone = {each: pool for each, pool in self._named.items() if each not in named}
        self._named, self._retired = dict(named), {**self._retired, **gone}
        for each in named:
            self._retired.pop(each, None)
        return tuple(gone)

    async def retire(self, gone: Iterable[Destination]) -> None:
        """Give up apps that are gone: their requests that run come to their end."""
        pools = [self._retired.pop(each) for each in gone if each in self._retired]
        self._draining.update(pools)
        await asyncio.gather(*(pool.drain() for pool in pools))
        self._draining.difference_update(pools)

    def _pool_of(self, permit: Forward) -> Pool[Forward]:
        named = permit.upstream
        pool = self._pool if named is None else self._named.get(named) or self._retired.get(named)
        if pool is None:
            raise Fault(Reason.DESTINATION_NOT_FOUND)
        return pool

    def place(self, permit: Forward) -> str:
        """Where the app is, as the log names it. Nobody gets its origin, of which another client could be made."""
        if permit.upstream is not None:
            return f"upstreams.{permit.upstream.name}: {permit.upstream.url}"
        return f"SIDECAR_UPSTREAM: {self._pool.origin if self._pool is not None else 'not set'}"

    def states(self) -> Iterator[UpstreamState]:
        """Yield the state of each app, that of the settings first."""
        if self._pool is not None:
            yield _state_of("", self._pool)
        for each, pool in self._named.items():
            yield _state_of(each.name, pool)

    # --- requests ---

    async def send(self, permit: Forward, body: RequestBody | None) -> Response:
        """Send what the permit says, and wait for the head of the answer. Raises Fault, or what `body.read` raises."""
        _require_permit(permit)
        pool = self._pool
        if permit.upstream is not None or pool is None:
            pool = self._pool_of(permit)
        if pool.open - len(pool.kept) >= pool.crowded:
            self._refuse_greedy(permit, pool)
        length = None if body is None else CHUNKED if body.length is None else body.length
        head = encode_request(permit.method, permit.target, permit.headers, length)
        connection, reader = await pool.exchange(permit, head, permit.method, body)
        return Response(pool, connection, reader)

    async def upgrade(self, permit: Forward, handshake: Handshake) -> Upgraded:
        """Send the permit's request with the fields `handshake` besides its headers, on a connection of its own. Raises
        Fault."""
        _require_permit(permit)
        pool = self._pool_of(permit)
        if pool.open - len(pool.kept) >= pool.crowded:
            self._refuse_greedy(permit, pool)
        head = encode_request(permit.method, permit.target, handshake_headers(permit, handshake), None)
        connection = await pool.connect(permit)
        reader = ResponseReader(False, upgrade=True)
        await connection.ask(reader, head, None)
        if not connection.transport.is_closing():
            connection.transport.pause_reading()
        pool.forget(connection)
        return Upgraded(reader.status, reader.raw_headers, connection.transport, reader.tail)

    async def reach(self, named: Destination | None = None) -> None:
        """Open a connection to an app and close it; nothing is sent on it. Raises Fault."""
        pool = self._pool if named is None else self._named.get(named)
        if pool is None:
            raise Fault(Reason.DESTINATION_NOT_FOUND)
        await pool.reach()

    def _refuse_greedy(self, permit: Forward, pool: Pool[Forward]) -> None:
        """Raise Fault for one who has as many connections as are free: the others keep their share
        (A. K. Choudhury and E. L. Hahne, "Dynamic queue length thresholds", 1998)."""
        owners = self._owners(permit)
        used = [self._owners_of(connection) for connection in pool.connections if connection.permit is not None]
        free = pool.max_connections - len(used)
        if any(sum(owner in each for each in used) >= free for owner in owners):
            detail = f"{len(used)} connections are in use, {free} or more of them by this client"
            raise Fault(Reason.CONNECTION_LIMIT_REACHED, detail)

    def _owners_of(self, connection: Connection[Forward]) -> tuple[str, ...]:
        if connection.owners is None and connection.permit is not None:
            connection.owners = self._owners(connection.permit)
        return connection.owners or ()

    async def aclose(self) -> None:
        """Close every connection, and open none any more."""
        pools = [*self._named.values(), *self._retired.values(), *self._draining]
        for pool in pools if self._pool is None else [self._pool, *pools]:
            await pool.aclose()


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
