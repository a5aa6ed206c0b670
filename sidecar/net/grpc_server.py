"""A server of gRPC: who connects is answered, until it stops.

The other side of `net/grpc_client.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from typing import cast

from sidecar.net.grpc_limits import GrpcLimits, GrpcPlaces
from sidecar.net.grpc_server_connection import NO_TALKS, Handler, ServerConnection
from sidecar.net.grpc_server_stream import StreamHandler


class GrpcServer:
    """Answers the calls of everybody who connects. `handlers` are by path, as `/package.Service/Method`, and so are
    `talks`, the methods of many messages."""

    def __init__(
        self, handlers: Mapping[bytes, Handler], limits: GrpcLimits | None = None,
        talks: Mapping[bytes, StreamHandler] = NO_TALKS,
    ) -> None:  # fmt: skip
        self._handlers = handlers
        self._talks = talks
        self._limits = limits or GrpcLimits()
        self._none = asyncio.Event()
        self._connections: set[ServerConnection] = set()
        self._server: asyncio.Server | None = None

    async def start(self, sock: socket.socket) -> None:
        """Answer on a listening socket."""
        loop = asyncio.get_running_loop()
        places = GrpcPlaces(self._limits, loop)
        self._connections = cast(set[ServerConnection], places.connections)
        serve = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        self._server = await serve(lambda: ServerConnection(self._handlers, places, self._lost, self._talks), sock=sock)

    async def stop(self, within: float) -> None:
        """Take no more connections, let every client know, and give what is under way so many seconds."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            self._none.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._none.wait(), within)
        for connection in list(self._connections):
            connection.transport.abort()

    def _lost(self) -> None:
        if not self._connections:
            self._none.set()
