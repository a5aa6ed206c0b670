"""What decides is made as the settings and the route file say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.config.settings import read_settings
from sidecar.demo.cognito import LocalCognito
from sidecar.run.deciding import load_routes, load_trust, require_callback
from sidecar.run.errors import StartError
from tests.conftest import Stack, policies
from tests.stack import Web, running_sidecar
from tests.tokens import SESSION_SECRET


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


MCP = "routes: [{path: /mcp, access: authenticated, mcp: {resource: 'https://a.example/mcp'"
POOL = {
    "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_A",
    "AWS_COGNITO_CLIENT_ID": "c1,c2", "SIDECAR_LOGIN": "off",
}  # fmt: skip


@pytest.mark.parametrize(
    ("routes", "environ", "says"),
    [
        (f"{MCP}}}}}]", {"AWS_COGNITO_DOMAIN": "prefix"}, ""),
        (f"{MCP}}}}}]", {"AWS_COGNITO_DOMAIN": "https://login.example"}, ""),
        (f"{MCP}, metadata: off}}}}]", {"SIDECAR_HOSTS": "b.example"}, ""),
        (f"{MCP}}}}}]", {"AWS_COGNITO_DOMAIN": "prefix", "SIDECAR_HOSTS": "b.example,*.example"}, ""),
        (
            f"{MCP}}}}}]",
            {"AWS_COGNITO_DOMAIN": "prefix", "SIDECAR_HOSTS": "b.example"},
            "mcp.resource: found 'a.example', expected one of SIDECAR_HOSTS (b.example)",
        ),
        (f"{MCP}, authorization_server: 'https://idp.example'}}}}]", {}, ""),
        (f"{MCP}}}}}]", {}, "found the resource https://a.example/mcp and no AWS_COGNITO_DOMAIN"),
    ],
)
def test_clients_are_told_only_of_what_is_known(
    tmp_path: Path, routes: str, environ: dict[str, str], says: str
) -> None:
    (tmp_path / "routes.yaml").write_text(f"version: 1\n{routes}\n")
    settings = read_settings({**POOL, **environ, "SIDECAR_ROUTES": str(tmp_path / "routes.yaml")}, {})
    if says:
        with pytest.raises(StartError, match=re.escape(says)):
            load_trust(settings, load_routes(settings, {}))
        return
    trust = load_trust(settings, load_routes(settings, {}))
    assert {issuer.resources for issuer in trust.issuers.values()} == {frozenset(["https://a.example/mcp"])}


APPS = "version: 1\nupstreams: {crm: 'http://crm'}\nroutes:\n  - {path: /a, access: public, upstream: crm%s}\n"
NO_UPSTREAM = "SIDECAR_UPSTREAM: not set, expected the protected app: `http(s)://host:port`, or `unix:/path`"


@pytest.mark.parametrize(
    ("more", "environ", "problem"),
    [
        ("", {}, ""),
        ("}\n  - {path: /b, access: public", {"SIDECAR_UPSTREAM": "http://127.0.0.1:1"}, ""),
        ("}\n  - {path: /b, access: public", {}, f"{NO_UPSTREAM}; or an `upstream` for each route of FILE: /b has none"),
        ("}\ndefaults: {access: authenticated", {}, f"{NO_UPSTREAM}: `defaults.access: authenticated` lets paths through"),
        ("", {"SIDECAR_MODE": "shadow"}, f"{NO_UPSTREAM}: the mode `shadow` forwards what no route names, too"),
        (", hosts: a.test", {"SIDECAR_HOSTS": "a.test,b.test"}, ""),
        (
            ", hosts: [a.test, wiki.test]", {"SIDECAR_HOSTS": "a.test,wikis.test"},
            "FILE:4:54: routes[0].hosts: found 'wiki.test', expected one of SIDECAR_HOSTS (a.test, wikis.test): requests "
            "for others are refused, did you mean 'wikis.test'?",
        ),
    ],
)  # fmt: skip
def test_an_app_is_known_for_each_request_that_may_pass(
    tmp_path: Path, more: str, environ: dict[str, str], problem: str
) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(APPS % more)
    settings = read_settings({"SIDECAR_ROUTES": str(file), **environ}, {})
    if not problem:
        load_routes(settings, {})
        return
    with pytest.raises(StartError) as caught:
        load_routes(settings, {})
    assert str(caught.value).startswith(problem.replace("FILE", str(file)))


@pytest.mark.parametrize(
    ("hosts", "environ", "told"),
    [
        ("", {"SIDECAR_HOSTS": "a.test,b.test"}, True),
        ("", {"SIDECAR_HOSTS": "*.test"}, True),
        ("", {"SIDECAR_HOSTS": "a.test"}, False),
        (", hosts: a.test", {}, False),
        ("", {"AWS_COGNITO_HOSTED_UI_CALLBACK_URL": "https://a.test/_sidecar/callback"}, False),
    ],
)
def test_the_hosted_ui_is_told_where_to_send_a_browser_back(
    tmp_path: Path, hosts: str, environ: dict[str, str], told: bool
) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(APPS % hosts)
    environ = {"SIDECAR_ROUTES": str(file), "AWS_COGNITO_DOMAIN": "https://login.example", **POOL, **environ}
    settings = read_settings({**environ, "SIDECAR_LOGIN": "hosted", "SIDECAR_SESSION_SECRET": SESSION_SECRET}, {})
    routes = load_routes(settings, {})
    if not told:
        require_callback(settings, routes)
        return
    with pytest.raises(StartError, match="AWS_COGNITO_HOSTED_UI_CALLBACK_URL: not set, expected the callback URL"):
        require_callback(settings, routes)


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
