"""Dialect `header`: everything, as JSON in ASCII."""

from __future__ import annotations

from typing import Any as Anything

from hypothesis import given, settings

from sidecar.plans.filter import EVERYTHING, All, Any, Exactness, Field, Filter, Relation, Term, Unsayable
from sidecar.plans.header import Header
from sidecar.plans.plan import Conditional, Node
from sidecar.plans.translate import filter_of
from tests.plans.grammars import bare, header
from tests.plans.oracle import has
from tests.plans.trees import NAMES, rows, trees

OWNER = Term(Field(("account", "owner")), Relation.EQ, ("\u00e9\U0001f680\x7f",))


@given(trees, rows)
@settings(max_examples=150)
def test_no_row_is_lost(tree: Node, row: dict[str, Anything]) -> None:
    whole = filter_of(Conditional(tree), NAMES)
    said = Header().narrow(whole, frozenset())
    if not said.headers:
        assert whole == EVERYTHING or said.exactness is Exactness.NONE
        return
    ((name, text),) = said.headers
    assert name == b"x-auth-filter"
    read = header(text)
    assert has(read, row) or not has(whole, row)
    if said.exactness is Exactness.EXACT:
        assert bare(read) == bare(whole)


def test_it_is_ascii() -> None:
    said = Header().narrow(All((OWNER, Unsayable())), frozenset(("owner",)))
    assert said == (
        (), Exactness.WEAKENED,
        ((b"x-auth-filter", b'{"field":"account.owner","is":"eq","value":"\\u00e9\\ud83d\\ude80\\u007f"}'),),
    )  # fmt: skip


def test_what_is_too_long_or_too_deep_is_not_said() -> None:
    assert Header().narrow(Term(Field(("a",)), Relation.IN, ("x" * 500,) * 10), frozenset()).exactness is Exactness.NONE
    deep: Filter = OWNER
    for number in range(30):
        deep = All((OWNER, deep)) if number % 2 else Any((OWNER, deep))
    assert Header().narrow(deep, frozenset()) == ((), Exactness.NONE, ())
