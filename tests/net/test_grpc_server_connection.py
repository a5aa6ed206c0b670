"""`net/grpc_server_connection.py`, frame by frame with a client that does what it should not."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from sidecar.net.grpc_limits import MAX_CALLS, MAX_UNSENT, GrpcLimits, GrpcPlaces
from sidecar.net.grpc_server_connection import MAX_BLOCK, MAX_RESETS, ServerConnection
from sidecar.wire import http2_connection
from sidecar.wire.http2 import PREFACE
from tests.counting import instructions
from tests.net.grpc_wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    HELLO,
    PADDED,
    PATH,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Wire,
    World,
    frame,
    message,
    serving,
)  # fmt: skip
from tests.tries import tries


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as made:
        yield made


# --- frame by frame ---


async def test_every_cut_gives_the_same_answer(world: World) -> None:
    first = Wire(*await asyncio.open_connection("127.0.0.1", world.port))
    whole = HELLO + frame(HEADERS, END_HEADERS, 1, Encoder().encode(REQUEST)) + frame(DATA, 0, 1, message(b"abc")[:3])
    whole += frame(DATA, PADDED, 1, b"\x02" + message(b"abc")[3:] + b"\0\0") + frame(DATA, END_STREAM, 1)
    for at in range(len(whole)):
        first.send(whole[at : at + 1])
        await first.writer.drain()
        await asyncio.sleep(0)
    assert await first.answer() == (1, message(b"abc"), {"grpc-status": "0"})
    await first.close()


async def test_a_block_in_pieces(world: World) -> None:
    wire = await Wire.open(world)
    block = wire.encoder.encode(REQUEST)
    wire.send(
        frame(HEADERS, 0x20, 1, b"\0\0\0\0\x10" + block[:5]), frame(CONTINUATION, 0, 1, block[5:9]),
        frame(CONTINUATION, END_HEADERS, 1, block[9:]), frame(DATA, END_STREAM, 1, message(b"x")),
    )  # fmt: skip
    assert (await wire.answer())[1] == message(b"x")
    await wire.close()


async def test_an_answer_waits_for_the_client_s_windows(world: World) -> None:
    small = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 10))
    wire = await Wire.open(world, PREFACE + small)
    wire.call(1, b"a" * 100)
    wire.call(3, b"")
    stream, _ = await wire.fields()
    assert stream == 1
    assert (await wire.next_of(DATA))[1:] == (1, message(b"a" * 100)[:10])
    # the other is not held up by it
    assert await wire.answer() == (3, message(b""), {"grpc-status": "0"})
    wire.send(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 50)))
    assert (await wire.next_of(DATA))[1:] == (1, message(b"a" * 100)[10:60])
    wire.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1000)))
    assert (await wire.next_of(DATA))[1:] == (1, message(b"a" * 100)[60:])
    assert (await wire.fields())[1] == {"grpc-status": "0"}
    await wire.close()


async def test_more_calls_than_are_allowed_are_refused_and_lose_nothing(world: World) -> None:
    wire = await Wire.open(world)
    for number in range(MAX_CALLS + 1):
        wire.call(2 * number + 1, b"x", "/a.B/Wait")
    assert (await wire.next_of(RST_STREAM))[1:] == (2 * MAX_CALLS + 1, struct.pack(">I", 7))
    world.go_on.set()
    assert {(await wire.answer())[0] for _ in range(MAX_CALLS)} == set(range(1, 2 * MAX_CALLS, 2))
    await wire.close()


async def test_another_content_type_is_no_call(world: World) -> None:
    wire = await Wire.open(world)
    fields = [(name, "text/plain" if name == "content-type" else value) for name, value in REQUEST]
    wire.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, wire.encoder.encode(fields)))
    assert await wire.fields() == (1, {":status": "415"})
    await wire.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", "13"), (b"\0\0\0\0", "13"), (message(b"abc")[:-1], "13"), (message(b"abc") + b"d", "13"),
        (message(b"a") + message(b"b"), "13"), (b"\2" + message(b"abc")[1:], "13"), (b"\1" + message(b"abc")[1:], "12"),
    ],
)  # fmt: skip
async def test_what_is_not_one_message_is_refused(world: World, data: bytes, status: str) -> None:
    wire = await Wire.open(world)
    wire.send(frame(HEADERS, END_HEADERS, 1, wire.encoder.encode(REQUEST)), frame(DATA, END_STREAM, 1, data))
    assert (await wire.fields())[1]["grpc-status"] == status
    assert world.begun == 0
    await wire.close()


BLOCK = Encoder().encode(REQUEST)
ASKED = frame(HEADERS, END_HEADERS, 1, BLOCK)
FLOOD = GrpcLimits().frames + 1
BREAKS = {
    "no preface": b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no settings": PREFACE + frame(PING, 0, 0, bytes(8)),
    "settings of a wrong length": PREFACE + frame(SETTINGS, 0, 0, b"12345"),
    "settings of a stream": PREFACE + frame(SETTINGS, 0, 1),
    "a window that is too wide": PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)),
    "a long frame": HELLO + frame(DATA, 0, 1, bytes(16385)),
    "an even stream": HELLO + frame(HEADERS, END_HEADERS, 2, BLOCK),
    "an old stream": HELLO + frame(HEADERS, END_HEADERS, 3, BLOCK) + frame(HEADERS, END_HEADERS, 1, BLOCK),
    "trailers": HELLO + frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(HEADERS, END_HEADERS | END_STREAM, 1, BLOCK),
    "data of nothing": HELLO + frame(DATA, 0, 1, b"x"),
    "data after the end": HELLO + frame(HEADERS, END_HEADERS, 1, Encoder().encode(
        [(name, "/a.B/Wait" if name == ":path" else value) for name, value in REQUEST]
    )) + frame(DATA, END_STREAM, 1, message(b"")) + frame(DATA, 0, 1, b"x"),
    "bad padding": HELLO + frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + BLOCK),
    "a priority that is cut off": HELLO + frame(HEADERS, END_HEADERS | 0x20, 1, b"\0\0"),
    "a block that is none": HELLO + frame(HEADERS, END_HEADERS, 1, b"\x80"),
    "a block that is broken off": HELLO + frame(HEADERS, 0, 1, BLOCK) + frame(PING, 0, 0, bytes(8)),
    "a block that goes on elsewhere": HELLO + frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 3, b"x"),
    "a block without a beginning": HELLO + frame(CONTINUATION, END_HEADERS, 1, b"x"),
    "a block without an end": HELLO + frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, bytes(16000)) * (MAX_BLOCK // 16000 + 1),
    "empty continuations": HELLO + frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1),
    "a push": HELLO + frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)),
    "a short ping": HELLO + frame(PING, 0, 0, b"1"),
    "a short reset": HELLO + frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(RST_STREAM, 0, 1, b"1"),
    "a reset of nothing": HELLO + frame(RST_STREAM, 0, 1, bytes(4)),
    "a short window": HELLO + frame(WINDOW_UPDATE, 0, 0, b"1"),
    "a wide window": HELLO + frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 2,
    "a window that is no wider": HELLO + frame(WINDOW_UPDATE, 0, 0, bytes(4)),
    "a stream's window that is no wider": HELLO + ASKED + frame(WINDOW_UPDATE, 0, 1, bytes(4)),
    "a stream's window that is too wide": HELLO + ASKED + frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"),
    "pings without end": HELLO + frame(PING, 0, 0, bytes(8)) * FLOOD,
    "settings without end": HELLO + frame(SETTINGS, 0, 0) * FLOOD,
    "many settings in few frames": HELLO + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1) * 2700) * 10,
    "windows without end": HELLO + frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01") * FLOOD,
    "windows of ended calls without end": HELLO + ASKED + frame(RST_STREAM, 0, 1, bytes(4)) + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\x01") * FLOOD,
    "priorities without end": HELLO + frame(PRIORITY, 0, 1, bytes(5)) * FLOOD,
    "resets without end": HELLO + ASKED + frame(RST_STREAM, 0, 1, bytes(4)) * FLOOD,
    "a block in very small pieces": HELLO + frame(HEADERS, 0, 1, BLOCK) + frame(CONTINUATION, 0, 1, b"\0") * FLOOD,
    "a question in no pieces": HELLO + ASKED + frame(DATA, 0, 1, b"") * FLOOD,
    "a question in very small pieces": HELLO + ASKED + frame(DATA, 0, 1, b"x") * FLOOD,
    "frames that nobody knows without end": HELLO + frame(0x42, 0, 0, b"") * FLOOD,
    "calls given up without end": HELLO + b"".join(
        frame(HEADERS, END_HEADERS, 2 * number + 1, BLOCK) + frame(RST_STREAM, 0, 2 * number + 1, bytes(4))
        for number in range(MAX_RESETS + 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
async def test_who_does_not_speak_the_protocol_is_left(world: World, name: str) -> None:
    wire = await Wire.open(world, BREAKS[name])
    assert await wire.goaway() > 0
    await wire.close()
    # and nobody else notices
    other = await Wire.open(world)
    other.call(1, b"x")
    assert (await other.answer())[1] == message(b"x")
    await other.close()


async def test_what_says_nothing_is_ignored(world: World) -> None:
    wire = await Wire.open(world)
    wire.send(frame(PRIORITY, 0, 1, bytes(5)), frame(0x42, 0xFF, 7, b"?"), frame(GOAWAY, 0, 0, bytes(8)))
    wire.send(frame(PING, ACK, 0, bytes(8)), frame(SETTINGS, 0, 0, struct.pack(">HI", 0x99, 1)))
    wire.call(1, b"x")
    assert (await wire.answer())[1] == message(b"x")
    wire.send(frame(DATA, 0, 1, b"late"), frame(RST_STREAM, 0, 1, bytes(4)), frame(WINDOW_UPDATE, 0, 1, bytes(4)))
    wire.call(3, b"y")
    assert (await wire.answer())[1] == message(b"y")
    await wire.close()


async def test_a_window_is_filled_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_connection, "REFILL", 1000)
    wire = await Wire.open(world)
    await wire.next_of(WINDOW_UPDATE)
    wire.call(1, b"x" * 1200)
    assert (await wire.next_of(WINDOW_UPDATE))[1:] == (0, struct.pack(">I", 1205))
    await wire.close()


# --- what one client may use ---


async def test_one_connection_too_many_is_closed() -> None:
    """Where every other is used."""
    async with serving(connections=1) as world:
        first = await Wire.open(world)
        first.call(1, b"x")
        assert (await first.answer())[1] == message(b"x")
        second = await Wire.open(world)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await second.next()
        first.call(3, b"x")
        assert (await first.answer())[1] == message(b"x")
        await first.close()
        await second.close()


async def test_silent_connections_make_room() -> None:
    """Those that say nothing first, then those without a call for longest; never one that is used."""
    async with serving(connections=16, tick=0.02, young=0.0) as world:
        used = await Wire.open(world)
        used.call(1, b"x", "/a.B/Wait")
        greeted = await Wire.open(world)
        await greeted.next_of(SETTINGS)
        silent = [await Wire.open(world, b"") for _ in range(14)]
        await wait_for(lambda: len(world.connections) == 16)
        for number in range(30):
            late = await Wire.open(world)
            late.call(1, b"%d" % number)
            assert (await late.answer())[1] == message(b"%d" % number)
            silent.append(late)
            assert len(world.connections) <= 16
        assert await greeted.goaway() == 0
        world.go_on.set()
        assert (await used.answer())[1] == message(b"x")
        for wire in (used, greeted, *silent):
            await wire.close()


@pytest.mark.parametrize(
    "said", [b"", HELLO[:10], PREFACE, HELLO + b"\0\0", HELLO + ASKED[:20], HELLO + frame(HEADERS, 0, 1, BLOCK)]
)
async def test_nothing_may_come_in_halves_for_long(said: bytes) -> None:
    async with serving(greeting=0.1, question=0.1, tick=0.02) as world:
        wire = await Wire.open(world, said)
        assert await wire.goaway() == 11
        await wire.close()


async def test_a_question_that_does_not_end_is_given_up_and_its_connection_is_not() -> None:
    async with serving(question=0.1, tick=0.02) as world:
        wire = await Wire.open(world)
        for stream in range(1, 200, 2):
            wire.send(frame(HEADERS, END_HEADERS, stream, wire.encoder.encode(REQUEST)), frame(DATA, 0, stream, b"\0"))
        for stream in range(1, 200, 2):
            assert (await wire.fields())[1]["grpc-status"] == "4"
            assert (await wire.next_of(RST_STREAM))[1] == stream
        places = world.connections[0]._places
        assert (places.calls, places.held) == (0, 0)
        wire.call(201, b"x")
        assert (await wire.answer())[1] == message(b"x")
        await wire.close()


async def test_a_connection_without_calls_stays_and_goes_in_order_after_its_time() -> None:
    async with serving(greeting=0.05, idle=1.0, tick=0.02) as world:
        wire = await Wire.open(world)
        await asyncio.sleep(0.2)
        wire.send(frame(PING, 0, 0, b"12345678"))
        assert (await wire.next_of(PING))[2] == b"12345678"
        assert await wire.goaway() == 0
        await wire.close()


async def test_frames_are_counted_by_the_second() -> None:
    async with serving(frames=10, tick=0.02) as world:
        wire = await Wire.open(world)
        for _ in range(5):
            for _ in range(8):
                wire.send(frame(PING, 0, 0, bytes(8)))
                await wire.next_of(PING)
            await asyncio.sleep(0.1)
        await wire.close()


async def test_questions_may_hold_a_share_of_the_memory() -> None:
    async with serving(held=1_000_000) as world:
        one, other = await Wire.open(world), await Wire.open(world)
        one.send(frame(HEADERS, END_HEADERS, 1, one.encoder.encode(REQUEST)))
        one.send(frame(DATA, 0, 1, bytes(16_000)) * 40)
        assert (await one.fields())[1]["grpc-status"] == "8"
        assert (await one.next_of(RST_STREAM))[1] == 1
        other.call(1, b"x")
        assert (await other.answer())[1] == message(b"x")
        one.call(3, bytes(10_000))
        assert (await one.answer())[1] == message(bytes(10_000))
        assert world.connections[0]._places.held == 0
        await one.close()
        await other.close()


async def test_calls_are_shared_by_the_connections() -> None:
    async with serving(calls=10) as world:
        one, other = await Wire.open(world), await Wire.open(world)
        for stream in range(1, 21, 2):
            one.call(stream, b"x", "/a.B/Wait")
        assert [(await one.next_of(RST_STREAM))[1] for _ in range(5)] == [11, 13, 15, 17, 19]
        other.call(1, b"y", "/a.B/Wait")
        await wait_for(lambda: world.begun == 6)
        world.go_on.set()
        assert (await other.answer())[:2] == (1, message(b"y"))
        assert {(await one.answer())[0] for _ in range(5)} == {1, 3, 5, 7, 9}
        await one.close()
        await other.close()


async def test_an_answer_that_no_window_takes_is_given_up() -> None:
    async with serving(answer=0.1, tick=0.02) as world:
        wire = await Wire.open(world, PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
        wire.call(1, b"a" * 100)
        assert (await wire.fields())[0] == 1
        assert (await wire.next_of(RST_STREAM))[1:] == (1, struct.pack(">I", 8))
        assert (world.connections[0]._places.calls, world.connections[0]._windows.waiting) == (0, 0)
        await wire.close()


async def test_what_waits_for_windows_has_a_bound() -> None:
    async with serving() as world:
        wire = await Wire.open(world, PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
        for stream in range(1, 101, 2):
            wire.call(stream, bytes(100_000))
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await wire.next_of(RST_STREAM)
        await wire.close()


PINGS = frame(PING, 0, 0, bytes(8)) * 4000
WIDE = PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31 - 1))
WIDE += frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 1 - 65535))


def pings(_: int) -> bytes:
    return PINGS


def calls(number: int) -> bytes:
    stream = 2 * number + 1
    question = frame(DATA, END_STREAM, stream, message(bytes(16_000)))
    return frame(HEADERS, END_HEADERS, stream, BLOCK) + question


@pytest.mark.parametrize("what", [pings, calls])
async def test_a_client_that_reads_nothing_is_not_heard_and_then_left(what: Callable[[int], bytes]) -> None:
    """64 MiB of answers to pings could wait for one client."""
    async with serving(frames=10**9, answer=1, tick=0.05) as world, asyncio.timeout(20):
        with socket.create_connection(("127.0.0.1", world.port)) as client:
            client.setblocking(False)
            sent, unsent = await flood(client, what, world)
        # what one look at the socket brings in may be answered before it is heard no more
        assert unsent < MAX_UNSENT + 2**20
        assert sent < 64 * 2**20


async def flood(client: socket.socket, what: Callable[[int], bytes], world: World) -> tuple[int, int]:
    """Send until the server has left -> (bytes that were sent, the most that waited at the server)."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, WIDE)
    sent = unsent = 0
    for number in range(100_000):
        data = what(number)
        try:
            await loop.sock_sendall(client, data)
        except ConnectionError:
            break
        sent += len(data)
        unsent = max(unsent, *(each.transport.get_write_buffer_size() for each in world.connections), 0)
    return sent, unsent


def test_settings_cost_the_same_however_many_calls_are_open() -> None:
    """One frame of 16 KiB gave each of 1,024 calls its window 2,700 times."""

    async def cost(calls: int) -> int:
        places = GrpcPlaces(GrpcLimits(), asyncio.get_running_loop())

        async def wait(_: bytes) -> bytes:
            return bytes(await asyncio.Event().wait())

        connection = ServerConnection({PATH.encode(): wait}, places, lambda: None)
        connection.connection_made(_Transport())
        connection.data_received(HELLO)
        for number in range(calls):
            connection.data_received(frame(HEADERS, END_HEADERS, 2 * number + 1, BLOCK))
        assert places.calls == calls
        flood = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**20) * 2700)
        return instructions(lambda: connection.data_received(flood))

    few, many = asyncio.run(cost(1)), asyncio.run(cost(1024))
    assert many < 1.1 * few
    assert many < 50_000


async def wait_for(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


class _Transport(asyncio.Transport):
    def write(self, data: bytes) -> None:  # type: ignore[override]
        pass

    def close(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 255), st.sampled_from([0, 1, 3, 5]), st.binary(max_size=40)))
)
@tries(100)
def test_no_frames_raise_anything(frames: list[tuple[int, int, int, bytes]]) -> None:
    async def feed() -> None:
        places = GrpcPlaces(GrpcLimits(), asyncio.get_running_loop())
        connection = ServerConnection({}, places, lambda: None)
        connection.connection_made(_Transport())
        connection.data_received(HELLO + b"".join(frame(*each) for each in frames))

    asyncio.run(feed())
