"""`sidecar check`: its problems, warnings and notes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from sidecar import cli
from sidecar.demo.processes import Process
from sidecar.pdp import cerbos_version
from sidecar.run import checking
from sidecar.run.checking import Findings
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


POLICIES = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: contact
  version: default
  rules:
    - {actions: [read], effect: EFFECT_ALLOW, roles: [user, admin]}
    - {actions: [read], effect: EFFECT_DENY, roles: ["*"], condition: {match: {expr: P.attr.suspended == true}}}
    - {actions: [read], effect: EFFECT_DENY, roles: [user]}
    - {actions: [export], effect: EFFECT_ALLOW, roles: [user]}
"""


@pytest.fixture
def suspended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Settings for a folder whose policies read a claim that nobody maps."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "routes.yaml").write_text(ROUTES)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "contact.yaml").write_text(POLICIES)
    return {**POOL, "SIDECAR_CERBOS_BINARY": str(binary())}


def of_policies(environ: dict[str, str]) -> list[str]:
    return [line for line in checking.findings(environ, {}).warnings if line.startswith("policies/")]


def test_policies_are_held_against_the_routes(suspended: dict[str, str]) -> None:
    found = checking.findings(suspended, {})
    assert found.problems == []
    assert [line.partition(": ")[0] for line in found.warnings] == [
        "policies/contact.yaml:7:86", "policies/contact.yaml:8:7"
    ]  # fmt: skip
    assert found.warnings[0].endswith("[attribute-unsupplied]")
    assert found.warnings[1].endswith("[deny-for-role]")
    assert found.notes == ["policies/contact.yaml:3:13: no route asks for 'export' of 'contact'"]


def test_the_claim_and_its_type_are_what_was_missing(suspended: dict[str, str], tmp_path: Path) -> None:
    attribute = "principal: {attributes: {suspended: %s}}\n"
    (tmp_path / "routes.yaml").write_text(ROUTES + attribute % '"custom:suspended"')
    untyped, _ = of_policies(suspended)
    assert untyped.endswith("suspended: {claim: 'custom:suspended', type: bool} [attribute-untyped]")
    (tmp_path / "routes.yaml").write_text(ROUTES + attribute % '{claim: "custom:suspended", type: bool}')
    assert [line.rpartition(" ")[2] for line in of_policies(suspended)] == ["[deny-for-role]"]


def test_policies_that_do_not_compile_are_a_problem_and_not_held_against_the_routes(
    suspended: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "policies" / "contact.yaml").write_text(
        POLICIES.replace("P.attr.suspended == true", "P.attr.suspended ==")
    )
    found = checking.findings(suspended, {})
    assert len(found.problems) == 1
    assert found.warnings == []


@pytest.mark.parametrize(
    ("more", "held"),
    [
        ({"SIDECAR_CERBOS": "cerbos:3593", "SIDECAR_CERBOS_TLS": "plaintext"}, False),
        ({"SIDECAR_CERBOS": "cerbos:3593", "SIDECAR_CERBOS_TLS": "plaintext", "SIDECAR_CERBOS_ADMIN": "a:b"}, True),
        ({"SIDECAR_PDP": "authzen+https://pdp.example/x"}, False),
    ],
)
def test_the_policies_of_a_cerbos_elsewhere_are_read_where_settings_name_their_folder(
    suspended: dict[str, str], more: dict[str, str], held: bool
) -> None:
    found = checking.findings({**suspended, **more}, {})
    assert found.problems == []
    assert any("attribute-unsupplied" in line for line in found.warnings) == held


def test_what_a_cerbos_elsewhere_should_have_is_taken_by_cerbos(tmp_path: Path) -> None:
    """The advice is YAML; the certificate is an example's, and needs none to try the rest."""
    lines = checking.EXTERNAL.splitlines()[1:]
    advice = yaml.safe_load("\n".join(lines))
    assert set(advice) == {"engine", "schema", "server", "storage"}
    assert advice["engine"] == cerbos_version.engine(cerbos_version.version_of(binary()), strict=True)
    del advice["server"]["tls"]
    folder = tmp_path / "policies"
    folder.mkdir()
    advice["server"] |= {"grpcListenAddr": f"unix:{tmp_path}/grpc.sock", "httpListenAddr": f"unix:{tmp_path}/http.sock"}
    advice["storage"] |= {"driver": "disk", "disk": {**advice["storage"]["disk"], "directory": str(folder)}}
    (tmp_path / "cerbos.yaml").write_text(yaml.safe_dump(advice))
    command = [str(binary()), "server", f"--config={tmp_path}/cerbos.yaml"]
    process = Process.start("cerbos", command, tmp_path, os.environ, (tmp_path / "grpc.sock").exists)
    process.stop()


def test_a_cerbos_elsewhere_is_told_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(ROUTES)
    environ = {
        **POOL,
        "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
        "SIDECAR_CERBOS": "cerbos:3593",
        "SIDECAR_CERBOS_TLS": "plaintext",
    }
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
    environ = {
        **POOL,
        "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
        "SIDECAR_CERBOS": "cerbos:3593",
        "SIDECAR_CERBOS_TLS": "plaintext",
    }
    found = checking.findings(environ, {})
    assert found.problems == []
    assert any("the rule depends on the query (owner)" in warning for warning in found.warnings)


@pytest.mark.parametrize("cerbos", [
    {"SIDECAR_CERBOS": "unix:/run/cerbos.sock", "SIDECAR_CERBOS_ADMIN": "authz:authz"}, {"SIDECAR_CERBOS": "embedded"},
])  # fmt: skip
@pytest.mark.parametrize("broken", ["empty", "schema", "link"])
def test_policies_that_cerbos_would_serve_without_are_a_problem(
    tmp_path: Path, cerbos: dict[str, str], broken: str
) -> None:
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes: [{path: /, access: public}]\n")
    folder = tmp_path / "policies"
    (folder / "_schemas").mkdir(parents=True)
    if broken != "empty":
        (folder / "contact.yaml").write_text(
            "apiVersion: api.cerbos.dev/v1\nresourcePolicy: {resource: contact, version: default, rules: []}\n"
        )
    if broken == "schema":
        (folder / "_schemas/x.json").write_text("{")
    if broken == "link":
        (folder / "sub").symlink_to("nowhere")
    environ = {
        **cerbos, "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"), "SIDECAR_POLICIES": str(folder),
        "SIDECAR_CERBOS_BINARY": str(binary()),
    }  # fmt: skip
    place = {"empty": f"{folder}: found no", "schema": f"{folder}/_schemas/x.json:1:", "link": f"{folder}/sub: a link"}
    (problem,) = checking.findings(environ, {}).problems
    assert problem.startswith(place[broken])


def test_policies_behind_a_link_are_read_for_warnings_as_cerbos_reads_them(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(ROUTES)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/contact.yaml").write_text(POLICIES)
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "sub").symlink_to("../shared")
    environ = {
        **POOL, "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"), "SIDECAR_POLICIES": str(folder),
        "SIDECAR_CERBOS_BINARY": str(binary()),
    }  # fmt: skip
    found = checking.findings(environ, {})
    assert found.problems == []
    assert not any("question-unknown" in warning for warning in found.warnings)
    (place,) = [warning for warning in found.warnings if "attribute-unsupplied" in warning]
    assert place.startswith(f"{folder}/sub/contact.yaml:7:"), place
