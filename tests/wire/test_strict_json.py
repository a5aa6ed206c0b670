"""JSON that is read, and written, in one way only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import strict_json
from tests.json_values import json_values

VALUES = json_values(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    st.text(),
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


@given(VALUES)
def test_what_is_written_is_read_as_the_same(value: Any) -> None:
    try:
        written = strict_json.dumps(value)
    except ValueError:
        # of these values, only an integer has no exact form
        assert any(abs(int(number)) >= 2**53 for number in re.findall(r"-?\d+", repr(value)))
        return
    assert strict_json.loads(written) == value


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), float("nan"), float("inf"), float("-inf"), "\ud800", {"\udfff": 1}, {1: 2}, {None: 1}, b"x", (1,), object()],
)  # fmt: skip
@pytest.mark.parametrize("within", [lambda value: value, lambda value: [value], lambda value: {"x": [0, value]}])
def test_what_has_no_exact_form_is_not_written(value: Any, within: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        strict_json.dumps(within(value))


def test_so_many_levels_are_written_and_no_more() -> None:
    value: Any = 1
    for _ in range(32):
        value = [value]
    assert strict_json.dumps(value) == b"[" * 32 + b"1" + b"]" * 32
    with pytest.raises(ValueError, match="deeply"):
        strict_json.dumps([value])
