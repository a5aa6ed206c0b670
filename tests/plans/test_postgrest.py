"""Dialect `postgrest`, read back by its grammar."""

from __future__ import annotations

from typing import Any as Anything

import pytest
from hypothesis import given

from sidecar.gate.values import Type
from sidecar.plans.filter import EVERYTHING, All, Any, Exactness, Filter, Operator, RowField, Term
from sidecar.plans.plan import Conditional, Node
from sidecar.plans.postgrest import PostgRest
from sidecar.plans.translate import filter_of
from tests.plans.grammars import postgrest
from tests.plans.oracle import has
from tests.plans.trees import NAMES, rows, trees
from tests.tries import tries


def term(name: str, relation: Operator, *values: Anything) -> Term:
    return Term(NAMES.attributes[name], relation, values)


def text(whole: Filter) -> str:
    ((name, said),) = PostgRest().narrow(whole, frozenset()).parameters
    assert name == "and"
    return said


@given(trees, rows)
@tries(150)
def test_no_row_is_lost_and_no_value_is_syntax(tree: Node, row: dict[str, Anything]) -> None:
    whole = filter_of(Conditional(tree), NAMES)
    said = PostgRest().narrow(whole, frozenset())
    if not said.parameters:
        assert whole == EVERYTHING or said.exactness is Exactness.NONE
        return
    read = postgrest(said.parameters[0][1])
    assert has(read, row) or not has(whole, row)
    if said.exactness is Exactness.EXACT:
        # as whole numbers a bound may be written otherwise
        assert has(read, row) == has(whole, row)


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        (term("owner", Operator.EQ, 'a,b)"\\'), '(owner.eq."a,b)\\"\\\\")'),
        (term("owner", Operator.IN, "a", "b"), '(owner.in.("a","b"))'),
        (term("n", Operator.NE, 5.0), "(n.neq.5)"),
        (term("n", Operator.LT, 5.5), "(n.lte.5)"),
        (term("ok", Operator.NE, True), "(ok.neq.true)"),
        (term("x", Operator.LE, 5.0), "(x.lte.6)"),
        (term("x", Operator.EQ, 0.1), "(and(x.gte.0,x.lte.1))"),
        (term("note", Operator.STARTS_WITH, "50%_\\"), '(note.like."50\\\\%\\\\_\\\\\\\\*")'),
        (All((term("ok", Operator.EQ, True), Any((term("n", Operator.GE, 1.0), term("owner", Operator.EQ, "a"))))),
         '(and(ok.eq.true,or(n.gte.1,owner.eq."a")))'),
    ],
)  # fmt: skip
def test_words(whole: Filter, said: str) -> None:
    assert text(whole) == said


@pytest.mark.parametrize(
    "whole",
    [
        term("tenant", Operator.EQ, "a"), term("note", Operator.CONTAINS, "a*b"), term("tags", Operator.HAS, "a"),
        term("owner", Operator.NE, "a"), term("x", Operator.NE, 1.0), term("n", Operator.NE, 0.5),
        Term(RowField(("ok",), Type.BOOL), Operator.NE, (True,)), term("owner", Operator.IN, "a", 1.0),
        Term(RowField(("id",), identifies=True), Operator.EQ, ("a",)),
    ],
)  # fmt: skip
def test_what_it_cannot_say(whole: Filter) -> None:
    assert PostgRest().narrow(whole, frozenset()) == ((), Exactness.NONE, ())


def test_a_client_may_filter_too() -> None:
    assert PostgRest().narrow(term("owner", Operator.EQ, "a"), frozenset(("and", "owner"))).exactness is Exactness.EXACT
