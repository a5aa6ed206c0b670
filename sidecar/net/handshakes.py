"""TLS of the server's own: a client comes to the server once both have keys, and has little time for that."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.utils import get_remote_addr

from sidecar.net.limits import Crowd, Limits

HANDSHAKE = 10.0
"""Seconds for a handshake."""
SHUTDOWN = 1.0
"""Seconds for the client's word that it has seen the end."""
AT_ONCE = 1024
"""Handshakes under way; of one client as many as are free. Beyond it a client is cut off."""


class Handshakes:
    """Makes the protocol for a new client: it has a handshake by `context`, and then gets what `server` makes."""

    def __init__(self, context: ssl.SSLContext, server: Callable[..., Any], owner_of: Callable[[str], str]) -> None:
        self._context = context
        self._server = server
        self._crowd = Crowd(Limits(connections=AT_ONCE), owner_of)
        self._running: set[asyncio.Task[None]] = set()

    def __call__(self, **told: Any) -> asyncio.Protocol:
        """Make the protocol of one client; what uvicorn tells is the server's."""
        return _Newcomer(self, lambda: self._server(**told))

    def begin(self, transport: asyncio.Transport, make: Callable[[], asyncio.BaseProtocol]) -> None:
        """Begin the handshake of one client, where there is a place for it."""
        address = get_remote_addr(transport)
        owner = self._crowd.owner_of(address[0] if address else "")
        if self._crowd.is_full or not self._crowd.has_share_for(owner):
            transport.abort()
            return
        # uvloop may read before its `start_tls` does: the socket gets a transport of TLS in this one's place
        given = transport.get_extra_info("socket")
        try:
            connected = socket.socket(given.family, given.type, given.proto, os.dup(given.fileno()))
        except OSError:
            # the process has as many files open as it may
            return
        finally:
            transport.abort()
        self._crowd.enter(owner)
        task = asyncio.get_running_loop().create_task(self._shake_hands(connected, make))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: self._crowd.leave(owner))

    async def _shake_hands(self, connected: socket.socket, make: Callable[[], asyncio.BaseProtocol]) -> None:
        connected.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                make, connected, ssl=self._context, ssl_handshake_timeout=HANDSHAKE, ssl_shutdown_timeout=SHUTDOWN
            )
        except OSError:
            # no TLS, none that is new enough, too slow, or gone: nobody to answer
            connected.close()


class _Newcomer(asyncio.Protocol):
    """A client that has connected."""

    def __init__(self, handshakes: Handshakes, make: Callable[[], asyncio.BaseProtocol]) -> None:
        self._handshakes = handshakes
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handshakes.begin(cast(asyncio.Transport, transport), self._make)
