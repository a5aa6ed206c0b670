"""A policy is never asked about a principal that lacks a claim: through every door, before a real Cerbos that skips such rules."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from sidecar.doors.ext_authz import CHECK
from sidecar.net.grpc_client import Channel
from sidecar.net.grpc_client_connection import GrpcMethod
from tests import guide_commands
from tests.doors.test_ext_authz import question
from tests.doors.test_websocket import Upstream
from tests.stack import Recorder, Sidecar, Web, free_port, running_sidecar
from tests.tokens import CLIENT, POOL, SESSION_SECRET, claims, key_set, mint

ROUTES = """\
version: 1
principal:
  attributes:
    suspended: {claim: "custom:suspended", type: bool}
    tenant: tenant
    level: {claim: "custom:level", type: number}
    team: team
  optional: [team]
routes:
  - {path: /open, access: public}
  - {path: /me, access: authenticated}
  - {path: /doc, resource: doc, attributes: {tenant: "{query.tenant}"}, actions: {GET: read}}
  - {path: /ws, resource: doc, actions: {WS: watch}, recheck: 300ms}
"""
POLICY = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: doc
  version: default
  rules:
    - {actions: ["*"], effect: EFFECT_ALLOW, roles: [user, admin]}
    - actions: ["*"]
      effect: EFFECT_DENY
      roles: ["*"]
      condition: {match: {expr: request.principal.attr.suspended == true}}
    - actions: [read]
      effect: EFFECT_DENY
      roles: ["*"]
      condition: {match: {expr: request.principal.attr.tenant != request.resource.attr.tenant}}
    - actions: ["*"]
      effect: EFFECT_DENY
      roles: ["*"]
      condition: {match: {expr: request.principal.attr.level < 3}}
    - actions: ["*"]
      effect: EFFECT_DENY
      roles: ["*"]
      condition: {match: {expr: has(request.principal.attr.team) && request.principal.attr.team == "out"}}
"""
DOC = "/doc?tenant=acme"
GOOD: dict[str, Any] = {"custom:suspended": "false", "tenant": "acme", "custom:level": "3"}


@dataclass
class World:
    sidecar: Sidecar
    upstream: Recorder
    asks: int
    environ: dict[str, str]


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policies")
    (folder / "doc.yaml").write_text(POLICY)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, policies: Path) -> Iterator[World]:
    keys, upstream, asks = Web(), Recorder(), free_port()
    keys.json("/jwks", key_set())
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks",
        # as a Cerbos before 0.55 evaluates, and one elsewhere that nobody has told to be strict
        "SIDECAR_CERBOS_STRICT": "off",
    }  # fmt: skip
    doors = {
        "SIDECAR_FORWARD_AUTH": "nginx", "SIDECAR_TRUSTED_PROXIES": "127.0.0.1/32", "SIDECAR_HOSTS": "app.test,127.0.0.1",
        "SIDECAR_EXT_AUTHZ_LISTEN": f"127.0.0.1:{asks}", "SIDECAR_LOGIN": "password", "SIDECAR_CONSOLE_ADMIN": "admin",
        "SIDECAR_SESSION_SECRET": SESSION_SECRET,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("claims")
    with running_sidecar(
        folder, ROUTES, policies, f"http://127.0.0.1:{upstream.port}", {**environ, **doors}, shared=True
    ) as sidecar:
        yield World(sidecar, upstream, asks, environ)
    keys.close()
    upstream.close()


@pytest.fixture(autouse=True)
def fresh(world: World) -> None:
    world.upstream.reset()


def token(**said: Any) -> str:
    """An access token with good claims, and these in their place; None leaves one out."""
    return mint(claims(time.time(), **{**GOOD, **said})).decode()


LACKING = [("custom:suspended", "suspended"), ("tenant", "tenant"), ("custom:level", "level")]


@pytest.mark.parametrize(("claim", "attribute"), LACKING)
def test_a_token_without_a_claim_is_refused_and_nobody_is_asked(world: World, claim: str, attribute: str) -> None:
    got = world.sidecar.get(DOC, token(**{claim: None}))
    assert (got.status, got.code) == (403, "claim_missing")
    assert world.upstream.seen == []
    line = world.sidecar.decisions()[-1]
    assert line["detail"] == f"principal.attributes.{attribute}: the token has no claim {claim}"
    assert (line["code"], line.get("call_id", "")) == ("claim_missing", "")
    # the client learns no more than the code
    assert claim not in got.body.decode()


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({}, "allowed"),
        ({"custom:suspended": "true"}, "denied_by_policy"), ({"custom:suspended": True}, "denied_by_policy"),
        ({"custom:suspended": False}, "allowed"), ({"custom:suspended": "True"}, "claim_invalid"), ({"custom:suspended": 1}, "claim_invalid"),
        ({"custom:suspended": ""}, "claim_invalid"), ({"custom:level": "2"}, "denied_by_policy"), ({"custom:level": 2.5}, "denied_by_policy"),
        ({"custom:level": "10"}, "allowed"), ({"custom:level": "3.0"}, "claim_invalid"), ({"custom:level": [3]}, "claim_invalid"),
        ({"tenant": "globex"}, "denied_by_policy"), ({"tenant": {"id": "acme"}}, "claim_invalid"), ({"tenant": ["acme"]}, "denied_by_policy"),
        ({"team": "out"}, "denied_by_policy"), ({"team": "in"}, "allowed"), ({"team": {"a": 1}}, "claim_invalid"),
    ],
)  # fmt: skip
def test_a_claim_is_compared_as_what_it_is_declared(world: World, said: dict[str, Any], outcome: str) -> None:
    got = world.sidecar.get(DOC, token(**said))
    assert (got.code if got.status >= 400 else "allowed") == outcome
    assert len(world.upstream.seen) == (outcome == "allowed")
    if outcome == "claim_invalid":
        detail = world.sidecar.decisions()[-1]["detail"]
        (claim,) = said
        assert f"the claim {claim}: found" in detail


def test_routes_that_ask_no_policy_take_such_a_token(world: World) -> None:
    lacking = token(tenant=None)
    assert (world.sidecar.get("/me", lacking).status, world.sidecar.get("/open").status) == (200, 200)
    assert world.sidecar.get("/_sidecar/whoami", lacking).status == 200


def test_a_person_reads_why_in_plain_words(world: World) -> None:
    got = world.sidecar.get(DOC, token(tenant=None), accept="text/html")
    page = got.body.decode()
    assert got.status == 403
    assert "your account lacks information that this application needs" in page
    assert "tenant" not in page
    wrong = world.sidecar.get(DOC, token(tenant={}), accept="text/html").body.decode()
    assert "your account has information that this application can't use" in wrong


# --- every other door ---


def open_socket(port: int, bearer: str) -> ClientConnection:
    headers = {"Authorization": f"Bearer {bearer}"}
    return connect(f"ws://127.0.0.1:{port}/ws", additional_headers=headers, proxy=None)


def test_a_handshake_is_refused(world: World) -> None:
    with pytest.raises(InvalidStatus) as refused:
        open_socket(world.sidecar.port, token(tenant=None))
    assert json.loads(refused.value.response.body or b"")["code"] == "claim_missing"
    assert world.upstream.seen == []


@pytest.mark.parametrize(("said", "status"), [({}, 200), ({"tenant": None}, 403)])
def test_a_proxy_that_asks_by_http_is_told(world: World, said: dict[str, Any], status: int) -> None:
    got = world.sidecar.get(
        "/_sidecar/authorize", token(**said), host="app.test", x_original_method="GET", x_original_uri=DOC,
        x_forwarded_for="192.0.2.7", x_forwarded_proto="https",
    )  # fmt: skip
    assert got.status == status, got
    if status == 403:
        assert "claim_missing" in (got.header("x-auth-problem") or "")


@pytest.mark.parametrize(("said", "status"), [({}, 0), ({"tenant": None}, 403)])
async def test_envoy_is_told_by_grpc(world: World, said: dict[str, Any], status: int) -> None:
    method = GrpcMethod(CHECK.decode(), "localhost", 5.0)
    channel = Channel(f"127.0.0.1:{world.asks}", method)
    asked = question((b"authorization", b"Bearer " + token(**said).encode()), path=DOC)
    answer = CheckResponse.FromString(await channel.call(method, asked, asyncio.get_running_loop().time() + 5))
    await channel.aclose()
    assert answer.denied_response.status.code == status
    assert ("claim_missing" in answer.denied_response.body) == (status == 403)


def test_the_permissions_api_says_so_for_each(world: World) -> None:
    asked = json.dumps([{"method": "GET", "path": path} for path in (DOC, "/me", DOC)]).encode()
    got = world.sidecar.request(
        "POST", "/_sidecar/permissions", token(tenant=None), asked, content_type="application/json"
    )
    told = [(one["allowed"], one["code"]) for one in json.loads(got.body)]
    assert told == [(False, "claim_missing"), (True, "authenticated"), (False, "claim_missing")]


def test_the_console_says_so(world: World) -> None:
    page = world.sidecar.get("/_sidecar/console?method=GET&path=/doc?tenant=acme", token(tenant=None)).body.decode()
    assert "claim_missing" in page
    admin = token(**{"cognito:groups": ["admin"]})
    for attributes, outcome in (
        ("{}", "claim_missing"),
        ('{"tenant":"acme","suspended":"no","level":3}', "claim_invalid"),
    ):
        query = f"?as=bob&roles=user,user&attributes={attributes}&method=GET&path=/doc%3Ftenant=acme"
        shown = world.sidecar.get("/_sidecar/console" + query.replace('"', "%22").replace("{", "%7B"), admin)
        assert outcome in shown.body.decode()


@pytest.mark.parametrize(
    ("said", "verdict"), [({}, "FORWARD allowed"), ({"tenant": None}, "REFUSE claim_missing (principal")]
)
def test_explain_says_which_claim(world: World, policies: Path, said: dict[str, Any], verdict: str) -> None:
    told = {name: value for name, value in {**GOOD, **said}.items() if value is not None}
    routes = str(world.sidecar.folder / "routes.yaml")
    own = {**world.environ, "SIDECAR_POLICIES": str(policies), "SIDECAR_ROUTES": routes}
    claims = json.dumps({"cognito:groups": ["user"], **told})
    done = guide_commands.sidecar(policies, "explain", "GET", DOC, "--claims", claims, environ=own)
    assert done.stdout.splitlines()[-1].startswith(f"verdict    {verdict}"), done.stdout + done.stderr


def test_an_open_websocket_ends_once_a_claim_is_required(world: World, policies: Path, tmp_path: Path) -> None:
    app = Upstream()
    before = ROUTES.replace("optional: [team]", "optional: [team, tenant]")
    with running_sidecar(
        tmp_path, before, policies, f"http://127.0.0.1:{app.port}", world.environ, shared=True
    ) as sidecar:
        with open_socket(sidecar.port, token(tenant=None)) as opened:
            opened.send("x")
            assert opened.recv() == "x"
            (tmp_path / "routes.yaml").write_text(ROUTES)
            with pytest.raises(ConnectionClosed) as closed:
                opened.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4403, "claim_missing")
    app.close()


def test_shadow_forwards_and_records_it(world: World, policies: Path, tmp_path: Path) -> None:
    where = f"http://127.0.0.1:{world.upstream.port}"
    environ = {**world.environ, "SIDECAR_MODE": "shadow"}
    with running_sidecar(tmp_path, ROUTES, policies, where, environ, shared=True) as sidecar:
        assert sidecar.get(DOC, token(tenant=None)).status == 200
        assert "claim_missing" in json.dumps(sidecar.decisions()[-1])
