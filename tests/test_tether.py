"""No process of ours outlives us, however it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import tether

PARENT = """
import os, sys, time
from pathlib import Path
from sidecar.demo.processes import Process
Process("child", ["sh", "-c", "echo up; exec sleep 30"], Path(sys.argv[1]), os.environ, speaks=True)
time.sleep(30)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_child_dies_when_its_parent_is_killed(tmp_path: Path) -> None:
    """Its standard output, which is the parent's, ends only when both are gone."""
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        parent.kill()
        assert parent.communicate(timeout=10)[0] == ""


def test_a_child_is_not_ended_by_what_asks_it_to_reload_before_it_knows_how() -> None:
    program = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    done = subprocess.run(tether.tethered([sys.executable, "-c", program]), capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_child_whose_parent_is_gone_already_starts_nothing(tmp_path: Path) -> None:
    """Between fork and the kernel's promise the parent may die; then no signal will ever come."""
    marker = tmp_path / "started"
    command = [sys.executable, tether.__file__, str(os.getppid()), "touch", str(marker)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (1, f"process {os.getppid()} is gone\n")
    assert not marker.exists()
