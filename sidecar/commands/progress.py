"""Progress of a command that takes long, on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

SILENT = 2.0
"""Seconds in which a command says nothing of its progress."""
EVERY = 0.5
"""Seconds from one line of progress to the next on a terminal."""
EVERY_IN_A_FILE = 10.0
"""The same where stderr is no terminal, such as in CI: a line stays there."""


class Progress:
    """Tells how much of a piece of work is done: of `total` units, 0 where nobody knows how many there are.

    Says nothing in the first two seconds. On a terminal one line is written over and over, and taken away by `end`.
    `clock` gives monotonic seconds.
    """

    def __init__(
        self, doing: str, total: int, unit: str = "", stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._doing = doing
        self._total = total
        self._unit = unit
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._is_terminal = self._stream.isatty()
        self._every = EVERY if self._is_terminal else EVERY_IN_A_FILE
        self._next = clock() + SILENT
        self._written = False

    def __call__(self, done: int) -> None:
        """Tell that so many units are done."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + self._every
        self._written = True
        text = f"{self._doing}: {self._how_much(done)}"
        self._stream.write(f"\r\x1b[K{text}" if self._is_terminal else f"{text}\n")
        self._stream.flush()

    def _how_much(self, done: int) -> str:
        unit = f" {self._unit}" if self._unit else ""
        if not self._total:
            return f"{done:,}{unit}"
        return f"{done:,} of {self._total:,}{unit} ({min(done * 100 // self._total, 100)} %)"

    def end(self) -> None:
        """Take the line away."""
        if self._written and self._is_terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
