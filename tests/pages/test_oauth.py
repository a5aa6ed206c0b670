"""How OAuth clients get a token: metadata of resources and of Cognito, and the registration that keeps nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.doors.door import Door
from sidecar.doors.refusal import Refusals
from sidecar.gate.ask import asks
from sidecar.gate.evaluation import Rules
from sidecar.gate.protected import Protected, RegisteredClient
from sidecar.gate.request import Reading
from sidecar.gate.routing import Access, Route, RouteTable, parse_path
from sidecar.net.room import rooms
from sidecar.pages.oauth import MAX_REDIRECT_URIS, MAX_REGISTRATION, OAuthPaths, PoolEndpoints, client_for
from sidecar.pages.router import OwnPaths
from sidecar.record.journal import Journal
from sidecar.record.metrics import Metrics
from tests.gate.test_gate import World
from tests.log import Kept

DOMAIN = "https://contacts.auth.eu-west-1.amazoncognito.com"
KEYS = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_A/.well-known/jwks.json"
POOL = PoolEndpoints(DOMAIN, KEYS)
CRM = Protected("https://crm.example/mcp", ("crm/use",))
CLIENTS = (
    RegisteredClient("c1", frozenset(["https://claude.ai/api/mcp/auth_callback", "http://127.0.0.1:7777/cb"])),
    RegisteredClient("c2", frozenset(["http://localhost:33418"])),
)
RESOURCE, SERVER = b"/.well-known/oauth-protected-resource", b"/.well-known/oauth-authorization-server"
REGISTER = b"/_sidecar/register"
JSON = (b"content-type", b"application/json")


def table(*protected: Protected) -> RouteTable:
    return RouteTable(
        [
            Route(f"/{at}", parse_path(f"/{at}"), Access.AUTHENTICATED, asks({"POST": ""}), protected=one)
            for at, one in enumerate(protected)
        ]
    )


def own_paths(
    *protected: Protected, clients: tuple[RegisteredClient, ...] = CLIENTS, pool: PoolEndpoints | None = POOL,
    hosts: frozenset[str] | None = None,
) -> OwnPaths:  # fmt: skip
    gate = World().gate()
    gate.rules = Rules(table(*protected), {}, gate.rules.tokens, Reading(hosts), None, clients)
    door = Door(gate, Journal(Kept(), Metrics(), lambda: 0.0), Refusals(), lambda: 0.0, lambda: 0.0, lambda: "r1")
    return OwnPaths(door, rooms(1024**3, 0), {}, OAuthPaths(pool).paths)


Got = tuple[int, dict[bytes, bytes], bytes]


async def ask(
    own: OwnPaths, target: bytes, method: str = "GET", *headers: tuple[bytes, bytes], body: bytes = b"",
    host: bytes = b"crm.example",
) -> Got:  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    framing = [(b"content-length", str(len(body)).encode())] if body else []
    scope = {
        "type": "http", "method": method, "raw_target": target, "client": ("10.0.0.1", 1), "scheme": "http",
        "headers": [(b"host", host), *framing, *headers],
    }  # fmt: skip
    assert own.has(target)
    await own(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[0]["body"]


# --- metadata ---


@pytest.mark.parametrize("target", [RESOURCE + b"/mcp", RESOURCE, RESOURCE + b"/mcp?x=1"])
async def test_a_resource_tells_of_itself(target: bytes) -> None:
    status, headers, body = await ask(own_paths(CRM), target, host=b"anything.example")
    assert status == 200
    assert json.loads(body) == {
        "resource": "https://crm.example/mcp",
        "authorization_servers": ["https://crm.example"],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["crm/use"],
    }
    assert headers[b"access-control-allow-origin"] == b"*"
    assert b"access-control-allow-credentials" not in headers
    assert (headers[b"content-type"], headers[b"cache-control"]) == (b"application/json", b"public, max-age=300")


async def test_cognito_is_told_of_with_what_its_own_document_lacks() -> None:
    status, _, body = await ask(own_paths(CRM, CRM._replace(resource="https://crm.example/b")), SERVER)
    document = json.loads(body)
    assert (status, document.pop("scopes_supported")) == (200, ["crm/use"])
    assert document == {
        # RFC 8414 section 3.3: identical to what the well-known URL was made of
        "issuer": "https://crm.example",
        "authorization_endpoint": f"{DOMAIN}/oauth2/authorize",
        "token_endpoint": f"{DOMAIN}/oauth2/token",
        "revocation_endpoint": f"{DOMAIN}/oauth2/revoke",
        "registration_endpoint": "https://crm.example/_sidecar/register",
        "jwks_uri": KEYS,
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
    }


async def test_what_is_not_there_is_not_told_of() -> None:
    own = own_paths(CRM._replace(scopes=()), clients=(), pool=PoolEndpoints(DOMAIN))
    document = json.loads((await ask(own, SERVER))[2])
    assert not {"registration_endpoint", "jwks_uri", "scopes_supported"} & document.keys()
    assert not own.has(REGISTER)
    assert "scopes_supported" not in json.loads((await ask(own, RESOURCE))[2])


@pytest.mark.parametrize(
    ("protected", "pool", "has"),
    [
        ([], POOL, set()),
        ([CRM], POOL, {RESOURCE, RESOURCE + b"/mcp", SERVER, REGISTER}),
        ([CRM._replace(metadata=False)], POOL, set()),
        ([CRM], None, {RESOURCE, RESOURCE + b"/mcp"}),
        ([CRM._replace(server="https://idp.example")], POOL, {RESOURCE, RESOURCE + b"/mcp"}),
        # two of one host: which of them is meant by no path?
        ([CRM, CRM._replace(resource="https://crm.example/b")], POOL, {RESOURCE + b"/mcp", RESOURCE + b"/b", SERVER, REGISTER}),
        ([CRM, CRM._replace(resource="https://crm.example")], POOL, {RESOURCE + b"/mcp", RESOURCE, SERVER, REGISTER}),
    ],
)  # fmt: skip
def test_the_paths_are_ours_only_where_a_route_has_metadata(
    protected: list[Protected], pool: PoolEndpoints | None, has: set[bytes]
) -> None:
    own = own_paths(*protected, pool=pool)
    asked = {RESOURCE, RESOURCE + b"/mcp", RESOURCE + b"/b", SERVER, REGISTER}
    assert {target for target in asked if own.has(target)} == has
    for other in (
        RESOURCE + b"/",
        RESOURCE + b"/%6dcp",
        RESOURCE + b"/mcp/",
        SERVER + b"/mcp",
        b"/.well-known/openid-configuration",
    ):
        assert not own.has(other)


async def test_each_host_tells_of_its_own_and_of_no_other() -> None:
    wiki = Protected("https://wiki.example:8443/mcp", server="https://idp.example")
    own = own_paths(CRM, wiki)
    assert json.loads((await ask(own, RESOURCE + b"/mcp"))[2])["resource"] == CRM.resource
    assert json.loads((await ask(own, RESOURCE, host=b"WIKI.example:8443"))[2])["resource"] == wiki.resource
    # only what routes say is ever answered
    status, _, body = await ask(own, RESOURCE + b"/mcp", host=b"evil.example")
    assert (status, b"evil" in body) == (403, False)
    # the other host has another authorization server
    assert json.loads((await ask(own, SERVER))[2])["issuer"] == "https://crm.example"


async def test_only_hosts_that_are_listed_are_answered() -> None:
    own = own_paths(CRM, hosts=frozenset(["crm.example"]))
    assert (await ask(own, RESOURCE))[0] == 200
    assert (await ask(own, RESOURCE, host=b"evil.example"))[0] == 421


async def test_a_reload_changes_what_is_told() -> None:
    own = own_paths(CRM)
    gate = own._door.gate
    assert own.has(RESOURCE)
    gate.rules = Rules(table(), {}, gate.rules.tokens, gate.rules.reading, None, CLIENTS)
    assert not own.has(RESOURCE)
    assert not own.has(REGISTER)


@pytest.mark.parametrize(("target", "methods"), [(RESOURCE, b"GET, HEAD"), (SERVER, b"GET, HEAD"), (REGISTER, b"POST")])
async def test_a_page_of_any_origin_may_ask_first(target: bytes, methods: bytes) -> None:
    status, headers, body = await ask(own_paths(CRM), target, "OPTIONS", (b"origin", b"http://localhost:6274"))
    assert (status, body, headers[b"access-control-allow-methods"]) == (204, b"", methods)
    assert headers[b"access-control-allow-origin"] == b"*"
    assert headers[b"access-control-allow-headers"] == b"Content-Type, MCP-Protocol-Version"


async def test_head_has_the_head_of_get_and_no_other_method_is_taken() -> None:
    status, headers, body = await ask(own_paths(CRM), RESOURCE, "HEAD")
    assert (status, body, headers[b"content-length"] != b"0") == (200, b"", True)
    assert (await ask(own_paths(CRM), RESOURCE, "POST", JSON, body=b"{}"))[0] == 405
    assert (await ask(own_paths(CRM), REGISTER))[0] == 405


# --- registration ---


async def register(body: Any, *headers: tuple[bytes, bytes]) -> tuple[int, dict[bytes, bytes], Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, got, answer = await ask(own_paths(CRM), REGISTER, "POST", *(headers or (JSON,)), body=data)
    return status, got, json.loads(answer)


@pytest.mark.parametrize(
    ("uris", "client"),
    [
        (["https://claude.ai/api/mcp/auth_callback"], "c1"),
        (["http://127.0.0.1:7777/cb", "https://claude.ai/api/mcp/auth_callback"], "c1"),
        (["http://localhost:33418"], "c2"),
    ],
)
async def test_who_registers_gets_the_app_client_of_its_redirect_uris(uris: list[str], client: str) -> None:
    asked = {
        "redirect_uris": uris, "client_name": "<script>", "grant_types": ["authorization_code"], "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_basic", "scope": "admin", "software_statement": "x",
    }  # fmt: skip
    status, headers, answer = await register(asked)
    assert status == 201
    # nothing of what was sent comes back but what was listed before
    assert answer == {
        "client_id": client, "redirect_uris": uris, "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"], "token_endpoint_auth_method": "none",
    }  # fmt: skip
    assert (headers[b"cache-control"], headers[b"access-control-allow-origin"]) == (b"no-store", b"*")


URI = "http://localhost:33418"
LISTED = "https://claude.ai/api/mcp/auth_callback"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "invalid_redirect_uri"),
        ({"redirect_uris": []}, "invalid_redirect_uri"),
        ({"redirect_uris": URI}, "invalid_redirect_uri"),
        ({"redirect_uris": [1]}, "invalid_redirect_uri"),
        ({"redirect_uris": [[URI]]}, "invalid_redirect_uri"),
        ({"redirect_uris": [None]}, "invalid_redirect_uri"),
        ({"redirect_uris": [URI] * (MAX_REDIRECT_URIS + 1)}, "invalid_redirect_uri"),
        ({"redirect_uris": ["https://evil.example/cb"]}, "invalid_redirect_uri"),
        ({"redirect_uris": [URI, "https://evil.example/cb"]}, "invalid_redirect_uri"),
        # of two app clients
        ({"redirect_uris": [URI, LISTED]}, "invalid_redirect_uri"),
        ({"redirect_uris": [f"{URI}/"]}, "invalid_redirect_uri"),
        ({"redirect_uris": [f"{LISTED}?x=1"]}, "invalid_redirect_uri"),
        ({"redirect_uris": [f"{LISTED}@evil.example"]}, "invalid_redirect_uri"),
        ({"redirect_uris": [LISTED.upper()]}, "invalid_redirect_uri"),
        ({"redirect_uris": [URI], "grant_types": ["client_credentials"]}, "invalid_client_metadata"),
        ({"redirect_uris": [URI], "grant_types": "authorization_code"}, "invalid_client_metadata"),
        ({"redirect_uris": [URI], "response_types": ["token"]}, "invalid_client_metadata"),
        ([], "invalid_client_metadata"),
        (b"", "invalid_client_metadata"),
        (b"{", "invalid_client_metadata"),
        (b"[" * 9000, "invalid_client_metadata"),
        (b'{"redirect_uris": ["http://localhost:33418"], "redirect_uris": ["https://evil"]}', "invalid_client_metadata"),
        (b'{"redirect_uris": ["\\ud800"]}', "invalid_client_metadata"),
        (b" " * (MAX_REGISTRATION + 1), "invalid_client_metadata"),
    ],
)  # fmt: skip
async def test_what_is_not_listed_is_not_registered(body: Any, error: str) -> None:
    status, headers, answer = await register(body)
    assert (status, answer["error"]) == (400, error)
    assert "client_id" not in answer
    assert headers[b"access-control-allow-origin"] == b"*"
    assert len(answer["error_description"]) < 400


@pytest.mark.parametrize("kind", [b"text/plain", b"application/x-www-form-urlencoded", b""])
async def test_a_registration_is_json(kind: bytes) -> None:
    status, _, answer = await register({"redirect_uris": [URI]}, (b"content-type", kind))
    assert (status, answer["error"]) == (400, "invalid_client_metadata")


def test_nothing_is_kept_of_a_registration() -> None:
    body = json.dumps({"redirect_uris": [URI]}).encode()
    assert client_for(CLIENTS, body) == client_for(CLIENTS, body) == (CLIENTS[1], [URI])
