"""A value is exactly of the declared type, or refused; a text is a number only in its one spelling."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.values import MAX_DEPTH, MAX_JSON, Type, checked, from_text, split_type, utf8_text
from sidecar.gate.verdict import Refused
from sidecar.wire.strict_json import EXACT_INTEGER


def test_an_integer_is_exact_on_both_sides_of_zero() -> None:
    for number in (EXACT_INTEGER - 1, 1 - EXACT_INTEGER):
        assert checked(Type.INT, number, "place") == number
    for number in (EXACT_INTEGER, -EXACT_INTEGER):
        with pytest.raises(Refused):
            checked(Type.INT, number, "place")


@pytest.mark.parametrize(("found", "words"), [(None, "found nothing, expected int"), ("7", "found str, expected int")])
def test_the_detail_says_what_was_found_and_never_the_value(found: Any, words: str) -> None:
    with pytest.raises(Refused) as caught:
        checked(Type.INT, found, "claims.level")
    assert caught.value.detail == f"claims.level: {words}"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Type.INT, "0", 0), (Type.INT, "-7", -7), (Type.INT, "9007199254740991", EXACT_INTEGER - 1), (Type.NUMBER, "5", 5),
        (Type.NUMBER, "0.1", 0.1), (Type.NUMBER, "-12.25", -12.25), (Type.NUMBER, "0.00001", 0.00001), (Type.BOOL, "true", True),
        (Type.BOOL, "false", False),
    ],
)  # fmt: skip
def test_a_text_that_is_exactly_a_value_is_that_value(kind: Type, text: str, value: object) -> None:
    found = from_text(kind, text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((kind, text) for kind in (Type.INT, Type.NUMBER) for text in (
            "", "+7", "07", "7.0", "7.", ".5", "1e3", "1E3", "-0", "-0.0", "0.10", " 7", "7 ", "7\n", "0x1", "1_0", "\u0663", "NaN", "Infinity",
            "--1", "1,5", "99999999999999999", "true", "0.1000000000000000055",
        )),
        (Type.INT, "1.5"),
        *((Type.BOOL, text) for text in ("True", "TRUE", "1", "0", "yes", "", "true ", " true", "t", "false\n")),
        (Type.LIST, "[]"), (Type.LIST, '["a"]'), (Type.JSON, "{}"), (Type.STRING, "7"),
    ],
)  # fmt: skip
def test_a_text_that_is_not_exactly_a_value_stays_a_text(kind: Type, text: str) -> None:
    assert from_text(kind, text) is text


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_number_that_is_read_from_a_text_is_written_as_that_text(number: float) -> None:
    text = json.dumps(number)
    found = from_text(Type.NUMBER, text)
    assert found is text or json.dumps(found) == text


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else "x"


@pytest.mark.parametrize("value", [{}, [], {"a": [{"b": None}]}, "x", 1, 1.5, True, nested(MAX_DEPTH)])
def test_json_is_any_value_within_bounds(value: Any) -> None:
    assert checked(Type.JSON, value, "place") is value


@pytest.mark.parametrize("value", [None, float("nan"), [float("inf")], {"a": 2**53}, nested(MAX_DEPTH + 1)])
def test_json_is_nothing_that_a_policy_cannot_be_told(value: Any) -> None:
    with pytest.raises(Refused):
        checked(Type.JSON, value, "place")


def refusal_of_json(value: Any) -> str:
    with pytest.raises(Refused) as caught:
        checked(Type.JSON, value, "place")
    return caught.value.detail


def test_the_detail_says_which_bound_json_is_beyond() -> None:
    deep = f"place: found list of more than {MAX_DEPTH} lists and objects within each other, expected json"
    assert refusal_of_json(nested(MAX_DEPTH + 1)) == deep
    assert refusal_of_json({"a": "x" * MAX_JSON}) == f"place: found dict of more than {MAX_JSON} bytes, expected json"
    assert refusal_of_json([2**53]) == "place: found list with a number that is not exact or not finite, expected json"
    assert refusal_of_json(None) == "place: found nothing, expected json"


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600", "\0"])
def test_json_is_weighed_as_it_is_written_in_utf_8(letter: str) -> None:
    value = {"a": [1.5, letter * 50_000, None, -7, True]}
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("\\u0000", "\0").encode()
    assert abs(len(written) - MAX_JSON) > 100
    if len(written) < MAX_JSON:
        assert checked(Type.JSON, value, "place") is value
    else:
        assert "bytes" in refusal_of_json(value)


def test_what_an_expression_repeats_is_not_walked_to_its_end() -> None:
    value: Any = ["x" * 1000] * 1000
    for _ in range(MAX_DEPTH - 1):
        value = [value] * 1000  # 10^15 bytes
    assert "bytes" in refusal_of_json(value)


@pytest.mark.parametrize("kind", Type)
def test_a_type_stands_after_the_last_colon(kind: Type) -> None:
    assert split_type(f"claims.a:b:{kind}") == ("claims.a:b", kind)
    assert split_type(f"{kind}") == (kind, None)
    assert split_type(f"a:{kind}x") == (f"a:{kind}x", None)


def test_the_code_is_that_of_the_caller() -> None:
    for code in (Code.BODY_INVALID, Code.LOOKUP_MISMATCH):
        with pytest.raises(Refused) as caught:
            checked(Type.BOOL, "true", "place", code)
        assert caught.value.code is code


def test_bytes_are_text_in_utf_8_or_refused() -> None:
    assert utf8_text("é".encode(), "header.x") == "é"
    with pytest.raises(Refused) as caught:
        utf8_text(b"\xe9", "header.x")
    assert (caught.value.code, caught.value.detail) == (Code.REFERENCE_INVALID, "header.x: not UTF-8")
