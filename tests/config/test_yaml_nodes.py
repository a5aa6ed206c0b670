"""`config/yaml_nodes.py`: texts, their types and places, merge keys, and two spellings of a field."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.yaml_nodes import NothingInIt, Place, Scalar, YamlDocument, entries, fields, holding_itself, items
from sidecar.config.yaml_text import NoYaml
from sidecar.pdp.compiling import compile_policies
from tests.stack import binary


@pytest.mark.parametrize(
    ("written", "piece", "place"),
    [
        ("a.b == a.b", (7, 10), (3, 16)),
        ("'a.b == a.b'", (7, 10), (3, 17)),
        ("|-\n  a.b ==\n    a.b", (9, 12), (5, 5)),
        ("\"a == \\\"x\\\" && b\"", (12, 13), (3, 24)),
        ("'a == ''b'''", (5, 8), (3, 16)),
        ('"a == \\"b\\""', (5, 8), (3, 9)),
    ],
)  # fmt: skip
def test_a_piece_of_a_text_has_its_place(
    tmp_path: Path, written: str, piece: tuple[int, int], place: tuple[int, int]
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"a: 1\nb: 2\nexpr:   {written}\n")
    document = YamlDocument(path, "x.yaml")
    scalar = document.scalar(document.root.value[2][1])
    assert isinstance(scalar, Scalar)
    assert scalar.place(*piece) == Place("x.yaml", *place)


def document(folder: Path, text: str) -> YamlDocument:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return YamlDocument(path, "x.yaml")


def test_merge_keys_bring_in_what_is_not_said(tmp_path: Path) -> None:
    """YAML merge key (yaml.org/type/merge.html): what stands there goes first, then the first of a list."""
    text = "a: &a {x: 1, y: 2}\nb: &b {x: 3, z: 4}\nc: {<<: [*a, *b], y: 5}\nd: {x: 6, <<: *a}\n"
    root = entries(document(tmp_path, text).root)
    assert {name: node.value for name, node in entries(root["c"]).items()} == {"x": "1", "z": "4", "y": "5"}
    assert {name: node.value for name, node in entries(root["d"]).items()} == {"x": "6", "y": "2"}


def test_what_is_merged_into_itself_or_a_million_times_is_looked_at_once(tmp_path: Path) -> None:
    root = entries(document(tmp_path, "a: &a {x: 1, <<: *a}\nb: &b {<<: [&c {y: 2, <<: *b}, *a], z: 3}\n").root)
    assert {name: node.value for name, node in entries(root["a"]).items()} == {"x": "1"}
    assert {name: node.value for name, node in entries(root["b"]).items()} == {"x": "1", "y": "2", "z": "3"}
    more = "".join(f"l{n}: &l{n} {{<<: [*l{n - 1}, *l{n - 1}], y: {n}}}\n" for n in range(1, 3000))
    root = entries(document(tmp_path, "l0: &l0 {x: 0}\n" + more).root)
    assert {name: node.value for name, node in entries(root["l2999"]).items()} == {"x": "0", "y": "2999"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\nb: &b {c: [2, *b]}\n", (2, 4)),
        ("a: [&a {<<: *a}]\n", (1, 5)),
        ("--- &a\nb: 1\n<<: *a\n", (1, 5)),
        ("a: &a {? [*a] : 1}\n", (1, 4)),
        ("a: &a [1]\nb: &b [*a, *a]\nc: {<<: {d: *b}, e: *b}\n", None),
        ("a0: &a0 []\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 3000)), None),
    ],
)  # fmt: skip
def test_what_an_alias_brings_into_itself_is_found(tmp_path: Path, text: str, place: tuple[int, int] | None) -> None:
    made = document(tmp_path, text)
    found = holding_itself(made.root)
    assert (found and made.place(found)) == (place and Place("x.yaml", *place))


def test_a_field_has_two_spellings_and_a_name_has_one(tmp_path: Path) -> None:
    root = document(tmp_path, "import_derived_roles: [a]\nparentRoles: [b]\n").root
    assert list(fields(root)) == ["importDerivedRoles", "parentRoles"]
    assert list(entries(root)) == ["import_derived_roles", "parentRoles"]


def test_what_is_none_is_empty(tmp_path: Path) -> None:
    made = document(tmp_path, "a: [1, {}]\n")
    (node,) = entries(made.root).values()
    assert (entries(node), fields(None), items(made.root), items(None), made.texts(None)) == ({}, {}, [], [], ())
    assert made.texts(node) == ("1",)
    assert made.scalar(node) is None


@pytest.mark.parametrize("text", ["a: [", "- a", "", "a: 1\n---\nb: 2\n", "\ta: 1"])
def test_what_is_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        document(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "nothing"),
    [
        ("", True), ("# a\n", True), ("---\n# a\n", True), ("# a\n---\n# b\n", True),
        ("null\n", False), ("--- ~\n", False), ("--- !!null\n", False), ("--- &a\n", False), ("''\n", False),
    ],
)  # fmt: skip
def test_nothing_is_in_a_file_of_comments(tmp_path: Path, text: str, nothing: bool) -> None:
    """Cerbos passes over those with nothing in it, and refuses the others."""
    with pytest.raises(NoYaml) as raised:
        document(tmp_path, text)
    assert isinstance(raised.value, NothingInIt) == nothing
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "x.yaml").write_text(text)
    (policies / "doc.yaml").write_text(DOC)
    assert (compile_policies(binary(), policies) == []) == nothing


DOC = "apiVersion: api.cerbos.dev/v1\nresourcePolicy: {resource: doc, version: default, rules: []}\n"


def test_a_mark_of_the_byte_order_is_none_of_the_text(tmp_path: Path) -> None:
    assert list(entries(document(tmp_path, "\ufeffa: 1\n").root)) == ["a"]


@pytest.mark.parametrize("text", ["[\n" * 5000, r'a: "\UFFFFFFFF"', r'a: "\U00110000"', "a: ["])
def test_what_is_no_yaml_is_one_kind_of_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's words
        document(tmp_path, text)


def test_what_is_no_yaml_has_a_whole_sentence_and_a_place(tmp_path: Path) -> None:
    with pytest.raises(NoYaml, match=r"^expected a single document in the stream, but found another document$") as two:
        document(tmp_path, "a: 1\n---\nb: 2\n")
    assert (two.value.line, two.value.column) == (2, 1)
    (tmp_path / "latin.yaml").write_bytes("a: 1\n# é\n".encode("latin-1"))
    with pytest.raises(NoYaml, match=r"^found the byte 0xE9, expected UTF-8$") as bytes_:
        YamlDocument(tmp_path / "latin.yaml", "latin.yaml")
    assert (bytes_.value.line, bytes_.value.column) == (2, 3)


def test_json_may_have_tabs_between_its_values_and_places_stay(tmp_path: Path) -> None:
    made = document(tmp_path, '\n{\t"a b":\t["x", "\\"\\ty\\""],\n\t"c":\t{}}\n')
    root = entries(made.root)
    assert made.texts(root["a b"]) == ("x", '"\ty"')
    assert made.place(root["c"]) == Place("x.yaml", 3, 7)
    with pytest.raises(NoYaml):
        document(tmp_path, "a:\tb")
