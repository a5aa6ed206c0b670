"""A file that several processes append to: no line is lost or cut, and all of its files are bounded."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.record.rotated_file import OLD, RotatedFile
from tests.stack import ROOT


def files_of(path: Path) -> list[Path]:
    """The files of a log, the oldest first."""
    old = [path.with_name(f"{path.name}.{number}") for number in range(OLD, 0, -1)]
    return [one for one in (*old, path) if one.exists()]


def test_lines_are_appended_and_the_file_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = RotatedFile(str(path), 1024)
    file.append(b"one\n")
    file.append(b"two\nthree\n")
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    file.close()
    again = RotatedFile(str(path), 1024)
    again.append(b"four\n")
    again.close()
    assert path.read_bytes().endswith(b"three\nfour\n")


def test_a_full_file_is_renamed_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = RotatedFile(str(path), 4 * 100)
    for number in range(100):
        file.append(b"%09d\n" % number)
    assert [len(one.read_bytes()) for one in files_of(path)] == [100] * 4
    assert b"".join(one.read_bytes() for one in files_of(path)) == b"".join(b"%09d\n" % n for n in range(60, 100))
    # a line that is longer than a file may be is in one of its own
    file.append(b"x" * 150 + b"\n")
    assert path.read_bytes() == b"x" * 150 + b"\n"
    file.append(b"y\n")
    assert path.read_bytes() == b"y\n"
    file.close()


def test_a_file_that_was_taken_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = RotatedFile(str(path), 1024)
    file.append(b"one\n")
    path.rename(tmp_path / "moved")
    file.append(b"two\n")
    path.unlink()
    file.append(b"three\n")
    file.close()
    assert (path.read_bytes(), (tmp_path / "moved").read_bytes()) == (b"three\n", b"one\n")


def test_a_link_is_followed_and_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("log")
    file = RotatedFile(str(tmp_path / "link"), 40)
    for _ in range(3):
        file.append(b"123456789\n")
    file.close()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "log.1").exists()


def test_a_line_that_was_torn_is_ended(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\ntor")
    file = RotatedFile(str(tmp_path / "log"), 1024)
    file.append(b"two\n")
    file.close()
    assert (tmp_path / "log").read_bytes() == b"one\ntor\ntwo\n"


def test_what_is_no_file_is_not_written_and_not_renamed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null"), tmp_path, tmp_path / "none" / "log"):
        with pytest.raises(OSError):  # noqa: PT011 - any
            RotatedFile(str(path), 4).append(b"x" * 100 + b"\n")
    assert Path("/dev/null").exists()


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Path]:
    """A file system of 64 KiB; the calling test is skipped where it may not be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as folder:
        yield folder


@pytest.mark.process
def test_what_a_full_disk_took_half_is_taken_back(small_disk: Path) -> None:
    path = small_disk / "log"
    file = RotatedFile(str(path), 1024**2)
    line = b"x" * 4999 + b"\n"
    for _ in range(13):
        file.append(line)
    with pytest.raises(OSError, match="No space left"):
        file.append(line)
    assert path.read_bytes() == line * 13
    path.write_bytes(b"")
    file.append(line)
    assert path.read_bytes() == line
    file.close()


WRITER = """
import sys
from sidecar.record.rotated_file import RotatedFile
file = RotatedFile(sys.argv[1], 16 * 1024**2)
for number in range(3000):
    file.append(b"".join(b"%s %d %s\\n" % (sys.argv[2].encode(), 10 * number + at, b"x" * 60) for at in range(10)))
"""


@pytest.mark.process
def test_several_processes_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    names = ("a", "b", "c")
    # what all of them write fits into the files that are kept
    command = [sys.executable, "-c", WRITER, str(path)]
    running = [subprocess.Popen([*command, name], cwd=ROOT) for name in names]
    assert [process.wait(60) for process in running] == [0] * len(names)
    files = files_of(path)
    assert len(files) > 1
    found: dict[str, list[int]] = {name: [] for name in names}
    for one in files:
        for line in one.read_text().splitlines():
            name, number, filling = line.split(" ")
            assert filling == "x" * 60
            found[name].append(int(number))
    assert found == {name: list(range(30_000)) for name in names}
