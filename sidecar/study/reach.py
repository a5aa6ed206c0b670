"""Reach of policy rules: which questions of the routes a rule may decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sidecar.pdp.policy_names import kind_name
from sidecar.study.globs import matches
from sidecar.study.policies import Rule
from sidecar.study.supply import PolicyQuestion

VERSION = "default"
"""Of the policies that are asked: the sidecar names none, and Cerbos takes this one."""


def by_kind(asked: Iterable[PolicyQuestion]) -> dict[str, list[PolicyQuestion]]:
    """Return questions by their kind, as Cerbos files its policy."""
    found: dict[str, list[PolicyQuestion]] = {}
    for each in asked:
        found.setdefault(kind_name(each.kind), []).append(each)
    return found


def about(rule: Rule, asked: Mapping[str, list[PolicyQuestion]]) -> list[PolicyQuestion]:
    """Return those of the questions `by_kind` that a rule may decide."""
    if rule.policy.version != VERSION:
        return []
    if rule.policy.kind == "resourcePolicy":
        found = asked.get(kind_name(rule.resource), [])
    else:
        found = [each for some in asked.values() for each in some if matches(rule.resource, each.kind)]
    return [
        each
        for each in found
        if (each.scoped or not rule.policy.scope) and any(matches(action, each.action) for action in rule.actions)
    ]
