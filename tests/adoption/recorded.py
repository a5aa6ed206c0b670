"""Lines as the sidecar writes them, for tests of what reads them."""

from __future__ import annotations

from typing import Any

from sidecar.record.line import CandidateDiffers, Decision, QuestionLine, time_text

START = 1_764_547_200.0
"""2025-12-01T00:00:00Z."""
DAY = 86_400.0


def at(days: float) -> str:
    """Return the field `time` of so many days after the start."""
    return time_text(START + days * DAY)


def question(days: float = 0.0, app_status: int | None = 200, **fields: Any) -> QuestionLine:
    """Return a question line: bob reads contact 7 in shadow mode, and is allowed to."""
    asked = QuestionLine(
        at(days), "r-1", "shadow", "allow", "allowed", app_status or 502, "GET", "app.test", "/contacts/7", "/contacts/{id}",
        "bob", ("user",), "contact", "7", "read", 4.2, 1, True, app_status=app_status,
    )  # fmt: skip
    return asked._replace(**fields)


def refused(days: float = 0.0, app_status: int | None = 200, **fields: Any) -> QuestionLine:
    """Return a question line: bob would not be allowed to read contact 7."""
    return question(days, app_status, **{"outcome": "shadow_refuse", "code": "denied_by_policy", **fields})


def differing(days: float = 0.0, **fields: Any) -> CandidateDiffers:
    """Return a line of candidate policies by which bob may read contact 7 no more."""
    line = CandidateDiffers(
        at(days), "r-1", "/contacts/{id}", "contact", "7", "read", "bob", ("user",), "allow", "deny",
        candidate_revision="946adfca825cf747",
    )  # fmt: skip
    return line._replace(**fields)


def decision(days: float = 0.0, **fields: Any) -> Decision:
    """Return a decision line of the same request."""
    decided = Decision(
        at(days), "r-1", "shadow", "allow", "allowed", 200, "GET", "app.test", "/contacts/7", "/contacts/{id}", "bob",
        ("user",), "contact", "7", "read", "10.0.0.9", {"request": 0.031}, 4.2,
    )  # fmt: skip
    return decided._replace(**fields)
