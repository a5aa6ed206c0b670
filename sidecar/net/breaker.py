"""Stops asking what does not answer: after some failures in a row, one probe at a time instead of every request."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, str], None]
"""Told of each fault of a dependency: (its name, the fault's)."""


class Breaker:
    """Open after `failures` in a row; while open, one call per `probe_every` seconds is let through to look.

    `now` gives monotonic seconds. Whoever was let through must say how it ended.
    """

    __slots__ = ("_failed", "_failures", "_now", "_probe_at", "_probe_every")

    def __init__(self, now: Callable[[], float], failures: int = 5, probe_every: float = 2.0) -> None:
        self._now = now
        self._failures = failures
        self._probe_every = probe_every
        self._failed = 0
        self._probe_at = 0.0

    @property
    def is_open(self) -> bool:
        """Return whether calls are being turned away."""
        return self._failed >= self._failures

    def allows(self) -> bool:
        """Return whether a call may go out now: always while closed, and once per probe time while open."""
        if self._failed < self._failures:
            return True
        now = self._now()
        if now < self._probe_at:
            return False
        self._probe_at = now + self._probe_every
        return True

    def succeeded(self) -> None:
        """An answer came: closed again."""
        self._failed = 0

    def failed(self) -> None:
        """No answer came."""
        self._failed += 1
        if self._failed == self._failures:
            self._probe_at = self._now() + self._probe_every
