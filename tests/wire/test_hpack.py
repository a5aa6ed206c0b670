"""`wire/hpack.py` against another implementation, and against RFC 7541's words."""

from __future__ import annotations

import contextlib

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import hpack
from sidecar.wire.hpack import DEFAULT_TABLE, BlockReader, Field, literal, with_indexing, without_indexing
from sidecar.wire.http2 import CompressionError

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
def test_another_implementation_reads_what_is_without_indexing(fields: list[Field]) -> None:
    assert theirs(Decoder(), without_indexing(fields)) == fields


@given(st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=10, unique=True))
def test_another_implementation_learns_what_it_is_with_indexing(fields: list[Field]) -> None:
    fields = [*REQUEST, *(field for field in fields if field not in REQUEST)]
    if sum(len(name) + len(value) + 32 for name, value in fields) > 4096:
        return
    first, later = with_indexing(fields)
    decoder = Decoder()
    assert theirs(decoder, first) == fields
    assert len(later) == len(fields)
    for _ in range(3):
        assert theirs(decoder, later) == fields
        # what is written without indexing in between changes nothing
        assert theirs(decoder, without_indexing(fields)) == fields


def test_no_more_is_indexed_than_one_octet_can_name() -> None:
    with pytest.raises(ValueError, match="61 fields"):
        with_indexing([(b"x-%d" % number, b"") for number in range(61)])


def test_without_a_table_another_implementation_reads_it_too() -> None:
    assert theirs(Decoder(), hpack.NO_TABLE + without_indexing(REQUEST)) == REQUEST


def read_block(block: bytes) -> dict[bytes, bytes]:
    """As one who allows no table reads it."""
    return dict(BlockReader(0, 0).read(block))


@given(
    st.dictionaries(NAMES, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300).map(str.encode)),
    st.booleans(),
)
def test_what_another_implementation_says_without_a_table_is_read(fields: dict[bytes, bytes], huffman: bool) -> None:
    encoder = Encoder()
    encoder.header_table_size = 0
    wanted = {b":status": b"200", b"grpc-status": b"13", b"grpc-message": b"no %20 way~", **fields}
    assert read_block(encoder.encode(list(wanted.items()), huffman=huffman)) == wanted


@given(NAMES, VALUES)
def test_a_literal_is_read_by_another_implementation(name: bytes, value: bytes) -> None:
    assert theirs(Decoder(), literal(name, value)) == [(name, value)]


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
    ],
)  # fmt: skip
def test_what_is_no_block_is_refused(block: str) -> None:
    with pytest.raises(CompressionError):
        read_block(bytes.fromhex(block))


@given(st.binary(max_size=40))
def test_no_bytes_do_anything_else(block: bytes) -> None:
    with contextlib.suppress(CompressionError):
        read_block(block)


# --- with a table ---


def reader_of_a_client() -> BlockReader:
    return BlockReader(DEFAULT_TABLE, 32 * 1024)


SHORT_NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=40).map(str.encode)
FIELD = st.tuples(SHORT_NAMES | st.sampled_from([b":path", b":method", b"te", b"cookie"]), st.binary(max_size=200))
BLOCKS = st.lists(st.lists(FIELD, max_size=20), max_size=8)


@given(BLOCKS, st.booleans(), st.sampled_from([4096, 300, 0]))
def test_what_another_implementation_writes_is_read(blocks: list[list[Field]], coded: bool, size: int) -> None:
    encoder, reader = Encoder(), reader_of_a_client()
    for number, fields in enumerate(blocks):
        if number == 1:
            encoder.header_table_size = size
        # the first time it fills the table, the second time it names what is in it
        for _ in range(2):
            assert list(reader.read(encoder.encode(fields, huffman=coded))) == fields


def test_every_octet_is_read_in_huffman_code() -> None:
    fields = [(b"all", bytes(range(256)))]
    assert list(reader_of_a_client().read(Encoder().encode(fields, huffman=True))) == fields


def test_what_a_block_means_is_forgotten_when_the_table_changes() -> None:
    encoder, reader = Encoder(), reader_of_a_client()
    reader.read(encoder.encode([(b"a", b"1")], huffman=False))
    newest = b"\xbe"
    assert reader.read(newest) == reader.read(newest) == ((b"a", b"1"),)
    reader.read(encoder.encode([(b"b", b"2")], huffman=False))
    assert reader.read(newest) == ((b"b", b"2"),)


@pytest.mark.parametrize(
    "block",
    [
        "be",  # an entry of an empty table
        "80",  # the entry 0
        "3fe21f",  # a table of 4,097 bytes
        "8220",  # a size after a field
        "40",  # a name that is cut off
        "400161",  # no value
        "ffffffffffff",  # a number beyond any length
        "820001618afffffffffffffff8",  # a huffman code that is cut off
        "82" * 200,  # too many fields
    ],
)
def test_a_bad_block_is_refused(block: str) -> None:
    with pytest.raises(CompressionError):
        reader_of_a_client().read(bytes.fromhex(block))


@given(st.binary(max_size=60))
def test_nothing_else_is_raised(block: bytes) -> None:
    reader = reader_of_a_client()
    try:
        reader.read(block)
    except CompressionError:
        return
    assert reader.read(block) is not None
