"""Dialect `json-server` (0.17): `owner=alice`, `amount_lte=5`, `name_like=^A`. It compares texts: `5` is `"5"`, too.

A parameter for a field that no row has is ignored, and the values of a repeated name are alternatives, but for `_ne`.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

from sidecar.gate.values import Type
from sidecar.plans.dialect import (
    Narrowing,
    RenderedParameters,
    in_parameters,
    is_number,
    joined,
    number_text,
    scalar_text,
)
from sidecar.plans.filter import NEGATIVE, ORDER, Filter, Operator, Term

_OWN = frozenset(("q", "callback"))
_SUFFIXES = ("_lte", "_gte", "_ne", "_like")
MOST = 20
"""Values of one name: of more its parser makes an object, and no list."""
_WHOLE = 1e15
"""Whole numbers below it are written in the same digits by JavaScript."""


class JsonServer:
    """Every term that can be said in parameters of its own."""

    def narrow(self, whole: Filter, asked: AbstractSet[str]) -> Narrowing:
        """Say a filter; a field that the client filters by is the client's."""
        return in_parameters(whole, asked, _written)


def _written(term: Term) -> RenderedParameters | None:
    name = joined(term.field, ".")
    if name is None or name in _OWN or name.endswith(_SUFFIXES) or len(term.values) > MOST:
        return None
    if term.relation in (Operator.EQ, Operator.IN):
        return _equal(name, term)
    if term.relation in NEGATIVE:
        # a row without the field is in none of its answers, and a list of one text reads as this text
        said = term.field.required and _is_told_apart(term)
        return RenderedParameters(tuple((f"{name}_ne", scalar_text(value)) for value in term.values)) if said else None
    if term.relation not in ORDER:
        return RenderedParameters(((f"{name}_like", _pattern(term)),), exact=False)
    if not is_number(term.value):
        return None
    suffix = "_lte" if term.relation in (Operator.LT, Operator.LE) else "_gte"
    exact = _is_number(term) and term.relation in (Operator.LE, Operator.GE)
    return RenderedParameters(((name + suffix, number_text(term.value)),), exact)


def _equal(name: str, term: Term) -> RenderedParameters | None:
    if all(not is_number(value) or _is_plain(value) for value in term.values):
        return RenderedParameters(tuple((name, scalar_text(value)) for value in term.values), _is_told_apart(term))
    if len(term.values) != 1 or not is_number(term.value):
        return None
    text = number_text(term.value)
    return RenderedParameters(((f"{name}_gte", text), (f"{name}_lte", text)), _is_number(term))


def _is_plain(number: float) -> bool:
    return number == int(number) and abs(number) < _WHOLE


def _is_number(term: Term) -> bool:
    return term.field.type in (Type.INT, Type.NUMBER)


def _is_told_apart(term: Term) -> bool:
    """Return whether rows that read as one of the values are equal to it: where all have the value's own type."""
    values = term.values
    if all(isinstance(value, str) for value in values):
        return term.field.type is Type.STRING or term.field.identifies
    if all(isinstance(value, bool) for value in values):
        return term.field.type is Type.BOOL
    return all(is_number(value) and _is_plain(value) for value in values) and term.field.type is Type.INT


def _pattern(term: Term) -> str:
    """A regular expression of JavaScript; it ignores case."""
    text = re.sub(r"[^A-Za-z0-9_\x80-\U0010ffff]", lambda found: "\\" + found[0], scalar_text(term.value))
    start = "^" if term.relation is Operator.STARTS_WITH else ""
    return start + text + ("$" if term.relation is Operator.ENDS_WITH else "")
