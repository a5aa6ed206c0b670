"""Reasons of faults: each says what it means, and what to do."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Dependency
from sidecar.record.reasons import FaultKind, Reason, report_nothing


@pytest.mark.parametrize("reason", Reason)
def test_each_has_a_kind_a_meaning_and_a_remedy(reason: Reason) -> None:
    assert isinstance(reason.kind, FaultKind)
    assert reason == reason.value
    for text in (reason.meaning, reason.remedy):
        assert len(text) > 10
        assert "\n" not in text
        assert not text.endswith(".")


def test_a_fault_that_nobody_listens_to_is_none() -> None:
    report_nothing(Dependency.UPSTREAM, "here", Reason.NOT_TLS, "")
