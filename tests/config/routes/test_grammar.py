"""The JSON Schema of a route file is that of its reader."""

import json
from typing import Any

import jsonschema
import yaml

from sidecar.config.routes.grammar import json_schema
from tests.config.routes.reading import WHOLE
from tests.stack import ROOT


def schema_takes(document: Any) -> bool:
    validator = jsonschema.Draft202012Validator(json_schema())
    return bool(validator.is_valid(document))


def test_the_schema_in_the_repository_is_that_of_the_code() -> None:
    assert json.loads((ROOT / "docs/reference/routes.schema.json").read_text()) == json_schema()


def test_the_schema_takes_what_the_reader_takes_and_refuses_an_unknown_name() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert schema_takes(yaml.safe_load(WHOLE))
    assert schema_takes(yaml.safe_load((ROOT / "routes.yaml").read_text()))
    assert not schema_takes({"version": 1, "routes": [], "wat": 1})
    assert not schema_takes({"version": 1})
