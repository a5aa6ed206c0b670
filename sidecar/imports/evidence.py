"""Evidence of one method of one template: how often it was seen, with which statuses, for how many ids."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sidecar.imports.sighting import Location, Sighting, SpecOperation

MAX_IDS = 200
"""Distinct ids of one template that are counted; a further one is "more than"."""
MAX_NAMES = 40
"""Names of parameters that are kept for one method."""


class TemplateBounds:
    """Bounds of all templates together."""

    def __init__(self, ids: int, nodes: int) -> None:
        self.ids = ids
        self.nodes = nodes


class Distinct:
    """Number of distinct texts up to a bound, of which no text is kept."""

    __slots__ = ("_hashes", "is_more")

    def __init__(self) -> None:
        self._hashes: set[int] = set()
        self.is_more = False
        """There are more than were counted."""

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, text: str, budget: TemplateBounds) -> None:
        """Count a text."""
        value = hash(text)
        if value in self._hashes:
            return
        if len(self._hashes) >= MAX_IDS or budget.ids <= 0:
            self.is_more = True
            return
        budget.ids -= 1
        self._hashes.add(value)

    def join(self, other: Distinct) -> None:
        """Count what another has counted."""
        self.is_more = self.is_more or other.is_more
        for value in other._hashes:
            if len(self._hashes) >= MAX_IDS and value not in self._hashes:
                self.is_more = True
                return
            self._hashes.add(value)

    def __str__(self) -> str:
        return f"more than {len(self)}" if self.is_more else str(len(self))


@dataclass
class MethodEvidence:
    """Evidence of one method. `hits` are requests, without the operation of a spec."""

    first: Location
    hits: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    ids: Distinct = field(default_factory=Distinct)
    query: Counter[str] = field(default_factory=Counter)
    operations: list[SpecOperation] = field(default_factory=list)
    in_collection: bool = False
    """A person has put it in a collection of requests."""

    def add(self, sighting: Sighting) -> None:
        """Count one sighting."""
        for name in sighting.query:
            if name in self.query or len(self.query) < MAX_NAMES:
                self.query[name] += 1
        if sighting.operation is not None:
            self.operations.append(sighting.operation)
        elif sighting.status is None:
            self.in_collection = True
        else:
            self.hits += 1
            self.statuses[sighting.status] += 1

    def join(self, other: MethodEvidence) -> None:
        """Add what was seen of another template that turned out to be the same."""
        self.hits += other.hits
        self.statuses += other.statuses
        self.ids.join(other.ids)
        for name, count in other.query.items():
            if name in self.query or len(self.query) < MAX_NAMES:
                self.query[name] += count
        self.operations += other.operations
        self.in_collection = self.in_collection or other.in_collection

    @property
    def operation(self) -> SpecOperation | None:
        """The operation of a spec, the first of several."""
        return self.operations[0] if self.operations else None


WS = "WS"


def requests(count: int) -> str:
    """Return a number of requests as a text."""
    return f"{count:,} request{'' if count == 1 else 's'}"


def method_of(sighting: Sighting) -> str:
    """Return the method under which a route names a sighting: HEAD is decided as GET, and a handshake is `WS`."""
    if sighting.websocket:
        return WS
    return "GET" if sighting.method == "HEAD" else sighting.method


def proves(sighting: Sighting) -> bool:
    """Return whether the app has such a route: it answered well, or nobody has asked it yet.

    A redirect of a GET may lead anybody to a sign-in page, and an app also refuses and fails on paths that it lacks.
    """
    status = sighting.status
    if status is None or 200 <= status <= 299 or status in (101, 304):
        return True
    return 300 <= status <= 399 and sighting.method not in ("GET", "HEAD")
