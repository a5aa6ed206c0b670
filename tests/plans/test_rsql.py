"""Dialect `rsql`, read back by its grammar."""

from __future__ import annotations

from typing import Any as Anything

import pytest
from hypothesis import given

from sidecar.gate.values import Type
from sidecar.plans.filter import EVERYTHING, All, Any, Exactness, Filter, Operator, RowField, Term
from sidecar.plans.plan import Conditional, Node
from sidecar.plans.rsql import Rsql
from sidecar.plans.translate import filter_of
from tests.plans.grammars import rsql
from tests.plans.oracle import has
from tests.plans.trees import NAMES, rows, trees
from tests.tries import tries


def term(name: str, relation: Operator, *values: Anything) -> Term:
    return Term(NAMES.attributes[name], relation, values)


def text(whole: Filter) -> str:
    ((name, said),) = Rsql().narrow(whole, frozenset()).parameters
    assert name == "filter"
    return said


@given(trees, rows)
@tries(150)
def test_no_row_is_lost_and_no_value_is_syntax(tree: Node, row: dict[str, Anything]) -> None:
    whole = filter_of(Conditional(tree), NAMES)
    said = Rsql().narrow(whole, frozenset())
    if not said.parameters:
        assert whole == EVERYTHING or said.exactness is Exactness.NONE
        return
    read = rsql(said.parameters[0][1])
    assert has(read, row) or not has(whole, row)
    if said.exactness is Exactness.EXACT:
        # as whole numbers a bound may be written otherwise
        assert has(read, row) == has(whole, row)


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        (term("owner", Operator.EQ, 'a";\\'), 'owner=="a\\";\\\\"'),
        (term("owner", Operator.IN, "a", "b"), 'owner=in=("a","b")'),
        (term("n", Operator.NOT_IN, 5.0, 6.0), "n=out=(5,6)"),
        (term("tenant", Operator.EQ, "a"), 'account.tenant=="a"'),
        (All((term("ok", Operator.EQ, True), Any((term("n", Operator.GT, 1.0), term("owner", Operator.EQ, "a"))))),
         '(ok==true;(n=gt=1,owner=="a"))'),
    ],
)  # fmt: skip
def test_words(whole: Filter, said: str) -> None:
    assert text(whole) == said


@pytest.mark.parametrize(
    "whole",
    [
        Term(RowField(("_a",)), Operator.EQ, ("a",)), term("note", Operator.CONTAINS, "a"), term("owner", Operator.NE, "a"),
        term("tags", Operator.HAS, "a"), Term(RowField(("id",), Type.STRING, identifies=True), Operator.EQ, ("a",)),
    ],
)  # fmt: skip
def test_what_it_cannot_say(whole: Filter) -> None:
    assert Rsql().narrow(whole, frozenset()) == ((), Exactness.NONE, ())


def test_the_filter_of_a_client_is_the_only_one() -> None:
    assert Rsql().narrow(term("owner", Operator.EQ, "a"), frozenset(("filter",))).exactness is Exactness.NONE
