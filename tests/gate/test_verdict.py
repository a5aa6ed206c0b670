"""Verdicts."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Code, Ground
from sidecar.gate.verdict import Facts, Preflight, Refuse, Refused
from tests.permits import Permit


def test_a_refusal_carries_its_reason() -> None:
    refused = Refused(Code.METHOD_UNMAPPED, "why", ("GET",))
    assert (refused.code, refused.detail, refused.methods) == (Code.METHOD_UNMAPPED, "why", ("GET",))


def test_a_verdict_cannot_be_changed_after_it_was_made() -> None:
    facts = Facts("r", "GET", "/")
    for verdict in (
        Permit(b"GET", b"/", (), Ground.PUBLIC, facts),
        Refuse(Code.NO_ROLES, facts),
        Preflight((), facts),
    ):
        with pytest.raises(AttributeError):
            verdict.facts = facts  # type: ignore[misc]
