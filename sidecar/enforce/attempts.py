"""How often a sign-in may fail, for one address and for one user, before the next try has to wait."""

from __future__ import annotations

from collections import deque

WINDOW = 300.0
"""Seconds in which failures are counted."""
PER_USER = 10
PER_ADDRESS = 30
_REMEMBERED = 100_000


class Attempts:
    """Failed attempts by key, each with its own limit. Times are Unix seconds. Counts are of this process.

    Of more than so many keys the one that failed first is forgotten: a flood cannot fill the memory.
    """

    def __init__(self, remembered: int = _REMEMBERED) -> None:
        self._remembered = remembered
        self._failures: dict[tuple[str, str], deque[float]] = {}

    def allowed(self, address: str, user: str, now: float) -> bool:
        """Whether another try may be made from this address, and as this user."""
        return (
            self._count(("address", address), now) < PER_ADDRESS and self._count(("user", user.lower()), now) < PER_USER
        )

    def failed(self, address: str, user: str, now: float) -> None:
        """Count a failure against both."""
        for key, limit in ((("address", address), PER_ADDRESS), (("user", user.lower()), PER_USER)):
            if key not in self._failures and len(self._failures) >= self._remembered:
                # the oldest entry: a dict keeps the order of insertion
                self._failures.pop(next(iter(self._failures)))
            self._failures.setdefault(key, deque(maxlen=limit)).append(now)

    def _count(self, key: tuple[str, str], now: float) -> int:
        failures = self._failures.get(key)
        while failures and failures[0] <= now - WINDOW:
            failures.popleft()
        if failures is not None and not failures:
            del self._failures[key]
        return len(failures or ())
