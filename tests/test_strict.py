"""A DENY that cannot be evaluated: refused under strict evaluation, skipped without it; the real sidecar, both Cerbos."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Stack
from tests.stack import binary, older_binary, running_sidecar

ROUTES = """\
version: 1
principal: {id: username, roles: "cognito:groups"}
routes: [{path: /doc, resource: doc, actions: {GET: read}}]
"""
POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: doc
  version: default
  rules:
    - {actions: [read], effect: EFFECT_ALLOW, roles: [user]}
    - actions: [read]
      effect: EFFECT_DENY
      roles: ["*"]
      condition: {match: {expr: CONDITION}}
"""
UNGUARDED = "request.resource.attr.level > 3"
GUARDED = f"has(request.resource.attr.level) && {UNGUARDED}"
LAX = "cannot evaluate strictly"


def answer(stack: Stack, folder: Path, condition: str, program: Path, **environ: str) -> tuple[int, str]:
    policies = folder / "policies"
    policies.mkdir()
    (policies / "doc.yaml").write_text(POLICY.replace("CONDITION", condition))
    settings = {**stack.environ, "SIDECAR_CERBOS_BINARY": str(program), **environ}
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(folder, ROUTES, policies, upstream, settings) as sidecar:
        got = sidecar.get("/doc", stack.tokens["alice"])
        return got.status, sidecar.log()


def test_a_deny_in_error_denies(stack: Stack, tmp_path: Path) -> None:
    status, log = answer(stack, tmp_path, UNGUARDED, binary())
    assert status == 403
    assert LAX not in log


def test_with_several_workers_too(stack: Stack, tmp_path: Path) -> None:
    status, _ = answer(stack, tmp_path, UNGUARDED, binary(), SIDECAR_WORKERS="2")
    assert status == 403


def test_a_guarded_one_is_evaluated(stack: Stack, tmp_path: Path) -> None:
    status, _ = answer(stack, tmp_path, GUARDED, binary())
    assert status == 200


def test_it_is_skipped_where_the_settings_ask_for_that(stack: Stack, tmp_path: Path) -> None:
    status, log = answer(stack, tmp_path, UNGUARDED, binary(), SIDECAR_CERBOS_STRICT="off")
    assert status == 200
    assert LAX not in log
    assert "sidecar.cerbos" not in log, "Cerbos' own warnings of expressions hold values of attributes"


@pytest.mark.parametrize("strict", ["on", "off"])
def test_an_older_cerbos_runs_without_and_says_so_once(stack: Stack, tmp_path: Path, strict: str) -> None:
    status, log = answer(stack, tmp_path, UNGUARDED, older_binary(), SIDECAR_CERBOS_STRICT=strict)
    assert status == 200
    assert log.count(LAX) == (strict == "on")
