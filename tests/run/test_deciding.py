"""What decides is made as the settings and the route file say."""

from __future__ import annotations

from pathlib import Path

from sidecar.demo.cognito import LocalCognito
from tests.conftest import Stack, policies
from tests.stack import Web, running_sidecar


def upstream_of(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.upstream.port}"


def test_id_tokens_are_taken_where_they_are_configured(stack: Stack, cognito: LocalCognito, tmp_path: Path) -> None:
    identity = (
        f"identity: [{{region: {cognito.region}, user_pool_id: {cognito.pool_id}, "
        f"client_ids: [{cognito.client_id}], token_use: [id]}}]\n"
    )
    routes = "version: 1\n" + identity + "routes: [{path: /me, access: authenticated}]\n"
    with running_sidecar(tmp_path, routes, policies(), upstream_of(stack), stack.environ, shared=True) as sidecar:
        assert sidecar.get("/me", cognito.token("alice", "id")).status == 200
        assert sidecar.get("/me", stack.tokens["alice"]).code == "token_invalid"
    assert stack.sidecar.get("/me", cognito.token("alice", "id")).code == "token_invalid"


def test_hosts_and_trusted_proxies(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, "SIDECAR_HOSTS": "app.test", "SIDECAR_TRUSTED_PROXIES": "127.0.0.0/8"}
    with running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), environ, shared=True) as sidecar:
        assert sidecar.get("/public", host="evil.test").code == "host_not_allowed"
        assert stack.upstream.received == b""
        told = {"x_forwarded_for": "203.0.113.7", "x_forwarded_proto": "https", "x_request_id": "abc-1"}
        assert sidecar.get("/public", host="APP.test:8080", **told).header("x-request-id") is None
        (seen,) = stack.upstream.seen
        assert seen.values("x-forwarded-for") == ["203.0.113.7, 127.0.0.1"]
        assert seen.values("x-forwarded-proto") == ["https"]
        assert seen.values("x-request-id") == ["abc-1"]


def test_a_load_balancers_headers_are_read_where_its_arn_is_listed(stack: Stack, tmp_path: Path) -> None:
    """Refused as far as no key is needed: those are AWS's alone (tests/trust/test_alb.py has the rest)."""
    arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188"
    said = {"x_amzn_oidc_accesstoken": stack.tokens["alice"], "x_amzn_oidc_data": "e30.e30.AAAA"}
    assert stack.sidecar.get("/me", **said).code == "token_missing"
    with running_sidecar(
        tmp_path,
        stack.routes,
        policies(),
        upstream_of(stack),
        {**stack.environ, "SIDECAR_ALB_SIGNER": arn},
        shared=True,
    ) as sidecar:
        assert sidecar.get("/me").code == "token_missing"
        assert sidecar.get("/me", **said).code == "token_invalid"
        assert sidecar.get("/me", x_amzn_oidc_data="e30.e30.AAAA").code == "token_invalid"
        assert sidecar.request("POST", "/upload", None, None, **said).code == "origin_refused"
        assert stack.upstream.received == b""
        assert sidecar.get("/me", stack.tokens["alice"], **said, x_amzn_oidc_identity="root").status == 200
        (seen,) = stack.upstream.seen
        assert [name for name, _ in seen.headers if "oidc" in name.lower()] == []
        assert seen.values("x-auth-subject") == ["alice"]


def test_a_hook_is_cached_for_as_long_as_its_lookup_says(stack: Stack, tmp_path: Path) -> None:
    hook = Web()
    hook.json("/c/1", {"owner_id": "alice"})
    routes = (
        "version: 1\nprincipal: {id: username}\n"
        f"lookups: {{c: {{url: 'http://127.0.0.1:{hook.port}/c/{{id}}', attributes: {{owner: owner_id}}, cache: 1h}}}}\n"
        "routes: [{path: '/contacts/{id}', resource: contact, id: '{path.id}', lookup: c, actions: {GET: read}}]\n"
    )
    with running_sidecar(tmp_path, routes, policies(), upstream_of(stack), stack.environ, shared=True) as sidecar:
        for _ in range(5):
            assert sidecar.get("/contacts/1", stack.tokens["alice"]).status == 200
    hook.close()
    assert len(hook.asked) == 1
