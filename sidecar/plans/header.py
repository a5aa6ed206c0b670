"""Dialect `header`: the filter as JSON in `X-Auth-Filter`, for an app that can read it: it says everything.

`{"all": [{"field": "owner", "is": "eq", "value": "alice"}, {"any": [...]}]}`. A row without the field, or with null, is
in every `ne` and `not_in`, and in no other.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any as Anything

from sidecar.gate.own import FILTER
from sidecar.plans.dialect import MAX_PARAMETERS, Narrowing
from sidecar.plans.filter import (
    EVERYTHING,
    All,
    Any,
    Exactness,
    Filter,
    Operator,
    RenderedTerm,
    Term,
    Unsayable,
    weakened,
)
from sidecar.wire import strict_json


class Header:
    """The whole tree in one header."""

    def narrow(self, whole: Filter, asked: AbstractSet[str]) -> Narrowing:
        """Say a filter; what is in the query does not matter."""
        said, exactness = weakened(whole, RenderedTerm)
        if said == EVERYTHING:
            return Narrowing((), exactness)
        try:
            text = _ascii(strict_json.dumps(_json(said)))
        except ValueError:
            # nested more deeply than JSON of ours may be
            return Narrowing((), Exactness.NONE)
        return (
            Narrowing((), exactness, ((FILTER, text),))
            if len(text) <= MAX_PARAMETERS
            else Narrowing((), Exactness.NONE)
        )


def _json(part: Filter) -> dict[str, Anything]:
    match part:
        case Term():
            several = part.relation in (Operator.IN, Operator.NOT_IN)
            value = list(part.values) if several else part.value
            return {"field": ".".join(part.field.path), "is": str(part.relation), "value": value}
        case All(parts):
            return {"all": [_json(each) for each in parts]}
        case Any(parts):
            return {"any": [_json(each) for each in parts]}
        case Unsayable():
            raise ValueError("a filter that was not weakened")


def _ascii(text: bytes) -> bytes:
    r"""JSON with all but ASCII as `\uXXXX`, as a header must be."""
    return "".join(
        char if char < "\x7f" else f"\\u{ord(char):04x}" if ord(char) < 0x10000 else _surrogates(ord(char))
        for char in text.decode("utf-8")
    ).encode("ascii")


def _surrogates(code: int) -> str:
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
