"""The decision log as tests read it: every line is of the schema, and has nothing that this version does not know."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import jsonschema

from sidecar.record.line import UnknownLine, json_schema, read

_LINE = {"type", "description", "required", "properties"}
"""What a schema of a line says: of each member for itself."""
_TYPES = {"type", "description", "required", "properties", "items", "additionalProperties"}


class Held:
    """The schema of one kind of line. Members that are alike are held against it once: jsonschema takes a third of a
    millisecond for each line, and the tests write ten thousands."""

    def __init__(self, schema: dict[str, Any]) -> None:
        assert schema.keys() <= _LINE, schema.keys()
        rest = {name: told for name, told in schema.items() if name != "properties"}
        self._rest = jsonschema.Draft202012Validator(rest)
        self._members = {name: Member(told) for name, told in schema["properties"].items()}
        self._seen: set[tuple[str, ...]] = set()

    def hold(self, line: dict[str, Any]) -> None:
        """Raise what jsonschema raises where the line is not of the schema."""
        names = tuple(line)
        if names not in self._seen:
            self._rest.validate(line)
            self._seen.add(names)
        for name, value in line.items():
            if name in self._members:
                self._members[name].hold(value)


class Member:
    """The schema of one member."""

    def __init__(self, schema: dict[str, Any] | bool) -> None:
        self._schema = jsonschema.Draft202012Validator(schema)
        self._typed = says_only_types(schema)
        self._seen: set[object] = set()
        # no two times are alike
        self._pattern = (
            re.compile(schema["pattern"])
            if isinstance(schema, dict) and schema.keys() == {"description", "type", "pattern"}
            else None
        )

    def hold(self, value: Any) -> None:
        """Raise what jsonschema raises where the value is not of the schema."""
        if self._pattern and isinstance(value, str) and self._pattern.search(value):
            return
        alike = types_of(value) if self._typed else (type(value), json.dumps(value))
        if alike not in self._seen:
            self._schema.validate(value)
            self._seen.add(alike)


def says_only_types(schema: Any) -> bool:
    """Whether a schema says of a value, and of what is in it, only the type and which members there must be."""
    if not isinstance(schema, dict):
        return isinstance(schema, bool)
    below = [
        *schema.get("properties", {}).values(),
        schema.get("items", True),
        schema.get("additionalProperties", True),
    ]
    return schema.keys() <= _TYPES and all(map(says_only_types, below))


def types_of(value: Any) -> object:
    """What such a schema can tell of a value: its type, the names of its members, and their types."""
    if isinstance(value, dict):
        return tuple((name, types_of(one)) for name, one in value.items())
    if isinstance(value, list):
        return frozenset(map(types_of, value))
    # of floats some are integers
    return value.is_integer() if isinstance(value, float) else type(value)


# the schema of each kind alone: to try them all takes four times as long
_OF_KIND = {name: Held(schema) for name, schema in json_schema()["$defs"].items()}


def lines_of(text: str) -> list[dict[str, Any]]:
    """The lines of a decision log, each held against its schema."""
    return [_held(line) for line in text.splitlines()]


def _held(text: str) -> dict[str, Any]:
    record = read(text.encode())
    assert not isinstance(record, UnknownLine), text
    assert not record.extra, text
    line: dict[str, Any] = json.loads(text)
    _OF_KIND[type(record).__name__.removesuffix("Line")].hold(line)
    return line


class Kept(io.StringIO):
    """A decision log in memory, which takes every line at once."""

    waiting = 0

    def put(self, lines: list[str]) -> None:
        self.write("".join(lines))

    def send(self) -> bool:
        return True

    def follow(self) -> None:
        pass
