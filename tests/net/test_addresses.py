"""Addresses of a name: followed when they change, kept while the name server is ill, each judged by itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

import pytest

from sidecar.net import addresses
from sidecar.net.addresses import _interleaved, resolve_by_system
from sidecar.net.breaker import Breaker
from sidecar.net.pool import Origin, Pool
from sidecar.record.reasons import Reason
from tests.fakes import Clock
from tests.net.exchanges import NOT_CONNECTED, fault_of, fetch, on_both_loops, permit, pool_of, rest, send, until
from tests.net.hostile_upstream import Request, Upstream, Wire, good, upstream


class Names:
    """A name server with one name: what it says of it, or raises; and how often it was asked."""

    def __init__(self, *hosts: str) -> None:
        self.says: Sequence[str] | Exception = hosts
        self.asked = 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        assert host == "app.test"
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


TEMPORARY = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
GONE = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@contextlib.asynccontextmanager
async def twins() -> AsyncIterator[tuple[Upstream, Upstream, Origin]]:
    """Two servers on one port of two addresses, 127.0.0.1 and 127.0.0.2."""
    async with contextlib.AsyncExitStack() as stack:
        while True:
            first = await stack.enter_async_context(upstream())
            try:
                second = await stack.enter_async_context(upstream(host="127.0.0.2", port=first.origin.port))
            except OSError:
                # the port is free at one address, and somebody's at the other: the next one
                continue
            break
        yield first, second, Origin("http", "app.test", first.origin.port)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "EVERY", 0.05)


@on_both_loops
async def test_a_name_is_not_resolved_where_a_kept_connection_is_there() -> None:
    names = Names("127.0.0.1")
    async with twins() as (first, _, origin), pool_of(origin, resolve=names) as pool:
        for _ in range(20):
            await fetch(pool)
        await asyncio.gather(*[fetch(pool) for _ in range(5)])
        assert (first.connections, names.asked) == (5, 1)


@pytest.mark.usefixtures("soon")
@on_both_loops
async def test_an_address_that_moves_is_followed_without_a_request_that_has_to_wait() -> None:
    names = Names("127.0.0.1")
    async with twins() as (first, second, origin), pool_of(origin, resolve=names) as pool:
        await asyncio.gather(*[fetch(pool) for _ in range(3)])
        assert pool.idle == 3
        names.says = ("127.0.0.2",)
        # kept connections to the old address are closed, whoever asks or not
        await until(lambda: first.live == 0)
        assert pool.idle == 0
        for _ in range(5):
            await fetch(pool)
        assert (len(first.requests), len(second.requests)) == (3, 5)


@pytest.mark.usefixtures("soon")
@on_both_loops
async def test_what_is_under_way_at_the_old_address_ends_there_and_is_not_kept() -> None:
    hold = asyncio.Event()

    async def play(wire: Wire, request: Request) -> None:
        await hold.wait()
        await good(wire, request)

    names = Names("127.0.0.1", "127.0.0.2")
    async with twins() as (first, _, origin), pool_of(origin, resolve=names) as pool:
        first.play = play
        asking = asyncio.create_task(fetch(pool, permit("GET", b"/mine")))
        await until(lambda: len(first.requests) == 1)
        names.says = ("127.0.0.2",)
        await until(lambda: all(each.retired for each in pool.connections))
        hold.set()
        assert await asking == (200, b"GET /mine")
        assert (pool.open, pool.idle) == (0, 0)


@pytest.mark.usefixtures("soon")
@on_both_loops
async def test_a_name_server_that_fails_leaves_the_addresses_that_it_gave() -> None:
    names = Names("127.0.0.1")
    async with twins() as (first, _, origin), pool_of(origin, resolve=names) as pool:
        await fetch(pool)
        names.says, before = TEMPORARY, names.asked
        await until(lambda: names.asked > before + 1)
        assert pool.idle == 1
        # a new connection asks itself, and goes where it went
        await asyncio.gather(*[fetch(pool) for _ in range(2)])
        assert len(first.requests) == 3


@pytest.mark.usefixtures("soon")
@on_both_loops
async def test_a_name_server_that_is_silent_leaves_them_too() -> None:
    names = Names("127.0.0.1")
    async with twins() as (first, _, origin), pool_of(origin, NOT_CONNECTED, resolve=names) as pool:
        await fetch(pool)

        async def silent(host: str, port: int) -> Sequence[str]:
            await asyncio.Event().wait()
            return []

        pool._addresses._resolve = silent
        await until(lambda: pool._addresses._flight is not None)
        await asyncio.gather(*[fetch(pool) for _ in range(2)])
        assert len(first.requests) == 3


@pytest.mark.usefixtures("soon")
@on_both_loops
async def test_a_name_that_is_gone_has_no_address_any_more() -> None:
    """What was its own may be another's: nothing is sent there."""
    names = Names("127.0.0.1")
    async with twins() as (first, _, origin), pool_of(origin, resolve=names) as pool:
        await fetch(pool)
        names.says = GONE
        await until(lambda: first.live == 0)
        assert (await fault_of(fetch(pool))).reason is Reason.NAME_NOT_FOUND
        names.says = ()
        assert (await fault_of(fetch(pool))).reason is Reason.NAME_NOT_FOUND
        names.says = ("127.0.0.1",)
        assert (await fetch(pool))[0] == 200


@on_both_loops
async def test_many_who_wait_for_a_name_ask_once() -> None:
    names = Names("127.0.0.1")
    async with twins() as (_, _, origin), pool_of(origin, resolve=names) as pool:
        leaving = asyncio.create_task(fetch(pool))
        staying = [asyncio.create_task(fetch(pool)) for _ in range(5)]
        await asyncio.sleep(0)
        leaving.cancel()
        assert [status for status, _ in await asyncio.gather(*staying)] == [200] * 5
        assert names.asked == 1


@on_both_loops
async def test_a_name_that_is_never_found_opens_a_breaker_which_says_why() -> None:
    clock, names = Clock(), Names()
    names.says = TEMPORARY
    async with twins() as (_, _, origin), pool_of(origin, resolve=names, breaker=lambda: Breaker(clock)) as pool:
        for _ in range(5):
            assert (await fault_of(fetch(pool))).reason is Reason.DNS_ERROR
        assert pool.is_open
        fault = await fault_of(fetch(pool))
        assert (fault.reason, fault.detail) == (Reason.BREAKER_OPEN, f"dns_error: app.test: {TEMPORARY}")
        assert names.asked == 5
        names.says, clock.now = ("127.0.0.1",), clock.now + 2.1
        assert (await fetch(pool))[0] == 200
        assert not pool.is_open


@on_both_loops
async def test_a_pool_that_is_closed_while_it_resolves_opens_nothing() -> None:
    names = Names("127.0.0.1")
    async with twins() as (first, _, origin), pool_of(origin, resolve=names) as pool:
        asking = asyncio.create_task(send(pool, permit(), None))
        await asyncio.sleep(0)
        await pool.aclose()
        assert (await fault_of(asking)).reason in (Reason.SHUTTING_DOWN, Reason.NAME_NOT_FOUND)
        assert first.connections == 0


@on_both_loops
async def test_an_address_or_a_socket_is_never_resolved() -> None:
    names = Names()
    async with upstream() as server, pool_of(server.origin, resolve=names) as pool:
        response = await send(pool, permit(), None)
        await rest(response)
        assert (names.asked, pool._addresses._timer) == (0, None)


async def test_the_system_resolves_by_its_hosts_file() -> None:
    assert "127.0.0.1" in await resolve_by_system("localhost", 80)
    async with upstream() as server:
        pool: Pool[None] = Pool(Origin("http", "localhost", server.origin.port))
        await pool.reach()
        await pool.aclose()


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["10.0.0.1"], ["10.0.0.1"]),
        (["10.0.0.1", "10.0.0.1"], ["10.0.0.1"]),
        (["::1", "::2", "::3", "10.0.0.1"], ["::1", "10.0.0.1", "::2", "::3"]),
        (["10.0.0.1", "10.0.0.2", "::1", "::2"], ["10.0.0.1", "::1", "10.0.0.2", "::2"]),
    ],
)
def test_families_are_tried_in_turn(hosts: list[str], expected: list[str]) -> None:
    assert _interleaved(hosts) == expected
