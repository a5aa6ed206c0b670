"""Sending of one end of a connection of HTTP/2, within the windows that its peer gives (RFC 9113 sections 5.2 and 6.9).

A window for the connection and one for each stream. A peer may open none of them, or only some; what waits is sent in
the order in which it came, and a stream that its own window holds up holds up no other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from sidecar.wire import http2
from sidecar.wire.http2 import FLOW_CONTROL_ERROR, MAX_FRAME, MAX_WINDOW, ProtocolError


class Outgoing(Protocol):
    """Body of one stream."""

    more: int
    """Bytes that the peer takes besides the initial window: 0 at first, below 0 for what has been sent of that."""
    unsent: bytes
    """Bytes that wait."""


class SendWindows:
    """Sends the bodies of one connection's `streams`, by `write`. The last frame of a body has the flags `last`;
    `sent` is told of each body that had to wait and is sent."""

    __slots__ = ("_initial", "_last", "_ready", "_sent", "_stalled", "_streams", "_window", "_write", "waiting")

    def __init__(
        self, streams: Mapping[int, Outgoing], write: Callable[[bytes], None], *, last: int = 0,
        sent: Callable[[int], None] | None = None,
    ) -> None:  # fmt: skip
        self._streams = streams
        self._write = write
        self._last = last
        self._sent = sent
        self._window = self._initial = http2.DEFAULT_WINDOW
        self._ready: deque[int] = deque()  # streams that the connection's window holds up
        self._stalled: dict[int, None] = {}  # and those that their own window holds up, in order
        self.waiting = 0
        """Bytes that wait for a window."""

    @property
    def stalled(self) -> int:
        """Streams that their own windows hold up."""
        return len(self._stalled)

    def take(self, size: int, stream: Outgoing) -> bool:
        """Take the place of a whole body that goes in one frame, and is not empty; False where it has to `wait`."""
        # while the connection's window is open, no stream waits for it
        if size > MAX_FRAME or size > self._window or size > self._initial + stream.more:
            return False
        self._window -= size
        return True

    def wait(self, number: int, stream: Outgoing, data: bytes) -> None:
        """Send a body, what the peer does not take now later. Its headers have been sent."""
        stream.unsent = data
        self.waiting += len(data)
        self._ready.append(number)
        self._send_ready()

    def add(self, number: int, stream: Outgoing, data: bytes) -> None:
        """The same for a body that goes on: after what of it waits already."""
        if stream.unsent:
            stream.unsent += data
            self.waiting += len(data)
        else:
            self.wait(number, stream, data)

    def forget(self, number: int, stream: Outgoing) -> None:
        """The stream has ended before its body was sent."""
        self.waiting -= len(stream.unsent)
        self._stalled.pop(number, None)

    def widen(self, more: int) -> None:
        """The peer takes so many bytes more of all streams. Raises ProtocolError."""
        self._window += more
        if not more or self._window > MAX_WINDOW:
            raise _no_window(more)
        if self._ready:
            self._send_ready()

    def widen_stream(self, number: int, stream: Outgoing, more: int) -> None:
        """The peer takes so many bytes more of one stream. Raises ProtocolError."""
        stream.more += more
        if not more or self._initial + stream.more > MAX_WINDOW:
            raise _no_window(more)
        if number in self._stalled:
            del self._stalled[number]
            self._ready.append(number)
            self._send_ready()

    def resize(self, initial: int) -> None:
        """The peer takes so many bytes of each stream to begin with, of those that are open too (section 6.9.2)."""
        wider, self._initial = initial > self._initial, initial
        if wider and self._stalled:
            self._ready.extend(self._stalled)
            self._stalled.clear()
            self._send_ready()

    def _send_ready(self) -> None:
        while self._ready and self._window > 0:
            number = self._ready.popleft()
            stream = self._streams.get(number)
            if stream is not None and stream.unsent:
                self._send_some(number, stream)

    def _send_some(self, number: int, stream: Outgoing) -> None:
        data, at = stream.unsent, 0
        while at < len(data):
            size = min(len(data) - at, self._window, self._initial + stream.more, MAX_FRAME)
            if size <= 0:
                if self._window > 0:
                    self._stalled[number] = None
                else:
                    self._ready.appendleft(number)
                break
            part, at = data[at : at + size], at + size
            self._window -= size
            self.waiting -= size
            stream.more -= size
            self._write(http2.frame(http2.DATA, self._last if at == len(data) else 0, number, part))
        # cut once: a long body has many frames
        stream.unsent = data[at:]
        if stream.unsent:
            return
        if self._sent is not None:
            self._sent(number)


def _no_window(more: int) -> ProtocolError:
    # section 6.9: an increment of 0 MUST be treated as an error
    return ProtocolError("a window that is too wide", FLOW_CONTROL_ERROR) if more else ProtocolError("no wider window")
