"""Evidence of what the app lets whom do: its own answers, by kind, action, roles and owner match."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from sidecar.adoption.causes import CODES
from sidecar.adoption.sighting import AppStatus, column_of
from sidecar.adoption.tally import PrincipalRoom, Table, TrafficSpan
from sidecar.gate.codes import Code, Kind
from sidecar.record.line import Line, QuestionLine

MAX_CASES = 20_000
MAX_PRINCIPALS = 1_000
"""Principals of one case that are told apart."""
MAX_REMEMBERED = 250_000
"""Principals of all cases together."""
RESOURCE_ID = ""
"""Stands among the attributes of an owner match for the resource's id."""
NUMBER = "\0"
"""Begins, there, the name of an attribute that is the principal's id as a number."""

_BEFORE = frozenset({Kind.REQUEST, Kind.PROXY, Kind.ROUTE, Kind.PRINCIPAL})
"""Kinds of codes that end a request on its way to the question."""


class RequestGroup(NamedTuple):
    """Requests alike: all roles of the principal, and the attributes of the resource that are its id."""

    kind: str
    action: str
    roles: frozenset[str]
    own: frozenset[str]


@dataclass(slots=True)
class Hits:
    """Requests of a case that the app answered alike."""

    span: TrafficSpan = field(default_factory=TrafficSpan)
    principals: set[int] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)

    def add(self, time: str, principal: int, status: int, weight: int, room: PrincipalRoom) -> None:
        """Count requests of a principal."""
        self.span.add(time, weight)
        self.statuses[status] += weight
        if principal not in self.principals and len(self.principals) < MAX_PRINCIPALS and room.places:
            self.principals.add(principal)
            room.places -= 1


def together(hits: Iterable[Hits]) -> Hits:
    """Return several as one."""
    found = Hits()
    for each in hits:
        if each.span.requests:
            found.span.add(each.span.first, each.span.requests)
            found.span.add(each.span.last, 0)
            found.principals |= each.principals
            found.statuses += each.statuses
    return found


@dataclass(slots=True)
class Answers:
    """The app's answers to a case: `unclear` requests were neither done nor refused, such as those answered by 404."""

    admitted: Hits = field(default_factory=Hits)
    refused: Hits = field(default_factory=Hits)
    unclear: int = 0


class Evidence:
    """Collects the app's answers from question lines; `skipped` says of how many requests nothing is known, and why."""

    def __init__(self) -> None:
        self.cases: Table[RequestGroup, Answers] = Table(MAX_CASES)
        self.span = TrafficSpan()
        self.skipped: Counter[str] = Counter()
        self.lists: set[str] = set()
        """Routes whose items are decided one by one."""
        self._room = PrincipalRoom(MAX_REMEMBERED)

    def add_all(self, lines: Iterable[Line]) -> None:
        """Take lines; those of other events say nothing of the app."""
        for line in lines:
            if isinstance(line, QuestionLine):
                self.add(line)

    def add(self, line: QuestionLine) -> None:
        """Take one line."""
        why = _unusable(line)
        if why:
            self.skipped[why] += max(line.weight, 1)
            return
        if line.items:
            self.lists.add(line.route)
        owns = _owns(line)
        for own in owns:
            # of resources that are not alike nobody knows which the app refused
            self._add(line, own, tells_refusal=len(owns) == 1)

    def _add(self, line: QuestionLine, own: frozenset[str], *, tells_refusal: bool) -> None:
        weight = max(line.weight, 1)
        answers = self.cases.of(RequestGroup(line.kind, line.action, frozenset(line.roles), own), Answers)
        if answers is None:
            self.skipped["there are more cases than are told apart"] += weight
            return
        status = line.app_status or 0
        self.span.add(line.time, weight)
        match column_of(line.app_status):
            case AppStatus.DONE:
                answers.admitted.add(line.time, hash(line.principal), status, weight, self._room)
            case AppStatus.REFUSED if tells_refusal:
                answers.refused.add(line.time, hash(line.principal), status, weight, self._room)
            case _:
                answers.unclear += weight


def _unusable(line: QuestionLine) -> str:
    if not line.kind:
        return _unasked(line)
    if not line.asked:
        return "no policy was asked, so that nothing is known of the resource"
    if line.app_status is None:
        return "the app was not asked"
    if line.scope:
        return "they have a scope, and a draft has none"
    return _untellable(line) if line.resources is not None else ""


def _untellable(line: QuestionLine) -> str:
    """Return why nothing is told by a request about several resources."""
    if any({"kind", "action"} & one.keys() for one in line.resources or ()):
        return "they ask for several things, which the app answers with one status"
    redacted = any(name.startswith("resource.") for name in line.redacted or ())
    if redacted and not line.owner:
        return "they are about several resources, whose owners the log does not tell (SIDECAR_QUESTION_LOG_ATTRIBUTES)"
    return ""


def _unasked(line: QuestionLine) -> str:
    """Return why a request has no kind."""
    code = CODES.get(line.code)
    if not line.route or code is Code.METHOD_UNMAPPED:
        return f"no route took them: {code or 'a code of another version'}"
    if code is not None and code.kind in _BEFORE:
        return f"a refusal comes before any policy is asked: {code}"
    return "their route asks no policy"


def _owns(line: QuestionLine) -> set[frozenset[str]]:
    """The owner match of each resource, all the different ones."""
    if line.resources is None:
        own = {_spelled(name, line.attributes) for name in line.owner or ()}
        return {frozenset(own | ({RESOURCE_ID} if line.id == line.principal else set()))}
    if line.owner:
        first = line.resources[0].get("attributes") if line.resources else None
        return {frozenset(_spelled(name, first) for name in line.owner)}
    return {frozenset(_own_of(resource, line.principal)) for resource in line.resources}


def _spelled(name: str, attributes: object) -> str:
    number = isinstance(attributes, Mapping) and type(attributes.get(name)) is int
    return NUMBER + name if number else name


def _own_of(resource: Mapping[str, object], principal: str) -> Iterable[str]:
    attributes = resource.get("attributes")
    for name, value in attributes.items() if isinstance(attributes, Mapping) else ():
        if value == principal or (type(value) is int and str(value) == principal):
            yield _spelled(name, attributes)
    if resource.get("id") == principal:
        yield RESOURCE_ID
