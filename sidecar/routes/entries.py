"""`routes` of `routes.yaml` -> routes of the gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sidecar.gate.lookup import Lookup
from sidecar.gate.references import Reference, Source, Template
from sidecar.gate.request import Oddity
from sidecar.gate.routing import (
    METHODS,
    SAFE_METHODS,
    WEBSOCKET,
    Access,
    Cors,
    Rest,
    Route,
    Segment,
    Variable,
    parse_path,
)
from sidecar.shapes import Entry, Mark, Reader


def read_entries(entries: list[Entry], lookups: Mapping[str, Lookup], max_body: int, reader: Reader) -> list[Route]:
    """The routes of the list `routes`. `max_body`: bytes, of a route that says none. Faults are noted with `reader`."""
    routes: list[Route] = []
    lines: dict[tuple[object, ...], Entry] = {}
    for entry in entries:
        segments = _segments(entry, reader)
        if segments is None:
            continue
        key = tuple(part.pattern if isinstance(part, Variable) else part for part in map(_comparable, segments))
        if key in lines:
            reader.fault(
                entry.at("path"), f"names the same paths as {lines[key]['path']!r} in line {lines[key].mark.line}"
            )
        lines.setdefault(key, entry)
        routes.append(_route(entry, segments, lookups, max_body, reader))
    return routes


def _comparable(segment: Segment) -> object:
    return (segment,) if isinstance(segment, str) else segment


def _segments(entry: Entry, reader: Reader) -> tuple[Segment, ...] | None:
    if not entry["path"]:
        return None
    try:
        return parse_path(entry["path"])
    except ValueError as error:
        reader.fault(entry.at("path"), str(error))
        return None


def _route(
    entry: Entry, segments: tuple[Segment, ...], lookups: Mapping[str, Lookup], max_body: int, reader: Reader
) -> Route:
    access = Access(entry["access"]) if entry["access"] else Access.POLICY
    actions = _policy_actions(entry, reader) if access is Access.POLICY else _open_methods(entry, reader)
    if access is Access.PUBLIC:
        _check_public(entry, segments, actions, reader)
    route = Route(
        entry["path"], segments, access, actions, entry["resource"], entry["id"], entry["attributes"],
        entry["lookup"], frozenset(map(Oddity, entry["allow"])), _cors(entry, actions, reader),
        entry["max_body"] or max_body, entry["recheck"], entry["scope"],
    )  # fmt: skip
    _check_references(entry, route, lookups, reader)
    if route.recheck and WEBSOCKET not in actions:
        reader.fault(entry.at("recheck"), "found it on a route without the action WS, expected it for WebSockets only")
    return route


def _policy_actions(entry: Entry, reader: Reader) -> dict[str, str]:
    if entry.has("methods"):
        reader.fault(entry.at("methods"), "found it beside a policy, expected `actions`")
    for name in ("resource", "actions"):
        if not entry[name]:
            reader.fault(entry.at(name), f"found no {name!r}, expected `resource` and `actions`, or `access`")
    actions = dict(entry["actions"])
    _check_methods(entry.at("actions"), actions, reader)
    if "HEAD" in actions and actions["HEAD"] != actions.get("GET"):
        reader.fault(entry.at("actions"), "found another action for HEAD, expected that of GET: HEAD is decided as GET")
    return actions


def _open_methods(entry: Entry, reader: Reader) -> dict[str, str]:
    for name in ("resource", "id", "attributes", "lookup", "scope", "actions", "max_body"):
        if entry.has(name):
            reader.fault(entry.at(name), f"found it beside `access: {entry['access']}`, which asks no policy")
    methods = entry["methods"] or ["GET"]
    _check_methods(entry.at("methods"), methods, reader)
    return dict.fromkeys(methods, "")


def _check_methods(mark: Mark, methods: Any, reader: Reader) -> None:
    for method in methods:
        if method not in METHODS and method != WEBSOCKET:
            reader.fault(
                mark, f"found the method {method!r}, expected one of {', '.join(sorted(METHODS))} or {WEBSOCKET}"
            )


def _check_public(entry: Entry, segments: tuple[Segment, ...], methods: Any, reader: Reader) -> None:
    wild = any(isinstance(segment, Rest) for segment in segments)
    unsafe = sorted(set(methods) - SAFE_METHODS)
    if wild and unsafe:
        reader.fault(entry.at("methods"), f"found {unsafe[0]} on a public wildcard, expected GET, HEAD or OPTIONS only")
    if wild and len(segments) == 1:
        reader.fault(entry.at("path"), "found everything made public, expected a path below which it is")


def _cors(entry: Entry, actions: Mapping[str, str], reader: Reader) -> Cors | None:
    cors = entry["cors"]
    if cors is None:
        return None
    methods = cors["methods"] if cors["methods"] is not None else [m for m in actions if m != WEBSOCKET]
    unmapped = [method for method in methods if method not in actions and method != "HEAD"]
    if unmapped:
        reader.fault(cors.at("methods"), f"found {unmapped[0]!r}, expected methods that the route has")
    return Cors(
        frozenset(cors["origins"]), tuple(methods), tuple(cors["headers"]), cors["credentials"], int(cors["max_age"])
    )  # fmt: skip


def _check_references(entry: Entry, route: Route, lookups: Mapping[str, Lookup], reader: Reader) -> None:
    names = {segment.name for segment in route.segments if isinstance(segment, Variable)}
    for field, template in (("id", route.id), *(("attributes", value) for value in route.attributes.values())):
        if isinstance(template, Template):
            for reference in template.references:
                _check_reference(entry, field, reference, names, reader)
    for reference in route.scope.references if isinstance(route.scope, Template) else ():
        if reference.source not in (Source.CLAIMS, Source.PRINCIPAL):
            # who sends a request must not choose the policy that decides on it
            reader.fault(entry.at("scope"), f"found {{{reference}}}, expected {{claims.…}} or {{principal.…}}")
    if not route.lookup:
        return
    lookup = lookups.get(route.lookup)
    if lookup is None:
        reader.fault(
            entry.at("lookup"), f"found {route.lookup!r}, expected one of `lookups`: {', '.join(lookups) or 'none'}"
        )
        return
    for part in lookup.target:
        if isinstance(part, Reference):
            _check_reference(entry, "lookup", part, names, reader)


def _check_reference(entry: Entry, field: str, reference: Reference, names: set[str], reader: Reader) -> None:
    if reference.source is Source.PATH and reference.name not in names:
        known = ", ".join(sorted(names)) or "none"
        reader.fault(entry.at(field), f"found {{{reference}}}, expected a variable of the path: {known}")
    if reference.source is Source.BODY and not set(entry["actions"]) - {"GET", "HEAD", "DELETE", "OPTIONS", WEBSOCKET}:
        reader.fault(entry.at(field), f"found {{{reference}}} on a route whose methods have no body")
