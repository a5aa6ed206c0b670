"""HTTP/2 as both ends of a connection write it: frames, settings and error codes (RFC 9113)."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""First bytes of a client (section 3.4)."""

# --- frames (section 6) ---

DATA, HEADERS, _, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20
FRAME_HEAD = struct.Struct(">HBBBI")
"""A length of three bytes, as two and one; type, flags, stream."""
MAX_FRAME = 16384
"""Bytes of a payload, where no setting allows more."""
MAX_STREAM = MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65535

# --- settings (section 6.5.2) and error codes (section 7) ---

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, _, MAX_HEADER_LIST_SIZE = range(1, 7)
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR = 0, 1, 3, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM, INADEQUATE_SECURITY = 7, 8, 9, 11, 12


class ProtocolError(Exception):
    """The peer's bytes are not HTTP/2 that has one reading, which ends the connection (section 5.4.1). `code` is for
    the GOAWAY."""

    def __init__(self, why: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(why)
        self.code = code


class CompressionError(ProtocolError):
    """A block of headers that cannot be read (section 4.3)."""

    def __init__(self, why: str) -> None:
        super().__init__(why, COMPRESSION_ERROR)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame. `payload` has at most MAX_FRAME bytes."""
    length = len(payload)
    return FRAME_HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


SETTINGS_ACK = frame(SETTINGS, ACK, 0, b"")


def settings(*pairs: tuple[int, int]) -> bytes:
    """SETTINGS, each a number and its value."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(stream: int, more: int) -> bytes:
    """WINDOW_UPDATE of a stream, or of the connection, which is 0."""
    return frame(WINDOW_UPDATE, 0, stream, more.to_bytes(4, "big"))


def rst_stream(stream: int, code: int) -> bytes:
    """RST_STREAM: the stream is over."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int) -> bytes:
    """GOAWAY: streams after `last` are not taken."""
    return frame(GOAWAY, 0, 0, struct.pack(">II", last, code))
