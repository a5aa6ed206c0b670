"""Each promise of docs/security.md names a command that shows it: it runs tests, and fails for no other reason than a test."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forks import GROUPS, LONGEST
from tests.stack import ROOT

TABLE = re.findall(r"(?m)^\| (.+?) \| (`.+) \|$", (ROOT / "docs/security.md").read_text())
COMMANDS = [(promise, command) for promise, shown in TABLE for command in re.findall(r"`(make test [^`]+)`", shown)]


def arguments(command: str) -> list[str]:
    """What a command of the table gives to pytest."""
    (given,) = [word for word in shlex.split(command) if word.startswith("ARGS=")]
    return shlex.split(given.removeprefix("ARGS="))


def test_each_promise_has_a_command() -> None:
    rows = (ROOT / "docs/security.md").read_text().partition("| promise | shown by |")[2].partition("\n\n")[0]
    assert len(rows.strip().splitlines()) - 1 == len({promise for promise, _ in COMMANDS}) >= 17


def test_each_command_names_tests() -> None:
    """Paths that are there; a choice among them by a word would have to be tried."""
    for command in sorted({command for _, command in COMMANDS}):
        parts = arguments(command)
        assert [part for part in parts if not (part.startswith("tests/") and (ROOT / part).exists())] == [], command
        for part in parts:
            assert part.endswith(".py") or [*(ROOT / part).rglob("test_*.py")], command


def recipe(target: str, arguments: str = "") -> str:
    """The lines that make would run for a target."""
    command = ["make", "--no-print-directory", "-n", target, f"ARGS={arguments}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_coverage_of_a_part_fails_nothing() -> None:
    text = recipe("test", "tests/config/test_units.py")
    assert "--cov" not in text
    assert text.count("tests/config/test_units.py") == 1


def test_the_coverage_of_the_whole_is_held() -> None:
    text = recipe("coverage")
    assert text.count("--cov ") == 1
    assert "fail_under = 98" in (ROOT / "pyproject.toml").read_text()
    assert "make --no-print-directory test" in (ROOT / ".ci/run").read_text()


def test_what_begins_first_and_what_runs_together_is_there() -> None:
    for start in (*LONGEST, *GROUPS):
        assert [*ROOT.glob(start + "*")], start


@pytest.mark.parametrize("workers", ["0", "1", "2"])
def test_a_check_starts_no_process(tmp_path: Path, workers: str) -> None:
    """The plugin of `make check` fails a test that starts one, and leaves out what says that it does."""
    assert "-p tests.pure" in recipe("check")
    (tmp_path / "test_one.py").write_text(
        "import os, pytest\n"
        "def test_starts(): os.system('true')\n"
        "@pytest.mark.process\ndef test_says(): os.system('true')\n"
        "def test_pure(): pass\n"
    )
    (tmp_path / "test_two.py").write_text("import subprocess\ndef test_more(): pass\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.forks", "-p", "tests.pure"]
    markers = ["--forks", workers, "--override-ini=markers=process", "--rootdir", str(tmp_path), str(tmp_path)]
    # of the plugins that are installed it needs none
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run([*command, *markers], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert re.search("1 failed, 1 passed(, 1 deselected)? in", done.stdout)
    assert "this test starts a process: mark it with `process`" in done.stdout


@pytest.mark.parametrize(
    ("parts", "code"), [("tests/config/test_units.py", 0), ("tests/config/test_units.py -k no_such_test", 2)]
)
def test_make_test_of_a_part_ends_as_the_tests_did(parts: str, code: int) -> None:
    command = ["make", "--no-print-directory", "test", "WORKERS=1", f"ARGS=-p no:cacheprovider {parts}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    assert (code == 0) == ("0 selected" not in done.stdout)
