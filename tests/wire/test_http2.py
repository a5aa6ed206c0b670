"""`wire/http2.py`: the bytes of a frame, and the numbers of RFC 9113."""

from __future__ import annotations

import pytest

from sidecar.wire import http2


@pytest.mark.parametrize(
    ("made", "wire"),
    [
        # sections 6.5 and 6.7: an acknowledgement has no payload but a PING's own
        (http2.frame(http2.SETTINGS, http2.ACK, 0, b""), "000000 04 01 00000000"),
        (http2.frame(http2.PING, http2.ACK, 0, b"12345678"), "000008 06 01 00000000 3132333435363738"),
        (http2.frame(http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, 3, b"\x88"), "000001 01 05 00000003 88"),
        (http2.frame(http2.RST_STREAM, 0, http2.MAX_STREAM, b"\0\0\0\x08"), "000004 03 00 7fffffff 00000008"),
    ],
)
def test_a_frame_is_a_length_of_three_bytes_type_flags_and_stream(made: bytes, wire: str) -> None:
    assert made == bytes.fromhex(wire)


def test_the_longest_frame_tells_its_length() -> None:
    made = http2.frame(http2.DATA, 0, 1, bytes(http2.MAX_FRAME))
    high, low, kind, flags, stream = http2.FRAME_HEAD.unpack_from(made)
    assert (high << 8 | low, kind, flags, stream) == (16384, 0, 0, 1)
    assert len(made) == http2.FRAME_HEAD.size + 16384 == 9 + 16384


def test_the_numbers_are_those_of_the_standard() -> None:
    types = (
        http2.DATA, http2.HEADERS, http2.RST_STREAM, http2.SETTINGS, http2.PUSH_PROMISE, http2.PING, http2.GOAWAY,
        http2.WINDOW_UPDATE, http2.CONTINUATION,
    )  # fmt: skip
    assert types == (0, 1, 3, 4, 5, 6, 7, 8, 9)
    settings = (http2.TABLE_SIZE, http2.ENABLE_PUSH, http2.MAX_STREAMS, http2.INITIAL_WINDOW, http2.MAX_LIST)
    assert settings == (1, 2, 3, 4, 6)
    codes = (http2.NO_ERROR, http2.PROTOCOL_ERROR, http2.REFUSED_STREAM, http2.CANCEL, http2.ENHANCE_YOUR_CALM)
    assert codes == (0, 1, 7, 8, 11)
