"""`gate/expressions.py`: what a JMESPath expression can never find is a fault when it is read."""

from __future__ import annotations

import jmespath
import pytest
from jmespath.functions import Functions

from sidecar.gate.expressions import compile_expression, value_expression


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a[", "expected a JMESPath expression"),
        ("lenght(a)", "found lenght() in 'lenght(a)', expected a function of JMESPath: did you mean length()?"),
        ("zzz(a)", "expected a function of JMESPath, one of abs, avg"),
        ("a.b[?starts_wiht(c, 'x')].d", "did you mean starts_with()?"),
        ("{x: max(nope(@))}", "found nope()"),
        ("a || [upper(b)]", "found upper()"),
        ("abs(a, b)", "found abs() with 2 in 'abs(a, b)', expected 1 argument"),
        ("join(a)", "found join() with 1 in 'join(a)', expected 2 arguments"),
        ("not_null()", "expected 1 or more arguments"),
        ("sort_by(a, b)", "expected an expression with '&'"),
        ("length(&a)", "expected no '&'"),
        ("map(&abs(@, a), b)", "found abs() with 2"),
        ("&a", "found '&' in '&a', expected it before an argument of a function alone"),
        ("a | &b", "found '&'"),
        ("{x: [&b]}", "found '&'"),
    ],
)
def test_an_expression_that_can_find_nothing_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="found") as caught:
        compile_expression(text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a.b", "a[0]", "a[::2]", "@", "`1`", "a || b && !c", "{x: a, y: [b, c]}", "sort_by(a, &b)[0].c", "map(&abs(a), b)",
        "not_null(a, b, c)", "merge(a, b)", "a[?contains(b, 'x')] | [0]", "max_by(a, &to_number(b))", "a.*.b", "a[].b",
    ],
)  # fmt: skip
def test_every_other_is_compiled_as_the_library_does(text: str) -> None:
    assert compile_expression(text).parsed == jmespath.compile(text).parsed


def test_every_function_of_the_library_is_known() -> None:
    for name, entry in Functions.FUNCTION_TABLE.items():
        arguments = ["&a" if "expref" in wants["types"] else "a" for wants in entry["signature"]]
        assert compile_expression(f"{name}({', '.join(arguments)})")


DOCUMENT = {
    "members": [{"id": "alice", "role": "owner"}, {"id": "bob", "role": "guest"}],
    "by_name": {"alice": "owner", "role": "none"}, "none": "x",
}  # fmt: skip
IDS = [
    "alice", "bob", "nobody", "", "'", "\\", "' || 'x", "alice' || role=='owner", "x'].role | [0] || `\"owner\"` || [?id=='",
    "`1`", "@", "*", "{id}", '"', '"].role', "role", "\x00", "\u2028", "'alice'",
]  # fmt: skip


@pytest.mark.parametrize("value", IDS)
def test_a_value_in_an_expression_is_only_ever_a_value(value: str) -> None:
    compared, places = value_expression("members[?id=='{id}'].role | [0]")
    assert compared is not None
    assert places == {"id": False}
    wanted = {member["id"]: member["role"] for member in DOCUMENT["members"]}.get(value)  # type: ignore[index]
    assert compared.bind({"id": value})(DOCUMENT) == wanted
    named, places = value_expression('by_name."{id}" || none')
    assert named is not None
    assert places == {"id": True}
    assert named.bind({"id": value})(DOCUMENT) == (DOCUMENT["by_name"].get(value) or "x")  # type: ignore[attr-defined]
    # what was parsed is as it was
    assert compared.bind({"id": "bob"})(DOCUMENT) == "guest"


def test_values_stand_wherever_a_literal_may() -> None:
    found, places = value_expression(
        "{a: '{id}', b: join('-', ['user', '{kind}']), c: [?n==`\"{claims.n:int}\"`] | [0].n}"
    )
    assert found is not None
    assert set(places) == {"id", "kind", "claims.n:int"}
    values = {"id": "7", "kind": "doc", "claims.n:int": 5}
    assert found.bind(values)([{"n": 5}]) == {"a": "7", "b": "user-doc", "c": 5}
    assert value_expression("a.b[?c=='x']") == (None, {})


@pytest.mark.parametrize("text", ["a[?b=='user-{id}']", 'a."x{id}"', "a[?b=='{id}{kind}']"])
def test_a_value_is_never_a_part_of_a_text(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected {…} alone between its quotes"):
        value_expression(text)


@pytest.mark.parametrize("text", ["a[?b=='{id}']", 'a."{principal.id}"', "a[?b=='{lookup.c.d}']"])
def test_elsewhere_a_place_for_a_value_is_refused_and_no_text(text: str) -> None:
    with pytest.raises(ValueError, match="expected it in `attributes` of `lookups` alone"):
        compile_expression(text)
    assert compile_expression("a[?b=='{other}']").search({"a": [{"b": "{other}"}]}) == [{"b": "{other}"}]
