"""docs/guides/coverage.md is walked as it stands: its app, its logs, its output, and what it demands in CI."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.adoption.coverage import AREAS
from tests import guide_commands
from tests.stack import ROOT
from tests.test_guides import FENCE

TEXT = (ROOT / "docs/guides/coverage.md").read_text(encoding="utf-8")

FILES = ("policies/contact.yaml", "policies/tests/contact_test.yaml", "access.log", "questions.jsonl")
"""The blocks of the page that no other test reads, in their order."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = re.findall(r"<!-- run by: tests/test_coverage_guide.py -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    for name, example in [*FENCE.findall(TEXT), *zip(FILES, run, strict=True)]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(example)
    return tmp_path


def commands() -> list[list[str]]:
    return [line.split()[1:] for line in re.findall(r"^sidecar coverage .+$", TEXT, re.MULTILINE)]


def test_the_coverage_is_what_the_guide_shows(folder: Path) -> None:
    done = guide_commands.sidecar(folder, *commands()[0], environ={})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (folder / "coverage.txt").read_text()


def test_the_job_in_ci_fails_where_something_is_missing(folder: Path) -> None:
    assert guide_commands.sidecar(folder, *commands()[1], environ={}).returncode == 1


def test_the_guide_has_each_area() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", TEXT, re.MULTILINE) == list(AREAS)
