"""Counts of what logs tell: cells of the matrix, disagreements, routes, days and principals, within bounds.

Memory does not grow with the logs: what goes beyond a bound is counted, and said to be more.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from sidecar.adoption.causes import Cause, cause_of
from sidecar.adoption.sighting import (
    MAX_PATH,
    AppStatus,
    Judged,
    Relation,
    Verdict,
    Where,
    app_status_of,
    column_of,
    relation_of,
    verdict_of,
    where_of,
)
from sidecar.gate.codes import Ground
from sidecar.record.line import MAX_ID, MAX_ROLES, CandidateDiffers, Decision, Line, QuestionLine, UnreadLine

MAX_GROUPS = 1_000
"""Groups of one relation that are told apart."""
MAX_ROUTES = 5_000
MAX_DAYS = 400
"""Days that are told apart, the latest."""
MAX_DISTINCT = 1_000
"""Principals of one group that are told apart."""
MAX_PRINCIPALS = 100_000
"""Principals of the logs that are told apart."""
MAX_REMEMBERED = 250_000
"""Principals of all groups and cells together."""
MAX_ALLOWED = 5_000
"""(kind, action) for which the roles are remembered that were allowed it."""
MAX_ALLOWED_ROLES = 500
MAX_STATUSES = 8
MAX_EXAMPLES = 3
SURELY = 100
"""Lines in a row that would not all be enforced if only a share of the principals were."""
NO_MATCH = "NO_MATCH"
"""Name that Cerbos gives where no policy is about a kind."""


class PrincipalRoom:
    """Places for principals that are left, for all who count them."""

    def __init__(self, places: int) -> None:
        self.places = places


class DistinctPrincipals:
    """Number of different principals, exact up to a bound."""

    __slots__ = ("_room", "_seen", "more")

    def __init__(self, room: PrincipalRoom) -> None:
        self._room = room
        self._seen: set[int] = set()
        self.more = False
        """True if there are or may be more than `count`."""

    @property
    def count(self) -> int:
        """Number of those that were told apart."""
        return len(self._seen)

    def add(self, principal: int, sampled: bool) -> None:
        """Count one, as `principal_of` names it. `sampled`: further ones may stand behind its line."""
        if sampled:
            self.more = True
        if principal not in self._seen:
            if len(self._seen) >= MAX_DISTINCT or not self._room.places:
                self.more = True
            else:
                self._seen.add(principal)
                self._room.places -= 1


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Table(dict[_Key, _Value]):
    """Counts by key: further keys than `bound` have no place."""

    def __init__(self, bound: int) -> None:
        super().__init__()
        self.is_full = bound == 0
        self._bound = bound

    def of(self, key: _Key, make: Callable[[], _Value]) -> _Value | None:
        """Return the value of a key, made if there is none; None if there is no place for it."""
        found = self.get(key)
        if found is None and not self.is_full:
            found = self[key] = make()
            self.is_full = len(self) >= self._bound
        return found


class Example(NamedTuple):
    """A request to look up in the log."""

    request_id: str
    time: str
    path: str
    status: int | None


@dataclass(slots=True)
class TrafficSpan:
    """Number of requests, and when the first and last were seen."""

    requests: int = 0
    first: str = ""
    last: str = ""

    def add(self, time: str, weight: int) -> None:
        """Count requests of a time."""
        self.requests += weight
        if not self.first or time < self.first:
            self.first = time
        if time > self.last:
            self.last = time


class Key(NamedTuple):
    """All that the requests of a group have in common."""

    verdict: Verdict
    status: AppStatus
    where: Where
    kind: str
    action: str
    code: str
    roles: tuple[str, ...]
    no_policy: bool

    @property
    def relation(self) -> Relation:
        """How verdict and status stand to each other."""
        return relation_of(self.verdict, self.status)

    @property
    def id(self) -> str:
        """A short name of it, which stays the same in every report."""
        parts = (self.verdict, self.status, *self.where, self.kind, self.action, self.code, *self.roles)
        return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:8]


@dataclass(slots=True)
class Group:
    """Requests that differ in one and the same way."""

    key: Key
    span: TrafficSpan
    principals: DistinctPrincipals
    statuses: Table[int, int] = field(default_factory=lambda: Table(MAX_STATUSES))
    examples: deque[Example] = field(default_factory=lambda: deque(maxlen=MAX_EXAMPLES))

    def add(self, line: Judged, status: int | None, weight: int) -> None:
        """Count a line."""
        self.span.add(line.time, weight)
        requests = self.statuses.of(status, int) if status is not None else None
        if status is not None and requests is not None:
            self.statuses[status] = requests + weight
        self.examples.append(Example(line.request_id[:MAX_ID], line.time, line.path[:MAX_PATH], status))


@dataclass(slots=True)
class MatrixCell:
    """A cell of the matrix."""

    span: TrafficSpan
    principals: DistinctPrincipals


@dataclass(slots=True)
class RouteCount:
    """Requests of one route and method, by how they differ; for lists the items that were seen, and would vanish."""

    span: TrafficSpan
    kind: str = ""
    action: str = ""
    lines: int = 0
    in_force: int = 0
    """How many of the last lines in a row are of the mode `enforce`."""
    relations: dict[Relation, TrafficSpan] = field(default_factory=dict)
    lists: int = 0
    seen: int = 0
    vanish: int = 0
    masked: int = 0

    @property
    def enforced(self) -> bool:
        """True if the route is enforced for everybody, as its last lines tell."""
        return self.in_force >= min(self.lines, SURELY)

    def add(self, line: Judged, relation: Relation, weight: int) -> None:
        """Count a line."""
        self.lines += 1
        self.in_force = self.in_force + 1 if line.mode == "enforce" else 0
        self.kind, self.action = line.kind or self.kind, line.action or self.action
        self.span.add(line.time, weight)
        if relation not in self.relations:
            self.relations[relation] = TrafficSpan()
        self.relations[relation].add(line.time, weight)
        if line.items:
            self._add_items(line.items.get("seen"), line.items.get("kept"), line.items.get("masked"), weight)

    def _add_items(self, seen: object, kept: object, masked: object, weight: int) -> None:
        if isinstance(seen, int) and isinstance(kept, int) and 0 <= kept <= seen:
            self.lists += weight
            self.seen += seen * weight
            self.vanish += (seen - kept) * weight
            self.masked += masked * weight if isinstance(masked, int) and masked > 0 else 0


class CandidateKey(NamedTuple):
    """All that decisions have in common which candidate policies would make otherwise in one way."""

    ours: str
    theirs: str
    route: str
    kind: str
    action: str
    roles: tuple[str, ...]


@dataclass(slots=True)
class CandidateGroup:
    """Decisions that candidate policies would make otherwise in one way. `revision` is that of the last."""

    key: CandidateKey
    span: TrafficSpan
    principals: DistinctPrincipals
    revision: str = ""
    examples: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_EXAMPLES))

    def add(self, line: CandidateDiffers) -> None:
        """Count a decision."""
        self.span.add(line.time, 1)
        self.revision = line.candidate_revision or ""
        self.examples.append(line.request_id)


class Tally:
    """Counts lines in the order of their time, and keeps what a report says of them.

    A question line stands for requests that have no line of their own. Where decision lines come beside them, they
    tell of the same requests: from the first question line on they are left out.
    """

    def __init__(self) -> None:
        self.span = TrafficSpan()
        self.lines = 0
        self.unread = TrafficSpan()
        """Requests that no gate judged."""
        self.repeated = 0
        """Lines of the decision log that are left out, since the question log has their requests, too."""
        self.questioned = 0
        """Requests that the question log stands for."""
        self.sampled = False
        self.cells: dict[tuple[Verdict, AppStatus], MatrixCell] = {}
        self.groups: dict[Relation, Table[Key, Group]] = {relation: Table(MAX_GROUPS) for relation in Relation}
        self.beyond: dict[Relation, TrafficSpan] = {}
        """Requests of groups beyond the bound."""
        self.routes: Table[Where, RouteCount] = Table(MAX_ROUTES)
        self.routes_beyond = TrafficSpan()
        self.days: dict[str, dict[Relation, int]] = {}
        self.days_beyond = 0
        self.principals: Table[int, int] = Table(MAX_PRINCIPALS)
        """Requests of each principal."""
        self.principals_beyond = False
        self.allowed: Table[tuple[str, str], set[str]] = Table(MAX_ALLOWED)
        """(kind, action) -> roles of those whom the policy allowed it."""
        self.candidate: Table[CandidateKey, CandidateGroup] = Table(MAX_GROUPS)
        self.candidate_beyond = 0
        """Those that candidate policies would make otherwise and that are in no group: those without a line, too."""
        self._room = PrincipalRoom(MAX_REMEMBERED)
        self._questions = False

    def add_all(self, lines: Iterable[Line]) -> None:
        """Count lines."""
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        """Count a line; those of other events say nothing of a verdict."""
        match line:
            case QuestionLine():
                self._questions = True
                self.questioned += max(line.weight, 1)
                self._add(line, max(line.weight, 1))
            case Decision() if self._questions:
                self.repeated += 1
            case Decision():
                self._add(line, 1)
            case UnreadLine():
                self.unread.add(line.time, 1)
            case CandidateDiffers():
                self._add_candidate(line)
            case _:
                pass

    def _add_candidate(self, line: CandidateDiffers) -> None:
        self.candidate_beyond += line.untold or 0
        key = CandidateKey(line.ours, line.theirs, line.route, line.kind, line.action, line.roles)
        group = self.candidate.of(key, lambda: CandidateGroup(key, TrafficSpan(), DistinctPrincipals(self._room)))
        if group is None:
            self.candidate_beyond += 1
            return
        group.add(line)
        group.principals.add(hash(line.principal), sampled=bool(line.untold))

    def _add(self, line: Judged, weight: int) -> None:
        self.lines += 1
        self.sampled |= weight > 1
        self.span.add(line.time, weight)
        verdict, status = verdict_of(line), app_status_of(line)
        column = column_of(status)
        relation = relation_of(verdict, column)
        principal = hash(line.principal) if line.principal else None
        if principal is not None:
            self._add_principal(principal, weight)
        cell = self.cells.get((verdict, column))
        if cell is None:
            cell = self.cells[verdict, column] = MatrixCell(TrafficSpan(), DistinctPrincipals(self._room))
        cell.span.add(line.time, weight)
        if principal is not None:
            cell.principals.add(principal, weight > 1)
        self._add_day(line.time[:10], relation, weight)
        where = where_of(line)
        self._add_route(where, line, relation, weight)
        if verdict is Verdict.ALLOW and line.code == Ground.ALLOWED:
            self._add_allowed(line)
        if relation is not Relation.AGREE:
            key = Key(
                verdict, column, where, line.kind, line.action, line.code, line.roles[:MAX_ROLES],
                line.policy == NO_MATCH,
            )  # fmt: skip
            group = self.groups[relation].of(key, lambda: Group(key, TrafficSpan(), DistinctPrincipals(self._room)))
            if group is None:
                self.beyond.setdefault(relation, TrafficSpan()).add(line.time, weight)
                return
            group.add(line, status, weight)
            if principal is not None:
                group.principals.add(principal, weight > 1)

    def _add_principal(self, principal: int, weight: int) -> None:
        requests = self.principals.of(principal, int)
        if requests is None:
            self.principals_beyond = True
        else:
            self.principals[principal] = requests + weight

    def _add_day(self, day: str, relation: Relation, weight: int) -> None:
        counts = self.days.get(day)
        if counts is None:
            counts = self.days[day] = {}
            if len(self.days) > MAX_DAYS:
                self.days_beyond += sum(self.days.pop(min(self.days)).values())
        counts[relation] = counts.get(relation, 0) + weight

    def _add_route(self, where: Where, line: Judged, relation: Relation, weight: int) -> None:
        if not where.route:
            return
        count = self.routes.of(where, lambda: RouteCount(TrafficSpan()))
        if count is None:
            self.routes_beyond.add(line.time, weight)
        else:
            count.add(line, relation, weight)

    def _add_allowed(self, line: Judged) -> None:
        roles = self.allowed.of((line.kind, line.action), set)
        if roles is not None and len(roles) < MAX_ALLOWED_ROLES:
            roles.update(line.roles)

    def cause(self, key: Key) -> Cause:
        """Return why the requests of a group differ, as far as all lines tell."""
        cause = cause_of(key.code)
        if cause is not Cause.POLICY:
            return cause
        if key.no_policy:
            return Cause.NO_POLICY
        allowed = self.allowed.get((key.kind, key.action), set())
        return Cause.ROLE if allowed.isdisjoint(key.roles) else Cause.POLICY
