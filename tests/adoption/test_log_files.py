"""Files of a log, by name, pattern or pipe."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from sidecar.adoption.log_files import LogFile, log_files, open_log
from sidecar.imports.sighting import UnusableFile


def test_a_file_that_is_named_twice_is_one(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"{}\n")
    (tmp_path / "link.log").symlink_to(log)
    assert log_files([str(log), str(tmp_path / "*.log")]) == [LogFile(str(log), 3)]


def test_a_file_with_the_name_of_a_pattern_is_that_file(tmp_path: Path) -> None:
    log = tmp_path / "a[1].log"
    log.write_bytes(b"{}\n")
    assert log_files([str(log)]) == [LogFile(str(log), 3)]


def test_a_pipe_has_no_size(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert log_files([str(fifo)]) == [LogFile(str(fifo), None)]


def test_what_is_wrong_with_files_is_told_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile) as error:
        log_files([str(tmp_path / name) for name in ("none.log", "*.gz", "")])
    assert error.value.problems == [
        f"{tmp_path}/none.log: cannot be read: No such file or directory",
        f"{tmp_path}/*.gz: found no file of this pattern, expected one or more",
        f"{tmp_path}: found a folder, expected a file: name those in it, such as {tmp_path}/*.log",
    ]


@pytest.mark.parametrize(("head", "told"), [
    (b"\x28\xb5\x2f\xfd", "zstd, expected text, or text compressed by gzip: zstd -dc {0} | sidecar ... -"),
    ("{}".encode("utf-16"), "UTF-16, expected text, or text compressed by gzip: iconv -f UTF-16 -t UTF-8 {0} | "),
])  # fmt: skip
def test_a_format_that_is_not_read_is_named_with_what_makes_text_of_it(tmp_path: Path, head: bytes, told: str) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(head)
    with pytest.raises(UnusableFile) as error:
        open_log(LogFile(str(log), 4), io.BytesIO(), lambda _: None)
    assert str(error.value).startswith(f"{log}: found {told.format(log)}")
