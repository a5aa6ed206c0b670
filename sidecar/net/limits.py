"""Limits of one client of the server, and the one clock that sees to it for all connections."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from uvicorn.server import ServerState

PIPELINED = 8
"""Requests of a turn of the loop that were pipelined behind others. A turn also accepts one connection (libuv), so the
others wait for as long as these take: some 1 ms."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a client, in seconds, bytes and connections."""

    head: float = 10.0
    """From the opening of the connection, or the first byte of a later request, to the end of the head."""
    body: float = 30.0
    """How long the app may have to wait for the body in all; every `body_rate` bytes that come give a second back."""
    body_rate: int = 500
    keep_alive: float = 75.0
    """Of silence after an answer: longer than the 60 s for which load balancers keep a connection, so that they are the
    ones who close it. Where places run out, idle connections are closed before."""
    stall: float = 60.0
    """How long the client may be waited for in all; every `answer_rate` bytes of answers that it takes give a second
    back."""
    answer_rate: int = 500
    linger: float = 1.0
    """How long, and how many bytes, are read and dropped after an answer that did not wait for the whole request."""
    linger_bytes: int = 128 * 1024
    buffer: int = 64 * 1024
    """Of a body that the app has not read yet; then reading pauses."""
    connections: int = 4096
    """Beyond it idle connections are closed, and where there are none a new one is answered 503."""
    blocked: int = 1024
    """Clients at once that have not taken what they asked for, each of which may hold 64 KiB here. Beyond it the one
    that has taken nothing for longest is cut off."""
    tick: float = 0.5
    """How exact the times above are."""


class Drain:
    """Return whether a server is about to stop. Once it has `begun`, each answer is the last on its connection: a
    client that keeps one opens its next elsewhere, instead of meeting the end of this one in the middle of a
    request."""

    __slots__ = ("begun",)

    def __init__(self) -> None:
        self.begun = False


class Timed(Protocol):
    """A connection as the clock sees it. `deadline` is in the loop's time, infinity for none; `owner` as of `Slow`."""

    deadline: float
    owner: str

    @property
    def idle(self) -> bool:
        """Return whether it has a place, and nothing of a request has come since the opening or the last answer."""

    @property
    def idle_since(self) -> float:
        """Return when it was opened or its last answer ended, in the loop's time; only where it is idle."""

    def expire(self) -> None:
        """The deadline has passed."""

    def close(self) -> None:
        """Close when what is written has been taken."""


class Patience:
    """How long one client may still be waited for to take its answers. Times are the loop's."""

    __slots__ = ("_left", "_limits", "_since", "_unsent")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.stall
        self._since = 0.0
        self._unsent = 0

    def begin(self, now: float, unsent: int) -> float:
        """Wait from now on for a client that has to take so many bytes; when the time that it has is over."""
        self._since, self._unsent = now, unsent
        return now + self._left

    def credit(self, now: float, unsent: int) -> bool:
        """Take away the time since then, and give some back for what was taken; whether there is more to wait."""
        taken = max(0, self._unsent - unsent)
        left = self._left - (now - self._since) + taken / self._limits.answer_rate
        # no less than the clock can tell: one that takes all of it at the last moment may go on
        self._left = max(self._limits.tick, min(self._limits.stall, left))
        return self._left > self._limits.tick


class Slow(Protocol):
    """A connection whose client can be slow. `owner` is in whose name it is, "" for nobody's."""

    owner: str

    def cut(self) -> None:
        """Close at once, whatever is unsent."""


class Crowd:
    """The connections of one server by their owners. One owner gets as many as are free, so that a few of them always
    leave places to the others (A. K. Choudhury and E. L. Hahne, "Dynamic queue length thresholds", 1998)."""

    def __init__(self, limits: Limits, owner_of: Callable[[str], str] = lambda _: "") -> None:
        self.owner_of = owner_of
        self._limits = limits
        self._places = 0
        self._open: Counter[str] = Counter()
        self._blocked: dict[Slow, None] = {}  # the one that is so for longest first
        self._owners_blocked: Counter[str] = Counter()

    @property
    def is_full(self) -> bool:
        """Return whether all places are taken."""
        return self._places >= self._limits.connections

    def has_share_for(self, owner: str, idle: int = 0) -> bool:
        """Return whether this owner may have one more place, where so many idle connections would give theirs up."""
        return not owner or self._open[owner] < self._limits.connections - self._places + idle

    def enter(self, owner: str) -> None:
        """Count one more connection, which must `leave`."""
        self._places += 1
        self._open[owner] += 1

    def leave(self, owner: str) -> None:
        """The connection has ended."""
        self._places -= 1
        _less(self._open, owner)

    def block(self, connection: Slow) -> None:
        """Its client does not take what is written. Where there are too many of these, one of them is cut off."""
        if connection in self._blocked:
            return
        owner = connection.owner
        self._blocked[connection] = None
        self._owners_blocked[owner] += 1
        free = self._limits.blocked - len(self._blocked)
        if free < 0:
            victim = next(iter(self._blocked))
        elif owner and self._owners_blocked[owner] > free:
            victim = next(each for each in self._blocked if each.owner == owner)
        else:
            return
        self.unblock(victim)
        victim.cut()

    def unblock(self, connection: Slow) -> None:
        """Its client has taken enough, or has left; nothing for one that was not blocked."""
        if connection in self._blocked:
            del self._blocked[connection]
            _less(self._owners_blocked, connection.owner)


def _less(counts: Counter[str], owner: str) -> None:
    counts[owner] -= 1
    if not counts[owner]:
        del counts[owner]


class Turns:
    """Begins the requests that clients have pipelined, a few in each turn of the loop: however many wait, connections
    that are opened and requests that come alone are served between them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, each_turn: int) -> None:
        self._loop = loop
        self._each_turn = each_turn
        self._waiting: deque[Callable[[], None]] = deque()

    def wait(self, begin: Callable[[], None]) -> None:
        """Call `begin` in a later turn, in the order of asking."""
        if not self._waiting:
            self._loop.call_soon(self._turn)
        self._waiting.append(begin)

    def _turn(self) -> None:
        for _ in range(min(self._each_turn, len(self._waiting))):
            self._waiting.popleft()()
        if self._waiting:
            self._loop.call_soon(self._turn)


class Ticker:
    """Looks at the deadlines of a server's connections every `tick` seconds; `now` is as old as its last look.

    One timer for all, because a timer of its own for every request would cost more than the request.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: set[Timed], tick: float) -> None:
        self.now = loop.time()
        self.turns = Turns(loop, PIPELINED)
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

    def idle(self) -> int:
        """Return how many connections are idle. Searched once per tick."""
        if self._idle_at != self.now:
            self._idle_at = self.now
            idle = [each for each in self._connections if each.idle]
            self._idle = sorted(idle, key=lambda each: each.idle_since, reverse=True)
        return len(self._idle)

    def shed(self, owner: str = "") -> bool:
        """Close the connection that has been idle for longest, of one owner or of all; False if none is idle."""
        self.idle()
        for at in range(len(self._idle) - 1, -1, -1):
            connection = self._idle[at]
            if not owner or connection.owner == owner:
                del self._idle[at]
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
