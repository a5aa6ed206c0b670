"""Dialect `rsql` (github.com/jirutka/rsql-parser): `filter=owner=="alice";(ok==true,n>=5)`, `;` is AND and `,` is OR.

There may be one `filter`: where the client has one, it is the client's alone.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from sidecar.plans.dialect import Narrowing, in_columns, in_one_parameter, joined, scalar_text
from sidecar.plans.filter import TEXTUAL, All, Any, Filter, Operator, RenderedTerm, Term, Unsayable, Value

_OPERATORS = {
    Operator.EQ: "==", Operator.IN: "=in=", Operator.NE: "!=", Operator.NOT_IN: "=out=", Operator.LT: "=lt=",
    Operator.LE: "=le=", Operator.GT: "=gt=", Operator.GE: "=ge=",
}  # fmt: skip


class Rsql:
    """The whole tree in one `filter`."""

    def narrow(self, whole: Filter, asked: AbstractSet[str]) -> Narrowing:
        """Say a filter, unless the client has one."""
        return in_one_parameter(whole, asked, "filter", _render, _written)


def _render(term: Term) -> RenderedTerm | None:
    # a `*` in a text stands for any text in some apps, and for itself in others
    if joined(term.field, ".") is None or term.relation in TEXTUAL:
        return None
    return in_columns(term)


def _written(part: Filter) -> str:
    match part:
        case Term():
            several = part.relation in (Operator.IN, Operator.NOT_IN)
            value = f"({','.join(map(_literal, part.values))})" if several else _literal(part.value)
            return ".".join(part.field.path) + _OPERATORS[part.relation] + value
        case All(parts):
            return f"({';'.join(map(_written, parts))})"
        case Any(parts):
            return f"({','.join(map(_written, parts))})"
        case Unsayable():
            raise ValueError("a filter that was not weakened")


def _literal(value: Value) -> str:
    if not isinstance(value, str):
        return scalar_text(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
