"""Members of a list in a long document, whatever stands around it, and wherever it is cut."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from sidecar.imports import json_stream
from sidecar.imports.json_stream import NotJson, members


def read(text: str) -> list[Any]:
    return list(members(io.BytesIO(text.encode()), ("log", "entries")))


@pytest.fixture(autouse=True, params=[1, 7, 4096])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", request.param)


def test_members_are_those_of_the_list() -> None:
    made = {
        "log": {
            "version": "1.2",
            "pages": [{"a": [1, {"entries": [9]}]}],
            "entries": [{"n": 12}, "\u00e4]", 3, [], None],
        }
    }
    for text in (json.dumps(made), json.dumps(made, indent=2), "\ufeff" + json.dumps(made, ensure_ascii=False)):
        assert read(text) == made["log"]["entries"]


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"log": []}', '{"log": {"entries": {}}}', '{"a": 1}', '{"log": {"entries": []}}', "", "1"]
)
def test_where_there_is_no_such_list_there_is_nothing(text: str) -> None:
    assert read(text) == []


@pytest.mark.parametrize(
    "text",
    [
        '{"log": {"entries": [1, ', '{"log": {"entries": [1 2]}}', '{"log"', '{"a": 1 "log": {}}', '{1: 2}',
        '{"log": {"entries": [' + "[" * 100_000,
    ],
)  # fmt: skip
def test_a_broken_document_is_told_after_what_could_be_read(text: str) -> None:
    with pytest.raises(NotJson):
        read(text)


def test_a_member_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_MEMBER", 100)
    with pytest.raises(NotJson, match="too long"):
        read('{"log": {"entries": ["' + "x" * 50_000 + '"]}}')
