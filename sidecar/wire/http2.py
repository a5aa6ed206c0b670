"""HTTP/2 as both ends of a connection write it: frames, settings and error codes (RFC 9113)."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (section 3.4)."""

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

TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, _, MAX_LIST = range(1, 7)
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM = 0, 1, 7, 8, 11


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame. `payload` has at most MAX_FRAME bytes."""
    length = len(payload)
    return FRAME_HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload
