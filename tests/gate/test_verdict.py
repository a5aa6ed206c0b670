"""Reasons, permits and refusals as values."""

from __future__ import annotations

import dataclasses
import re

import pytest

from sidecar.gate.verdict import Code, Facts, Forward, Ground, Preflight, Refuse, Refused

FACTS = Facts("r", "GET", "/")


def test_a_code_is_its_own_stable_spelling() -> None:
    for code in Code:
        assert code.value == code.name.lower()
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)


def test_no_ground_reads_as_a_code() -> None:
    """One field of the decision log holds either."""
    assert not set(Ground) & set(Code)


def test_a_refusal_carries_its_code_and_what_the_log_may_say() -> None:
    refused = Refused(Code.METHOD_UNMAPPED, "why", ("GET",))
    assert (refused.code, refused.detail, refused.methods) == (Code.METHOD_UNMAPPED, "why", ("GET",))
    assert (Refused(Code.NO_ROLES).detail, Refused(Code.NO_ROLES).methods) == ("", ())
    assert "no_roles" in repr(Refused(Code.NO_ROLES)) or "NO_ROLES" in repr(Refused(Code.NO_ROLES))


@pytest.mark.parametrize(
    ("verdict", "field"),
    [
        (Forward(b"GET", b"/", (), Ground.PUBLIC, FACTS), "target"),
        (Refuse(Code.NO_ROLES, FACTS), "code"),
        (Preflight((), FACTS), "headers"),
    ],
)
def test_a_verdict_cannot_be_changed(verdict: Forward | Refuse | Preflight, field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(verdict, field, b"/admin")


def test_the_stages_of_one_request_are_not_those_of_another() -> None:
    first, second = Facts("1", "GET", "/"), Facts("2", "GET", "/")
    first.stages["request"] = 1.0
    assert second.stages == {}
