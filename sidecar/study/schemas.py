"""JSON schemas of attributes (docs.cerbos.dev, "Schemas"): the type of each, and which must be there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from sidecar.config.yaml_nodes import YamlDocument, fields
from sidecar.pdp.policy_files import PolicyProblem


class Schema(NamedTuple):
    """Attribute -> the name of its JSON type, and the attributes that are required."""

    types: Mapping[str, str]
    required: frozenset[str]


NO_SCHEMA = Schema({}, frozenset())
_PREFIX = "cerbos:///"


def read_schema(folder: Path, document: YamlDocument, node: yaml.Node | None, unread: list[PolicyProblem]) -> Schema:
    """Read the schema that a policy names. One that is not held for all actions counts as none."""
    said = fields(node)
    reference = document.scalar(said.get("ref"))
    if reference is None or "ignoreWhen" in said:
        return NO_SCHEMA
    path = folder / "_schemas" / reference.value.removeprefix(_PREFIX)
    try:
        if not reference.value.startswith(_PREFIX):
            raise ValueError(f"expected {_PREFIX}...")  # noqa: TRY301 - told with the others
        return _schema(json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        # at its own place, where it is told of the folder, too
        unread.append(PolicyProblem(str(path), f"could not be read: {error.msg}", error.lineno, error.colno))
        return NO_SCHEMA
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        message = f"could not be read: the schema {reference.value!r}: {why}"
        unread.append(PolicyProblem(reference.start.file, message, reference.start.line, reference.start.column))
        return NO_SCHEMA


def _schema(document: object) -> Schema:
    if not isinstance(document, dict):
        raise ValueError("found no object")  # noqa: TRY004 - a user's file
    properties, required = document.get("properties"), document.get("required")
    types = {
        name: said["type"]
        for name, said in (properties.items() if isinstance(properties, dict) else ())
        if isinstance(said, dict) and isinstance(said.get("type"), str)
    }
    return Schema(types, frozenset(required if isinstance(required, list) else ()))
