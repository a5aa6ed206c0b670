"""What all dialects share: names, numbers, and parameters that stand beside those of a client."""

from __future__ import annotations

import pytest

from sidecar.gate.values import Type
from sidecar.plans.dialect import (
    MAX_PARAMETERS,
    Narrowing,
    RenderedParameters,
    asked_names,
    in_columns,
    in_one_parameter,
    in_parameters,
    is_asked,
    joined,
    number_text,
    scalar_text,
)
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
)

A, B = RowField(("a",)), RowField(("b",))
EQ_A, EQ_B = Term(A, Operator.EQ, ("x",)), Term(B, Operator.EQ, ("y",))


def write(term: Term) -> RenderedParameters | None:
    values = tuple((term.field.path[0], scalar_text(value)) for value in term.values)
    return (
        RenderedParameters(values, term.relation is not Operator.CONTAINS) if term.relation is not Operator.LT else None
    )


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
    assert joined(RowField(("a", "b2")), "__") == "a__b2"
    assert joined(RowField(("_a",)), ".") is None
    assert joined(RowField(("a&b",)), ".") is None


def test_each_part_is_a_parameter() -> None:
    assert narrowed(All((EQ_A, EQ_B))) == ((("a", "x"), ("b", "y")), Exactness.EXACT, ())
    assert narrowed(Any((EQ_A, Term(A, Operator.IN, ("y", True))))).parameters == (
        ("a", "x"),
        ("a", "y"),
        ("a", "true"),
    )
    assert narrowed(EVERYTHING) == ((), Exactness.EXACT, ())


@pytest.mark.parametrize(
    "part",
    [
        Any((EQ_A, EQ_B)), Any((EQ_A, All((EQ_A, EQ_B)))), Term(B, Operator.LT, (1.0,)), Unsayable(), EQ_A,
        Term(B, Operator.EQ, ("x" * MAX_PARAMETERS,)),
    ],
)  # fmt: skip
def test_what_is_no_parameter_of_its_own_is_left_out(part: Filter) -> None:
    assert narrowed(All((EQ_A, part))) == ((("a", "x"),), Exactness.WEAKENED, ())
    if part != EQ_A:
        assert narrowed(part) == ((), Exactness.NONE, ())


def test_a_name_of_the_client_is_left_to_the_client() -> None:
    assert narrowed(All((EQ_A, EQ_B)), b"page=2&a=z") == ((("b", "y"),), Exactness.WEAKENED, ())


def test_a_term_with_more_rows_is_told() -> None:
    assert narrowed(Term(A, Operator.CONTAINS, ("x",))).exactness is Exactness.WEAKENED


def bounded(relation: Operator, *values: float | str, kind: Type | None = None) -> RenderedTerm | None:
    return in_columns(Term(RowField(("a",), kind, required=True), relation, values))


def test_numbers_are_as_near_as_a_database_may_round_them() -> None:
    said = bounded(Operator.EQ, 16777217.0)
    assert said is not None
    match said.filter:
        case All((Term(_, Operator.GE, (float(low),)), Term(_, Operator.LE, (float(high),)))):
            # the float of 32 bits that is shown as 16777217 is another number
            assert low < 16777216.0 < 16777218.0 < high
        case _:
            pytest.fail("no bounds")
    whole = RowField(("a",), Type.INT, required=True)
    assert bounded(Operator.LT, 5.0, kind=Type.INT) == RenderedTerm(Term(whole, Operator.LT, (5.0,)))
    assert bounded(Operator.LT, 5.5, kind=Type.INT) == RenderedTerm(Term(whole, Operator.LE, (5.0,)))
    assert bounded(Operator.GT, 5.5, kind=Type.INT) == RenderedTerm(Term(whole, Operator.GE, (6.0,)))
    number = RowField(("a",), required=True)
    assert bounded(Operator.GE, 5.0) == RenderedTerm(Term(number, Operator.GE, (4.0,)), exact=False)
    assert bounded(Operator.NE, 5.0) is None
    assert bounded(Operator.NE, 5.0, kind=Type.INT) is not None
    assert bounded(Operator.IN, 1.0, "a") is None


def test_texts_and_truth_values_are_exact_where_they_are_declared() -> None:
    for value, kind in (("a", Type.STRING), (True, Type.BOOL)):
        declared, other = bounded(Operator.EQ, value, kind=kind), bounded(Operator.EQ, value)
        assert declared is not None
        assert declared.exact
        assert other is not None
        assert not other.exact
    assert bounded(Operator.NE, "a", kind=Type.STRING) is None
    assert bounded(Operator.NE, True, kind=Type.BOOL) is not None
    assert bounded(Operator.HAS, "a") is None
    assert in_columns(Term(RowField(("id",), identifies=True), Operator.EQ, ("a",))) is None


def test_one_parameter_is_whole_or_not_there() -> None:
    def said(whole: Filter, asked: frozenset[str] = frozenset()) -> Narrowing:
        return in_one_parameter(whole, asked, "f", RenderedTerm, lambda each: "x" * 5000 if each == EQ_B else "x")

    assert said(EQ_A) == ((("f", "x"),), Exactness.EXACT, ())
    assert said(EQ_A, frozenset(("f",))) == ((), Exactness.NONE, ())
    assert said(EQ_B) == ((), Exactness.NONE, ())
    assert said(EVERYTHING) == ((), Exactness.EXACT, ())
