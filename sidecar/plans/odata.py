"""Dialect `odata` (OASIS OData 4.01, URL conventions 5.1.1): `$filter=owner eq 'alice' and (ok eq true or n ge 5)`.

There may be one `$filter`: where the client has one, it is the client's alone.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from sidecar.gate.values import Type
from sidecar.plans.dialect import (
    Narrowing,
    in_columns,
    in_one_parameter,
    is_asked,
    joined,
    scalar_text,
)
from sidecar.plans.filter import TEXTUAL, All, Any, Exactness, Filter, Operator, RenderedTerm, Term, Unsayable, Value

_FUNCTIONS = {Operator.STARTS_WITH: "startswith", Operator.ENDS_WITH: "endswith", Operator.CONTAINS: "contains"}
_OPERATORS = {Operator.LT: "lt", Operator.LE: "le", Operator.GT: "gt", Operator.GE: "ge"}
_RESERVED = frozenset(("and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "has", "in", "true", "false", "null"))


class OData:
    """The whole tree in one `$filter`."""

    def narrow(self, whole: Filter, asked: AbstractSet[str]) -> Narrowing:
        """Say a filter, unless the client has one: 4.01 takes `filter` for `$filter`, too."""
        if is_asked("filter", asked):
            return Narrowing((), Exactness.NONE)
        return in_one_parameter(whole, asked, "$filter", _render, _written)


def _render(term: Term) -> RenderedTerm | None:
    if joined(term.field, "/") is None or not _RESERVED.isdisjoint(map(str.lower, term.field.path)):
        return None
    if term.relation is Operator.HAS and isinstance(term.value, str) and term.field.type is Type.LIST:
        return RenderedTerm(term)
    return in_columns(term)


def _written(part: Filter) -> str:
    match part:
        case Term():
            return _term(part)
        case All(parts):
            return f"({' and '.join(map(_written, parts))})"
        case Any(parts):
            return f"({' or '.join(map(_written, parts))})"
        case Unsayable():
            raise ValueError("a filter that was not weakened")


def _term(term: Term) -> str:
    name = "/".join(term.field.path)
    if term.relation in TEXTUAL:
        return f"{_FUNCTIONS[term.relation]}({name},{_literal(term.value)})"
    if term.relation is Operator.HAS:
        return f"{name}/any(e:e eq {_literal(term.value)})"
    if term.relation in _OPERATORS:
        return f"{name} {_OPERATORS[term.relation]} {_literal(term.value)}"
    equal = term.relation in (Operator.EQ, Operator.IN)
    terms = [f"{name} {'eq' if equal else 'ne'} {_literal(value)}" for value in term.values]
    return terms[0] if len(terms) == 1 else f"({(' or ' if equal else ' and ').join(terms)})"


def _literal(value: Value) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else scalar_text(value)
