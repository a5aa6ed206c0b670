"""The grammar of cases: the JSON Schema takes what the reader takes, and refuses what it refuses."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from sidecar.study.case_grammar import FILE, json_schema
from sidecar.study.cases import CasesError, read_cases
from tests.study.test_cases import BAD, WHOLE

NOT_OF_THE_SCHEMA = (
    "twice",
    "expected one of alice",
    "users",
    "one of them",
    "empty",
    "not YAML",
    "at least `status`",
    "a code of",
    "quotes",
)
"""Faults that no schema can tell, or that YAML has and JSON has not."""


def as_an_editor_sees(text: str) -> Any:
    """The document with the names of JSON, which are texts."""
    return json.loads(json.dumps(yaml.safe_load(text)))


def test_the_schema_is_one_and_takes_every_name() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.Draft202012Validator(json_schema()).validate(as_an_editor_sees(WHOLE))


@pytest.mark.parametrize(
    ("text", "problem"), [row for row in BAD if not any(words in row[1] for words in NOT_OF_THE_SCHEMA)]
)
def test_the_schema_refuses_what_the_reader_refuses(text: str, problem: str) -> None:
    document = as_an_editor_sees(text)
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(document), problem


def test_every_name_has_a_meaning() -> None:
    assert all(field.doc for field in FILE.fields.values())
    with pytest.raises(CasesError):
        read_cases("cases: []", "f")
