"""JSON values in YAML: each is what JSON says, or one fault with its place."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from sidecar.config.json_values import MAX_NODES, Json
from sidecar.config.shapes import read_document

GOOD: list[tuple[str, Any]] = [
    ("text", "text"), ("'2026-01-31'", "2026-01-31"), ("42", 42), ("-1.5e3", "-1.5e3"), ("-1.5", -1.5), ("true", True),
    ("[1, null, ~]", [1, None, None]), ("{a: {b: [x]}, 42: y}", {"a": {"b": ["x"]}, "42": "y"}), ("''", ""),
    ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}), ("{<<: {a: 1}, b: 2}", {"a": 1, "b": 2}), ("[]", []),
]  # fmt: skip
BAD = [
    ("2026-01-31", "1:1: found '2026-01-31', which YAML takes for a date, expected JSON: put it in quotes"),
    ("[yes]", "1:2: found 'yes', which YAML takes for a boolean, expected JSON: put it in quotes"),
    ("010", "1:1: found '010', which YAML takes for a number, expected JSON: put it in quotes"),
    ("1:30", "1:1: found '1:30', which YAML takes for a number, expected JSON: put it in quotes"),
    (".inf", "1:1: found '.inf', which YAML takes for a number, expected JSON: put it in quotes"),
    ("a: 1\nb: !!binary aGk=", "2:4: found 'aGk=', which YAML takes for a binary, expected JSON: put it in quotes"),
    ("null", "1:1: found nothing, expected JSON: leave the name out"),
    ("{a: 1, a: 2}", "1:8: found 'a' twice, expected it once"),
    ("&x [*x]", "1:1: found a value that is nested too deeply, expected JSON"),
]


@pytest.mark.parametrize(("text", "value"), GOOD)
def test_a_value_is_what_json_says(text: str, value: Any) -> None:
    read, reader = read_document(text, "f", Json())
    assert (read, reader.problems) == (value, [])
    jsonschema.validate(value, Json().schema())


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_what_json_has_not_is_told_with_its_place(text: str, problem: str) -> None:
    _, reader = read_document(text, "f", Json())
    assert list(map(str, reader.problems)) == [f"f:{problem}"]


def test_aliases_within_aliases_are_counted() -> None:
    lines = ["a0: &a0 [1, 1]", *(f"a{at}: &a{at} [*a{at - 1}, *a{at - 1}]" for at in range(1, 40))]
    _, reader = read_document("\n".join(lines), "f", Json())
    assert f"found more than {MAX_NODES} values" in str(reader.problems[0])


def test_a_value_may_have_to_be_a_mapping() -> None:
    _, reader = read_document("[1]", "f", Json(("mapping",)))
    assert list(map(str, reader.problems)) == ["f:1:1: found a list, expected a mapping"]
    assert Json(("mapping",)).schema() == {"type": "object"}
