"""The decision log as tests read it: every line is of the schema, and has nothing that this version does not know."""

from __future__ import annotations

import io
import json
from typing import Any

import jsonschema

from sidecar.record.line import Unknown, json_schema, read

# the schema of each kind alone: to try them all takes four times as long
_OF_KIND = {name: jsonschema.Draft202012Validator(schema) for name, schema in json_schema()["$defs"].items()}


def lines_of(text: str) -> list[dict[str, Any]]:
    """The lines of a decision log, each held against its schema."""
    return [_held(line) for line in text.splitlines()]


def _held(text: str) -> dict[str, Any]:
    record = read(text.encode())
    assert not isinstance(record, Unknown), text
    assert not record.extra, text
    line: dict[str, Any] = json.loads(text)
    _OF_KIND[type(record).__name__].validate(line)
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
