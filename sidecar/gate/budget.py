"""Budget of a mode: how many refusals that nobody expects a route may give before it is put back into shadow."""

from __future__ import annotations

from collections import Counter, deque

from sidecar.gate.codes import Code

UNEXPECTED = frozenset(
    (
        Code.DENIED_BY_POLICY, Code.RESOURCE_MISSING, Code.RESOURCE_HIDDEN, Code.NO_ROLES, Code.CLAIM_MISSING,
        Code.CLAIM_INVALID, Code.SCOPE_MISSING, Code.IDENTITY_HEADER_TOO_LARGE, Code.ITEMS_UNREADABLE,
        Code.ITEMS_TOO_MANY,
    )
)  # fmt: skip
"""Refusals that count, of principals that are known: what a rule or a policy may say wrongly. No fault of a dependency
does, since whoever brings one down would open the route."""


class Budget:
    """Counts the unexpected refusals of one route or action, in one process: more than `refusals` of them within so
    many seconds, of at least so many `principals`, spend it. It stays `spent`."""

    def __init__(self, refusals: int, principals: int, within: float) -> None:
        self.refusals = refusals
        self.principals = principals
        self.within = within
        self.spent = False
        self._recent: deque[tuple[float, str]] = deque()
        self._of: Counter[str] = Counter()

    def __str__(self) -> str:
        return f"{self.refusals} refusals of {self.principals} principals within {self.within:g} s"

    def count(self, principal: str, now: float) -> bool:
        """Count a refusal at a time in seconds. Return whether this one has spent the budget."""
        if self.spent:
            return False
        while self._recent and self._recent[0][0] <= now - self.within:
            self._forget(0)
        if self._of[principal] > self.refusals:
            # more of one are not held, since it needs others beside it: but for the latest, which count the longest
            self._forget(next(at for at, (_, other) in enumerate(self._recent) if other == principal))
        self._recent.append((now, principal))
        self._of[principal] += 1
        self.spent = len(self._recent) > self.refusals and len(self._of) >= self.principals
        if self.spent:
            self._recent.clear()
            self._of.clear()
        return self.spent

    def _forget(self, at: int) -> None:
        _, principal = self._recent[at]
        del self._recent[at]
        self._of[principal] -= 1
        if not self._of[principal]:
            del self._of[principal]
