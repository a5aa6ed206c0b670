"""`gate/expressions.py`: what a JMESPath expression can never find is a fault when it is read."""

from __future__ import annotations

import jmespath
import pytest
from jmespath.functions import Functions

from sidecar.gate.expressions import compile_expression


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
