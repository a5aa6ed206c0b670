"""`wire/header_blocks.py` against another implementation, and against what no block may be."""

from __future__ import annotations

import pytest
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.header_blocks import BlockReader
from sidecar.wire.hpack import BadBlock, Field

NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=40).map(str.encode)
FIELD = st.tuples(NAMES | st.sampled_from([b":path", b":method", b"te", b"cookie"]), st.binary(max_size=200))
BLOCKS = st.lists(st.lists(FIELD, max_size=20), max_size=8)


@given(BLOCKS, st.booleans(), st.sampled_from([4096, 300, 0]))
def test_what_another_implementation_writes_is_read(blocks: list[list[Field]], coded: bool, size: int) -> None:
    encoder, reader = Encoder(), BlockReader()
    for number, fields in enumerate(blocks):
        if number == 1:
            encoder.header_table_size = size
        # the first time it fills the table, the second time it names what is in it
        for _ in range(2):
            assert list(reader.read(encoder.encode(fields, huffman=coded))) == fields


def test_every_octet_is_read_in_huffman_code() -> None:
    fields = [(b"all", bytes(range(256)))]
    assert list(BlockReader().read(Encoder().encode(fields, huffman=True))) == fields


def test_what_a_block_means_is_forgotten_when_the_table_changes() -> None:
    encoder, reader = Encoder(), BlockReader()
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
    with pytest.raises(BadBlock):
        BlockReader().read(bytes.fromhex(block))


@given(st.binary(max_size=60))
def test_nothing_else_is_raised(block: bytes) -> None:
    reader = BlockReader()
    try:
        reader.read(block)
    except BadBlock:
        return
    assert reader.read(block) is not None
