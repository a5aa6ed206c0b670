"""The question log: written beside the requests, and never waited for."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.gate.codes import Ground
from sidecar.gate.verdict import Facts
from sidecar.record import question_log as module
from sidecar.record.line import QuestionLine, read
from sidecar.record.metrics import Metrics
from sidecar.record.question_log import QuestionLog
from sidecar.record.questions import FIRST, HOUR, DecidedRequest, VisibleAttributes
from sidecar.record.rotated_file import RotatedFile
from tests.fakes import until
from tests.permits import Permit
from tests.record.test_rotated_file import mounted


def seen(number: int = 0, route: str = "/a", path: str = "/a") -> DecidedRequest:
    facts = Facts(f"r{number}", "GET", path, route=route)
    return DecidedRequest(Permit(b"GET", b"/a", (), Ground.PUBLIC, facts), "enforce", "allow", "public", 200, 0.001)


def lines_of(path: Path) -> list[QuestionLine]:
    found = [read(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    return [line for line in found if isinstance(line, QuestionLine)]


def lost(metrics: Metrics) -> float:
    return metrics.values()["sidecar_question_log_lost"][()][0]


def log_at(path: Path, metrics: Metrics, again_after: float = 0.01) -> QuestionLog:
    file = RotatedFile(str(path), 4 * 1024**2)
    return QuestionLog(file, VisibleAttributes(), metrics, again_after=again_after, draw=lambda most: most)


async def test_each_request_is_in_the_weight_of_a_line_and_the_last_ones_at_the_end(tmp_path: Path) -> None:
    metrics = Metrics()
    log = log_at(tmp_path / "log", metrics)
    log.revision = lambda: "0123456789abcdef"
    for number in range(5 * FIRST):
        log.record(seen(number), 0.0)
    log.record(seen(route="/b"), 0.0)
    await log.aclose()
    lines = lines_of(tmp_path / "log")
    assert sum(line.weight for line in lines if line.route == "/a") == 5 * FIRST
    assert FIRST <= len(lines) < 4 * FIRST
    assert {line.revision for line in lines} == {"0123456789abcdef"}
    assert lost(metrics) == 0


async def test_the_rests_are_written_hour_by_hour_and_bit_by_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEPT_AT_ONCE", 3)
    log = log_at(tmp_path / "log", Metrics())
    cells = 2 * module.SWEPT_AT_ONCE
    for route in range(cells):
        for number in range(3 * FIRST):
            log.record(seen(number, f"/{route}"), 0.0)
    log.tick(0.0)
    await until(lambda: not log.waiting)
    before = sum(line.weight for line in lines_of(tmp_path / "log"))
    assert before < 3 * FIRST * cells
    log.tick(HOUR)
    await until(lambda: not log.waiting)
    some = sum(line.weight for line in lines_of(tmp_path / "log"))
    assert before < some < 3 * FIRST * cells
    for _ in range(4):
        log.tick(HOUR + 1)
    await until(lambda: sum(line.weight for line in lines_of(tmp_path / "log")) == 3 * FIRST * cells)
    await log.aclose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as folder:
        yield folder


@pytest.mark.process
async def test_a_full_disk_stops_it_and_nobody_waits(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 20_000)
    metrics, path = Metrics(), small_disk / "log"
    (small_disk / "filling").write_bytes(b"x" * 60_000)
    log = log_at(path, metrics)
    with caplog.at_level(logging.WARNING, "sidecar.questions"):
        told = 0
        while not lost(metrics):
            log.record(seen(told, f"/{told}"), 0.0)
            told += 1
            if told % 20 == 0:
                await asyncio.sleep(0)
        await until(lambda: log.fault)
        assert log.fault == "No space left on device"
        assert log.shown()["fault"] == log.fault
        (message,) = [record.getMessage() for record in caplog.records]
        assert message.startswith(f"the question log {path} cannot be written (No space left on device)")
        (small_disk / "filling").unlink()
        await until(lambda: not log.fault and not log.waiting)
        assert caplog.records[-1].getMessage() == f"the question log is written again: {path}"
    assert sum(line.weight for line in lines_of(path)) == told - lost(metrics)
    await log.aclose()


async def test_what_cannot_be_written_at_the_end_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    log = log_at(tmp_path / "none" / "log", metrics, again_after=60.0)
    log.record(seen(), 0.0)
    await until(lambda: log.fault)
    log.record(seen(), 0.0)
    before = time.monotonic()
    await log.aclose()
    assert time.monotonic() - before < module.LAST_WITHIN
    assert lost(metrics) == 2
    assert "2 requests are not in it" in caplog.text


async def test_a_disk_that_does_not_answer_holds_up_neither_requests_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LAST_WITHIN", 0.05)
    released, metrics = threading.Event(), Metrics()

    class Hanging(RotatedFile):
        def append(self, lines: bytes) -> None:
            released.wait(30)

    log = QuestionLog(Hanging(str(tmp_path / "log"), 4 * 1024**2), VisibleAttributes(), metrics)
    for number in range(FIRST):
        log.record(seen(number), 0.0)
    await log.aclose()
    assert lost(metrics) == FIRST
    released.set()


async def test_nothing_is_opened_before_the_first_line(tmp_path: Path) -> None:
    log = log_at(tmp_path / "log", Metrics())
    log.tick(0.0)
    await log.aclose()
    assert os.listdir(tmp_path) == []
