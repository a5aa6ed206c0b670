"""The commands as their users type them: run, check, explain, schema."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from sidecar.cli import parser
from tests import guide_commands
from tests.conftest import Stack, policies
from tests.forked import Forked
from tests.stack import ROOT, binary, free_port

LEAST = "version: 1\nroutes: [{path: /x, resource: contact, actions: {GET: list}}]\n"
POOL = {"AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_AbC", "AWS_COGNITO_CLIENT_ID": "web"}


def sidecar(folder: Path, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """What ends by itself runs in this process, and `run` in one that forks."""
    own = {"SIDECAR_POLICIES": str(policies()), **(environ or {})}
    return (forked if arguments[:1] == ("run",) else guide_commands.sidecar)(folder, *arguments, environ=own)


def forked(folder: Path, *arguments: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The command, which is to print nothing but errors."""
    command = [sys.executable, "-m", "sidecar.cli", *arguments]
    with Forked("sidecar", command, folder, environ_of(environ)) as process:
        status = process._child.wait(30)
    return subprocess.CompletedProcess(command, status, "", (folder / "sidecar.log").read_text())


def environ_of(given: dict[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SIDECAR_", "AWS_"))}
    return {**inherited, "SIDECAR_CERBOS_BINARY": str(binary()), **given}


def typed(folder: Path, *arguments: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The command as its users type it, in a process of its own."""
    command = [sys.executable, "-m", "sidecar.cli", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=30, check=False, env=environ_of(environ)
    )


def test_a_process_of_its_own_answers_as_this_one(stack: Stack, tmp_path: Path) -> None:
    """Every command and each way to end: by its exit code, by what it prints, and by what it complains of."""
    (tmp_path / "routes.yaml").write_text(stack.routes)
    environ = {**stack.environ, "SIDECAR_POLICIES": str(policies())}
    claims = ["--claims", '{"sub": "a-1", "username": "alice", "cognito:groups": ["user"]}']
    for arguments in (["check"], ["explain", "PUT", "/contacts/2", *claims], ["schema"], ["fly"]):
        here, there = (way(tmp_path, *arguments, environ=environ) for way in (guide_commands.sidecar, typed))
        said = [re.sub(r"pdp        call \w+", "pdp        call", done.stdout) for done in (here, there)]
        assert (there.returncode, said[1], there.stderr) == (here.returncode, said[0], here.stderr)


def test_check_finds_nothing_wrong_with_what_is_right(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(LEAST)
    done = sidecar(tmp_path, "check", environ=POOL)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing wrong" in done.stdout


def test_check_tells_all_that_is_wrong_with_all_three_at_once(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("version: 1\nroutes:\n  - {path: x, access: public}\n")
    broken = tmp_path / "policies"
    broken.mkdir()
    (broken / "contact.yaml").write_text(
        "apiVersion: api.cerbos.dev/v1\nresourcePolicy:\n  resource: contact\n  version: default\n"
        "  importDerivedRoles: [nobody]\n  rules:\n    - {actions: [read], effect: EFFECT_ALLOW, derivedRoles: [owner]}\n"
    )
    environ = {**POOL, "SIDECAR_POLICIES": str(broken), "SIDECAR_WORKERS": "many"}
    done = sidecar(tmp_path, "check", "--policies", str(broken), environ=environ)
    assert done.returncode == 1
    assert "SIDECAR_WORKERS: found 'many'" in done.stderr
    assert "routes.yaml:3:12: routes[0].path: found 'x'" in done.stderr
    assert "contact.yaml:" in done.stderr


def test_check_asks_for_an_issuer_where_a_route_needs_one(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(LEAST)
    done = sidecar(tmp_path, "check")
    assert done.returncode == 1
    assert "no issuer of tokens" in done.stderr


@pytest.mark.parametrize("missing", ["routes", "policies"])
def test_check_names_what_is_not_there(tmp_path: Path, missing: str) -> None:
    if missing != "routes":
        (tmp_path / "routes.yaml").write_text(LEAST)
    environ = {**POOL, **({"SIDECAR_POLICIES": str(tmp_path / "none")} if missing == "policies" else {})}
    done = sidecar(tmp_path, "check", environ=environ)
    assert done.returncode == 1
    assert f"SIDECAR_{missing.upper()}: " in done.stderr


def test_run_does_not_start_with_wrong_settings(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(LEAST)
    done = sidecar(tmp_path, "run", "--mode", "open")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "SIDECAR_MODE: found 'open', expected enforce or shadow-policy or shadow",
        "SIDECAR_UPSTREAM: not set, expected the protected app: `http(s)://host:port`, or `unix:/path`; or an `upstream` "
        "for each route of routes.yaml: /x has none",
        "routes.yaml:2:17: routes[0].path: /x needs to know who asks, and there is no issuer of tokens: set AWS_REGION, "
        "AWS_COGNITO_POOL_ID and AWS_COGNITO_CLIENT_ID, or give `identity`",
    ]


@pytest.mark.parametrize(
    ("flag", "variable"), [("--listen", "SIDECAR_LISTEN"), ("--admin-listen", "SIDECAR_ADMIN_LISTEN")]
)
def test_a_port_in_use_is_named(tmp_path: Path, flag: str, variable: str) -> None:
    (tmp_path / "routes.yaml").write_text(LEAST)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        other = ["--admin-listen", "127.0.0.1:0"] if flag == "--listen" else ["--listen", "127.0.0.1:0"]
        arguments = ["run", "--upstream", "http://127.0.0.1:1", flag, address, *other]
        done = sidecar(tmp_path, *arguments, environ=POOL)
    assert done.returncode == 1
    assert done.stderr.strip() == f"{variable}: cannot listen on {address}: Address already in use"


def test_run_tells_what_cerbos_does_not_like(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(LEAST)
    broken = tmp_path / "policies"
    broken.mkdir()
    (broken / "contact.yaml").write_text("nonsense: true\n")
    ports = ["--listen", f"127.0.0.1:{free_port()}", "--admin-listen", f"127.0.0.1:{free_port()}"]
    environ = {**POOL, "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": "http://127.0.0.1:1"}
    done = sidecar(
        tmp_path, "run", "--upstream", "http://127.0.0.1:1", *ports, "--policies", str(broken), environ=environ
    )
    assert done.returncode == 1
    assert "SIDECAR_CERBOS: Cerbos ended with 1" in done.stderr
    assert 'contact.yaml:1:1: unknown field "nonsense"' in done.stderr


def test_schema_prints_the_schema() -> None:
    done = sidecar(ROOT, "schema")
    assert json.loads(done.stdout) == json.loads((ROOT / "docs/reference/routes.schema.json").read_text())


def test_schema_prints_that_of_the_decision_log() -> None:
    done = sidecar(ROOT, "schema", "--log")
    assert json.loads(done.stdout) == json.loads((ROOT / "docs/reference/decision-log.schema.json").read_text())


def test_the_version_is_that_of_the_package(tmp_path: Path) -> None:
    written = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    done = typed(tmp_path, "--version", environ={})
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sidecar {written}\n", "")


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["explain", "GET"], ["explain", "GET", "/", "--token", "a", "--claims", "{}"]]
)
def test_wrong_usage_is_2(tmp_path: Path, arguments: list[str]) -> None:
    done = sidecar(tmp_path, *arguments)
    assert done.returncode == 2
    assert "usage: sidecar" in done.stderr


def explained(stack: Stack, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "routes.yaml").write_text(stack.routes)
    return sidecar(folder, "explain", *arguments, environ=stack.environ)


def test_explain_shows_the_whole_way_of_an_allow(stack: Stack, tmp_path: Path) -> None:
    done = explained(stack, tmp_path, "PUT", "/contacts/1", "--token", stack.tokens["alice"])
    assert done.returncode == 0, done.stderr
    lines = {line[:10].strip(): line[10:].strip() for line in done.stdout.splitlines()}
    assert lines["request"] == "PUT /contacts/1"
    assert lines["route"] == "/contacts/{id}, action update"
    assert "principal  alice\n" in done.stdout
    assert lines["resource"] == "contact 1"
    assert lines["roles"] == "user"
    assert '{"owner": "alice"}' in done.stdout
    assert "update: EFFECT_ALLOW; policy resource.contact.vdefault" in done.stdout
    assert "derived roles owner" in done.stdout
    assert lines["verdict"] == "FORWARD allowed"
    assert stack.upstream.received == b""


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        (["PUT", "/contacts/2"], "REFUSE denied_by_policy"),
        (["PUT", "/contacts/9"], "REFUSE resource_missing (lookups.contact: no such thing)"),
        (["GET", "/nowhere"], "REFUSE route_unmapped"),
        (["GET", "/a/../b"], "REFUSE target_ambiguous (a dot segment)"),
        (["POST", "/new", "--body", '{"owner": 1}'], "REFUSE body_invalid (body.owner: found int, expected string)"),
    ],
)
def test_explain_says_why_not(stack: Stack, tmp_path: Path, arguments: list[str], verdict: str) -> None:
    claims = '{"sub": "a-1", "username": "alice", "cognito:groups": ["user"]}'
    done = explained(stack, tmp_path, *arguments, "--claims", claims)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == f"verdict    {verdict}"


def test_explain_reads_headers_and_bodies(stack: Stack, tmp_path: Path) -> None:
    claims = '{"username": "alice", "cognito:groups": ["user"]}'
    done = explained(stack, tmp_path, "POST", "/new", "--body", '{"owner": "x"}', "--claims", claims)
    assert done.returncode == 0
    done = explained(stack, tmp_path, "GET", "/cors", "--header", "Origin: https://front.example", "--claims", claims)
    assert done.returncode == 0
    preflight = ["--header", "Access-Control-Request-Method: GET"]
    done = explained(stack, tmp_path, "OPTIONS", "/cors", "--header", "Origin: https://front.example", *preflight)
    assert "PREFLIGHT" in done.stdout


def test_explain_takes_ws_for_a_handshake(stack: Stack, tmp_path: Path) -> None:
    done = explained(stack, tmp_path, "WS", "/contacts/1", "--token", stack.tokens["alice"])
    assert done.returncode == 0, done.stderr
    assert "request    GET /contacts/1\nroute      /contacts/{id}, action read\n" in done.stdout


@pytest.mark.parametrize("wrong", [["--header", "no colon"], ["--claims", "{"], ["--claims", "[]"]])
def test_explain_names_what_it_cannot_read(stack: Stack, tmp_path: Path, wrong: list[str]) -> None:
    done = explained(stack, tmp_path, "GET", "/me", *wrong)
    assert done.returncode == 1
    assert "--claims, --form or --header" in done.stderr
    assert "Traceback" not in done.stderr


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded after this code, in a process of its own."""
    told = f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stderr.split())


def test_a_reader_that_leaves_early_is_no_fault_to_tell_of(tmp_path: Path) -> None:
    """The schema is longer than a pipe holds."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sidecar.cli", "schema"]
    done = subprocess.run(
        command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, text=True, timeout=30, check=False, env=environ_of({})
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_what_only_some_need_is_not_loaded_by_all() -> None:
    """The start is half a second at most: a library behind a setting is loaded where that is set."""
    loaded = loaded_by("import sidecar.run.workers")
    assert not {"redis", "opentelemetry", "grpc", "envoy", "pycognito", "boto3", "moto", "jinja2"} & loaded
    # what comes with the first scrape, the first WebSocket, a console, another PDP than Cerbos
    assert not {"prometheus_client", "websockets", "markupsafe", "sidecar.pdp.authzen"} & loaded
    # what the console asks for several people at once is a part of serving
    assert {name for name in loaded if name.startswith("sidecar.study.")} == {"sidecar.study.batch"}
    assert not {name for name in loaded if name.startswith(("sidecar.inject", "sidecar.demo", "sidecar.sign_in"))}


@pytest.mark.parametrize("command", ["run", "check", "explain", "inject"])
def test_help_waits_for_no_part_of_the_sidecar(command: str) -> None:
    told = f"import sidecar.cli\ntry: sidecar.cli.main([{command!r}, '--help'])\nexcept SystemExit: pass"
    loaded = loaded_by(told)
    assert not {"asyncio", "logging", "uvicorn", "httpx", "jwt", "yaml", "cerbos"} & loaded
    assert {name for name in loaded if name.startswith("sidecar.run.")} == {"sidecar.run.errors"}


def test_flags_are_made_for_the_command_that_is_meant_alone() -> None:
    for named in ("run", "check", "explain", "inject"):
        assert parser(named).parse_args(USES[named]) == parser().parse_args(USES[named])
        for other in USES.keys() - {named}:
            with pytest.raises(SystemExit):
                parser(other).parse_args(USES[named])


USES = {
    "run": ["run", "--listen", "127.0.0.1:1"],
    "check": ["check", "--mode", "shadow"],
    "explain": ["explain", "GET", "/", "--mode", "shadow"],
    "inject": ["inject", "--listen", "127.0.0.1:1"],
}
