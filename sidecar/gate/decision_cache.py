"""Decisions that are remembered for a short time, where `routes.yaml` asks for it (R15). Off by default.

What is remembered is the judged answer to one question, never a fault. Two questions share it only if they are equal
in everything that Cerbos is told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sidecar.bounded import Bounded
from sidecar.gate.codes import Code
from sidecar.gate.decision import Resource
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused

REMEMBERED = 16 * 1024 * 1024
"""Bytes of the decisions of one process, about 8,000; of more, the one that was made first is forgotten."""
LONGEST_TEXT = 256
"""Characters of a text that stands in a key as it is; of a longer one its digest does."""

Key = tuple[Any, ...]


class Decided(NamedTuple):
    """A decision: allowed or not, by which call of Cerbos and by which policy.

    It ends at `until` in monotonic seconds, and at `ends` in Unix seconds: whichever clock gets there first.
    """

    allowed: bool
    call_id: str
    policy: str
    until: float
    ends: float


class DecisionCache:
    """Remembers decisions for `seconds`, which is the longest time that a change may take to be seen.

    Each moment is told by both clocks: `now` in Unix seconds, `timer` in monotonic ones. One alone would let a decision
    outlive its time: a clock that is set back, or a machine that was suspended.
    """

    def __init__(self, seconds: float, remembered: int = REMEMBERED) -> None:
        self.seconds = seconds
        self._decisions: Bounded[Key, Decided] = Bounded(remembered)

    @property
    def remembered(self) -> int:
        """Bytes of the decisions."""
        return self._decisions.weight

    def find(self, key: Key, now: float, timer: float) -> Decided | None:
        """The decision, unless its time has passed."""
        decided = self._decisions.get(key)
        if decided is None:
            return None
        if timer >= decided.until or now >= decided.ends:
            self._decisions.drop(key)
            return None
        return decided

    def keep(self, key: Key, principal: Principal, decided: tuple[bool, str, str], now: float, timer: float) -> None:
        """Remember a decision that was asked for at this moment, no longer than the principal's token lives."""
        ends = min(now + self.seconds, principal.expires)
        self._decisions.put(key, Decided(*decided, timer + self.seconds, ends))


def key_of(principal: Principal, resource: Resource) -> Key:
    """Everything that Cerbos is told, and whose word it is: parts side by side, so that no two can run together.

    No part is larger than a short text, whatever a client or a hook sends. Raises Refused(REFERENCE_INVALID): nested so
    deeply that Cerbos would not be told of it either.
    """
    return (
        principal.issuer, principal.claims.get("sub"), principal.id, principal.roles, _parts(principal.attributes),
        resource.kind, _part(resource.id), resource.action, resource.more_actions, _parts(resource.attributes),
        _part(resource.scope),
    )  # fmt: skip


def _parts(attributes: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    return frozenset([(name, _part(value)) for name, value in attributes.items()])


def _part(value: Any) -> Any:
    """A JSON value in a key. Two are equal only if they are the same value of the same type: true, 1, 1.0 and "1" are
    four."""
    if isinstance(value, str):
        # of 256 characters an entry's key takes ASCII ones, of others at most four bytes each
        short = len(value) <= LONGEST_TEXT and (value.isascii() or len(value) <= LONGEST_TEXT // 4)
        return value if short else _digest(value)
    if isinstance(value, bool) or value is None:
        return (value,)
    if isinstance(value, int):
        return ("int", value)
    if isinstance(value, float):
        # not the number itself: 0.0 equals -0.0, and whoever sends numbers could choose many of one hash
        return ("float", repr(value))
    return _digest(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, check_circular=False, separators=(",", ":"))


def _digest(value: Any) -> tuple[str, bytes]:
    """SHA-256 of the one JSON text of a value, in which 1, 1.0, "1" and true are as different as in a key."""
    try:
        text = _CANONICAL.encode(value)
    except RecursionError:
        raise Refused(Code.REFERENCE_INVALID, "a value that Cerbos cannot be told: nested too deeply") from None
    return ("json", hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
