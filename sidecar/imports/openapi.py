"""OpenAPI 3.0 and 3.1, and Swagger 2.0: the operations of a spec, with what its schemas tell of ids and answers.

Examples, defaults and descriptions are not read: a value may stand there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from sidecar.gate.routing import Pattern, Rest, Segment, Variable
from sidecar.imports.documents import MAX_REFERENCES, SpecDocument, texts
from sidecar.imports.sighting import Location, Sighting, SpecOperation

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "query")
_VARIABLE = re.compile(r"\{([^{}]*)\}")
_LISTS = ("items", "data", "results", "value", "content", "records", "entries", "rows", "hits", "_embedded")
"""Names under which an answer has its list, as most frameworks call it."""
_MAX_ATTRIBUTES = 64


def sightings(root: Mapping[str, Any], file: str) -> Iterator[Sighting]:
    """Every operation of a spec, in its order."""
    document = SpecDocument(root)
    prefix = _prefix(root)
    is_open = _is_open(root.get("security"))
    paths = root.get("paths")
    for path, node in paths.items() if isinstance(paths, Mapping) else ():
        if not isinstance(path, str) or not path.startswith("/"):
            continue
        item = document.mapping(node)
        for method in METHODS:
            operation = item.get(method)
            if isinstance(operation, Mapping):
                yield _sighting(document, method, path, item, operation, (prefix, is_open, file))


def _sighting(
    document: SpecDocument, method: str, path: str, item: Mapping[str, Any], operation: Mapping[str, Any],
    of_file: tuple[tuple[str, ...], bool, str],
) -> Sighting:  # fmt: skip
    prefix, is_open, file = of_file
    parameters = [*document.mappings(item.get("parameters")), *document.mappings(operation.get("parameters"))]
    types = {_plain(one["name"]): _type(document, one) for one in parameters if _is(one, "path")}
    query = tuple(dict.fromkeys(one["name"] for one in parameters if _is(one, "query")))
    shape = _answer(document, operation)
    name = operation.get("operationId")
    told = SpecOperation(
        name if isinstance(name, str) else "", texts(operation.get("tags")), shape.names, shape.is_list,
        _is_open(operation["security"]) if "security" in operation else is_open, prefix, types,
    )  # fmt: skip
    segments = tuple(_segment(text, types) for text in path[1:].split("/"))
    return Sighting(method.upper(), segments, Location(file, f"paths.{path}.{method}"), query, None, False, told)


def _is(parameter: Mapping[str, Any], place: str) -> bool:
    return parameter.get("in") == place and isinstance(parameter.get("name"), str)


def _is_open(security: Any) -> bool:
    """Return whether a `security` lets everybody in: an empty list, or one with an empty member."""
    return isinstance(security, list) and (not security or {} in security)


def _prefix(root: Mapping[str, Any]) -> tuple[str, ...]:
    """The path of the first server, of which clients send what follows; FastAPI has its `root_path` there."""
    base = root.get("basePath")  # of Swagger 2.0
    servers = root.get("servers")
    if isinstance(servers, list) and servers and isinstance(servers[0], Mapping):
        base = servers[0].get("url")
    if not isinstance(base, str):
        return ()
    try:
        path = urlsplit(base).path if "{" not in base else re.sub(r"^(?:https?:)?//[^/]*", "", base)
    except ValueError:
        return ()
    parts = tuple(unquote(part) for part in path.split("/") if part)
    return () if any("{" in part for part in parts) else parts


def _plain(name: str) -> str:
    """The name of a variable as a route may have it."""
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_") or "value"
    return plain if not plain[0].isdigit() else f"_{plain}"


def _segment(text: str, types: Mapping[str, str]) -> Segment:
    """A segment of a spec's path. `{x+}` and `{x:path}` take the rest; of two variables in one segment one is made."""
    found = _VARIABLE.findall(text)
    if not found:
        return unquote(text)
    if len(found) > 1:
        return Variable(_plain("_".join(found)), Pattern.ANY)
    before, _, after = text.partition(f"{{{found[0]}}}")
    name, _, converter = found[0].partition(":")
    if (converter == "path" or name.endswith("+")) and not before and not after:
        return Rest()
    name = _plain(name)
    return Variable(name, _PATTERNS.get(types.get(name, ""), Pattern.DEFAULT), before, after)


_PATTERNS = {"integer": Pattern.INT, "uuid": Pattern.UUID, "text": Pattern.ANY}


def _type(document: SpecDocument, parameter: Mapping[str, Any]) -> str:
    """`integer`, `uuid`, or another type that the schema names."""
    schema = document.mapping(parameter.get("schema")) or parameter  # Swagger 2.0 has no schema here
    kinds = schema.get("type")
    kind = next(iter(texts(kinds)), "") if isinstance(kinds, list) else kinds
    if schema.get("format") == "uuid":
        return "uuid"
    return kind if isinstance(kind, str) else ""


class _Shape(NamedTuple):
    names: tuple[str, ...]
    is_list: bool


def _answer(document: SpecDocument, operation: Mapping[str, Any]) -> _Shape:
    """The names in the answer of an operation that went well, those of an item where it is a list."""
    # YAML has numbers here
    responses = {str(status): one for status, one in document.mapping(operation.get("responses")).items()}
    for status in ("200", "201", "2XX"):
        response = document.mapping(responses.get(status))
        content = document.mapping(response.get("content"))
        media = next((document.mapping(content[kind]) for kind in content if "json" in str(kind)), None)
        schema = response.get("schema") if media is None else media.get("schema")
        if schema is not None:
            return _shape(document, schema)
    return _Shape((), False)


def _shape(document: SpecDocument, schema: Any) -> _Shape:
    properties, items = _properties(document, schema, 0)
    if items is not None:
        return _Shape(tuple(_properties(document, items, 0)[0]), True)
    for name in _LISTS:
        inner = _properties(document, properties.get(name), 0)[1]
        if inner is not None:
            return _Shape(tuple(_properties(document, inner, 0)[0]), True)
    return _Shape(tuple(properties), False)


def _properties(document: SpecDocument, schema: Any, depth: int) -> tuple[dict[str, Any], Any]:
    """-> (the properties of an object by name, the schema of the items of a list, None if it is no list)."""
    node = document.mapping(schema)
    items = node.get("items") if node.get("type") == "array" or "items" in node else None
    own = node.get("properties")
    found = {name: one for name, one in own.items() if isinstance(name, str)} if isinstance(own, Mapping) else {}
    if depth < MAX_REFERENCES and len(found) < _MAX_ATTRIBUTES:
        for word in ("allOf", "oneOf", "anyOf"):
            for part in document.mappings(node.get(word)):
                more, inner = _properties(document, part, depth + 8)
                found = {**more, **found}
                items = inner if items is None else items
    return dict(list(found.items())[:_MAX_ATTRIBUTES]), items
