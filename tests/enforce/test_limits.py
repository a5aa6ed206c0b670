"""The clock of all connections, with connections that are nothing but a deadline."""

from __future__ import annotations

import asyncio
import math

from uvicorn.server import ServerState

from sidecar.enforce.limits import Ticker, Timed, ticker_of


class Connection:
    def __init__(self, connections: set[Timed], deadline: float, idle: bool = True) -> None:
        self.deadline = deadline
        self.idle = idle
        self.events: list[str] = []
        self._connections = connections
        connections.add(self)

    def expire(self) -> None:
        self.events.append("expired")
        self.deadline = math.inf
        self._connections.discard(self)

    def close(self) -> None:
        self.events.append("closed")
        self.idle = False


async def test_what_is_over_expires_once_and_the_rest_stays() -> None:
    loop = asyncio.get_running_loop()
    connections: set[Timed] = set()
    ticker = Ticker(loop, connections, 0.01)
    over, later, never = (Connection(connections, loop.time() + wait) for wait in (0.05, 60, math.inf))
    ticker.start()
    ticker.start()
    assert over.events == []
    await asyncio.sleep(0.2)
    assert (over.events, later.events, never.events) == (["expired"], [], [])
    assert ticker.now > loop.time() - 0.1


async def test_the_clock_stands_still_without_connections_and_starts_again() -> None:
    loop = asyncio.get_running_loop()
    connections: set[Timed] = set()
    ticker = Ticker(loop, connections, 0.01)
    ticker.start()
    await asyncio.sleep(0.05)
    stopped = ticker.now
    await asyncio.sleep(0.05)
    assert ticker.now == stopped
    connection = Connection(connections, loop.time())
    ticker.start()
    assert ticker.now > stopped
    await asyncio.sleep(0.05)
    assert connection.events == ["expired"]


async def test_the_longest_idle_makes_room_first_and_busy_ones_never() -> None:
    loop = asyncio.get_running_loop()
    connections: set[Timed] = set()
    ticker = Ticker(loop, connections, 0.01)
    newer, older, busy = (
        Connection(connections, deadline, idle) for deadline, idle in ((9, True), (5, True), (1, False))
    )
    assert ticker.shed()
    assert (newer.events, older.events) == ([], ["closed"])
    assert ticker.shed()
    assert not ticker.shed()
    assert (newer.events, busy.events) == (["closed"], [])


async def test_one_that_is_no_longer_idle_is_not_closed() -> None:
    connections: set[Timed] = set()
    ticker = Ticker(asyncio.get_running_loop(), connections, 0.01)
    first, second = Connection(connections, 1), Connection(connections, 2)
    third = Connection(connections, 3)
    assert ticker.shed()
    second.idle = False
    assert ticker.shed()
    assert (first.events, second.events, third.events) == (["closed"], [], ["closed"])


async def test_default_headers_are_rendered_again_only_when_the_server_renews_them() -> None:
    ticker = Ticker(asyncio.get_running_loop(), set(), 0.01)
    headers = [(b"date", b"now"), (b"x-a", b"b")]
    first = ticker.render(headers)
    assert first == b"\r\ndate: now\r\nx-a: b"
    assert ticker.render(headers) is first
    assert ticker.render([(b"date", b"later")]) == b"\r\ndate: later"
    assert ticker.render([]) == b""


async def test_each_server_has_one_clock() -> None:
    loop = asyncio.get_running_loop()
    one, other = ServerState(), ServerState()
    assert ticker_of(one, set(), loop, 1) is ticker_of(one, set(), loop, 1)
    assert ticker_of(one, set(), loop, 1) is not ticker_of(other, set(), loop, 1)
