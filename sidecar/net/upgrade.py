"""The raw connection under a WebSocket handshake, and how an app takes it."""

from __future__ import annotations

import asyncio
from typing import Protocol

UPGRADE = "sidecar.upgrade"
"""The key in scope["extensions"] under which a valid WebSocket handshake has its `Upgrade`."""


class Takeable(Protocol):
    """Port: the connection as a handshake uses it."""

    transport: asyncio.Transport

    def give_away(self) -> asyncio.Transport:
        """See Upgrade.take."""

    def count_slow(self, blocked: bool) -> None:
        """See Upgrade.slow."""


class Upgrade:
    """The raw connection under a valid WebSocket handshake: for the app to take, or to leave by answering.

    `tail` is what came after the handshake. Reading is paused; whoever takes the transport resumes it.
    """

    def __init__(self, connection: Takeable, tail: bytes) -> None:
        self.tail = tail
        self._connection = connection

    def take(self) -> asyncio.Transport:
        """The transport, on which nothing has been written. Raises RuntimeError once answered, taken or closed.

        It is closed when the app returns, and the app's task is cancelled when the server shuts down.
        """
        return self._connection.give_away()

    def slow(self, blocked: bool) -> None:
        """Tell that the client takes nothing of what is written, or that it has caught up."""
        self._connection.count_slow(blocked)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """From now on `protocol` gets what the transport reads, and hears of its end. After `take`."""
        self._connection.transport.set_protocol(protocol)
