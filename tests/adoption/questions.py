"""Lines of a question log, as tests need them."""

from __future__ import annotations

from typing import Any

from sidecar.record.line import QuestionLine, time_text

START = 1_769_860_800.0
"""2026-01-31T12:00:00Z"""


def question(**fields: Any) -> QuestionLine:
    """A request that was allowed, but for what is said otherwise."""
    made = QuestionLine(
        time_text(START), "r-1", "enforce", "allow", "allowed", 200, "GET", "app.test", "/contacts/7", "/contacts/{id}",
        "alice", ("user",), "contact", "7", "read", 4.2, 1, True, app_status=200, app_ms=3.1,
        attributes={"owner": "alice"}, principal_attributes={}, policy="resource.contact.vdefault", revision="0" * 16,
    )  # fmt: skip
    return made._replace(**fields)


def denied(**fields: Any) -> QuestionLine:
    """A request that the policy denied."""
    said: dict[str, Any] = {"outcome": "refuse", "code": "denied_by_policy", "status": 403, "app_status": None}
    return question(**said | fields)


def unasked(code: str, **fields: Any) -> QuestionLine:
    """A request that was refused before the PDP was asked."""
    said: dict[str, Any] = {"asked": False, "attributes": None, "principal_attributes": None, "policy": None}
    return denied(**said | {"code": code} | fields)
