"""`sidecar test`: exit codes, output for a person, a program and CI, and what it says of bad input."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from subprocess import CompletedProcess
from xml.etree import ElementTree

import pytest

from sidecar.record.line import Decision, write
from tests import guide_commands
from tests.conftest import policies
from tests.stack import ROOT, binary

ENVIRON = {
    "SIDECAR_ROUTES": str(ROOT / "routes.yaml"), "SIDECAR_POLICIES": str(policies()),
    "SIDECAR_CERBOS_BINARY": str(binary()),
}  # fmt: skip
CASES = """\
users: {alice: {username: alice, "cognito:groups": [user]}}
cases:
  - {name: Hello, user: alice, request: GET /hello, expect: {status: 200, code: authenticated}}
  - {name: nobody, request: GET /hello, expect: {status: 401}}
"""
WRONG = CASES.replace("401", "403")


def run(folder: Path, *arguments: str) -> CompletedProcess[str]:
    return guide_commands.sidecar(folder, "test", *arguments, environ=ENVIRON)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cases.yaml").write_text(CASES)
    (tmp_path / "wrong.yaml").write_text(WRONG)
    return tmp_path


def test_cases_that_pass_say_so(folder: Path) -> None:
    done = run(folder, "cases.yaml")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 cases: 2 passed, 0 failed, ")
    assert sorted(path.name for path in folder.iterdir()) == ["cases.yaml", "wrong.yaml"]


def test_cases_that_fail_say_how_and_ci_reads_it(folder: Path) -> None:
    done = run(folder, "cases.yaml", "wrong.yaml", "--junit", "results.xml")
    first, *_, last = done.stdout.splitlines()
    assert (done.returncode, first) == (1, "FAILED nobody")
    assert last.startswith("4 cases: 3 passed, 1 failed, ")
    assert "  wrong.yaml:4:5: GET /hello\n  status  expected 403, found 401\n" in done.stdout
    suites = ElementTree.parse(folder / "results.xml").getroot()
    assert [(suite.get("name"), suite.get("failures")) for suite in suites] == [
        ("cases.yaml", "0"),
        ("wrong.yaml", "1"),
    ]


def test_a_program_gets_json(folder: Path) -> None:
    done = run(folder, "wrong.yaml", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["passed"], told["failed"]) == (1, 1, 1)
    assert [(case["name"], case["passed"]) for case in told["cases"]] == [("Hello", True), ("nobody", False)]
    assert told["cases"][1]["found"]["code"] == "token_missing"


def test_some_cases_are_chosen_by_their_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(WRONG))
    done = run(folder, "-", "--filter", "hello")
    assert done.returncode == 0
    assert done.stdout.startswith("1 case: 1 passed, 0 failed, ")


def line(code: str = "authenticated", principal: str = "alice", path: str = "/hello") -> str:
    allowed = code == "authenticated"
    status, kind = (200, "") if allowed else (503, "contact")
    made = Decision(
        "2026-01-31T12:00:00.250+00:00", "8c9b1f1d4f0e4c0f9f3a6f0b5d1c2e3a", "enforce", "allow" if allowed else "refuse", code, status, "GET",
        "localhost", path, path, principal, ("user",), kind, "", "", "", {}, 1.0,
    )  # fmt: skip
    return write(made)


def test_cases_are_drafted_from_a_log_and_hold(folder: Path) -> None:
    (folder / "decisions.log").write_text(line() + line() + "no line\n" + line("pdp_timeout", path="/contacts/1"))
    drafted = run(folder, "--from", "decisions.log", "--out", "drafted.yaml")
    assert (drafted.returncode, drafted.stdout) == (0, "")
    said = [row for row in drafted.stderr.splitlines() if not row.startswith(("reading", "drafting"))]
    assert said == [
        "1 case of 3 lines",
        "decisions.log:3: found no line, expected one JSON object: Expecting value: line 1 column 1 (char 0)",
        "no case could be made of 1 kind of requests:",
        "  decisions.log:4: GET /contacts/1 (pdp_timeout), 1 line: pdp_timeout is a fault of that moment: write `lookups` with "
        "`unavailable` for it",
    ]
    assert run(folder, "drafted.yaml").returncode == 0
    again = run(folder, "--from", "decisions.log", "--out", "drafted.yaml", "--force")
    assert again.returncode == 0


def test_a_draft_goes_to_stdout_or_into_json(folder: Path) -> None:
    (folder / "decisions.log").write_text(line())
    drafted = run(folder, "--from", "decisions.log")
    assert drafted.stdout.startswith("# Drafted from a log.")
    told = json.loads(run(folder, "--from", "decisions.log", "--json").stdout)
    assert told == {"lines": 1, "cases": 1, "left_out": [], "beyond": 0, "unread": [], "text": drafted.stdout}


def test_a_log_of_which_no_case_can_be_made_is_a_failure_and_its_terminal_only_shows_it(folder: Path) -> None:
    (folder / "decisions.log").write_text(line("pdp_timeout", path="/x\x1b]0;title\x07\u202e"))
    done = run(folder, "--from", "decisions.log", "--json")
    assert (done.returncode, json.loads(done.stdout)["cases"]) == (1, 0)
    told = run(folder, "--from", "decisions.log").stderr
    assert "\\x1b]0;title\\x07\\u202e" in told
    assert told.replace("\n", "").isprintable()


BAD = [
    ((), "found no file of cases, expected one: sidecar test cases.yaml"),
    (("none.yaml",), "none.yaml: cannot read it: No such file or directory"),
    ((".",), ".: cannot read it: Is a directory"),
    (("latin.yaml",), "latin.yaml: found a byte that is not UTF-8 at 8, expected a text"),
    (("bad.yaml", "cases.yaml"), "bad.yaml:1:1: found the name 'casse', expected one of users, lookups, cases, did you mean 'cases'?"),
    (("cases.yaml", "--filter", "x y"), "--filter: found 'x y' in none of 2 names, expected it in one at least"),
    (("cases.yaml", "--junit", "no/results.xml"), "--junit: cannot write no/results.xml: No such file or directory"),
    (("cases.yaml", "--from", "cases.yaml"), "found both --from and cases.yaml, expected one of them"),
    (("--from", "one.log", "--junit", "x.xml"), "found both --from and --junit, expected one of them"),
    (("cases.yaml", "--out", "x.yaml"), "--out: found x.yaml without --from, expected both"),
    (("--from", "one.log", "--out", "bad.yaml"), "--out: bad.yaml exists, expected a new file; --force replaces it"),
    (("--from", "none.log"), "none.log: cannot be read: No such file or directory"),
    (("--from", "cases.yaml"), "cases.yaml:1: found no line, expected one JSON object"),
    (("--from", "one.log", "--out", "no/drafted.yaml"), "--out: cannot write no/drafted.yaml: No such file or directory"),
    (("cases.yaml", "--routes", "none.yaml"), "SIDECAR_ROUTES: cannot read none.yaml: "),
    (("cases.yaml", "--pdp", "authzen+https://pdp"), "SIDECAR_PDP: found 'authzen+https://pdp', expected none"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "said"), BAD)
def test_what_cannot_be_run_is_told(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    (folder / "latin.yaml").write_bytes(b"cases: [\xe9]")
    (folder / "bad.yaml").write_text("casse: []")
    (folder / "one.log").write_text(line())
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said), done.stderr


def test_a_hundred_cases_take_less_than_five_seconds_of_cpu(folder: Path) -> None:
    """Cerbos included, which has ended by then."""
    row = '  - {name: "%d", user: alice, request: GET /contacts/1, expect: {status: 403, code: denied_by_policy}}\n'
    lookups = "lookups: {contact: {1: {id: 1, owner_id: bob, visibility: private}}}\n"
    (folder / "many.yaml").write_text(lookups + CASES + "".join(row % at for at in range(98)))
    before = os.times()
    done = run(folder, "many.yaml")
    after = os.times()
    assert done.stdout.startswith("100 cases: 100 passed, "), done.stdout
    assert sum(after[:4]) - sum(before[:4]) < 5.0
