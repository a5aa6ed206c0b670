"""YAML as Cerbos reads it, with places: messages whose fields have two spellings, merge keys, and texts in texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import yaml

from sidecar.config.yaml_text import NoYaml, compose


class Place(NamedTuple):
    """A place in a file, 1-based."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


class Scalar(NamedTuple):
    """A text of a file: where it begins, its value, how it is written, and whether it stands without quotes."""

    start: Place
    value: str
    written: str
    plain: bool = True

    @property
    def json_type(self) -> str:
        """`number`, `bool`, `string`, or "" for null."""
        if self.plain and self.value in ("", "~", "null"):
            return ""
        if self.plain and self.value in ("true", "false"):
            return "bool"
        return "number" if self.plain and _NUMBER.fullmatch(self.value) else "string"

    def place(self, at: int, end: int) -> Place:
        """Where `value[at:end]` is written; where all of it begins if that cannot be told."""
        piece = self.value[at:end]
        found = -1
        for _ in range(self.value.count(piece, 0, at) + 1 if piece else 0):
            found = self.written.find(piece, found + 1)
            if found < 0:
                return self.start
        before = self.written[: max(found, 0)]
        lines = before.count("\n")
        column = len(before) - before.rfind("\n") if lines else self.start.column + len(before)
        return Place(self.start.file, self.start.line + lines, column)


class NothingInIt(NoYaml):
    """A file without anything but blanks and comments, be it below `---`, which Cerbos passes over."""


class YamlDocument:
    """One YAML file. Raises NoYaml if it is not YAML, OSError if it cannot be read."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        try:
            self._text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            before = error.object[: error.start].decode("utf-8-sig")
            said = f"found the byte 0x{error.object[error.start]:02X}, expected UTF-8"
            raise NoYaml(said, before.count("\n") + 1, len(before) - before.rfind("\n")) from None
        root = compose(_without_tabs(self._text) if self._text.lstrip().startswith("{") else self._text)
        if root is None or (isinstance(root, yaml.ScalarNode) and root.start_mark.index == root.end_mark.index):
            raise NothingInIt("found nothing in it, expected a mapping")
        if not isinstance(root, yaml.MappingNode):
            raise NoYaml("found no mapping")
        self.root = root

    def place(self, node: yaml.Node) -> Place:
        """Where a node begins."""
        return Place(self.name, node.start_mark.line + 1, node.start_mark.column + 1)

    def scalar(self, node: yaml.Node | None) -> Scalar | None:
        """The text of a node; None for another node."""
        if not isinstance(node, yaml.ScalarNode):
            return None
        written = self._text[node.start_mark.index : node.end_mark.index]
        return Scalar(self.place(node), node.value, written, node.style not in ("'", '"'))

    def texts(self, node: yaml.Node | None) -> tuple[str, ...]:
        """The texts of a list."""
        return tuple(item.value for item in items(node) if isinstance(item, yaml.ScalarNode))


_QUOTED_OR_TAB = re.compile(r'"(?:[^"\\]|\\.)*"|\t', re.DOTALL)


def _without_tabs(text: str) -> str:
    """Return JSON with blanks for the tabs between its values: the parser of YAML takes no tab there."""
    return _QUOTED_OR_TAB.sub(lambda match: " " if match[0] == "\t" else match[0], text) if "\t" in text else text


def items(node: yaml.Node | None) -> list[yaml.Node]:
    """The items of a list; none of another node."""
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def entries(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """Name -> value of a mapping, with what its merge keys bring in; nothing of another node. What is merged twice, or
    into itself, is looked at once."""
    found: dict[str, yaml.Node] = {}
    for each in reversed(_with_merged(node)):
        own = ((key, value) for key, value in each.value if not _merges(key))
        found |= {key.value: value for key, value in own if isinstance(key, yaml.ScalarNode)}
    return found


def _with_merged(node: yaml.Node | None) -> list[yaml.MappingNode]:
    """A mapping and those that it merges, each before what it goes before."""
    found: dict[int, yaml.MappingNode] = {}
    ahead = [node]
    while ahead:
        each = ahead.pop()
        if isinstance(each, yaml.MappingNode) and id(each) not in found:
            found[id(each)] = each
            ahead += reversed([*_merged(each)])
    return [*found.values()]


def _merges(key: yaml.Node) -> bool:
    return bool(key.tag == "tag:yaml.org,2002:merge")


def _merged(node: yaml.MappingNode) -> Iterator[yaml.Node]:
    for key, value in node.value:
        if _merges(key):
            yield from items(value) if isinstance(value, yaml.SequenceNode) else (value,)


def holding_itself(root: yaml.Node) -> yaml.Node | None:
    """Return a part of a document in which an alias stands for all of it, None where there is none."""
    around, done = {id(root)}, set[int]()
    path = [(root, _parts(root))]
    while path:
        node, parts = path[-1]
        part = next(parts, None)
        if part is None:
            path.pop()
            around.remove(id(node))
            done.add(id(node))
        elif id(part) in around:
            return part
        elif id(part) not in done:
            around.add(id(part))
            path.append((part, _parts(part)))
    return None


def _parts(node: yaml.Node) -> Iterator[yaml.Node]:
    return chain.from_iterable(node.value) if isinstance(node, yaml.MappingNode) else iter(items(node))


def fields(node: yaml.Node | None) -> dict[str, yaml.Node]:
    """As `entries`, for a message: `importDerivedRoles` may be written `import_derived_roles` (protobuf.dev, "ProtoJSON
    Format")."""
    return {re.sub(r"_([a-z])", lambda match: match[1].upper(), name): value for name, value in entries(node).items()}
