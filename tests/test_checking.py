"""`sidecar check`: its problems, warnings and notes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar import checking, cli
from sidecar.checking import Findings
from tests.conftest import policies
from tests.stack import binary, older_binary

ROUTES = "version: 1\nroutes: [{path: /x, resource: contact, actions: {GET: read}}]\n"
POOL = {"AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_AbC", "AWS_COGNITO_CLIENT_ID": "web"}


def check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: Findings, *flags: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(checking, "findings", lambda environ, flags: found)
    code = cli.main(["check", *flags])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--warnings-as-errors",), 1)])
def test_a_warning_is_told_and_fails_only_where_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], code: int
) -> None:
    found = Findings(["routes.yaml"], [], ["a:1:1: odd"], ["a note"])
    said = check(monkeypatch, capsys, found, *flags)
    assert said == (code, "a note\nroutes.yaml: nothing wrong, 1 warning\n", "warning: a:1:1: odd\n")


def test_a_problem_fails_whatever_is_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(monkeypatch, capsys, Findings([], ["wrong"], ["odd"], []))[::2] == (1, "wrong\nwarning: odd\n")


def test_nothing_is_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = Findings(["a", "b"], [], [], [])
    assert check(monkeypatch, capsys, found, "--warnings-as-errors") == (0, "a and b: nothing wrong\n", "")


def test_a_cerbos_elsewhere_is_told_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(ROUTES)
    environ = {**POOL, "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"), "SIDECAR_CERBOS": "cerbos:3593"}
    found = checking.findings(environ, {})
    assert (found.problems, found.notes) == ([], [checking.EXTERNAL])


@pytest.mark.parametrize("strict", ["on", "off"])
def test_a_cerbos_that_cannot_be_strict_is_told(tmp_path: Path, strict: str) -> None:
    (tmp_path / "routes.yaml").write_text(ROUTES)
    own = {"SIDECAR_ROUTES": str(tmp_path / "routes.yaml"), "SIDECAR_POLICIES": str(policies())}
    environ = {**POOL, **own, "SIDECAR_CERBOS_STRICT": strict}
    for program, told in ((binary(), False), (older_binary(), strict == "on")):
        found = checking.findings({**environ, "SIDECAR_CERBOS_BINARY": str(program)}, {})
        assert found.problems == []
        assert any("SIDECAR_CERBOS_STRICT: Cerbos 0.51.0" in line for line in found.warnings) == told


def test_a_warning_of_the_route_file_is_told(tmp_path: Path) -> None:
    text = ROUTES.replace("resource: contact,", "resource: contact, attributes: {owner: '{query.owner}'},")
    (tmp_path / "routes.yaml").write_text(text)
    environ = {**POOL, "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"), "SIDECAR_CERBOS": "cerbos:3593"}
    found = checking.findings(environ, {})
    assert found.problems == []
    assert any("the rule depends on the query (owner)" in warning for warning in found.warnings)
