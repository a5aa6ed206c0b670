"""A plan -> a filter that has every row which a check could allow.

A condition in error is not met, so its negation in a rule that denies is: `not` is pushed down to the comparisons, and
a negated one has the rows for which it is false *or* in error. What cannot be said so is `Unsayable`, never a guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeGuard

from sidecar.gate.values import Type
from sidecar.plans.filter import (
    EVERYTHING,
    NOTHING,
    Filter,
    Operator,
    RowField,
    Term,
    Unsayable,
    Value,
    all_of,
    any_of,
)
from sidecar.plans.plan import Always, Constant, Node, Plan, PlanExpression, PlanVariable
from sidecar.wire.strict_json import EXACT_INTEGER

_ATTRIBUTE = "request.resource.attr."
_ID = "request.resource.id"
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}(?:\.[A-Za-z_][A-Za-z0-9_]{0,62}){0,2}")
MAX_VALUES = 100
"""Values of one term, and `MAX_TEXT` characters of each: a query has room for no more."""
MAX_TEXT = 512

UNSAYABLE = Unsayable()


class FieldNames(NamedTuple):
    """The fields of the app by the names that a policy has for them."""

    attributes: Mapping[str, RowField]
    id: RowField | None = None


def plain_path(expression: str) -> tuple[str, ...] | None:
    """The names that a JMESPath expression is made of, where it is nothing but a path to a field."""
    return tuple(expression.split(".")) if _PLAIN.fullmatch(expression) else None


def filter_of(plan: Plan, names: FieldNames) -> Filter:
    """Translate a plan. It raises nothing, whatever is in the plan."""
    if plan is Always.ALLOWED:
        return EVERYTHING
    if plan is Always.DENIED:
        return NOTHING
    return _Translation(names).of(plan.condition, negated=False, lax=False)


_MIRRORED = {"lt": Operator.GT, "le": Operator.GE, "gt": Operator.LT, "ge": Operator.LE}
_OPPOSITE = {Operator.LT: Operator.GE, Operator.LE: Operator.GT, Operator.GT: Operator.LE, Operator.GE: Operator.LT}
_KINDS: dict[Type, tuple[type, ...]] = {
    Type.STRING: (str,),
    Type.BOOL: (bool,),
    Type.INT: (int, float),
    Type.NUMBER: (int, float),
}
"""The Python types that values of a declared type have in a plan, where a whole number may be a float."""
_TEXTUAL = {"startsWith": Operator.STARTS_WITH, "endsWith": Operator.ENDS_WITH, "contains": Operator.CONTAINS}


class _Translation:
    """Walks a condition. `negated`: the rows for which it is false or in error are wanted. `lax`: those for which it is
    in error are wanted, too, since a negation stands around it."""

    def __init__(self, names: FieldNames) -> None:
        self._names = names

    def of(self, node: Node, *, negated: bool, lax: bool) -> Filter:
        match node:
            case PlanExpression("not", (operand,)):
                return self.of(operand, negated=not negated, lax=True)
            case PlanExpression("and" | "or" as operator, operands) if operands:
                parts = [self.of(operand, negated=negated, lax=lax) for operand in operands]
                return all_of(parts) if (operator == "and") is not negated else any_of(parts)
            case Constant(bool(value)):
                return EVERYTHING if value is not negated else NOTHING
            case PlanVariable(name):
                return self._true(self._field(name), negated, lax)
            case PlanExpression(operator, (left, right)):
                return self._relation(operator, left, right, negated, lax)
            case _:
                return UNSAYABLE

    def _relation(self, operator: str, left: Node, right: Node, negated: bool, lax: bool) -> Filter:  # noqa: PLR0911 - one for each form
        match operator, left, right:
            case "eq" | "ne", PlanVariable(name), Constant(value):
                return self._compared(operator, name, value, negated, lax)
            case "eq" | "ne", Constant(value), PlanVariable(name):
                return self._compared(operator, name, value, negated, lax)
            case "in", PlanVariable(name), Constant(tuple(values)):
                return self._equal(self._field(name), values, negated=negated, lax=lax)
            case "in", Constant(value), PlanVariable(name):
                return self._term(self._field(name), Operator.HAS, (value,)) if not (negated or lax) else UNSAYABLE
            case "lt" | "le" | "gt" | "ge", PlanVariable(name), Constant(value):
                return self._ordered(Operator(operator), self._field(name), value, negated, lax)
            case "lt" | "le" | "gt" | "ge", Constant(value), PlanVariable(name):
                return self._ordered(_MIRRORED[operator], self._field(name), value, negated, lax)
            case "startsWith" | "endsWith" | "contains", PlanVariable(name), Constant(str(text)) if text:
                return self._term(self._field(name), _TEXTUAL[operator], (text,)) if not (negated or lax) else UNSAYABLE
            case _:
                return UNSAYABLE

    def _true(self, field: RowField | None, negated: bool, lax: bool) -> Filter:
        """A bare attribute, which is in error where it is neither true nor false."""
        if not negated and lax and not (field is not None and field.always(Type.BOOL)):
            return UNSAYABLE
        return self._term(field, Operator.NE if negated else Operator.EQ, (True,))

    def _compared(self, operator: str, name: str, value: object, negated: bool, lax: bool) -> Filter:
        field = self._field(name)
        if operator == "eq":
            return self._equal(field, (value,), negated=negated, lax=lax)
        # of `!=` the error is that of `==`: it is false or in error where the two are equal, or where one is absent
        return self._equal(field, (value,), negated=not negated, lax=lax or negated)

    def _equal(self, field: RowField | None, values: tuple[object, ...], *, negated: bool, lax: bool) -> Filter:
        """Equal to one of the values. Only an absent attribute is an error, and an absent one is in each negative
        term."""
        if not negated and lax and not (field is not None and field.required):
            return UNSAYABLE
        one = len(values) == 1
        if negated:
            return self._term(field, Operator.NE if one else Operator.NOT_IN, values)
        return self._term(field, Operator.EQ if one else Operator.IN, values)

    def _ordered(self, relation: Operator, field: RowField | None, value: object, negated: bool, lax: bool) -> Filter:
        if isinstance(value, str | bool) or field is None:
            # texts have another order in each database
            return UNSAYABLE
        if (negated or lax) and not field.always(Type.INT, Type.NUMBER):
            return UNSAYABLE
        return self._term(field, _OPPOSITE[relation] if negated else relation, (value,))

    def _term(self, field: RowField | None, relation: Operator, values: tuple[object, ...]) -> Filter:
        said = [value for value in values if _is_value(value)]
        if field is None or not 0 < len(said) == len(values) <= MAX_VALUES:
            return UNSAYABLE
        if field.identifies and relation not in (Operator.EQ, Operator.IN):
            return UNSAYABLE
        if relation in (Operator.NE, Operator.NOT_IN) and not _are_of_type(field, said):
            return UNSAYABLE
        return Term(field, relation, tuple(said))

    def _field(self, name: str) -> RowField | None:
        if name == _ID:
            return self._names.id
        attribute, _, rest = name.removeprefix(_ATTRIBUTE).partition(".")
        field = self._names.attributes.get(attribute) if name.startswith(_ATTRIBUTE) else None
        if field is None or not rest:
            return field
        inner = plain_path(rest)
        return RowField(field.path + inner) if inner is not None else None


def _are_of_type(field: RowField, values: Sequence[Value]) -> bool:
    """Return whether values are of a field's declared type. A database converts one of another type first, and takes it
    for equal then: true is 1 to many, and in SQLite, MySQL and others a column of text has '5' for 5."""
    kinds = _KINDS.get(field.type) if field.type is not None else None
    return kinds is not None and all(type(value) in kinds for value in values)


def _is_value(value: object) -> TypeGuard[Value]:
    """Return whether each app can be told a value: null is absent to some, a number beyond 2^53 another to some."""
    if isinstance(value, str):
        return len(value) <= MAX_TEXT and value.isprintable()
    if isinstance(value, bool):
        return True
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < EXACT_INTEGER
