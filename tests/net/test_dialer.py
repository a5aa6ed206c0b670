"""A connection to one of several addresses: whichever answers, without waiting for those that do not."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from sidecar.gate.verdict import Forward
from sidecar.net import dialer
from sidecar.net.addresses import Resolve
from sidecar.net.breaker import Breaker
from sidecar.net.connection import Timeouts
from sidecar.net.pool import Origin, Pool
from sidecar.record.reasons import Reason
from tests.fakes import Clock
from tests.net.exchanges import NOT_CONNECTED, fault_of, fetch, on_both_loops, permit, pool_of, until
from tests.net.hostile_upstream import answer, says, upstream
from tests.stack import free_port

ONCE = says(answer(200, b"ok", b"Connection: close"))
"""Every request needs a connection of its own."""


def names(*hosts: str) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return hosts

    return resolve


async def order(pool: Pool[Forward]) -> list[str]:
    now = asyncio.get_running_loop().time()
    return [address.host for address in await pool._addresses.current(now + 1)]


@contextlib.contextmanager
def black_hole(host: str, port: int) -> Iterator[None]:
    """An address where no connection is refused, and none is made: its queue is full."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server((host, port), backlog=0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            assert filler.connect_ex((host, port)) == errno.EINPROGRESS
        yield


@on_both_loops
async def test_a_dead_address_costs_nobody_an_error_and_comes_last() -> None:
    async with upstream(ONCE, host="127.0.0.2") as server:
        origin = Origin("http", "app.test", server.origin.port)
        clock = Clock()
        options: dict[str, Any] = {
            "resolve": names("127.0.0.1", "127.0.0.2", "127.0.0.3"),
            "breaker": lambda: Breaker(clock),
        }
        async with pool_of(origin, **options) as pool:
            for _ in range(8):
                assert await fetch(pool) == (200, b"ok")
            assert (server.connections, pool.is_open) == (8, False)
            # the third was never tried, and so stands before the one that failed
            assert await order(pool) == ["127.0.0.2", "127.0.0.3", "127.0.0.1"]


@on_both_loops
async def test_an_address_that_does_not_answer_costs_no_request_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "NEXT_AFTER", 0.05)
    async with upstream(ONCE, host="127.0.0.2") as server:
        port = server.origin.port
        with black_hole("127.0.0.1", port):
            patient = Timeouts(connect=60.0)
            resolve = names("127.0.0.1", "127.0.0.2")
            async with pool_of(Origin("http", "app.test", port), patient, resolve=resolve) as pool:
                started = time.monotonic()
                for _ in range(5):
                    assert await fetch(pool) == (200, b"ok")
                assert time.monotonic() - started < 20
                assert await order(pool) == ["127.0.0.2", "127.0.0.1"]
                assert pool.open == 0


@on_both_loops
async def test_nothing_is_opened_beside_a_slow_one_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "NEXT_AFTER", 0.02)
    async with upstream(ONCE, host="127.0.0.2") as server:
        port = server.origin.port
        with black_hole("127.0.0.1", port):
            resolve = names("127.0.0.1", "127.0.0.2")
            async with pool_of(
                Origin("http", "app.test", port), NOT_CONNECTED, resolve=resolve, max_connections=1
            ) as pool:
                asking = asyncio.create_task(fetch(pool))
                await until(lambda: pool.open == 1)
                assert (await fault_of(fetch(pool))).reason is Reason.CONNECTION_LIMIT_REACHED
                # the deadline is that of all attempts together
                assert (await fault_of(asking)).reason is Reason.CONNECTION_TIMEOUT
                assert pool.open == 0


@on_both_loops
async def test_where_all_fail_the_fault_tells_of_each() -> None:
    port = free_port()
    clock = Clock()
    options: dict[str, Any] = {"resolve": names("127.0.0.1", "127.0.0.2"), "breaker": lambda: Breaker(clock)}
    async with pool_of(Origin("http", "app.test", port), **options) as pool:
        for _ in range(5):
            fault = await fault_of(fetch(pool))
            assert fault.reason is Reason.CONNECTION_REFUSED
            assert all(f"{host}: Connection refused" in fault.detail for host in ("127.0.0.1", "127.0.0.2"))
        assert pool.is_open
        fault = await fault_of(fetch(pool))
        assert fault.reason is Reason.BREAKER_OPEN
        assert fault.detail.count("connection_refused: 127.0.0.") == 2
        # one is there again: a probe of it is enough for all
        async with upstream(ONCE, host="127.0.0.2", port=port):
            clock.now += 2.1
            assert await fetch(pool) == (200, b"ok")
            assert not pool.is_open
            assert await fetch(pool) == (200, b"ok")


@on_both_loops
async def test_who_leaves_while_addresses_are_tried_leaves_nothing_open() -> None:
    with black_hole("127.0.0.1", free := free_port()), black_hole("127.0.0.2", free):
        resolve = names("127.0.0.1", "127.0.0.2")
        async with pool_of(Origin("http", "app.test", free), resolve=resolve) as pool:
            asking = asyncio.create_task(fetch(pool, permit()))
            await until(lambda: pool.open == 2)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await until(lambda: pool.open == 0)
