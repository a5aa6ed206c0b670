"""Raw sockets for the tests: a server in a thread of its own, and a client that sends bytes and reads answers."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from sidecar.net.exchange import App
from sidecar.net.http_server import config
from sidecar.net.limits import Limits

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
HANDSHAKE = (
    f"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{KEY}Sec-WebSocket-Version: 13\r\n\r\n"
).encode()
QUICK = Limits(head=0.3, body=0.3, body_rate=10_000, keep_alive=0.3, stall=0.3, linger=0.2, tick=0.02)


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    head: bytes

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    @property
    def code(self) -> str:
        assert self.header("content-type") == ["application/problem+json"]
        content = json.loads(self.body)
        assert set(content) == {"type", "title", "status", "code"}
        assert content["status"] == self.status
        return str(content["code"])


class Client:
    """One connection. Reads raise TimeoutError after five seconds, so that a server that hangs fails its test."""

    def __init__(self, port: int, timeout: float = 20) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *segments: bytes, pause: float = 0.03) -> None:
        for number, segment in enumerate(segments):
            if number:
                time.sleep(pause)
            self.socket.sendall(segment)

    def _more(self) -> bool:
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def _take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            if not self._more():
                raise EOFError(self.buffer)
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            if not self._more():
                raise EOFError(self.buffer)
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def answer(self, method: str = "GET") -> Answer:
        """Read one answer by its own framing; EOFError if the connection ends before the answer does."""
        lines = [self._line()]
        while lines[-1]:
            lines.append(self._line())
        status = int(lines[0].split(b" ")[1])
        headers = []
        for line in lines[1:-1]:
            name, value = line.decode("latin-1").split(": ", 1)
            headers.append((name.lower(), value))
        named = dict(headers)
        assert not {"content-length", "transfer-encoding"} <= set(named), "both framings"
        if method == "HEAD" or status in (204, 304) or status < 200:
            body = b""
        elif "transfer-encoding" in named:
            body = b"".join(self._chunks())
        elif "content-length" in named:
            body = self._take(int(named["content-length"]))
        else:
            body = self.rest()
        return Answer(status, headers, body, b"\r\n".join(lines))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._line(), 16):
            yield self._take(size)
            assert self._take(2) == b"\r\n"
        assert self._line() == b""

    def rest(self) -> bytes:
        """Everything until the server closes."""
        while self._more():
            pass
        taken, self.buffer = self.buffer, b""
        return taken

    def closed(self) -> bool:
        """Whether the server closes now, without another byte."""
        try:
            return self.rest() == b""
        except ConnectionResetError:
            return True


@dataclass
class Seen:
    """One request as the app saw it when it was started, and what came of it."""

    scope: dict[str, Any]
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    events: list[str] = field(default_factory=list)
    complete: bool = False
    let_go: threading.Event = field(default_factory=threading.Event)

    @property
    def target(self) -> bytes:
        return bytes(self.scope["raw_target"])


class Running:
    """A server in a thread. `seen` has a record of every request for which the app was started."""

    def __init__(self, app: App, limits: Limits | None = None, graceful: int = 1, **listen: Any) -> None:
        self.seen: list[Seen] = []
        self._app = app
        listen = listen or {"host": "127.0.0.1", "port": 0}
        self.server = uvicorn.Server(config(self._run, limits=limits, timeout_graceful_shutdown=graceful, **listen))
        self._thread = threading.Thread(target=self.server.run, daemon=True)

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        seen = Seen(scope, list(scope["headers"]))
        self.seen.append(seen)
        scope["test.seen"] = seen
        await self._app(scope, receive, send)

    def start(self) -> None:
        self._thread.start()
        until(lambda: self.server.started)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(10)
        assert not self._thread.is_alive(), "the server did not stop"

    @property
    def port(self) -> int:
        return int(self.server.servers[0].sockets[0].getsockname()[1])

    @property
    def targets(self) -> list[bytes]:
        return [seen.target for seen in self.seen]

    def client(self, timeout: float = 20) -> Client:
        return Client(self.port, timeout)


@contextmanager
def running(app: App, limits: Limits | None = None, **listen: Any) -> Iterator[Running]:
    server = Running(app, limits, **listen)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for a condition, and fail if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.005)


async def read_all(receive: Any, seen: Seen) -> bool:
    """Read the body into `seen`; False if the client, or the body, broke off."""
    while True:
        message = await receive()
        seen.events.append(message["type"])
        if message["type"] == "http.disconnect":
            return False
        seen.body += message["body"]
        if not message["more_body"]:
            seen.complete = True
            return True


async def reply(send: Any, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    """One answer with a content-length."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})
