"""Plans into filters that lose no row."""

from __future__ import annotations

from typing import Any as Anything

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.gate.values import Type
from sidecar.plans.filter import EVERYTHING, NOTHING, All, Any, Filter, Operator, RowField, Term
from sidecar.plans.plan import Always, Conditional, Constant, Node, PlanExpression, PlanVariable, UnknownNode
from sidecar.plans.translate import MAX_TEXT, MAX_VALUES, UNSAYABLE, FieldNames, filter_of, plain_path
from tests.plans.oracle import has, may_be_allowed
from tests.plans.trees import NAMES, attributes_of, rows, trees
from tests.tries import tries


def attr(name: str) -> PlanVariable:
    return PlanVariable(f"request.resource.attr.{name}")


def op(operator: str, *operands: Node) -> PlanExpression:
    return PlanExpression(operator, operands)


def translated(node: Node, names: FieldNames = NAMES) -> Filter:
    return filter_of(Conditional(node), names)


def term(field: str, test: Operator, *values: Anything) -> Term:
    return Term(NAMES.attributes[field], test, values)


ALICE = Constant("alice")
OWNED = op("eq", attr("owner"), ALICE)
OWNER = term("owner", Operator.EQ, "alice")


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (OWNED, OWNER),
        (op("eq", ALICE, attr("owner")), OWNER),
        (op("ne", attr("owner"), ALICE), term("owner", Operator.NE, "alice")),
        (op("not", OWNED), term("owner", Operator.NE, "alice")),
        (op("not", op("not", OWNED)), OWNER),
        (op("in", attr("owner"), Constant(("a", "b"))), term("owner", Operator.IN, "a", "b")),
        (op("not", op("in", attr("owner"), Constant(("a", "b")))), term("owner", Operator.NOT_IN, "a", "b")),
        (op("in", ALICE, attr("tags")), term("tags", Operator.HAS, "alice")),
        (op("lt", Constant(5.0), attr("n")), term("n", Operator.GT, 5.0)),
        (op("not", op("lt", attr("n"), Constant(5.0))), term("n", Operator.GE, 5.0)),
        (op("startsWith", attr("note"), Constant("a")), term("note", Operator.STARTS_WITH, "a")),
        (attr("ok"), term("ok", Operator.EQ, True)),
        (op("not", attr("ok")), term("ok", Operator.NE, True)),
        (op("eq", attr("tenant"), ALICE), Term(RowField(("account", "tenant")), Operator.EQ, ("alice",))),
        (op("eq", attr("note.by"), ALICE), Term(RowField(("note", "by")), Operator.EQ, ("alice",))),
        (op("eq", PlanVariable("request.resource.id"), ALICE), Term(RowField(("id",), identifies=True), Operator.EQ, ("alice",))),
        (op("and", OWNED, UnknownNode()), All((OWNER, UNSAYABLE))),
        (op("or", OWNED, attr("ok")), Any((OWNER, term("ok", Operator.EQ, True)))),
        (op("not", op("or", OWNED, attr("ok"))), All((term("owner", Operator.NE, "alice"), term("ok", Operator.NE, True)))),
        (op("and", op("and", OWNED, attr("ok")), OWNED), All((OWNER, term("ok", Operator.EQ, True), OWNER))),
        (op("or", op("or", OWNED, OWNED), OWNED), Any((OWNER,) * 3)),
        (op("and", OWNED, Constant(value=True)), OWNER),
        (op("and", OWNED, Constant(value=False)), NOTHING),
        (op("or", OWNED, Constant(value=True)), EVERYTHING),
    ],
)  # fmt: skip
def test_what_can_be_said(node: Node, expected: Filter) -> None:
    assert translated(node) == expected


@pytest.mark.parametrize(
    "node",
    [
        UnknownNode(), Constant(5.0), Constant("true"), op("and"), op("size", attr("tags")), op("eq", ALICE),
        op("eq", attr("hidden"), ALICE), op("eq", attr("owner"), attr("note")), op("eq", attr("note.a-b"), ALICE),
        op("eq", PlanVariable("request.resource.kind"), ALICE), op("eq", attr("owner"), Constant(None)),
        op("eq", attr("n"), Constant(2.0**53)), op("eq", attr("n"), Constant(float("inf"))),
        op("eq", attr("n"), Constant(float("nan"))), op("eq", attr("owner"), Constant(("a",))),
        op("eq", attr("owner"), Constant("a\nb")), op("eq", attr("owner"), Constant("\ud800")),
        op("eq", attr("owner"), Constant("x" * (MAX_TEXT + 1))),
        op("in", attr("owner"), Constant(("a", None))), op("in", attr("owner"), Constant(())),
        op("in", attr("owner"), Constant(("a",) * (MAX_VALUES + 1))),
        op("lt", attr("owner"), ALICE), op("lt", attr("ok"), Constant(value=True)),
        op("startsWith", attr("note"), Constant("")), op("startsWith", attr("note"), attr("owner")),
        op("startsWith", PlanVariable("request.resource.id"), ALICE), op("ne", PlanVariable("request.resource.id"), ALICE),
        # in error without the field, or for a value of another type: then a rule that denies is not met
        op("not", op("ne", attr("note"), ALICE)), op("not", op("lt", attr("x"), Constant(5.0))),
        op("not", op("not", attr("note"))), op("not", op("startsWith", attr("owner"), Constant("a"))),
        op("not", op("in", ALICE, attr("tags"))),
    ],
)  # fmt: skip
def test_what_cannot(node: Node) -> None:
    assert translated(node) == UNSAYABLE


def test_a_plan_without_a_condition() -> None:
    assert filter_of(Always.ALLOWED, NAMES) == EVERYTHING
    assert filter_of(Always.DENIED, NAMES) == NOTHING


def test_an_id_that_no_plain_field_has() -> None:
    names = FieldNames({})
    assert translated(op("eq", PlanVariable("request.resource.id"), ALICE), names) == UNSAYABLE


@pytest.mark.parametrize(
    ("expression", "path"),
    [
        ("owner_id", ("owner_id",)), ("a.b.c", ("a", "b", "c")), ("a.b.c.d", None), ("a[0]", None), ("to_string(a)", None),
        ("a || b", None), ('"a"', None), ("@", None), ("", None), ("a.", None), ("é", None),
    ],
)  # fmt: skip
def test_plain_paths(expression: str, path: tuple[str, ...] | None) -> None:
    assert plain_path(expression) == path


@given(trees, rows)
@tries(200)
@example(op("not", op("not", attr("note"))), {"id": 1, "owner": "a", "n": 1, "ok": True, "note": "text"})
@example(op("not", op("ne", attr("note"), ALICE)), {"id": 1, "owner": "a", "n": 1, "ok": True})
def test_no_row_is_lost(tree: Node, row: dict[str, Anything]) -> None:
    whole = translated(tree)
    if may_be_allowed(tree, attributes_of(row)):
        assert has(whole, row)


@given(st.sampled_from(list(Type)), st.booleans())
def test_a_field_is_always_of_a_type_only_where_it_is_required(kind: Type, required: bool) -> None:
    assert RowField(("a",), kind, required).always(kind) is required


@pytest.mark.parametrize(("kind", "said"), [(Type.BOOL, True), (None, False), (Type.INT, False), (Type.STRING, False)])
def test_a_negation_is_about_values_of_the_declared_type_alone(kind: Type | None, said: bool) -> None:
    """To a database 1 is true: the rows with 1 would be lost, where a check finds an error."""
    names = FieldNames({"ok": RowField(("ok",), kind, required=True)})
    whole = filter_of(Conditional(PlanExpression("not", (PlanVariable("request.resource.attr.ok"),))), names)
    assert (whole != UNSAYABLE) is said


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (Type.STRING, ("5",), True), (Type.STRING, (5.0,), False), (Type.STRING, ("5", 5.0), False),
        (Type.STRING, (True,), False), (Type.INT, (5.0,), True), (Type.INT, ("5",), False), (Type.INT, (True,), False),
        (Type.NUMBER, (0.5, 1.0), True), (Type.NUMBER, ("a", 1.0), False), (None, ("a",), False),
    ],
)  # fmt: skip
def test_a_negated_list_has_values_of_the_declared_type_alone(
    kind: Type | None, values: tuple[Anything, ...], said: bool
) -> None:
    """A column of text has '5' for 5: the rows with '5' would be lost, which a check takes for another value."""
    names = FieldNames({"a": RowField(("a",), kind, required=True)})
    listed = PlanExpression("in", (PlanVariable("request.resource.attr.a"), Constant(values)))
    assert (filter_of(Conditional(PlanExpression("not", (listed,))), names) != UNSAYABLE) is said
