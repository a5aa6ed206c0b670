"""What a process tells of itself: readiness, metrics, and the configuration without secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.setting_table import SETTINGS
from sidecar.config.settings import SettingsError, read_settings, understand
from sidecar.record.exposition import exposition
from sidecar.run.parts import prepare
from sidecar.run.serving import Sidecar
from tests.conftest import Stack, policies
from tests.stack import free_port, running_sidecar, wait_for
from tests.tokens import SESSION_SECRET


def upstream_of(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.upstream.port}"


def test_health_is_on_the_admin_port_alone(stack: Stack) -> None:
    assert stack.sidecar.admin("/livez").status == 200
    assert b'"ready":true' in stack.sidecar.admin("/readyz").body
    assert stack.sidecar.get("/livez").code == "route_unmapped"
    assert stack.sidecar.get("/metrics").code == "route_unmapped"
    assert stack.sidecar.admin("/contacts/1").status == 404


def test_what_is_remembered_and_who_waits_is_in_the_metrics(stack: Stack) -> None:
    stack.sidecar.get("/contacts/1", stack.tokens["alice"])
    shown = stack.sidecar.admin("/metrics").body.decode()
    assert stack.sidecar.metric("sidecar_remembered_bytes", cache="token") > 1000
    assert 'sidecar_remembered_bytes{cache="lookup"}' in shown
    for place, most in (("memory", 128 * 1024**2), ("disk", 2 * 1024**3)):
        assert stack.sidecar.metric("sidecar_held_bytes", place=place) == 0
        assert stack.sidecar.metric("sidecar_held_limit_bytes", place=place) == most
    for state in ("under_way", "waiting"):
        assert f'sidecar_questions{{dep="pdp",name="",state="{state}"}} 0.0' in shown
    asked = stack.sidecar.metric("sidecar_pdp_questions_total")
    assert asked >= stack.sidecar.metric("sidecar_pdp_calls_total") >= 1
    stack.sidecar.get("/contacts/1", stack.tokens["alice"])
    assert stack.sidecar.metric("sidecar_pdp_questions_total") == asked + 1


async def test_no_secret_of_any_setting_is_shown(tmp_path: Path) -> None:
    """Each secret setting, a password in a URL and a hook's token: what is shown and what is logged has none of them."""
    (tmp_path / "routes.yaml").write_text(
        "version: 1\nlookups: {c: {url: 'http://127.0.0.1:1/{id}', bearer_env: HOOK_TOKEN, attributes: {a: b}}}\n"
        "routes: [{path: '/c/{id}', resource: c, id: '{path.id}', lookup: c, actions: {GET: read}}]\n"
    )
    canaries = {
        setting.variable: f"CANARY-{number}-{SESSION_SECRET}" for number, setting in enumerate(SETTINGS) if setting.secret
    } | {
        "SIDECAR_REDIS_URL": "rediss://user:CANARY-redis@redis.internal:6379/0", "SIDECAR_CERBOS_ADMIN": "user:CANARY-admin",
        "HTTPS_PROXY": "http://user:CANARY-proxy@proxy.internal:3128",
    }  # fmt: skip
    assert set(canaries) == {
        "AWS_COGNITO_CLIENT_SECRET", "SIDECAR_SESSION_SECRET", "SIDECAR_REDIS_URL", "SIDECAR_PDP_TOKEN",
        "SIDECAR_CERBOS_ADMIN", "HTTPS_PROXY",
    }  # fmt: skip
    environ = {
        **canaries, "HOOK_TOKEN": "CANARY-hook", "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_PDP": "authzen+http://127.0.0.1:1",
        "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_A", "AWS_COGNITO_CLIENT_ID": "web",
        "AWS_COGNITO_DOMAIN": "shop", "SIDECAR_HOSTS": "shop.example",
    }  # fmt: skip
    sidecar = Sidecar(prepare(understand(environ, {}), environ), None)
    shown = (
        repr(sidecar.status.config()) + exposition(sidecar.metrics.of_all()).decode() + repr(sidecar.status.readiness())
    )
    await sidecar.aclose()
    assert "CANARY" not in shown
    for variable in canaries:
        assert f"'{variable}': '(set)'" in shown
    for variable in canaries:
        # too short, no URL, not alone: what is wrong is told without what it is
        with pytest.raises(SettingsError) as caught:
            read_settings({**environ, variable: "CANARY", "SIDECAR_WORKERS": "0"}, {})
        assert "CANARY" not in str(caught.value)


def test_the_configuration_is_shown_without_secrets(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, "AWS_COGNITO_CLIENT_SECRET": "S3CRET", "SIDECAR_HOSTS": "a.example"}
    with running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), environ, shared=True) as sidecar:
        view = sidecar.admin("/config").body.decode()
    assert "S3CRET" not in view + sidecar.log()
    assert '"AWS_COGNITO_CLIENT_SECRET":"(set)"' in view
    assert "/contacts/{id}" in view
    assert "a.example" in view


def test_a_key_server_that_is_down_from_the_start_is_503_and_not_ready(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, "SIDECAR_JWKS_URL": f"http://127.0.0.1:{free_port()}/jwks"}
    with running_sidecar(
        tmp_path, stack.routes, policies(), upstream_of(stack), environ, ready=False, shared=True
    ) as sidecar:
        wait_for(lambda: b'"cerbos":true' in sidecar.admin("/readyz").body)
        got = sidecar.admin("/readyz")
        assert (got.status, b'"keys":false' in got.body) == (503, True)
        assert sidecar.get("/me", stack.tokens["alice"]).code == "keys_unavailable"
        assert sidecar.metric("sidecar_dep_errors_total", dep="jwks", fault="unavailable") >= 1
    assert stack.upstream.received == b""
