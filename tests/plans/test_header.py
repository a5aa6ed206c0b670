"""Dialect `header`: everything, as JSON in ASCII."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from collections.abc import Callable
from typing import Any as Anything

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.values import Type
from sidecar.plans.filter import (
    EVERYTHING,
    All,
    Any,
    Exactness,
    Filter,
    Operator,
    RenderedTerm,
    RowField,
    Term,
    Unsayable,
    weakened,
)
from sidecar.plans.header import Header
from sidecar.plans.plan import Conditional, Node
from sidecar.plans.translate import FieldNames, filter_of
from tests.plans.grammars import bare, header
from tests.plans.oracle import has
from tests.plans.trees import NAMES, rows, trees
from tests.stack import ROOT
from tests.tries import tries

OWNER = Term(RowField(("account", "owner")), Operator.EQ, ("\u00e9\U0001f680\x7f",))


@given(trees, rows)
@tries(150)
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


COLUMNS = FieldNames(
    {
        "owner": RowField(("owner_id",), Type.STRING, required=True),
        "note": RowField(("note",)),
        "n": RowField(("amount",), Type.INT, required=True),
        "ok": RowField(("deleted",), Type.BOOL, required=True),
    }
)


@pytest.fixture(scope="module")
def condition() -> Callable[[dict[str, Anything]], tuple[str, list[Anything]]]:
    """The function of docs/reference/push.md."""
    (code,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/reference/push.md").read_text(encoding="utf-8"), re.DOTALL
    )
    names: dict[str, Anything] = {}
    exec(code, names)
    found: Callable[[dict[str, Anything]], tuple[str, list[Anything]]] = names["condition"]
    return found


@given(tree=trees, rows=st.lists(rows, min_size=5, max_size=8))
@tries(60)
def test_an_app_that_reads_it_as_the_page_says_loses_no_row(
    condition: Callable[[dict[str, Anything]], tuple[str, list[Anything]]], tree: Node, rows: list[dict[str, Anything]]
) -> None:
    whole = filter_of(Conditional(tree), COLUMNS)
    said = Header().narrow(whole, frozenset())
    text, values = condition(json.loads(said.headers[0][1])) if said.headers else ("1 = 1", [])
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute("create table r (number, owner_id text, amount integer, deleted boolean)")
        shown = []
        for number, row in enumerate(rows):
            database.execute("insert into r values (?, ?, ?, ?)", (number, row["owner"], row["n"], row["ok"]))
            shown.append({"id": number, "owner_id": row["owner"], "amount": row["n"], "deleted": row["ok"]})
        found = {number for (number,) in database.execute(f"select number from r where {text}", values)}
    # of a note the app has no column
    known, _ = weakened(whole, lambda term: RenderedTerm(term) if term.field.path != ("note",) else None)
    assert {row["id"] for row in shown if has(known, row)} <= found


def test_it_is_ascii() -> None:
    said = Header().narrow(All((OWNER, Unsayable())), frozenset(("owner",)))
    assert said == (
        (), Exactness.WEAKENED,
        ((b"x-auth-filter", b'{"field":"account.owner","is":"eq","value":"\\u00e9\\ud83d\\ude80\\u007f"}'),),
    )  # fmt: skip


def test_what_is_too_long_or_too_deep_is_not_said() -> None:
    assert (
        Header().narrow(Term(RowField(("a",)), Operator.IN, ("x" * 500,) * 10), frozenset()).exactness is Exactness.NONE
    )
    deep: Filter = OWNER
    for number in range(30):
        deep = All((OWNER, deep)) if number % 2 else Any((OWNER, deep))
    assert Header().narrow(deep, frozenset()) == ((), Exactness.NONE, ())
