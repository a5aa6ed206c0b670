"""Filters that are made weaker, and never stronger."""

from __future__ import annotations

from typing import Any as Anything

from hypothesis import given
from hypothesis import strategies as st

from sidecar.plans.filter import (
    EVERYTHING,
    NOTHING,
    All,
    Any,
    Exactness,
    Filter,
    Operator,
    RenderedTerm,
    RowField,
    Term,
    Unsayable,
    all_of,
    any_of,
    weakened,
)
from sidecar.plans.plan import Conditional, Node
from sidecar.plans.translate import filter_of
from tests.plans.oracle import has
from tests.plans.trees import NAMES, rows, trees
from tests.tries import tries

A, B = Term(RowField(("a",)), Operator.EQ, ("x",)), Term(RowField(("b",)), Operator.EQ, ("x",))


def only_a(term: Term) -> RenderedTerm | None:
    return RenderedTerm(term) if term == A else None


def test_all_loses_parts_and_any_loses_itself() -> None:
    assert weakened(All((A, B)), only_a) == (A, Exactness.WEAKENED)
    assert weakened(Any((A, B)), only_a) == (EVERYTHING, Exactness.NONE)
    assert weakened(All((A, Unsayable())), only_a) == (A, Exactness.WEAKENED)
    assert weakened(Any((A, All((A, B)))), only_a) == (Any((A, A)), Exactness.WEAKENED)
    assert weakened(A, only_a) == (A, Exactness.EXACT)
    assert weakened(EVERYTHING, only_a) == (EVERYTHING, Exactness.EXACT)


def test_a_term_with_more_rows_is_no_exact_one() -> None:
    assert weakened(A, lambda term: RenderedTerm(term, exact=False)) == (A, Exactness.WEAKENED)


def test_they_are_flat() -> None:
    assert all_of([All((A, B)), A]) == All((A, B, A))
    assert any_of([Any((A, B)), A]) == Any((A, B, A))
    assert all_of([A, NOTHING]) == NOTHING
    assert any_of([A, EVERYTHING]) == EVERYTHING
    assert all_of([A]) == any_of([A]) == A


def test_no_value_is_in_a_repr() -> None:
    for part in (A, All((A,)), Any((A,)), Unsayable()):
        assert "x" not in repr(part).replace("0x", "")


@given(trees, rows, st.sets(st.sampled_from(["owner", "note", "n", "x", "ok"])))
@tries(150)
def test_no_row_is_lost(tree: Node, row: dict[str, Anything], sayable: set[str]) -> None:
    whole = filter_of(Conditional(tree), NAMES)
    said: Filter
    said, exactness = weakened(whole, lambda term: RenderedTerm(term) if term.field.path[0] in sayable else None)
    assert has(said, row) or not has(whole, row)
    if exactness is Exactness.EXACT:
        assert has(said, row) == has(whole, row)
