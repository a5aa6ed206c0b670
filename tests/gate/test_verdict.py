"""Codes and verdicts."""

from __future__ import annotations

import dataclasses
import re

import pytest

from sidecar.gate.verdict import Code, Facts, Forward, Ground, Preflight, Refuse, Refused


def test_codes_are_stable_words_each_once_and_no_ground_is_one() -> None:
    words = [*Code, *Ground]
    assert len(set(words)) == len(words)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", word) for word in words)
    assert all(code.name.lower() == code.value for code in Code)


def test_a_refusal_carries_its_reason() -> None:
    refused = Refused(Code.METHOD_UNMAPPED, "why", ("GET",))
    assert (refused.code, refused.detail, refused.methods) == (Code.METHOD_UNMAPPED, "why", ("GET",))


def test_a_verdict_cannot_be_changed_after_it_was_made() -> None:
    facts = Facts("r", "GET", "/")
    for verdict in (
        Forward(b"GET", b"/", (), Ground.PUBLIC, facts),
        Refuse(Code.NO_ROLES, facts),
        Preflight((), facts),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            verdict.facts = facts  # type: ignore[misc]
