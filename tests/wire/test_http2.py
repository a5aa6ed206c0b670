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
        (http2.rst_stream(5, http2.CANCEL), "000004 03 00 00000005 00000008"),
        (http2.window_update(0, 258), "000004 08 00 00000000 00000102"),
        (http2.goaway(3, http2.NO_ERROR), "000008 07 00 00000000 00000003 00000000"),
        (http2.settings((4, 7), (1, 0)), "00000c 04 00 00000000 0004 00000007 0001 00000000"),
        (http2.SETTINGS_ACK, "000000 04 01 00000000"),
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
    settings = (
        http2.HEADER_TABLE_SIZE, http2.ENABLE_PUSH, http2.MAX_CONCURRENT_STREAMS, http2.INITIAL_WINDOW_SIZE,
        http2.MAX_HEADER_LIST_SIZE,
    )  # fmt: skip
    assert settings == (1, 2, 3, 4, 6)
    codes = (
        http2.NO_ERROR, http2.PROTOCOL_ERROR, http2.FLOW_CONTROL_ERROR, http2.FRAME_SIZE_ERROR, http2.REFUSED_STREAM,
        http2.CANCEL, http2.COMPRESSION_ERROR, http2.ENHANCE_YOUR_CALM, http2.INADEQUATE_SECURITY,
    )  # fmt: skip
    assert codes == (0, 1, 3, 6, 7, 8, 9, 11, 12)
    assert http2.CompressionError("").code == http2.COMPRESSION_ERROR
