"""One connection of a client that says exactly what it is told to, byte for byte."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field

FIN = b"<FIN>"
"""As a segment: the client says that no more will come."""
APART = 0.15
"""Seconds between two segments."""


@dataclass
class Reply:
    """One answer as it stood on the wire. Header names are in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    head: bytes

    def values(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for key, value in self.headers if key == name]


@dataclass
class Exchange:
    """What one client got: the answers in order, and whether the server ended the connection after them."""

    replies: list[Reply] = field(default_factory=list)
    closed: bool = False
    data: bytes = b""

    @property
    def reply(self) -> Reply:
        """The only answer."""
        assert len(self.replies) == 1, self.data[:2000]
        return self.replies[0]


class Client:
    """A connection to 127.0.0.1. Reads time out after `timeout` seconds."""

    def __init__(self, port: int, timeout: float = 20.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""

    def send(self, *segments: bytes) -> None:
        """Send the segments one by one; a server that has closed in between is no error here."""
        with contextlib.suppress(OSError):
            for number, segment in enumerate(segments):
                if number:
                    time.sleep(APART)
                if segment == FIN:
                    self.socket.shutdown(socket.SHUT_WR)
                else:
                    self.socket.sendall(segment)

    def receive(self) -> bool:
        """Read once; False at the end of the connection."""
        try:
            part = self.socket.recv(65536)
        except ConnectionError:
            return False
        self.data += part
        return bool(part)

    def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`, which is taken away. EOFError when it does not come."""
        while mark not in self.data:
            if not self.receive():
                raise EOFError(self.data)
        head, _, self.data = self.data.partition(mark)
        return head + mark

    def exactly(self, count: int) -> bytes:
        """So many bytes, which are taken away."""
        while len(self.data) < count:
            if not self.receive():
                raise EOFError(self.data)
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def reply(self, method: str = "GET") -> Reply:
        """One answer by its own framing, of which there may be one only."""
        head = self.until(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = [(name.lower(), value.strip(" ")) for name, _, value in (line.partition(":") for line in lines[1:])]
        reply = Reply(int(lines[0].split(" ")[1]), headers, b"", head)
        lengths, codings = reply.values("content-length"), reply.values("transfer-encoding")
        assert len(lengths) + len(codings) <= 1, f"two framings: {head!r}"
        if method == "HEAD" or reply.status in (204, 304) or reply.status < 200:
            return reply
        if codings:
            reply.body = self._chunks()
        elif lengths:
            reply.body = self.exactly(int(lengths[0]))
        return reply

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.until(b"\r\n"), 16):
            body += self.exactly(size)
            self.exactly(2)
        self.exactly(2)
        return body

    def closes(self, seconds: float = 3.0) -> bool:
        """Whether the server ends the connection within so many seconds, without another byte."""
        self.socket.settimeout(seconds)
        try:
            return not self.receive() and not self.data
        except TimeoutError:
            return False


def exchange(port: int, segments: Iterable[bytes], method: str, answers: int, close: bool) -> Exchange:
    """Send the segments on a connection of their own, read so many answers, and see whether it is then closed."""
    client = Client(port)
    with closing(client.socket):
        client.send(*segments)
        result = Exchange()
        for _ in range(answers):
            result.replies.append(client.reply(method))
        result.closed = client.closes() if close else False
        result.data = client.data
    return result
