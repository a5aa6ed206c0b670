"""Kept-alive connections, against a real server that does its worst, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
import uvloop

from sidecar.gate.verdict import Forward
from sidecar.net.breaker import Breaker
from sidecar.net.connection import Fault, Timeouts
from sidecar.net.pool import Origin, Pool
from sidecar.record.reasons import FaultKind
from tests.net.exchanges import (
    HEAD_FAULTS,
    NOT_CONNECTED,
    SHORT,
    Upload,
    both,
    fault_of,
    fetch,
    on_both_loops,
    permit,
    pool_of,
    rest,
    send,
    until,
)
from tests.net.hostile_upstream import (
    EVIL,
    FAULTS,
    POISONS,
    Play,
    Request,
    Wire,
    answer,
    good,
    says,
    unique_target,
    upstream,
    upstream_in_thread,
)
from tests.stack import free_port


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://app", Origin("http", "app", 80)),
        ("https://app", Origin("https", "app", 443)),
        ("http://app.test:8080", Origin("http", "app.test", 8080)),
        ("http://127.0.0.1:1", Origin("http", "127.0.0.1", 1)),
        ("http://[::1]:65535", Origin("http", "::1", 65535)),
        ("unix:/run/app.sock", Origin("unix", path="/run/app.sock")),
    ],
)
def test_an_origin_is_read(url: str, expected: Origin) -> None:
    assert Origin.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "", "app", "app:80", "//app", "ftp://app", "HTTP://app", "http://", "http://app/", "http://app/path", "http://app?q",
        "http://app#f", "http://user@app", "http://user:pass@app", "http://app:", "http://app:0", "http://app:65536",
        "http://app:80a", "http://app:٣", "http://::1", "http://[::1", "http://a b", "http://app\n", "unix:", "unix:app.sock",
        "unix://", " http://app",
    ],
)  # fmt: skip
def test_an_origin_that_is_none_is_named_with_what_was_expected(url: str) -> None:
    if url == "unix://":
        assert Origin.parse(url).path == "//"  # a path as any
        return
    with pytest.raises(ValueError, match="expected http") as refusal:
        Origin.parse(url)
    assert repr(url) in str(refusal.value)


# --- keeping connections ---


@on_both_loops
async def test_a_connection_is_kept_and_the_request_goes_out_as_decided() -> None:
    async with both() as (server, pool):
        for number in range(20):
            assert await fetch(pool, permit("GET", b"/a%%2Fb?q=%d" % number)) == (200, b"GET /a%%2Fb?q=%d" % number)
        assert (server.connections, pool.open, pool.idle, pool.reused) == (1, 1, 1, 19)
        assert server.requests[3].head == b"GET /a%2Fb?q=3 HTTP/1.1\r\nhost: app.test\r\nx-auth-subject: alice\r\n\r\n"


@on_both_loops
async def test_the_connection_used_last_is_used_next() -> None:
    hold = asyncio.Event()

    async def play(wire: Wire, request: Request) -> None:
        await hold.wait()
        await good(wire, request)

    async with both(play) as (server, pool):
        waiting = [asyncio.create_task(fetch(pool)) for _ in range(3)]
        await until(lambda: len(server.requests) == 3)
        hold.set()
        await asyncio.gather(*waiting)
        assert pool.idle == 3
        for _ in range(5):
            await fetch(pool)
        assert len({request.connection for request in server.requests[3:]}) == 1


@on_both_loops
async def test_only_so_many_unused_connections_are_kept() -> None:
    async with both(max_idle=2) as (server, pool):
        await asyncio.gather(*[fetch(pool) for _ in range(5)])
        assert server.connections == 5
        assert (pool.open, pool.idle) == (2, 2)


@on_both_loops
async def test_unused_connections_are_not_kept_for_ever() -> None:
    async with both(max_idle=2, idle_lifetime=0.05) as (server, pool):
        await asyncio.gather(*[fetch(pool) for _ in range(5)])
        await until(lambda: server.live == 0)
        assert (pool.open, pool.idle) == (0, 0)
        assert (await fetch(pool))[0] == 200


@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["close", "HTTP/1.0"],
)
@on_both_loops
async def test_a_connection_that_is_not_kept_alive_is_used_once(wire: bytes) -> None:
    async with both(says(wire)) as (server, pool):
        for _ in range(3):
            assert await fetch(pool) == (200, b"ok")
        assert server.connections == 3
        await until(lambda: server.live == 0)


@on_both_loops
async def test_a_whole_answer_that_nobody_reads_does_not_cost_the_connection() -> None:
    async with both() as (server, pool):
        for _ in range(3):
            response = await send(pool, permit(), None)
            assert response.complete
            response.close()
            response.close()
        assert await fetch(pool, permit("GET", b"/mine")) == (200, b"GET /mine")
        assert server.connections == 1


@on_both_loops
async def test_an_abandoned_answer_closes_the_connection() -> None:
    async with both("stalled_body") as (server, pool):
        response = await send(pool, permit(), None)
        assert not response.complete
        response.close()
        assert pool.open == 0
        await until(lambda: server.live == 0)
        assert await response.read() == b""


# --- poison: bytes that would be taken for the next answer ---


async def poisoned(pool: Pool[Forward], method: str, shape: str) -> None:
    """One request whose answer is poisoned; the answer itself is its own, or a fault."""
    if shape == "two_framings":
        assert (await fault_of(fetch(pool, permit(method)))).kind is FaultKind.PROTOCOL
        return
    target = unique_target()
    status, body = await fetch(pool, permit(method, target))
    assert body in (b"", b"GET " + target)
    assert status in (200, 204, 304)


@pytest.mark.parametrize("shape", POISONS)
@on_both_loops
async def test_poison_in_the_same_segment_never_reaches_the_next_request(shape: str) -> None:
    async with both(shape) as (server, pool):
        await poisoned(pool, POISONS[shape][0], shape)
        assert (pool.open, pool.idle) == (0, 0)
        assert pool.residual == (shape != "two_framings")
        server.play = good
        assert await fetch(pool, permit("GET", b"/mine")) == (200, b"GET /mine")
        assert server.connections == 2


@pytest.mark.parametrize("shape", POISONS)
@on_both_loops
async def test_poison_that_comes_later_closes_the_unused_connection(shape: str) -> None:
    async with both(f"{shape}_late") as (server, pool):
        await poisoned(pool, POISONS[shape][0], shape)
        await until(lambda: pool.open == 0)
        assert pool.idle == 0
        assert pool.residual == (shape != "two_framings")
        server.play = good
        assert await fetch(pool, permit("GET", b"/mine")) == (200, b"GET /mine")
        assert server.connections == 2


@pytest.mark.parametrize("shape", POISONS)
@on_both_loops
async def test_poison_that_the_loop_has_not_read_yet_never_reaches_the_next_request(shape: str) -> None:
    """It waits in the socket when the connection is chosen: the loop stands still while it comes."""
    go, sent = threading.Event(), threading.Event()
    make = POISONS[shape][1]

    async def play(wire: Wire, request: Request) -> None:
        if request.target == "/mine":
            await good(wire, request)
            return
        await wire.send(make(request.says))
        await asyncio.to_thread(go.wait)
        await wire.send(EVIL)
        sent.set()

    with upstream_in_thread(play) as server:
        async with pool_of(server.origin) as pool:
            with contextlib.suppress(Fault):
                await fetch(pool, permit(POISONS[shape][0]))
            go.set()
            assert sent.wait(5)
            assert await fetch(pool, permit("GET", b"/mine")) == (200, b"GET /mine")
            assert server.connections == 2


@on_both_loops
async def test_poison_while_the_answer_is_still_being_read_costs_nobody_anything() -> None:
    async with both("extra_after_length_late") as (server, pool):
        target = unique_target()
        response = await send(pool, permit("GET", target), None)
        await until(lambda: pool.residual == 1)
        assert await rest(response) == b"GET " + target
        assert pool.open == 0
        assert server.connections == 1


MIX = [
    "none", "none", "none", "none", *POISONS, "closed_before_answer", "closed_after_answer", "garbage",
    "truncated_length", "no_last_chunk", "broken_chunk", "unsolicited_101", "status_600", "two_lengths",
]  # fmt: skip


def interleaved(turns: int) -> tuple[Counter[str], Pool[Forward]]:
    """A hundred users with so many requests each, on shared connections to a hostile upstream: what each was told.

    Raises AssertionError for an answer that is not its user's own.
    """
    told: Counter[str] = Counter()

    async def user(pool: Pool[Forward], number: int) -> None:
        for turn in range(turns):
            shape = MIX[(number * 7 + turn) % len(MIX)]
            method = POISONS[shape][0] if shape in POISONS else "GET"
            target = unique_target(f"/fault/{shape}/{number}")
            try:
                status, body = await fetch(pool, permit(method, target))
            except Fault as fault:
                told[f"fault {fault.kind} of {shape}"] += 1
            else:
                empty = method == "HEAD" or status in (204, 304)
                assert body == (b"" if empty else b"GET " + target)
                told["own"] += 1

    async def everybody() -> Pool[Forward]:
        patient = Timeouts(connect=60.0, head=60.0, idle=60.0)  # a busy machine is no fault of the upstream
        async with both("by_target", patient) as (_, pool), asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(user(pool, number))
        return pool

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return told, runner.run(everybody())


@pytest.mark.slow
def test_a_hundred_users_of_a_hostile_upstream_get_their_own_answer_or_a_fault() -> None:
    """5,000 requests, interleaved, on shared connections; `make fuzz` sends a million."""
    told, pool = interleaved(50)
    assert sum(told.values()) == 5_000
    assert {name for name in told if "fault" in name} == {
        "fault unavailable of closed_before_answer",
        "fault partial of truncated_length",
        "fault partial of no_last_chunk",
        *(f"fault protocol of {shape}" for shape in MIX if HEAD_FAULTS.get(shape) is FaultKind.PROTOCOL),
        "fault protocol of broken_chunk",
    }
    assert pool.residual > 250
    assert pool.reused > 250


# --- connecting ---


@on_both_loops
async def test_what_prevents_a_connection_is_unavailable(tmp_path: Path) -> None:
    port = free_port()
    for origin in (
        Origin("http", "127.0.0.1", port),
        Origin("https", "127.0.0.1", port),
        Origin("http", "no..such..host", 80),
        Origin("unix", path=str(tmp_path / "none.sock")),
        Origin("unix", path=str(tmp_path / ("x" * 200))),
    ):
        async with pool_of(origin, SHORT) as pool:
            assert (await fault_of(send(pool, permit(), None))).kind is FaultKind.UNAVAILABLE


@on_both_loops
async def test_a_handshake_that_nobody_answers_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with pool_of(Origin("https", "127.0.0.1", mute.getsockname()[1]), NOT_CONNECTED) as pool:
            started = time.monotonic()
            assert (await fault_of(send(pool, permit(), None))).kind is FaultKind.TIMEOUT
            assert time.monotonic() - started < 6
            task = asyncio.create_task(send(pool, permit(), None))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.open == 0


@on_both_loops
async def test_a_server_that_closes_at_once_is_unavailable_and_not_waited_for() -> None:
    async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    origin = Origin("http", "127.0.0.1", server.sockets[0].getsockname()[1])
    async with server, pool_of(origin) as pool:
        for _ in range(20):
            fault = await asyncio.wait_for(fault_of(send(pool, permit(), None)), 10)
            assert fault.kind is FaultKind.UNAVAILABLE
        assert pool.open == 0


@on_both_loops
async def test_a_unix_socket_is_an_origin_as_any(tmp_path: Path) -> None:
    async with upstream(unix=tmp_path / "app.sock") as server, pool_of(server.origin) as pool:
        for _ in range(3):
            assert await fetch(pool, permit("GET", b"/mine")) == (200, b"GET /mine")
        assert server.connections == 1


@on_both_loops
async def test_beyond_the_limit_a_request_is_shed_at_once() -> None:
    hold = asyncio.Event()

    async def play(wire: Wire, request: Request) -> None:
        await hold.wait()
        await good(wire, request)

    async with both(play, max_connections=2) as (server, pool):
        waiting = [asyncio.create_task(fetch(pool)) for _ in range(2)]
        await asyncio.sleep(0)
        started = time.monotonic()
        assert (await fault_of(send(pool, permit(), None))).kind is FaultKind.BUSY  # while the two are connecting
        await until(lambda: len(server.requests) == 2)
        assert (await fault_of(send(pool, permit(), None))).kind is FaultKind.BUSY  # and while they are in use
        assert time.monotonic() - started < 6
        hold.set()
        await asyncio.gather(*waiting)
        assert (await fetch(pool))[0] == 200


@on_both_loops
async def test_a_fault_frees_its_place_at_once() -> None:
    async with both("garbage", max_connections=1) as (_, pool):
        for _ in range(5):
            assert (await fault_of(send(pool, permit(), None))).kind is FaultKind.PROTOCOL


@on_both_loops
async def test_five_faults_of_connecting_open_the_breaker_and_a_probe_closes_it(tmp_path: Path) -> None:
    now = [100.0]
    path = tmp_path / "app.sock"
    async with pool_of(Origin("unix", path=str(path)), SHORT, breaker=lambda: Breaker(lambda: now[0])) as pool:
        for _ in range(5):
            assert (await fault_of(send(pool, permit(), None))).kind is FaultKind.UNAVAILABLE
        async with upstream(unix=path) as server:
            assert (await fault_of(send(pool, permit(), None))).kind is FaultKind.OPEN
            assert server.connections == 0
            now[0] += 2.1
            server.play = says(answer(200, b"ok", b"Connection: close"))
            for _ in range(3):
                assert await fetch(pool) == (200, b"ok")
            assert server.connections == 3


@on_both_loops
async def test_faults_after_connecting_do_not_open_the_breaker() -> None:
    async with both("garbage", breaker=lambda: Breaker(lambda: 100.0)) as (server, pool):
        for _ in range(8):
            assert (await fault_of(send(pool, permit(), None))).kind is FaultKind.PROTOCOL
        assert server.connections == 8


@on_both_loops
async def test_a_closed_pool_opens_nothing() -> None:
    async with upstream() as server, pool_of(server.origin) as pool:
        connecting = asyncio.create_task(send(pool, permit(), None))
        await asyncio.sleep(0)
        await pool.aclose()
        assert (await fault_of(connecting)).kind is FaultKind.UNAVAILABLE
        assert (await fault_of(send(pool, permit(), None))).kind is FaultKind.UNAVAILABLE
        assert server.requests == []


# --- once more ---


def dies_on_second(first: bytes = b"") -> Play:
    """The second request on a connection is answered by these bytes and the end."""
    met: set[int] = set()

    async def play(wire: Wire, request: Request) -> None:
        if wire.number in met:
            await wire.send(first)
            wire.close()
        else:
            met.add(wire.number)
            await good(wire, request)

    return play


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"])
@on_both_loops
async def test_an_idempotent_request_goes_out_again_when_a_kept_connection_was_dead(method: str) -> None:
    async with both(dies_on_second()) as (server, pool):
        await fetch(pool)
        assert (await fetch(pool, permit(method)))[0] == 200
        assert [request.method for request in server.requests] == ["GET", method, method]
        assert (server.connections, pool.retried) == (2, 1)


@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "get"])
@on_both_loops
async def test_no_other_request_goes_out_twice(method: str) -> None:
    async with both(dies_on_second()) as (server, pool):
        await fetch(pool)
        assert (await fault_of(fetch(pool, permit(method)))).kind is FaultKind.UNAVAILABLE
        assert len(server.requests) == 2
        assert (server.connections, pool.retried) == (1, 0)


@pytest.mark.parametrize("complete", [True, False], ids=["in memory", "streamed"])
@on_both_loops
async def test_no_request_with_a_body_goes_out_twice(complete: bool) -> None:
    async with both(dies_on_second()) as (server, pool):
        await fetch(pool)
        body = Upload(b"abc", length=3, complete=complete)
        assert (await fault_of(fetch(pool, permit("PUT"), body))).kind is FaultKind.UNAVAILABLE
        assert (len(server.requests), pool.retried) == (2, 0)


@pytest.mark.parametrize("first", [b"H", b"HTTP/1.1 103 X\r\n\r\n"], ids=["a byte", "an interim answer"])
@on_both_loops
async def test_no_request_goes_out_twice_once_an_answer_began(first: bytes) -> None:
    async with both(dies_on_second(first)) as (server, pool):
        await fetch(pool)
        assert (await fault_of(fetch(pool))).kind is FaultKind.PARTIAL
        assert (len(server.requests), pool.retried) == (2, 0)


@on_both_loops
async def test_no_request_goes_out_twice_on_a_new_connection() -> None:
    async with both("closed_before_answer") as (server, pool):
        assert (await fault_of(fetch(pool))).kind is FaultKind.UNAVAILABLE
        assert (len(server.requests), pool.retried) == (1, 0)


@on_both_loops
async def test_no_request_goes_out_three_times() -> None:
    async with both() as (server, pool):
        await asyncio.gather(*[fetch(pool) for _ in range(5)])
        assert pool.idle == 5
        server.play = FAULTS["closed_before_answer"]
        assert (await fault_of(fetch(pool))).kind is FaultKind.UNAVAILABLE
        assert (len(server.requests), pool.retried) == (7, 1)


@on_both_loops
async def test_a_slow_answer_is_no_reason_to_ask_again() -> None:
    async with both(timeouts=SHORT) as (server, pool):
        await fetch(pool)
        server.play = FAULTS["silent"]
        assert (await fault_of(fetch(pool))).kind is FaultKind.TIMEOUT
        assert (len(server.requests), pool.retried) == (2, 0)


@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "still in the socket"])
@on_both_loops
async def test_any_request_takes_another_connection_when_the_kept_one_has_ended(noticed: bool) -> None:
    """Nothing was sent on it, so nothing is sent twice: a POST may too."""
    closed = threading.Event()

    async def play(wire: Wire, request: Request) -> None:
        await good(wire, request)
        if request.method == "GET":
            wire.close()
            await wire.writer.wait_closed()
            closed.set()

    with upstream_in_thread(play) as server:
        async with pool_of(server.origin) as pool:
            response = await send(pool, permit(), None)
            if noticed:
                await rest(response)
                await until(lambda: pool.open == 0)
            else:
                # the loop stands still from the answer on until the end has come
                response.close()
                assert closed.wait(5)
            body = Upload(b"abc", length=3, complete=True)
            assert await fetch(pool, permit("POST", b"/mine"), body) == (200, b"POST /mine")
            assert (len(server.requests), server.connections, pool.retried) == (2, 2, 0)
