"""`mcp` as far as it says for whom tokens are made, and `mcp_clients`."""

from __future__ import annotations

import pytest

from sidecar.config.routes.file import RoutesFile
from sidecar.gate.claims import Claim
from sidecar.gate.protected import Protected, RegisteredClient
from sidecar.gate.to_app import AuthorizationRule
from sidecar.gate.values import Type
from tests.config.routes.reading import faults, one_route, read

CRM = "https://a.example/mcp"


def route(mcp: str, path: str = "/mcp", more: str = "") -> str:
    return f"{{path: {path}, access: authenticated, methods: [POST], mcp: {{{mcp}}}{more}}}"


def read_one(mcp: str, path: str = "/mcp", more: str = "", file: str = "") -> RoutesFile:
    return read(one_route(route(mcp, path, more), file))


@pytest.mark.parametrize(
    ("path", "mcp", "protected"),
    [
        ("/mcp", f"resource: {CRM}", Protected(CRM)),
        ("/mcp", "resource: 'https://a.example'", Protected("https://a.example")),
        ("/a/mcp", "resource: 'https://a.example/a'", Protected("https://a.example/a")),
        ("/mcp/", "resource: 'https://a.example/mcp/'", Protected("https://a.example/mcp/")),
        ("/mcp", "resource: 'http://127.0.0.1:8080/mcp'", Protected("http://127.0.0.1:8080/mcp")),
        ("/mcp", f"resource: {CRM}, scopes: [a/b, c, a/b], audience: optional", Protected(CRM, ("a/b", "c"), unbound=True)),
        ("/mcp", f"resource: {CRM}, scopes: a/b, metadata: off", Protected(CRM, ("a/b",), metadata=False)),
        ("/mcp", f"resource: {CRM}, authorization_server: 'https://idp/t'", Protected(CRM, server="https://idp/t")),
        ("/mcp", "", None),
    ],
)  # fmt: skip
def test_a_route_may_be_a_protected_resource(path: str, mcp: str, protected: Protected | None) -> None:
    (got,) = read_one(mcp, path).table.routes
    assert got.protected == protected


@pytest.mark.parametrize(
    ("mcp", "says"),
    [
        ("resource: a.example", "found 'a.example', expected a URL"),
        ("resource: 'https://a.example/'", "expected it without the slash at the end"),
        ("resource: 'https://a.example/mcp?x=1'", "without query and fragment"),
        ("resource: 'https://a.example/mcp#x'", "without query and fragment"),
        ("resource: 'https://A.example/mcp'", "expected a URL"),
        ("resource: 'https://a.example:443/mcp'", "expected it without :443"),
        ("resource: 'https://u@a.example/mcp'", "expected a URL"),
        ("resource: 'http://a.example/mcp'", "expected https"),
        ("resource: 'https://a.example/mcp/../x'", "expected a path without . and .."),
        ("resource: 'https://a.example/m\"cp'", "expected a URL"),
        ("resource: 'https://a.example/mc'", "found the path '/mc', expected '/mcp', the path of the route"),
        ("resource: 'https://a.example/mcp/x'", "expected '/mcp', the path of the route, or one above it"),
        ("scopes: [a]", "mcp.scopes: found it without `resource`, expected both"),
        ("metadata: on", "mcp.metadata: found it without `resource`"),
        (f"resource: {CRM}, scopes: ['a b']", "found 'a b', expected a scope"),
        (f"resource: {CRM}, scopes: ['a\"b']", "expected a scope"),
        (f"resource: {CRM}, metadata: true", "expected on or off"),
        (f"resource: {CRM}, audience: none", "expected required or optional or any"),
        (f"resource: {CRM}, audience: any", "mcp.audience: found `any` with `resource`"),
        ("audience: any, scopes: [a]", "mcp.scopes: found it without `resource`"),
        ("audience: optional", "mcp.audience: found it without `resource`"),
        (f"resource: {CRM}, authorization_server: 'http://idp'", "expected https"),
    ],
)
def test_what_it_cannot_say_is_named_with_its_place(mcp: str, says: str) -> None:
    assert any(says in fault for fault in faults(one_route(route(mcp))))


@pytest.mark.parametrize(
    ("said", "warned"),
    [
        (route(""), True),
        (route("server: crm").replace("access: authenticated, methods: [POST], ", ""), True),
        (route("audience: any"), False),
        (route(f"resource: {CRM}"), False),
        ("{path: /mcp, access: public, mcp: {}}", False),
    ],
)
def test_tokens_of_other_servers_are_taken_openly_or_with_a_warning(said: str, warned: bool) -> None:
    """RFC 8707, and MCP's "Token Audience Binding and Validation": a token is for the server that it was made for."""
    warnings = [str(warning) for warning in read(one_route(said)).warnings]
    assert len(warnings) == warned
    assert all("/mcp: a token that was made for another server" in warning for warning in warnings)


def test_a_public_route_has_no_tokens() -> None:
    (fault,) = faults(one_route(f"{{path: /mcp, access: public, mcp: {{resource: {CRM}}}}}"))
    assert "mcp.resource: found it on a public route" in fault


def test_the_host_is_one_of_the_routes() -> None:
    (fault,) = faults(one_route(route(f"resource: {CRM}", more=", hosts: [b.example, c.example]")))
    assert "found the host 'a.example', expected one of the route's hosts: b.example, c.example" in fault
    for hosts in ("a.example", "'*.example'"):
        assert read_one(f"resource: {CRM}", more=f", hosts: [{hosts}]").table.protected
    placed = [each.hosts for each in read_one(f"resource: {CRM}").placed_hosts]
    assert placed == [("a.example",)]
    assert read_one(f"resource: {CRM}, metadata: off").placed_hosts == ()


def test_one_resource_is_told_of_in_one_way() -> None:
    two = f"{route('resource: https://a.example', '/a')}\n  - {route('resource: https://a.example, scopes: [s]', '/b')}"
    (fault,) = faults(one_route(two))
    assert "routes[1].mcp.resource: found https://a.example, of which another route says otherwise" in fault
    assert read(one_route(two.replace(", scopes: [s]", ""))).table.protected == (Protected("https://a.example"),) * 2


@pytest.mark.parametrize(
    ("more", "file", "rule"),
    [
        ("", "", AuthorizationRule.DROP),
        ("", "to_app: {authorization: keep}", AuthorizationRule.DROP),
        ("", "to_app: {authorization: forward}", AuthorizationRule.DROP),
        (", to_app: {headers: {Remote-User: '{principal.id}'}}", "", AuthorizationRule.DROP),
        (", to_app: {authorization: forward}", "", AuthorizationRule.FORWARD),
        (", to_app: {authorization: keep}", "", AuthorizationRule.KEEP),
    ],
)
def test_no_token_goes_to_the_app_unless_the_route_says_so(more: str, file: str, rule: AuthorizationRule) -> None:
    (got,) = read_one("", more=more, file=f"{file}\n" if file else "").table.routes
    assert got.to_app is not None
    assert got.to_app.authorization is rule


def test_the_principal_names_the_app_client() -> None:
    principal = read_one("").principal
    assert dict(principal.attributes) == {"client_id": Claim("client_id", Type.STRING)}
    assert principal.optional == {"client_id"}
    own = read_one("", file="principal: {attributes: {client_id: azp, mail: email}}\n").principal
    assert own.attributes["client_id"] == Claim("azp")
    assert own.optional == frozenset()
    assert "client_id" not in read(one_route("{path: /x, access: authenticated}")).principal.attributes


def clients(*each: str) -> str:
    return one_route(route(""), "mcp_clients:\n" + "".join(f"  - {{{one}}}\n" for one in each))


def test_app_clients_have_redirect_uris() -> None:
    file = read(
        clients(
            "client_id: c1, redirect_uris: ['https://claude.ai/api/mcp/auth_callback', 'http://localhost:33418/']",
            "client_id: c2, redirect_uris: 'cursor://anysphere.cursor-retrieval/oauth/user-id/callback'",
        )
    )
    assert file.clients == (
        RegisteredClient("c1", frozenset(["https://claude.ai/api/mcp/auth_callback", "http://localhost:33418/"])),
        RegisteredClient("c2", frozenset(["cursor://anysphere.cursor-retrieval/oauth/user-id/callback"])),
    )


@pytest.mark.parametrize(
    ("each", "says"),
    [
        (["client_id: c1"], "redirect_uris"),
        (["client_id: c1, redirect_uris: []"], "expected at least 1"),
        (["client_id: c1, redirect_uris: ['https://a/cb#x']"], "expected a redirect URI"),
        (["client_id: c1, redirect_uris: ['https:///cb']"], "expected a redirect URI with a host"),
        (["client_id: c1, redirect_uris: ['https:a']"], "expected a redirect URI with a host"),
        (["client_id: c1, redirect_uris: ['http://a.example/cb']"], "only a loopback host may have plain http"),
        (["client_id: c1, redirect_uris: ['javascript:alert(1)']"], "expected a redirect URI"),
        (["client_id: c1, redirect_uris: ['HTTPS://a/cb']"], "expected a redirect URI"),
        (["client_id: c1, redirect_uris: ['https://a/*\\n']"], "expected a redirect URI"),
        (["client_id: c1, redirect_uris: ['/cb']"], "expected a redirect URI"),
        (["client_id: 'c 1', redirect_uris: ['https://a/cb']"], "expected a client id"),
        (["client_id: c1, redirect_uris: ['https://a/cb']", "client_id: c1, redirect_uris: ['https://b/cb']"], "found one app client twice"),
        (["client_id: c1, redirect_uris: ['https://a/cb']", "client_id: c2, redirect_uris: ['https://a/cb']"], "found 'https://a/cb' at two app clients"),
    ],
)  # fmt: skip
def test_what_an_app_client_cannot_have_is_named(each: list[str], says: str) -> None:
    assert any(says in fault for fault in faults(clients(*each)))
