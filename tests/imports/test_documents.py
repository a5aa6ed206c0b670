"""Documents are plain values, and references lead nowhere but into the document itself."""

from __future__ import annotations

import pytest

from sidecar.imports.documents import NoDocument, SpecDocument, read, texts


def test_json_and_yaml_are_read() -> None:
    assert read(b'\xef\xbb\xbf{"a": [1, "\\u00e4"]}') == {"a": [1, "\u00e4"]}
    assert read(b"a: 2026-11-29\nb: {c: d}\n") == {"a": "2026-11-29", "b": {"c": "d"}}
    assert read(b"{a: b}") == {"a": "b"}


def test_merge_keys_are_not_followed() -> None:
    bomb = "a0: &a0 {k: v}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 30)
    )
    assert "a29" in read(bomb.encode())


@pytest.mark.parametrize(
    "data",
    [
        b"a: [",
        b"\t- x",
        b"{" * 5000,
        b"!!python/object:os.system {}",
        b"%YAML 99999999999.1\n--- a",
        b'{"a": ' * 5000,
    ],
)
def test_a_broken_document_is_told_without_its_text(data: bytes) -> None:
    with pytest.raises(NoDocument) as caught:
        read(data)
    assert "system" not in str(caught.value)


@pytest.mark.parametrize("one", [b"[", b"- ", b'{"a": '])
def test_a_deep_document_does_not_end_the_process(one: bytes) -> None:
    with pytest.raises(NoDocument, match="it is nested too deeply"):
        read(one * 100_000)
    assert read(b"[" * 400 + b"]" * 400)


def test_references_lead_into_the_document_alone() -> None:
    made = SpecDocument(
        {
            "a/b": {"c~d": {"x": 1}},
            "r": {"$ref": "#/a~1b/c~0d"},
            "loop": {"$ref": "#/loop"},
            "far": {"$ref": "http://h/x#/a"},
        }
    )
    assert made.mapping({"$ref": "#/r"}) == {"x": 1}
    for reference in ("#/loop", "#/far", "#/none/x", "other.yaml#/a", "#", ""):
        assert made.mapping({"$ref": reference}) == {}
    assert list(made.mappings([{"$ref": "#/r"}, 1, {"$ref": "#/loop"}])) == [{"x": 1}]
    assert list(made.mappings({})) == []
    assert texts(["a", 1]) == ("a",)
    assert texts("a") == ()
