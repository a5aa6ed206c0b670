"""Decisions that are remembered for a short time, where `routes.yaml` asks for it (R15). Off by default.

What is remembered is the judged answer to one question, never a fault. Two questions share it only if they are equal
in everything that Cerbos is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sidecar.gate.decision import Resource
from sidecar.gate.identity import Principal

REMEMBERED = 10_000
"""Decisions of one process; of more, the one that was made first is forgotten."""

Key = tuple[Any, ...]


class Decided(NamedTuple):
    """A decision: allowed or not, by which call of Cerbos and by which policy. `until` is its end in Unix seconds."""

    allowed: bool
    call_id: str
    policy: str
    until: float


class DecisionCache:
    """Remembers decisions for `seconds`, which is the longest time that a change may take to be seen."""

    def __init__(self, seconds: float, remembered: int = REMEMBERED) -> None:
        self.seconds = seconds
        self._remembered = remembered
        self._decisions: dict[Key, Decided] = {}

    def find(self, key: Key, now: float) -> Decided | None:
        """The decision, unless its time has passed."""
        decided = self._decisions.get(key)
        if decided is None:
            return None
        if now >= decided.until or now < decided.until - self.seconds:
            # a clock that was set back makes nothing live longer
            del self._decisions[key]
            return None
        return decided

    def keep(self, key: Key, principal: Principal, decided: tuple[bool, str, str], now: float) -> None:
        """Remember a decision, no longer than the principal's token lives."""
        if len(self._decisions) >= self._remembered:
            # the oldest entry: a dict keeps the order of insertion
            self._decisions.pop(next(iter(self._decisions)))
        self._decisions[key] = Decided(*decided, min(now + self.seconds, principal.expires))


def key_of(principal: Principal, resource: Resource) -> Key:
    """Everything that Cerbos is told, and whose word it is: parts side by side, so that no two can run together."""
    return (
        principal.issuer, principal.claims.get("sub"), principal.id, principal.roles, _frozen(principal.attributes),
        resource.kind, resource.id, resource.action, _frozen(resource.attributes),
    )  # fmt: skip


def _frozen(value: Any) -> Any:
    """A JSON value that can be a key. Two are equal only if Cerbos sees the same value: true is not 1, 1 is 1.0."""
    if type(value) is str:
        return value
    if isinstance(value, bool) or value is None:
        return (value,)
    if isinstance(value, int | float):
        return ("number", value)
    if isinstance(value, Mapping):
        return ("map", frozenset((name, _frozen(item)) for name, item in value.items()))
    return ("list", *map(_frozen, value))
