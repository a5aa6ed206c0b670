"""JSON that can be read in one way only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate import strict_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_what_json_can_say_is_read_as_it_was_said(value: Any) -> None:
    for escaped in (True, False):
        assert strict_json.loads(json.dumps(value, ensure_ascii=escaped).encode()) == value


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_valueerror(data: bytes) -> None:
    try:
        strict_json.loads(data)
    except ValueError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"{} {}", b"{}x", b"'a'", b"{'a':1}", b"[1,]", b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999",
        b'{"a":1,"a":2}', b'{"b":{"a":1,"a":1}}', b"\xef\xbb\xbf{}", '{"a":1}'.encode("utf-16"), b'"\xff"', b'"\xed\xa0\x80"',
        rb'"\ud800"', rb'{"\udfff":1}', rb'[["\ud83d"]]', b'"a\nb"', b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000,
    ],
)  # fmt: skip
def test_what_two_parsers_could_read_differently_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        strict_json.loads(data)


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert strict_json.loads(rb'"\ud83d\ude00"') == "\U0001f600"


def test_the_words_say_what_was_found() -> None:
    for data, words in (
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a":1,"a":1}', "twice"),
        (b"[" * 100_000, "deeply"),
        (b"\xff", "UTF-8"),
    ):
        with pytest.raises(ValueError, match=words):
            strict_json.loads(data)
