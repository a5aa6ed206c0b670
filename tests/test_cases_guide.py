"""docs/guides/test-cases.md as it stands: its cases pass, and fail as it says where the demo's lookup is taken out."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests import guide_commands
from tests.conftest import policies
from tests.stack import ROOT, binary

GUIDE = (ROOT / "docs/guides/test-cases.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```\w+\n(.*?)```", GUIDE, re.DOTALL))
CHANGES = re.compile(r"call \w+|\d+\.\d s")
"""Parts of the output that are others in each run."""


def run(folder: Path, routes: str, line: str) -> tuple[int, str]:
    (folder / "routes.yaml").write_text(routes)
    (folder / "cases.yaml").write_text(EXAMPLES["cases.yaml"])
    environ = {"SIDECAR_POLICIES": str(policies()), "SIDECAR_CERBOS_BINARY": str(binary())}
    done = guide_commands.sidecar(folder, *shlex.split(line)[1:], environ=environ)
    return done.returncode, CHANGES.sub("…", done.stdout)


def test_its_cases_pass(tmp_path: Path) -> None:
    routes = (ROOT / "routes.yaml").read_text()
    (line,) = re.findall(r"^sidecar test cases.yaml$", GUIDE, re.MULTILINE)
    assert run(tmp_path, routes, line) == (0, CHANGES.sub("…", EXAMPLES["passed.txt"]))
    (line,) = re.findall(r"^sidecar test .*--junit.*$", GUIDE, re.MULTILINE)
    assert run(tmp_path, routes, line)[0] == 0
    assert (tmp_path / "results.xml").is_file()


def test_they_fail_as_it_says(tmp_path: Path) -> None:
    routes = (ROOT / "routes.yaml").read_text()
    code, said = run(tmp_path, routes.replace("    lookup: contact\n", ""), "sidecar test cases.yaml")
    assert code == 1
    assert CHANGES.sub("…", EXAMPLES["failed.txt"]) in said
    assert said.count("FAILED") == 3


def test_a_case_is_drafted_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "questions.jsonl").write_text(EXAMPLES["questions.jsonl"])
    (line,) = re.findall(r"^sidecar test --from .*$", GUIDE, re.MULTILINE)
    assert run(tmp_path, (ROOT / "routes.yaml").read_text(), line)[0] == 0
    assert (tmp_path / "drafted.yaml").read_text() == EXAMPLES["drafted.yaml"]
