"""The route file: read once, with all that is wrong with it by itself and beside the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.config.settings import read_settings, understand
from sidecar.run.deciding import deciding
from sidecar.run.errors import StartError
from sidecar.run.route_file import load_routes, load_trust, read_route_file, require_callback
from tests.tokens import SESSION_SECRET

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
        (f"{MCP}}}}}]", {}, "routes[0].mcp: found the resource https://a.example/mcp and no AWS_COGNITO_DOMAIN"),
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


SEVERAL = """\
version: 1
routes:
  - {path: /a, hosts: [a.test, b.test, c.test], access: public}
  - {path: /docs, resource: doc, actions: {GET: list}, items: {at: "@", id: id, attributes: {owner: owner_id}, push: {dialect: json-server}}}
  - {path: /more, resource: doc, actions: {GET: {action: list, items: {at: "@", id: id, attributes: {owner: owner_id}, push: {dialect: json-server}}}}}
  - {path: /m, access: authenticated, mcp: {resource: "https://d.test/m"}}
  - {path: /n, access: authenticated, mcp: {resource: "https://b.test/n"}}
"""
PDP = {"SIDECAR_UPSTREAM": "http://app", "SIDECAR_PDP": "authzen+https://pdp.test", "SIDECAR_HOSTS": "b.test"}


def places(problems: tuple[str, ...] | list[str]) -> list[str]:
    """File, line, column and path of each."""
    return [":".join(problem.split(":")[:4]).removeprefix(" ") for problem in problems]


def test_all_that_a_file_says_beside_the_settings_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(SEVERAL)
    settings = read_settings({**PDP, "SIDECAR_ROUTES": str(path)}, {})
    file = read_route_file(settings, {})
    assert file.whole
    assert places(file.problems) == [
        f"{path}:3:23: routes[0].hosts", f"{path}:3:23: routes[0].hosts", f"{path}:6:55: routes[3].mcp.resource",
        f"{path}:4:63: routes[1].items", f"{path}:5:71: routes[2].actions.GET.items",
    ]  # fmt: skip
    with pytest.raises(StartError) as caught:
        load_routes(settings, {})
    assert caught.value.problems == file.problems
    assert file.routes is not None
    with pytest.raises(StartError) as caught:
        load_trust(settings, file.routes)
    assert places(caught.value.problems) == [
        f"{path}:6:44: routes[3].mcp", f"{path}:7:44: routes[4].mcp", f"{path}:4:12: routes[1].path",
    ]  # fmt: skip
    assert "/docs needs to know who asks, and there is no issuer of tokens" in caught.value.problems[-1]


def test_what_is_wrong_beside_the_settings_is_told_with_the_faults_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(SEVERAL + "  - {path: /z, resource: z, actions: {GET: read}, id: '{path.id}'}\n")
    environ = {**PDP, "SIDECAR_ROUTES": str(path), "SIDECAR_MODE": "open"}
    with pytest.raises(StartError) as caught:
        deciding(understand(environ, {}), environ)
    told = caught.value.problems
    assert told[0].startswith("SIDECAR_MODE: ")
    assert places(told[1:2]) == [f"{path}:8:55: routes[5].id"]
    assert len(told[2:]) == 8, told
    assert all(place.startswith(f"{path}:") and "routes[5]" not in place for place in places(told[2:]))
    file = read_route_file(understand(environ, {}).settings, environ)
    assert (file.whole, file.routes is not None) == (False, True)


def test_who_is_trusted_is_not_said_where_settings_leave_it_open(tmp_path: Path) -> None:
    """What else is wrong does not keep it from being said."""
    path = tmp_path / "routes.yaml"
    path.write_text("version: 1\nroutes: [{path: /x, access: authenticated}]\n")
    least = {"SIDECAR_UPSTREAM": "http://app", "SIDECAR_ROUTES": str(path), "SIDECAR_PDP": "authzen+https://pdp.test"}
    for more, told in (
        ({"SIDECAR_MODE": "open"}, True),
        ({"SIDECAR_NONSENSE": "1"}, True),
        ({"SIDECAR_ISUER": "https://idp"}, False),
        ({"SIDECAR_ISSUER": "https://idp", "SIDECAR_JWKS_URL": "keys"}, False),
        ({"AWS_COGNITO_POOL_ID": "pool", "AWS_COGNITO_CLIENT_ID": "c"}, False),
    ):
        with pytest.raises(StartError) as caught:
            deciding(understand({**least, **more}, {}), {})
        assert any("no issuer of tokens" in problem for problem in caught.value.problems) == told, more


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("cache: 5\n", True),
        ("identity: [{issuer: 'https://idp'}]\n", False),
        ("identities: [{issuer: 'https://idp'}]\n", False),
        ("identity: [{region: eu-west-1, user_pool_id: eu-west-1_A, client_ids: [c]}]\ncache: 5\n", False),
    ],
)
def test_who_is_trusted_is_not_said_where_the_route_file_leaves_it_open(tmp_path: Path, more: str, told: bool) -> None:
    path = tmp_path / "routes.yaml"
    path.write_text(f"version: 1\nroutes: [{{path: /x, access: authenticated}}]\n{more}")
    environ = {
        "SIDECAR_UPSTREAM": "http://app", "SIDECAR_ROUTES": str(path), "SIDECAR_PDP": "authzen+https://pdp.test",
    }  # fmt: skip
    with pytest.raises(StartError) as caught:
        deciding(understand(environ, {}), {})
    assert any("no issuer of tokens" in problem for problem in caught.value.problems) == told
