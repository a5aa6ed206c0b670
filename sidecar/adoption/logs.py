"""Lines of decision and question logs, of several files, in the order of time: for whatever reads a log again.

Files may be rotated, compressed, and of several replicas. They are read in one pass, in memory that does not grow with
them. A line that cannot be read is counted, and its place kept.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, cast

from sidecar.adoption.log_files import LogFile, log_files, open_log
from sidecar.imports.files import UNREADABLE, InputFile, lines
from sidecar.imports.sighting import UnusableFile
from sidecar.printable import printable
from sidecar.record.line import Line, LineError, QuestionLine, read

MAX_LINE = 1024 * 1024
"""Bytes of a line; of a longer one nothing is read."""
MAX_SHOWN = 20
"""Lines that could not be read and are shown; further ones are only counted."""
DISORDER_LINES, DISORDER_BYTES = 1024, 2 * 1024 * 1024
"""How far from its place in time a line may stand to come in order all the same: workers write side by side."""
_FIRST_LINES = 100
"""Lines of a file among which one is looked for that has a time."""
_MARK = b"\xef\xbb\xbf"
"""UTF-8's byte order mark, which some editors put before the first line."""
_NEVER = "~"
"""Later than each time."""


class Logged(NamedTuple):
    """A line of a log, and where it stands."""

    file: str
    number: int
    line: Line

    @property
    def place(self) -> str:
        """Where it stands, as `decisions.log:17`."""
        return f"{self.file}:{self.number}"


class _Entry(NamedTuple):
    """A line with what it is ordered by: its time, and among those of one time its event and bytes.

    So the order is that of all lines, whichever file each stands in. Question lines come first: the decision line of
    the same request has the same time, and counts no more once there is a question line.
    """

    time: str
    is_other: bool
    data: bytes
    logged: Logged


class Logs:
    """The lines of these files: names, patterns such as `decisions.log*`, or `-` for the standard input.

    Raises UnusableFile with every file that cannot be read. After `read`, `lines` were read and `broken` could not be:
    `first_broken` says where the first one is, and why. `late` lines stood too far from their place in time to be put
    in order.
    """

    def __init__(self, names: Iterable[str], stdin: io.BufferedIOBase | None = None) -> None:
        self._stdin = cast(io.BufferedIOBase, sys.stdin.buffer) if stdin is None else stdin
        self.files = tuple(log_files(names))
        self.size = 0 if any(file.size is None for file in self.files) else sum(file.size or 0 for file in self.files)
        """Bytes of all files as they are stored; 0 where that cannot be known."""
        problems: list[str] = []
        self._first_times = {file: self._time_of(file, problems) for file in self.files}
        if problems:
            raise UnusableFile(problems)
        self.lines = 0
        self.broken = 0
        self.first_broken: list[str] = []
        self.late = 0

    def read(self, progress: Callable[[int], None] | None = None) -> Iterator[Logged]:
        """Return every line that can be read, in the order of time. `progress` is told how many bytes are read.

        Raises UnusableFile for a pipe that is of no format that is read.
        """
        done: Counter[LogFile] = Counter()

        def advance(file: LogFile, count: int) -> None:
            done[file] = count
            if progress is not None:
                progress(done.total())

        last = ""
        for entry in _in_order(self._merged(advance)):
            self.lines += 1
            if entry.time < last:
                self.late += 1
            else:
                last = entry.time
            yield entry.logged

    def notes(self) -> list[str]:
        """Say what a person must know of lines that could not be read, or not in order."""
        found = list(self.first_broken)
        if more := self.broken - len(found):
            found.append(f"{more:,} more lines could not be read")
        if self.late:
            found.append(f"{self.late:,} lines stand too far from their place in time, and were read late")
        return found

    def _merged(self, advance: Callable[[LogFile, int], None]) -> Iterator[_Entry]:
        """Every line of all files. A file is opened when the turn of its first line has come."""
        waiting = sorted(((time, file.name, file) for file, time in self._first_times.items()), reverse=True)
        heads: list[tuple[_Entry, Iterator[_Entry]]] = []
        while waiting or heads:
            while waiting and (not heads or waiting[-1][0] <= heads[0][0].time):
                _push(heads, self._entries(waiting.pop()[-1], advance))
            if not heads:
                continue
            entry, source = heapq.heappop(heads)
            # as far as nothing else comes between
            bound = min(heads[0][0].time if heads else _NEVER, waiting[-1][0] if waiting else _NEVER)
            yield entry
            for entry in source:
                if entry.time > bound:
                    heapq.heappush(heads, (entry, source))
                    break
                yield entry

    def _entries(self, file: LogFile, advance: Callable[[LogFile, int], None]) -> Iterator[_Entry]:
        """The lines of one file as they stand."""
        source = open_log(file, self._stdin, lambda count: advance(file, count))
        number = 0
        try:
            with source.stream:
                for number, data in lines(source.stream, MAX_LINE):
                    line = self._line(source.name, number, data)
                    if line is not None:
                        is_other = not isinstance(line, QuestionLine)
                        yield _Entry(line.time, is_other, data or b"", Logged(source.name, number, line))
        except UNREADABLE as error:
            self._note(source.name, number + 1, f"cannot be read from here on: {error}")

    def _line(self, name: str, number: int, data: bytes | None) -> Line | None:
        if data is None:
            self._note(name, number, f"found more than {MAX_LINE:,} bytes, expected a line of the log")
            return None
        if number == 1:
            data = data.removeprefix(_MARK)
        try:
            return read(data)
        except LineError as error:
            if data.strip():
                self._note(name, number, str(error))
            return None

    def _note(self, name: str, number: int, reason: str) -> None:
        self.broken += 1
        if len(self.first_broken) < MAX_SHOWN:
            self.first_broken.append(printable(f"{name}:{number}: {reason}"))

    def _time_of(self, file: LogFile, problems: list[str]) -> str:
        """The time of the first line that can be read; "" where there is none, or the file can be read only once."""
        if file.size is None:
            return ""
        try:
            source = open_log(file, self._stdin, lambda _: None)
        except UnusableFile as error:
            problems.extend(error.problems)
            return ""
        with source.stream:
            return _first_time(source)


def _first_time(source: InputFile) -> str:
    try:
        for number, data in itertools.islice(lines(source.stream, MAX_LINE), _FIRST_LINES):
            with contextlib.suppress(LineError):
                return read((data or b"") if number > 1 else (data or b"").removeprefix(_MARK)).time
    except UNREADABLE:
        # told with its place when it is read
        pass
    return ""


def _push(heads: list[tuple[_Entry, Iterator[_Entry]]], source: Iterator[_Entry]) -> None:
    entry = next(source, None)
    if entry is not None:
        heapq.heappush(heads, (entry, source))


def _in_order(entries: Iterable[_Entry]) -> Iterator[_Entry]:
    """Put lines in order that stand near their place."""
    held: list[_Entry] = []
    weight = 0
    for entry in entries:
        held.append(entry)
        weight += len(entry.data)
        if len(held) >= 2 * DISORDER_LINES or weight >= 2 * DISORDER_BYTES:
            held.sort()
            half = len(held) // 2
            yield from held[:half]
            held = held[half:]
            weight = sum(len(entry.data) for entry in held)
    held.sort()
    yield from held
