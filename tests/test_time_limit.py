"""The plugin that ends a process of tests where one test takes too long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stack import ROOT

WAITING = """
import time

def test_short(): time.sleep(0.6)
def test_as_short(): time.sleep(0.6)
def test_long():
    waiting_here()
def waiting_here(): time.sleep(60)
def test_after(): pass
"""


@pytest.mark.parametrize("forks", [0, 1])
def test_a_test_that_waits_for_ever_says_where_and_ends(tmp_path: Path, forks: int) -> None:
    (tmp_path / "test_waiting.py").write_text(WAITING)
    plain = ["-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "tests.forks", "-p", "tests.time_limit"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, "--override-ini=time_limit=1", f"--forks={forks}",
         f"--rootdir={tmp_path}", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
        # of the plugins that are installed it needs none
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert done.returncode == (1 if forks else -14)
    assert "in waiting_here" in done.stderr
    if forks:
        assert "2 failed, 2 passed" in done.stdout
        assert "test_long" in done.stdout.partition("its process ended in this test")[0]
