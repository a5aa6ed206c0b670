"""Verdicts."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.gate.codes import Code, Ground
from sidecar.gate.verdict import Facts, Forward, Preflight, Refuse, Refused
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


def test_no_permit_comes_of_another_one_or_of_its_fields() -> None:
    permit: Any = Permit(b"GET", b"/", (), Ground.PUBLIC, Facts("r", "GET", "/"))
    with pytest.raises(TypeError):
        permit._replace(target=b"/admin")
    with pytest.raises(TypeError):
        type(permit)._make(permit)
    with pytest.raises(TypeError):
        super(Forward, permit)._replace(target=b"/admin")
