"""Requests of collections."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.imports.postman import sightings
from sidecar.imports.sighting import Notes


def paths(*requests: Any) -> tuple[list[tuple[str, str, tuple[str, ...]]], Notes]:
    notes = Notes()
    items = [{"name": "secret", "request": request} for request in requests]
    return [(one.method, one.path, one.query) for one in sightings({"item": items}, "c.json", notes)], notes


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        ({"raw": "{{base}}/c/:id?a=1", "path": ["c", ":id"], "query": [{"key": "a", "value": "x"}]}, "/c/{id}", ("a",)),
        ({"path": ["c", "{{contact.id}}", ""]}, "/c/{contact_id}/", ()),
        ({"path": "c/:id"}, "/c/{id}", ()),
        ({"raw": "https://alice:pw@h:8/c/7#x"}, "/c/7", ()),
        ("{{base}}/c/{{id}}?q=1&secret", "/c/{id}", ("q",)),
        ("https://h", "/", ()),
        ({"path": ["c", "a b"], "query": [{"key": None}, {"key": "eyJx"}, 1]}, "/c/a b", ()),
    ],
)
def test_a_url_is_a_path_with_variables(url: Any, path: str, query: tuple[str, ...]) -> None:
    found, _ = paths({"method": "PUT", "url": url})
    assert found == [("PUT", path, query)]


def test_a_request_may_be_a_url_alone_and_lie_in_folders() -> None:
    notes = Notes()
    root = {"item": [{"item": [{"item": [{"request": "{{u}}/a"}]}]}, {"request": {"url": "/b"}}]}
    found = list(sightings(root, "c", notes))
    assert [str(one.place) for one in found] == ["c: item[0].item[0].item[0]", "c: item[1]"]
    assert [(one.method, one.status) for one in found] == [("GET", None)] * 2


def test_what_cannot_be_read_is_noted() -> None:
    found, notes = paths({"method": "GET"}, 1, {"method": 1}, {"method": "NONE", "url": "/a"}, {"url": "/../a"})
    assert found == []
    assert (notes.broken["c.json"], sum(notes.skipped.values())) == (3, 2)
    deep: dict[str, Any] = {}
    for _ in range(500):
        deep = {"item": [deep]}
    assert list(sightings(deep, "c", Notes())) == []
    assert list(sightings({"item": 1}, "c", Notes())) == []
