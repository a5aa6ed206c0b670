"""Grants that explain what the app let through, and nothing that it refused: few roles, and owners where they do.

A grant is sound if the app refused no request that it would allow. From all sound ones those are taken that

1. are the only ones of a single role to explain requests of an owner, or
2. are the only ones of a single role to explain the requests that are left, or
3. ask for several roles at once, where these were never seen apart: a person has to say which of them counts.

Each needs enough requests, of enough principals, that it alone explains. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sidecar.adoption.evidence import Answers, Hits, RequestGroup, together
from sidecar.study.globs import is_glob


class Enough(NamedTuple):
    """Requests and principals from which on a grant is taken."""

    hits: int = 5
    principals: int = 2

    def is_met(self, hits: Hits) -> bool:
        """Return whether these are enough."""
        return hits.span.requests >= self.hits and len(hits.principals) >= self.principals


class Grant(NamedTuple):
    """All of these roles may do it; with `own` only where that attribute of the resource is the principal's id."""

    roles: frozenset[str]
    own: str | None = None

    def allows(self, roles: Collection[str], own: Collection[str]) -> bool:
        """Return whether a request is allowed."""
        return self.roles.issubset(roles) and (self.own is None or self.own in own)

    def implies(self, other: Grant) -> bool:
        """Return whether each request that another grant allows is allowed by this one."""
        return self.roles <= other.roles and self.own in (None, other.own)


@dataclass(frozen=True)
class Granted:
    """A grant that is taken, with the requests that it alone explains. `together`: its roles were never seen apart."""

    grant: Grant
    hits: Hits

    @property
    def together(self) -> bool:
        """True if a person has to say which of its roles counts."""
        return len(self.grant.roles) > 1


class Ungranted(NamedTuple):
    """A case that the app let through and no grant explains, and why."""

    case: RequestGroup
    answers: Answers
    reason: str


class Action(NamedTuple):
    """All that is known of one action on a kind."""

    kind: str
    action: str
    granted: tuple[Granted, ...]
    ungranted: tuple[Ungranted, ...]

    def allows(self, roles: Collection[str], own: Collection[str]) -> bool:
        """Return whether the draft allows a request."""
        return any(each.grant.allows(roles, own) for each in self.granted)


Cases = Mapping[RequestGroup, Answers]


def actions_of(cases: Cases, enough: Enough) -> list[Action]:
    """Return what to grant for each action that was asked for."""
    found: dict[tuple[str, str], dict[RequestGroup, Answers]] = {}
    for case, answers in cases.items():
        found.setdefault((case.kind, case.action), {})[case] = answers
    return [_Explaining(kind, action, found[kind, action], enough).result() for kind, action in sorted(found)]


class _Explaining:
    """Looks for the grants of one action."""

    def __init__(self, kind: str, action: str, cases: Cases, enough: Enough) -> None:
        self._kind, self._action, self._enough = kind, action, enough
        # a case of a fixed order: what is found must not depend on that of the log
        self._cases = {case: cases[case] for case in sorted(cases, key=_order)}
        self._admitted = [case for case, answers in self._cases.items() if answers.admitted.span.requests]
        self._refused = [case for case, answers in self._cases.items() if answers.refused.span.requests]
        self._taken: dict[Grant, Hits] = {}

    def result(self) -> Action:
        """Return the grants that are taken, and the cases that are left."""
        # what the rest has to be explained by grows with each step
        self._take(self._single_of_owners())
        self._take(self._several(owners=True))
        self._take(self._single())
        self._take(self._several(owners=False))
        granted = tuple(
            Granted(grant, hits)
            for grant, hits in sorted(self._taken.items(), key=lambda one: (one[0].own is None, sorted(one[0].roles)))
            if not any(other != grant and other.implies(grant) for other in self._taken)
        )
        ungranted = tuple(Ungranted(case, self._cases[case], self._reason(case)) for case in self._unexplained())
        return Action(self._kind, self._action, granted, ungranted)

    # --- steps: each explains cases that no grant explains yet ---

    def _single_of_owners(self) -> Iterable[tuple[Grant, RequestGroup]]:
        for case in self._unexplained():
            found = self._roles_of_owner(case)
            if found is not None and len(found.roles) == 1:
                yield found, case

    def _single(self) -> Iterable[tuple[Grant, RequestGroup]]:
        for case in self._unexplained():
            roles = self._sound_roles(case, None)
            if len(roles) == 1:
                yield Grant(roles), case

    def _several(self, *, owners: bool) -> Iterable[tuple[Grant, RequestGroup]]:
        for case in self._unexplained():
            found = self._roles_of_owner(case) if owners else self._grant(case, None)
            if found is not None and len(found.roles) > 1:
                yield found, case

    def _roles_of_owner(self, case: RequestGroup) -> Grant | None:
        """The first grant to owners that explains a case: attributes that are called so come first."""
        names = sorted(case.own, key=lambda name: ("owner" not in name.lower(), name))
        grants = (self._grant(case, own) for own in names)
        return next((grant for grant in grants if grant is not None), None)

    def _grant(self, case: RequestGroup, own: str | None) -> Grant | None:
        """The grant to the roles of a case each of which could explain it; to all of them at once where none could."""
        roles = self._sound_roles(case, own)
        if roles:
            return Grant(roles, own)
        whole = Grant(case.roles, own)
        return whole if case.roles and all(map(is_writable, case.roles)) and self._is_sound(whole) else None

    def _sound_roles(self, case: RequestGroup, own: str | None) -> frozenset[str]:
        writable = filter(is_writable, case.roles)
        return frozenset(role for role in writable if self._is_sound(Grant(frozenset((role,)), own)))

    def _is_sound(self, grant: Grant) -> bool:
        return not any(grant.allows(case.roles, case.own) for case in self._refused)

    def _take(self, found: Iterable[tuple[Grant, RequestGroup]]) -> None:
        explained: dict[Grant, list[RequestGroup]] = {}
        for grant, case in found:
            explained.setdefault(grant, []).append(case)
        for grant in sorted(explained, key=lambda one: len(one.roles)):
            cases = [case for case in explained[grant] if not self._is_explained(case)]
            hits = together(self._cases[case].admitted for case in cases)
            if self._enough.is_met(hits):
                self._taken[grant] = hits

    # --- what is left ---

    def _is_explained(self, case: RequestGroup) -> bool:
        return any(grant.allows(case.roles, case.own) for grant in self._taken)

    def _unexplained(self) -> Sequence[RequestGroup]:
        return [case for case in self._admitted if not self._is_explained(case)]

    def _reason(self, case: RequestGroup) -> str:
        answers = self._cases[case]
        if answers.refused.span.requests:
            return "the app refused such requests, too: something else than roles and owners decides"
        if not self._enough.is_met(answers.admitted):
            return f"too few, expected {self._enough.hits} requests of {self._enough.principals} principals"
        return "no roles explain it"


def is_writable(name: str) -> bool:
    """Return whether a policy can name a role or action as it is: it is there, and no wildcard."""
    return name != "" and not is_glob(name)


def _order(case: RequestGroup) -> tuple[object, ...]:
    return (case.kind, case.action, sorted(case.roles), sorted(case.own))
