"""Documents of JSON and YAML as plain values, and references within one; nothing is fetched, and no cycle followed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

MAX_REFERENCES = 32
"""Of references that lead to references, and of nested schemas."""
MAX_DEPTH = 500
"""Of nested mappings and lists of YAML."""


class NoDocument(ValueError):
    """The text is neither JSON nor YAML; the message says where and why, without repeating it."""


def read(data: bytes) -> Any:
    """Read a document. Raises NoDocument."""
    text = data.decode("utf-8-sig", "replace")
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass  # YAML has flow mappings that are no JSON
    try:
        _require_shallow(text)
        return yaml.load(text, Loader=_loader())  # noqa: S506 - a safe loader
    except NoDocument:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "it"
        raise NoDocument(f"{where} is not YAML") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError):
        raise NoDocument("it is not YAML") from None


def _require_shallow(text: str) -> None:
    """Raise NoDocument for what is nested so deeply that libyaml's loader would overflow the stack of the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_loader()):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise NoDocument("it is nested too deeply")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _loader() -> type[yaml.SafeLoader]:
    """The safe loader, of libyaml where it is there, that leaves dates as texts and merges nothing: a few bytes of
    merge keys can stand for gigabytes."""
    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    kept = {
        first: [(tag, pattern) for tag, pattern in pairs if tag.rpartition(":")[2] not in ("timestamp", "merge")]
        for first, pairs in base.yaml_implicit_resolvers.items()
    }
    made: type[yaml.SafeLoader] = type("Loader", (base,), {"yaml_implicit_resolvers": kept})
    return made


class SpecDocument:
    """A document whose parts refer to each other by `$ref`."""

    def __init__(self, root: Any) -> None:
        self._root = root

    def mapping(self, node: Any) -> Mapping[str, Any]:
        """Follow all references of a node to a mapping; an empty one if it is no mapping, or lies elsewhere."""
        for _ in range(MAX_REFERENCES):
            if not isinstance(node, Mapping):
                return {}
            reference = node.get("$ref")
            if not isinstance(reference, str):
                return node
            node = self._at(reference)
        return {}

    def _at(self, reference: str) -> Any:
        if not reference.startswith("#/"):
            return None
        node = self._root
        for part in reference[2:].split("/"):
            name = part.replace("~1", "/").replace("~0", "~")
            node = node.get(name) if isinstance(node, Mapping) else None
        return node

    def mappings(self, node: Any) -> Iterator[Mapping[str, Any]]:
        """The members of a list that are mappings, behind all references."""
        if isinstance(node, list):
            yield from filter(None, map(self.mapping, node))


def texts(node: Any) -> tuple[str, ...]:
    """The texts of a list."""
    return tuple(text for text in node if isinstance(text, str)) if isinstance(node, list) else ()
