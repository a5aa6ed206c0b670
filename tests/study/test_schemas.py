"""`study/schemas.py`: what the schemas of a policy say of its attributes."""

from __future__ import annotations

import json
from pathlib import Path

from sidecar.study.policies import parse_policies
from tests.study.compiled import policy, rule, write


def test_a_schema_says_types_and_what_is_required(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": [1]}}, "required": ["a"]}
    said = {"resourceSchema": {"ref": "cerbos:///a/doc.json"}, "principalSchema": {"ref": "cerbos:///list.json"}}
    files = {
        "_schemas/a/doc.json": json.dumps(schema),
        "_schemas/list.json": "[]",
        "doc.yaml": policy([rule()], schemas=said),
    }
    policies = parse_policies(write(tmp_path, files))
    (only,) = policies.policies
    assert only.resource_schema == ({"a": "integer"}, frozenset({"a"}))
    assert only.principal_schema == ({}, frozenset())
    assert ["list.json" in str(problem) for problem in policies.unread] == [True]


def test_a_schema_that_some_actions_ignore_counts_as_none(tmp_path: Path) -> None:
    said = {"resourceSchema": {"ref": "cerbos:///doc.json", "ignoreWhen": {"actions": ["create"]}}}
    policies = parse_policies(write(tmp_path, {"doc.yaml": policy([rule()], schemas=said)}))
    assert policies.policies[0].resource_schema == ({}, frozenset())
    assert policies.unread == []


def test_a_schema_that_is_no_json_is_told_at_its_own_place(tmp_path: Path) -> None:
    said = {"resourceSchema": {"ref": "cerbos:///doc.json"}}
    files = {"_schemas/doc.json": '{\n"a": }', "doc.yaml": policy([rule()], schemas=said)}
    (problem,) = parse_policies(write(tmp_path, files)).unread
    assert str(problem) == f"{tmp_path}/_schemas/doc.json:2:6: could not be read: Expecting value"
