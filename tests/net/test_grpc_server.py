"""`net/grpc_server.py`: with the gRPC library's client, and frame by frame with one that does what it should not."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio
import pytest
from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.net import grpc_server as unary_server
from sidecar.net.grpc_client import CallFailed, Channel, Method, Status
from sidecar.net.grpc_limits import MAX_CALLS, MAX_MESSAGE, Limits, Places
from sidecar.net.grpc_outbox import MAX_UNSENT
from sidecar.net.grpc_server import MAX_BLOCK, MAX_RESETS, Connection, Server
from sidecar.wire.http2 import PREFACE
from tests.counting import instructions

PATH = "/a.B/C"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS = 4
PADDED = 8
REQUEST = [
    (":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "a"), ("content-type", "application/grpc"),
    ("te", "trailers"),
]  # fmt: skip


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(data: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(data)) + data


HELLO = PREFACE + frame(SETTINGS, 0, 0)


@dataclass
class World:
    """A server on a socket, and what its methods see."""

    port: int = 0
    server: Server | None = None
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    begun: int = 0
    cancelled: int = 0

    @property
    def connections(self) -> list[Connection]:
        """Those of the server."""
        assert self.server is not None
        return list(self.server._connections)

    async def echo(self, data: bytes) -> bytes:
        self.begun += 1
        return data

    async def wait(self, data: bytes) -> bytes:
        self.begun += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return data

    async def fail(self, data: bytes) -> bytes:
        raise CallFailed(Status.NOT_FOUND, "nothing: \u20ac")

    async def bug(self, data: bytes) -> bytes:
        raise RuntimeError(data)


@asynccontextmanager
async def serving(**limits: float) -> AsyncIterator[World]:
    made = World()
    made.server = Server(
        {PATH.encode(): made.echo, b"/a.B/Wait": made.wait, b"/a.B/Fail": made.fail, b"/a.B/Bug": made.bug},
        Limits(**limits),  # type: ignore[arg-type]
    )
    sock = socket.create_server(("127.0.0.1", 0))
    made.port = sock.getsockname()[1]
    sock.setblocking(False)
    await made.server.start(sock)
    yield made
    await made.server.stop(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as made:
        yield made


class Wire:
    """A client that sends frames as it likes. `answers` are (stream, headers, data, trailers) so far."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder, self.encoder = Decoder(), Encoder()

    @classmethod
    async def open(cls, world: World, hello: bytes = HELLO) -> Wire:
        wire = cls(*await asyncio.open_connection("127.0.0.1", world.port))
        wire.send(hello)
        return wire

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def call(self, stream: int, data: bytes = b"", path: str = PATH, more: tuple[tuple[str, str], ...] = ()) -> None:
        fields = [(name, path if name == ":path" else value) for name, value in REQUEST]
        block = self.encoder.encode([*fields, *more])
        self.send(frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, message(data)))

    async def next(self) -> tuple[int, int, int, bytes]:
        """The next frame: kind, flags, stream, payload. Raises IncompleteReadError at the end."""
        async with asyncio.timeout(5):
            head = await self.reader.readexactly(9)
            size = int.from_bytes(head[:3], "big")
            return head[3], head[4], int.from_bytes(head[5:], "big"), await self.reader.readexactly(size)

    async def next_of(self, kind: int) -> tuple[int, int, bytes]:
        while True:
            found, flags, stream, payload = await self.next()
            if found == HEADERS and kind != HEADERS:
                self.decoder.decode(payload)
            if found == kind:
                return flags, stream, payload

    async def fields(self) -> tuple[int, dict[str, str]]:
        """The next block of headers: stream, fields."""
        _, stream, block = await self.next_of(HEADERS)
        return stream, dict(self.decoder.decode(block))

    async def answer(self) -> tuple[int, bytes, dict[str, str]]:
        """The next whole answer: stream, message, trailers; no other answer may come between."""
        stream, head = await self.fields()
        assert head == {":status": "200", "content-type": "application/grpc"}
        data = b""
        while True:
            kind, flags, number, payload = await self.next()
            if number != stream:
                continue
            if kind == DATA:
                data += payload
            elif kind == HEADERS:
                assert flags & END_STREAM
                return stream, data, dict(self.decoder.decode(payload))

    async def goaway(self) -> int:
        """The error code with which the server gives the connection up, which it then closes."""
        _, _, payload = await self.next_of(GOAWAY)
        assert await self.reader.read() == b""
        return int.from_bytes(payload[4:8], "big")

    async def close(self) -> None:
        self.writer.close()


# --- the library's client, and ours ---


async def test_the_library_s_client_gets_its_answers(world: World) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        call = channel.unary_unary(PATH)
        texts = [bytes([number % 256]) * (number * 997 % 70_000) for number in range(60)]
        assert await asyncio.gather(*(call(text) for text in texts)) == texts


async def test_a_long_message_goes_both_ways(world: World) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        text = bytes(range(256)) * 8000
        assert await channel.unary_unary(PATH)(text) == text


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/a.B/Fail", grpc.StatusCode.NOT_FOUND),
        ("/a.B/Bug", grpc.StatusCode.INTERNAL),
        ("/a.B/Nothing", grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_a_call_without_an_answer_has_a_status(world: World, path: str, code: grpc.StatusCode) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary(path)(b"secret")
        assert failed.value.code() is code
        assert "secret" not in (failed.value.details() or "")
        # and the connection goes on
        assert await channel.unary_unary(PATH)(b"x") == b"x"


async def test_a_message_that_is_too_long_is_refused(world: World) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary(PATH)(bytes(MAX_MESSAGE + 1))
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(await channel.unary_unary(PATH)(bytes(MAX_MESSAGE))) == MAX_MESSAGE


async def test_a_client_that_waits_no_longer_ends_its_call(world: World) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await channel.unary_unary("/a.B/Wait")(b"x", timeout=1)
        assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await channel.unary_unary(PATH)(b"x") == b"x"
    assert (world.begun, world.cancelled) == (2, 1)


async def test_our_own_client_gets_its_answers(world: World) -> None:
    channel = Channel(f"127.0.0.1:{world.port}", Method(PATH, "a", 1.0))
    method, ends = Method(PATH, "a", 1.0), asyncio.get_running_loop().time() + 5
    answers = await asyncio.gather(*(channel.call(method, b"%d" % number, ends) for number in range(300)))
    assert answers == [b"%d" % number for number in range(300)]
    await channel.aclose()


# --- the end ---


async def test_what_is_under_way_is_answered_before_the_end(world: World) -> None:
    """And a call that was on its way when the client did not know yet."""
    assert world.server is not None
    wire = await Wire.open(world)
    wire.call(1, b"one", "/a.B/Wait")
    await wire.next_of(SETTINGS)
    wire.send(frame(PING, 0, 0, b"12345678"))
    await wire.next_of(PING)
    stopping = asyncio.ensure_future(world.server.stop(5))
    _, _, payload = await wire.next_of(GOAWAY)
    assert struct.unpack(">II", payload) == (2**31 - 1, 0)
    flags, _, ping = await wire.next_of(PING)
    assert not flags & ACK
    wire.call(3, b"two")
    wire.send(frame(PING, ACK, 0, ping))
    _, _, payload = await wire.next_of(GOAWAY)
    assert struct.unpack(">II", payload) == (3, 0)
    assert (await wire.answer())[:2] == (3, message(b"two"))
    # after that nothing is begun
    wire.call(5, b"three")
    assert (await wire.next_of(RST_STREAM))[1:] == (5, struct.pack(">I", 7))
    world.go_on.set()
    assert (await wire.answer())[:2] == (1, message(b"one"))
    assert await wire.reader.read() == b""
    await stopping
    with pytest.raises(ConnectionRefusedError):
        await Wire.open(world)
    await wire.close()


async def test_a_client_that_does_not_go_is_left(world: World) -> None:
    assert world.server is not None
    wire = await Wire.open(world)
    wire.call(1, b"x", "/a.B/Wait")
    await wire.next_of(SETTINGS)
    async with asyncio.timeout(5):
        await world.server.stop(0.05)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await wire.next_of(DATA)
    await wire.close()


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
FLOOD = Limits().frames + 1
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
    monkeypatch.setattr(unary_server, "_REFILL", 1000)
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
    async with serving(greeting=0.05, idle=0.5, tick=0.02) as world:
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
        assert (world.connections[0]._places.calls, world.connections[0]._outbox.waiting) == (0, 0)
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
        places = Places(Limits(), asyncio.get_running_loop())

        async def wait(_: bytes) -> bytes:
            return bytes(await asyncio.Event().wait())

        connection = Connection({PATH.encode(): wait}, places, lambda: None)
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
@settings(max_examples=100)
def test_no_frames_raise_anything(frames: list[tuple[int, int, int, bytes]]) -> None:
    async def feed() -> None:
        places = Places(Limits(), asyncio.get_running_loop())
        connection = unary_server.Connection({}, places, lambda: None)
        connection.connection_made(_Transport())
        connection.data_received(HELLO + b"".join(frame(*each) for each in frames))

    asyncio.run(feed())
