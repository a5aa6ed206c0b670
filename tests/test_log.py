"""Lines of the decision log are held against their schema, those alike at once."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema
import pytest

from sidecar.record.line import json_schema
from tests.log import Held, lines_of

LINE: dict[str, Any] = {
    "time": "2026-11-30T18:55:51.617+00:00", "event": "decision", "request_id": "e", "mode": "enforce", "outcome": "allow",
    "code": "allowed", "status": 200, "method": "GET", "host": "a", "path": "/", "route": "/", "principal": "alice",
    "roles": ["user"], "kind": "contact", "id": "1", "action": "read", "peer": "::1", "ms": {"request": 0.085},
    "total_ms": 25.179,
}  # fmt: skip


@pytest.fixture
def held() -> Held:
    schema = Held(json_schema()["$defs"]["Decision"])
    schema.hold(LINE)
    schema.hold(LINE | {"time": "2027-11-30T18:55:51.617+00:00", "id": "2", "status": 403, "total_ms": 1})
    return schema


@pytest.mark.parametrize(
    "change",
    [
        {"time": "yesterday"}, {"time": 1}, {"event": "question"}, {"request_id": 1}, {"mode": "off"}, {"outcome": ""},
        {"status": "200"}, {"status": 200.5}, {"status": True}, {"status": [200]}, {"id": None}, {"id": {}}, {"roles": [1]},
        {"roles": ["user", 1]},
        {"roles": "user"}, {"ms": {"request": "1"}}, {"ms": {"request": 1, "lookup": True}}, {"ms": []}, {"total_ms": False},
        {"each": {}}, {"each": {"asked": "1"}}, {"each": {"asked": 1, "ids": [1]}}, {"items": {"seen": 0.5}},
    ],
    ids=str,
)  # fmt: skip
def test_a_line_that_is_not_of_the_schema_is_seen_after_lines_that_are(held: Held, change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        held.hold(LINE | change)
    with pytest.raises(jsonschema.ValidationError):
        held.hold(LINE | change)


@pytest.mark.parametrize("name", sorted(LINE.keys()))
def test_a_line_without_a_member_is_seen(held: Held, name: str) -> None:
    line = copy.deepcopy(LINE)
    del line[name]
    with pytest.raises(jsonschema.ValidationError):
        held.hold(line)


def test_a_resource_that_is_not_of_the_schema_is_seen_after_one_that_is() -> None:
    resource = {"id": "1", "allowed": True, "attributes": {"owner": "alice"}}
    schema = Held(
        {"type": "object", "properties": {"resources": json_schema()["$defs"]["Question"]["properties"]["resources"]}}
    )
    schema.hold({"resources": [resource, resource | {"kind": "contact"}]})
    for other in (
        {"id": "1", "allowed": True},
        resource | {"allowed": 1},
        resource | {"kind": 1},
        resource | {"attributes": []},
    ):
        with pytest.raises(jsonschema.ValidationError):
            schema.hold({"resources": [resource, other]})


def test_a_schema_that_says_more_of_a_line_is_refused() -> None:
    with pytest.raises(AssertionError):
        Held({"type": "object", "properties": {}, "additionalProperties": False})


def test_a_line_of_what_could_not_be_read_is_held() -> None:
    line = {
        "time": LINE["time"], "event": "decision", "request_id": "e", "mode": "enforce", "outcome": "refuse",
        "code": "target_ambiguous", "status": 400, "peer": "::1",
    }  # fmt: skip
    assert lines_of(json.dumps(line)) == [line]
