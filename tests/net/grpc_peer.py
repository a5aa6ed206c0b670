"""A server of gRPC that says exactly what a test wants, and calls to it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hpack import Decoder, Encoder

from sidecar.net.grpc_client import Channel
from sidecar.net.grpc_client_connection import GrpcMethod
from sidecar.wire.grpc import CallFailed, Status

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 0x20
HEAD = [(":status", "200"), ("content-type", "application/grpc")]
OK = [("grpc-status", "0"), ("grpc-message", "")]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def block(*fields: tuple[str, str]) -> bytes:
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(fields)


def headers(stream: int, fields: list[tuple[str, str]], end: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(*fields))


def message(body: bytes) -> bytes:
    return b"\0" + len(body).to_bytes(4, "big") + body


def data(stream: int, body: bytes) -> bytes:
    return b"".join(frame(DATA, 0, stream, body[at : at + 16384]) for at in range(0, len(body), 16384))


def answer(stream: int, body: bytes) -> bytes:
    return headers(stream, HEAD) + data(stream, message(body)) + headers(stream, OK, end=True)


def settings(*pairs: tuple[int, int], flags: int = 0) -> bytes:
    return frame(SETTINGS, flags, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


class Peer:
    """One connection at the server's side, frame by frame. `seen` is all that came; `asked` the whole questions."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.seen: list[tuple[int, int, int, bytes]] = []
        self.fields: dict[int, list[tuple[str, str]]] = {}
        self.bodies: dict[int, bytes] = {}
        self.decoder = Decoder()

    def send(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)

    async def run(self) -> None:
        assert await self.reader.readexactly(len(PREFACE)) == PREFACE
        if self.server.hello:
            self.send(self.server.hello)
        while True:
            head = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            self.seen.append((kind, flags, stream, payload))
            if kind == HEADERS:
                self.fields[stream] = [(str(n), str(v)) for n, v in self.decoder.decode(payload)]
                self.bodies[stream] = b""
            if kind == DATA:
                self.bodies[stream] += payload
                if flags & END_STREAM:
                    await self.server.behave(self, stream, self.bodies[stream])

    def of(self, kind: int) -> list[tuple[int, int, bytes]]:
        return [(flags, stream, payload) for seen, flags, stream, payload in self.seen if seen == kind]


Behave = Callable[[Peer, int, bytes], Awaitable[None]]


class Server:
    """`behave` says what becomes of a whole question, `hello` what is said at first."""

    def __init__(self, behave: Behave, hello: bytes = settings()) -> None:
        self.behave = behave
        self.hello = hello
        self.peers: list[Peer] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(self, reader, writer)
        self.peers.append(peer)
        try:
            await peer.run()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def talking(
    behave: Behave, hello: bytes = settings(), timeout: float = 2.0
) -> AsyncIterator[tuple[Server, Talk]]:
    server = Server(behave, hello)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    target = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    talk = Talk(target, timeout)
    try:
        yield server, talk
    finally:
        await talk.channel.aclose()
        listening.close()
        for peer in server.peers:
            peer.writer.close()
        await asyncio.sleep(0)


class Talk:
    """A channel, and calls on it."""

    def __init__(self, target: str, timeout: float) -> None:
        self.target = target
        self.method = GrpcMethod("/a.B/C", target, timeout)
        self.other = GrpcMethod("/a.B/D", target, timeout)
        self.channel = Channel(target, self.method)
        self.timeout = timeout

    async def __call__(self, body: bytes = b"x", method: GrpcMethod | None = None) -> bytes:
        deadline = asyncio.get_running_loop().time() + self.timeout
        return await self.channel.call(method or self.method, body, deadline)

    async def fails(self, body: bytes = b"x") -> tuple[Status, str]:
        with pytest.raises(CallFailed) as caught:
            await self(body)
        return caught.value.status, caught.value.detail


async def echo(peer: Peer, stream: int, body: bytes) -> None:
    peer.send(answer(stream, body[5:]))


def says(*parts: bytes | Callable[[int], bytes]) -> Behave:
    """Answer each question with these bytes."""

    async def behave(peer: Peer, stream: int, _: bytes) -> None:
        peer.send(b"".join(part if isinstance(part, bytes) else part(stream) for part in parts))

    return behave


async def silence(*_: object) -> None:
    pass


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
