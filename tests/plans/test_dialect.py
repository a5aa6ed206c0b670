"""What all dialects share: names, numbers, and parameters that stand beside those of a client."""

from __future__ import annotations

import pytest

from sidecar.gate.values import Type
from sidecar.plans.dialect import (
    MAX_PARAMETERS,
    Narrowing,
    Written,
    asked_names,
    in_parameters,
    is_asked,
    joined,
    near,
    number_text,
    scalar_text,
)
from sidecar.plans.filter import EVERYTHING, All, Any, Exactness, Field, Filter, Relation, Said, Term, Unsayable

A, B = Field(("a",)), Field(("b",))
EQ_A, EQ_B = Term(A, Relation.EQ, ("x",)), Term(B, Relation.EQ, ("y",))


def write(term: Term) -> Written | None:
    values = tuple((term.field.path[0], scalar_text(value)) for value in term.values)
    return Written(values, term.relation is not Relation.CONTAINS) if term.relation is not Relation.LT else None


def narrowed(whole: Filter, query: bytes = b"") -> Narrowing:
    asked = asked_names(query)
    assert asked is not None
    return in_parameters(whole, asked, write)


@pytest.mark.parametrize(
    ("query", "name", "is_it"),
    [
        (b"owner=a", "owner", True), (b"OWNER=a", "owner", True), (b"owner[]=a", "owner", True), (b"own%65r", "owner", True),
        (b"a.b=1", "a_b", True), (b"x=1&&y=2", "owner", False), (b"", "owner", False), (b"owner_ne=a", "owner", False),
    ],
)  # fmt: skip
def test_a_name_that_a_client_may_have_asked_for(query: bytes, name: str, is_it: bool) -> None:
    asked = asked_names(query)
    assert asked is not None
    assert is_asked(name, asked) is is_it


@pytest.mark.parametrize("query", [b"a=1;owner=2", b"%zz=1", b"%ff=1"])
def test_a_query_that_is_not_read_in_one_way(query: bytes) -> None:
    assert asked_names(query) is None


@pytest.mark.parametrize(
    ("number", "text"),
    [(5.0, "5"), (-0.0, "0"), (0.5, "0.5"), (1e-7, "0.0000001"), (1e15, "1000000000000000"), (-2.5, "-2.5"), (3, "3")],
)
def test_numbers_have_no_exponent(number: float, text: str) -> None:
    assert number_text(number) == scalar_text(number) == text


def test_truth_is_no_number() -> None:
    assert (scalar_text(True), scalar_text(False), scalar_text("x")) == ("true", "false", "x")


def test_names_of_fields() -> None:
    assert joined(Field(("a", "b2")), "__") == "a__b2"
    assert joined(Field(("_a",)), ".") is None
    assert joined(Field(("a&b",)), ".") is None


def test_each_part_is_a_parameter() -> None:
    assert narrowed(All((EQ_A, EQ_B))) == ((("a", "x"), ("b", "y")), Exactness.EXACT, ())
    assert narrowed(Any((EQ_A, Term(A, Relation.IN, ("y", True))))).parameters == (
        ("a", "x"),
        ("a", "y"),
        ("a", "true"),
    )
    assert narrowed(EVERYTHING) == ((), Exactness.EXACT, ())


@pytest.mark.parametrize(
    "part",
    [
        Any((EQ_A, EQ_B)), Any((EQ_A, All((EQ_A, EQ_B)))), Term(B, Relation.LT, (1.0,)), Unsayable(), EQ_A,
        Term(B, Relation.EQ, ("x" * MAX_PARAMETERS,)),
    ],
)  # fmt: skip
def test_what_is_no_parameter_of_its_own_is_left_out(part: Filter) -> None:
    assert narrowed(All((EQ_A, part))) == ((("a", "x"),), Exactness.WEAKENED, ())
    if part != EQ_A:
        assert narrowed(part) == ((), Exactness.NONE, ())


def test_a_name_of_the_client_is_left_to_the_client() -> None:
    assert narrowed(All((EQ_A, EQ_B)), b"page=2&a=z") == ((("b", "y"),), Exactness.WEAKENED, ())


def test_a_term_with_more_rows_is_told() -> None:
    assert narrowed(Term(A, Relation.CONTAINS, ("x",))).exactness is Exactness.WEAKENED


def bounds(relation: Relation, *values: float | str, kind: Type | None = None) -> Said:
    return near(Term(Field(("a",), kind), relation, values))


def test_numbers_are_as_near_as_a_database_may_round_them() -> None:
    said = bounds(Relation.EQ, 0.1)
    assert not said.exact
    match said.filter:
        case All((Term(_, Relation.GE, (float(low),)), Term(_, Relation.LE, (float(high),)))):
            # the float of 32 bits that JSON shows as 0.1
            assert low < 0.1 < 0.10000000149011612 < high
        case _:
            pytest.fail("no bounds")
    assert bounds(Relation.IN, 1.0, 5.0).filter != EVERYTHING
    assert bounds(Relation.LT, 5.0).filter == Term(A, Relation.LE, (5.000006,))
    assert bounds(Relation.GE, 5.0).filter == Term(A, Relation.GE, (4.999994,))
    assert bounds(Relation.NE, 5.0).filter == EVERYTHING
    assert bounds(Relation.IN, 1.0, "a").filter == EVERYTHING


def test_whole_numbers_and_texts_are_exact() -> None:
    assert bounds(Relation.EQ, 5.0, kind=Type.INT).exact
    assert bounds(Relation.EQ, "a").exact
