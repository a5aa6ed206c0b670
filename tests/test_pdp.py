"""The whole stack with SIDECAR_PDP: the real Cerbos, asked by AuthZEN over TLS, beside the sidecar that asks it by gRPC."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import guide_commands
from tests.certificates import certificates
from tests.conftest import Stack, policies
from tests.policy_table import RealCerbos, real_cerbos
from tests.stack import Got, Sidecar, running_sidecar, wait_for

PATHS = (
    "/contacts", "/contacts?owner=alice", "/contacts/1", "/contacts/2", "/contacts/3", "/hidden/1", "/strangers/1",
    "/new", "/me", "/nowhere",
)  # fmt: skip
METHODS = ("GET", "PUT", "PATCH", "DELETE", "POST")


@dataclass
class Both:
    """The session's stack, and beside it the same sidecar with another PDP."""

    stack: Stack
    sidecar: Sidecar
    cerbos: RealCerbos


@pytest.fixture(scope="module")
def running(session_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sidecar, RealCerbos]]:
    folder = tmp_path_factory.mktemp("pdp")
    files = certificates(folder)
    tls = {"cert": str(files.certificate), "key": str(files.key)}
    with real_cerbos(folder, policies(), tls=tls) as cerbos:
        own = {
            "SIDECAR_PDP": f"authzen+https://127.0.0.1:{cerbos.port}",
            "SIDECAR_PDP_CA": str(files.ca),
            "SIDECAR_PDP_TOKEN": "opaque-to-cerbos",
            "SIDECAR_UPSTREAM_HEAD_TIMEOUT": "1s",
        }
        upstream = f"http://127.0.0.1:{session_stack.upstream.port}"
        # no policies of its own: nothing but the PDP decides
        with running_sidecar(
            folder / "sidecar", session_stack.routes, folder / "none", upstream, {**session_stack.environ, **own}
        ) as sidecar:
            yield sidecar, cerbos


@pytest.fixture
def both(stack: Stack, running: tuple[Sidecar, RealCerbos]) -> Both:
    return Both(stack, *running)


def outcome(got: Got) -> tuple[int, str]:
    return got.status, got.code if got.status >= 400 else ""


@pytest.mark.parametrize("user", ["alice", "bob", "admin"])
def test_every_request_ends_as_with_cerbos_by_grpc(both: Both, user: str) -> None:
    token = both.stack.tokens[user]
    body, kind = b'{"owner": "alice"}', "application/json"
    for path in PATHS:
        for method in METHODS:
            sent = body if method != "GET" else None
            by_grpc = both.stack.sidecar.request(method, path, token, sent, content_type=kind)
            by_authzen = both.sidecar.request(method, path, token, sent, content_type=kind)
            assert outcome(by_authzen) == outcome(by_grpc), (method, path)
    line, of_grpc = both.sidecar.decisions()[-20], both.stack.sidecar.decisions()[-20]
    assert {name: line[name] for name in ("route", "action", "code", "policy") if name in line} == {
        name: of_grpc[name] for name in ("route", "action", "code", "policy") if name in of_grpc
    }


def test_the_permissions_api_says_the_same(both: Both) -> None:
    entries = json.dumps([{"method": m, "path": p} for p in PATHS for m in METHODS]).encode()
    answers = [
        sidecar.request(
            "POST", "/_sidecar/permissions", both.stack.tokens["alice"], entries, content_type="application/json"
        )
        for sidecar in (both.sidecar, both.stack.sidecar)
    ]
    assert answers[0].status == 200
    assert json.loads(answers[0].body) == json.loads(answers[1].body)


def test_config_names_the_pdp_and_not_its_token(both: Both) -> None:
    shown = json.loads(both.sidecar.admin("/config").body)["settings"]
    assert shown["SIDECAR_PDP"] == f"authzen+https://127.0.0.1:{both.cerbos.port}"
    assert shown["SIDECAR_PDP_TOKEN"] == "(set)"
    assert json.loads(both.sidecar.admin("/readyz").body) == {
        "ready": True, "pdp": True, "keys": True, "routes": True, "log": True, "serving": True, "mode": "enforce",
        "reload": "ok",
    }  # fmt: skip
    assert "opaque-to-cerbos" not in both.sidecar.log()


def test_a_pdp_with_a_certificate_of_another_ca_is_never_asked(both: Both, tmp_path: Path) -> None:
    environ = {**both.stack.environ, "SIDECAR_PDP": f"authzen+https://127.0.0.1:{both.cerbos.port}"}
    upstream = f"http://127.0.0.1:{both.stack.upstream.port}"
    both.stack.upstream.reset()
    with running_sidecar(tmp_path, both.stack.routes, policies(), upstream, environ, ready=False) as sidecar:
        wait_for(lambda: b'"keys":true' in sidecar.admin("/readyz").body)
        got = sidecar.get("/contacts?owner=alice", both.stack.tokens["admin"])
        assert (got.status, got.code) == (503, "pdp_unavailable")
        assert sidecar.admin("/readyz").status == 503
    assert both.stack.upstream.received == b""


def test_explain_and_check_ask_and_name_it(both: Both) -> None:
    environ = {
        "PATH": "/usr/bin", **both.stack.environ, "SIDECAR_PDP": f"authzen+https://127.0.0.1:{both.cerbos.port}",
        "SIDECAR_PDP_CA": str(both.sidecar.folder.parent / "ca.pem"),
        "SIDECAR_ROUTES": str(both.sidecar.folder / "routes.yaml"),
    }  # fmt: skip

    def sidecar(*arguments: str) -> subprocess.CompletedProcess[str]:
        return guide_commands.sidecar(both.sidecar.folder, *arguments, environ=environ)

    done = sidecar("explain", "DELETE", "/contacts/2", "--claims", '{"username": "alice", "cognito:groups": ["user"]}')
    assert done.returncode == 1, done.stderr
    assert "delete: EFFECT_DENY; policy resource.contact.vdefault" in done.stdout
    # what it warns of is no matter of the PDP
    assert sidecar("check").stdout.splitlines()[-1].startswith(f"{environ['SIDECAR_ROUTES']}: nothing wrong")
