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
MAX_JSON = 64 * 1024
"""Bytes of a value of the type `json`, in UTF-8 without blanks and escapes."""


class Type(StrEnum):
    """The JSON type that a value must be of; a reference without one gives a string."""

    STRING = "string"
    NUMBER = "number"
    INT = "int"
    BOOL = "bool"
    LIST = "list"
    JSON = "json"


COMPOUND = frozenset((Type.LIST, Type.JSON))
"""Types of values that are no text, and can be an attribute only."""
_TYPED = re.compile(rf"(.*):({'|'.join(Type)})", re.DOTALL)


def split_type(text: str) -> tuple[str, Type | None]:
    """Split what a reference or an expression is written as: (it, the type after its last colon or None)."""
    typed = _TYPED.fullmatch(text)
    return (typed[1], Type(typed[2])) if typed else (text, None)


def checked(kind: Type, value: Any, place: str, code: Code = Code.REFERENCE_INVALID) -> Any:
    """`value` if it is exactly of the declared type, without coercion. Raises Refused(code)."""
    if kind is Type.JSON:
        fault = _json_fault(value)
        if fault:
            raise Refused(code, f"{place}: found {fault}, expected json")
        return value
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

    Any other text is returned as it is: `+7`, `07`, `7.0`, `1e3`, `-0`, `True`.
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


class _Unfit(ValueError):
    """Reason why a value is no JSON that a policy can be told."""


def _json_fault(value: Any) -> str:
    """Return why a value does not have the type `json`, "" where it has."""
    if value is None:
        return "nothing"
    try:
        _room_after(value, MAX_JSON, 0)
    except _Unfit as unfit:
        return f"{type_of(value)} {unfit}"
    return ""


def _room_after(value: Any, room: int, depth: int) -> int:
    """Bytes that are left of `room` after a value. Stops where there are none: an expression can repeat what it finds.

    Raises _Unfit.
    """
    if isinstance(value, str):
        room -= 2 + (len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass")))
    elif value is None or isinstance(value, bool):
        room -= 4
    elif is_number(value):
        room -= len(repr(value))
    elif not isinstance(value, list | dict):
        raise _Unfit("with a number that is not exact or not finite")
    elif depth == MAX_DEPTH:
        raise _Unfit(f"of more than {MAX_DEPTH} lists and objects within each other")
    else:
        room -= 2
        for item in value:
            room = _room_after(item, room - 1, depth + 1)
            if isinstance(value, dict):
                room = _room_after(value[item], room - 1, depth + 1)
    if room < 0:
        raise _Unfit(f"of more than {MAX_JSON} bytes")
    return room


_IS: dict[Type, Callable[[Any], bool]] = {
    Type.STRING: lambda value: isinstance(value, str),
    Type.INT: _is_int,
    Type.NUMBER: is_number,
    Type.BOOL: lambda value: isinstance(value, bool),
    Type.LIST: _is_list,
}
