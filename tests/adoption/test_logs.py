"""Logs of several files are one log in the order of time, and what cannot be read has its place."""

from __future__ import annotations

import gzip
import io
import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.adoption.logs import MAX_LINE, MAX_SHOWN, Logs
from sidecar.imports.sighting import UnusableFile
from sidecar.record.line import Decision, Line, SignedIn, UnknownLine, time_text, write
from tests.adoption import recorded

START = 1_780_000_000.0


def decision(at: float, path: str = "/contacts/7") -> Decision:
    """A line of the decision log, so many seconds after the start."""
    return Decision(
        time_text(START + at), f"r-{at}", "enforce", "allow", "allowed", 200, "GET", "app.test", path, "/contacts/{id}",
        "a-1", ("user",), "contact", "7", "read", "10.0.0.9", {"decision": 1.25}, 4.5, "01H", "p",
    )  # fmt: skip


def text(lines: Sequence[Line]) -> bytes:
    return "".join(map(write, lines)).encode()


def read(*names: str | Path, stdin: bytes = b"") -> tuple[list[Line], Logs]:
    logs = Logs(map(str, names), io.BytesIO(stdin))
    return [logged.line for logged in logs.read()], logs


# --- several files are one log ---


@st.composite
def split_logs(draw: st.DrawFn) -> tuple[list[Line], list[list[Line]]]:
    """A log with slight disorder, and its lines dealt to files."""
    times = draw(st.lists(st.integers(0, 500), min_size=1, max_size=60))
    lines: list[Line] = [decision(at / 1000, f"/{number}") for number, at in enumerate(sorted(times))]
    for at in draw(st.lists(st.integers(0, len(lines) - 1), max_size=10)):
        lines.insert(min(at + 3, len(lines)), lines.pop(at))
    files: list[list[Line]] = [[] for _ in range(draw(st.integers(1, 5)))]
    for line in lines:
        files[draw(st.integers(0, len(files) - 1))].append(line)
    return lines, files


@given(split_logs(), st.lists(st.booleans(), min_size=5, max_size=5), st.permutations(range(5)))
def test_any_split_of_a_log_is_the_same_log(
    split: tuple[list[Line], list[list[Line]]], zipped: list[bool], order: list[int]
) -> None:
    lines, files = split
    with TemporaryDirectory() as folder:
        names = [Path(folder, f"{order[number]}.log") for number in range(len(files))]
        for name, some, packed in zip(names, files, zipped, strict=False):
            name.write_bytes(gzip.compress(text(some)) if packed else text(some))
        found, logs = read(*names)
        whole = Path(folder, "whole.log")
        whole.write_bytes(text(lines))
        assert found == read(whole)[0]
    assert [line.time for line in found] == sorted(line.time for line in lines)
    assert logs.lines == len(lines)
    assert logs.notes() == []


def test_rotated_files_are_read_in_the_order_of_their_first_lines_and_one_at_a_time(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"log.{number}").write_bytes(text([decision(100 - number * 10 + each) for each in range(10)]))
    opened = []
    logs = Logs([str(tmp_path / "log.*")])
    for _ in logs.read():
        opened.append(sum(str(tmp_path) in os.readlink(f"/proc/self/fd/{fd}") for fd in open_files()))
    assert logs.lines == 50
    # the next one's first line is read with the last line of the one before
    assert max(opened) <= 2


def open_files() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]


def test_two_replicas_are_merged_by_time(tmp_path: Path) -> None:
    one, other = tmp_path / "a.log", tmp_path / "b.log"
    one.write_bytes(text([decision(at) for at in (0, 2, 4)]))
    other.write_bytes(text([decision(at) for at in (1, 3, 5)]))
    found, _ = read(one, other)
    assert found == [decision(at) for at in range(6)]


def test_of_one_time_question_lines_come_before_others(tmp_path: Path) -> None:
    decisions, questions = tmp_path / "a.log", tmp_path / "b.log"
    decisions.write_bytes(text([recorded.decision(at) for at in range(3)]))
    questions.write_bytes(text([recorded.question(at) for at in range(3)]))
    for names in ((decisions, questions), (questions, decisions)):
        assert read(*names)[0] == [
            line for at in range(3) for line in (recorded.question(at), recorded.decision(at))
        ]  # fmt: skip


def test_each_line_has_its_place(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(text([decision(0)]) + b"\n" + text([decision(1)]))
    assert [logged.place for logged in Logs([str(log)]).read()] == [f"{log}:1", f"{log}:3"]


def test_lines_far_from_their_place_are_read_late_and_told_of(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    lines = [decision(at) for at in range(5000)]
    log.write_bytes(text([*lines[1:], lines[0]]))
    found, logs = read(log)
    assert sorted(found) == lines
    assert logs.notes() == ["1 lines stand too far from their place in time, and were read late"]


def test_a_log_is_read_from_stdin_and_from_a_pipe(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, text([decision(1)]))
    os.close(writer)
    found, logs = read("-", f"/dev/fd/{reader}", stdin=gzip.compress(text([decision(0)])))
    assert found == [decision(0), decision(1)]
    assert logs.size == 0
    os.close(reader)


def test_lines_of_other_versions_are_read(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    older = write(decision(0)).replace(', "call_id": "01H"', "")
    newer = write(decision(1)).replace("}\n", ', "later": 1}\n')
    log.write_text(f'\ufeff{older}{newer}{{"time": "{time_text(START + 2)}", "event": "later"}}\n')
    first, second, third = read(log)[0]
    assert first == decision(0)._replace(call_id=None)
    assert second.extra == {"later": 1}
    assert isinstance(third, UnknownLine)


def test_progress_is_told_in_bytes_as_they_are_stored(tmp_path: Path) -> None:
    for name in ("a.log.gz", "b.log.gz"):
        (tmp_path / name).write_bytes(gzip.compress(text([decision(at) for at in range(3000)])))
    logs = Logs([str(tmp_path / "*.gz")])
    told: list[int] = []
    assert len(list(logs.read(told.append))) == 6000
    assert told == sorted(told)
    assert told[-1] == logs.size == sum(file.stat().st_size for file in tmp_path.iterdir())


# --- what cannot be read ---


def test_broken_lines_are_counted_and_the_first_ones_shown_with_their_place(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    torn = write(decision(1))[:80].encode()
    log.write_bytes(text([decision(0)]) + b"Traceback\n" * 30 + b"\xff\n" + text([decision(2)]) + torn)
    found, logs = read(log)
    assert found == [decision(0), decision(2)]
    assert logs.broken == 32
    assert len(logs.first_broken) == MAX_SHOWN
    assert logs.first_broken[0].startswith(f"{log}:2: found no line, expected one JSON object: ")
    assert logs.notes()[-1] == "12 more lines could not be read"


def test_a_line_without_end_is_told_of_and_the_next_one_read(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(text([decision(0)]) + b'{"a": "' + b"x" * (9 * MAX_LINE) + b'"}\n' + text([decision(1)]))
    tracemalloc.start()
    found, logs = read(log)
    assert tracemalloc.get_traced_memory()[1] < 6 * MAX_LINE
    tracemalloc.stop()
    assert found == [decision(0), decision(1)]
    assert logs.notes() == [f"{log}:2: found more than 1,048,576 bytes, expected a line of the log"]


def test_a_file_that_ends_too_early_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    log, whole = tmp_path / "a.log.gz", tmp_path / "b.log"
    log.write_bytes(gzip.compress(text([decision(at) for at in range(3000)]))[:-4])
    whole.write_bytes(text([SignedIn(time_text(START + 9000), "r", "::1", "a")]))
    found, logs = read(log, whole)
    assert isinstance(found[-1], SignedIn)
    assert logs.broken in (1, 2)
    assert "cannot be read from here on: " in logs.notes()[-1]


def test_files_that_cannot_be_read_are_told_of_all_at_once(tmp_path: Path) -> None:
    torn, foreign = tmp_path / "a.log.gz", tmp_path / "b.log"
    torn.write_bytes(gzip.compress(text([decision(0)]))[:12])
    foreign.write_bytes(b"PK\3\4")
    with pytest.raises(UnusableFile) as error:
        Logs([str(torn), str(foreign)])
    one, other = error.value.problems
    assert one.startswith(f"{torn}: cannot be read: it is no whole gzip file")
    assert other.startswith(f"{foreign}: found zip, expected text")


# --- size ---


def test_memory_does_not_grow_with_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.adoption.logs.DISORDER_LINES", 64)
    log = tmp_path / "a.log"
    line = write(decision(0)).encode()
    log.write_bytes(line * 1000)
    few = peak(log)
    log.write_bytes(line * 4000)
    assert peak(log) < few * 1.2


def peak(log: Path) -> int:
    logs = Logs([str(log), os.devnull])
    tracemalloc.start()
    for _ in logs.read():
        pass
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found
