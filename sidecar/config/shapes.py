"""Shapes of a YAML document: each reads a node into a value, notes every fault with its line, and gives its schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import yaml

from sidecar.config.suggest import closest, did_you_mean
from sidecar.config.yaml_text import NoYaml, compose


class Problem(NamedTuple):
    """One fault of a file: where (1-based), and what was found and expected there. `path` are the names that lead to
    what it is about, where it has some: to a name that is unknown, missing or there twice, too."""

    file: str
    line: int
    column: int
    message: str
    path: str = ""

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


class Mark(NamedTuple):
    """A place in the document, 1-based, with the path of names that leads to it."""

    line: int
    column: int
    path: str


class Reader:
    """Collects the problems of one file while its shapes are read."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def fault(self, mark: Mark, message: str, name: str = "") -> None:
        """Note a fault at a place, or of the `name` there; reading goes on, so that all faults are reported at once."""
        problem = self._problem(mark, message)
        # one that has our own signs in it would lead elsewhere
        named = bool(re.fullmatch(r"[^.\[\]]+", name))
        self.problems.append(problem._replace(path=f"{mark.path}.{name}".lstrip(".")) if named else problem)

    def warn(self, mark: Mark, message: str) -> None:
        """Note what works as it is written, and lets more through than its author is likely to mean."""
        self.warnings.append(self._problem(mark, message))

    def _problem(self, mark: Mark, message: str) -> Problem:
        place = f"{mark.path}: " if mark.path else ""
        return Problem(self.file, mark.line, mark.column, place + message, mark.path)


class Shape(Protocol):
    """Form that a node must have. `read` returns None after a fault that it noted."""

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any: ...

    def schema(self) -> dict[str, Any]: ...


def mark_of(node: yaml.Node, path: str) -> Mark:
    """The place of a node."""
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1, path)


_TYPES = {"int": "integer", "float": "number", "bool": "boolean"}
_TAGS = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false", "null": "nothing"}


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return f"{_TAGS.get(node.tag.rpartition(':')[2], node.tag)} {node.value!r}"


class Text(NamedTuple):
    """A string; `parse` makes the value of it and raises ValueError with what was found and expected."""

    parse: Callable[[str], Any] = str
    pattern: str | None = None
    what: str = "text"
    extra_tags: tuple[str, ...] = ()

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        tags = {f"tag:yaml.org,2002:{tag}" for tag in ("str", *self.extra_tags)}
        if not isinstance(node, yaml.ScalarNode) or node.tag not in tags:
            return reader.fault(mark_of(node, path), f"found {_kind(node)}, expected {self.what}")
        if self.pattern is not None and not re.fullmatch(self.pattern, node.value):
            return reader.fault(mark_of(node, path), f"found {node.value!r}, expected {self.what}")
        try:
            return self.parse(node.value)
        except ValueError as error:
            return reader.fault(mark_of(node, path), str(error))

    def schema(self) -> dict[str, Any]:
        pattern = {"pattern": f"^(?:{self.pattern})$"} if self.pattern else {}
        types = ["string", *(_TYPES[tag] for tag in self.extra_tags)]
        return {"type": types if self.extra_tags else "string", **pattern}


class Choice(NamedTuple):
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.value in self.words:
            return node.value
        return reader.fault(mark_of(node, path), f"found {_kind(node)}, expected {' or '.join(self.words)}")

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


class Whole(NamedTuple):
    """A whole number within bounds."""

    least: int
    most: int

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        if isinstance(node, yaml.ScalarNode) and re.fullmatch(r"\d{1,18}", node.value):
            number = int(node.value)
            if node.tag.endswith(":int") and self.least <= number <= self.most:
                return number
        wanted = str(self.least) if self.least == self.most else f"a whole number from {self.least} to {self.most}"
        return reader.fault(mark_of(node, path), f"found {_kind(node)}, expected {wanted}")

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


class Flag:
    """true or false."""

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":bool") and node.value in ("true", "false"):
            return node.value == "true"
        return reader.fault(mark_of(node, path), f"found {_kind(node)}, expected true or false")

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class ListOf(NamedTuple):
    """A list of one shape; with `single`, one item may stand without a list."""

    item: Shape
    least: int = 0
    single: bool = False

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        one = yaml.ScalarNode | yaml.MappingNode if isinstance(self.item, Short) else yaml.ScalarNode
        if self.single and isinstance(node, one):
            value = self.item.read(node, path, reader)
            return None if value is None else [value]
        if not isinstance(node, yaml.SequenceNode):
            return reader.fault(mark_of(node, path), f"found {_kind(node)}, expected a list")
        values = [self.item.read(item, f"{path}[{at}]", reader) for at, item in enumerate(node.value)]
        if len(values) < self.least:
            return reader.fault(mark_of(node, path), f"found {len(values)} items, expected at least {self.least}")
        return [value for value in values if value is not None]

    def schema(self) -> dict[str, Any]:
        schema = {"type": "array", "items": self.item.schema(), "minItems": self.least}
        return {"anyOf": [self.item.schema(), schema]} if self.single else schema


class WordOr(NamedTuple):
    """One word alone, or another shape, which is no text."""

    word: str
    other: Shape
    what: str = "a list"

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return self.other.read(node, path, reader)
        if node.value == self.word:
            return self.word
        return reader.fault(mark_of(node, path), f"found {_kind(node)}, expected {self.word} or {self.what}")

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [{"enum": [self.word]}, self.other.schema()]}


class TextOr(NamedTuple):
    """A text, or another shape, which is no text."""

    text: Text | Choice
    other: Shape

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        return (self.text if isinstance(node, yaml.ScalarNode) else self.other).read(node, path, reader)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.text.schema(), self.other.schema()]}


class ListOr(NamedTuple):
    """A list, of which one item may stand alone, or another shape, which is a mapping."""

    items: ListOf
    other: Shape

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        return (self.other if isinstance(node, yaml.MappingNode) else self.items).read(node, path, reader)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [*self.items.schema()["anyOf"], self.other.schema()]}


class TrueOr(NamedTuple):
    """`true` for a record with its defaults, `false` for none, or the record itself."""

    record: Record

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            return self.record.read(node, path, reader)
        if Flag().read(node, path, reader) is not True:
            return None
        values = {name: f.default for name, f in self.record.fields.items()}
        return Entry(values, {}, mark_of(node, path))

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [Flag().schema(), self.record.schema()]}


class MapOf(NamedTuple):
    """Free names, all with one shape of value. Values are kept with their marks in `Entry`."""

    value: Shape
    key: str
    what: str

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        found: dict[str, Any] = {}
        for name, key, value in pairs_of(node, path, reader):
            if not re.fullmatch(self.key, name):
                reader.fault(mark_of(key, path), f"found the name {name!r}, expected {self.what}", name)
                continue
            read = self.value.read(value, f"{path}.{name}".lstrip("."), reader)
            if read is not None:
                found[name] = read
        return found

    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "additionalProperties": False,
            "patternProperties": {f"^(?:{self.key})$": self.value.schema()},
        }


class Field(NamedTuple):
    """One name of a record: its shape, what it is for, and its value when it is left out."""

    shape: Shape
    doc: str
    default: Any = None
    required: bool = False


@dataclass
class Entry:
    """Values of a record by name, and where each stands."""

    values: dict[str, Any]
    marks: dict[str, Mark]
    mark: Mark

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def at(self, name: str) -> Mark:
        """Where `name` stands, or the record itself when it was left out."""
        return self.marks.get(name, self.mark)

    def has(self, name: str) -> bool:
        """Return whether the file itself gives `name`."""
        return name in self.marks


class Record(NamedTuple):
    """Fixed names; an unknown name is a fault that lists the known ones."""

    fields: Mapping[str, Field]
    doc: str = ""
    examples: tuple[Any, ...] = ()

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return reader.fault(mark_of(node, path), f"found {_kind(node)}, expected a mapping")
        entry = Entry({name: f.default for name, f in self.fields.items()}, {}, mark_of(node, path))
        unknown: list[tuple[str, Mark]] = []
        for name, key, value in pairs_of(node, path, reader):
            known = self.fields.get(name)
            if known is None:
                unknown.append((name, mark_of(key, path)))
                continue
            entry.marks[name] = mark_of(value, f"{path}.{name}".lstrip("."))
            read = known.shape.read(value, f"{path}.{name}".lstrip("."), reader)
            entry.values[name] = known.default if read is None else read
        missing = {name: known.doc for name, known in self.fields.items() if known.required and name not in entry.marks}
        for name, mark in unknown:
            said = f"found the name {name!r}, expected one of {', '.join(self.fields)}{did_you_mean(name, self.fields)}"
            # one that is misspelt is not told again as missing
            doc = missing.pop(closest(name, self.fields), None)
            reader.fault(mark, said if doc is None else f"{said} It is required: {doc}", name)
        for name, doc in missing.items():
            reader.fault(entry.mark, f"found no {name!r}, expected it: {doc}", name)
        return entry

    def schema(self) -> dict[str, Any]:
        required = [name for name, f in self.fields.items() if f.required]
        return {
            "type": "object",
            **({"description": self.doc} if self.doc else {}),
            "additionalProperties": False,
            **({"required": required} if required else {}),
            "properties": {name: {"description": f.doc, **f.shape.schema()} for name, f in self.fields.items()},
        }


class RecordAndMap(NamedTuple):
    """A record that has free names as well, which are those with a dot. The entry has them under `name`."""

    record: Record
    others: MapOf
    name: str

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        if not isinstance(node, yaml.MappingNode):
            return reader.fault(mark_of(node, path), f"found {_kind(node)}, expected a mapping")
        own: list[tuple[yaml.Node, yaml.Node]] = []
        free: list[tuple[yaml.Node, yaml.Node]] = []
        for name, key, value in pairs_of(node, path, reader):
            (free if "." in name else own).append((key, value))
        entry = self.record.read(_mapping_like(node, own), path, reader)
        entry.values[self.name] = self.others.read(_mapping_like(node, free), path, reader)
        return entry

    def schema(self) -> dict[str, Any]:
        return {**self.others.schema(), **self.record.schema()}


def _mapping_like(node: yaml.Node, pairs: list[tuple[yaml.Node, yaml.Node]]) -> yaml.MappingNode:
    return yaml.MappingNode(node.tag, pairs, node.start_mark, node.end_mark)


class Short(NamedTuple):
    """A record, or the value of its field `name` alone. Either way it reads as an `Entry`, with a fault as well: what
    names it is not called a fault, too."""

    record: Record
    name: str

    def read(self, node: yaml.Node, path: str, reader: Reader) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self.record.read(node, path, reader)
        value = self.record.fields[self.name].shape.read(node, path, reader)
        values = {name: f.default for name, f in self.record.fields.items()}
        if value is not None:
            values[self.name] = value
        mark = mark_of(node, path)
        return Entry(values, {self.name: mark}, mark)

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.record.fields[self.name].shape.schema(), self.record.schema()]}


def pairs_of(node: yaml.Node, path: str, reader: Reader) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """List the names of a mapping with their nodes and those of their values, what is merged into it included."""
    if not isinstance(node, yaml.MappingNode):
        reader.fault(mark_of(node, path), f"found {_kind(node)}, expected a mapping")
        return []
    pairs: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
    merged: list[yaml.Node] = []
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if name in pairs or (merged and key.tag == _MERGE):
            reader.fault(mark_of(key, path), f"found {name!r} twice, expected it once", name)
        elif key.tag == _MERGE:
            merged = _mappings(value, path, reader)
        else:
            pairs[name] = (name, key, value)
    for one in merged:
        for name, key, value in _merged_pairs(one, path, reader, {id(node)}):
            pairs.setdefault(name, (name, key, value))
    return list(pairs.values())


_MERGE = "tag:yaml.org,2002:merge"


def _mappings(node: yaml.Node, path: str, reader: Reader) -> list[yaml.Node]:
    """The mappings of a merge key (yaml.org/type/merge): one, or a list of which the first goes before the others."""
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for item in items:
        if not isinstance(item, yaml.MappingNode):
            reader.fault(mark_of(item, path), f"found {_kind(item)} at '<<', expected a mapping, as *anchor")
            return []
    return list(items)


def _merged_pairs(node: yaml.Node, path: str, reader: Reader, seen: set[int]) -> list[tuple[str, yaml.Node, yaml.Node]]:
    """The pairs of a mapping that is merged, those that it merges itself last; each mapping is looked at once."""
    if id(node) in seen:
        return []
    seen.add(id(node))
    own, rest = [], []
    for key, value in node.value:
        if key.tag == _MERGE:
            rest += _mappings(value, path, reader)
        else:
            own.append((key.value if isinstance(key, yaml.ScalarNode) else "", key, value))
    return [*own, *(pair for one in rest for pair in _merged_pairs(one, path, reader, seen))]


def read_document(
    text: str, file: str, shape: Shape, least: str = "`version: 1` and `routes`"
) -> tuple[Any, Reader]:  # fmt: skip
    """Read one YAML document by its shape: (value, the reader with all problems). Never raises for a bad text. `least`
    is what a person who has an empty file is told to write."""
    reader = Reader(file)
    try:
        node = compose(text)
        if node is not None:
            return shape.read(node, "", reader), reader
        reader.fault(Mark(1, 1, ""), f"found an empty file, expected at least {least}")
    except NoYaml as error:
        reader.fault(Mark(error.line, error.column, ""), f"not YAML: {error}")
    except RecursionError:
        reader.fault(Mark(1, 1, ""), "not YAML that can be read: nested too deeply")
    return None, reader
