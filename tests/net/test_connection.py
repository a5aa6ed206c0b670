"""One connection and its clock, against a real server that does its worst, on both event loops."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.net.connection import Timeouts
from sidecar.net.pool import Pool
from sidecar.record.reasons import FaultKind
from tests.certificates import pem_of, signed
from tests.net.exchanges import (
    BODY_FAULTS,
    HEAD_FAULTS,
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
from tests.net.hostile_upstream import EVIL, Request, Wire, answer, drips, good, says, upstream

# --- faults of the server ---


@pytest.mark.parametrize(("name", "kind"), HEAD_FAULTS.items(), ids=HEAD_FAULTS)
@on_both_loops
async def test_a_head_that_is_none_is_a_fault_in_time_and_the_connection_is_gone(name: str, kind: FaultKind) -> None:
    async with both(name, SHORT) as (server, pool):
        started = time.monotonic()
        assert (await fault_of(send(pool, permit(), None))).kind is kind
        assert time.monotonic() - started < 6
        assert pool.open == 0
        await until(lambda: server.live == 0)
        server.play = good
        assert await fetch(pool, permit("GET", b"/mine")) == (200, b"GET /mine")
        assert pool.retried == 0


@pytest.mark.parametrize(("name", "kind"), BODY_FAULTS.items(), ids=BODY_FAULTS)
@on_both_loops
async def test_a_body_that_does_not_end_is_a_fault_and_never_looks_whole(name: str, kind: FaultKind) -> None:
    async with both(name, SHORT) as (server, pool):
        response = await send(pool, permit(), None)
        assert response.status == 200
        assert (await fault_of(rest(response))).kind is kind
        assert pool.open == 0
        await until(lambda: server.live == 0)


@on_both_loops
async def test_one_deadline_covers_interim_answers_too() -> None:
    async with both(says(*[b"HTTP/1.1 103 X\r\n\r\n"] * 300, pause=0.05), SHORT) as (_, pool):
        started = time.monotonic()
        assert (await fault_of(send(pool, permit(), None))).kind is FaultKind.TIMEOUT
        assert time.monotonic() - started < 6


@on_both_loops
async def test_a_slow_answer_may_take_its_time_between_two_pieces() -> None:
    """Six pieces in longer than the idle time; each in less."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
    async with both(says(head, *[b"x"] * 6, pause=0.2), Timeouts(idle=1.0)) as (_, pool):
        assert await fetch(pool) == (200, b"xxxxxx")


@pytest.mark.parametrize("count", [1, 10])
@on_both_loops
async def test_interim_answers_are_skipped(count: int) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with both(says(early * count, answer(200, b"late"))) as (server, pool):
        for _ in range(2):
            assert await fetch(pool) == (200, b"late")
        assert server.connections == 1


@on_both_loops
async def test_a_body_that_ends_with_the_connection_is_whole() -> None:
    async with both(says(b"HTTP/1.1 200 OK\r\n\r\nall", b" of it", then_close=True)) as (server, pool):
        response = await send(pool, permit(), None)
        assert response.length is None
        assert await rest(response) == b"all of it"
        assert pool.open == 0
        assert server.connections == 1


@on_both_loops
async def test_a_reset_is_not_the_end_of_a_body() -> None:
    async def play(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\n\r\nall of it?")
        await asyncio.sleep(0.05)
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        wire.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        wire.writer.transport.abort()

    async with both(play) as (_, pool):
        response = await send(pool, permit(), None)
        assert await response.read() == b"all of it?"
        assert (await fault_of(rest(response))).kind is FaultKind.PARTIAL


@on_both_loops
async def test_events_are_passed_on_one_by_one() -> None:
    """Each event is sent only after the one before it was received."""
    received = asyncio.Event()

    async def play(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(5):
            await wire.send(b"8\r\ndata: %d\n\r\n" % number)
            await received.wait()
            received.clear()
        await wire.send(b"0\r\n\r\n")

    async with both(play) as (server, pool):
        response = await send(pool, permit(), None)
        for number in range(5):
            assert await asyncio.wait_for(response.read(), 10) == b"data: %d\n" % number
            received.set()
        assert await response.read() == b""
        assert (server.connections, pool.idle) == (1, 1)


@on_both_loops
async def test_one_timer_serves_deadlines_in_any_order() -> None:
    loop = asyncio.get_running_loop()

    async def one(pool: Pool[Any], seconds: float, ended: list[tuple[float, float]], late: list[float]) -> None:
        started = time.monotonic()
        loop.call_later(seconds, lambda: late.append(time.monotonic() - started - seconds))
        assert (await fault_of(send(pool, permit(), None))).kind is FaultKind.TIMEOUT
        # uvloop counts in whole milliseconds
        assert time.monotonic() - started >= seconds - 0.001
        ended.append((started + seconds, seconds))

    for _ in range(20):
        ended: list[tuple[float, float]] = []
        late: list[float] = []
        async with both("silent", timeouts=Timeouts(head=5.0)) as (server, pool):
            tasks = []
            for number, seconds in enumerate((0.9, 0.3, 0.6, 0.3), 1):
                pool.timeouts = Timeouts(head=seconds)
                tasks.append(asyncio.ensure_future(one(pool, seconds, ended, late)))
                # it takes the time as it waits for an answer
                await until(lambda number=number: server.live == number)  # type: ignore[misc]
                await asyncio.sleep(0.05)
            await asyncio.gather(*tasks)
        assert sorted(seconds for _, seconds in ended) == [0.3, 0.3, 0.6, 0.9]
        # a loop that is late itself, as on a busy machine, ends what is due by then in any order
        if max(late) < 0.03:
            assert ended == sorted(ended)
            return
    raise AssertionError("the loop was late each time")


# --- TLS ---


@pytest.fixture(scope="module")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A CA of our own, a certificate for 127.0.0.1 and one for another name."""
    folder = tmp_path_factory.mktemp("tls")
    ca_key = ec.generate_private_key(ec.SECP256R1())
    files = {"ca": folder / "ca.pem"}
    files["ca"].write_bytes(signed("ca.test", ca_key, "ca.test", ca_key, None))
    for name, alternative in (
        ("right", x509.IPAddress(ipaddress.ip_address("127.0.0.1"))),
        ("wrong", x509.DNSName("other.test")),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        files[name] = folder / f"{name}.pem"
        files[name].write_bytes(pem_of(key) + signed("server.test", key, "ca.test", ca_key, alternative))
    return files


def server_tls(file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@on_both_loops
async def test_tls_keeps_its_connections_and_carries_both_ways(tls_files: dict[str, Path]) -> None:
    context = ssl.create_default_context(cafile=str(tls_files["ca"]))
    async with upstream(tls=server_tls(tls_files["right"])) as server, pool_of(server.origin, tls=context) as pool:
        for _ in range(5):
            assert await fetch(pool, permit("GET", b"/mine")) == (200, b"GET /mine")
        body = Upload(*[b"x" * 100_000] * 20, length=2_000_000)
        assert await fetch(pool, permit("POST", b"/up"), body) == (200, b"POST /up")
        assert server.connections == 1


@pytest.mark.parametrize(("server_file", "trusted"), [("wrong", True), ("right", False)], ids=["name", "CA"])
@on_both_loops
async def test_a_certificate_of_another_name_or_ca_is_refused(
    tls_files: dict[str, Path], server_file: str, trusted: bool
) -> None:
    context = ssl.create_default_context(cafile=str(tls_files["ca"]) if trusted else None)
    async with upstream(tls=server_tls(tls_files[server_file])) as server, pool_of(server.origin, tls=context) as pool:
        fault = await fault_of(send(pool, permit(), None))
        assert fault.kind is FaultKind.UNAVAILABLE
        assert "ertificate" in fault.detail
        assert server.requests == []


@pytest.mark.parametrize("in_order", [True, False], ids=["closure alert", "cut"])
@on_both_loops
async def test_over_tls_only_the_servers_own_end_ends_a_body(tls_files: dict[str, Path], in_order: bool) -> None:
    """Whoever is on the way can cut the connection, and must not be able to make a part look like the whole."""

    async def play(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        await asyncio.sleep(0.02)
        if in_order:
            wire.close()
        else:
            wire.writer.transport.abort()
        await wire.gone()

    context = ssl.create_default_context(cafile=str(tls_files["ca"]))
    tls = server_tls(tls_files["right"])
    async with upstream(play, tls=tls) as server, pool_of(server.origin, tls=context) as pool:
        response = await send(pool, permit(), None)
        if in_order:
            assert await rest(response) == b"all of it"
        else:
            assert (await fault_of(rest(response))).kind is FaultKind.PARTIAL


# --- uploads ---


async def collect(wire: Wire, request: Request) -> None:
    """Answer with the body that came."""
    await wire.send(answer(200, await wire.whole_body(request)))


async def echo(wire: Wire, request: Request) -> None:
    """Answer with each piece as it comes."""
    await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    async for piece in wire.body(request):
        await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    await wire.send(b"0\r\n\r\n")


PIECES = (b"one", b"two\r\n", b"0\r\n\r\n", b"x" * 100_000)


WHOLE = b"".join(PIECES)


@on_both_loops
async def test_a_simple_request_costs_no_task_and_leaves_no_timer() -> None:
    async with both() as (_, pool):
        await fetch(pool)
        made: list[object] = []

        def factory(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
            made.append(work)
            return asyncio.Task(work, loop=loop, **options)

        asyncio.get_running_loop().set_task_factory(factory)
        for body in (None, Upload(b"abc", length=3, complete=True), Upload(b"abc", complete=True)):
            assert (await fetch(pool, permit("POST"), body))[0] == 200
        asyncio.get_running_loop().set_task_factory(None)
        assert made == []


@pytest.mark.parametrize("length", [len(WHOLE), None], ids=["length", "chunked"])
@pytest.mark.parametrize("complete", [True, False], ids=["in memory", "streamed"])
@on_both_loops
async def test_a_body_arrives_whole_in_one_framing_and_the_connection_is_kept(
    length: int | None, complete: bool
) -> None:
    async with both(collect) as (server, pool):
        for _ in range(3):
            pieces = PIECES if complete else (PIECES[0], 0.01, *PIECES[1:], 0.01)
            body = Upload(*pieces, length=length, complete=complete)
            assert await fetch(pool, permit("POST"), body) == (200, WHOLE)
        assert server.connections == 1
        framings = [server.requests[0].header(name) for name in ("content-length", "transfer-encoding")]
        assert framings == ([[str(length)], []] if length else [[], ["chunked"]])


@pytest.mark.parametrize("complete", [True, False], ids=["in memory", "streamed"])
@on_both_loops
async def test_an_empty_body_has_a_framing_too(complete: bool) -> None:
    async with both(collect) as (server, pool):
        assert await fetch(pool, permit("POST"), Upload(length=0, complete=complete)) == (200, b"")
        assert await fetch(pool, permit("POST"), Upload(complete=complete)) == (200, b"")
        assert server.requests[0].header("content-length") == ["0"]
        assert server.requests[1].header("transfer-encoding") == ["chunked"]


@on_both_loops
async def test_answer_and_request_stream_at_the_same_time() -> None:
    """Each piece is sent only after the echo of the one before it was read."""
    turns = [asyncio.Event() for _ in range(4)]
    body = Upload(b"a", turns[0], b"b", turns[1], b"c", turns[2])
    async with both(echo) as (server, pool):
        response = await send(pool, permit("POST"), body)
        assert not response.request_done
        for turn, piece in zip(turns, (b"a", b"b", b"c"), strict=False):
            assert await asyncio.wait_for(response.read(), 10) == piece
            turn.set()
        assert await rest(response) == b""
        assert (server.connections, pool.idle) == (1, 1)


@on_both_loops
async def test_an_early_answer_is_had_before_the_upload_has_ended_and_costs_the_connection() -> None:
    async def play(wire: Wire, request: Request) -> None:
        await wire.send(answer(413, b"too much"))
        await wire.whole_body(request)

    never = asyncio.Event()
    async with both(play) as (server, pool):
        body = Upload(b"x" * 1000, never, length=10**9)
        response = await send(pool, permit("POST"), body)
        assert (response.status, response.request_done) == (413, False)
        assert await rest(response) == b"too much"
        assert pool.open == 0
        await until(lambda: body.released)
        await until(lambda: server.live == 0)
        assert server.broken_off == 1


@on_both_loops
async def test_an_early_answer_is_whole_although_the_server_stops_reading_and_closes() -> None:
    async def play(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 401 X\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
        wire.writer.write_eof()
        await wire.gone()

    async with both(play) as (_, pool):
        response = await send(pool, permit("POST"), Upload(b"x", 0.05, *[b"y" * 100_000, 0.001] * 50))
        await until(lambda: pool.open == 0)
        await asyncio.sleep(0.05)  # the upload notices
        assert await rest(response) == b"no"


@on_both_loops
async def test_a_server_that_answered_without_reading_is_not_asked_again_on_that_connection() -> None:
    """All of the body was given to the transport, which could not pass it on."""

    async def play(wire: Wire, request: Request) -> None:
        await wire.send(answer(413, b"too much"))
        await asyncio.sleep(1)

    async with both(play) as (server, pool):
        size = 20_000_000
        body = Upload(b"x" * size, length=size, complete=True)
        assert await fetch(pool, permit("POST"), body) == (413, b"too much")
        assert (pool.open, pool.idle, server.connections) == (0, 0, 1)


@pytest.mark.parametrize("length", [10**6, None], ids=["length", "chunked"])
@on_both_loops
async def test_a_client_that_leaves_leaves_an_incomplete_body(length: int | None) -> None:
    class Gone(Exception):
        pass

    seen: list[bytes] = []

    async def play(wire: Wire, request: Request) -> None:
        async for piece in wire.body(request):
            seen.append(piece)
        seen.append(b"whole")

    async with both(play) as (server, pool):
        with pytest.raises(Gone):
            await send(pool, permit("POST"), Upload(b"abc", 0.05, Gone(), length=length))
        assert pool.open == 0
        await until(lambda: server.broken_off == 1)
        assert seen == [b"abc"]


@on_both_loops
async def test_an_upload_that_is_cancelled_is_a_fault_and_not_a_wait() -> None:
    async with both("silent") as (server, pool):
        body = Upload(b"abc", 0.01, asyncio.CancelledError(), length=9)
        fault = await asyncio.wait_for(fault_of(send(pool, permit("POST"), body)), 10)
        assert fault.kind is FaultKind.PARTIAL
        await until(lambda: server.live == 0)


@pytest.mark.parametrize("complete", [True, False], ids=["in memory", "streamed"])
@pytest.mark.parametrize(
    "pieces", [(b"ab", b"c" + EVIL), (b"abc" + EVIL,), (b"ab",), ()], ids=["more", "longer", "shorter", "none"]
)
@on_both_loops
async def test_a_body_of_another_length_than_announced_is_a_fault(complete: bool, pieces: tuple[bytes, ...]) -> None:
    async with both() as (server, pool):
        body = Upload(*pieces, length=3, complete=complete)
        assert (await fault_of(fetch(pool, permit("POST"), body))).kind is FaultKind.PARTIAL
        assert pool.open == 0
        await until(lambda: server.live == 0)
        assert len(server.requests) <= 1  # no byte too many went out, to be read as one more request


@on_both_loops
async def test_nothing_is_sent_behind_the_length_that_was_announced() -> None:
    async with both(collect) as (server, pool):
        smuggled = b"GET /smuggled HTTP/1.1\r\n\r\n"
        assert await fetch(pool, permit("POST"), Upload(b"abc", smuggled, length=3)) == (200, b"abc")
        assert await fetch(pool, permit("GET", b"/mine")) == (200, b"")
        assert [request.method for request in server.requests] == ["POST", "GET"]


@on_both_loops
async def test_the_head_may_take_as_long_as_the_upload_moves() -> None:
    async with both(collect, SHORT) as (_, pool):
        assert await fetch(pool, permit("POST"), Upload(*[b"x", 0.1] * 8)) == (200, b"x" * 8)


@on_both_loops
async def test_a_body_may_pause_as_long_as_the_upload_moves() -> None:
    async def play(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        await wire.whole_body(request)
        await wire.send(b"done")

    async with both(play, SHORT) as (_, pool):
        assert await fetch(pool, permit("POST"), Upload(*[b"x", 0.1] * 8)) == (200, b"done")


@on_both_loops
async def test_an_upload_that_does_not_move_is_a_timeout_even_if_the_head_drips() -> None:
    async def play(wire: Wire, request: Request) -> None:
        await drips(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200, 0.05)(wire, Request(1, "GET", "/", [], b""))

    async with both(play, SHORT) as (_, pool):
        started = time.monotonic()
        fault = await fault_of(send(pool, permit("POST"), Upload(b"x", asyncio.Event(), length=9)))
        assert fault.kind is FaultKind.TIMEOUT
        assert time.monotonic() - started < 6


# --- back-pressure ---


@on_both_loops
async def test_a_server_that_does_not_read_stops_the_upload() -> None:
    async with both("silent") as (server, pool):

        async def mute(wire: Wire, request: Request) -> None:
            await asyncio.sleep(30)

        server.play = mute
        body = Upload(*[b"x" * 65536] * 2000, length=2000 * 65536)
        task = asyncio.create_task(send(pool, permit("POST"), body))
        await until(lambda: body.taken > 0)
        await _settled(lambda: body.taken)
        assert body.taken < 32 * 1024 * 1024  # what sockets hold, of 128 MiB
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@on_both_loops
async def test_a_client_that_does_not_read_stops_the_download() -> None:
    sent = [0]

    async def play(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2000 * 65536))
        for _ in range(2000):
            await wire.send(b"x" * 65536)
            sent[0] += 65536

    async with both(play) as (_, pool):
        response = await send(pool, permit(), None)
        await _settled(lambda: sent[0])
        stopped = sent[0]
        assert stopped < 32 * 1024 * 1024
        assert len(await response.read()) < 1024 * 1024  # what was held here
        assert len(await rest(response)) > 100 * 1024 * 1024
        assert sent[0] == 2000 * 65536
        assert pool.idle == 1


async def _settled(figure: Callable[[], int]) -> None:
    """Wait until a figure has stood still for a while."""
    last = -1
    while figure() != last:
        last = figure()
        await asyncio.sleep(0.1)


# --- clients that leave ---


@pytest.mark.parametrize("body", [False, True], ids=["GET", "upload"])
@on_both_loops
async def test_cancelling_closes_the_upstreams_connection_at_once(body: bool) -> None:
    async with both("silent") as (server, pool):
        upload = Upload(b"x", asyncio.Event()) if body else None
        task = asyncio.create_task(send(pool, permit("POST" if body else "GET"), upload))
        await until(lambda: len(server.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.open == 0
        await asyncio.wait_for(until(lambda: server.live == 0), 8)
        assert upload is None or upload.released


@on_both_loops
async def test_cancelling_while_the_body_comes_closes_it_too() -> None:
    async with both("stalled_body") as (server, pool):
        task = asyncio.create_task(fetch(pool))
        await until(lambda: len(server.requests) == 1)
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pool.open == 0
        await asyncio.wait_for(until(lambda: server.live == 0), 8)


@on_both_loops
async def test_cancelling_many_at_any_moment_leaks_nothing_and_harms_nobody() -> None:
    async with both(max_connections=50) as (server, pool):
        for turn in range(60):
            tasks = [asyncio.create_task(fetch(pool)) for _ in range(10)]
            for _ in range(turn % 12):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(result, asyncio.CancelledError) or (isinstance(result, tuple) and result[0] == 200)
        assert await fetch(pool, permit("GET", b"/mine")) == (200, b"GET /mine")
        assert pool.open == pool.idle
        await until(lambda: server.live == pool.open)
