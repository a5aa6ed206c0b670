"""The report: what a tally tells, in the order in which a person reads it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sidecar.adoption.causes import Cause
from sidecar.adoption.readiness import Judge, Readiness, Thresholds
from sidecar.adoption.sighting import AppStatus, Relation, Verdict, Where
from sidecar.adoption.tally import CandidateGroup, Group, MatrixCell, RouteCount, Tally, TrafficSpan

NOT_COMPARED = (
    "Not every request is compared: none before the candidate policies are in force, and none that was dropped under "
    "load. The logs do not tell how many: see `failed` and `dropped` of the metric sidecar_candidate_total."
)
"""Stands with the decisions of candidate policies, since logs have only those that differ."""


class Finding(NamedTuple):
    """A group with its cause. `intended`: a person wants it so."""

    group: Group
    cause: Cause
    intended: bool


class Day(NamedTuple):
    """Requests of one day, by relation."""

    day: str
    counts: Mapping[Relation, int]

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.counts.values())


class Total(NamedTuple):
    """Requests of one relation, and how many groups of them are in the report."""

    requests: int
    groups: int
    beyond: int
    """Requests of further groups."""


@dataclass(frozen=True)
class Report:
    """Everything that is shown, as text, JSON or a page."""

    span: TrafficSpan
    matrix: Mapping[tuple[Verdict, AppStatus], MatrixCell]
    totals: Mapping[Relation, Total]
    findings: Sequence[Finding]
    lists: Sequence[tuple[Where, RouteCount]]
    candidate: Sequence[CandidateGroup]
    days: Sequence[Day]
    readiness: Readiness
    thresholds: Thresholds
    principals: int
    principals_twice: int
    more_principals: bool
    lines: int
    sampled: bool
    notes: Sequence[str]

    def of(self, relation: Relation) -> list[Finding]:
        """Return the findings of a relation."""
        return [finding for finding in self.findings if finding.group.key.relation is relation]

    def has(self, relation: Relation) -> bool:
        """Return whether there are requests of a relation that nobody intends."""
        return self.totals[relation].beyond > 0 or any(not finding.intended for finding in self.of(relation))


def report_of(
    tally: Tally, thresholds: Thresholds, mapped: Collection[Where] | None = None,
    intended: Collection[str] = frozenset(), notes: Sequence[str] = (),
) -> Report:  # fmt: skip
    """Return the report of a tally. `notes` say what a person must know of the lines."""
    groups = [group for groups in tally.groups.values() for group in groups.values()]
    order = list(Relation)
    groups.sort(key=lambda group: (order.index(group.key.relation), -group.span.requests, group.span.first, group.key))
    findings = [Finding(group, tally.cause(group.key), group.key.id in intended) for group in groups]
    lists = sorted(
        ((where, count) for where, count in tally.routes.items() if count.lists), key=lambda one: -one[1].vanish
    )  # fmt: skip
    more_principals = tally.principals_beyond or tally.sampled
    return Report(
        tally.span, tally.cells, dict(_totals(tally)), findings, lists,
        # first what would be allowed: it is what nobody calls about
        sorted(tally.candidate.values(), key=lambda group: (group.key.theirs, -group.span.requests, group.key)),
        [Day(day, tally.days[day]) for day in sorted(tally.days)],
        Judge(tally, thresholds, intended).judge(mapped), thresholds, len(tally.principals),
        sum(requests > 1 for requests in tally.principals.values()), more_principals, tally.lines, tally.sampled,
        [*notes, *_notes(tally)],
    )  # fmt: skip


def _totals(tally: Tally) -> Iterable[tuple[Relation, Total]]:
    requests = dict.fromkeys(Relation, 0)
    for counts in tally.days.values():
        for relation, count in counts.items():
            requests[relation] += count
    for relation in Relation:
        beyond = tally.beyond.get(relation, TrafficSpan())
        yield relation, Total(requests[relation], len(tally.groups[relation]), beyond.requests)


def _notes(tally: Tally) -> Iterable[str]:
    if tally.unread.requests:
        yield f"{tally.unread.requests:,} requests could not be read, and are refused in each mode"
    if tally.repeated:
        yield f"{tally.repeated:,} lines of the decision log left out: the question log has their requests, too"
    # the last requests of a cell have their line within an hour
    if tally.repeated > tally.questioned * 1.1:
        yield (
            f"the question log stands for {tally.questioned:,} requests: it is not of all replicas, or lost lines; "
            "name the decision logs alone, or the question logs of all replicas"
        )
    if tally.sampled:
        yield "some lines stand for several requests: principals behind those are not counted"
    if tally.candidate_beyond:
        yield f"{tally.candidate_beyond:,} more decisions that the candidate policies make otherwise are in no group"
    if tally.days_beyond:
        yield f"{tally.days_beyond:,} requests of earlier days are in no day's count"
    if tally.routes_beyond.requests:
        yield f"{tally.routes_beyond.requests:,} requests of further routes are in no route's count"


_INTENDED = re.compile(r"([0-9a-f]{8})(?:\s.*)?")


class IntendedError(Exception):
    """A file of intended differences that cannot be read; says where and why."""


def read_intended(text: str, file: str) -> frozenset[str]:
    """Return the ids of a file: one at the beginning of each line, and a person's words behind it."""
    found = set()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words.startswith("#"):
            continue
        match = _INTENDED.fullmatch(words)
        if match is None:
            raise IntendedError(
                f"{file}:{number}: found {words[:64]!r}, expected the id of a difference, as the report shows it, "
                "such as `1f0c9a2b interns may not change contacts`"
            )
        found.add(match[1])
    return frozenset(found)
