"""An HTTP/1.1 server on raw sockets with a fault switch: the peer of the clients' tests, reusable by every other test.

    async with upstream("head_with_body") as server:      # or a Play of one's own
        hook = Fetch(server.origin)
        server.play = FAULTS["none"]                       # the switch may be turned at any time

A fault without a play of one's own answers every request in the same way; "by_target" does what the target says:
`/fault/head_with_body/anything`. A good answer says whose it is: its body is `GET /target`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sidecar.net.pool import Origin
from tests.stack import free_port

EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
"""What poisons the next answer on a connection where it is left over."""
LONG_HEAD = b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Request:
    """A head as it came: `connection` numbers the connections from 1; header names are in lower case."""

    connection: int
    method: str
    target: str
    headers: list[tuple[str, str]]
    head: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def says(self) -> bytes:
        """The body of a good answer."""
        return f"{self.method} {self.target}".encode()


class Wire:
    """The server's end of one connection."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer

    async def next_request(self) -> Request | None:
        """The next head, None when the client has closed."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]
        return Request(self.number, method, target, headers, head)

    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """The pieces of the body. Raises IncompleteReadError when the client breaks it off."""
        if request.header("transfer-encoding"):
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                yield await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            await self.reader.readexactly(2)
            return
        left = int((request.header("content-length") or ["0"])[0])
        while left:
            piece = await self.reader.read(min(left, 65536))
            if not piece:
                raise asyncio.IncompleteReadError(piece, left)
            left -= len(piece)
            yield piece

    async def whole_body(self, request: Request) -> bytes:
        return b"".join([piece async for piece in self.body(request)])

    async def send(self, *segments: bytes, pause: float = 0.02) -> None:
        """Send each segment by itself. Raises ConnectionError when the client is gone."""
        for number, segment in enumerate(segments):
            if number:
                await asyncio.sleep(pause)
            if self.writer.is_closing():
                raise ConnectionResetError
            self.writer.write(segment)
            await self.writer.drain()

    async def gone(self) -> None:
        """Wait until the client has closed, whatever else it sends."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def close(self) -> None:
        self.writer.close()


Play = Callable[[Wire, Request], Awaitable[None]]
"""What the server does with one request after its head; whatever it leaves of the body is the next request."""


@dataclass
class Upstream:
    """A running server and what it saw. `broken_off` counts the requests that the client left before it had read them
    or their answer; `live` counts the connections that are open now."""

    play: Play
    origin: Origin = field(default_factory=lambda: Origin("http"))
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    live: int = 0
    broken_off: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.live += 1
        wire = Wire(self.connections, reader, writer)
        try:
            while (request := await wire.next_request()) is not None:
                self.requests.append(request)
                await self.play(wire, request)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.broken_off += 1
        except asyncio.CancelledError:
            pass  # the end of the test
        finally:
            self._tasks.discard(task)
            self.live -= 1
            writer.transport.abort()

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def upstream(
    play: Play | str = "none",
    *,
    tls: ssl.SSLContext | None = None,
    unix: Path | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
) -> AsyncIterator[Upstream]:
    """Run a server on a port of its own, on `port` of `host`, or on the socket `unix`, in the loop of the test.

    A port of its own is free at other addresses too, and when the server has ended.
    """
    running = Upstream(FAULTS[play] if isinstance(play, str) else play)
    if unix is not None:
        server = await asyncio.start_unix_server(running.serve, unix)
        running.origin = Origin("unix", path=str(unix))
    else:
        port = port or free_port()
        server = await asyncio.start_server(running.serve, host, port, ssl=tls, backlog=1024)
        running.origin = Origin("https" if tls else "http", host, port)
    try:
        yield running
    finally:
        server.close()
        await running.stop()


@contextlib.contextmanager
def upstream_in_thread(play: Play | str = "none") -> Iterator[Upstream]:
    """Run a server in a thread and loop of its own: it goes on while the test's loop stands still."""
    started: list[tuple[Upstream, asyncio.AbstractEventLoop, asyncio.Event]] = []
    ready = threading.Event()

    async def run() -> None:
        stop = asyncio.Event()
        async with upstream(play) as running:
            started.append((running, asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(5)
    running, loop, stop = started[0]
    try:
        yield running
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


# --- plays ---


def answer(status: int = 200, body: bytes = b"", *headers: bytes) -> bytes:
    """A good answer: one framing, and the connection kept."""
    lines = [b"HTTP/1.1 %d X" % status, *headers, b"Content-Length: %d" % len(body), b"", body]
    return b"\r\n".join(lines)


def chunked(*pieces: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def good(wire: Wire, request: Request) -> None:
    """Read the whole request, and say whose it was."""
    await wire.whole_body(request)
    await wire.send(answer(200, b"" if request.method == "HEAD" else request.says))


def says(*segments: bytes, pause: float = 0.02, then_close: bool = False) -> Play:
    """Read the whole request, and send these segments whatever it was."""

    async def play(wire: Wire, request: Request) -> None:
        await wire.whole_body(request)
        await wire.send(*segments, pause=pause)
        if then_close:
            wire.close()

    return play


def drips(data: bytes, pause: float) -> Play:
    """One byte after the other."""
    return says(*(bytes([octet]) for octet in data), pause=pause)


async def _silent(wire: Wire, request: Request) -> None:
    await wire.gone()
    raise ConnectionResetError


async def _closes(wire: Wire, request: Request) -> None:
    wire.close()


async def _keeps_then_closes(wire: Wire, request: Request) -> None:
    await good(wire, request)
    wire.close()


Make = Callable[[bytes], bytes]
"""What the request says -> an answer."""


def _two_framings(own: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n" + own[:4] + b"\r\n0\r\n\r\n"
    )


POISONS: dict[str, tuple[str, Make]] = {
    "head_with_body": ("HEAD", lambda own: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(EVIL)),
    "no_content_with_body": ("GET", lambda own: b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not_modified_with_body": ("GET", lambda own: b"HTTP/1.1 304 Not Modified\r\nContent-Length: 52\r\n\r\n"),
    "extra_after_length": ("GET", lambda own: answer(200, own)),
    "extra_after_last_chunk": ("GET", lambda own: chunked(own)),
    "two_framings": ("GET", _two_framings),
}
"""The six shapes in which EVIL follows an answer, and would be taken for the next: method, and the answer."""


def _poison(make: Make, pause: float) -> Play:
    async def play(wire: Wire, request: Request) -> None:
        await wire.whole_body(request)
        first = make(request.says)
        await wire.send(*([first, EVIL] if pause else [first + EVIL]), pause=pause)

    return play


FAULTS: dict[str, Play] = {
    "none": good,
    **{name: _poison(make, 0) for name, (_, make) in POISONS.items()},
    **{f"{name}_late": _poison(make, 0.02) for name, (_, make) in POISONS.items()},
    "closed_before_answer": _closes,
    "closed_after_answer": _keeps_then_closes,
    "silent": _silent,
    "garbage": says(b"220 mail.test ESMTP\r\n"),
    "drip_head": drips(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 1000, 0.02),
    "stalled_body": says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
    "truncated_length": says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", then_close=True),
    "truncated_chunk": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", then_close=True),
    "no_last_chunk": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", then_close=True),
    "truncated_head": says(b"HTTP/1.1 200 OK\r\nContent-Le", then_close=True),
    "broken_chunk": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n"),
    "unsolicited_101": says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + EVIL),
    "status_199": says(b"HTTP/1.1 199 X\r\nContent-Length: 0\r\n\r\n", then_close=True),
    "status_600": says(b"HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n"),
    "status_999": says(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"),
    "two_lengths": says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 4\r\n\r\nEVIL"),
    "long_head": says(LONG_HEAD),
    "many_interims": says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 40 + answer(200, b"late")),
}
"""The switch: name -> what is done with every request."""


async def _by_target(wire: Wire, request: Request) -> None:
    parts = request.target.split("/")
    await (FAULTS[parts[2]] if parts[1] == "fault" else good)(wire, request)


FAULTS["by_target"] = _by_target

_numbers = itertools.count(1)


def unique_target(prefix: str = "") -> bytes:
    """A target that no other request has, so that an answer can be told from everybody else's."""
    return f"{prefix}/{next(_numbers)}".encode()
