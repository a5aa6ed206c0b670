"""The way to the protected app: by a permit, and in fair shares."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.gate.verdict import Facts, Forward
from sidecar.net.connection import Fault
from sidecar.net.pool import Origin, Pool
from sidecar.net.upstream import Handshake, Upstream, handshake_headers
from sidecar.record.reasons import FaultKind
from tests.net.exchanges import both, fault_of, fetch, on_both_loops, permit, rest, send, until
from tests.net.hostile_upstream import Request, Wire, answer, good, says, upstream_in_thread
from tests.permits import Permit


@on_both_loops
async def test_answers_are_cleaned_and_their_length_is_told() -> None:
    play = says(
        answer(
            200, b"ok", b"Connection: X-Hop", b"X-Hop: 1", b"X_Auth_Subject: eve", b"X-A: b",
            b"Set-Cookie: __Host-session.0=evil", b"Set-Cookie: mine=1",
        )
    )  # fmt: skip
    async with both(play) as (_, pool):
        response = await send(pool, permit(), None)
        assert response.headers == [(b"x-a", b"b"), (b"set-cookie", b"mine=1")]
        assert response.length == 2
        assert await rest(response) == b"ok"


async def test_to_reach_the_app_nothing_is_sent() -> None:
    ended = asyncio.Event()
    received = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read())
        writer.close()
        ended.set()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        pool: Pool[Forward] = Pool(Origin.parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        await Upstream(pool).reach()
        await asyncio.wait_for(ended.wait(), 20)
        assert (received, pool.open) == ([b""], 0)
    with pytest.raises(Fault) as caught:
        await Upstream(pool).reach()
    assert caught.value.kind is FaultKind.UNAVAILABLE


# --- owners ---


def permit_of(owner: str) -> Forward:
    made = permit()
    return Permit(made.method, made.target, made.headers, made.ground, Facts("id", "GET", "/", principal=owner))


@on_both_loops
async def test_one_owner_gets_as_many_connections_as_are_free() -> None:
    """Those that are being opened are counted too."""
    hold = asyncio.Event()

    async def play(wire: Wire, request: Request) -> None:
        await hold.wait()
        await good(wire, request)

    async def ask(owner: str) -> int:
        response = await app.send(permit_of(owner), None)
        await rest(response)
        return response.status

    async with both(play, max_connections=12) as (_, pool):
        app = Upstream(pool, lambda permit: (permit.facts.principal,))
        tasks = [asyncio.create_task(ask("alice")) for _ in range(12)]
        await until(lambda: sum(task.done() for task in tasks) == 6)
        assert {task.exception().kind for task in tasks if task.done()} == {FaultKind.BUSY}  # type: ignore[union-attr]
        others = [asyncio.create_task(ask("bob")) for _ in range(4)]
        await until(lambda: sum(task.done() for task in others) == 1)
        assert (await fault_of(app.upgrade(permit_of("bob"), OFFER))).kind is FaultKind.BUSY
        hold.set()
        answers = await asyncio.gather(*tasks, *others, return_exceptions=True)
        assert answers.count(200) == 9
        assert await ask("alice") == 200


# --- upgrades ---


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


OFFER = Handshake(b"key", (b"chat", b"v1"))


def test_a_handshake_says_what_the_permit_says_and_what_is_ours() -> None:
    theirs = ((b"sec-websocket-extensions", b"permessage-deflate"), (b"sec-websocket-protocol", b"token"))
    made = permit()
    made = Permit(made.method, made.target, ((b"host", b"x"), *theirs), made.ground, made.facts)
    ours = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")]
    assert handshake_headers(made, Handshake(b"key")) == [(b"host", b"x"), *ours, (b"sec-websocket-key", b"key")]
    assert handshake_headers(made, OFFER)[-1] == (b"sec-websocket-protocol", b"chat, v1")


async def test_what_is_no_permit_is_no_permit_where_no_type_checker_looks() -> None:
    async with both(good) as (server, pool):
        seeming: Any = SimpleNamespace(method=b"GET", target=b"/", headers=(), facts=None)
        for call in (Upstream(pool).send(seeming, None), Upstream(pool).upgrade(seeming, OFFER)):
            with pytest.raises(TypeError, match="found SimpleNamespace, expected the permit"):
                await call
        assert server.requests == []


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
        opened = await Upstream(pool).upgrade(permit(), OFFER)
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
        opened = await Upstream(pool).upgrade(permit(), OFFER)
        assert (opened.status, pool.open) == (403, 0)
        opened.transport.abort()


@on_both_loops
async def test_an_upgrade_to_a_server_that_closes_behind_its_answer_is_no_error_of_ours() -> None:
    async with both(says(SWITCH, then_close=True)) as (_, pool):
        for _ in range(10):
            opened = await Upstream(pool).upgrade(permit(), OFFER)
            assert opened.status == 101
            opened.transport.abort()
            await asyncio.sleep(0)


@on_both_loops
async def test_an_unused_connection_gives_way_to_an_upgrade() -> None:
    async with both(max_connections=1) as (server, pool):
        await fetch(pool)
        assert pool.idle == 1
        server.play = says(SWITCH)
        opened = await Upstream(pool).upgrade(permit(), OFFER)
        assert (opened.status, pool.open, pool.idle) == (101, 0, 0)
        opened.transport.abort()
        await until(lambda: server.live == 0)


# --- memory ---


ROOT = Path(__file__).parent.parent.parent
STREAM = """
import asyncio, sys
from pathlib import Path
import uvloop
from sidecar.gate.codes import Ground
from sidecar.gate.verdict import Facts
from sidecar.net.pool import Origin, Pool
from sidecar.net.upstream import Handshake, Upstream, handshake_headers
from tests.permits import Permit

SIZE = 1 << 30
PIECE = b"x" * (1 << 18)


class Body:
    length, complete, left = SIZE, False, SIZE

    async def read(self):
        self.left -= len(PIECE)
        return PIECE if self.left >= 0 else b""


async def one(app, method, body):
    permit = Permit(method, b"/", ((b"host", b"a"),), Ground.ALLOWED, Facts("id", "", "/"))
    response = await app.send(permit, body)
    size = 0
    while data := await response.read():
        size += len(data)
    return size


def peak():
    # KiB; `ru_maxrss` begins with what the process had that started this one, and would hide what is added
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


async def main():
    app = Upstream(Pool(Origin("http", "127.0.0.1", int(sys.argv[1]))))
    await one(app, b"HEAD", None)
    before = peak()
    assert await one(app, b"GET", None) == SIZE
    assert await one(app, b"POST", Body()) == 2
    print(peak() - before)
    await app.aclose()


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
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 30 * 1024
