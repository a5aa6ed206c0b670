"""`routes` of `routes.yaml` -> routes of the gate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.config.routes.answers import answer_faults, answer_lookup_rule, answer_rule, push_of
from sidecar.config.routes.graphql import graphql_asks
from sidecar.config.routes.hints import hint
from sidecar.config.routes.mcp import mcp_asks, serverless_faults
from sidecar.config.routes.methods import Method, ask_of_method, check_methods
from sidecar.config.routes.modes import mode_of
from sidecar.config.routes.protected import check_agreement, protected_of
from sidecar.config.routes.to_app import to_app_of, without_token
from sidecar.config.routes.upstreams import hosts_of, upstream_of
from sidecar.config.shapes import Entry, Mark, Reader
from sidecar.config.suggest import did_you_mean
from sidecar.gate.ask import Ask, asks
from sidecar.gate.lookup import Lookup
from sidecar.gate.mode import RouteMode
from sidecar.gate.protected import Protected
from sidecar.gate.routing import (
    WEBSOCKET,
    Access,
    Cors,
    Rest,
    Route,
    Segment,
    Variable,
    parse_path,
    route_name,
)
from sidecar.gate.target import Oddity
from sidecar.gate.to_app import ToApp
from sidecar.gate.verdict import Destination
from sidecar.wire.grammar import EXTENSION_METHODS, METHODS, SAFE_METHODS, is_method


def read_entries(
    entries: list[Entry], lookups: Mapping[str, Lookup], upstreams: Mapping[str, Destination], max_body: int,
    to_app: ToApp | None, reader: Reader,
) -> list[tuple[Route, Entry]]:  # fmt: skip
    """The routes of the list `routes`, drafts among them, each with its entry; without those whose path could not be
    read. `max_body`, in bytes, and `to_app` are of a route that says none. Faults are noted with `reader`."""
    made: list[tuple[Route, Entry]] = []
    lines: dict[tuple[object, ...], Entry] = {}
    resources: list[tuple[Protected | None, Entry]] = []
    for entry in entries:
        segments = _segments(entry, reader)
        if segments is None:
            continue
        hosts = hosts_of(entry, reader)
        if hosts or not entry.has("hosts"):
            _check_alone(entry, segments, hosts, lines, reader)
        route = _route(entry, segments, lookups, max_body, reader)
        resources.append((protected_of(entry, reader), entry))
        route = route._replace(
            name=route_name(hosts, route.name), hosts=hosts, upstream=upstream_of(entry, upstreams, reader),
            to_app=_to_app(entry, to_app, route.access, reader), protected=resources[-1][0],
        )  # fmt: skip
        made.append((route, entry))
    check_agreement(resources, reader)
    return made


def _check_alone(
    entry: Entry, segments: tuple[Segment, ...], hosts: tuple[str, ...], lines: dict[tuple[object, ...], Entry],
    reader: Reader,
) -> None:  # fmt: skip
    """See that no other route names the same paths at one of the hosts."""
    for host in hosts or ("",):
        key = (host, *map(_comparable, segments))
        if key in lines:
            at, other = f" at {host}" if host else "", lines[key]
            reader.fault(
                entry.at("path"), f"names the same paths{at} as {other['path']!r} in line {other.mark.line}"
            )  # fmt: skip
            break
        lines[key] = entry


def _to_app(entry: Entry, default: ToApp | None, access: Access, reader: Reader) -> ToApp | None:
    own = entry["to_app"]
    if own is not None and own["headers"] and access is Access.PUBLIC:
        reader.fault(own.at("headers"), "found them on a public route, expected them where somebody is known")
    told = to_app_of(own, default, reader)
    return told if entry["mcp"] is None else without_token(told, own)


def _comparable(segment: Segment) -> object:
    """A segment as another one that takes the same texts is."""
    return segment._replace(name="") if isinstance(segment, Variable) else segment


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
    mode = mode_of(entry["mode"])
    mcp = entry["mcp"]
    if mcp is not None and mcp["server"]:
        made = mcp_asks(entry, mcp, segments, lookups, max_body, mode, reader)
    elif entry["graphql"] is not None and access is Access.POLICY:
        made = graphql_asks(entry, entry["graphql"], segments, lookups, max_body, mode, reader)
    else:
        for mark, message in serverless_faults(mcp) if mcp is not None else ():
            reader.fault(mark, message)
        made = _asks_of_methods(entry, access, segments, lookups, max_body, mode, reader)
    if entry["recheck"] and WEBSOCKET not in made:
        reader.fault(entry.at("recheck"), "found it on a route without the action WS, expected it for WebSockets only")
    return Route(
        entry["path"], segments, access, asks(made), frozenset(map(Oddity, entry["allow"])),
        _cors(entry, made, reader), entry["recheck"], app_preflight=entry["cors"] == "app", mode=mode,
        binds_sessions=mcp is not None and mcp["sessions"] == "bound",
    )  # fmt: skip


def _asks_of_methods(
    entry: Entry, access: Access, segments: tuple[Segment, ...], lookups: Mapping[str, Lookup], max_body: int,
    mode: RouteMode | None, reader: Reader,
) -> dict[str, Ask]:  # fmt: skip
    actions = _policy_actions(entry, reader) if access is Access.POLICY else _open_methods(entry, reader)
    if access is Access.PUBLIC:
        _check_public(entry, segments, actions, reader)
    methods = [Method(name, entry, own, segments, lookups) for name, (_, own) in actions.items()]
    check_methods(methods, access is Access.PUBLIC, reader, answer_faults)
    hint(methods, reader)
    return {
        method.name: ask_of_method(
            method, actions[method.name][0], max_body, answer_rule(method), push_of(method), answer_lookup_rule(method),
            mode_of(method.own["mode"]) if method.says("mode") is method.own else mode,
        )
        for method in methods
    }  # fmt: skip


_Actions = dict[str, tuple[str, Entry | None]]
"""Method -> its action, and the entry that says it."""


def _policy_actions(entry: Entry, reader: Reader) -> _Actions:
    if entry.has("methods"):
        reader.fault(entry.at("methods"), "found it beside a policy, expected `actions`")
    actions: dict[str, Entry] = entry["actions"]
    named = bool(actions) and all(own.has("resource") for own in actions.values())
    for name in ("resource", "actions"):
        if not entry[name] and not (name == "resource" and named):
            reader.fault(entry.at(name), f"found no {name!r}, expected `resource` and `actions`, or `access`")
    _check_methods(entry.at("actions"), actions, reader)
    _check_head(actions, reader)
    return {method: (own["action"], own) for method, own in actions.items()}


def _check_head(actions: Mapping[str, Entry], reader: Reader) -> None:
    head, get = actions.get("HEAD"), actions.get("GET")
    if head is not None and (get is None or head["action"] != get["action"] or head.marks.keys() - {"action"}):
        reader.fault(head.mark, "found another action for HEAD, expected that of GET: HEAD is decided as GET")


def _open_methods(entry: Entry, reader: Reader) -> _Actions:
    for name in (
        "resource",
        "id",
        "attributes",
        "lookup",
        "scope",
        "each",
        "actions",
        "max_body",
        "items",
        "fields",
        "graphql",
    ):
        if entry.has(name):
            reader.fault(entry.at(name), f"found it beside `access: {entry['access']}`, which asks no policy")
    methods = entry["methods"] or ["GET"]
    _check_methods(entry.at("methods"), methods, reader)
    return dict.fromkeys(methods, ("", None))


def _check_methods(mark: Mark, methods: Any, reader: Reader) -> None:
    for method in methods:
        if method == WEBSOCKET or method in METHODS or method in EXTENSION_METHODS:
            continue
        known = f"one of {', '.join(sorted(METHODS))} or {WEBSOCKET}"
        if not is_method(method):
            reader.fault(
                mark, f"found the method {method!r}, expected {known}, or another that is no tunnel and no echo"
            )
            continue
        meant = did_you_mean(method, [*METHODS, *EXTENSION_METHODS])
        reader.warn(
            mark, f"found the method {method!r}, which is not registered, expected {known} in most cases{meant}"
        )


def _check_public(entry: Entry, segments: tuple[Segment, ...], methods: Any, reader: Reader) -> None:
    wild = any(isinstance(segment, Rest) for segment in segments)
    unsafe = sorted(set(methods) - SAFE_METHODS)
    if wild and unsafe:
        reader.fault(entry.at("methods"), f"found {unsafe[0]} on a public wildcard, expected GET, HEAD or OPTIONS only")
    if wild and len(segments) == 1:
        reader.fault(entry.at("path"), "found everything made public, expected a path below which it is")


def _cors(entry: Entry, actions: Iterable[str], reader: Reader) -> Cors | None:
    cors = entry["cors"]
    if cors is None or cors == "app":
        return None
    methods = cors["methods"] if cors["methods"] is not None else [m for m in actions if m != WEBSOCKET]
    unmapped = [method for method in methods if method not in actions and method != "HEAD"]
    if unmapped:
        reader.fault(cors.at("methods"), f"found {unmapped[0]!r}, expected methods that the route has")
    return Cors(
        frozenset(cors["origins"]), tuple(methods), tuple(cors["headers"]), cors["credentials"], int(cors["max_age"])
    )  # fmt: skip
