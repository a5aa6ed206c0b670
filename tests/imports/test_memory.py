"""A log of any length is read in the same memory: ids, names, queries and junk that never come again are not kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import ROOT

pytestmark = [pytest.mark.process, pytest.mark.slow]
PEAK = 80 * 1024
"""KiB."""
MEASURED = """\
import re, sys
from sidecar.cli import main
code = main(["import", *sys.argv[1:]])
print(code, re.search(r"VmHWM:\\s+([0-9]+) kB", open("/proc/self/status").read())[1])
"""
"""Not getrusage: its ru_maxrss begins at the peak of the process that forked this one (getrusage(2), execve)."""


def peak(folder: Path, mebibytes: int) -> int:
    """KiB that an import of a log of this size takes, with ten new paths in each dozen of lines."""
    name = folder / f"{mebibytes}.log"
    written, at = 0, 0
    with name.open("w") as log:
        while written < mebibytes * 1024**2:
            letters = "".join(chr(97 + int(digit)) for digit in str(at))
            for target, status in (
                (f"/contacts/{at}?page={at}&{letters}={at}", 200), (f"/contacts/{at}/notes/{at}", 200), (f"/users/{letters}", 200),
                (f"/{letters}/x{at}/{letters}", 200), (f"/files/{at:032x}.pdf", 200), (f"/{letters}.php", 404), (f"/t/{at}x{at}y", 200),
                (f"/api/v1/orders/3f2504e0-4f89-11d3-9a0c-{at:012x}", 200), (f"/static/{letters}.{at}.js", 304), ("/healthz", 200),
                (f"/a/{letters}/b/{letters}/c/{letters}", 200),
            ):  # fmt: skip
                written += log.write(
                    f'192.0.2.7 - - [29/Nov/2026:10:00:00 +0000] "GET {target} HTTP/1.1" {status} 512 "-" "curl"\n'
                )
            log.write("broken\n")
            at += 1
    command = [sys.executable, "-c", MEASURED, str(name), "--out", str(folder / f"{mebibytes}.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    name.unlink()
    code, kibibytes = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stderr
    return int(kibibytes)


def test_a_long_log_takes_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    small, large = peak(tmp_path, 1), peak(tmp_path, 4)
    assert large < PEAK
    assert large < small + 1024
