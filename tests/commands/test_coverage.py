"""`sidecar coverage` as it is typed: what it demands, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests import guide_commands

ROUTES = "version: 1\nroutes:\n  - {path: /contacts, resource: contact, actions: {GET: list, POST: create}}\n"
POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: contact
  version: default
  rules: [{actions: [list], effect: EFFECT_ALLOW, roles: [user]}]
"""


@pytest.fixture(name="app")
def _app(tmp_path: Path) -> Path:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "contact.yaml").write_text(POLICY)
    (tmp_path / "routes.yaml").write_text(ROUTES)
    (tmp_path / "sidecar.log").write_text("nonsense\n")
    return tmp_path


def coverage(app: Path, *arguments: str) -> CompletedProcess[str]:
    return guide_commands.sidecar(app, "coverage", *arguments, environ={})


def test_the_text_lists_what_is_not_covered(app: Path) -> None:
    done = coverage(app)
    assert (done.returncode, done.stderr) == (0, "")
    assert "questions         50.0 %  1 of 2 kinds and actions of routes that a policy rule names\n" in done.stdout
    assert "  routes.yaml:3: create of contact: POST /contacts asks for it\n" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(("demanded", "code"), [
    (["50"], 0), (["51"], 1), (["questions=50"], 0), (["questions=50.1"], 1), (["rules=100"], 0),
    (["90", "questions=50"], 0), (["90", "rules=100"], 1),
])  # fmt: skip
def test_it_fails_under_what_is_demanded(app: Path, demanded: list[str], code: int) -> None:
    done = coverage(app, "--json", *(f"--fail-under={each}" for each in demanded))
    assert done.returncode == code
    assert json.loads(done.stdout)["under"] == (["questions"] if code else [])


@pytest.mark.parametrize(("arguments", "said"), [
    (["--fail-under=routez=90"], "--fail-under: found 'routez', expected one of operations, routes, "),
    (["--fail-under=much"], "--fail-under: found 'much', expected a number of percent, 0 to 100, or AREA=N"),
    (["--fail-under=routes=101"], "--fail-under: found '101', expected a number of percent, 0 to 100, or AREA=N"),
    (["--fail-under=nan"], "--fail-under: found 'nan', expected a number of percent"),
    (["--fail-under=routes=90"], "--fail-under: routes is not measured, give a log by --log, or a spec"),
    (["--log", "none.log"], "none.log: cannot be read: No such file or directory"),
    (["--seen", "sidecar.log"], "sidecar.log: found no format that is known"),
    (["--tests", "none"], "--tests: found no folder 'none', expected that of the policies' tests"),
    (["--policies", "none"], "SIDECAR_POLICIES: found no folder 'none'"),
    (["--routes", "none.yaml"], "SIDECAR_ROUTES: cannot read none.yaml"),
])  # fmt: skip
def test_what_cannot_be_used_is_told_of(app: Path, arguments: list[str], said: str) -> None:
    done = coverage(app, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(said)


def test_without_tests_no_cerbos_is_needed(app: Path) -> None:
    assert coverage(app, "--cerbos-binary", "/nowhere/cerbos").returncode == 0
    (app / "policies" / "a_test.yaml").write_text("name: a\n")
    done = coverage(app, "--cerbos-binary", "/nowhere/cerbos")
    assert (done.returncode, done.stdout) == (2, "")
    assert "SIDECAR_CERBOS_BINARY: found no program at /nowhere/cerbos" in done.stderr


def test_broken_lines_are_noted_with_their_place(app: Path) -> None:
    done = coverage(app, "--log", "sidecar.log")
    assert done.returncode == 0
    assert "note: sidecar.log:1: found no line, expected one JSON object" in done.stdout
    assert "note: no line of the logs is about a request" in done.stdout


def test_a_suite_of_tests_that_is_broken_is_told_of(app: Path) -> None:
    (app / "policies" / "a_test.yaml").write_text("name: a\nprincipals: 5\n")
    done = coverage(app)
    assert done.returncode == 2
    assert "a_test.yaml: failed to load test suite" in done.stderr
