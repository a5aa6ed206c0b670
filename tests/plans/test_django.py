"""Dialect `django`: field lookups as parameters."""

from __future__ import annotations

from typing import Any as Anything

import pytest

from sidecar.gate.values import Type
from sidecar.plans.django import Django
from sidecar.plans.filter import All, Any, Exactness, Filter, Operator, RowField, Term
from tests.plans.trees import NAMES


def term(name: str, relation: Operator, *values: Anything) -> Term:
    return Term(NAMES.attributes[name], relation, values)


@pytest.mark.parametrize(
    ("whole", "said"),
    [
        (term("owner", Operator.EQ, "a&b"), (("owner", "a&b"),)),
        (term("owner", Operator.IN, "a", "b"), (("owner__in", "a,b"),)),
        (Any((term("owner", Operator.EQ, "a"), term("owner", Operator.EQ, "b"))), (("owner__in", "a,b"),)),
        (term("ok", Operator.EQ, True), (("ok", "True"),)),
        (term("tenant", Operator.STARTS_WITH, "a"), (("account__tenant__startswith", "a"),)),
        (term("n", Operator.LT, 5.0), (("n__lt", "5"),)),
        (term("x", Operator.EQ, 5.0), (("x__gte", "4"), ("x__lte", "6"))),
        (All((term("n", Operator.GE, 1.0), term("n", Operator.LE, 3.0))), (("n__gte", "1"), ("n__lte", "3"))),
    ],
)  # fmt: skip
def test_words(whole: Filter, said: tuple[tuple[str, str], ...]) -> None:
    assert Django().narrow(whole, frozenset()).parameters == said


@pytest.mark.parametrize(
    "whole",
    [
        term("owner", Operator.IN, "a,b", "c"), term("owner", Operator.IN, "a", ""), term("n", Operator.NE, 5.0),
        term("tags", Operator.HAS, "a"), Term(RowField(("a__in",)), Operator.EQ, ("a",)),
        Term(RowField(("id",), Type.STRING, identifies=True), Operator.EQ, ("a",)),
        Any((term("owner", Operator.EQ, "a"), term("note", Operator.EQ, "b"))),
    ],
)  # fmt: skip
def test_what_it_cannot_say(whole: Filter) -> None:
    assert Django().narrow(whole, frozenset()) == ((), Exactness.NONE, ())


def test_a_lookup_of_the_client_is_the_clients() -> None:
    both = All((term("n", Operator.GE, 1.0), term("n", Operator.LE, 3.0)))
    assert Django().narrow(both, frozenset(("n_gte", "n__gte"))).parameters == (("n__lte", "3"),)
