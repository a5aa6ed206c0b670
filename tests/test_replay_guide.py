"""docs/guides/replay.md is walked as it stands: its log, its policies, its output and its job for CI."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import guide_commands
from tests.stack import ROOT, binary
from tests.test_guides import FENCE, command_of

TEXT = (ROOT / "docs/guides/replay.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = re.findall(r"<!-- run by: tests/test_replay_guide.py -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    for name, example in [*FENCE.findall(TEXT), *zip(("questions.log", "ci.sh"), run, strict=True)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(example)
    return tmp_path


def test_the_replay_says_what_the_guide_shows(folder: Path) -> None:
    done = guide_commands.sidecar(folder, *command_of(TEXT, "replay"), environ={})
    assert done.stdout == (folder / "replay.txt").read_text()
    assert done.returncode == 3


@pytest.mark.parametrize(
    ("meant", "code", "says"), [("", 1, "access that was not meant"), ("contact:list", 0, "gains what was meant")]
)
def test_the_job_fails_where_somebody_gains_what_was_not_meant(folder: Path, meant: str, code: int, says: str) -> None:
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    starter = bin_folder / "sidecar"
    starter.write_text(f'#!/bin/sh\nexec {sys.executable} -m sidecar.cli "$@"\n')
    starter.chmod(0o755)
    environ = {
        **os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "MEANT": meant,
        "SIDECAR_CERBOS_BINARY": str(binary()),
    }  # fmt: skip
    done = subprocess.run(
        ["/bin/sh", "ci.sh"], cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == code, done.stderr
    assert says in done.stdout
