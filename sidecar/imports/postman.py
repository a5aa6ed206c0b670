"""Postman collections (2.0, 2.1): method and URL of each request; names, examples, scripts and bodies are not read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from sidecar.gate.routing import Pattern, Segment, Variable
from sidecar.imports.sighting import Broken, Location, Notes, Sighting, is_name
from sidecar.imports.targets import Skipped, query_names, read_method, read_path

EXPECTED = '{"request": {"method": …, "url": …}}'
MAX_DEPTH = 64
_ORIGIN = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?[^/?#]*")
_VARIABLE = re.compile(r":([A-Za-z_]\w*)|\{\{([A-Za-z_][\w.-]*)\}\}", re.ASCII)
_MARK = "~sidecar~"


def sightings(root: Mapping[str, Any], file: str, notes: Notes) -> Iterator[Sighting]:
    """Every request of a collection, in its order; what cannot be read is noted."""
    for path, item in _requests(root.get("item"), "item", 0):
        place = Location(file, path)
        try:
            yield _sighting(item.get("request"), place)
        except Broken as fault:
            notes.note_broken(place, fault)
        except Skipped as reason:
            notes.note_skipped(place, str(reason))


def _requests(items: Any, path: str, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(items, list) or depth > MAX_DEPTH:
        return
    for at, item in enumerate(items):
        if isinstance(item, Mapping):
            here = f"{path}[{at}]"
            if "request" in item:
                yield here, item
            yield from _requests(item.get("item"), f"{here}.item", depth + 1)


def _sighting(request: Any, place: Location) -> Sighting:
    if isinstance(request, str):
        request = {"method": "GET", "url": request}
    if not isinstance(request, Mapping) or not isinstance(request.get("method", "GET"), str):
        raise Broken("no `request` with a method", EXPECTED)
    path, query = _path(request.get("url"))
    segments, names = _segments(path)
    method = read_method(request.get("method", "GET").encode("latin-1", "replace"))
    return Sighting(method, segments, place, tuple(dict.fromkeys([*names, *query])))


def _path(url: Any) -> tuple[str, tuple[str, ...]]:
    """-> (the path with Postman's variables in it, the names of the query)."""
    query: tuple[str, ...] = ()
    if isinstance(url, Mapping):
        parts = url.get("query")
        pairs = [pair for pair in parts if isinstance(pair, Mapping)] if isinstance(parts, list) else []
        query = tuple(pair["key"] for pair in pairs if isinstance(pair.get("key"), str) and is_name(pair["key"]))
        path = url.get("path")
        if isinstance(path, list) and all(isinstance(part, str) for part in path):
            return "/" + "/".join(path), query
        url = f"{{{{origin}}}}/{path.lstrip('/')}" if isinstance(path, str) else url.get("raw")
    if not isinstance(url, str):
        raise Broken("no `url`", EXPECTED)
    rest = url[_ORIGIN.match(url).end() :]  # type: ignore[union-attr]
    path, _, raw = rest.partition("#")[0].partition("?")
    return path or "/", (*query, *query_names(raw.encode("utf-8", "surrogatepass")))


def _segments(path: str) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
    """The segments of a path, in which `:id` and `{{id}}` are variables. The others are read as those of a log."""
    parts = path.split("/")
    found = {at: _VARIABLE.fullmatch(part) for at, part in enumerate(parts)}
    quoted = [_MARK if found[at] else quote(part, safe="%!$&'()*+,=:@;-._~") for at, part in enumerate(parts)]
    segments, names = read_path("/".join(quoted).encode("ascii"))
    return tuple(_variable(found[at + 1], segment) for at, segment in enumerate(segments)), names


def _variable(found: re.Match[str] | None, segment: str) -> Segment:
    if found is None:
        return segment
    return Variable(re.sub(r"\W", "_", found[1] or found[2], flags=re.ASCII), Pattern.DEFAULT)
