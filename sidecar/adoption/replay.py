"""Replay of recorded questions under other policies: what of a line can be asked again, and how the answers compare.

A line says what was decided, and what the PDP was told. So the question is asked again as it was, unless something
that may decide was not recorded: that is counted by its reason, and never guessed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from sidecar.gate.codes import Code
from sidecar.gate.decision import Resource
from sidecar.gate.identity import Principal
from sidecar.record.line import QuestionLine
from sidecar.study.readings import AttributeUses

_NUMBER = re.compile(r"-?[0-9]+")
EXAMPLES = 3
"""Requests that are named for each change."""
MOST_CHANGES = 10_000
"""Changes that are told apart; those beyond are counted as one."""
MOST_PRINCIPALS = 1000
"""Principals of a change that are counted exactly."""


class SkipReason(StrEnum):
    """Reason for which a request cannot be replayed."""

    NO_PRINCIPAL = "no_principal"
    NOT_ASKED = "not_asked"
    UNDECIDED = "undecided"
    REDACTED = "redacted"
    UNASKABLE = "unaskable"
    UNANSWERED = "unanswered"
    REROUTED = "rerouted"

    @property
    def meaning(self) -> str:
        """The reason in words."""
        return _MEANINGS[self]


WITHOUT_POLICY = frozenset((SkipReason.NO_PRINCIPAL, SkipReason.NOT_ASKED, SkipReason.UNDECIDED))
"""Reasons of requests that no policy had decided."""
_MEANINGS = {
    SkipReason.NO_PRINCIPAL: "nobody was identified",
    SkipReason.NOT_ASKED: "no policy was asked",
    SkipReason.UNDECIDED: "the recorded request was not decided, or failed after its decision",
    SkipReason.REDACTED: "the new policies read an attribute that was not recorded",
    SkipReason.UNASKABLE: "Cerbos does not take the question",
    SkipReason.UNANSWERED: "Cerbos gave no answer",
    SkipReason.REROUTED: "the new routes need what was not recorded",
}


class ReplayCase(NamedTuple):
    """One recorded request that can be asked again. `allowed` is what was decided: all of its resources, or not.

    With `timed` the policies ask for the time: `line.time` is the one that counts. With `routed` the new routes decide,
    and no policy is asked.
    """

    line: QuestionLine
    principal: Principal
    resources: tuple[Resource, ...]
    allowed: bool
    timed: bool = False
    routed: bool = False


class Unreplayed(NamedTuple):
    """One recorded request that cannot be asked again. `detail` names what is missing."""

    line: QuestionLine
    reason: SkipReason
    detail: str = ""


class Recalled(NamedTuple):
    """A recorded request with what the PDP was asked about it, but for what was left out of its line."""

    line: QuestionLine
    principal: Principal
    resources: tuple[Resource, ...]
    allowed: bool


def decided(line: QuestionLine) -> bool | None:
    """Return what the PDP decided on a request, None where that is not known, or where it was not the PDP alone: one of
    many resources that nobody knows refuses the request, whatever the policies say of the others."""
    if not line.asked or line.missing:
        return None
    if line.code == Code.DENIED_BY_POLICY:
        return False
    # a fault after the permit leaves the verdict as it was
    return True if line.outcome == "allow" else None


def recall(line: QuestionLine) -> Recalled | Unreplayed:
    """Return what was asked and decided."""
    allowed = decided(line)
    if allowed is None:
        return undecided(line)
    scope = line.scope or ""
    if line.resources is not None:
        resources = tuple(
            Resource(
                one.get("kind", line.kind),
                str(one["id"]),
                one.get("action", line.action),
                one["attributes"],
                (),
                one.get("scope", scope),
            )
            for one in line.resources
        )
    else:
        attributes = {**(line.attributes or {}), **dict.fromkeys(restored(line), line.principal)}
        resources = (Resource(line.kind, line.id, line.action, attributes, (), scope),)
    return Recalled(line, principal_of(line), resources, allowed)


def principal_of(line: QuestionLine) -> Principal:
    """Return the principal of a line, but for what was left out."""
    return Principal(line.principal, line.roles, line.principal_attributes or {}, "", 0.0, {})


def undecided(line: QuestionLine) -> Unreplayed:
    """Return why a request of which no decision is known has none."""
    if line.asked:
        return Unreplayed(line, SkipReason.UNDECIDED, line.code)
    return Unreplayed(line, SkipReason.NOT_ASKED if line.principal else SkipReason.NO_PRINCIPAL, line.code)


def restored(line: QuestionLine) -> list[str]:
    """List the attributes of the resource that were left out and are known: they are the id of the principal."""
    if _NUMBER.fullmatch(line.principal):
        # it may have been a number there, which is no text to a policy
        return []
    return [name for name in line.owner or () if f"resource.{name}" in (line.redacted or ())]


def case_of(recalled: Recalled, readings: AttributeUses) -> ReplayCase | Unreplayed:
    """Return what is to be asked of the policies of these readings."""
    line = recalled.line
    if not recalled.resources:
        return Unreplayed(line, SkipReason.UNASKABLE, "about no resource")
    kinds = {resource.kind for resource in recalled.resources}
    known = [f"resource.{name}" for name in restored(line)] if line.resources is None else []
    missing = [
        name
        for name in line.redacted or ()
        if name not in known and any(readings.of(kind).reads(*name.split(".", 1)) for kind in kinds)
    ]
    if missing:
        return Unreplayed(line, SkipReason.REDACTED, ", ".join(sorted(missing)))
    timed = any(readings.of(kind).clock for kind in kinds)
    return ReplayCase(line, recalled.principal, recalled.resources, recalled.allowed, timed)


# --- what comes of it ---


class DecisionChange(NamedTuple):
    """A change that several requests have in common. `widens`: they were denied, and are allowed now.

    `rules` are the places of the new rules that may have done it: those that deny, or those that allow.
    """

    widens: bool
    route: str
    kind: str
    action: str
    roles: tuple[str, ...]
    rules: tuple[str, ...]


BY_ROUTES = "the new routes"
"""In place of a rule, where no policy is asked."""
OTHERS = DecisionChange(True, "", "", "", (), ())
"""All changes beyond `MOST_CHANGES`, as the worse of both."""


@dataclass
class ChangeTally:
    """The requests of one change. `requests` counts each line by its weight; times are those of lines."""

    requests: int = 0
    principals: Counter[str] = field(default_factory=Counter)
    more_principals: bool = False
    first: str = ""
    last: str = ""
    examples: list[str] = field(default_factory=list)

    def add(self, line: QuestionLine) -> None:
        """Count one line."""
        self.requests += line.weight
        if line.principal in self.principals or len(self.principals) < MOST_PRINCIPALS:
            self.principals[line.principal] += line.weight
        else:
            self.more_principals = True
        self.first = min(self.first or line.time, line.time)
        self.last = max(self.last, line.time)
        if len(self.examples) < EXAMPLES:
            self.examples.append(line.request_id)


@dataclass
class Replay:
    """Outcome of a replay. Numbers are of requests: each line counts by its weight.

    `unreplayed`: (reason, detail) -> requests. `revisions` are those of the policies that decided, as recorded.
    """

    requests: int = 0
    same: int = 0
    changes: dict[DecisionChange, ChangeTally] = field(default_factory=dict)
    unreplayed: Counter[tuple[SkipReason, str]] = field(default_factory=Counter)
    revisions: Counter[str] = field(default_factory=Counter)
    first: str = ""
    last: str = ""

    def skip(self, unreplayed: Unreplayed) -> None:
        """Count a request that cannot be replayed."""
        self._count(unreplayed.line)
        key = (unreplayed.reason, unreplayed.detail[:128])
        if key not in self.unreplayed and len(self.unreplayed) >= MOST_CHANGES:
            key = (unreplayed.reason, "")
        self.unreplayed[key] += unreplayed.line.weight

    def compare(self, case: ReplayCase, allowed: bool, readings: AttributeUses) -> None:
        """Count a request of which the new answer is known."""
        self._count(case.line)
        if allowed == case.allowed:
            self.same += case.line.weight
            return
        change = change_of(case, allowed, readings)
        if change not in self.changes and len(self.changes) >= MOST_CHANGES:
            change = OTHERS
        self.changes.setdefault(change, ChangeTally()).add(case.line)

    def _count(self, line: QuestionLine) -> None:
        self.requests += line.weight
        self.revisions[line.revision or ""] += line.weight
        self.first = min(self.first or line.time, line.time)
        self.last = max(self.last, line.time)

    @property
    def replayed(self) -> int:
        """Requests that were asked again."""
        return self.requests - self.unreplayed.total()

    @property
    def decided(self) -> int:
        """Requests that a policy decided when they were recorded: all that could be asked again if nothing were
        missing."""
        return self.requests - sum(count for (reason, _), count in self.unreplayed.items() if reason in WITHOUT_POLICY)

    def changed(self, *, widens: bool) -> int:
        """Requests that lost access, or gained it."""
        return sum(tally.requests for change, tally in self.changes.items() if change.widens is widens)

    def widened_beyond(self, meant: Iterable[str]) -> int:
        """Requests that gained access, but for those of the cells `kind:action` that are meant to."""
        cells = frozenset(meant)
        return sum(
            tally.requests
            for change, tally in self.changes.items()
            if change.widens and (change == OTHERS or f"{change.kind}:{change.action}" not in cells)
        )


def change_of(case: ReplayCase, allowed: bool, readings: AttributeUses) -> DecisionChange:
    """Return the change of a request whose new answer is another one."""
    kind, action = case.resources[0].kind, case.resources[0].action
    if case.routed:
        places = [BY_ROUTES]
    else:
        rules = readings.rules(kind, action, case.line.roles)
        places = sorted({str(rule.place) for rule in rules if rule.deny is not allowed})
    return DecisionChange(allowed, case.line.route, kind, action, case.line.roles, tuple(places))


def by(replay: Replay, dimension: str, *, widens: bool) -> list[tuple[str, int]]:
    """Requests of one direction by `route`, `rule`, `role` or `principal`, the most first. A request counts for each
    of its roles, and of the rules that may have done it."""
    counts: Counter[str] = Counter()
    for change, tally in replay.changes.items():
        if change.widens is not widens:
            continue
        if dimension == "principal":
            counts.update(tally.principals)
            continue
        names = {"route": (change.route,), "role": change.roles, "rule": change.rules}[dimension]
        counts.update(dict.fromkeys(names, tally.requests))
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def batch_key(principal: Principal) -> str:
    """Return what principals that may share a call have in common: Cerbos is told of one principal in each."""
    return json.dumps((principal.id, principal.roles, principal.attributes), sort_keys=True)
