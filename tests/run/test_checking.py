"""`sidecar check`: its problems, warnings and notes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from sidecar import cli
from sidecar.config.routes.file import read_routes
from sidecar.config.setting_table import SETTINGS
from sidecar.config.settings import understand
from sidecar.demo.processes import Process
from sidecar.gate.decision import ALLOW, DENY, Question, Resource
from sidecar.gate.identity import Principal
from sidecar.pdp import cerbos_version, policy_files
from sidecar.pdp.cerbos import Cerbos
from sidecar.run import checking, route_file, workers
from sidecar.run.checking import Findings
from sidecar.run.errors import StartError
from sidecar.run.pdp import embedded_cerbos
from tests.conftest import policies
from tests.stack import binary, free_port, older_binary
from tests.tokens import SESSION_SECRET

ROOT = Path(__file__).parents[2]
ROUTES = "version: 1\nroutes: [{path: /x, resource: contact, actions: {GET: read}}]\n"
POOL = {
    "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_AbC", "AWS_COGNITO_CLIENT_ID": "web",
    "SIDECAR_UPSTREAM": "http://app:3000",
}  # fmt: skip


def check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: Findings, *flags: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(checking, "findings", lambda environ, flags, *, probe: found)
    code = cli.main(["check", *flags])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(("flags", "code"), [((), 0), (("--warnings-as-errors",), 1)])
def test_a_warning_is_told_and_fails_only_where_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], code: int
) -> None:
    found = Findings(["routes.yaml"], [], ["a:1:1: odd"], ["a note"], [])
    said = check(monkeypatch, capsys, found, *flags)
    assert said == (code, "note: a note\nroutes.yaml: nothing wrong, 1 warning\n", "warning: a:1:1: odd\n")


def test_a_problem_fails_whatever_is_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What was not looked at is told beside it."""
    found = Findings([], ["wrong"], ["odd"], ["a note"], ["not looked at"])
    assert check(monkeypatch, capsys, found) == (1, "", "wrong\nwarning: odd\nnote: not looked at\n")


def test_nothing_is_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = Findings(["a", "b"], [], [], [], [])
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
    assert found.notes == ["policies/contact.yaml:9:18: no route asks for 'export' of 'contact'"]


def test_the_claim_and_its_type_are_what_was_missing(suspended: dict[str, str], tmp_path: Path) -> None:
    attribute = "principal: {attributes: {suspended: %s}}\n"
    (tmp_path / "routes.yaml").write_text(ROUTES + attribute % '"custom:suspended"')
    untyped, _ = of_policies(suspended)
    assert untyped.endswith("suspended: {claim: 'custom:suspended', type: bool} [attribute-untyped]")
    (tmp_path / "routes.yaml").write_text(ROUTES + attribute % '{claim: "custom:suspended", type: bool}')
    assert [line.rpartition(" ")[2] for line in of_policies(suspended)] == ["[deny-for-role]"]


BROKEN = "apiVersion: api.cerbos.dev/v1\nresourcePolicy: {resource: other, version: default, rulez: []}\n"


def test_policies_that_do_not_compile_are_a_problem_and_the_rest_is_held_against_the_routes(
    suspended: dict[str, str], tmp_path: Path
) -> None:
    """Of a condition that does not compile it is not said, too, that it cannot be read."""
    (tmp_path / "policies" / "contact.yaml").write_text(
        POLICIES.replace("P.attr.suspended == true", "P.attr.suspended ==")
    )
    found = checking.findings(suspended, {})
    (problem,) = found.problems
    assert problem.startswith("policies/contact.yaml:7:")
    (warning,) = found.warnings
    assert warning.startswith("policies/contact.yaml:8:7: ")
    (tmp_path / "policies" / "contact.yaml").write_text(POLICIES)
    (tmp_path / "policies" / "other.yaml").write_text(BROKEN)
    (tmp_path / "routes.yaml").write_text(
        ROUTES.replace("routes: [", "routes: [{path: /o, resource: other, actions: {GET: read}}, ")
    )
    found = checking.findings(suspended, {})
    (problem,) = found.problems
    assert problem.startswith('policies/other.yaml:2:53: unknown field "rulez"')
    # nor that no policy names what one that cannot be understood may name
    assert [line.rpartition(" ")[2] for line in found.warnings] == ["[attribute-unsupplied]", "[deny-for-role]"]
    assert found.notes == ["policies/contact.yaml:9:18: no route asks for 'export' of 'contact'"]


def test_all_that_is_wrong_with_policies_is_told_at_once(suspended: dict[str, str], tmp_path: Path) -> None:
    """Cerbos compiles nothing where it cannot read one file, and what cannot be opened is none of its affair."""
    folder = tmp_path / "policies"
    (folder / "contact.yaml").write_text(POLICIES.replace("P.attr.suspended == true", "P.attr.suspended =="))
    (folder / "other.yaml").write_text(BROKEN)
    (folder / "link.yaml").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.json")
    (folder / "_schemas").mkdir()
    (folder / "_schemas/x.json").write_text("{\n")
    (folder / "no.yaml").write_text("a: [\n")
    found = checking.findings(suspended, {})
    assert sorted(problem.partition(": ")[0] for problem in found.problems) == [
        "policies/_schemas/x.json:2:1", "policies/contact.yaml:7:80", "policies/link.yaml", "policies/no.yaml:1:4",
        "policies/other.yaml:2:53", "policies/pipe.json",
    ]  # fmt: skip
    assert [line.partition(": ")[0] for line in found.warnings] == ["policies/contact.yaml:8:7"]


def test_schemas_in_the_wrong_place_hide_nothing(suspended: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    (folder / "contact.yaml").write_text(POLICIES.replace("P.attr.suspended == true", "P.attr.suspended =="))
    (folder / "below/_schemas").mkdir(parents=True)
    (folder / "below/_schemas/x.json").write_text("{}")
    schemas, expression = checking.findings(suspended, {}).problems
    assert schemas.startswith("policies/below/_schemas:1:1: ")
    assert expression.startswith("policies/contact.yaml:7:80: ")


def test_expressions_that_are_not_compiled_for_a_problem_without_a_file_are_told(
    suspended: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "policies"
    (folder / "contact.yaml").write_text(POLICIES.replace("P.attr.suspended == true", "P.attr.suspended =="))
    # a name that Cerbos takes, and no parser that keeps to YAML
    said = "not checked because of errors in policies whose file could not be told: expressions of its policies"
    unread = NOT_NAMED.replace("other", "child")
    for name, problems, unsettled in (("child", 2, []), ("%child", 1, [unread, said])):
        (folder / "child.yaml").write_text(CHILD.replace("child", name))
        found = checking.findings({**suspended, "SIDECAR_UPSTREAM": "http://app"}, {})
        assert (len(found.problems), found.unsettled) == (problems, unsettled), found
        assert any(f"found the policy resource.{name}.vdefault/a" in problem for problem in found.problems)


CHILD = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: child
  version: default
  scope: a
  rules: []
"""


def test_a_schema_that_is_no_json_hides_nothing_and_is_told_once(suspended: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    (folder / "_schemas").mkdir()
    (folder / "_schemas/x.json").write_text("{\n")
    rest = "schemas: {resourceSchema: {ref: 'cerbos:///x.json'}}, importDerivedRoles: [nosuch], rules: []"
    (folder / "b.yaml").write_text(
        f"apiVersion: api.cerbos.dev/v1\nresourcePolicy: {{resource: b, version: default, {rest}}}\n"
    )
    found = checking.findings(suspended, {})
    (schema,) = [problem for problem in found.problems if "x.json" in problem]
    assert schema.startswith("policies/_schemas/x.json:2:1: no JSON")
    (other,) = [problem for problem in found.problems if problem != schema]
    assert other.startswith("policies/b.yaml:")
    assert "nosuch" in other


def test_candidate_policies_that_do_not_compile_are_held_against_the_routes(
    suspended: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "next").mkdir()
    (tmp_path / "next/contact.yaml").write_text(POLICIES)
    (tmp_path / "next/other.yaml").write_text(BROKEN)
    found = checking.findings({**suspended, "SIDECAR_CANDIDATE_POLICIES": "next"}, {})
    assert [problem.partition(": ")[0] for problem in found.problems] == ["next/other.yaml:2:53"]
    assert [line.partition(": ")[0] for line in found.warnings if line.startswith("next/")] == [
        "next/contact.yaml:7:86", "next/contact.yaml:8:7"
    ]  # fmt: skip


ELSEWHERE = {"SIDECAR_CERBOS": "cerbos:3593", "SIDECAR_CERBOS_TLS": "plaintext"}


def test_the_folder_of_a_cerbos_elsewhere_is_compiled_where_it_is_named(
    suspended: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "policies" / "contact.yaml").write_text(
        POLICIES.replace("P.attr.suspended == true", "P.attr.suspended ==")
    )
    unnamed = checking.findings({**suspended, **ELSEWHERE}, {})
    assert (unnamed.checked, unnamed.problems, unnamed.warnings) == (["routes.yaml"], [], [])
    assert unnamed.notes == [checking.EXTERNAL, checking.UNNAMED]
    for more in ({"SIDECAR_POLICIES": "policies"}, {"SIDECAR_CERBOS_ADMIN": "a:b"}):
        found = checking.findings({**suspended, **ELSEWHERE, **more}, {})
        assert found.checked == ["routes.yaml", "policies"]
        assert [problem.partition(": ")[0] for problem in found.problems] == ["policies/contact.yaml:7:80"]
        assert [line.partition(": ")[0] for line in found.warnings] == ["policies/contact.yaml:8:7"]
        assert checking.UNNAMED not in found.notes
    missing = checking.findings({**suspended, **ELSEWHERE, "SIDECAR_POLICIES": "none"}, {})
    assert missing.problems == []
    assert [line for line in missing.warnings if line.startswith("SIDECAR_POLICIES: found no folder 'none'")]
    monkeypatch.setenv("PATH", "/nowhere")
    without = {name: value for name, value in suspended.items() if name != "SIDECAR_CERBOS_BINARY"}
    read = checking.findings({**without, **ELSEWHERE, "SIDECAR_POLICIES": "policies"}, {})
    assert read.problems == []
    assert any(
        note.startswith("policies: not compiled, only read: SIDECAR_CERBOS_BINARY: found neither")
        for note in read.notes
    )


def test_the_folder_is_looked_at_where_cerbos_cannot_be_read(suspended: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "policies" / "other.yaml").write_text(BROKEN)
    found = checking.findings({**suspended, "SIDECAR_CERBOS": "nowhere", "SIDECAR_POLICIES": "policies"}, {})
    assert [problem.partition(": ")[0] for problem in found.problems] == ["SIDECAR_CERBOS", "policies/other.yaml:2:53"]
    assert checking.EXTERNAL not in found.notes


ASKED = ROUTES.replace("routes: [", "routes: [{path: /o, resource: other, actions: {GET: read}}, ")
"""Routes of which one asks about what no policy names."""


def names_of_warnings(found: Findings) -> list[str]:
    return [line.rpartition(" ")[2] for line in found.warnings if line.endswith("]")]


@pytest.mark.parametrize(
    "unread", ["no YAML", "no policy", "a part of itself", "a link to nothing", "a folder that cannot be read"]
)
def test_what_no_policy_names_is_not_told_beside_a_file_that_nothing_compiles_and_we_cannot_read(
    suspended: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unread: str
) -> None:
    """Nor what the question log lacks, since such a file may read any attribute."""
    (tmp_path / "routes.yaml").write_text(ASKED + "principal: {attributes: {suspended: suspended}}\n")
    monkeypatch.setenv("PATH", "/nowhere")
    log = {"SIDECAR_QUESTION_LOG": "questions.jsonl", "SIDECAR_QUESTION_LOG_ATTRIBUTES": "owner"}
    environ = {**suspended, **ELSEWHERE, **log, "SIDECAR_POLICIES": "policies"}
    del environ["SIDECAR_CERBOS_BINARY"]
    least = checking.findings(environ, {})
    assert least.problems == []
    assert names_of_warnings(least) == ["[attribute-untyped]", "[deny-for-role]", "[question-unknown]"]
    assert any(line.startswith("SIDECAR_QUESTION_LOG_ATTRIBUTES: ") for line in least.warnings)
    match unread:
        case "no YAML":
            (tmp_path / "policies/other.yaml").write_text("a: [\n")
        case "no policy":
            (tmp_path / "policies/other.yaml").write_text("apiVersion: api.cerbos.dev/v1\nnewPolicy: {}\n")
        case "a part of itself":
            (tmp_path / "policies/other.yaml").write_text("--- &a\n" + POLICIES + "<<: *a\n")
        case "a link to nothing":
            (tmp_path / "policies/other.yaml").symlink_to("nowhere")
        case _:
            (tmp_path / "policies/other").symlink_to(".")
    found = checking.findings(environ, {})
    assert names_of_warnings(found) == ["[attribute-untyped]", "[deny-for-role]"]
    assert not any(line.startswith("SIDECAR_QUESTION_LOG_ATTRIBUTES: ") for line in found.warnings)
    assert [line for line in (*found.problems, *found.warnings) if line.startswith("policies/other")]
    assert found.notes == least.notes
    (note,) = (line for line in found.unsettled if line not in least.unsettled)
    assert note.startswith("not checked because of errors in policies/other")
    assert note.endswith(": what the routes ask for and no policy names, attributes that the question log leaves out")
    assert not [line for line in least.unsettled if line.startswith(UNJUDGED)]


def test_a_file_that_cerbos_reads_and_we_cannot_read_may_name_what_is_asked(
    suspended: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "routes.yaml").write_text(ASKED)
    assert names_of_warnings(checking.findings(suspended, {}))[-1] == "[question-unknown]"
    other = POLICIES.replace("resource: contact", "resource: other # é")
    (tmp_path / "policies/other.yaml").write_bytes(other.encode("latin-1"))
    found = checking.findings(suspended, {})
    assert found.problems == []
    assert found.warnings[0] == "policies/other.yaml:3:21: could not be read: found the byte 0xE9, expected UTF-8"
    assert "[question-unknown]" not in names_of_warnings(found)
    assert NOT_NAMED in found.unsettled


NOT_NAMED = "not checked because of errors in policies/other.yaml: what the routes ask for and no policy names"


def test_of_a_folder_that_changes_it_is_not_known_what_it_names(
    suspended: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "routes.yaml").write_text(ASKED)

    def changing(folder: Path, **_: bool) -> None:
        raise policy_files.Changing(folder)

    monkeypatch.setattr(policy_files, "read_policies", changing)
    found = checking.findings(suspended, {})
    assert found.problems == ["policies: it changes while it is read, expected it to stay as it is"]
    assert names_of_warnings(found) == ["[attribute-unsupplied]", "[deny-for-role]"]


def test_what_cerbos_did_not_get_to_in_a_file_with_a_problem_is_a_warning(
    suspended: dict[str, str], tmp_path: Path
) -> None:
    """Where an import is missing it compiles no expression of that file, and looks for no schema."""
    path, schema = tmp_path / "policies/contact.yaml", "\n  schemas: {resourceSchema: {ref: 'cerbos:///no.json'}}"
    missing = POLICIES.replace("version: default", "version: default\n  importDerivedRoles: [nosuch]" + schema)
    path.write_text(missing.replace("P.attr.suspended == true", "P.attr.suspended =="))
    found = checking.findings(suspended, {})
    assert [problem.partition(": ")[0] for problem in found.problems] == ["policies/contact.yaml:5:24"]
    assert [line.partition(": ")[0] for line in found.warnings] == [
        "policies/contact.yaml:6:35", "policies/contact.yaml:9:86", "policies/contact.yaml:10:7"
    ]  # fmt: skip
    assert "could not be read: the schema 'cerbos:///no.json'" in found.warnings[0]
    assert found.warnings[1].endswith("[expression-unread]")
    path.write_text(missing.replace("importDerivedRoles: [nosuch]", ""))
    told = checking.findings(suspended, {})
    assert [problem.partition(": ")[0] for problem in told.problems] == ["policies/contact.yaml:6:30"]
    assert not any("could not be read" in line for line in told.warnings)


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
    assert (found.problems, found.notes) == ([], [checking.EXTERNAL, checking.UNNAMED])


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


def test_attributes_that_policies_read_and_the_question_log_leaves_out_are_warned_of(
    suspended: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "routes.yaml").write_text(
        "version: 1\nprincipal: {attributes: {suspended: suspended, team: team}}\n" + ROUTES.partition("\n")[2]
    )

    def warned(**more: str) -> list[str]:
        found = checking.findings({**suspended, **more}, {})
        assert found.problems == []
        return [line for line in found.warnings if line.startswith("SIDECAR_QUESTION_LOG")]

    log = {"SIDECAR_QUESTION_LOG": str(tmp_path / "questions.jsonl")}
    assert warned() == []
    assert warned(**log, SIDECAR_QUESTION_LOG_ATTRIBUTES="owner") == [
        "SIDECAR_QUESTION_LOG_ATTRIBUTES: not in it, and read by the policies: principal.suspended"
        " (policies/contact.yaml:7:86): `replay` cannot judge what is recorded without them, expected"
        " resource.owner,principal.suspended"
    ]
    assert warned(**log, SIDECAR_QUESTION_LOG_ATTRIBUTES="principal.suspended") == []


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


# --- check finds what run refuses ---


class Bad(NamedTuple):
    """A value of a setting that `run` refuses, with what else must be set for it, and the beginning of what is said."""

    value: str
    more: Mapping[str, str] = {}
    says: str = ""
    starts: bool = False
    """Only what has its ports finds it."""


LOGIN = {
    **POOL, "SIDECAR_LOGIN": "hosted", "AWS_COGNITO_DOMAIN": "shop", "SIDECAR_HOSTS": "app.test",
    "SIDECAR_SESSION_SECRET": SESSION_SECRET,
}  # fmt: skip
TLS = {"SIDECAR_CERBOS": "cerbos:1", "SIDECAR_CERBOS_TLS": "on"}
PAIR = "SIDECAR_CERBOS_CA, SIDECAR_CERBOS_CERTIFICATE, SIDECAR_CERBOS_KEY: expected PEM files"
UPSTREAM_PAIR = "SIDECAR_UPSTREAM_CERTIFICATE, SIDECAR_UPSTREAM_KEY: expected PEM files"
OWN_TLS = "SIDECAR_TLS_CERTIFICATE, SIDECAR_TLS_KEY: cannot read none.pem: No such file"
BAD = {
    "SIDECAR_UPSTREAM": Bad("http://app:99999"),
    "SIDECAR_UPSTREAM_CA": Bad(
        "none.pem", {"SIDECAR_UPSTREAM": "https://app"}, "SIDECAR_UPSTREAM_CA: expected a PEM file"
    ),
    "SIDECAR_UPSTREAM_CERTIFICATE": Bad(
        "none.pem", {"SIDECAR_UPSTREAM": "https://app", "SIDECAR_UPSTREAM_KEY": "none.pem"}, UPSTREAM_PAIR
    ),
    "SIDECAR_UPSTREAM_KEY": Bad(
        "none.pem", {"SIDECAR_UPSTREAM": "https://app", "SIDECAR_UPSTREAM_CERTIFICATE": "none.pem"}, UPSTREAM_PAIR
    ),
    "SIDECAR_UPSTREAM_SERVER_NAME": Bad("https://app", {"SIDECAR_UPSTREAM": "https://app"}),
    "SIDECAR_UPSTREAM_CONNECT_TIMEOUT": Bad("soon"),
    "SIDECAR_UPSTREAM_HEAD_TIMEOUT": Bad("soon"),
    "SIDECAR_UPSTREAM_IDLE_TIMEOUT": Bad("soon"),
    "SIDECAR_LISTEN": Bad("999.0.0.1:80"),
    "SIDECAR_ADMIN_LISTEN": Bad("unix:/none/admin.sock", says="SIDECAR_ADMIN_LISTEN: cannot listen on unix:/none/"),
    "SIDECAR_EXT_AUTHZ_LISTEN": Bad("[:::]:80"),
    "SIDECAR_EXT_PROC_LISTEN": Bad("9003"),
    "SIDECAR_ROUTES": Bad("none.yaml", says="SIDECAR_ROUTES: cannot read none.yaml"),
    "SIDECAR_CERBOS": Bad("cerbos"),
    "SIDECAR_CERBOS_BINARY": Bad("none", says="SIDECAR_CERBOS_BINARY: found no program at none"),
    "SIDECAR_CERBOS_STRICT": Bad("yes"),
    "SIDECAR_CERBOS_TIMEOUT": Bad("soon"),
    "SIDECAR_CERBOS_ADMIN": Bad("nobody"),
    "SIDECAR_CERBOS_TLS": Bad("yes"),
    "SIDECAR_CERBOS_CA": Bad("none.pem", TLS, PAIR),
    "SIDECAR_CERBOS_CERTIFICATE": Bad("none.pem", TLS | {"SIDECAR_CERBOS_KEY": "none.pem"}, PAIR),
    "SIDECAR_CERBOS_KEY": Bad("none.pem", TLS | {"SIDECAR_CERBOS_CERTIFICATE": "none.pem"}, PAIR),
    "SIDECAR_POLICIES": Bad("none", says="SIDECAR_POLICIES: found no folder 'none'"),
    "SIDECAR_CANDIDATE_POLICIES": Bad("none", says="SIDECAR_CANDIDATE_POLICIES: found no folder 'none'"),
    "SIDECAR_PDP": Bad("authzen+https://pdp:99999"),
    "SIDECAR_PDP_TOKEN": Bad("a b"),
    "SIDECAR_PDP_CA": Bad(
        "none.pem", {"SIDECAR_PDP": "authzen+https://pdp"}, "SIDECAR_PDP_CA: expected a PEM file of CAs"
    ),
    "SIDECAR_PDP_ROLES": Bad("a b"),
    "SIDECAR_MODE": Bad("open"),
    "SIDECAR_SQL_CONNECTIONS": Bad("0"),
    "SIDECAR_WORKERS": Bad("many"),
    "SIDECAR_TRUSTED_PROXIES": Bad("here"),
    "SIDECAR_FORWARD_AUTH": Bad("apache"),
    "SIDECAR_MAX_CONNECTIONS": Bad("0"),
    "SIDECAR_HELD_MEMORY": Bad("64KiB", says="SIDECAR_HELD_MEMORY: found '64KiB', expected 1MiB or more"),
    "SIDECAR_HELD_DISK": Bad("much"),
    "SIDECAR_WS_MAX_MESSAGE": Bad("much"),
    "SIDECAR_KEEP_ALIVE": Bad("soon"),
    "HTTPS_PROXY": Bad("proxy"),
    "SIDECAR_HOSTS": Bad("https://app.example"),
    "SIDECAR_HEALTH_PATHS": Bad("livez"),
    "SIDECAR_SOCKET_MODE": Bad("rw"),
    "SIDECAR_SOCKET_OWNER": Bad("a b"),
    "SIDECAR_TLS_CERTIFICATE": Bad("none.pem", {"SIDECAR_TLS_KEY": "none.pem"}, OWN_TLS),
    "SIDECAR_TLS_KEY": Bad("none.pem", {"SIDECAR_TLS_CERTIFICATE": "none.pem"}, OWN_TLS),
    "SIDECAR_DECISION_LOG_FULL": Bad("wait"),
    "AWS_COGNITO_SCOPES": Bad('"'),
    "SIDECAR_DECISION_LOG": Bad("none/log", says="SIDECAR_DECISION_LOG: cannot append to none/log: No such file"),
    "SIDECAR_QUESTION_LOG": Bad("none/log", says="SIDECAR_QUESTION_LOG: cannot append to none/log: No such file"),
    "SIDECAR_QUESTION_LOG_SIZE": Bad("10KiB"),
    "SIDECAR_QUESTION_LOG_ATTRIBUTES": Bad("*", {"SIDECAR_QUESTION_LOG": "questions.jsonl"}),
    "SIDECAR_ASSERTION": Bad("none.pem", says="SIDECAR_ASSERTION: expected off, ephemeral, or a PEM file"),
    "SIDECAR_DRAIN_DELAY": Bad("soon"),
    "SIDECAR_SHUTDOWN_TIMEOUT": Bad("soon"),
    "SIDECAR_LOG_LEVEL": Bad("loud"),
    "SIDECAR_TRACES": Bad("zipkin"),
    "AWS_REGION": Bad("Ireland"),
    "AWS_COGNITO_POOL_ID": Bad("pool", POOL),
    "AWS_COGNITO_CLIENT_ID": Bad(",", POOL, "AWS_COGNITO_CLIENT_ID: not set"),
    "AWS_COGNITO_CLIENT_SECRET": Bad("changeme"),
    "SIDECAR_LOGIN": Bad("yes"),
    "SIDECAR_PASSWORD_FLOW": Bad("plain"),
    "AWS_COGNITO_DOMAIN": Bad("http://shop.example"),
    "AWS_COGNITO_HOSTED_UI_CALLBACK_URL": Bad("/callback"),
    "AWS_COGNITO_HOSTED_UI_LOGOUT_URL": Bad("/bye"),
    "SIDECAR_LOGOUT": Bad("yes"),
    "SIDECAR_LOGOUT_PATHS": Bad("logout"),
    "SIDECAR_SESSION_SECRET": Bad("short"),
    "SIDECAR_REDIS_URL": Bad("redis://redis:6379/0?socket_timeout=long", LOGIN, "SIDECAR_REDIS_URL: expected redis://"),
    "SIDECAR_SESSION_IDLE": Bad("soon"),
    "SIDECAR_SESSION_LIFETIME": Bad("soon"),
    "SIDECAR_CONSOLE": Bad("yes"),
    "SIDECAR_TEMPLATES": Bad("none", says="SIDECAR_TEMPLATES: found 'none', expected a folder"),
    "SIDECAR_ALB_SIGNER": Bad("alb"),
    "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": Bad("cognito"),
    "SIDECAR_ISSUER": Bad("https://idp", POOL, "SIDECAR_JWKS_URL: not set, expected the key URL of SIDECAR_ISSUER"),
    "SIDECAR_JWKS_URL": Bad("keys"),
}
_NO_HOST = "cannot listen on nosuchhost.invalid:8080: the host 'nosuchhost.invalid' does not resolve ("
_NOT_OURS = "cannot listen on 192.0.2.1:8080: 192.0.2.1 is no address of this machine, expected one that is"
LISTENS = ("SIDECAR_LISTEN", "SIDECAR_ADMIN_LISTEN", "SIDECAR_EXT_AUTHZ_LISTEN", "SIDECAR_EXT_PROC_LISTEN")
ALSO_BAD = [
    *((name, Bad("nosuchhost.invalid:8080", says=f"{name}: {_NO_HOST}")) for name in LISTENS),
    *((name, Bad("192.0.2.1:8080", says=f"{name}: {_NOT_OURS}")) for name in LISTENS),
    *((name, Bad("unix:/none/x.sock", says=f"{name}: cannot listen on unix:/none/x.sock: No such")) for name in LISTENS),
    ("SIDECAR_LISTEN", Bad("[2001:db8::1]:8080", says="SIDECAR_LISTEN: cannot listen on [2001:db8::1]:8080: 2001:db8::1 is")),
    *(
        ("SIDECAR_SOCKET_OWNER", Bad(owner, {"SIDECAR_ADMIN_LISTEN": "unix:/tmp/admin.sock"}, f"SIDECAR_SOCKET_OWNER: {says}"))
        for owner, says in (
            ("nosuchuser", "found the user 'nosuchuser', expected one of this system"),
            (":nosuchgroup", "found the group 'nosuchgroup', expected one of this system"),
            ("4294967295", "found the user 4294967295, expected a number of 4294967294 at most"),
        )
    ),
    *(
        ("SIDECAR_CERBOS_BINARY", Bad(program, says=f"SIDECAR_CERBOS_BINARY: found {does}", starts=True))
        for program, does in (
            ("/bin/true", "/bin/true, which tells no version and does not serve (Cerbos ended with 0), expected"),
            ("./ends-with-3", "/"),
            ("./no-program", "/"),
        )
    ),
]  # fmt: skip
"""More of what `run` refuses, of settings that have a bad value above."""
CANNOT_BE_BAD = {
    "NO_PROXY": "any text is a host that may be asked or not",
    "SIDECAR_CONSOLE_ADMIN": "any text is a role that a token may have or not have",
}


def test_every_setting_has_a_bad_value_or_a_reason_why_it_has_none() -> None:
    assert set(BAD) | set(CANNOT_BE_BAD) == {setting.variable for setting in SETTINGS}
    assert not set(BAD) & set(CANNOT_BE_BAD)


DRAFTS = """\
version: 1
routes:
  - {path: /contacts, resource: contact, actions: {GET: list}}
  - {path: /invoices, draft: true, resource: invoice, actions: {GET: list}}
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (DRAFTS, " 1 of 2 routes are drafts and not in force"),
        (
            f"draft: true\n{DRAFTS}",
            "1:8: `draft: true` of the whole file, 2 routes: `sidecar run` does not start with it",
        ),
    ],
)
def test_drafts_are_counted(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "routes.yaml").write_text(text)
    pdp = {"SIDECAR_CERBOS": "cerbos:3593", "SIDECAR_CERBOS_TLS": "plaintext"}
    found = checking.findings({**POOL, "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"), **pdp}, {})
    assert found.problems == []
    assert f"{tmp_path}/routes.yaml:{told}" in found.notes


def test_a_draft_of_a_file_is_not_served(sandbox: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(f"draft: true\n{DRAFTS}")
    environ = {**sandbox, **POOL}
    with pytest.raises(StartError, match=r"routes.yaml:1:8: found `draft: true` of the whole file, expected"):
        workers.serve(understand(environ, {}), dict(environ), {})


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Settings that are good, but for the ports, which are taken: so nothing can begin to serve."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("SIDECAR_", "AWS_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes: [{path: /x, access: public}]\n")
    with (
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as one,
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as two,
    ):
        for program, text in (("ends-with-3", "#!/bin/sh\nexit 3\n"), ("no-program", "\0\0")):
            (tmp_path / program).write_text(text)
            (tmp_path / program).chmod(0o755)
        yield {
            "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_LISTEN": f"127.0.0.1:{one.getsockname()[1]}",
            "SIDECAR_ADMIN_LISTEN": f"127.0.0.1:{two.getsockname()[1]}", "SIDECAR_POLICIES": str(policies()),
            "SIDECAR_CERBOS_BINARY": str(binary()),
        }  # fmt: skip


def tree(folder: Path) -> list[tuple[str, float]]:
    return [(str(path), path.stat().st_mtime) for path in sorted(folder.rglob("*"))]


OPENED: list[str] = []
"""What was done to sockets since it was cleared. A hook cannot be taken away, and so is there once for all tests."""


@cache
def watched() -> list[str]:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        # a port of its own, to see whether a host is ours, takes none from anybody
        tried = event == "socket.bind" and isinstance(arguments[1], tuple) and arguments[1][1] == 0
        if event in ("socket.bind", "socket.connect", "socket.getaddrinfo") and not tried:
            OPENED.append(event)

    sys.addaudithook(hook)
    return OPENED


def run(environ: Mapping[str, str]) -> list[str]:
    """Why `sidecar run` does not start."""
    before, level, handlers = signal.getsignal(signal.SIGHUP), logging.root.level, list(logging.root.handlers)
    try:
        with pytest.raises(StartError) as caught:
            workers.serve(understand(environ, {}), dict(environ), {})
    finally:
        signal.signal(signal.SIGHUP, before)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
    return list(caught.value.problems)


def run_by_itself(environ: Mapping[str, str]) -> list[str]:
    """Why a process of `sidecar run`, which gets as far as its Cerbos, does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "sidecar.cli", "run"], env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    return [line for line in done.stderr.splitlines() if not line.startswith("{")]


@pytest.mark.parametrize(("variable", "bad"), [*BAD.items(), *ALSO_BAD])
def test_check_says_of_a_bad_value_what_run_says(
    sandbox: dict[str, str], tmp_path: Path, variable: str, bad: Bad
) -> None:
    environ = {**sandbox, **bad.more, variable: bad.value}
    before, opened = tree(tmp_path), watched()
    opened.clear()
    told = checking.findings(environ, {}).problems
    # a Cerbos that is tried has a socket of its own
    assert (tree(tmp_path), [] if bad.starts else opened) == (before, [])
    ports = {"SIDECAR_LISTEN": f"127.0.0.1:{free_port()}", "SIDECAR_ADMIN_LISTEN": f"127.0.0.1:{free_port()}"}
    assert told == (run_by_itself(environ | ports) if bad.starts else run(environ))
    assert any(problem.startswith(bad.says or f"{variable}: ") for problem in told), told
    assert len(told) == 1, told


@pytest.mark.parametrize(
    ("variable", "misspelt", "effect"),
    [
        (
            "SIDECAR_UPSTREAM",
            "SIDECAR_UPSTRAEM",
            "It is required: not set, expected the protected app: `http(s)://host:port`",
        ),
        (
            "SIDECAR_CERBOS_BINARY",
            "SIDECAR_CERBOS_BINRAY",
            "Without it: found neither `cerbos` on PATH nor node_modules/",
        ),
        (
            "SIDECAR_POLICIES",
            "SIDECAR_POLICEIS",
            "Without it: found no folder 'policies', expected one with the Cerbos",
        ),
        ("SIDECAR_ROUTES", "SIDECAR_ROTUES", "Without it: cannot read routes.yaml: "),
        (
            "SIDECAR_CERBOS_TLS",
            "SIDECAR_CERBOS_TSL",
            "Without it: SIDECAR_CERBOS: found cerbos:3593, which is not on this",
        ),
        (
            "SIDECAR_TLS_KEY",
            "SIDECAR_TLS_KYE",
            "Without it: SIDECAR_TLS_CERTIFICATE, SIDECAR_TLS_KEY: found one of them",
        ),
    ],
)
def test_a_misspelt_setting_is_told_once_with_what_it_is_needed_for(
    sandbox: dict[str, str], monkeypatch: pytest.MonkeyPatch, variable: str, misspelt: str, effect: str
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    more = {
        "SIDECAR_CERBOS_TLS": {"SIDECAR_CERBOS": "cerbos:3593"},
        "SIDECAR_TLS_KEY": {"SIDECAR_TLS_CERTIFICATE": "certificate.pem"},
    }.get(variable, {})
    if variable == "SIDECAR_ROUTES":
        Path("routes.yaml").unlink()
    environ = {name: value for name, value in sandbox.items() if name != variable} | more | {misspelt: "x"}
    found = checking.findings(environ, {})
    (told,) = found.problems
    assert told.startswith(f"{misspelt}: unknown setting, did you mean '{variable}'? {effect}")
    assert run(environ) == [told]
    assert not any(line.startswith(f"{variable}: ") for line in (*found.warnings, *found.notes))


def test_what_stops_run_is_a_problem_though_it_is_a_warning_elsewhere(
    suspended: dict[str, str], tmp_path: Path
) -> None:
    """Without a binary the policies of another's Cerbos are only read, while candidates need one."""
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "contact.yaml").write_text(POLICIES)
    environ = {
        **suspended, "SIDECAR_CERBOS": "127.0.0.1:3592", "SIDECAR_POLICIES": "policies",
        "SIDECAR_CERBOS_BINARY": "/nonexistent",
    }  # fmt: skip
    says = "SIDECAR_CERBOS_BINARY: found no program at /nonexistent"
    without = checking.findings(environ, {})
    assert (without.problems, any(line.startswith(says) for line in without.warnings)) == ([], True)
    found = checking.findings(environ | {"SIDECAR_CANDIDATE_POLICIES": "next"}, {})
    (told,) = found.problems
    assert told.startswith(says)
    assert told not in found.warnings
    assert run(environ | {"SIDECAR_CANDIDATE_POLICIES": "next"}) == [told]


UPSTREAM_TLS = {"SIDECAR_UPSTREAM": "https://app"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {**UPSTREAM_TLS, "SIDECAR_UPSTREAM_KYE": "x", "SIDECAR_UPSTREAM_CERTIFICATE": "none.pem"},
            ["SIDECAR_UPSTREAM_KYE", "SIDECAR_UPSTREAM_CERTIFICATE"],
        ),
        (
            {**UPSTREAM_TLS, "SIDECAR_UPSTREAM_CERTIFICATES": "x", "SIDECAR_UPSTREAM_KEY": "none.pem"},
            ["SIDECAR_UPSTREAM_CERTIFICATES", "SIDECAR_UPSTREAM_KEY"],
        ),
        (
            {**UPSTREAM_TLS, "SIDECAR_UPSTREAM_KYE": "x", "SIDECAR_UPSTREAM_CERTIFICATE": "routes.yaml"},
            ["SIDECAR_UPSTREAM_KYE"],
        ),
        (
            {**TLS, "SIDECAR_CERBOS_KYE": "x", "SIDECAR_CERBOS_CERTIFICATE": "none.pem"},
            ["SIDECAR_CERBOS_KYE", "SIDECAR_CERBOS_CERTIFICATE"],
        ),
        ({**TLS, "SIDECAR_CERBOS_KYE": "x", "SIDECAR_CERBOS_CERTIFICATE": "routes.yaml"}, ["SIDECAR_CERBOS_KYE"]),
        (
            {**TLS, "SIDECAR_CERBOS_KYE": "x", "SIDECAR_CERBOS_CERTIFICATE": "routes.yaml", "SIDECAR_CERBOS_CA": "none.pem"},
            ["SIDECAR_CERBOS_KYE", PAIR.partition(": ")[0]],
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_missing_does_not_come_of_a_misspelt_setting(
    sandbox: dict[str, str], settings: dict[str, str], told: list[str]
) -> None:
    """Nor is anything said of one that is there, since the other of the pair isn't."""
    environ = sandbox | settings
    problems = checking.findings(environ, {}).problems
    assert [problem.partition(": ")[0] for problem in problems] == told
    assert problems[0].count(": ") == 3
    assert problems[0].endswith(": found one of them, expected both or none")
    assert all("No such file or directory" in problem for problem in problems[1:])
    assert run(environ) == problems


VERSIONLESS = """#!/bin/sh
case "$1" in --version) exit 1;; esac
exec {} "$@"
"""


def test_a_cerbos_that_tells_no_version_and_works_is_none_to_refuse(sandbox: dict[str, str], tmp_path: Path) -> None:
    program = tmp_path / "cerbos"
    program.write_text(VERSIONLESS.format(binary()))
    program.chmod(0o755)
    found = checking.findings(sandbox | {"SIDECAR_CERBOS_BINARY": str(program)}, {})
    assert found.problems == []
    assert any("Cerbos of an unknown version cannot evaluate strictly" in line for line in found.warnings)


def test_a_program_that_compiles_nothing_and_says_nothing_is_told_beside_what_the_files_tell(
    sandbox: dict[str, str], tmp_path: Path
) -> None:
    program = tmp_path / "cerbos"
    program.write_text('#!/bin/sh\ncase "$1" in --version) echo 0.55.0;; *) exit 3;; esac\n')
    program.chmod(0o755)
    (told,) = checking.findings(sandbox | {"SIDECAR_CERBOS_BINARY": str(program)}, {}).problems
    assert told.startswith(
        f"SIDECAR_CERBOS_BINARY: found {program}, whose `compile` ended with 3 and said nothing, expected"
    )
    folder = tmp_path / "policies"
    folder.mkdir()
    environ = sandbox | {"SIDECAR_CERBOS_BINARY": "/bin/true", "SIDECAR_POLICIES": str(folder)}
    none, empty = checking.findings(environ, {}).problems
    assert none.startswith("SIDECAR_CERBOS_BINARY: found /bin/true")
    assert empty.startswith(f"{folder}: found no policy")


def test_bad_values_of_several_listeners_are_told_at_once(sandbox: dict[str, str]) -> None:
    environ = sandbox | {
        "SIDECAR_LISTEN": "nosuchhost.invalid:80", "SIDECAR_ADMIN_LISTEN": "192.0.2.1:80",
        "SIDECAR_EXT_AUTHZ_LISTEN": "unix:/none/x.sock", "SIDECAR_SOCKET_OWNER": "nosuchuser:nosuchgroup",
    }  # fmt: skip
    told = checking.findings(environ, {}).problems
    assert [problem.partition(":")[0] for problem in told] == [*LISTENS[:3], *["SIDECAR_SOCKET_OWNER"] * 2]
    assert run(environ) == told


def test_without_a_bad_value_it_is_the_port_that_run_refuses(sandbox: dict[str, str]) -> None:
    assert checking.findings(sandbox, {}).problems == []
    (told,) = run(sandbox)
    assert told.startswith("SIDECAR_LISTEN: cannot listen on ")


@pytest.mark.parametrize(
    ("module", "ours", "more", "says"),
    [
        ("opentelemetry.sdk.trace", "sidecar.record.tracing", {"SIDECAR_TRACES": "otlp"}, "SIDECAR_TRACES: found otlp"),
        (
            "envoy.service.auth.v3.external_auth_pb2", "sidecar.doors.ext_authz",
            {"SIDECAR_EXT_AUTHZ_LISTEN": "127.0.0.1:1"}, "SIDECAR_EXT_AUTHZ_LISTEN: xds-protos is not installed",
        ),
        (
            "envoy.service.ext_proc.v3.external_processor_pb2", "sidecar.doors.ext_proc",
            {"SIDECAR_EXT_PROC_LISTEN": "127.0.0.1:1"}, "SIDECAR_EXT_PROC_LISTEN: xds-protos is not installed",
        ),
        ("pycognito.aws_srp", "", {**LOGIN, "SIDECAR_LOGIN": "both"}, "SIDECAR_PASSWORD_FLOW: found srp"),
    ],
)  # fmt: skip
def test_check_says_of_a_missing_extra_what_run_says(
    sandbox: dict[str, str], monkeypatch: pytest.MonkeyPatch, module: str, ours: str, more: dict[str, str], says: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if ours:
        monkeypatch.delitem(sys.modules, ours, raising=False)
        monkeypatch.delattr(ours, raising=False)
    environ = {**sandbox, **more}
    (told,) = checking.findings(environ, {}).problems
    assert told.startswith(says)
    assert run(environ) == [told]


def test_check_and_run_tell_all_at_once(sandbox: dict[str, str]) -> None:
    names = ("SIDECAR_MODE", "SIDECAR_ROUTES", "SIDECAR_POLICIES", "SIDECAR_TEMPLATES", "SIDECAR_DECISION_LOG")
    environ = {**sandbox, **{name: BAD[name].value for name in names}}
    told = checking.findings(environ, {}).problems
    assert [problem.partition(":")[0] for problem in told] == list(names)
    assert run(environ) == told


@pytest.mark.parametrize(
    ("variable", "found", "says"),
    [
        ("SIDECAR_LISTEN", "folder", "found another file at unix:"),
        ("SIDECAR_ADMIN_LISTEN", "file", "found another file at unix:"),
        ("SIDECAR_EXT_AUTHZ_LISTEN", "link", "found another file at unix:"),
        ("SIDECAR_DECISION_LOG", "link", "cannot append to "),
        ("SIDECAR_DECISION_LOG", "loop", "cannot append to "),
    ],
)
def test_what_stands_in_the_place_of_a_socket_or_a_log_is_told_and_stays(
    sandbox: dict[str, str], tmp_path: Path, variable: str, found: str, says: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "none/deeper")
    (tmp_path / "loop").symlink_to("loop")
    before = tree_of_links(tmp_path)
    at = tmp_path / found
    environ = {**sandbox, variable: str(at) if variable == "SIDECAR_DECISION_LOG" else f"unix:{at}"}
    (told,) = checking.findings(environ, {}).problems
    assert told.startswith(f"{variable}: {says}")
    assert run(environ) == [told]
    assert tree_of_links(tmp_path) == before


def tree_of_links(folder: Path) -> list[tuple[str, float]]:
    return [(str(path), path.lstat().st_mtime) for path in sorted(folder.rglob("*"))]


def test_there_may_be_no_policy_yet_in_shadow_and_never_where_it_is_enforced(
    suspended: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "policies/contact.yaml").unlink()
    says = "policies: found no policy"
    assert any(says in problem for problem in checking.findings(suspended, {}).problems)
    for mode in ("shadow", "shadow-policy"):
        watching = checking.findings({**suspended, "SIDECAR_MODE": mode}, {})
        assert watching.problems == []
        assert any(says in warning for warning in watching.warnings)


HEAD = "apiVersion: api.cerbos.dev/v1\n"
DENYING = {
    "nothing": "",
    "a comment": "# later\n",
    "disabled": POLICIES + "disabled: true\n",
    "names": HEAD + "exportVariables: {name: all, definitions: {one: 1 == 1}}\n",
    "no rule": HEAD + "resourcePolicy: {resource: contact, version: default, rules: []}\n",
    "a denial": HEAD
    + "resourcePolicy: {resource: contact, version: default, rules: [{actions: ['*'], effect: EFFECT_DENY, roles: ['*']}]}\n",
}


@pytest.mark.parametrize("text", DENYING.values(), ids=DENYING)
@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_policies_by_which_everything_is_denied_are_a_warning_as_run_starts_with_them(
    suspended: dict[str, str], tmp_path: Path, text: str, mode: str
) -> None:
    (tmp_path / "policies/contact.yaml").write_text(text)
    settings = {**suspended, "SIDECAR_MODE": mode}
    found = checking.findings(settings, {})
    assert found.problems == []
    says = "policies: found no rule that allows anything, expected one: Cerbos denies whatever the routes ask for"
    assert [line for line in found.warnings if line.startswith("policies: ")] == [says]
    assert names_of_warnings(found) == []
    assert says in checking.findings({**settings, "SIDECAR_ROUTES": "none.yaml"}, {}).warnings
    assert asyncio.run(answer_of_cerbos(settings)) == DENY


async def answer_of_cerbos(settings: Mapping[str, str]) -> str:
    """What the Cerbos of `run` says of a question that POLICIES allow."""
    embedded = embedded_cerbos(understand(settings, {}).settings, {})
    assert embedded is not None
    client = Cerbos(embedded.target, timeout=5.0, now=time.monotonic)
    try:
        await embedded.start()
        asker = Principal("a", ("admin",), {"suspended": False}, "iss", 0.0, {})
        return (
            (await client.check(Question("r", asker, (Resource("contact", "1", "read", {}),))))
            .results[0]
            .effects["read"]
        )
    finally:
        await client.aclose()
        await embedded.stop()


def test_policies_by_which_something_is_allowed_are_no_such_warning(suspended: dict[str, str]) -> None:
    assert not any("found no rule" in line for line in checking.findings(suspended, {}).warnings)
    assert asyncio.run(answer_of_cerbos(suspended)) == ALLOW


def test_a_rule_of_a_file_that_cannot_be_read_may_allow(suspended: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "policies/contact.yaml").write_text(DENYING["no rule"])
    (tmp_path / "policies/other.yaml").write_text("a: [\n")
    found = checking.findings(suspended, {})
    assert not any("found no rule" in line for line in found.warnings)
    assert NOT_NAMED.replace("what", "policies that allow nothing, what") in found.unsettled


def test_a_placeholder_that_cerbos_passes_over_switches_no_look_off(suspended: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(ASKED)
    (tmp_path / "policies/other.yaml").write_text("---\n# to do\n")
    found = checking.findings({**suspended, "SIDECAR_UPSTREAM": "http://app"}, {})
    assert (found.problems, found.unsettled) == ([], [])
    assert "[question-unknown]" in names_of_warnings(found)
    (tmp_path / "policies/contact.yaml").write_text(DENYING["no rule"])
    assert any("found no rule" in line for line in checking.findings(suspended, {}).warnings)


@pytest.mark.parametrize(
    ("client", "problems"), [("web", []), ("agent", ["mcp_clients[0].client_id: found 'agent', expected one of"])]
)
def test_an_app_client_of_which_no_token_is_taken_is_a_problem(
    tmp_path: Path, client: str, problems: list[str]
) -> None:
    (tmp_path / "routes.yaml").write_text(
        f"{ROUTES}mcp_clients: [{{client_id: {client}, redirect_uris: 'https://a/cb'}}]\n"
    )
    environ = {
        **POOL, "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"), "SIDECAR_POLICIES": str(policies()),
        "SIDECAR_CERBOS_BINARY": str(binary()),
    }  # fmt: skip
    found = checking.findings(environ, {}).problems
    assert len(found) == len(problems)
    assert all(part in text for part, text in zip(problems, found, strict=True))


SEVERAL = "version: 1\nupstreams: {a: 'http://a'}\nroutes: [{path: /x, upstream: a, access: authenticated}]\n"


@pytest.mark.parametrize(
    ("routes", "more", "told"),
    [
        (ROUTES, {}, True),
        (ROUTES, {"SIDECAR_UPSTREAM": "http://app:3000"}, False),
        (SEVERAL, {}, False),
        (SEVERAL, {"SIDECAR_MODE": "shadow"}, True),
    ],
)
def test_an_app_that_run_would_miss_is_told(tmp_path: Path, routes: str, more: dict[str, str], told: bool) -> None:
    """It is no problem: where the app is may be known only where the sidecar runs."""
    (tmp_path / "routes.yaml").write_text(routes)
    environ = {
        **POOL, "SIDECAR_UPSTREAM": "", "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
        "SIDECAR_POLICIES": str(policies()), "SIDECAR_CERBOS_BINARY": str(binary()), **more,
    }  # fmt: skip
    found = checking.findings(environ, {})
    notes = [note for note in found.unsettled if note.startswith("SIDECAR_UPSTREAM: not set")]
    assert (found.problems, len(notes)) == ([], told)


def test_proxies_that_ask_and_answers_without_room_are_warned_of_by_the_settings(sandbox: dict[str, str]) -> None:
    Path("routes.yaml").write_text(
        "version: 1\nroutes:\n  - {path: /list, resource: contact, query: [], actions: {GET: list}, items: {at: data, id: id}}\n"
    )
    sandbox |= {"AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_A", "AWS_COGNITO_CLIENT_ID": "web"}
    nginx = {"SIDECAR_FORWARD_AUTH": "nginx", "SIDECAR_TRUSTED_PROXIES": "10.0.0.0/8"}
    place = "routes.yaml:3:78: routes[0].items: "
    for more, said in (
        ({}, ""),
        (nginx, "found `items` or `fields` and SIDECAR_FORWARD_AUTH=nginx"),
        ({"SIDECAR_EXT_AUTHZ_LISTEN": f"127.0.0.1:{free_port()}"}, "found `items` or `fields` and SIDECAR_EXT_AUTHZ_LISTEN"),
        ({"SIDECAR_HELD_MEMORY": "4MiB"}, "GET /list: found answers of up to 10MiB, expected at most 524288 bytes"),
        ({"SIDECAR_HELD_MEMORY": "64MiB", "SIDECAR_EXT_PROC_LISTEN": f"127.0.0.1:{free_port()}"}, "GET /list: found answers of"),
    ):  # fmt: skip
        found = checking.findings({**sandbox, **more}, {})
        warned = [line for line in found.warnings if line.startswith(place)]
        assert [line.startswith(place + said) for line in warned] == ([True] if said else []), found
        assert found.problems == []


def test_routes_are_read_once(suspended: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (ROUTES, ROUTES.replace("GET: read", "GET: 5")):
        Path("routes.yaml").write_text(text)
        read: list[str] = []

        def read_once(text: str, *more: Any, read: list[str] = read) -> Any:
            read.append(text)
            return read_routes(text, *more)

        monkeypatch.setattr(route_file, "read_routes", read_once)
        checking.findings(suspended, {})
        assert read == [text]


HELD = """\
version: 1
routes:
  - {path: /list, resource: contact, query: [], actions: {GET: read}, items: {at: data, id: id}}
  - {path: /form, resource: contact, actions: {POST: read}, attributes: {a: "{form.a}"}, max_body: 4GiB}
"""
UNJUDGED = "not checked because of errors in "


@pytest.mark.parametrize(
    ("settings", "bad", "warned"),
    [
        ({"SIDECAR_HELD_MEMORY": "4MiB"}, {"SIDECAR_HELD_MEMORY": "4MB"}, "room for answers"),
        ({"SIDECAR_HELD_DISK": "1GiB"}, {"SIDECAR_HELD_DISK": "1GB"}, "room for bodies"),
        (
            {"SIDECAR_FORWARD_AUTH": "nginx", "SIDECAR_TRUSTED_PROXIES": "10.0.0.0/8"}, {"SIDECAR_FORWARD_AUTH": "apache"},
            "routes that a proxy cannot ask about",
        ),
        ({"SIDECAR_EXT_AUTHZ_LISTEN": "127.0.0.1:1"}, {"SIDECAR_EXT_AUTHZ_LISTEN": "1"}, "routes that a proxy cannot ask about"),
        ({"SIDECAR_MODE": "shadow"}, {"SIDECAR_MODE": "open"}, "modes"),
    ],
)  # fmt: skip
def test_nothing_is_judged_by_a_value_that_stands_in_for_a_bad_one(
    suspended: dict[str, str], settings: dict[str, str], bad: dict[str, str], warned: str
) -> None:
    """What is not looked at is told, and nothing else of the setting is."""
    Path("routes.yaml").write_text(HELD)
    (name,) = bad
    least = checking.findings(suspended, {})
    good = checking.findings({**suspended, **settings}, {})
    assert good.problems == []
    assert [*good.unsettled, *least.unsettled] == []
    found = checking.findings({**suspended, **settings, **bad}, {})
    assert [problem.partition(":")[0] for problem in found.problems] == [name]
    assert not any(name in line for line in found.warnings)
    assert set(found.warnings) <= set(least.warnings)
    (note,) = [note for note in found.unsettled if note.startswith(UNJUDGED)]
    assert note.startswith(f"{UNJUDGED}{name}: ")
    assert warned in note


@pytest.mark.parametrize(
    ("more", "other"),
    [
        # a Cerbos of our own is not missed by who names another PDP
        ({"SIDECAR_PDP": "authzen://pdp", "SIDECAR_CERBOS_BINARY": "/nowhere"}, []),
        # nor is the app our own port because that could not be read
        ({"SIDECAR_LISTEN": "nonsense", "SIDECAR_UPSTREAM": "http://127.0.0.1:8080"}, []),
        ({"SIDECAR_LOGIN": "yes", "AWS_COGNITO_DOMAIN": "prefix"}, []),
        ({"SIDECAR_HOSTS": "https://a", **LOGIN}, ["SIDECAR_HOSTS"]),
        ({"SIDECAR_SESSION_SECRET": "short", "AWS_REGION": "", "SIDECAR_LOGIN": "both"}, ["AWS_REGION", "AWS_COGNITO_DOMAIN"]),
    ],
)  # fmt: skip
def test_no_problem_comes_of_a_value_that_stands_in(
    suspended: dict[str, str], more: dict[str, str], other: list[str]
) -> None:
    lookups = 'lookups: {l: {upstream: "/{id}", attributes: {a: b}}}\n'
    Path("routes.yaml").write_text(ROUTES.replace("resource", "id: x, lookup: l, resource") + lookups)
    bad = {"SIDECAR_HOSTS": "https://a"} if "SIDECAR_HOSTS" in more else {}
    environ = {**suspended, **more, **bad}
    told = checking.findings(environ, {}).problems
    first = next(iter(more))
    assert {problem.partition(":")[0] for problem in told} == {first, *other}, told
    assert len(told) == len({first, *other})


def test_what_can_be_told_of_a_faulty_route_file_is_told_at_once(suspended: dict[str, str]) -> None:
    """Warnings about its sound routes and about policies, and what is wrong with them beside the settings."""
    Path("routes.yaml").write_text(
        "version: 1\nroutes:\n"
        "  - {path: /x, resource: contact, hosts: a.test, actions: {GET: read, PUT: chang}}\n"
        "  - {path: /y, resource: contact, actions: 5}\n"
    )
    found = checking.findings({**suspended, "SIDECAR_HOSTS": "b.test"}, {})
    assert [problem.partition(": ")[0] for problem in found.problems] == [
        "routes.yaml:4:44", "routes.yaml:4:44", "routes.yaml:3:42"
    ]  # fmt: skip
    assert {line.rpartition(" ")[2] for line in found.warnings} >= {
        "[attribute-unsupplied]", "[deny-for-role]", "[question-unknown]"
    }  # fmt: skip


FULL = (
    ROUTES
    + "defaults: {max_body: 4GiB}\nprincipal: {id: username, attributes: {suspended: {claim: email, type: bool}}}\n"
)
IDENTITY = "identity: [{region: eu-west-1, user_pool_id: eu-west-1_A, client_ids: [web]}]\n"


@pytest.mark.parametrize(
    ("good", "bad", "name", "parts"),
    [
        ("cache: {decisions: 1s}\n", "cache: 5\n", "", ""),
        ("version: 1\n", "version: one\n", "", ""),
        ("", "upstreams: 5\n", "", ""),
        ("", "to_app: {headers: {Remote-User: x}}\n", "", ""),
        (IDENTITY, "identity: [{region: eu-west-1}]\n", "`identity`", "issuers, app clients, claims of tokens"),
        (IDENTITY, "identities: []\n", "`identity`", "issuers, app clients, claims of tokens"),
        ("", "mcp_clients: [{client_id: agent}]\n", "`mcp_clients`", "app clients"),
        ("max_body: 4GiB", "max_body: 4GB", "`defaults`", "room for bodies"),
        ("id: username", "id: 7", "`principal`", "claims of tokens, policies"),
    ],
)  # fmt: skip
def test_what_a_fault_elsewhere_in_the_route_file_leaves_sound_is_looked_at(
    suspended: dict[str, str], good: str, bad: str, name: str, parts: str
) -> None:
    """And nothing is judged by a default that stands in: that it was not looked at is told."""
    text = FULL.replace("resource: contact,", "resource: contact, attributes: {a: '{form.a}'},").replace("GET", "POST")
    whole = text if good in text else text + good
    Path("routes.yaml").write_text(whole)
    least = checking.findings(suspended, {})
    assert (least.problems, least.unsettled) == ([], [])
    Path("routes.yaml").write_text(whole.replace(good, bad) if good else whole + bad)
    found = checking.findings(suspended, {})
    assert len({problem.split(": ")[0] for problem in found.problems}) == 1, found.problems
    assert found.unsettled == ([f"not checked because of errors in {name} of routes.yaml: {parts}"] if name else [])
    skipped = {
        "room for bodies": ("max_body",), "claims of tokens": ("principal.id", "principal.attributes"), "policies": ("policies/",),
    }  # fmt: skip
    unsaid = [text for part, texts in skipped.items() if part in parts for text in texts]
    kept = [line for line in least.warnings if not any(text in line for text in unsaid)]
    assert [re.sub(r":\d+:\d+: ", ": ", line) for line in found.warnings] == [
        re.sub(r":\d+:\d+: ", ": ", line) for line in kept
    ]
    assert run(suspended)[: len(found.problems)] == found.problems


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ROUTES + "cache: 5\n", "; or an `upstream` for each route of routes.yaml: /x has none"),
        (ROUTES + "draft: maybe\n", "; or an `upstream` for each route of routes.yaml"),
        ("version: 1\nroutes: [\n", "; or an `upstream` for each route of routes.yaml"),
        ("", "; or an `upstream` for each route of routes.yaml"),
        (SEVERAL + "cache: 5\n", ""),
        (SEVERAL + "cache: 5\ndefaults: {access: authenticated}\n", ": `defaults.access: authenticated` lets paths"),
    ],
)
def test_that_there_is_no_app_is_told_beside_a_fault_of_the_route_file(
    suspended: dict[str, str], text: str, says: str
) -> None:
    Path("routes.yaml").write_text(text)
    del suspended["SIDECAR_UPSTREAM"]
    told = [problem for problem in run(suspended) if problem.startswith("SIDECAR_UPSTREAM: not set, expected")]
    assert [says in problem for problem in told] == ([True] if says else [])
    found = checking.findings(suspended, {})
    assert found.problems
    assert any(note.startswith("SIDECAR_UPSTREAM: not set, expected it, or --up") for note in found.unsettled) == bool(
        says
    )


def test_of_routes_that_cannot_be_read_it_is_told_that_nothing_was_looked_at(suspended: dict[str, str]) -> None:
    Path("routes.yaml").write_text("version: 1\nroutes: [\n")
    found = checking.findings(suspended, {})
    assert (len(found.problems), found.warnings) == (1, [])
    assert found.unsettled == ["not checked because of errors in routes.yaml: the routes beside settings and policies"]


CODE = """\
version: 1
lookups: {{f: {{function: "{function}", attributes: {{a: a}}}}}}
routes:
  - {{path: /x, resource: contact, id: x, lookup: f, actions: {{GET: read}}}}
"""


@pytest.mark.parametrize("more", ["", "  - {path: /y, resource: contact, actions: 5}\n", "draft: true\n", "cache: 5\n"])
def test_no_code_is_run_of_a_route_file_that_is_not_put_in_force(
    suspended: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    """Neither by `check` nor by `run`; which functions were not looked at is told."""
    monkeypatch.syspath_prepend(tmp_path)
    module = f"code_of_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text("def find(asked):\n    return None\n")
    Path("routes.yaml").write_text(CODE.format(function=f"{module}:find") + more)
    found = checking.findings(suspended, {})
    skipped = [note for note in found.unsettled if note.startswith("functions not imported before routes.yaml can be")]
    assert (module in sys.modules, [note[-3:] for note in skipped]) == (not more, [": f"] if more else [])
    if more:
        assert run(suspended)
        assert module not in sys.modules
        return
    Path("routes.yaml").write_text(CODE.format(function=f"{module}:gone"))
    (problem,) = checking.findings(suspended, {}).problems
    assert problem.startswith("routes.yaml:2:25: lookups.f.function: found no 'gone'")


NARROWED = """\
  - path: /y
    resource: contact
    items: {at: "@", id: id, attributes: {owner: owner}, push: {dialect: json-server}}
    actions: {GET: read}
"""


@pytest.mark.parametrize(
    ("more", "settings"),
    [
        ("  - {path: /y, hosts: other.test, access: public}\n", {"SIDECAR_HOSTS": "here.test"}),
        ("", {"AWS_COGNITO_POOL_ID": ""}),
        ("", {"SIDECAR_UPSTREAM": "", "SIDECAR_UPSTRAEM": "http://app:3000"}),
        (NARROWED, {"SIDECAR_PDP": "authzen+http://127.0.0.1:1"}),
    ],
)
def test_no_code_is_run_of_a_route_file_that_has_a_fault_beside_the_settings(
    suspended: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, settings: dict[str, str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = f"code_beside_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text("def find(asked):\n    return None\n")
    Path("routes.yaml").write_text(CODE.format(function=f"{module}:find") + more)
    environ = suspended | settings
    found = checking.findings(environ, {})
    (told,) = found.problems
    assert "functions not imported before routes.yaml can be put in force: f" in found.unsettled
    assert run(environ) == [told]
    assert module not in sys.modules


def test_without_an_app_check_looks_at_the_functions_and_run_does_not(
    suspended: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the app is does not matter to what `check` looks at."""
    monkeypatch.syspath_prepend(tmp_path)
    module = f"code_without_{tmp_path.name}"
    (tmp_path / f"{module}.py").write_text("def find(asked):\n    return None\n")
    Path("routes.yaml").write_text(CODE.format(function=f"{module}:find"))
    del suspended["SIDECAR_UPSTREAM"]
    (told,) = run(suspended)
    assert told.startswith("SIDECAR_UPSTREAM: not set")
    assert module not in sys.modules
    found = checking.findings(suspended, {})
    assert (found.problems, module in sys.modules) == ([], True)
    assert not any(note.startswith("functions not imported") for note in found.unsettled)


def test_unrelated_faults_and_warnings_are_told_at_once(suspended: dict[str, str], tmp_path: Path) -> None:
    """Neither an unknown setting, nor a region, nor another folder keeps the rest from being looked at."""
    agent = "mcp_clients: [{client_id: agent, redirect_uris: 'https://a/cb'}]\n"
    (tmp_path / "routes.yaml").write_text(ROUTES.replace("GET: read", "GET: read, PUT: chang") + agent)
    more = {"SIDECAR_NONSENSE": "1", "AWS_REGION": "Ireland", "SIDECAR_TEMPLATES": "none"}
    found = checking.findings({**suspended, **more}, {})
    assert {problem.partition(":")[0] for problem in found.problems} == {*more, "routes.yaml"}
    assert [line.rpartition(" ")[2] for line in found.warnings] == [
        "[attribute-unsupplied]", "[deny-for-role]", "[question-unknown]"
    ]  # fmt: skip
    assert all(re.match(r"\S+:\d+:\d+: ", line) for line in found.warnings)
    assert found.warnings[-1].startswith(
        "routes.yaml:2:66: routes[0].actions.PUT: PUT /x asks for 'chang' of 'contact'"
    )
