"""`wire/hpack.py` against another implementation, and against RFC 7541's words."""

from __future__ import annotations

import contextlib

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import hpack
from sidecar.wire.hpack import BadBlock, Field, read_block, spelled, taught

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=300).map(str.encode)
VALUES = st.binary(max_size=300)
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=20)
REQUEST: list[Field] = [
    (b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"grpc-timeout", b"500m"),
]  # fmt: skip


def theirs(decoder: Decoder, block: bytes) -> list[Field]:
    return [(bytes(name), bytes(value)) for name, value in decoder.decode(block, raw=True)]


@given(FIELDS)
def test_another_implementation_reads_what_is_spelled(fields: list[Field]) -> None:
    assert theirs(Decoder(), spelled(fields)) == fields


@given(st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=10, unique=True))
def test_another_implementation_learns_what_it_is_taught(fields: list[Field]) -> None:
    fields = [*REQUEST, *(field for field in fields if field not in REQUEST)]
    if sum(len(name) + len(value) + 32 for name, value in fields) > 4096:
        return
    first, later = taught(fields)
    decoder = Decoder()
    assert theirs(decoder, first) == fields
    assert len(later) == len(fields)
    for _ in range(3):
        assert theirs(decoder, later) == fields
        # what is spelled in between changes nothing
        assert theirs(decoder, spelled(fields)) == fields


def test_no_more_is_taught_than_one_octet_can_name() -> None:
    with pytest.raises(ValueError, match="61 fields"):
        taught([(b"x-%d" % number, b"") for number in range(61)])


def test_without_a_table_another_implementation_reads_it_too() -> None:
    assert theirs(Decoder(), hpack.NO_TABLE + spelled(REQUEST)) == REQUEST


@given(
    st.dictionaries(NAMES, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300).map(str.encode)),
    st.booleans(),
)
def test_what_another_implementation_says_without_a_table_is_read(fields: dict[bytes, bytes], huffman: bool) -> None:
    encoder = Encoder()
    encoder.header_table_size = 0
    wanted = {b":status": b"200", b"grpc-status": b"13", b"grpc-message": b"no %20 way~", **fields}
    known = set(hpack._STATIC_NAMES.values())
    block = encoder.encode(list(wanted.items()), huffman=huffman)
    got = read_block(block)
    static = {bytes(name) for name, _ in Decoder().header_table.STATIC_TABLE}
    assert got == {
        name: value for name, value in {**wanted, b"": got.get(b"")}.items()
        if value is not None and (name in known or name not in static)
    }  # fmt: skip


@pytest.mark.parametrize("status", ["200", "204", "206", "304", "400", "404", "500", "503"])
def test_a_status_is_read(status: str) -> None:
    encoder = Encoder()
    encoder.header_table_size = 0
    assert read_block(encoder.encode([(":status", status)]))[b":status"] == status.encode()


def test_the_rfcs_example_of_huffman_code_is_read() -> None:
    """RFC 7541, appendix C.4.1 and C.6.1, with the fields not indexed."""
    assert read_block(bytes.fromhex("018cf1e3c2e5f23a6ba0ab90f4ff")) == {b":authority": b"www.example.com"}
    assert read_block(bytes.fromhex("48826402")) == {b":status": b"302"}


@pytest.mark.parametrize(
    "block",
    [
        "be",  # entry 62: of a table
        "80",  # entry 0
        "7e0161",  # the name of entry 62
        "3fe11f",  # a table of 4096
        "00", "0001", "000161", "00016101", "4803", "ff", "ffffffffff7f", "487fffffffff7f61",
        "000161837f",  # a string that is cut off
        "0001618164",  # Huffman code whose end is no padding of ones
        "00016182ffff",  # padding of more than seven bits
        "00016184fffffff0",  # a code of no octet that a field has
        "8889", "88" * 2, "5f01615f0162",  # what can be there only once
    ],
)  # fmt: skip
def test_what_is_no_block_is_refused(block: str) -> None:
    with pytest.raises(BadBlock):
        read_block(bytes.fromhex(block))


@given(st.binary(max_size=40))
def test_no_bytes_do_anything_else(block: bytes) -> None:
    with contextlib.suppress(BadBlock):
        read_block(block)
