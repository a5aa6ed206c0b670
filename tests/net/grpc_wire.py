"""A server of gRPC on a socket, and a client that sends frames as it likes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hpack import Decoder, Encoder

from sidecar.net.grpc_limits import GrpcLimits
from sidecar.net.grpc_server import GrpcServer
from sidecar.net.grpc_server_connection import ServerConnection
from sidecar.net.grpc_server_stream import Conversation
from sidecar.wire.grpc import CallFailed, Status
from sidecar.wire.http2 import PREFACE

PATH, TALK = "/a.B/C", "/a.B/Talk"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 1
END_HEADERS = 4
PADDED = 8
REQUEST = [
    (":method", "POST"), (":scheme", "http"), (":path", PATH), (":authority", "a"), ("content-type", "application/grpc"),
    ("te", "trailers"),
]  # fmt: skip


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(data: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(data)) + data


HELLO = PREFACE + frame(SETTINGS, 0, 0)


@dataclass
class World:
    """A server on a socket, and what its methods see."""

    port: int = 0
    server: GrpcServer | None = None
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    begun: int = 0
    cancelled: int = 0

    @property
    def connections(self) -> list[ServerConnection]:
        """Those of the server."""
        assert self.server is not None
        return list(self.server._connections)

    async def echo(self, data: bytes) -> bytes:
        self.begun += 1
        return data

    async def wait(self, data: bytes) -> bytes:
        self.begun += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return data

    async def fail(self, data: bytes) -> bytes:
        raise CallFailed(Status.NOT_FOUND, "nothing: \u20ac")

    async def talk(self, call: Conversation) -> None:
        """Say each message twice; end badly at `fail`, and forget itself at `bug`."""
        self.begun += 1
        try:
            while (heard := await call.receive()) is not None:
                if heard == b"fail":
                    raise CallFailed(Status.ABORTED, "said so")
                if heard == b"bug":
                    raise RuntimeError(heard)
                if heard == b"end":
                    return
                if heard == b"wait":
                    await self.go_on.wait()
                call.send(heard)
                call.send(heard)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def bug(self, data: bytes) -> bytes:
        raise RuntimeError(data)


@asynccontextmanager
async def serving(**limits: float) -> AsyncIterator[World]:
    made = World()
    made.server = GrpcServer(
        {PATH.encode(): made.echo, b"/a.B/Wait": made.wait, b"/a.B/Fail": made.fail, b"/a.B/Bug": made.bug},
        GrpcLimits(**limits),  # type: ignore[arg-type]
        {TALK.encode(): made.talk},
    )
    sock = socket.create_server(("127.0.0.1", 0))
    made.port = sock.getsockname()[1]
    sock.setblocking(False)
    await made.server.start(sock)
    yield made
    await made.server.stop(0)


class Wire:
    """A client that sends frames as it likes. `answers` are (stream, headers, data, trailers) so far."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.decoder, self.encoder = Decoder(), Encoder()

    @classmethod
    async def open(cls, world: World, hello: bytes = HELLO) -> Wire:
        wire = cls(*await asyncio.open_connection("127.0.0.1", world.port))
        wire.send(hello)
        return wire

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def call(self, stream: int, data: bytes = b"", path: str = PATH, more: tuple[tuple[str, str], ...] = ()) -> None:
        fields = [(name, path if name == ":path" else value) for name, value in REQUEST]
        block = self.encoder.encode([*fields, *more])
        self.send(frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, message(data)))

    def begin(self, stream: int, data: bytes = b"", path: str = TALK) -> None:
        """Open a call, and say these bytes of its body."""
        fields = [(name, path if name == ":path" else value) for name, value in REQUEST]
        self.send(frame(HEADERS, END_HEADERS, stream, self.encoder.encode(fields)))
        self.say(stream, data)

    def say(self, stream: int, data: bytes) -> None:
        """Send bytes of the body of a call, in as many frames as they need."""
        self.send(*(frame(DATA, 0, stream, data[at : at + 16384]) for at in range(0, len(data), 16384)))

    async def next(self) -> tuple[int, int, int, bytes]:
        """The next frame: kind, flags, stream, payload. Raises IncompleteReadError at the end."""
        async with asyncio.timeout(5):
            head = await self.reader.readexactly(9)
            size = int.from_bytes(head[:3], "big")
            return head[3], head[4], int.from_bytes(head[5:], "big"), await self.reader.readexactly(size)

    async def next_of(self, kind: int) -> tuple[int, int, bytes]:
        while True:
            found, flags, stream, payload = await self.next()
            if found == HEADERS and kind != HEADERS:
                self.decoder.decode(payload)
            if found == kind:
                return flags, stream, payload

    async def fields(self) -> tuple[int, dict[str, str]]:
        """The next block of headers: stream, fields."""
        _, stream, block = await self.next_of(HEADERS)
        return stream, self._read(block)

    async def answer(self) -> tuple[int, bytes, dict[str, str]]:
        """The next whole answer: stream, message, trailers; no other answer may come between."""
        stream, head = await self.fields()
        assert head == {":status": "200", "content-type": "application/grpc"}
        data = b""
        while True:
            kind, flags, number, payload = await self.next()
            if number != stream:
                continue
            if kind == DATA:
                data += payload
            elif kind == HEADERS:
                assert flags & END_STREAM
                return stream, data, self._read(payload)

    def _read(self, block: bytes) -> dict[str, str]:
        return {str(name): str(value) for name, value, *_ in self.decoder.decode(block)}

    async def goaway(self) -> int:
        """The error code with which the server gives the connection up, which it then closes."""
        _, _, payload = await self.next_of(GOAWAY)
        assert await self.reader.read() == b""
        return int.from_bytes(payload[4:8], "big")

    async def close(self) -> None:
        self.writer.close()
