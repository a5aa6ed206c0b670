"""What CEL makes of a plan's tree for one row, and what a filter means for it: the truth that translations are held to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any as Anything

from sidecar.plans.filter import All, Any, Filter, Operator, Term, Unsayable
from sidecar.plans.plan import Constant, Node, PlanExpression, PlanVariable

Row = Mapping[str, Anything]


class CelError(Exception):
    """An error of an expression, which is not met."""


def evaluated(node: Node, row: Row) -> Anything:
    """The value of a node for a row: `id` beside its attributes. Raises CelError."""
    match node:
        case Constant(value):
            return list(value) if isinstance(value, tuple) else value
        case PlanVariable(name):
            return _read(name, row)
        case PlanExpression("and" | "or" as operator, operands):
            return _logical([_truth(operand, row) for operand in operands], stop=operator == "or")
        case PlanExpression("not", (operand,)):
            return not _boolean(evaluated(operand, row))
        case PlanExpression(operator, (left, right)):
            return _relation(operator, evaluated(left, row), evaluated(right, row))
        case _:
            raise CelError


def _truth(node: Node, row: Row) -> bool | None:
    try:
        return _boolean(evaluated(node, row))
    except CelError:
        return None


def _logical(truths: list[bool | None], *, stop: bool) -> bool:
    if stop in truths:
        return stop
    if None in truths:
        raise CelError
    return not stop


def _read(name: str, row: Row) -> Anything:
    if name == "request.resource.id":
        return row["id"]
    value: Anything = row
    for part in name.removeprefix("request.resource.attr.").split("."):
        if not isinstance(value, dict) or part not in value:
            raise CelError
        value = value[part]
    return value


def _boolean(value: Anything) -> bool:
    if not isinstance(value, bool):
        raise CelError
    return value


def same(left: Anything, right: Anything) -> bool:
    """Equal as CEL has it: a boolean is no number, and no text is one."""
    if isinstance(left, bool) or isinstance(right, bool) or not (_is_number(left) and _is_number(right)):
        return type(left) is type(right) and left == right
    return float(left) == float(right)


def _is_number(value: Anything) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _relation(operator: str, left: Anything, right: Anything) -> bool:
    match operator:
        case "eq":
            return same(left, right)
        case "ne":
            return not same(left, right)
        case "in" if isinstance(right, list):
            return any(same(left, each) for each in right)
        case "lt" | "le" | "gt" | "ge" if (_is_number(left) and _is_number(right)) or (
            isinstance(left, str) and isinstance(right, str)
        ):
            below, equal = bool(left < right), bool(left == right)
            return {"lt": below, "le": below or equal, "gt": not (below or equal), "ge": not below}[operator]
        case "startsWith" | "endsWith" | "contains" if isinstance(left, str) and isinstance(right, str):
            return {"startsWith": left.startswith, "endsWith": left.endswith, "contains": left.__contains__}[operator](
                right
            )
        case _:
            raise CelError


def may_be_allowed(node: Node, row: Row, *, denied: bool = False) -> bool:
    """Return whether a policy whose plan has this tree can allow a row: a `not` of the top may be that of a rule that
    denies, which an error does not meet."""
    match node:
        case PlanExpression("and", operands):
            return all(may_be_allowed(operand, row) for operand in operands)
        case PlanExpression("or", operands):
            return any(may_be_allowed(operand, row) for operand in operands)
        case PlanExpression("not", (operand,)):
            return _truth(operand, row) is not True
        case _:
            return _truth(node, row) is True


def has(whole: Filter, row: Row) -> bool:
    """Return whether a filter has a row, exactly as its terms say."""
    match whole:
        case All(parts):
            return all(has(part, row) for part in parts)
        case Any(parts):
            return any(has(part, row) for part in parts)
        case Unsayable():
            return True
        case Term():
            return _has(whole, row)


def _has(term: Term, row: Row) -> bool:
    value: Anything = row
    for part in term.field.path:
        value = value.get(part) if isinstance(value, dict) else None
    if term.field.identifies and value is not None:
        value = str(value)
    match term.relation:
        case Operator.EQ | Operator.IN:
            return any(same(value, each) for each in term.values)
        case Operator.NE | Operator.NOT_IN:
            return not any(same(value, each) for each in term.values)
        case Operator.HAS:
            return isinstance(value, list) and any(same(each, term.value) for each in value)
        case Operator.STARTS_WITH | Operator.ENDS_WITH | Operator.CONTAINS:
            operator = {"starts_with": "startsWith", "ends_with": "endsWith", "contains": "contains"}[term.relation]
        case _:
            operator = str(term.relation)
    try:
        return bool(_relation(operator, value, term.value))
    except CelError:
        return False
