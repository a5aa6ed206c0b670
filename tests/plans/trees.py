"""Random plans and rows (hypothesis), as hostile as those of real policies and apps."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from sidecar.gate.values import Type
from sidecar.plans.filter import RowField
from sidecar.plans.plan import Constant, Node, PlanExpression, PlanVariable, UnknownNode
from sidecar.plans.translate import FieldNames

TEXTS = ["", "a", "A", "alice", "5", "true", "null", "a,b", "100%", "_", "x'y", 'q"', "é", "🚀", "a b", "(", "*", "\\"]
SCALARS: list[Any] = [*TEXTS, True, False, 0, 1, 5, -3, 0.5, 1.5, 100, None]
NAMES = FieldNames(
    {
        "owner": RowField(("owner",), Type.STRING, required=True),
        "note": RowField(("note",)),
        "n": RowField(("n",), Type.INT, required=True),
        "x": RowField(("x",), Type.NUMBER),
        "ok": RowField(("ok",), Type.BOOL, required=True),
        "tags": RowField(("tags",), Type.LIST),
        "tenant": RowField(("account", "tenant")),
    },
    RowField(("id",), identifies=True),
)
"""Attributes of a policy, and the fields of the app that they are; `hidden` is told by no field."""


def attributes_of(row: dict[str, Any]) -> dict[str, Any]:
    """The attributes that a route reads out of a row: null is absent."""
    found = {name: row.get(name) for name in ("owner", "note", "n", "x", "ok", "tags", "hidden")}
    found["tenant"] = row.get("account", {}).get("tenant")
    return {"id": str(row["id"]), **{name: value for name, value in found.items() if value is not None}}


texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=4))
numbers = st.one_of(st.integers(-10, 10), st.sampled_from([0.5, 1.5, -2.5, 1e15, 2.0**53]))
scalars = st.one_of(st.sampled_from(SCALARS), texts, numbers)
rows = st.fixed_dictionaries(
    {
        "id": st.one_of(st.integers(0, 9), st.sampled_from(["a", "5", "x y"])),
        "owner": texts,
        "n": st.integers(-10, 10),
        "ok": st.booleans(),
    },
    optional={
        "note": scalars,
        "x": st.one_of(numbers, st.none()),
        "tags": st.one_of(st.lists(scalars.filter(lambda value: value is not None), max_size=3), st.none()),
        "hidden": scalars,
        "account": st.fixed_dictionaries({}, optional={"tenant": scalars}),
    },
)
"""Rows of an app that a route can read: those with a type of their own have values of it."""


def _variable(name: str) -> PlanVariable:
    return PlanVariable("request.resource.id" if name == "id" else f"request.resource.attr.{name}")


variables = st.sampled_from(["owner", "note", "n", "x", "ok", "tags", "tenant", "hidden", "id", "absent"]).map(
    _variable
)
constants = scalars.map(lambda value: Constant(float(value) if type(value) is int else value))
lists = st.lists(scalars, max_size=4).map(lambda values: Constant(tuple(values)))
leaves: st.SearchStrategy[Node] = st.one_of(
    variables,
    st.booleans().map(Constant),
    st.builds(
        lambda op, *pair: PlanExpression(op, pair),
        st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge", "startsWith", "endsWith", "contains"]),
        variables, constants,
    ),
    st.builds(
        lambda op, *pair: PlanExpression(op, pair), st.sampled_from(["eq", "ne", "lt", "ge", "in"]), constants, variables
    ),
    st.builds(lambda *pair: PlanExpression("in", pair), variables, lists),
    st.builds(lambda *pair: PlanExpression("eq", pair), variables, variables),
    st.just(UnknownNode()),
    st.just(PlanExpression("size", (PlanVariable("request.resource.attr.tags"),))),
)  # fmt: skip
trees: st.SearchStrategy[Node] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: PlanExpression("and", tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: PlanExpression("or", tuple(parts))),
        inner.map(lambda part: PlanExpression("not", (part,))),
    ),
    max_leaves=8,
)
