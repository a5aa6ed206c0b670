"""JSON values within a YAML document: what a person writes there is what JSON says, or a fault with its place."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import yaml

from sidecar.config.shapes import Reader, mark_of, pairs_of

MAX_NODES = 100_000
"""Values in one JSON value: an alias within an alias within an alias makes millions of a few lines."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,32})?(?:[eE][-+]?[0-9]{1,3})?")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_KINDS = {"mapping": yaml.MappingNode, "list": yaml.SequenceNode}


class Bad(Exception):
    """A node that is no JSON, and why."""

    def __init__(self, node: yaml.Node, message: str) -> None:
        super().__init__(message)
        self.node = node
        self.message = message


class Json(NamedTuple):
    """Any JSON value but null, or one of `kinds` alone: `mapping`, `list`."""

    kinds: tuple[str, ...] = ()

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        if self.kinds and not isinstance(node, tuple(_KINDS[kind] for kind in self.kinds)):
            expected = f"expected a {' or a '.join(self.kinds)}"
            return reader.fault(mark_of(node, path), f"found {_shown(node)}, {expected}")
        try:
            value = _Values(path, reader).of(node)
        except Bad as bad:
            return reader.fault(mark_of(bad.node, path), bad.message)
        except RecursionError:
            return reader.fault(mark_of(node, path), "found a value that is nested too deeply, expected JSON")
        if value is None:
            return reader.fault(mark_of(node, path), "found nothing, expected JSON: leave the name out")
        return value

    def schema(self) -> dict[str, Any]:
        types = {"mapping": "object", "list": "array"}
        kinds = [types[kind] for kind in self.kinds] or ["object", "array", "string", "number", "boolean"]
        return {"type": kinds[0] if len(kinds) == 1 else kinds}


class _Values:
    """Reads one value, and counts how many it is made of."""

    def __init__(self, path: str, reader: Reader) -> None:
        self._path = path
        self._reader = reader
        self._left = MAX_NODES

    def of(self, node: yaml.Node) -> Any:
        """Return the JSON value of a node. Raises Bad."""
        self._left -= 1
        if self._left < 0:
            raise Bad(node, f"found more than {MAX_NODES} values, expected fewer")
        if isinstance(node, yaml.SequenceNode):
            return [self.of(item) for item in node.value]
        if isinstance(node, yaml.MappingNode):
            return {name: self.of(value) for name, _, value in pairs_of(node, self._path, self._reader)}
        return scalar(node)


def scalar(node: yaml.Node) -> Any:
    """Return the JSON value of one that has no parts. Raises Bad for what YAML takes for something that JSON has not,
    such as a date."""
    kind = node.tag.rpartition(":")[2]
    text: str = node.value
    if kind == "str":
        return text
    if kind in ("bool", "null") and text in _WORDS:
        return _WORDS[text]
    if kind in ("int", "float") and _NUMBER.fullmatch(text):
        number = int(text) if kind == "int" else float(text)
        if abs(number) < float("inf"):
            return number
    raise Bad(node, f"found {text!r}, which YAML takes for a {_TAKEN.get(kind, kind)}, expected JSON: put it in quotes")


_TAKEN = {"int": "number", "float": "number", "bool": "boolean", "timestamp": "date"}


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value)
    return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
