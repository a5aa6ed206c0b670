"""A GraphQL document is read in one way: as graphql-core reads it, or not at all."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from graphql import GraphQLError

from sidecar.bodies.graphql_document import (
    _PIECES,
    MAX_TEXT,
    Document,
    DocumentLimits,
    VariableReference,
    read_document,
)
from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from tests.bodies.graphql_documents import damaged, document
from tests.bodies.graphql_oracle import Operations, operations_of, ours

DIRECTIVES = frozenset(("skip", "include"))
LARGE = DocumentLimits(100_000, 1000, 1000, 1000)


USUAL = DocumentLimits()


def read(text: str, limits: DocumentLimits = USUAL) -> Document:
    return read_document(text, limits, DIRECTIVES)


def detail_of(text: str, limits: DocumentLimits = USUAL) -> str:
    with pytest.raises(Refused) as refused:
        read(text, limits)
    assert refused.value.code is Code.BODY_INVALID
    return refused.value.detail


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("{a}", [("a", "", {})]),
        ("{a,,b}", [("a", "", {}), ("b", "", {})]),
        ("query Q { b: a }", [("a", "b", {})]),
        ("# {x}\n{a # b\r\n}#c", [("a", "", {})]),
        ("{a{b{c:d(x:1)}}}", [("a", "", {})]),
        ("{a(x:1 y:-2 z:1.5e3 s:\"t\" b:true n:null e:E)}", [("a", "", {"x": 1, "y": -2, "z": 1500.0, "s": "t", "b": True, "n": None, "e": "E"})]),
        ("{a(o:{p:[1 [\"2\"]] q:{}} l:[])}", [("a", "", {"o": {"p": [1, ["2"]], "q": {}}, "l": []})]),
        ("query($i:ID!){a(i:$i)}", [("a", "", {"i": VariableReference("i")})]),
        ("query Q($i:[[ID!]!]=[[1]] @skip,$j:I={k:1}){a}", [("a", "", {})]),
        ("{...F} fragment F on Query{a ...F2} fragment F2 on Query{b}", [("a", "", {}), ("b", "", {})]),
        ("{...{a ...on X{b ...@include(if:true){c}}}}", [("a", "", {}), ("b", "", {}), ("c", "", {})]),
        ("{a{...F} ...F ...F} fragment F on Query{b}", [("a", "", {}), ("b", "", {})]),
        ("{a@skip(if:true) @include(if:false) ...F@skip(if:true)} fragment F on Q@skip(if:true){b}", [("a", "", {}), ("b", "", {})]),
        ("{on fragment query type}", [("on", "", {}), ("fragment", "", {}), ("query", "", {}), ("type", "", {})]),
        (r'{a(x:"\u0041\u{1F600}\uD83D\uDE00\"\\\/\b\f\n\r\t é")}', [("a", "", {"x": "A😀😀\"\\/\b\f\n\r\t é"})]),
        ('{a(x:"" y:"""""")}', [("a", "", {"x": "", "y": ""})]),
        ('{a(x:"""\n\n    one\r\n      two \\""" "x" \\n\n\t\n  """)}', [("a", "", {"x": 'one\n  two """ "x" \\n'})]),
        ("{a(x:-1.5e-3)...{b...{c}}}", [("a", "", {"x": -0.0015}), ("b", "", {}), ("c", "", {})]),
        ('{a(x:"#"#"\n)#}"\nb(y:"""#""")}', [("a", "", {"x": "#"}), ("b", "", {"y": "#"})]),
        ('{a(x:["b""c"""])...on Q{d{e:f(x:[1 2]){g @skip(if:true)h}}}}', [("a", "", {"x": ["b", "c", ""]}), ("d", "", {})]),
        ('{a(x:"""  one\n    two\n   three""")}', [("a", "", {"x": "  one\n two\nthree"})]),
    ],
)  # fmt: skip
def test_root_fields_are_those_that_may_be_executed(text: str, fields: list[tuple[str, str, dict[str, Any]]]) -> None:
    found = ours(read(text))
    assert next(iter(found.values()))[1] == fields
    assert found == operations_of(text)


def test_operations_are_told_by_type_and_name() -> None:
    text = "query A{a ...F} mutation B{b ...F} subscription C{c} fragment F on Any{f}"
    assert {name: (one.kind, [field.name for field in one.fields]) for name, one in read(text).operations.items()} == {
        "A": ("Query", ["a", "f"]), "B": ("Mutation", ["b", "f"]), "C": ("Subscription", ["c"]),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no operation"), (" #x", "no operation"), ("fragment F on Q{a}", "no operation"),
        ("{}", "nothing"), ("{a{}}", "nothing"), ("{...{}}", "nothing"), ("{...on Q{}}", "nothing"),
        ("{a", "end"), ("{a}}", "found '}'"), ("a}", "found 'a'"), ("{a:b:c}", "found ':'"), ("{a(x 1)}", "expected `:`"),
        ("{a()}", "argument"), ("query(){a}", "variables"), ("{a(x:)}", "a value"), ("{a(x:[)}", "a value"), ("{...on}", "a name"),
        ("\ufeff{a}", "no GraphQL"), ("{a}\ufeff", "no GraphQL"), ("{a\ufeff}", "no GraphQL"), ("{a\u00a0}", "no GraphQL"),
        ("{é}", "no GraphQL"), ("{\uff41}", "no GraphQL"), ("{a;b}", "no GraphQL"), ("{a}\x00", "no GraphQL"), ("{a}\x03", "no GraphQL"),
        ("{a}\x03{b", "no GraphQL"), ("{a\x03}", "no GraphQL"), ("{a}#\x00", "no GraphQL"), ("{a}#\u2028{b", "no GraphQL"),
        ("{a}#\u0085", "no GraphQL"), ("{a\rb}", "carriage return"), ("{a}#\r", "carriage return"), ("{a}\x0b", "no GraphQL"),
        ('{a(x:"\n")}', "no GraphQL"), ('{a(x:"\u2028")}', "no GraphQL"), (r'{a(x:"\x41")}', "no GraphQL"), ('{a(x:"b)}', "no GraphQL"),
        (r'{a(x:"\uD800")}', "no character"), (r'{a(x:"\uDC00\uD800")}', "no character"), (r'{a(x:"\uD83D\uDBFF")}', "no character"),
        (r'{a(x:"\u{D800}")}', "no character"), (r'{a(x:"\u{110000}")}', "no character"), (r'{a(x:"\u{}")}', "no GraphQL"),
        ('{a(x:"""b\\""")}', "no GraphQL"), ('{a(x:"""b"")}', "no GraphQL"), ('{a(x:"""b"""")}', "no GraphQL"),
        ("{a(x:01)}", "no GraphQL"), ("{a(x:1.)}", "no GraphQL"), ("{a(x:.1)}", "no GraphQL"), ("{a(x:1x)}", "no GraphQL"),
        ("{a(x:+1)}", "no GraphQL"), ("{a(x:0x1)}", "no GraphQL"), ("{a(x:-0)}", "-0"), ("{a(x:1e999)}", "double"),
        (f"{{a(x:{'9' * 65})}}", "64 characters"), ("{a(x:$)}", "a name"), ("{a(x:$1)}", "a name"),
        ("{a(x:1 x:2)}", "twice"), ("{a(o:{x:1 x:2})}", "twice"), ("{a(id:1 ID:2)}", "without case"), ("{a(o:{id:1 Id:2})}", "without case"),
        ("query($a:I $a:I){a}", "declared twice"), ("query($a:I $A:I){a}", "without case"), ("query($a:I=$b $b:I){a}", "in the default"),
        ("query($a:I=[{x:$b}]){a}", "in the default"), ("query($a){a}", "type"), ("query($a:[I){a}", "`]`"), ("query($a:I!!){a}", "variables"),
        ("query A{a} query A{b}", "one name"), ("{a}{b}", "one name"), ("{a} query B{b}", "one name"), ("query B{b}{a}", "one name"),
        ("{...F} fragment F on Q{a} fragment F on Q{b}", "stands twice"), ("{...F}", "no fragment 'F'"), ("{a{...F}}", "no fragment"),
        ("{a} fragment F on Q{...F}", "part of itself"), ("{...F} fragment F on Q{a{...G}} fragment G on Q{...F}", "part of itself"),
        ("{...F} fragment F on Q{...G}", "no fragment 'G'"), ("fragment on on Q{a}", "fragment NAME"), ("{...F} fragment F{a}", "fragment NAME"),
        ("{...F} fragment F($x:I) on Q{a}", "fragment NAME"), ("{...F(x:1)} fragment F on Q{a}", "found '('"),
        ("type Q{a:I}", "found 'type'"), ("{a} extend type Q{b:I}", "found 'extend'"), ("schema{query:Q}", "found 'schema'"),
        ('"d" query{a}', "found a value"), ('"""d""" {a}', "found a value"), ("subscribe{a}", "found 'subscribe'"), ("Query{a}", "found 'Query'"),
        ("{a@export(as:\"x\")}", "directive @export"), ("query@live{a}", "directive @live"), ("{a{b@defer}}", "directive @defer"),
        ("{...@stream{a}}", "directive @stream"), ("query($a:I@x){a}", "directive @x"), ("{a@skip@skip}", "twice at one place"),
        ("{a-b}", "no GraphQL"), ("{a.b}", "no GraphQL"), ("{a+b}", "no GraphQL"), ("{a(x:[a-1])}", "no GraphQL"), ("{a(x:1-1)}", "no GraphQL"),
        ("{a(x:-)}", "no GraphQL"), ("{a(x:1...)}", "a name"), ("{.}", "no GraphQL"), ("{..F}", "no GraphQL"), ("{....F}", "no GraphQL"),
        ("{a(x:1e)}", "no GraphQL"), ("{1}", "a field"), ("{a(x:-0.5.1)}", "no GraphQL"), ("{a \x02}", "no GraphQL"), ('{a(x:\x02 y:"z")}', "no GraphQL"),
        ('{a(x:"\x02")}', "no GraphQL"), ("{a}#\x02", "no GraphQL"), ("{a|b}", "no GraphQL"), ("{a&b}", "no GraphQL"), ('{a"b"}', "a field"),
        ("{a{b:c:d}}", "found ':'"), ("{a{b(x:1)(y:1)}}", "found '('"), ("{a{b{c}{d}}}", "found '{'"), ("{a{b@skip(if:true)(x:1)}}", "found '('"),
        ("{a(x:1):b}", "found ':'"), ("{a{{b}}}", "found '{'"), ("{a{(x:1)}}", "found '('"), ("{a{...F{b}}}", "found '{'"), ("{a{... on X b}}", "expected `{`"),
        ("{a{b{}}}", "nothing"), ("{a{b:}}", "a name"), ("{a{@skip b}}", "found '@'"), ("{a{b} @skip}", "found '@'"), ("query A", "`{`"),
        ("{a@Skip(if:true)}", "directive @Skip"), ("{a(x:" + "[" * 17 + "]" * 17 + ")}", "16 lists"), ("query A B{a}", "found 'B'"),
    ],
)  # fmt: skip
def test_what_could_be_read_otherwise_is_refused(text: str, why: str) -> None:
    assert why in detail_of(text)


def test_comments_are_one_piece_and_a_long_text_of_strings_is_left_where_it_has_too_many() -> None:
    """One by one, 128 KiB of them took 40 ms."""
    assert len(_PIECES.findall("{a}" + "#x\r\n, \t#\n" * 1000)) <= 3
    read("#\n" * (MAX_TEXT // 2 - 2) + "{a}")
    assert "found more tokens than 2000, expected at most 2000" in detail_of('"" ' * (MAX_TEXT // 3))
    assert "found more tokens than 2000" in detail_of('"a' * (MAX_TEXT // 2))


@pytest.mark.parametrize("separator", ["#\n", "#\n\n#\n", " #\r\n", "#a\n,#b\n"])
def test_comments_between_all_tokens_are_no_tokens(separator: str) -> None:
    """Also where there are as many strings as tokens may be."""
    for strings in (1, 3, 50):
        tokens = ["{", "a", "(", "x", ":", "[", *['"s"'] * strings, "]", ")", "}"]
        text = separator + separator.join([*tokens, ""])
        exact = DocumentLimits(tokens=len(tokens))
        (operation,) = read(text, exact).operations.values()
        assert operation.fields[0].arguments == {"x": ["s"] * strings}
        assert f"expected at most {len(tokens) - 1}" in detail_of(text, DocumentLimits(tokens=len(tokens) - 1))


@pytest.mark.parametrize("most", [1, 2, 7])
def test_strings_and_comments_in_turn_are_as_many_as_tokens_may_be(most: int) -> None:
    """The pieces of such a text are the most that there can be of so many tokens."""
    for end in ("", "\n", "\n "):
        text = "#\n" + '"s"#\n'.join([""] * (most + 1)) + f"#{end}"
        assert "tokens" not in detail_of(text, DocumentLimits(tokens=most))
        assert "tokens" in detail_of('"s"' + text, DocumentLimits(tokens=most))


@pytest.mark.parametrize(
    ("limits", "fits", "too_much", "why"),
    [
        (DocumentLimits(tokens=5), "{a b c}", "{a b c d}", "6 tokens"),
        (DocumentLimits(depth=2), "{a{b}}", "{a{b{c}}}", "3 selections"),
        (DocumentLimits(depth=2), "{...F} fragment F on Q{a}", "{a{...F}} fragment F on Q{a{b}}", "3 selections"),
        (DocumentLimits(depth=3), "{a}", "{a} fragment F on Q{...G} fragment G on Q{a{...H}} fragment H on Q{a{b{c}}}", "4 selections"),
        (DocumentLimits(depth=2), "{...{a}}", "{...{...{a}}}", "3 selections"),
        (DocumentLimits(aliases=1), "{x:a b}", "{x:a b{y:c}}", "2 aliases"),
        (DocumentLimits(aliases=3), "{a{...F}b{...F}c{...F}} fragment F on Q{x:d}", "{a{...F}b{...F}c{...F}d{...F}} fragment F on Q{x:d}", "more than 3 aliases"),
        (DocumentLimits(tokens=30), "{a{...F}b{...F}} fragment F on Q{c d}", "{a{...F}b{...F}} fragment F on Q{c{d}e{f}g}", "more than 30 tokens"),
        (DocumentLimits(fields=2), "{a b{c}}", "{a b ...F} fragment F on Q{...{c}}", "3 root fields"),
    ],
)  # fmt: skip
def test_a_document_has_bounds(limits: DocumentLimits, fits: str, too_much: str, why: str) -> None:
    read(fits, limits)
    assert why in detail_of(too_much, limits)


def test_a_value_is_never_told() -> None:
    for text in ('{a(x:"secret"y)}', '{a "secret"}', '{a(x:1 "secret":2)}', "{a 123456}"):
        assert "secret" not in detail_of(text)
        assert "123456" not in detail_of(text)


@pytest.mark.parametrize(
    "text",
    [
        '"""\\' * 30_000, '"a' * 60_000, "\"\\\\" * 40_000, "#\n" * 60_000, "{a" * 60_000, "{a(x:" + "[" * 100_000, "[" * 120_000,
        "query(" + "$a:" * 40_000, "{a" + "#" * 120_000, " ,\t" * 40_000, "{...F}" + "".join(f"fragment F{n} on Q{{...F{n + 1}}}" for n in range(4000)),
        "-" * 120_000, "1" * 120_000, "{a(x:" + "1.1e" * 30_000, "{a" + "@skip" * 20_000 + "}", '{a(x:"""' + '""' * 60_000, "fragment " * 10_000,
    ],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    assert len(text) <= MAX_TEXT
    since = time.process_time()
    with pytest.raises(Refused):
        read(text, DocumentLimits(2**20, 10_000, 100_000, 100_000))
    assert time.process_time() - since < 2


def spread_often(count: int) -> str:
    spreads = " ".join(f"fragment F{n} on Q{{...F{n + 1} ...F{n + 1} a{n}{{...F{n + 1}}}}}" for n in range(count))
    return f"{{...F0}} {spreads} fragment F{count} on Q{{z}}"


def test_fragments_that_spread_one_another_many_times_are_seen_once() -> None:
    found = read(spread_often(6), LARGE)
    assert [field.name for field in found.operations[""].fields] == ["z", *(f"a{n}" for n in range(5, -1, -1))]


def test_fragments_that_would_make_the_app_work_without_end_are_refused() -> None:
    # 2 KiB, of which an app makes 3 to the power of 60 fields
    assert "more than 100000 tokens" in detail_of(spread_often(60), LARGE)


def reading(text: str) -> Operations | str:
    try:
        return ours(read(text, LARGE))
    except Refused as refused:
        return refused.detail


def test_a_generated_document_is_read_as_graphql_core_reads_it() -> None:
    rng, read_ones = random.Random(17), 0
    for _ in range(150):
        text = document(rng)
        found = reading(text)
        if isinstance(found, str):
            assert "part of itself" in found, text
            continue
        read_ones += 1
        assert found == operations_of(text), text
    assert read_ones > 100


def test_a_damaged_document_is_read_as_graphql_core_reads_it_or_refused() -> None:
    rng, read_ones = random.Random(18), 0
    for _ in range(300):
        text = damaged(rng, document(rng))
        found = reading(text)
        if isinstance(found, str):
            continue
        read_ones += 1
        try:
            assert found == operations_of(text), text
        except GraphQLError as error:
            raise AssertionError(f"read, and refused by graphql-core: {text!r}") from error
    assert read_ones > 20
