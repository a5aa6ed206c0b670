"""Faults by reason: counted each time, told once a minute."""

from __future__ import annotations

import logging

import pytest

from sidecar.gate.codes import Dependency
from sidecar.record.exposition import exposition
from sidecar.record.faults import EVERY, FaultLog
from sidecar.record.metrics import Metrics
from sidecar.record.reasons import Reason
from tests.fakes import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_reason_is_told_once_a_minute_and_counted_each_time(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "sidecar.faults")
    metrics = Metrics()
    faults = FaultLog(metrics, clock)
    place = "SIDECAR_UPSTREAM: http://app:80"
    for _ in range(3):
        faults.report(Dependency.UPSTREAM, place, Reason.CONNECTION_REFUSED, "10.0.0.7: refused")
    faults.report(Dependency.UPSTREAM, place, Reason.HTTP_UPGRADE_FAILED, "")
    faults.report(Dependency.LOOKUP, "lookups.contact: http://hook", Reason.CONNECTION_REFUSED, "10.0.0.8: refused")
    assert caplog.messages == [
        f"{place}: found connection_refused (10.0.0.7: refused): {Reason.CONNECTION_REFUSED.remedy}",
        f"{place}: found http_upgrade_failed ({Reason.HTTP_UPGRADE_FAILED.meaning}): {Reason.HTTP_UPGRADE_FAILED.remedy}",
        f"lookups.contact: http://hook: found connection_refused (10.0.0.8: refused): {Reason.CONNECTION_REFUSED.remedy}",
    ]
    caplog.clear()
    clock.now += EVERY
    faults.report(Dependency.UPSTREAM, place, Reason.CONNECTION_REFUSED, "10.0.0.9: refused")
    assert caplog.messages[0].startswith(
        f"{place}: found connection_refused (10.0.0.9: refused) (2 more since the last such line): start the server"
    )
    shown = exposition(metrics.of_all())
    assert b'sidecar_dep_fault_reasons_total{dep="upstream",reason="connection_refused"} 4.0' in shown
    assert b'sidecar_dep_fault_reasons_total{dep="lookup",reason="connection_refused"} 1.0' in shown
