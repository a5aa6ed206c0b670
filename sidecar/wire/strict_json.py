"""JSON that is read, and written, in one way only (RFC 8259 section 4 and 8.1; I-JSON, RFC 7493 section 2)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sidecar.wire.spelling import are_distinct

EXACT_INTEGER = 2**53
"""Beyond it an integer is not exact as a JSON number for everybody (RFC 7493 section 2.2), and Cerbos takes doubles."""


def loads(data: bytes, *, distinct: bool = False) -> Any:
    """Parse one JSON text: UTF-8 without a byte order mark, no duplicate names, no NaN or Infinity, no lone surrogates.

    With `distinct` no object may have two names that a reader without case takes for one: Go's encoding/json and .NET
    match names so, and take the last.

    Raises ValueError with what was found; never another exception, however deep or large the text is.
    """
    if data.startswith(b"\xef\xbb\xbf"):
        raise ValueError("a byte order mark before the JSON text")
    try:
        text = data.decode("utf-8")
        value = (_DISTINCT if distinct else _DECODER).decode(text)
    except UnicodeDecodeError as error:
        raise ValueError("JSON that is not UTF-8") from error
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    # only an escape can make a lone surrogate in a text that was valid UTF-8
    if "\\" in text and ("\\ud" in text or "\\uD" in text):
        _refuse_surrogates(value)
    return value


def dumps(value: Any) -> bytes:
    """One JSON text that everybody reads as this value. Raises ValueError for what has no exact form: an integer beyond
    2^53, a number that is not finite, a lone surrogate, a name that is no string, more than 32 levels."""
    _require_exact(value, 0)
    return _ENCODER.encode(value).encode("utf-8")


def _require_exact(value: Any, depth: int) -> None:
    if isinstance(value, str | bool) or value is None:
        return
    if isinstance(value, int):
        if abs(value) >= EXACT_INTEGER:
            raise ValueError("an integer beyond 2^53")
    elif isinstance(value, list | dict):
        if depth >= _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            raise ValueError("a name that is no string")
        for item in value.values() if isinstance(value, dict) else value:
            _require_exact(item, depth + 1)
    elif not isinstance(value, float):
        raise ValueError(f"a {type(value).__name__}")  # noqa: TRY004 - one kind of error for all of them


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name that stands twice in one JSON object")
    return found


def _distinct_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = _unique_object(pairs)
    if len(found) > 1 and not are_distinct(found):
        raise ValueError("two names in one JSON object that are one without case")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a JSON number beyond what a double holds")
    return number


def _refuse_surrogates(value: Any) -> None:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            # str.encode names the surrogate in a UnicodeEncodeError, which is a ValueError
            item.encode("utf-8")
        elif isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            pending.extend(item.keys())
            pending.extend(item.values())


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique_object, parse_constant=_refuse_constant, parse_float=_finite, strict=True
)
_DISTINCT = json.JSONDecoder(
    object_pairs_hook=_distinct_object, parse_constant=_refuse_constant, parse_float=_finite, strict=True
)
scan: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once  # type: ignore[attr-defined]
"""The value that begins at a place of a text, and where it ends. The text has no escape of a surrogate. Raises
StopIteration, ValueError or RecursionError where there is none."""
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_MAX_DEPTH = 32
