"""`wire/protobuf.py` against the library's own messages."""

from __future__ import annotations

import pytest
from google.protobuf.struct_pb2 import Value
from google.protobuf.wrappers_pb2 import BytesValue, UInt64Value
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.protobuf import number_tag, short_size, sized, sized_tag, varint

EDGES = [0, 1, 127, 128, 255, 16383, 16384, 2**21 - 1, 2**21, 2**28, 2**32, 2**63, 2**64 - 1]


@pytest.mark.parametrize("number", EDGES)
def test_numbers_at_the_edges(number: int) -> None:
    assert UInt64Value.FromString(number_tag(1) + varint(number)).value == number


@given(st.integers(1, 2**64 - 1))
def test_a_number_is_written_as_the_library_writes_it(number: int) -> None:
    assert number_tag(1) + varint(number) == UInt64Value(value=number).SerializeToString()


@pytest.mark.parametrize("size", [1, 127, 128, 16383, 16384, 2_100_000])
def test_a_value_has_its_length_before_it(size: int) -> None:
    assert sized(sized_tag(1), b"x" * size) == BytesValue(value=b"x" * size).SerializeToString()


def test_fields_are_told_apart_by_their_numbers() -> None:
    assert sized(sized_tag(3), b"text") == Value(string_value="text").SerializeToString()
    assert number_tag(4) + varint(1) == Value(bool_value=True).SerializeToString()
    # from 16 on the number takes two bytes
    assert sized_tag(16) == b"\x82\x01"


@given(st.integers(0, 16383), st.binary(max_size=3))
def test_a_short_length_is_read(size: int, before: bytes) -> None:
    written = varint(size)
    assert short_size(before + written + b"x", len(before)) == (size, len(before) + len(written))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x80\x01"])
def test_any_other_length_is_none(data: bytes) -> None:
    assert short_size(data, 0)[0] == 0
