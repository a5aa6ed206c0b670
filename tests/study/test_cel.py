"""`study/cel.py`: trees with places, and the same language as Cerbos'."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.pdp.compiling import compile_policies
from sidecar.study.cel import CelError, Node, parse
from tests.stack import binary
from tests.study.compiled import policy, rule


def shown(node: Node) -> str:
    """A tree as an expression with every parenthesis written out."""
    inner = [shown(child) for child in node.children]
    match node.kind:
        case "literal":
            return node.value if node.text == "string" else node.text
        case "name":
            return node.text
        case "select":
            return f"{inner[0]}.{node.text}"
        case "op":
            return f"({node.text} {' '.join(inner)})"
    return f"{node.kind}:{node.text}[{', '.join(inner)}]"


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a.b.c", "a.b.c"),
        (".a.b", "a.b"),
        ("a || b && c == d", "(|| a (&& b (== c d)))"),
        ("a && b || c && d", "(|| (&& a b) (&& c d))"),
        ("a ? b : c ? d : e", "(?: a b (?: c d e))"),
        ("(a || b) && !c", "(&& (|| a b) (! c))"),
        ("a < b == c", "(== (< a b) c)"),
        ("a in [b, 1,]", "(in a list:[b, number])"),
        ("a - b - -c * 2 % 3", "(- (- a b) (% (* (- c) number) number))"),
        ("!!a", "(! (! a))"),
        ("-1", "(- number)"),
        ("a[0].b['c']", "index:[index:[a, number].b, c]"),
        ("a.?b[?c]", "optional_index:[optional:b[a], c]"),
        ("a.`b-c/d`", "a.b-c/d"),
        ("has(a.b)", "call:has[a.b]"),
        ("a.exists(x, x == 'y')", "method:exists[a, x, (== x y)]"),
        ("f()", "call:f[]"),
        ("{'a': 1, b: c}", "map:[a, number, b, c]"),
        ("a.B{c: d}", "struct:[d]"),
        ("true != null // yes", "(!= bool null)"),
        ("a ==\n\t1.5e-3", "(== a number)"),
        ("[0x1F, 1u, 0xaU, .5, 2e3]", "list:[number, number, number, number, number]"),
        (r"""'a\n\u00e4\x41\101\'"' + r"\n" + '''b'c''' """, "(+ (+ a\nä" + "AA'\" \\n) b'c)"),
        ("b'x' == rb\"\\\"", "(== bytes bytes)"),
    ],
)
def test_an_expression_becomes_a_tree(text: str, tree: str) -> None:
    assert shown(parse(text)) == tree


def test_each_node_has_its_place() -> None:
    text = "x && (R.attr.a[0] == 'y')"
    root = parse(text)
    assert text[root.children[1].at : root.children[1].end] == "R.attr.a[0] == 'y'"
    assert text[root.children[1].children[0].at : root.children[1].children[0].end] == "R.attr.a[0]"
    assert text[root.children[1].children[1].at : root.children[1].children[1].end] == "'y'"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "column 1: found 'the end', expected a name"),
        ("a b", "column 3: found 'b', expected the end"),
        ("a ==", "column 5: found 'the end', expected a name"),
        ("(a", "column 3: found 'the end', expected ')'"),
        ("[a", "column 3: found 'the end', expected ']'"),
        ("{a: b", "column 6: found 'the end', expected '}'"),
        ("a ? b", "column 6: found 'the end', expected ':'"),
        ("a.1", "column 2: found '.1', expected the end"),
        ("'a", 'column 1: found "\'"'),
        ("a @ b", "column 3: found '@'"),
        ("(" * 5000 + "a" + ")" * 5000, "too deep"),
    ],
)
def test_what_is_none_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(CelError) as caught:
        parse(text)
    assert str(caught.value) == said


@given(st.text(alphabet="aR.?[](){}'\"\\`,:&|!=<>+-*/%0x1eu \n") | st.text())
def test_any_text_is_a_tree_or_an_error(text: str) -> None:
    try:
        node = parse(text)
    except CelError:
        return
    assert 0 <= node.at <= node.end <= len(text)


TAKEN = [
    "R.attr.a == 1 || !(P.attr.b in [1, 2, 3]) && has(R.attr.c)",
    "request.resource.attr.a[\"b\"].exists(x, x.y == 'z') ? true : size(P.roles) > 1",
    "R.attr.list.map(x, x > 1, x * 2).exists_one(y, y == 4)",
    'timestamp(R.attr.at) < now() - duration("24h") // since',
    "cel.bind(x, R.attr.n, x + 1 > 2)",
    "[1, 2].transformList(i, v, i + v) == [1, 3]",
    "P.attr.?team.orValue('none') == R.attr[?'team'].orValue(\"none\")",
    "{'a': 1}.a == 1 && {\"b\": [R.id]}['b'][0] == P.id",
    "R.attr.ip.inIPAddrRange('10.0.0.0/8') && R.attr.t.matches(r'^\\d+$')",
    "hierarchy('a.b').ancestorOf(hierarchy(R.attr.h, ':')) == false",
    "int(R.attr.n) * -2 % 3 >= 5 && R.attr.m > -2.5e-1 + .5 || R.attr.n != 0x1F",
    "google.protobuf.Timestamp{seconds: 1} < now()",
    "R.attr.s == '''a'b\n''' + \"\\u00e4\\n\\x41\" && b'x' == b\"\\170\"",
    'runtime.effectiveDerivedRoles.size() == 0 && R.scope == ""',
]
REFUSED = [
    "R.attr.a ==",
    "R.attr.a = 1",
    "R.attr.a & P.attr.b",
    "'a",
    "R.attr.a[",
    "(R.attr.a",
    "R.attr.a b",
    "a ? b",
    "R..a",
]


def test_cerbos_takes_what_we_take(tmp_path: Path) -> None:
    rules = [rule(actions=[f"a{number}"], match=text) for number, text in enumerate(TAKEN)]
    (tmp_path / "doc.yaml").write_text(policy(rules))
    assert compile_policies(binary(), tmp_path) == []
    for text in TAKEN:
        parse(text)


def test_cerbos_refuses_what_we_refuse(tmp_path: Path) -> None:
    for number, text in enumerate(REFUSED):
        (tmp_path / f"{number}.yaml").write_text(policy([rule(match=text)], kind=f"k{number}"))
    problems = compile_policies(binary(), tmp_path)
    for number, text in enumerate(REFUSED):
        assert any(problem.startswith(f"{tmp_path}/{number}.yaml:") for problem in problems), (text, problems)
        with pytest.raises(CelError):
            parse(text)
