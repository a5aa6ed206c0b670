"""JSON values of a declared type: what a policy is told is exactly of the type that `routes.yaml` says, or refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.wire.strict_json import EXACT_INTEGER

MAX_VALUE = 1024
"""Characters of a string that a reference, a lookup or a typed claim may give."""
MAX_DEPTH = 5
"""Lists and objects within each other in a value of the type `json`."""


class Type(StrEnum):
    """The JSON type that a value must be of; a reference without one gives a string."""

    STRING = "string"
    NUMBER = "number"
    INT = "int"
    BOOL = "bool"
    LIST = "list"
    JSON = "json"


def checked(kind: Type, value: Any, place: str, code: Code = Code.REFERENCE_INVALID) -> Any:
    """`value` if it is exactly of the declared type, without coercion. Raises Refused(code)."""
    if not _IS[kind](value):
        raise Refused(code, f"{place}: found {type_of(value)}, expected {kind}")
    if kind is Type.STRING:
        check_string(place, value, code)
    return value


def type_of(value: Any) -> str:
    """Name of a value's type, for a log that must not show the value itself."""
    return "nothing" if value is None else type(value).__name__


def check_string(place: object, text: str, code: Code) -> None:
    """Refuse a text that is empty, endless or has controls. Raises Refused(code)."""
    if not text or len(text) > MAX_VALUE or CONTROLS.search(text):
        raise Refused(code, f"{place}: expected 1 to {MAX_VALUE} characters without controls")


def utf8_text(data: bytes, place: str) -> str:
    """Return bytes of a request as text. Raises Refused(REFERENCE_INVALID)."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(Code.REFERENCE_INVALID, f"{place}: not UTF-8") from None


CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CANONICAL_INT = re.compile(r"0|-?[1-9][0-9]{0,15}")
_CANONICAL_FRACTION = re.compile(r"-?(?:0|[1-9][0-9]{0,15})\.[0-9]{0,17}[1-9]")


def from_text(kind: Type, text: str) -> Any:
    """The number or boolean that a text is exactly, in the one spelling that JSON writers give it.

    It is the text itself where it is none: `+7`, `07`, `7.0`, `1e3`, `-0`, `True`.
    """
    if kind is Type.BOOL:
        return {"true": True, "false": False}.get(text, text)
    if kind in (Type.INT, Type.NUMBER) and _CANONICAL_INT.fullmatch(text):
        return int(text) if is_number(int(text)) else text
    if kind is Type.NUMBER and _CANONICAL_FRACTION.fullmatch(text):
        # a double holds about 17 digits: what it would round is another number
        return float(text) if Decimal(repr(float(text))) == Decimal(text) else text
    return text


def _is_int(value: Any) -> bool:
    return type(value) is int and -EXACT_INTEGER < value < EXACT_INTEGER


def is_number(value: Any) -> bool:
    """Return whether a policy can compare a value as a number: of NaN every comparison is false, that of a DENY rule
    too."""
    return _is_int(value) or (type(value) is float and math.isfinite(value))


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool) or is_number(value)


def _is_list(value: Any) -> bool:
    # a list of scalars: what a policy compares with `in`
    return isinstance(value, list) and all(map(_is_scalar, value))


def _is_json(value: Any, depth: int = 0) -> bool:
    if isinstance(value, list | dict):
        items = value.values() if isinstance(value, dict) else value
        return depth < MAX_DEPTH and all(_is_json(item, depth + 1) for item in items)
    return value is None or _is_scalar(value)


_IS: dict[Type, Callable[[Any], bool]] = {
    Type.STRING: lambda value: isinstance(value, str),
    Type.INT: _is_int,
    Type.NUMBER: is_number,
    Type.BOOL: lambda value: isinstance(value, bool),
    Type.LIST: _is_list,
    Type.JSON: lambda value: value is not None and _is_json(value),
}
