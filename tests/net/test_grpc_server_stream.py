"""`net/grpc_server_stream.py`: calls of many messages, with the gRPC library's client and frame by frame."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from sidecar.net.grpc_limits import GrpcPlaces
from sidecar.net.grpc_server_connection import SLACK
from sidecar.net.grpc_server_stream import MAX_WAITING, ServerStream
from sidecar.wire.grpc import CallFailed, Status
from sidecar.wire.http2 import PREFACE
from tests.net.grpc_wire import (
    DATA,
    END_STREAM,
    RST_STREAM,
    SETTINGS,
    TALK,
    WINDOW_UPDATE,
    Wire,
    World,
    frame,
    message,
    serving,
)  # fmt: skip

MIB = 1024 * 1024


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as made:
        yield made


def places_of(world: World) -> GrpcPlaces:
    return world.connections[0]._places


# --- the library's client ---


@pytest.mark.parametrize("size", [0, 5, 16_379, 16_380, 70_000, 3 * MIB])
async def test_the_library_s_client_talks(world: World, size: int) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        call = channel.stream_stream(TALK)()
        for number in range(3):
            text = bytes([number]) * size
            await call.write(text)
            assert [await call.read(), await call.read()] == [text, text]
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK


async def test_many_talk_at_once_beside_single_questions(world: World) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:

        async def talk(number: int) -> None:
            call = channel.stream_stream(TALK)()
            for turn in range(5):
                text = b"%d-%d" % (number, turn) * (number * 397 % 20_000)
                await call.write(text)
                assert [await call.read(), await call.read()] == [text, text]
            await call.done_writing()
            assert await call.code() is grpc.StatusCode.OK

        single = channel.unary_unary("/a.B/C")
        answers = await asyncio.gather(*(talk(number) for number in range(40)), single(b"x"), single(b"y"))
        assert answers[-2:] == [b"x", b"y"]
    assert world.begun == 42


@pytest.mark.parametrize("before", [[], [b"x"]])
@pytest.mark.parametrize(
    ("last", "code"),
    [(b"fail", grpc.StatusCode.ABORTED), (b"bug", grpc.StatusCode.INTERNAL), (b"end", grpc.StatusCode.OK)],
)
async def test_a_method_ends_its_call_before_the_client_does(
    world: World, before: list[bytes], last: bytes, code: grpc.StatusCode
) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        call = channel.stream_stream(TALK)()
        for text in before:
            await call.write(text)
            assert [await call.read(), await call.read()] == [text, text]
        await call.write(last)
        assert await call.code() is code
        # and the connection goes on
        assert await channel.unary_unary("/a.B/C")(b"x") == b"x"
    assert world.connections == [] or places_of(world).calls == 0


async def test_a_client_that_leaves_ends_its_call(world: World) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}") as channel:
        call = channel.stream_stream(TALK)()
        await call.write(b"wait")
        async with asyncio.timeout(5):
            while not world.begun:
                await asyncio.sleep(0.005)
        call.cancel()
        async with asyncio.timeout(5):
            while not world.cancelled:
                await asyncio.sleep(0.005)
        assert await channel.unary_unary("/a.B/C")(b"x") == b"x"


# --- frame by frame ---


async def _ends(wire: Wire, status: Status) -> None:
    assert (await wire.fields())[1].get("grpc-status") == str(int(status))


async def test_messages_in_any_pieces(world: World) -> None:
    texts = [b"one", b"", b"x" * 300]
    body = b"".join(map(message, texts))
    wire = await Wire.open(world)
    wire.begin(1)
    for at in range(0, len(body), 7):
        wire.say(1, body[at : at + 7])
    wire.send(frame(DATA, END_STREAM, 1, b""))
    heard = b""
    while len(heard) < 2 * len(body):
        heard += (await wire.next_of(DATA))[2]
    assert heard == b"".join(2 * message(text) for text in texts)
    await _ends(wire, Status.OK)
    assert (places_of(world).calls, places_of(world).held) == (0, 0)
    await wire.close()


@pytest.mark.parametrize(
    ("data", "ended", "status"),
    [
        (b"\1\0\0\0\1x", False, Status.UNIMPLEMENTED),
        (b"\2\0\0\0\1x", False, Status.INTERNAL),
        (b"\0\xff\0\0\0", False, Status.RESOURCE_EXHAUSTED),
        (message(b"whole")[:-1], True, Status.INTERNAL),
        (b"\0", True, Status.INTERNAL),
    ],
    ids=["compressed", "no message", "too long", "broken off", "broken off in its prefix"],
)
async def test_what_is_no_message_ends_the_call_and_not_the_connection(
    world: World, data: bytes, ended: bool, status: Status
) -> None:
    wire = await Wire.open(world)
    wire.begin(1)
    wire.send(frame(DATA, END_STREAM if ended else 0, 1, data))
    await _ends(wire, status)
    assert (await wire.next_of(RST_STREAM))[1] == 1
    wire.call(3, b"x")
    assert (await wire.answer())[1] == message(b"x")
    assert (places_of(world).calls, places_of(world).held) == (0, 0)
    await wire.close()


async def test_after_its_end_a_client_says_nothing(world: World) -> None:
    wire = await Wire.open(world)
    wire.begin(1, message(b"wait"))
    wire.send(frame(DATA, END_STREAM, 1, b""), frame(DATA, 0, 1, b"x"))
    assert await wire.goaway() == 1
    await wire.close()


async def test_what_comes_after_the_answer_s_end_is_left(world: World) -> None:
    wire = await Wire.open(world)
    wire.begin(1, message(b"end"))
    await _ends(wire, Status.OK)
    wire.say(1, message(b"more"))
    wire.call(3, b"x")
    assert (await wire.answer())[1] == message(b"x")
    await wire.close()


async def test_a_client_may_send_again_what_was_taken(world: World) -> None:
    """The window of a call is for a message, and is filled while it goes on."""
    wire = await Wire.open(world)
    wire.begin(1)
    text = bytes(SLACK)
    for _ in range(3):
        wire.say(1, message(text))
        # of the connection at first, then of the call once its method is done with the message
        while (update := await wire.next_of(WINDOW_UPDATE))[1] != 1:
            pass
        assert update[2] == struct.pack(">I", len(text) + 5)
    assert places_of(world).held == 0
    await wire.close()


async def test_messages_wait_for_the_client_s_windows_in_order(world: World) -> None:
    wire = await Wire.open(world, PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 10)))
    wire.begin(1, message(b"a" * 20) + message(b"b") + message(b"end"))
    expected = 2 * message(b"a" * 20) + 2 * message(b"b")
    assert (await wire.next_of(DATA))[2] == expected[:10]
    wire.call(3, b"")
    assert (await wire.answer())[0] == 3
    wire.send(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 25)))
    assert (await wire.next_of(DATA))[2] == expected[10:35]
    wire.send(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1000)))
    assert (await wire.next_of(DATA))[2] == expected[35:]
    await _ends(wire, Status.OK)
    await wire.close()


async def test_a_call_that_fails_leaves_out_what_waits(world: World) -> None:
    wire = await Wire.open(world, PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 10)))
    wire.begin(1, message(b"a" * 20) + message(b"fail"))
    await wire.next_of(DATA)
    await _ends(wire, Status.ABORTED)
    assert world.connections[0]._windows.waiting == 0
    wire.call(3, b"x")
    assert (await wire.answer())[1] == message(b"x")
    await wire.close()


@pytest.mark.parametrize("said", [b"", message(b"x")[:3], message(b"x") + b"\0\0"])
async def test_a_message_that_does_not_end_is_given_up(said: bytes) -> None:
    async with serving(question=0.1, tick=0.02) as world:
        wire = await Wire.open(world)
        wire.begin(1, said)
        if len(said) > 5:
            assert (await wire.next_of(DATA))[2] == message(b"x")
        await _ends(wire, Status.DEADLINE_EXCEEDED)
        assert (places_of(world).calls, places_of(world).held) == (0, 0)
        await wire.close()


async def test_a_call_may_be_silent_for_long_and_not_for_ever() -> None:
    async with serving(question=0.02, silence=0.3, tick=0.02) as world:
        wire = await Wire.open(world)
        loop = asyncio.get_running_loop()
        since = loop.time()
        wire.begin(1, message(b"wait"))
        await _ends(wire, Status.DEADLINE_EXCEEDED)
        assert loop.time() - since >= 0.25
        assert (world.cancelled, places_of(world).calls) == (1, 0)
        await wire.close()


async def test_an_answer_that_no_window_takes_is_given_up() -> None:
    async with serving(answer=0.1, tick=0.02) as world:
        wire = await Wire.open(world, PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
        wire.begin(1, message(b"a" * 100))
        assert "grpc-status" not in (await wire.fields())[1]
        await _ends(wire, Status.DEADLINE_EXCEEDED)
        assert (places_of(world).calls, world.connections[0]._windows.waiting) == (0, 0)
        await wire.close()


async def test_messages_that_nobody_takes_are_bounded(world: World) -> None:
    wire = await Wire.open(world)
    wire.begin(1, message(b"wait"))
    wire.say(1, message(b"x") * (MAX_WAITING + 2))
    await _ends(wire, Status.RESOURCE_EXHAUSTED)
    assert (places_of(world).calls, places_of(world).held) == (0, 0)
    await wire.close()


async def test_messages_may_hold_a_share_of_the_memory() -> None:
    async with serving(held=1_000_000) as world:
        one, other = await Wire.open(world), await Wire.open(world)
        one.begin(1, message(b"wait") + message(bytes(600_000)))
        await _ends(one, Status.RESOURCE_EXHAUSTED)
        other.call(1, b"x")
        assert (await other.answer())[1] == message(b"x")
        assert places_of(world).held == 0
        await one.close()
        await other.close()


async def test_messages_have_a_length_of_their_own() -> None:
    async with serving(message=6 * MIB, unsent=32 * MIB) as world:
        options = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{world.port}", options) as channel:
            call = channel.stream_stream(TALK)()
            for _ in range(2):
                await call.write(bytes(6 * MIB))
                assert [len(await call.read()), len(await call.read())] == [6 * MIB, 6 * MIB]
            await call.write(bytes(6 * MIB + 1))
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_flood_of_very_small_pieces_is_left() -> None:
    async with serving(frames=50) as world:
        wire = await Wire.open(world)
        wire.begin(1)
        for _ in range(60):
            wire.send(frame(DATA, 0, 1, b""))
        assert await wire.goaway() > 0
        await wire.close()


async def test_the_end_of_the_server_is_no_good_end_of_a_call(world: World) -> None:
    """A call that is under way when the time is over is broken off, and never ends with OK."""
    assert world.server is not None
    wire = await Wire.open(world)
    wire.begin(1, message(b"wait"))
    await wire.next_of(SETTINGS)
    async with asyncio.timeout(5):
        await world.server.stop(0.05)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await wire.fields()
    assert world.cancelled == 1
    await wire.close()


def test_what_is_too_long_for_its_limits_is_refused_by_its_prefix() -> None:
    call = ServerStream(0.0, 10, lambda _: None, lambda _: None)
    with pytest.raises(CallFailed) as failed:
        call.hear(b"\0\0\0\0\x0b", ended=False, now=0.0)
    assert failed.value.status is Status.RESOURCE_EXHAUSTED
