"""Operations that specs name and requests that logs show, each held against the routes by the gate's own router."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from sidecar.adoption.logs import Logged
from sidecar.config.routes.file import RoutesFile
from sidecar.gate.ask import Ask
from sidecar.gate.hosts import entries_for
from sidecar.gate.routing import WEBSOCKET, Access, Pattern, Rest, Route, RouteTable, Segment, Variable
from sidecar.gate.target import read_target
from sidecar.gate.verdict import Refused
from sidecar.imports.sighting import Sighting, path_of
from sidecar.record.line import Decision, QuestionLine

MAX_DISTINCT = 5000
"""Distinct paths, roles or names of queries that are kept; clients make up as many as they like."""
NOT_THERE = frozenset((400, 404, 405, 410, 414, 501))
"""Statuses of an app that has no such operation."""
_UUID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
_SAMPLES = ("7", _UUID, "a-slug", "Some_text", "a text")
"""Texts for the variables of a spec's path: a route for one of them is a route for the operation."""
_NARROW = {Pattern.INT: "7", Pattern.UUID: _UUID, Pattern.SLUG: "a-slug"}
_SHAPES = (
    (re.compile(r"[0-9]+"), "{int}"),
    (re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"), "{uuid}"),
    # what is long, or has digits among its letters, is no word that a person chose for a path
    (re.compile(r".{25,}|(?=.*[0-9])(?!v[0-9]+$).{9,}|.*[^A-Za-z0-9._~+-].*", re.DOTALL), "{id}"),
)
_MAX_SHOWN = 8
"""Segments of a path without a route that are told."""


_Key = TypeVar("_Key")


class SightingCount(NamedTuple):
    """How often something was seen, and where first."""

    requests: int
    place: str


class AllowedRequest(NamedTuple):
    """A request that the policies allowed: what was asked, for which roles, and which policy decided."""

    kind: str
    action: str
    roles: tuple[str, ...]
    policy: str


class ObservedTraffic:
    """Operations that specs name, and requests of logs and recordings, which are traffic."""

    def __init__(self, routes: RoutesFile) -> None:
        self._table = routes.table
        self._drafts = RouteTable(routes.drafts)
        self.named: dict[tuple[str, str], SightingCount] = {}
        """(method, route) of a spec's operations."""
        self.hit: dict[tuple[str, str], SightingCount] = {}
        """(method, route) of requests."""
        self.unrouted: dict[tuple[str, str], SightingCount] = {}
        """(method, path) without a route, or of a route that is a draft or lacks the method. It has no ids."""
        self._unrouted_specs: dict[tuple[object, ...], Route] = {}
        self._of_specs: RouteTable | None = None
        self.not_there: SightingCount | None = None
        """Requests without a route that the app itself had no answer to."""
        self.roles: dict[str, SightingCount] = {}
        self.query_named: dict[tuple[str, str, str], SightingCount] = {}
        """(method, route, name of the query) of specs; `query_sent` those of requests."""
        self.query_sent: dict[tuple[str, str, str], SightingCount] = {}
        self.grants: dict[AllowedRequest, SightingCount] = {}
        self.specs = False
        self.traffic = False
        self.logs = False
        self.more = 0
        """Requests with one thing more than MAX_DISTINCT of its kind."""

    # --- specs, access logs and recordings ---

    def sighting(self, sighting: Sighting) -> None:
        """Take one operation of a spec, or one request."""
        is_named = sighting.operation is not None or sighting.status is None
        method = WEBSOCKET if sighting.websocket else sighting.method
        if is_named:
            self.specs = True
            self._named(method, sighting)
        else:
            self.traffic = True
            segments = tuple(map(str, sighting.segments))
            self._request(method, (segments, sighting.host), str(sighting.place), 1, sighting.status, sighting.query)

    def _named(self, method: str, sighting: Sighting) -> None:
        place = str(sighting.place)
        for segments in _samples(sighting.segments):
            found = self._find(method, segments, sighting.host)
            if found is not None:
                self._count(self.named, found, 1, place)
                for name in sighting.query:
                    self._count(self.query_named, (*found, name), 1, place)
                return
        samples = _samples(sighting.segments)
        drafts = (route for segments in samples for route in _routes_of(self._drafts, segments, sighting.host))
        draft = next(drafts, None)
        if draft is not None:
            self._count(self.unrouted, (method, draft.name), 0, place)
            return
        self._count(self.unrouted, (method, path_of(sighting.segments)), 0, place)
        key = tuple(each._replace(name="") if isinstance(each, Variable) else each for each in sighting.segments)
        asks = {} if key not in self._unrouted_specs else self._unrouted_specs[key].asks
        self._unrouted_specs[key] = Route(
            path_of(sighting.segments), sighting.segments, Access.POLICY, {**asks, method: Ask()}
        )
        self._of_specs = None

    # --- logs of the sidecar ---

    def line(self, logged: Logged) -> None:
        """Take one line of a decision or question log."""
        line = logged.line
        if not isinstance(line, Decision | QuestionLine):
            return
        self.traffic = self.logs = True
        place = logged.place
        weight = line.weight if isinstance(line, QuestionLine) else 1
        if line.principal:
            for role in line.roles:
                self._count(self.roles, role, weight, place)
        if line.code == "allowed" and line.policy:
            grant = AllowedRequest(line.kind, line.action, line.roles, line.policy)
            self._count(self.grants, grant, weight, place)
        try:
            segments = read_target(line.path.encode("utf-8"))[1]
        except Refused:
            return
        if isinstance(line, QuestionLine):
            status, query = line.app_status, line.query or ()
        else:
            status, query = (None if line.outcome == "refuse" else line.status), ()
        self._request(line.method, (segments, line.host), place, weight, status, query)

    # --- one request ---

    def _request(
        self, method: str, where: tuple[tuple[str, ...], str], place: str, weight: int, status: int | None,
        query: Sequence[str],
    ) -> None:  # fmt: skip
        segments, host = where
        found = self._find(method, segments, host)
        if found is not None:
            self._count(self.hit, found, weight, place)
            for name in query:
                self._count(self.query_sent, (*found, name), weight, place)
            return
        if self._of_specs is None:
            self._of_specs = RouteTable(self._unrouted_specs.values())
        operation = self._of_specs.find(segments)
        if operation is not None and method in operation.asks:
            self._count(self.unrouted, (method, operation.name), weight, place)
        elif status in NOT_THERE:
            seen = self.not_there
            self.not_there = (
                SightingCount(weight, place) if seen is None else seen._replace(requests=seen.requests + weight)
            )
        elif not self._is_preflight(method, segments, host):
            routes = (route for table in (self._table, self._drafts) for route in _routes_of(table, segments, host))
            route = next(routes, None)
            self._count(self.unrouted, (method, route.name if route is not None else shape_of(segments)), weight, place)

    def _is_preflight(self, method: str, segments: tuple[str, ...], host: str) -> bool:
        return method == "OPTIONS" and any(
            route.cors is not None or route.app_preflight for route in _routes_of(self._table, segments, host)
        )

    def _find(self, method: str, segments: tuple[str, ...], host: str) -> tuple[str, str] | None:
        """The method and the route that take a request, HEAD as GET."""
        route = next((route for route in _routes_of(self._table, segments, host) if method in route.asks), None)
        if route is None:
            return None
        return ("GET" if method == "HEAD" and "GET" in route.asks else method), route.name

    def _count(self, table: dict[_Key, SightingCount], key: _Key, weight: int, place: str) -> None:
        seen = table.get(key)
        if seen is None and len(table) >= MAX_DISTINCT:
            self.more += weight
            return
        table[key] = SightingCount(weight, place) if seen is None else SightingCount(seen.requests + weight, seen.place)


def _routes_of(table: RouteTable, segments: tuple[str, ...], host: str) -> Iterator[Route]:
    """Yield the route of a path at a host, or those at all hosts where it is not told, or none that routes name."""
    known = table.hosts is None or not table.hosts.isdisjoint(entries_for(host))
    for each in [host] if known else ["", *sorted(table.hosts or ())]:
        route = table.find(segments, each)
        if route is not None:
            yield route


def _samples(segments: Sequence[Segment]) -> Iterator[tuple[str, ...]]:
    """Paths of an operation, with texts in place of its variables."""
    for sample in _SAMPLES:
        yield tuple(_filled(segment, sample) for segment in segments)
        if not any(isinstance(segment, Variable | Rest) for segment in segments):
            return


def _filled(segment: Segment, sample: str) -> str:
    if isinstance(segment, Variable):
        return f"{segment.before}{_NARROW.get(segment.pattern, sample)}{segment.after}"
    return sample if isinstance(segment, Rest) else segment


def shape_of(segments: Sequence[str]) -> str:
    """Return a path with what looks like an id replaced by its shape, so that the ids of one operation are one path."""
    shown = [next((shape for pattern, shape in _SHAPES if pattern.fullmatch(text)), text) for text in segments]
    return "/" + "/".join(shown[:_MAX_SHOWN] + (["**"] if len(shown) > _MAX_SHOWN else []))
