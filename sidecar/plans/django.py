"""Dialect `django`: field lookups as parameters, `owner=alice&n__lte=5&owner__in=a,b`, as django-filter reads them.

Apps differ in what becomes of a name that comes twice, so a name of the client is the client's alone.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from sidecar.plans.dialect import Narrowing, RenderedParameters, in_columns, in_parameters, joined, scalar_text
from sidecar.plans.filter import NEGATIVE, All, Filter, Operator, Term, Value

_LOOKUPS = {
    Operator.EQ: "", Operator.IN: "__in", Operator.LT: "__lt", Operator.LE: "__lte", Operator.GT: "__gt",
    Operator.GE: "__gte", Operator.STARTS_WITH: "__startswith", Operator.ENDS_WITH: "__endswith",
    Operator.CONTAINS: "__contains",
}  # fmt: skip


class Django:
    """Every term that can be said in parameters of its own."""

    def narrow(self, whole: Filter, asked: AbstractSet[str]) -> Narrowing:
        """Say a filter; a lookup that the client uses is the client's."""
        return in_parameters(whole, asked, _written)


def _written(term: Term) -> RenderedParameters | None:
    name = joined(term.field, "__")
    said = in_columns(term) if name is not None and term.relation not in NEGATIVE else None
    if said is None or name is None or any("__" in part for part in term.field.path):
        return None
    if term.relation is Operator.IN and any("," in str(value) or value == "" for value in term.values):
        return None
    terms = said.filter.parts if isinstance(said.filter, All) else (said.filter,)
    pairs = [(name + _LOOKUPS[each.relation], _values(each)) for each in terms if isinstance(each, Term)]
    return RenderedParameters(tuple(pairs), said.exact)


def _values(term: Term) -> str:
    return ",".join(map(_value, term.values))


def _value(value: Value) -> str:
    # its fields take no other spelling of a truth value
    return str(value) if isinstance(value, bool) else scalar_text(value)
