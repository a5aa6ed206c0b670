"""Readings of a set of policies: for each kind of resource the attributes that any rule may read, and whether one asks
for the time.

Where something could not be read, it counts as reading everything: who leaves out what no policy reads must be sure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from sidecar.pdp.policy_names import kind_name
from sidecar.study.globs import matches
from sidecar.study.policies import Condition, Match, Policies, Rule
from sidecar.study.reads import WHOLE, AttributeReference, Use, uses

_CLOCK = re.compile(r"\b(?:now|timeSince)\s*\(")
"""The functions of Cerbos that ask for the time (docs.cerbos.dev, "Conditions", timestamps)."""


class AttributeUse(NamedTuple):
    """Attributes that rules about one kind read. `clock`: the time may decide."""

    attributes: frozenset[AttributeReference]
    clock: bool

    def reads(self, owner: str, name: str) -> bool:
        """Return whether an attribute of the `principal` or the `resource` may decide."""
        return not self.attributes.isdisjoint((AttributeReference(owner, name), AttributeReference(owner, WHOLE)))


_ALL = frozenset((AttributeReference("principal", WHOLE), AttributeReference("resource", WHOLE)))


class AttributeUses:
    """Reads policies, each kind once. It may be asked about kinds without number: there is one entry for each kind that
    a policy names, and one for all others."""

    def __init__(self, policies: Policies) -> None:
        self._policies = policies
        self._known: dict[str, AttributeUse] = {}
        self._kinds = {kind_name(policy.name) for policy in policies.policies if policy.kind == "resourcePolicy"}

    def of(self, kind: str) -> AttributeUse:
        """Return what rules about a kind read."""
        name = kind_name(kind)
        key = name if name in self._kinds else ""
        if key not in self._known:
            self._known[key] = self._read(name, known=bool(key))
        return self._known[key]

    def rules(self, kind: str, action: str, roles: tuple[str, ...]) -> list[Rule]:
        """List the rules that may match, whatever their conditions say. A rule of a principal policy has no roles."""
        return [
            rule
            for rule in self._of_kind(kind_name(kind), kind)
            if any(matches(glob, action) for glob in rule.actions)
            and (not rule.roles or any(matches(glob, role) for glob in rule.roles for role in roles))
        ]

    def _of_kind(self, name: str, kind: str) -> Iterator[Rule]:
        for rule in self._policies.rules:
            if rule.policy.kind == "resourcePolicy":
                if kind_name(rule.policy.name) == name:
                    yield rule
            elif matches(rule.resource, kind) or kind_name(rule.resource) == name:
                yield rule

    def _read(self, name: str, *, known: bool) -> AttributeUse:
        # of a kind without a policy of its own, only what is about any kind can be told
        rules = list(self._of_kind(name, name)) if known else self._policies.rules
        if self._policies.unread:
            return AttributeUse(_ALL, clock=True)
        conditions = [condition for rule in rules for condition in rule.conditions]
        clock = any(_CLOCK.search(text) for condition in conditions for text in _texts(condition))
        attributes = frozenset(
            use.attribute if isinstance(use, Use) else AttributeReference(owner, WHOLE)
            for condition in conditions
            for use in uses(condition)
            for owner in ("principal", "resource")
        )
        return AttributeUse(attributes | self._held_by_schemas(name), clock)

    def _held_by_schemas(self, name: str) -> frozenset[AttributeReference]:
        """Attributes that a schema may find wrong, so that the action is denied."""
        return frozenset(
            AttributeReference(owner, WHOLE)
            for policy in self._policies.policies
            if policy.kind == "resourcePolicy" and kind_name(policy.name) == name
            for owner in policy.schemas
        )


def _texts(condition: Condition) -> Iterator[str]:
    yield from _of_match(condition.match)
    for variable in condition.names.variables.values():
        yield variable.value


def _of_match(match: Match) -> Iterator[str]:
    if match.expression is not None:
        yield match.expression.value
    for term in match.of:
        yield from _of_match(term)
