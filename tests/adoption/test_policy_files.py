"""Texts of drafted files: names of any kind, evidence as comments, and nothing that a log could put in."""

import pytest
import yaml

from sidecar.adoption.policy_files import quoted, slugs


@pytest.mark.parametrize(
    "text", ["a", 'a"b', "a\\b", "a: b # c", "\x07\x85\u2028", "é😀", "\u202e", "yes", "1", " ", "\n- x"]
)
def test_a_name_in_quotes_is_read_as_it_was(text: str) -> None:
    assert yaml.safe_load(f"- {quoted(text)}") == [text]
    assert quoted(text).isprintable()


def test_each_kind_has_files_of_its_own() -> None:
    kinds = ["Contact", "contact", "a:b", "a/b", "é", "ü", "", "x" * 99, "../../etc"]
    names = slugs(kinds)
    assert len(set(names.values())) == len(kinds)
    assert names["../../etc"] == "etc"
    assert all(name.replace("_", "a").isalnum() and name.isascii() for name in names.values())
