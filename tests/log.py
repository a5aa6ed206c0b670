"""The decision log as tests read it: every line is of the schema, and has nothing that this version does not know."""

from __future__ import annotations

import io
import json
from typing import Any

import jsonschema

from sidecar.record.line import Unknown, json_schema, read

_PLAIN = ("string", "integer", "number")


class Held:
    """The schema of one kind of line. Lines of the same members are held against it once, where it says of a member only what
    type it has: jsonschema takes a third of a millisecond for each line, and the tests write ten thousands."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._whole = jsonschema.Draft202012Validator(schema)
        self._time = jsonschema.Draft202012Validator(schema["properties"]["time"])
        # a member that there must not be has no schema but `false`
        told = {name: one for name, one in schema["properties"].items() if isinstance(one, dict)}
        self._typed = {name for name, one in told.items() if is_plain(one)}
        self._numbers = {
            name
            for name, one in told.items()
            if one.keys() == {"description", "type", "additionalProperties"}
            and one["additionalProperties"] == {"type": "number"}
        }
        self._seen: set[tuple[Any, ...]] = set()

    def hold(self, line: dict[str, Any]) -> None:
        """Raise what jsonschema raises where the line is not of the schema."""
        self._time.validate(line.get("time"))
        alike = tuple((name, self._as_told(name, value)) for name, value in line.items() if name != "time")
        if alike not in self._seen:
            self._whole.validate(line)
            self._seen.add(alike)

    def _as_told(self, name: str, value: Any) -> Any:
        # of floats some are integers
        if name in self._typed and not isinstance(value, float | list | dict):
            return type(value)
        if name in self._numbers and isinstance(value, dict):
            return tuple((key, type(one)) for key, one in value.items())
        return type(value), json.dumps(value)


def is_plain(schema: dict[str, Any]) -> bool:
    """Whether a schema says only what type a value has."""
    return schema.keys() <= {"description", "type"} and schema.get("type") in _PLAIN


# the schema of each kind alone: to try them all takes four times as long
_OF_KIND = {name: Held(schema) for name, schema in json_schema()["$defs"].items()}


def lines_of(text: str) -> list[dict[str, Any]]:
    """The lines of a decision log, each held against its schema."""
    return [_held(line) for line in text.splitlines()]


def _held(text: str) -> dict[str, Any]:
    record = read(text.encode())
    assert not isinstance(record, Unknown), text
    assert not record.extra, text
    line: dict[str, Any] = json.loads(text)
    _OF_KIND[type(record).__name__].hold(line)
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
