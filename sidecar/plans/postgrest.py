"""Dialect `postgrest`: `and=(owner.eq."alice",or(ok.eq.true,n.gte.5))`, which stands beside a client's own filters.

PostgREST joins all of a query with AND (docs.postgrest.org, "Logical operators"), so no name is taken from the client.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from sidecar.plans.dialect import Narrowing, in_columns, in_one_parameter, scalar_text
from sidecar.plans.filter import TEXTUAL, All, Any, Filter, Operator, RenderedTerm, Term, Unsayable, Value

_OPERATORS = {
    Operator.EQ: "eq", Operator.IN: "in", Operator.NE: "neq", Operator.NOT_IN: "not.in", Operator.LT: "lt",
    Operator.LE: "lte", Operator.GT: "gt", Operator.GE: "gte",
}  # fmt: skip
_LIKE = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})
_NOBODY: frozenset[str] = frozenset()


class PostgRest:
    """The whole tree in one `and`."""

    def narrow(self, whole: Filter, asked: AbstractSet[str]) -> Narrowing:
        """Say a filter; all that the client asks for stands beside it."""
        return in_one_parameter(whole, _NOBODY, "and", _render, lambda said: f"({_written(said)})")


def _render(term: Term) -> RenderedTerm | None:
    if len(term.field.path) > 1:
        # of a nested table a filter is about its rows, of JSON it needs another operator
        return None
    if term.relation in TEXTUAL and "*" in str(term.value):
        # it takes it for "%", and it cannot be escaped
        return None
    return in_columns(term)


def _written(part: Filter) -> str:
    match part:
        case Term():
            return _term(part)
        case All(parts):
            return f"and({','.join(map(_written, parts))})"
        case Any(parts):
            return f"or({','.join(map(_written, parts))})"
        case Unsayable():
            raise ValueError("a filter that was not weakened")


def _term(term: Term) -> str:
    name = term.field.path[0]
    if term.relation in TEXTUAL:
        start = "" if term.relation is Operator.STARTS_WITH else "*"
        end = "" if term.relation is Operator.ENDS_WITH else "*"
        return f"{name}.like.{_quoted(start + str(term.value).translate(_LIKE) + end)}"
    several = term.relation in (Operator.IN, Operator.NOT_IN)
    value = f"({','.join(map(_value, term.values))})" if several else _value(term.value)
    return f"{name}.{_OPERATORS[term.relation]}.{value}"


def _value(value: Value) -> str:
    return _quoted(value) if isinstance(value, str) else scalar_text(value)


def _quoted(text: str) -> str:
    """A text in which nothing is syntax (docs.postgrest.org, "Reserved characters")."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
