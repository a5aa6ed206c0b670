"""Faults of dependencies by reason: counted, and each told on stderr once a minute at most."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sidecar.gate.codes import Dependency
from sidecar.record.metrics import Metrics
from sidecar.record.reasons import Reason

log = logging.getLogger("sidecar.faults")

EVERY = 60.0
"""Seconds between two lines about one reason of one place."""


class FaultLog:
    """Told of each fault by whoever asks a server. `now` gives monotonic seconds.

    A place is of the configuration, so that there are only so many.
    """

    def __init__(self, metrics: Metrics, now: Callable[[], float]) -> None:
        self._metrics = metrics
        self._now = now
        self._last_logged: dict[tuple[str, Reason], tuple[float, int]] = {}

    def report(self, dependency: Dependency, place: str, reason: Reason, detail: str) -> None:
        """Count a fault; and warn, with the place, what was found and what to do next."""
        self._metrics.reason(dependency, reason)
        now = self._now()
        last, silent = self._last_logged.get((place, reason), (-EVERY, 0))
        if now - last < EVERY:
            self._last_logged[place, reason] = last, silent + 1
            return
        self._last_logged[place, reason] = now, 0
        more = f" ({silent} more since the last such line)" if silent else ""
        log.warning("%s: found %s (%s)%s: %s", place, reason, detail or reason.meaning, more, reason.remedy)
