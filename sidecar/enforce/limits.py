"""What one client may use of the server, and the one clock that sees to it for all connections."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from uvicorn.server import ServerState


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may use, in seconds, bytes and connections."""

    head: float = 10.0
    """From the opening of the connection, or the first byte of a later request, to the end of the head."""
    body: float = 30.0
    """How long the app may have to wait for the body in all; every `body_rate` bytes that come give a second back."""
    body_rate: int = 500
    keep_alive: float = 5.0
    """Of silence after an answer."""
    stall: float = 60.0
    """How long the client may take no bytes of an answer."""
    linger: float = 1.0
    """How long, and how many bytes, are read and dropped after an answer that did not wait for the whole request."""
    linger_bytes: int = 128 * 1024
    buffer: int = 64 * 1024
    """Of a body that the app has not read yet; then reading pauses."""
    connections: int = 4096
    """Beyond it idle connections are closed, and where there are none a new one is answered 503."""
    tick: float = 0.5
    """How exact the times above are."""


class Drain:
    """Whether a server is about to stop. Once it has `begun`, each answer is the last on its connection: a client that
    keeps one opens its next elsewhere, instead of meeting the end of this one in the middle of a request."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False


class Timed(Protocol):
    """A connection as the clock sees it. `deadline` is in the loop's time, infinity for none."""

    deadline: float

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come since the opening or the last answer."""

    def expire(self) -> None:
        """The deadline has passed."""

    def close(self) -> None:
        """Close when what is written has been taken."""


class Ticker:
    """Looks at the deadlines of a server's connections every `tick` seconds; `now` is as old as its last look.

    One timer for all, because a timer of its own for every request would cost more than the request.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: set[Timed], tick: float) -> None:
        self.now = loop.time()
        self._loop = loop
        self._connections = connections
        self._seconds = tick
        self._running = False
        self._idle: list[Timed] = []
        self._idle_at = -math.inf
        self._headers: list[tuple[bytes, bytes]] = []
        self._rendered = b""

    def start(self) -> None:
        """Run, as long as there are connections from the next look on."""
        if not self._running:
            self.now = self._loop.time()
            self._running = True
            self._loop.call_later(self._seconds, self._tick)

    def _tick(self) -> None:
        self.now = now = self._loop.time()
        for connection in [each for each in self._connections if each.deadline <= now]:
            connection.expire()
        self._running = False
        if self._connections:
            self.start()

    def shed(self) -> bool:
        """Close the connection that has been idle for longest; False if none is idle. Searched once per tick."""
        if self._idle_at != self.now:
            self._idle_at = self.now
            idle = [each for each in self._connections if each.idle]
            self._idle = sorted(idle, key=lambda each: each.deadline, reverse=True)
        while self._idle:
            connection = self._idle.pop()
            if connection.idle:
                connection.close()
                return True
        return False

    def render(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The server's default headers as bytes; it makes a new list of them once a second."""
        if headers is not self._headers:
            self._headers = headers
            self._rendered = b"".join(b"\r\n%b: %b" % header for header in headers)
        return self._rendered


_tickers: WeakKeyDictionary[ServerState, Ticker] = WeakKeyDictionary()


def ticker_of(state: ServerState, connections: set[Timed], loop: asyncio.AbstractEventLoop, tick: float) -> Ticker:
    """The clock of the server whose state this is, made when its first connection asks for it."""
    ticker = _tickers.get(state)
    if ticker is None:
        ticker = _tickers[state] = Ticker(loop, connections, tick)
    return ticker
