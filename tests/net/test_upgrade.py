"""A WebSocket handshake's connection, taken by an app or left by answering, through real sockets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sidecar.net.upgrade import UPGRADE
from tests.net.raw_http import HANDSHAKE, QUICK, Running, Seen, reply, running, until

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    await APPS[scope["path"]](scope, receive, send, scope["test.seen"])


async def _deny(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    await reply(send, 403, b"no")


class _Pipe(asyncio.Protocol):
    """A tunnel's end: answers each piece in capitals, and says when it is over."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.over = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()


async def _tunnel(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    upgrade = scope["extensions"][UPGRADE]
    transport = upgrade.take()
    for again in (upgrade.take, lambda: send({"type": "http.response.start", "status": 200, "headers": []})):
        try:
            found = again()
            if found is not None:
                await found
        except RuntimeError:
            seen.events.append("refused")
    transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + upgrade.tail.upper())
    pipe = _Pipe(transport)
    upgrade.set_protocol(pipe)
    transport.resume_reading()
    try:
        await pipe.over.wait()
        seen.events.append("over")
    except asyncio.CancelledError:
        seen.events.append("cancelled")
        transport.write(b"going away")
        raise


async def _short_tunnel(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    scope["extensions"][UPGRADE].take().write(b"HTTP/1.1 101 Switching Protocols\r\n\r\nbye")


async def _deaf_tunnel(scope: Any, receive: Any, send: Any, seen: Seen) -> None:
    scope["extensions"][UPGRADE].take().resume_reading()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        seen.events.append("cancelled")
        raise


APPS = {"/ws": _tunnel, "/ws/short": _short_tunnel, "/ws/deaf": _deaf_tunnel, "/ws/deny": _deny}


@pytest.fixture(scope="module")
def module_server() -> Iterator[Running]:
    with running(app) as server:
        yield server


@pytest.fixture
def server(module_server: Running) -> Running:
    module_server.seen.clear()
    return module_server


def test_an_app_can_take_the_raw_connection_with_what_came_after_the_head(server: Running) -> None:
    for segments in (
        (HANDSHAKE + b"GET / tail",),
        (HANDSHAKE, b"GET / tail"),
        (HANDSHAKE[:50], HANDSHAKE[50:] + b"GET / tail"),
    ):
        server.seen.clear()
        with server.client() as client:
            client.send(*segments)
            assert client.answer().status == 101
            assert client._take(10) == b"GET / TAIL"
            client.send(SMUGGLED)
            assert client._take(len(SMUGGLED)) == SMUGGLED.upper()
        until(lambda: server.seen[0].events == ["refused", "refused", "over"])
        assert server.targets == [b"/ws"]
        assert (b"upgrade", b"websocket") in server.seen[0].headers
    until(lambda: not server.server.server_state.connections)


def test_the_connection_closes_when_the_app_that_took_it_returns(server: Running) -> None:
    with server.client() as client:
        client.send(HANDSHAKE.replace(b"/ws", b"/ws/short"))
        assert client.answer().status == 101
        assert client.rest() == b"bye"
    until(lambda: not server.server.server_state.connections)


def test_a_client_that_leaves_before_a_protocol_is_set_cancels_the_app(server: Running) -> None:
    with server.client() as client:
        client.send(HANDSHAKE.replace(b"/ws", b"/ws/deaf"))
        until(lambda: server.seen != [])
    until(lambda: server.seen[0].events == ["cancelled"])


def test_a_handshake_that_the_app_answers_is_closed_and_its_tail_never_runs(server: Running) -> None:
    for segments in ((HANDSHAKE + SMUGGLED,), (HANDSHAKE, SMUGGLED)):
        server.seen.clear()
        with server.client() as client:
            client.send(*(segment.replace(b"/ws", b"/ws/deny") for segment in segments))
            answer = client.answer()
            assert (answer.status, answer.header("connection")) == (403, ["close"])
            assert client.closed()
        assert server.targets == [b"/ws/deny"]


def test_a_tunnel_has_no_timer_and_is_cancelled_at_shutdown() -> None:
    server = Running(app, QUICK, graceful=30)
    server.start()
    with server.client() as client:
        client.send(HANDSHAKE)
        assert client.answer().status == 101
        time.sleep(0.5)
        client.send(b"still here")
        assert client._take(10) == b"STILL HERE"
        server.server.should_exit = True
        assert client.rest() == b"going away"
    server.stop()
    assert server.seen[0].events[-1] == "cancelled"
