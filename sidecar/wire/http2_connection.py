"""One end of a connection of HTTP/2 (RFC 9113), client or server, without I/O: bytes in, events and frames out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from sidecar.wire import http2
from sidecar.wire.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    HAS_PRIORITY,
    HEADERS,
    MAX_FRAME,
    MAX_STREAM,
    PADDED,
    ProtocolError,
)  # fmt: skip
from sidecar.wire.http2_windows import SendWindows

REFILL = 16 * 1024 * 1024
"""Bytes of bodies after which the connection's window is filled again; it is open for twice as many."""
_SETTING = 64
"""Bytes of settings that cost as much as a frame does."""
_STALLED = 64
"""Streams whose windows settings may open, that cost as much."""


def opening(*settings: tuple[int, int]) -> bytes:
    """First frames of an end, a client's after the preface: its settings, and a window for the connection."""
    return http2.settings(*settings) + http2.window_update(0, 2 * REFILL - http2.DEFAULT_WINDOW)


class FrameHandler(Protocol):
    """One end, as the frames of its peer reach it. Each method may raise ProtocolError: the connection is over."""

    def on_headers(self, stream: int, block: bytes, ended: bool) -> None:
        """A whole block of headers; `ended` says that the stream ends with it."""

    def on_data(self, stream: int, data: bytes, ended: bool) -> None:
        """A part of a body, without its padding."""

    def on_settings(self, settings: Mapping[int, int]) -> None:
        """Values by number, which are in force but for the window of streams: that follows."""

    def on_window(self, stream: int, more: int) -> None:
        """The peer takes more bytes of a stream."""

    def on_reset(self, stream: int, code: int) -> None:
        """The peer has ended a stream."""

    def on_goaway(self, last: int) -> None:
        """The peer takes no streams after `last`."""

    def on_pong(self, payload: bytes) -> None:
        """The peer has had a ping of ours."""


class Http2Connection:
    """Reads the peer's frames, and answers by `write` those that want it: pings, settings, and bodies that use up the
    connection's window. `windows` are what may be sent.

    `max_block` in bytes bounds a block of headers. `preface` is what the peer says before its frames. `on_cost` is told
    what comes besides bodies and whole blocks, in frames. `write_pong` takes the answers to pings, in the place of
    `write`.
    """

    __slots__ = (
        "_began", "_block", "_block_ends", "_block_stream", "_events", "_held", "_max_block", "_on_cost", "_on_data",
        "_on_headers", "_only", "_preface", "_unfilled", "_windows", "_write", "_write_pong",
    )  # fmt: skip

    def __init__(
        self, events: FrameHandler, write: Callable[[bytes], None], windows: SendWindows, *, max_block: int,
        preface: bytes = b"", on_cost: Callable[[int], None] | None = None,
        write_pong: Callable[[bytes], None] | None = None,
    ) -> None:  # fmt: skip
        self._events = events
        self._on_headers = events.on_headers
        self._on_data = events.on_data
        self._on_cost = on_cost
        self._write = write
        self._write_pong = write_pong or write
        self._windows = windows
        self._max_block = max_block
        self._preface = preface
        self._held = b""  # what is no whole frame yet
        self._only: int | None = http2.SETTINGS  # the one type of frame that may come now, None for any
        # of a block of headers that goes on
        self._block = b""
        self._block_stream = 0
        self._block_ends = self._began = False
        self._unfilled = 0  # bytes of bodies since the window was last filled

    @property
    def is_open(self) -> bool:
        """Return whether the peer has said its settings, with which all begins."""
        return self._only != http2.SETTINGS

    @property
    def waits(self) -> bool:
        """Return whether the peer has to go on: with a frame, a block of headers, or its settings."""
        return bool(self._held) or self._only is not None

    def feed(self, data: bytes) -> bool:
        """Read what the peer has sent; return whether it ends with the beginning of something that the peer has to go
        on with. Raises ProtocolError."""
        held, self._began = self._held, False
        if held:
            data = held + data
        if self._preface:
            data = self._take_preface(data)
        at, end = 0, len(data)
        while end - at >= 9:
            high, low, kind, flags, stream = FRAME_HEAD.unpack_from(data, at)
            after = at + 9 + (high << 8 | low)
            if after - at > MAX_FRAME + 9:
                raise ProtocolError("a frame that is too long", http2.FRAME_SIZE_ERROR)
            if after > end:
                break
            if self._only is not None and kind != self._only:
                raise ProtocolError("a block of headers that is broken off" if self.is_open else "no settings first")
            if kind == DATA:
                self._take_data(flags, stream & MAX_STREAM, data[at + 9 : after])
            elif kind == HEADERS:
                self._take_headers(flags, stream & MAX_STREAM, data[at + 9 : after])
            else:
                if self._on_cost is not None:
                    self._on_cost(1)
                _OTHERS.get(kind, _ignore)(self, flags, stream & MAX_STREAM, data[at + 9 : after])
            at = after
        self._held = data[at:] if at < end else b""
        return self._began if self._only is not None else at < end and (at > 0 or not held)

    def _take_preface(self, data: bytes) -> bytes:
        """Return what follows the preface, of which a part may have come before."""
        size = min(len(self._preface), len(data))
        if data[:size] != self._preface[:size]:
            raise ProtocolError("no preface of HTTP/2")
        self._preface = self._preface[size:]
        return data[size:]

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        # padding uses up windows too (section 6.9.1)
        self._unfilled += len(payload)
        if self._unfilled >= REFILL:
            self._write(http2.window_update(0, self._unfilled))
            self._unfilled = 0
        if flags & PADDED:
            payload = _unpadded(payload)
        self._on_data(stream, payload, flags & END_STREAM != 0)

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if flags & PADDED:
            payload = _unpadded(payload)
        if flags & HAS_PRIORITY:
            if len(payload) < 5:
                raise ProtocolError("a priority that is cut off")
            payload = payload[5:]
        if flags & END_HEADERS:
            self._on_headers(stream, payload, flags & END_STREAM != 0)
        else:
            self._block, self._block_stream, self._block_ends = payload, stream, flags & END_STREAM != 0
            self._only, self._began = CONTINUATION, True

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._only != CONTINUATION or stream != self._block_stream:
            raise ProtocolError("a block of headers that goes on without a beginning")
        self._block += payload
        if len(self._block) > self._max_block or not payload:
            raise ProtocolError("a block of headers that does not end", http2.ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            self._only = None
            block, self._block = self._block, b""
            self._on_headers(stream, block, self._block_ends)

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) % 6 or (flags & ACK and payload):
            raise ProtocolError("settings of a wrong length")
        if flags & ACK:
            return
        self._only = None
        if self._on_cost is not None:
            self._on_cost(len(payload) // _SETTING + self._windows.stalled // _STALLED)
        settings = list(struct.iter_unpack(">HI", payload))
        windows = [value for number, value in settings if number == http2.INITIAL_WINDOW_SIZE]
        if windows and max(windows) > http2.MAX_WINDOW:
            raise ProtocolError("a window that is too wide", http2.FLOW_CONTROL_ERROR)
        # the last of a number counts (section 6.5)
        self._events.on_settings(dict(settings))
        if windows:
            self._windows.resize(windows[-1])
        self._write(http2.SETTINGS_ACK)

    def _take_window(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError("a window update of a wrong length")
        more = int.from_bytes(payload, "big") & http2.MAX_WINDOW
        if stream:
            self._events.on_window(stream, more)
        else:
            self._windows.widen(more)

    def _take_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) != 8:
            raise ProtocolError("a ping of a wrong length")
        if flags & ACK:
            self._events.on_pong(payload)
        else:
            self._write_pong(http2.frame(http2.PING, ACK, 0, payload))

    def _take_reset(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError("a reset of a wrong length")
        self._events.on_reset(stream, int.from_bytes(payload, "big"))

    def _take_goaway(self, flags: int, stream: int, payload: bytes) -> None:
        if len(payload) < 8:
            raise ProtocolError("a goaway of a wrong length")
        self._events.on_goaway(int.from_bytes(payload[:4], "big") & MAX_STREAM)

    def _take_push(self, flags: int, stream: int, payload: bytes) -> None:
        raise ProtocolError("a push, which nobody may make here")


def _ignore(_: Http2Connection, flags: int, stream: int, payload: bytes) -> None:
    """Do nothing: PRIORITY says nothing any more, and what nobody knows is ignored (sections 5.3.2 and 5.5)."""


_OTHERS = {
    http2.RST_STREAM: Http2Connection._take_reset,
    http2.SETTINGS: Http2Connection._take_settings,
    http2.PUSH_PROMISE: Http2Connection._take_push,
    http2.PING: Http2Connection._take_ping,
    http2.GOAWAY: Http2Connection._take_goaway,
    http2.WINDOW_UPDATE: Http2Connection._take_window,
    http2.CONTINUATION: Http2Connection._take_continuation,
}
"""Type of a frame -> how it is read."""


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ProtocolError("padding of a wrong length")
    return payload[1 : len(payload) - payload[0]]
