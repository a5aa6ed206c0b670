"""Limits of the gRPC door: what one client may use, and what all of them may use together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sidecar.net.limits import Ticker, Timed

MAX_CALLS = 1024
"""Calls at once on one connection, as its settings tell a client."""
MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of a question; gRPC's own default."""
MAX_UNSENT = 4 * 1024 * 1024
"""Bytes that wait for one client; with more it is given up."""


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """In seconds, bytes, frames, calls and connections."""

    greeting: float = 10.0
    """From the opening of a connection to the client's settings."""
    question: float = 10.0
    """From the beginning of a call to the end of its question, and from the first byte of a frame to its last."""
    answer: float = 60.0
    """How long a client may leave an answer where it is."""
    silence: float = 3600.0
    """How long a call of many messages may say nothing: another proxy's app may take its time."""
    idle: float = 3600.0
    """Without a call; Envoy's own time for connections that it does not use, so that it goes first."""
    young: float = 2.0
    """How long after a call, or its greeting, a connection does not make room for another."""
    frames: int = 2000
    """Frames of a second that are no part of a call: pings, settings, windows, resets, blocks in pieces."""
    connections: int = 1024
    """Beyond it the one that was not used for longest makes room; where all are used, a new one is closed."""
    calls: int = 8 * MAX_CALLS
    """Of all connections; each may have as many as the others leave free."""
    held: int = 16 * MAX_MESSAGE
    """Bytes of questions, of all connections; each may hold as many as the others leave free."""
    message: int = MAX_MESSAGE
    """Of one message."""
    unsent: int = MAX_UNSENT
    """Bytes that wait for one client; with more it is given up."""
    tick: float = 1.0
    """How exact the times above are."""


class GrpcPlaces:
    """Places that the connections of one server use together: each gets as many as are free, as owners of a `Crowd`."""

    def __init__(self, limits: GrpcLimits, loop: asyncio.AbstractEventLoop) -> None:
        self.limits = limits
        self.calls = 0
        self.held = 0
        self.connections: set[Timed] = set()
        self.ticker = Ticker(loop, self.connections, limits.tick)

    def has_call_for(self, own: int) -> bool:
        """Return whether a connection with so many calls may have one more."""
        return own < MAX_CALLS and own < self.limits.calls - self.calls

    def has_bytes_for(self, own: int) -> bool:
        """Return whether a connection may hold so many bytes of questions."""
        return own <= self.limits.held - self.held
