"""Shapes read YAML nodes, and note every fault with its place."""

import jsonschema
import pytest

from sidecar.config import shapes
from sidecar.config.shapes import (
    Choice,
    Entry,
    Field,
    Flag,
    ListOf,
    MapOf,
    Mark,
    Reader,
    Record,
    RecordAndMap,
    Short,
    Text,
    TextOr,
    Whole,
    WordOr,
    read_document,
)

SHAPE = Record(
    {
        "name": Field(Text(pattern="[a-z]+", what="small letters"), "a name", "", True),
        "kind": Field(Choice(("a", "b")), "a kind", "a"),
        "count": Field(Whole(1, 9), "a count", 1),
        "open": Field(Flag(), "open or not", False),
        "tags": Field(ListOf(Text(), single=True), "tags", ()),
        "more": Field(MapOf(Text(), "[a-z]", "one letter"), "more", {}),
    },
    "a thing",
)


def faults(text: str) -> list[str]:
    _, reader = read_document(text, "f.yaml", SHAPE)
    return [str(problem) for problem in reader.problems]


def test_a_whole_document_is_read_with_its_defaults() -> None:
    entry, reader = read_document("{name: abc, count: 3, open: true, tags: one, more: {x: y}}", "f.yaml", SHAPE)
    assert isinstance(entry, Entry)
    assert entry.values == {"name": "abc", "kind": "a", "count": 3, "open": True, "tags": ["one"], "more": {"x": "y"}}
    assert reader.problems == []
    assert entry.has("count")
    assert not entry.has("kind")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: ABC", ["f.yaml:1:7: name: found 'ABC', expected small letters"]),
        ("name: 5", ["f.yaml:1:7: name: found a number '5', expected small letters"]),
        ("name: [a]", ["f.yaml:1:7: name: found a list, expected small letters"]),
        ("name: a\nkind: c", ["f.yaml:2:7: kind: found text 'c', expected a or b"]),
        ("name: a\ncount: 10", ["f.yaml:2:8: count: found a number '10', expected a whole number from 1 to 9"]),
        ("name: a\ncount: '3'", ["f.yaml:2:8: count: found text '3', expected a whole number from 1 to 9"]),
        ("name: a\nopen: yes", ["f.yaml:2:7: open: found true or false 'yes', expected true or false"]),
        ("name: a\ntags: {}", ["f.yaml:2:7: tags: found a mapping, expected a list"]),
        ("name: a\nmore: {xx: y}", ["f.yaml:2:8: more: found the name 'xx', expected one letter"]),
        ("name: a\nmore: 1", ["f.yaml:2:7: more: found a number '1', expected a mapping"]),
        ("name: a\nname: b", ["f.yaml:2:1: found 'name' twice, expected it once"]),
        ("kind: b", ["f.yaml:1:1: found no 'name', expected it: a name"]),
        ("wat: 1\nname: a", ["f.yaml:1:1: found the name 'wat', expected one of name, kind, count, open, tags, more"]),
        ("[]", ["f.yaml:1:1: found a list, expected a mapping"]),
        ("", ["f.yaml:1:1: found an empty file, expected at least `version: 1` and `routes`"]),
        ("name: null", ["f.yaml:1:7: name: found nothing 'null', expected small letters"]),
    ],
)
def test_a_fault_has_its_line_column_and_expectation(text: str, expected: list[str]) -> None:
    assert faults(text) == expected


@pytest.mark.parametrize(
    "text",
    ["a: [", "a: b: c", "\t- x", "\x00", "[\n" * 5000, "a: " + "{b:\n" * 5000, r'a: "\UFFFFFFFF"', r'a: "\U00110000"', "%YAML " + "1" * 5000],
)  # fmt: skip
def test_what_is_not_yaml_is_a_problem_and_no_exception(text: str) -> None:
    (problem,) = faults(text)
    assert "not YAML" in problem


def test_what_is_not_yaml_is_told_in_a_whole_sentence() -> None:
    assert faults("name: a\n---\nname: b\n") == [
        "f.yaml:2:1: not YAML: expected a single document in the stream, but found another document"
    ]


def test_a_number_of_many_digits_is_a_problem_and_no_exception() -> None:
    (problem,) = faults("name: a\ncount: " + "1" * 5000)
    assert problem.startswith("f.yaml:2:8: count: found a number ")


def test_a_list_may_have_a_least_length() -> None:
    _, reader = read_document("[]", "f.yaml", ListOf(Text(), 1))
    assert [problem.message for problem in reader.problems] == ["found 0 items, expected at least 1"]


def test_the_schema_says_the_same_as_the_reader() -> None:
    schema = SHAPE.schema()
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["kind"] == {"description": "a kind", "enum": ["a", "b"]}
    assert schema["properties"]["tags"]["anyOf"][0] == {"type": "string"}
    assert shapes.Whole(1, 1).schema() == {"type": "integer", "minimum": 1, "maximum": 1}


SHORT = Short(
    Record(
        {
            "claim": Field(Text(pattern="[a-z]+", what="a name"), "a name", "", True),
            "kind": Field(Choice(("a", "b")), "a kind"),
        }
    ),
    "claim",
)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("x", {"claim": "x", "kind": None}),
        ("{claim: x}", {"claim": "x", "kind": None}),
        ("{claim: x, kind: b}", {"claim": "x", "kind": "b"}),
    ],
)
def test_a_short_record_reads_as_an_entry_either_way(text: str, values: dict[str, object]) -> None:
    entry, reader = read_document(f"one: {text}", "f.yaml", Record({"one": Field(SHORT, "one")}))
    assert reader.problems == []
    assert entry["one"].values == values
    assert entry["one"].at("claim")[:2] == (1, 14 if text.startswith("{") else 6)
    many, reader = read_document(text, "f.yaml", ListOf(SHORT, single=True))
    assert [one.values for one in many] == [values]
    assert [one.values for one in read_document(f"[{text}]", "f.yaml", ListOf(SHORT, single=True))[0]] == [values]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("one: X", "f.yaml:1:6: one: found 'X', expected a name"),
        ("one: [x]", "f.yaml:1:6: one: found a list, expected a name"),
        ("one: {kind: a}", "f.yaml:1:6: one: found no 'claim', expected it: a name"),
        ("one: {claim: x, wat: 1}", "f.yaml:1:17: one: found the name 'wat', expected one of claim, kind"),
    ],
)
def test_a_fault_of_a_short_record_has_its_place(text: str, fault: str) -> None:
    _, reader = read_document(text, "f.yaml", Record({"one": Field(SHORT, "one")}))
    assert [str(problem) for problem in reader.problems] == [fault]


def test_the_schema_of_a_short_record_takes_both() -> None:
    text, record = SHORT.schema()["anyOf"]
    assert text["type"] == "string"
    assert record["required"] == ["claim"]


def test_a_word_or_a_list_is_either_and_nothing_else() -> None:
    shape = WordOr("any", ListOf(Text(pattern="[a-z]+", what="a name")))
    record = Record({"query": Field(shape, "names")})
    for text, value in (("query: any", "any"), ("query: [any]", ["any"]), ("query: []", [])):
        entry, reader = read_document(text, "f", record)
        assert (entry["query"], reader.problems) == (value, [])
    for text, says in (
        ("query: other", "expected any or a list"),
        ("query: {}", "expected a list"),
        ("query: [1]", "a name"),
    ):
        _, reader = read_document(text, "f", record)
        assert says in str(reader.problems[0])
    validator = jsonschema.Draft202012Validator(record.schema())
    assert [validator.is_valid({"query": value}) for value in ("any", ["a"], "other")] == [True, True, False]


def test_a_text_or_a_mapping_is_either_and_nothing_else() -> None:
    shape = TextOr(Text(pattern="[a-z]+", what="a name"), Record({"from": Field(Text(), "whence", "", True)}))
    record = Record({"lookup": Field(shape, "a lookup", "")})
    for text, value in (("lookup: name", "name"), ("{}", "")):
        entry, reader = read_document(text, "f", record)
        assert (entry["lookup"], reader.problems) == (value, [])
    entry, reader = read_document("lookup: {from: x}", "f", record)
    assert (entry["lookup"]["from"], reader.problems) == ("x", [])
    for text, says in (("lookup: 7", "expected a name"), ("lookup: [a]", "found a list"), ("lookup: {}", "no 'from'")):
        _, reader = read_document(text, "f", record)
        assert says in str(reader.problems[0])
    validator = jsonschema.Draft202012Validator(record.schema())
    assert [validator.is_valid({"lookup": value}) for value in ("a", {"from": "b"}, {}, 7)] == [
        True,
        True,
        False,
        False,
    ]


def test_a_record_may_have_free_names_with_a_dot_as_well() -> None:
    shape = RecordAndMap(
        Record({"size": Field(Whole(1, 9), "a size", 3)}), MapOf(Text(), r"[a-z]+\.[a-z]+", "two words"), "words"
    )
    record = Record({"it": Field(shape, "it")})
    entry, reader = read_document("it: {a.b: x, size: 4, c.d: y}", "f", record)
    assert (entry["it"]["size"], entry["it"]["words"], reader.problems) == (4, {"a.b": "x", "c.d": "y"}, [])
    entry, _ = read_document("base: &base {c.d: y, size: 5}\nit: {<<: *base, a.b: x}", "f", record)
    assert (entry["it"]["size"], entry["it"]["words"]) == (5, {"a.b": "x", "c.d": "y"})
    for text, says in (
        ("it: {A.b: x}", "found the name 'A.b', expected two words"), ("it: {ab: x}", "found the name 'ab', expected one of size"),
        ("it: {size: 0}", "f:1:12: it.size: found"), ("it: [a]", "found a list"), ("it: {a.b: x, a.b: y}", "found 'a.b' twice"),
    ):  # fmt: skip
        _, reader = read_document(text, "f", record)
        assert says in str(reader.problems[0])
    validator = jsonschema.Draft202012Validator(record.schema())
    assert [
        validator.is_valid({"it": value}) for value in ({"a.b": "x", "size": 1}, {}, {"A.b": "x"}, {"ab": "x"})
    ] == [True, True, False, False]


def test_a_warning_has_its_place_and_is_no_problem() -> None:
    reader = Reader("f")
    reader.warn(Mark(2, 3, "a.b"), "odd")
    assert (list(map(str, reader.warnings)), reader.problems) == (["f:2:3: a.b: odd"], [])


# --- merge keys ---

THINGS = Record({"things": Field(ListOf(SHAPE), "things", ())}, "things")


def things(text: str) -> tuple[list[dict[str, object]], list[str]]:
    entry, reader = read_document(text, "f.yaml", THINGS)
    assert isinstance(entry, Entry)
    return [thing.values for thing in entry["things"]], [str(problem) for problem in reader.problems]


def test_a_mapping_that_is_merged_gives_what_the_entry_does_not_say_itself() -> None:
    text = """\
things:
  - &first {name: a, kind: b, tags: [x], more: {p: q}}
  - &second {<<: *first, name: b, count: 2}
  - {<<: [*second, *first], open: true, more: {r: s}}
  - {name: d, <<: {kind: b, name: e}}
"""
    found, problems = things(text)
    assert problems == []
    assert [(one["name"], one["kind"], one["count"], one["tags"], one["more"]) for one in found] == [
        ("a", "b", 1, ["x"], {"p": "q"}), ("b", "b", 2, ["x"], {"p": "q"}), ("b", "b", 2, ["x"], {"r": "s"}), ("d", "b", 1, (), {}),
    ]  # fmt: skip
    assert found[2]["open"] is True


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("things: [{<<: x, name: a}]", "f.yaml:1:15: things[0]: found text 'x' at '<<', expected a mapping, as *anchor"),
        ("things: [{<<: [{name: a}, [b]]}]", "f.yaml:1:27: things[0]: found a list at '<<', expected a mapping, as *anchor"),
        ("things: [{<<: {kind: b}, <<: {count: 2}, name: a}]", "f.yaml:1:26: things[0]: found '<<' twice, expected it once"),
        ("things: [{<<: {nam: b}, name: a}]", "f.yaml:1:16: things[0]: found the name 'nam', expected one of name, kind"),
        ("things: [{'<<': {kind: b}, name: a}]", "f.yaml:1:11: things[0]: found the name '<<', expected one of name"),
    ],
)  # fmt: skip
def test_a_merge_that_cannot_be_meant_is_named_with_its_place(text: str, problem: str) -> None:
    assert any(found.startswith(problem) for found in things(text)[1]), things(text)[1]


def test_a_mapping_that_merges_itself_or_others_a_million_times_is_read_once() -> None:
    assert things("things: [&a {name: a, <<: *a}]") == (things("things: [{name: a}]")[0], [])
    levels = "\n".join(f"  - &l{n} {{<<: [*l{n - 1}, *l{n - 1}]}}" for n in range(1, 40))
    found, problems = things(f"things:\n  - &l0 {{name: a, count: 3}}\n{levels}\n")
    assert problems == []
    assert {(one["name"], one["count"]) for one in found} == {("a", 3)}
