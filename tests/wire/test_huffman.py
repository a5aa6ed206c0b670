"""`wire/huffman.py` against another implementation's code, and RFC 7541's examples."""

from __future__ import annotations

import contextlib

import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import huffman
from sidecar.wire.http2 import CompressionError

ENCODER = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def test_every_octet_is_read() -> None:
    assert huffman.decode(ENCODER.encode(bytes(range(256)))) == bytes(range(256))


@given(st.binary(max_size=100))
def test_what_another_implementation_writes_is_read(data: bytes) -> None:
    assert huffman.decode(ENCODER.encode(data)) == data


def test_the_standard_s_examples_are_read() -> None:
    """Appendices C.4.1 and C.6.1."""
    assert huffman.decode(bytes.fromhex("f1e3c2e5f23a6ba0ab90f4ff")) == b"www.example.com"
    assert huffman.decode(bytes.fromhex("6402")) == b"302"


@pytest.mark.parametrize(
    "data",
    [
        "64",  # an end that is no padding of ones
        "ffff",  # padding of more than seven bits
        "fffffff0",  # a code of no octet that a field has
        "ffffffff",  # the end of the string, which must not be written
    ],
)
def test_what_is_no_code_is_refused(data: str) -> None:
    with pytest.raises(CompressionError):
        huffman.decode(bytes.fromhex(data))


@given(st.binary(max_size=40))
def test_no_bytes_do_anything_else(data: bytes) -> None:
    with contextlib.suppress(CompressionError):
        huffman.decode(data)
