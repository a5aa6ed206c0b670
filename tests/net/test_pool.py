"""The connections to the upstream, against a real server that does its worst, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import ipaddress
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.gate.codes import Ground
from sidecar.gate.verdict import Facts, Forward
from sidecar.net.breaker import Breaker
from sidecar.net.pool import Fault, FaultKind, Origin, Pool, Response, Timeouts
from tests.certificates import pem_of, signed
from tests.net.hostile_upstream import (
    EVIL,
    FAULTS,
    POISONS,
    Play,
    Request,
    Upstream,
    Wire,
    answer,
    chunked,
    drips,
    good,
    says,
    unique_target,
    upstream,
    upstream_in_thread,
)

SHORT = Timeouts(connect=0.3, head=0.3, idle=0.3)


NewLoop = Callable[[], asyncio.AbstractEventLoop]


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test on the standard library's event loop, and on the one that the sidecar uses."""

    def run(new_loop: NewLoop, **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(**arguments))

    parameters = [inspect.Parameter("new_loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    run.__signature__ = inspect.Signature([*parameters, *inspect.signature(test).parameters.values()])  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    marked: Callable[..., None] = pytest.mark.parametrize("new_loop", loops, ids=["asyncio", "uvloop"])(run)
    return marked


# --- what a client does ---


def permit(method: str = "GET", target: bytes | None = None) -> Forward:
    headers = ((b"host", b"app.test"), (b"x-auth-subject", b"alice"))
    return Forward(method.encode(), target or unique_target(), headers, Ground.ALLOWED, Facts("id", method, "/"))


class Upload:
    """A request's body: pieces, and in between seconds to wait, futures to await or errors to raise."""

    def __init__(self, *pieces: object, length: int | None = None, complete: bool = False) -> None:
        self.length = length
        self.complete = complete
        self.taken = 0
        self.released = False  # whether a read that waited was cancelled
        self._pieces = list(pieces)

    async def read(self) -> bytes:
        while self._pieces:
            piece = self._pieces.pop(0)
            if isinstance(piece, bytes):
                self.taken += len(piece)
                return piece
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            elif isinstance(piece, BaseException):
                raise piece
            elif isinstance(piece, asyncio.Event):
                try:
                    await piece.wait()
                except asyncio.CancelledError:
                    self.released = True
                    raise
        return b""


async def rest(response: Response) -> bytes:
    parts = []
    try:
        while data := await response.read():
            parts.append(data)
    finally:
        response.close()
    return b"".join(parts)


async def fetch(pool: Pool, allowed: Forward | None = None, body: Upload | None = None) -> tuple[int, bytes]:
    response = await pool.send(allowed or permit(), body)
    return response.status, await rest(response)


async def fault_of(action: Awaitable[object]) -> Fault:
    with pytest.raises(Fault) as raised:
        await action
    return raised.value


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def pool_of(origin: Origin, timeouts: Timeouts | None = None, **options: Any) -> AsyncIterator[Pool]:
    pool = Pool(origin, timeouts=timeouts, **options)
    tasks = asyncio.all_tasks()
    try:
        yield pool
    finally:
        await pool.aclose()
        assert (pool.open, pool.idle) == (0, 0)
        # nothing of the pool's own may outlive it; the server's tasks are the server's
        assert not {task for task in asyncio.all_tasks() - tasks if "upload" in repr(task.get_coro())}


@contextlib.asynccontextmanager
async def both(
    play: Play | str = "none", timeouts: Timeouts | None = None, **options: Any
) -> AsyncIterator[tuple[Upstream, Pool]]:
    async with upstream(play) as server, pool_of(server.origin, timeouts, **options) as pool:
        yield server, pool


# --- where a server is ---


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
async def test_only_so_many_unused_connections_are_kept_and_not_for_ever() -> None:
    async with both(max_idle=2, idle_lifetime=0.2) as (server, pool):
        await asyncio.gather(*[fetch(pool) for _ in range(5)])
        assert server.connections == 5
        assert (pool.open, pool.idle) == (2, 2)
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
            response = await pool.send(permit(), None)
            assert response.complete
            response.close()
            response.close()
        assert await fetch(pool, permit("GET", b"/mine")) == (200, b"GET /mine")
        assert server.connections == 1


@on_both_loops
async def test_an_abandoned_answer_closes_the_connection() -> None:
    async with both("stalled_body") as (server, pool):
        response = await pool.send(permit(), None)
        assert not response.complete
        response.close()
        assert pool.open == 0
        await until(lambda: server.live == 0)
        assert await response.read() == b""


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


# --- poison: bytes that would be taken for the next answer ---


async def poisoned(pool: Pool, method: str, shape: str) -> None:
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
        response = await pool.send(permit("GET", target), None)
        await until(lambda: pool.residual == 1)
        assert await rest(response) == b"GET " + target
        assert pool.open == 0
        assert server.connections == 1


MIX = [
    "none", "none", "none", "none", *POISONS, "closed_before_answer", "closed_after_answer", "garbage",
    "truncated_length", "no_last_chunk", "broken_chunk", "unsolicited_101", "status_600", "two_lengths",
]  # fmt: skip


def interleaved(turns: int) -> tuple[Counter[str], Pool]:
    """A hundred users with so many requests each, on shared connections to a hostile upstream: what each was told.

    Raises AssertionError for an answer that is not its user's own.
    """
    told: Counter[str] = Counter()

    async def user(pool: Pool, number: int) -> None:
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

    async def everybody() -> Pool:
        patient = Timeouts(connect=60.0, head=60.0, idle=60.0)  # a busy machine is no fault of the upstream
        async with both("by_target", patient) as (_, pool), asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(user(pool, number))
        return pool

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return told, runner.run(everybody())


@pytest.mark.slow
def test_a_hundred_users_of_a_hostile_upstream_get_their_own_answer_or_a_fault() -> None:
    """20,000 requests, interleaved, on shared connections; `make fuzz` sends a million."""
    told, pool = interleaved(200)
    assert sum(told.values()) == 20_000
    assert {name for name in told if "fault" in name} == {
        "fault unavailable of closed_before_answer",
        "fault partial of truncated_length",
        "fault partial of no_last_chunk",
        *(f"fault protocol of {shape}" for shape in MIX if HEAD_FAULTS.get(shape) is FaultKind.PROTOCOL),
        "fault protocol of broken_chunk",
    }
    assert pool.residual > 1_000
    assert pool.reused > 1_000


# --- faults of the upstream ---

HEAD_FAULTS = {
    "closed_before_answer": FaultKind.UNAVAILABLE,
    "silent": FaultKind.TIMEOUT,
    "drip_head": FaultKind.TIMEOUT,
    "truncated_head": FaultKind.PARTIAL,
    "status_199": FaultKind.PARTIAL,  # one more interim answer, and then none
    "garbage": FaultKind.PROTOCOL,
    "two_framings": FaultKind.PROTOCOL,
    "two_lengths": FaultKind.PROTOCOL,
    "unsolicited_101": FaultKind.PROTOCOL,
    "status_600": FaultKind.PROTOCOL,
    "status_999": FaultKind.PROTOCOL,
    "long_head": FaultKind.PROTOCOL,
    "many_interims": FaultKind.PROTOCOL,
}
BODY_FAULTS = {
    "truncated_length": FaultKind.PARTIAL,
    "truncated_chunk": FaultKind.PARTIAL,
    "no_last_chunk": FaultKind.PARTIAL,
    "stalled_body": FaultKind.TIMEOUT,
    "broken_chunk": FaultKind.PROTOCOL,
}


@pytest.mark.parametrize(("name", "kind"), HEAD_FAULTS.items(), ids=HEAD_FAULTS)
@on_both_loops
async def test_a_head_that_is_none_is_a_fault_in_time_and_the_connection_is_gone(name: str, kind: FaultKind) -> None:
    async with both(name, SHORT) as (server, pool):
        started = time.monotonic()
        assert (await fault_of(pool.send(permit(), None))).kind is kind
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
        response = await pool.send(permit(), None)
        assert response.status == 200
        assert (await fault_of(rest(response))).kind is kind
        assert pool.open == 0
        await until(lambda: server.live == 0)


@on_both_loops
async def test_one_deadline_covers_interim_answers_too() -> None:
    async with both(says(*[b"HTTP/1.1 103 X\r\n\r\n"] * 300, pause=0.05), SHORT) as (_, pool):
        started = time.monotonic()
        assert (await fault_of(pool.send(permit(), None))).kind is FaultKind.TIMEOUT
        assert time.monotonic() - started < 6


@on_both_loops
async def test_a_slow_answer_may_take_its_time_between_two_pieces() -> None:
    """Six pieces in longer than the idle time; each in less."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
    async with both(says(head, *[b"x"] * 6, pause=0.1), SHORT) as (_, pool):
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
        response = await pool.send(permit(), None)
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
        response = await pool.send(permit(), None)
        assert await response.read() == b"all of it?"
        assert (await fault_of(rest(response))).kind is FaultKind.PARTIAL


@on_both_loops
async def test_answers_are_cleaned_and_their_length_is_told() -> None:
    play = says(
        answer(
            200, b"ok", b"Connection: X-Hop", b"X-Hop: 1", b"X_Auth_Subject: eve", b"X-A: b",
            b"Set-Cookie: __Host-session.0=evil", b"Set-Cookie: mine=1",
        )
    )  # fmt: skip
    async with both(play) as (_, pool):
        response = await pool.send(permit(), None)
        assert response.headers == [(b"x-a", b"b"), (b"set-cookie", b"mine=1")]
        assert response.length == 2
        assert await rest(response) == b"ok"


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
        response = await pool.send(permit(), None)
        for number in range(5):
            assert await asyncio.wait_for(response.read(), 10) == b"data: %d\n" % number
            received.set()
        assert await response.read() == b""
        assert (server.connections, pool.idle) == (1, 1)


# --- connecting ---


@on_both_loops
async def test_what_prevents_a_connection_is_unavailable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for origin in (
        Origin("http", "127.0.0.1", port),
        Origin("https", "127.0.0.1", port),
        Origin("http", "no..such..host", 80),
        Origin("unix", path=str(tmp_path / "none.sock")),
        Origin("unix", path=str(tmp_path / ("x" * 200))),
    ):
        async with pool_of(origin, SHORT) as pool:
            assert (await fault_of(pool.send(permit(), None))).kind is FaultKind.UNAVAILABLE
            assert (await fault_of(pool.get(b"/", (), max_body=9, deadline=1))).kind is FaultKind.UNAVAILABLE


@on_both_loops
async def test_a_handshake_that_nobody_answers_is_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with pool_of(Origin("https", "127.0.0.1", mute.getsockname()[1]), SHORT) as pool:
            started = time.monotonic()
            assert (await fault_of(pool.send(permit(), None))).kind is FaultKind.TIMEOUT
            assert time.monotonic() - started < 6
            task = asyncio.create_task(pool.send(permit(), None))
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
            fault = await asyncio.wait_for(fault_of(pool.send(permit(), None)), 10)
            assert fault.kind is FaultKind.UNAVAILABLE
        assert pool.open == 0


@on_both_loops
async def test_a_unix_socket_is_an_origin_as_any(tmp_path: Path) -> None:
    async with upstream(unix=tmp_path / "app.sock") as server, pool_of(server.origin) as pool:
        for _ in range(3):
            assert await fetch(pool, permit("GET", b"/mine")) == (200, b"GET /mine")
        assert server.connections == 1
        answered = await pool.get(b"/hook", (), max_body=99, deadline=2)
        assert answered.body == b"GET /hook"
        assert server.requests[-1].header("host") == ["localhost"]


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
        assert (await fault_of(pool.send(permit(), None))).kind is FaultKind.BUSY  # while the two are connecting
        await until(lambda: len(server.requests) == 2)
        assert (await fault_of(pool.send(permit(), None))).kind is FaultKind.BUSY  # and while they are in use
        assert time.monotonic() - started < 6
        hold.set()
        await asyncio.gather(*waiting)
        assert (await fetch(pool))[0] == 200


def permit_of(owner: str) -> Forward:
    made = permit()
    return Forward(made.method, made.target, made.headers, made.ground, Facts("id", "GET", "/", principal=owner))


@on_both_loops
async def test_one_owner_gets_as_many_connections_as_are_free() -> None:
    """Those that are being opened are counted too."""
    hold = asyncio.Event()

    async def play(wire: Wire, request: Request) -> None:
        await hold.wait()
        await good(wire, request)

    async def ask(owner: str) -> int:
        response = await pool.send(permit_of(owner), None)
        await rest(response)
        return response.status

    async with both(play, max_connections=12, owners=lambda permit: (permit.facts.principal,)) as (_, pool):
        tasks = [asyncio.create_task(ask("alice")) for _ in range(12)]
        await until(lambda: sum(task.done() for task in tasks) == 6)
        assert {task.exception().kind for task in tasks if task.done()} == {FaultKind.BUSY}  # type: ignore[union-attr]
        others = [asyncio.create_task(ask("bob")) for _ in range(4)]
        await until(lambda: sum(task.done() for task in others) == 1)
        assert (await fault_of(pool.upgrade(permit_of("bob"), OFFER))).kind is FaultKind.BUSY
        hold.set()
        answers = await asyncio.gather(*tasks, *others, return_exceptions=True)
        assert answers.count(200) == 9
        assert await ask("alice") == 200


@on_both_loops
async def test_a_fault_frees_its_place_at_once() -> None:
    async with both("garbage", max_connections=1) as (_, pool):
        for _ in range(5):
            assert (await fault_of(pool.send(permit(), None))).kind is FaultKind.PROTOCOL


@on_both_loops
async def test_five_faults_of_connecting_open_the_breaker_and_a_probe_closes_it(tmp_path: Path) -> None:
    now = [100.0]
    path = tmp_path / "app.sock"
    async with pool_of(Origin("unix", path=str(path)), SHORT, breaker=Breaker(lambda: now[0])) as pool:
        for _ in range(5):
            assert (await fault_of(pool.send(permit(), None))).kind is FaultKind.UNAVAILABLE
        async with upstream(unix=path) as server:
            assert (await fault_of(pool.send(permit(), None))).kind is FaultKind.OPEN
            assert server.connections == 0
            now[0] += 2.1
            server.play = says(answer(200, b"ok", b"Connection: close"))
            for _ in range(3):
                assert await fetch(pool) == (200, b"ok")
            assert server.connections == 3


@on_both_loops
async def test_faults_after_connecting_do_not_open_the_breaker() -> None:
    async with both("garbage", breaker=Breaker(lambda: 100.0)) as (server, pool):
        for _ in range(8):
            assert (await fault_of(pool.send(permit(), None))).kind is FaultKind.PROTOCOL
        assert server.connections == 8


@on_both_loops
async def test_a_closed_pool_opens_nothing() -> None:
    async with upstream() as server, pool_of(server.origin) as pool:
        connecting = asyncio.create_task(pool.send(permit(), None))
        await asyncio.sleep(0)
        await pool.aclose()
        assert (await fault_of(connecting)).kind is FaultKind.UNAVAILABLE
        assert (await fault_of(pool.send(permit(), None))).kind is FaultKind.UNAVAILABLE
        assert server.requests == []


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
        fault = await fault_of(pool.send(permit(), None))
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
        response = await pool.send(permit(), None)
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
        response = await pool.send(permit("POST"), body)
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
        response = await pool.send(permit("POST"), body)
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
        response = await pool.send(permit("POST"), Upload(b"x", 0.05, *[b"y" * 100_000, 0.001] * 50))
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
            await pool.send(permit("POST"), Upload(b"abc", 0.05, Gone(), length=length))
        assert pool.open == 0
        await until(lambda: server.broken_off == 1)
        assert seen == [b"abc"]


@on_both_loops
async def test_an_upload_that_is_cancelled_is_a_fault_and_not_a_wait() -> None:
    async with both("silent") as (server, pool):
        body = Upload(b"abc", 0.01, asyncio.CancelledError(), length=9)
        fault = await asyncio.wait_for(fault_of(pool.send(permit("POST"), body)), 10)
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
        fault = await fault_of(pool.send(permit("POST"), Upload(b"x", asyncio.Event(), length=9)))
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
        task = asyncio.create_task(pool.send(permit("POST"), body))
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
        response = await pool.send(permit(), None)
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
        task = asyncio.create_task(pool.send(permit("POST" if body else "GET"), upload))
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
            response = await pool.send(permit(), None)
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


# --- the lookup hook ---


@on_both_loops
async def test_a_hook_is_asked_within_its_limits() -> None:
    async with both(says(answer(200, b"{}", b"Content-Type: application/json", b"Set-Cookie: a=b"))) as (server, pool):
        for _ in range(3):
            told = await pool.get(b"/contacts/7", [(b"accept", b"application/json")], max_body=2, deadline=2)
            assert (told.status, told.body) == (200, b"{}")
            assert (b"content-type", b"application/json") in told.headers
        port = server.origin.port
        assert server.requests[-1].head == (
            b"GET /contacts/7 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: application/json\r\n\r\n" % port
        )
        assert server.connections == 1


@on_both_loops
async def test_a_body_is_posted_within_the_same_limits_and_never_twice() -> None:
    async with both(good) as (server, pool):
        for _ in range(2):
            told = await pool.post(b"/mine", [(b"content-type", b"application/json")], b"{}", max_body=99, deadline=2)
            assert (told.status, told.body) == (200, b"POST /mine")
        port = server.origin.port
        assert server.requests[-1].head == (
            b"POST /mine HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
            b"content-length: 2\r\n\r\n" % port
        )
        assert server.connections == 1
        asked = len(server.requests)
        server.play = closes_unanswered
        fault = await fault_of(pool.post(b"/mine", (), b"{}", max_body=99, deadline=2))
        assert (fault.kind, len(server.requests), pool.retried) == (FaultKind.UNAVAILABLE, asked + 1, 0)


async def closes_unanswered(wire: Wire, _: Request) -> None:
    wire.close()


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (answer(200, b"abc"), b"abc"),
        (answer(200, b"abcd"), None),
        (chunked(b"a", b"bc"), b"abc"),
        (chunked(b"ab", b"cd"), None),
        (answer(200, b"abc", b"Content-Encoding: identity"), b"abc"),
        (answer(200, b"abc", b"Content-Encoding: gzip"), None),
        (answer(200, b"", b"Content-Encoding: br"), None),
        (answer(200, b"a", b"Content-Encoding: identity", b"Content-Encoding: gzip"), None),
    ],
)
@on_both_loops
async def test_a_hooks_body_is_short_and_not_encoded(wire: bytes, expected: bytes | None) -> None:
    async with both(says(wire)) as (_, pool):
        asked = pool.get(b"/", (), max_body=3, deadline=2)
        if expected is None:
            assert (await fault_of(asked)).kind is FaultKind.PROTOCOL
        else:
            assert (await asked).body == expected


@on_both_loops
async def test_a_hooks_endless_body_is_cut_at_the_limit() -> None:
    async def play(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await wire.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")

    async with both(play) as (server, pool):
        assert (await fault_of(pool.get(b"/", (), max_body=65536, deadline=5))).kind is FaultKind.PROTOCOL
        await until(lambda: server.live == 0)


@pytest.mark.parametrize(
    "play",
    [
        FAULTS["silent"],
        FAULTS["drip_head"],
        FAULTS["stalled_body"],
        drips(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"x" * 500, 0.02),
    ],
    ids=["silent", "head drips", "stalled", "all drips"],
)
@on_both_loops
async def test_one_deadline_covers_the_whole_exchange_with_a_hook(play: Play) -> None:
    async with both(play) as (server, pool):
        started = time.monotonic()
        assert (await fault_of(pool.get(b"/", (), max_body=999, deadline=0.3))).kind is FaultKind.TIMEOUT
        assert time.monotonic() - started < 6
        assert pool.open == 0
        await until(lambda: server.live == 0)


@on_both_loops
async def test_a_hooks_redirect_is_an_answer_and_its_truncation_a_fault() -> None:
    async with both(says(answer(302, b"", b"Location: http://127.0.0.1:1/"))) as (server, pool):
        assert (await pool.get(b"/", (), max_body=9, deadline=2)).status == 302
        assert len(server.requests) == 1
        server.play = FAULTS["truncated_length"]
        assert (await fault_of(pool.get(b"/", (), max_body=9, deadline=2))).kind is FaultKind.PARTIAL


# --- upgrades ---

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
OFFER = [(b"host", b"app.test"), (b"connection", b"Upgrade"), (b"upgrade", b"websocket")]


class Tunnel(asyncio.Protocol):
    """What takes the transport of an upgrade over."""

    def __init__(self) -> None:
        self.data = b""
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


@on_both_loops
async def test_an_upgrade_hands_over_the_connection_with_what_came_behind_the_answer() -> None:
    async def play(wire: Wire, request: Request) -> None:
        await wire.send(SWITCH + b"first ")
        await asyncio.sleep(0.02)
        await wire.send(b"before anybody listens, ")
        await wire.send(await wire.reader.readexactly(6))
        wire.close()

    async with both(play) as (server, pool):
        opened = await pool.upgrade(permit(), OFFER)
        assert (opened.status, opened.tail, pool.open) == (101, b"first ", 0)
        await asyncio.sleep(0.1)
        tunnel = Tunnel()
        opened.transport.set_protocol(tunnel)
        opened.transport.resume_reading()
        opened.transport.write(b"second")
        await asyncio.wait_for(tunnel.lost, 10)
        assert tunnel.data == b"before anybody listens, second"
        assert server.requests[0].header("upgrade") == ["websocket"]


@on_both_loops
async def test_an_upgrade_that_is_refused_says_so() -> None:
    async with both(says(answer(403, b"no"))) as (_, pool):
        opened = await pool.upgrade(permit(), OFFER)
        assert (opened.status, pool.open) == (403, 0)
        opened.transport.abort()


@on_both_loops
async def test_an_upgrade_to_a_server_that_closes_behind_its_answer_is_no_error_of_ours() -> None:
    async with both(says(SWITCH, then_close=True)) as (_, pool):
        for _ in range(10):
            opened = await pool.upgrade(permit(), OFFER)
            assert opened.status == 101
            opened.transport.abort()
            await asyncio.sleep(0)


@on_both_loops
async def test_an_unused_connection_gives_way_to_an_upgrade() -> None:
    async with both(max_connections=1) as (server, pool):
        await fetch(pool)
        assert pool.idle == 1
        server.play = says(SWITCH)
        opened = await pool.upgrade(permit(), OFFER)
        assert (opened.status, pool.open, pool.idle) == (101, 0, 0)
        opened.transport.abort()
        await until(lambda: server.live == 0)


# --- memory ---

STREAM = """
import asyncio, resource, sys
import uvloop
from sidecar.net.pool import Origin, Pool
from sidecar.gate.verdict import Facts, Forward, Ground

SIZE = 1 << 30
PIECE = b"x" * (1 << 18)


class Body:
    length, complete, left = SIZE, False, SIZE

    async def read(self):
        self.left -= len(PIECE)
        return PIECE if self.left >= 0 else b""


async def one(pool, method, body):
    permit = Forward(method, b"/", ((b"host", b"a"),), Ground.ALLOWED, Facts("id", "", "/"))
    response = await pool.send(permit, body)
    size = 0
    while data := await response.read():
        size += len(data)
    return size


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB


async def main():
    pool = Pool(Origin("http", "127.0.0.1", int(sys.argv[1])))
    await one(pool, b"HEAD", None)
    before = peak()
    assert await one(pool, b"GET", None) == SIZE
    assert await one(pool, b"POST", Body()) == 2
    print(peak() - before)
    await pool.aclose()


uvloop.run(main())
"""


@pytest.mark.process
def test_a_gibibyte_each_way_needs_no_memory() -> None:
    async def play(wire: Wire, request: Request) -> None:
        piece = b"x" * (1 << 18)
        if request.method == "GET":
            await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
            for _ in range(1 << 12):
                await wire.send(piece)
        else:
            async for _ in wire.body(request):
                pass
            await wire.send(answer(200, b"" if request.method == "HEAD" else b"ok"))

    with upstream_in_thread(play) as server:
        command = [sys.executable, "-c", STREAM, str(server.origin.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30 * 1024


@on_both_loops
async def test_one_timer_serves_deadlines_in_any_order() -> None:
    async with both("silent", timeouts=Timeouts(head=5.0)) as (_, pool):
        ended: list[tuple[float, float, float]] = []

        async def ask(seconds: float) -> None:
            started = time.monotonic()
            assert (await fault_of(pool.send(permit(), None))).kind is FaultKind.TIMEOUT
            ended.append((started + seconds, seconds, time.monotonic() - started))

        tasks = []
        for seconds in (0.9, 0.3, 0.6, 0.3):
            pool.timeouts = Timeouts(head=seconds)
            tasks.append(asyncio.ensure_future(ask(seconds)))
            await asyncio.sleep(0.05)
        await asyncio.gather(*tasks)
        # by when each was due, which on a busy machine is not the order of their seconds
        assert ended == sorted(ended)
        assert sorted(seconds for _, seconds, _ in ended) == [0.3, 0.3, 0.6, 0.9]
        assert all(seconds <= took < seconds + 0.5 for _, seconds, took in ended), ended
