"""`net/grpc_client.py`: connections that are opened, shared and left, and the gRPC library's server."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from sidecar.net import grpc_client
from sidecar.net.grpc_client_connection import MAX_MESSAGE
from sidecar.wire.grpc import Status
from tests.net.grpc_peer import (
    DATA,
    PING,
    SETTINGS,
    Talk,
    echo,
    frame,
    silence,
    talking,
    until,
)  # fmt: skip


@pytest.fixture(autouse=True)
def time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that waits for a processor is no server that is away."""
    monkeypatch.setattr(grpc_client, "CONNECT_WITHIN", 20.0)


@pytest.mark.parametrize(
    "hello", [b"HTTP/1.1 400 Bad Request\r\n\r\n", frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0, b"1")]
)
async def test_a_server_of_something_else_is_unavailable(hello: bytes) -> None:
    async with talking(echo, hello) as (_, talk):
        assert (await talk.fails())[0] is Status.UNAVAILABLE


async def test_a_server_that_says_nothing_any_more_is_connected_anew() -> None:
    async with talking(echo, timeout=0.6) as (server, talk):
        await talk()
        server.behave = silence
        assert (await talk.fails())[0] is Status.DEADLINE_EXCEEDED
        server.behave = echo
        await talk()
        assert len(server.peers) == 2


async def test_a_connection_whose_numbers_are_used_up_makes_room_for_another() -> None:
    async with talking(echo) as (server, talk):
        await talk()
        assert talk.channel._connection is not None
        talk.channel._connection._next = 2**31 - 3
        assert await talk(b"last but one") == b"last but one"
        assert await talk(b"last") == b"last"
        assert await talk(b"first") == b"first"
        assert [max(peer.fields) for peer in server.peers] == [2**31 - 1, 1]


async def test_nobody_there_is_unavailable_and_callers_share_the_attempt() -> None:
    async with talking(echo) as (server, talk):
        assert await asyncio.gather(*(talk(b"a") for _ in range(20))) == [b"a"] * 20
        assert len(server.peers) == 1
    assert (await talk.fails())[0] is Status.UNAVAILABLE


async def test_one_who_leaves_does_not_take_the_connection_from_the_others() -> None:
    async with talking(echo) as (_, talk):
        first = asyncio.ensure_future(talk())
        second = asyncio.ensure_future(talk(b"b"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b"b"


async def test_closing_fails_what_is_under_way() -> None:
    async with talking(silence) as (server, talk):
        call = asyncio.ensure_future(talk.fails())
        await until(lambda: server.peers and server.peers[0].of(DATA))
        await talk.channel.aclose()
        assert (await call)[0] is Status.UNAVAILABLE


@pytest.mark.parametrize("size", [0, 1, 16384, 70_000, MAX_MESSAGE - 100])
async def test_messages_of_any_size_come_back_from_the_grpc_library(size: int) -> None:
    class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # the library has no types
        def service(self, _: Any) -> Any:
            async def handle(data: bytes, __: Any) -> bytes:
                return data

            return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    talk = Talk(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", 5.0)
    await server.start()
    body = (b"%d," % size) * (size // 4 + 1)
    try:
        assert await asyncio.gather(*(talk(body[:size]) for _ in range(5))) == [body[:size]] * 5
    finally:
        await talk.channel.aclose()
        await server.stop(None)
