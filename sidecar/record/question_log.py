"""Question log: what was asked about requests, and what came of it, in a file that is bounded and never waited for.

Lines wait in memory until a thread writes them: no disk is waited for by the loop that serves. Where none can be
written, it says so once, tries again later, and counts the requests whose lines it loses; none is held up for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from sidecar.record import line
from sidecar.record.line import QuestionLine
from sidecar.record.metrics import Metrics
from sidecar.record.questions import HOUR, DecidedRequest, Sampler, VisibleAttributes, cell_of, question_of
from sidecar.record.rotated_file import PIECE, RotatedFile

log = logging.getLogger("sidecar.questions")

MAX_WAITING = 4 * 1024 * 1024
"""Bytes of lines that may wait to be written; further ones are lost."""
EVERY = 0.2
"""Seconds in which lines come together before they are written."""
AGAIN_AFTER = 10.0
"""Seconds after which a file that could not be written is tried again."""
LAST_WITHIN = 2.0
"""Seconds that the last lines have before the process ends without them."""
SWEPT_AT_ONCE = 100
"""Cells whose rests are written in one turn of the loop."""


class QuestionLog:
    """Question log of one process. `shown` names the attributes that may stand in it. `policies` says which are in
    force, "" where that is not known: whoever composes sets it."""

    def __init__(
        self, file: RotatedFile, shown: VisibleAttributes, metrics: Metrics, *, again_after: float = AGAIN_AFTER,
        draw: Callable[[int], int] = lambda most: random.randint(1, most),  # noqa: S311 - for a sample
    ) -> None:  # fmt: skip
        self.fault = ""
        """Fault for which nothing is written, "" where it is."""
        self.revision: Callable[[], str] = lambda: ""
        self._file = file
        self._shown = shown
        self._metrics = metrics
        self._again_after = again_after
        self._cells = Sampler(draw)
        self._sweep: Iterator[QuestionLine] = iter(())
        self._hour = -1
        self._lines: deque[tuple[bytes, int]] = deque()
        self.waiting = 0
        """Bytes of lines that are not written yet."""
        self._lock = threading.Lock()
        self._wake, self._ended = threading.Event(), threading.Event()
        self._writer: threading.Thread | None = None

    def shown(self) -> dict[str, object]:
        """Return the state for `/config`."""
        names = [*map("resource.{}".format, self._shown.resource), *map("principal.{}".format, self._shown.principal)]
        return {"file": self._file.path, "attributes": sorted(names), "fault": self.fault}

    def record(self, seen: DecidedRequest, now: float) -> None:
        """Take a request, of which a line is kept or not. `now` in Unix seconds."""

        def make() -> QuestionLine:
            return question_of(seen, line.time_text(now), self._shown, self.revision())

        self._put(self._cells.take(cell_of(seen), seen.verdict.facts.principal, now, make))

    def tick(self, now: float) -> None:
        """Write the rests of cells, hour by hour and bit by bit: to be called often."""
        hour = int(now // HOUR)
        if hour != self._hour:
            self._hour, self._sweep = hour, self._cells.rests() if self._hour >= 0 else self._sweep
        self._put([kept for _, kept in zip(range(SWEPT_AT_ONCE), self._sweep, strict=False)])

    def _put(self, questions: Iterable[QuestionLine]) -> None:
        for question in questions:
            data = line.write(question).encode("ascii")
            with self._lock:
                room = self.waiting + len(data) <= MAX_WAITING
                if room:
                    self._lines.append((data, question.weight))
                    self.waiting += len(data)
            if not room:
                self._metrics.question_lost(question.weight)
                continue
            if self._writer is None:
                self._writer = threading.Thread(target=self._write_all, name="question-log", daemon=True)
                self._writer.start()
            self._wake.set()

    # --- the thread ---

    def _write_all(self) -> None:
        while not self._ended.is_set():
            self._wake.wait()
            self._wake.clear()
            self._ended.wait(EVERY)
            while self._lines and not self._write() and not self._ended.wait(self._again_after):
                pass
        self._file.close()

    def _write(self) -> bool:
        """Write what waits -> whether all of it is written."""
        while piece := self._next():
            data = b"".join([data for data, _ in piece])
            try:
                self._file.append(data)
            except OSError as error:
                self._failed(error.strerror or str(error))
                return False
            with self._lock:
                for _ in piece:
                    self._lines.popleft()
                self.waiting -= len(data)
            if self.fault:
                log.warning("the question log is written again: %s", self._file.path)
                # shown once it is told, as `_failed` does
                self.fault = ""
        return True

    def _next(self) -> list[tuple[bytes, int]]:
        """The lines that are written in one go, which stay where they are until they are written."""
        with self._lock:
            piece: list[tuple[bytes, int]] = []
            size = 0
            for pair in self._lines:
                size += len(pair[0])
                if piece and size > PIECE:
                    break
                piece.append(pair)
            return piece

    def _failed(self, why: str) -> None:
        if not self.fault:
            log.error(
                "the question log %s cannot be written (%s): it stops, requests go on; it is tried again every %g s,"
                " and sidecar_question_log_lost_total counts the requests that it loses", self._file.path, why,
                self._again_after,
            )  # fmt: skip
        self.fault = why

    async def aclose(self) -> None:
        """Write the last lines, those for the rests of cells too, and give the file back. What isn't written in time is
        lost."""
        self._put(self._sweep)
        self._put(self._cells.rests())
        self._ended.set()
        self._wake.set()
        if self._writer is not None:
            await asyncio.to_thread(self._writer.join, LAST_WITHIN)
        with self._lock:
            lost = sum(weight for _, weight in self._lines)
        if lost:
            self._metrics.question_lost(lost)
            log.error("the question log %s cannot be written: %d requests are not in it", self._file.path, lost)
