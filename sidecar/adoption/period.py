"""A period of time, as a user gives it, compared with the times of lines."""

from __future__ import annotations

import datetime
from typing import NamedTuple

from sidecar.record.line import time_text


class PeriodError(ValueError):
    """A time that cannot be read; says what was found and what is expected."""


class Period(NamedTuple):
    """From `since` on, and before `until`, as lines have their time; "" for no bound."""

    since: str = ""
    until: str = ""

    def has(self, time: str) -> bool:
        """Return whether a line's time is in it."""
        # the times of lines are all of one form and in UTC, so that their order is that of their texts
        return self.since <= time and (not self.until or time < self.until)


def period_of(since: str, until: str) -> Period:
    """Return the period of two times with their zones, "" for none. Raises PeriodError."""
    period = Period(_moment("--since", since), _moment("--until", until))
    if period.until and period.since >= period.until:
        raise PeriodError(f"--until: found {until}, expected a time after --since {since}")
    return period


def _moment(flag: str, text: str) -> str:
    if not text:
        return ""
    try:
        moment = datetime.datetime.fromisoformat(text)
        time = time_text(moment.timestamp()) if moment.tzinfo is not None else ""
    except (ValueError, OverflowError):
        raise PeriodError(f"{flag}: found {text!r}, expected a time with its zone, such as {_EXAMPLE}") from None
    if not time:
        zoned = f"{moment.isoformat(timespec='minutes')}Z"
        raise PeriodError(f"{flag}: found {text!r} without a zone, expected one, such as {zoned}")
    return time


_EXAMPLE = "2026-01-31T12:00+01:00"
