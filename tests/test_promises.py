"""Each promise of docs/security.md names a command that shows it: it runs tests, and fails for no other reason than a test."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest

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


def test_each_command_runs_tests() -> None:
    """One collection for all of them: a part that names nothing is an error of its own."""
    for parts in {tuple(arguments(command)) for _, command in COMMANDS}:
        paths = [part for part in parts if part.startswith("tests/")]
        assert paths
        assert [path for path in paths if not (ROOT / path.partition("::")[0]).exists()] == []
    selected = [list(arguments(command)) for _, command in COMMANDS if "-k" in command]
    for parts in selected:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *parts],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-2000:]


def recipe(arguments: str) -> str:
    """The lines that make would run for the target `test`."""
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "test", f"ARGS={arguments}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(("promise", "command"), COMMANDS, ids=[promise[:40] for promise, _ in COMMANDS])
def test_the_coverage_of_a_part_fails_nothing(promise: str, command: str) -> None:
    text = recipe(" ".join(arguments(command)))
    assert "--cov" not in text, promise
    assert "pytest" in text


def test_the_coverage_of_the_whole_is_held() -> None:
    text = recipe("")
    assert text.count("--cov ") == 2
    assert "--cov-append" in text


@pytest.mark.parametrize(
    ("parts", "code"), [("tests/config/test_units.py", 0), ("tests/config/test_units.py -k no_such_test", 2)]
)
def test_make_test_of_a_part_ends_as_the_tests_did(parts: str, code: int) -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "test", f"ARGS=-p no:cacheprovider {parts}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    assert (code == 0) == ("no test was run" not in done.stderr)
