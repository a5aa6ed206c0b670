"""`study/reads.py`: what conditions read, held against what Cerbos does where an attribute is absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.config.yaml_nodes import Place, Scalar
from sidecar.study.policies import Condition, Match, PolicyNames
from sidecar.study.reads import UnreadExpression, Use, uses
from tests.stack import binary
from tests.study.compiled import denied


def scalar(text: str, plain: bool = True) -> Scalar:
    return Scalar(Place("p.yaml", 1, 1), text, text, plain)


def match_of(said: Any) -> Match:
    if isinstance(said, str):
        return Match("expr", scalar(said))
    ((kind, body),) = said.items()
    return Match(kind, None, tuple(match_of(term) for term in body["of"]))


def read(said: Any, variables: dict[str, str] | None = None, constants: dict[str, Scalar] | None = None) -> list[Any]:
    names = PolicyNames({name: scalar(text) for name, text in (variables or {}).items()}, constants or {})
    return uses(Condition(match_of(said), names))


def names(said: Any, **more: Any) -> list[tuple[str, str]]:
    return [(str(use.attribute), use.with_) for use in read(said, **more)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("R.attr.a == 5", [("request.resource.attr.a", "number")]),
        ("-5 <= request.resource.attr.a", [("request.resource.attr.a", "number")]),
        ("request.principal.attr['a b'] != true", [('request.principal.attr["a b"]', "bool")]),
        ('P.attr["a"] == "x"', [("request.principal.attr.a", "string")]),
        ("R.attr.a in [1, 2]", [("request.resource.attr.a", "number")]),
        ("'x' in R.attr.a", [("request.resource.attr.a", "")]),
        ("R.attr.a == P.attr.b", [("request.resource.attr.a", ""), ("request.principal.attr.b", "")]),
        ("int(R.attr.a) > 5", [("request.resource.attr.a", "")]),
        ("R.attr.a.b == 5", [("request.resource.attr.a", "")]),
        ("R.attr.a", [("request.resource.attr.a", "bool")]),
        ("!R.attr.a || P.attr.b", [("request.resource.attr.a", "bool"), ("request.principal.attr.b", "bool")]),
        ("R.attr.a ? 1 > 2 : false", [("request.resource.attr.a", "bool")]),
        ("has(R.attr.a)", [("request.resource.attr.a", "")]),
        ("'a' in R.attr", [("request.resource.attr.a", "")]),
        ("has(R.attr.a.b)", [("request.resource.attr.a", "")]),
        ("R.attr.?a.orValue(0) > 5", [("request.resource.attr.a", "number")]),
        ("R.attr.?a.orValue(false)", [("request.resource.attr.a", "bool")]),
        ("R.attr.?a.orValue(0) > R.attr.b", [("request.resource.attr.a", "number"), ("request.resource.attr.b", "number")]),
        ("R.attr[?'a'].value() && dyn(R.attr.b)", [("request.resource.attr.a", "bool"), ("request.resource.attr.b", "bool")]),
        ("R.attr.a * 2 > 3", [("request.resource.attr.a", "number")]),
        ("-R.attr.a < R.attr.b - 1", [("request.resource.attr.a", "number"), ("request.resource.attr.b", "number")]),
        ("R.attr.a + 1 == P.attr.b", [("request.resource.attr.a", "number"), ("request.principal.attr.b", "number")]),
        ("R.attr.a + 'x' == P.attr.b", [("request.resource.attr.a", ""), ("request.principal.attr.b", "string")]),
        ("R.attr.a > 60 * 60", [("request.resource.attr.a", "number")]),
        ("R.attr.a == (1 > 2)", [("request.resource.attr.a", "bool")]),
        ("R.attr.a >= size(R.attr.b)", [("request.resource.attr.a", "number"), ("request.resource.attr.b", "")]),
        ("(1 > 2 ? R.attr.a : R.attr.b) == 5", [("request.resource.attr.a", "number"), ("request.resource.attr.b", "number")]),
        ("1 > 2 ? R.attr.a : !R.attr.b", [("request.resource.attr.a", "bool"), ("request.resource.attr.b", "bool")]),
        ("[1].exists(i, R.attr.a)", [("request.resource.attr.a", "bool")]),
        ("timestamp(R.attr.a) < now() - duration('1h')", [("request.resource.attr.a", "")]),
        ("request.aux_data.jwt.a == 'x' || request.auxData.jwt['b'] == 1", [("request.auxData.jwt.a", "string"), ("request.auxData.jwt.b", "number")]),
        ("R.id == P.id && 'x' in P.roles && R.kind == '' && request.principal.scope == ''", []),
        ("R.attr.l.exists(R, R.attr.x == P.attr.a)", [("request.resource.attr.l", ""), ("request.principal.attr.a", "")]),
        ("cel.bind(V, P.attr.a, V.x == 1)", [("request.principal.attr.a", "")]),
        ("{'a': P.attr.a}.a == [R.attr.b][0]", [("request.principal.attr.a", ""), ("request.resource.attr.b", "")]),
        # which attributes these read cannot be told
        ("R.attr[P.attr.name] == 1", [('request.resource.attr["*"]', "number"), ("request.principal.attr.name", "")]),
        ("size(R.attr) > 1", [('request.resource.attr["*"]', "")]),
        ("R.attr.all(name, name != 'a')", [('request.resource.attr["*"]', "")]),
        ("cel.bind(x, R, x.attr.a == 1)", [('request.resource.attr["*"]', "")]),
        ("P.attr.name in R.attr", [("request.principal.attr.name", ""), ('request.resource.attr["*"]', "")]),
        ("[request] == [request]", [('request.principal.attr["*"]', ""), ('request.resource.attr["*"]', "")] * 2),
    ],
)  # fmt: skip
def test_every_attribute_and_what_it_is_compared_with(text: str, expected: list[tuple[str, str]]) -> None:
    assert names(text) == expected


def test_a_variable_is_what_it_stands_for() -> None:
    variables = {"level": "R.attr.level", "high": "V.level > 3", "team": "P.attr.team == C.team", "open": "R.attr.open"}
    assert names("V.high", variables=variables) == [("request.resource.attr.level", "number")]
    assert names("variables.level == 4", variables=variables) == [("request.resource.attr.level", "number")]
    assert names("V.open || V.unknown", variables=variables) == [("request.resource.attr.open", "bool")]
    team = {"team": scalar("4", plain=False)}
    assert names("V.team", variables=variables, constants=team) == [("request.principal.attr.team", "string")]


@pytest.mark.parametrize(
    ("constant", "type_"),
    [("4", "number"), ("-1.5e3", "number"), ("true", "bool"), ("red", "string"), ("null", ""), ("~", "")],
)
def test_a_constant_has_the_type_that_yaml_gives_it(constant: str, type_: str) -> None:
    assert names("R.attr.a == C.c", constants={"c": scalar(constant)}) == [("request.resource.attr.a", type_)]
    quoted = {"c": scalar(constant, plain=False)}
    assert names("R.attr.a == constants.c", constants=quoted) == [("request.resource.attr.a", "string")]


def test_variables_in_a_circle_end() -> None:
    (found,) = read("V.a", variables={"a": "V.b && true", "b": "V.a || true"})
    assert isinstance(found, UnreadExpression)


def test_what_cannot_be_read_is_told() -> None:
    (found,) = read("R.attr.a ==")
    assert found == UnreadExpression(Place("p.yaml", 1, 1), "column 12: found 'the end', expected a name")


def test_the_place_is_that_of_the_attribute() -> None:
    written = "|\n    has(R.attr.a) &&\n      R.attr.b == R.attr.a\n"
    text = Scalar(Place("p.yaml", 3, 9), "has(R.attr.a) &&\n  R.attr.b == R.attr.a\n", written)
    found = uses(Condition(Match("expr", text), PolicyNames({}, {})))
    places = [(str(use.attribute), use.place.line, use.place.column) for use in found if isinstance(use, Use)]
    assert places == [
        ("request.resource.attr.a", 4, 5),
        ("request.resource.attr.b", 5, 7),
        ("request.resource.attr.a", 5, 19),
    ]


X, H = "R.attr.x > 3", "has(R.attr.x)"
CONDITIONS: list[Any] = [
    X, f"{H} && {X}", f"{X} && {H}", f"!{H} || {X}", f"{X} || !{H}", f"{H} || {X}", f"!({H} && {X})", f"!(!{H} || {X})",
    f"'x' in R.attr && {X}", f"{H} ? {X} : false", f"!{H} ? false : {X}", f"{H} ? false : {X}", f"true ? {X} : {H}",
    f"({H} && P.id == 'alice') && ({X} || false)", f"({H} || {H}) && {X}", f"(P.id == 'alice' || {H}) && {X}",
    "R.attr['x'] == 1", "!R.attr.x", "R.attr.x != 1", "R.attr.?x.orValue(0) > 3", "R.attr[?'x'].hasValue()",
    "has(R.attr.x.y)", f"{H} && has(R.attr.x.y)", "size(R.attr.x) > 1", "cel.bind(y, R.attr.x, y == 1)", f"[1].exists(i, {X})",
    f"{H} && [1].exists(i, {X})", "'a' in R.attr.x", f"!({H}) || !(R.attr.x == 1)",
    {"all": {"of": [H, X]}}, {"all": {"of": [X, H]}}, {"any": {"of": ["!" + H, X]}}, {"none": {"of": ["!" + H, X]}},
    {"none": {"of": [X, "!" + H]}}, {"all": {"of": [{"any": {"of": [H, f"{H} && {X}"]}}, X]}},
    {"all": {"of": [{"none": {"of": ["!" + H]}}, X]}}, {"any": {"of": [{"none": {"of": [H]}}, {"all": {"of": [X]}}]}},
    {"all": {"of": ["P.id == 'alice'", {"all": {"of": [H, X]}}]}},
]  # fmt: skip


def test_an_attribute_is_unguarded_where_cerbos_finds_an_error(tmp_path: Path) -> None:
    """With the attribute absent: under strict evaluation an ALLOW denies by an error, and by nothing else."""
    errors = denied(binary(), tmp_path, CONDITIONS, {}, "--strict-evaluation", effect="ALLOW")
    assert sum(errors) >= 10
    assert sum(errors) <= len(errors) - 10
    unguarded = [any(not use.guarded for use in read(said)) for said in CONDITIONS]
    assert [said for said, found, error in zip(CONDITIONS, unguarded, errors, strict=True) if found != error] == []


def test_without_strict_evaluation_an_error_is_not_met(tmp_path: Path) -> None:
    assert not any(denied(binary(), tmp_path / "allow", CONDITIONS, {}, effect="ALLOW"))
    assert denied(binary(), tmp_path / "deny", [X, "R.attr.x != 1", "!R.attr.x"], {}) == [False, False, False]
