"""`net/grpc_server.py`: with the gRPC library's client and ours, and its end."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest

from sidecar.net.grpc_client import Channel
from sidecar.net.grpc_client_connection import GrpcMethod
from sidecar.net.grpc_limits import MAX_MESSAGE
from tests.net.grpc_wire import (
    ACK,
    DATA,
    GOAWAY,
    PATH,
    PING,
    RST_STREAM,
    SETTINGS,
    Wire,
    World,
    frame,
    message,
    serving,
)  # fmt: skip


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as made:
        yield made


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
    channel = Channel(f"127.0.0.1:{world.port}", GrpcMethod(PATH, "a", 1.0))
    method, ends = GrpcMethod(PATH, "a", 1.0), asyncio.get_running_loop().time() + 5
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
