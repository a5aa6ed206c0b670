"""The guide "one request, many records" as it stands: its routes and policy, before the real Cerbos, through every door."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from sidecar.doors.ext_authz import CHECK
from sidecar.net.grpc_client import Channel
from sidecar.net.grpc_client_connection import GrpcMethod
from tests import guide_commands
from tests.doors.test_ext_authz import WHOLE, question
from tests.stack import ROOT, Got, Recorder, Sidecar, Web, free_port, running_sidecar
from tests.tokens import CLIENT, POOL, claims, key_set, mint

PAGE = (ROOT / "docs/guides/many-at-once.md").read_text(encoding="utf-8")
SOCKET = """\
  - {path: /ws, resource: contact, query: [id], each: {at: "{query.id}", lookup: contact}, actions: {WS: archive}}
"""


def example(name: str) -> str:
    (found,) = re.findall(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@dataclass
class World:
    sidecar: Sidecar
    upstream: Recorder
    hook: Web
    envoy: int
    environ: dict[str, str]

    def ask(self, method: str, target: str, body: Any = None) -> Got:
        sent = None if body is None else json.dumps(body).encode()
        return self.sidecar.request(method, target, token(), sent, content_type="application/json")


def token() -> str:
    return mint(claims(time.time(), sub="alice")).decode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    keys, hook, upstream, envoy = Web(), Web(), Recorder(), free_port()
    keys.json("/jwks", key_set())
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks",
    }  # fmt: skip
    doors = {
        "SIDECAR_FORWARD_AUTH": "nginx", "SIDECAR_TRUSTED_PROXIES": "127.0.0.1/32", "SIDECAR_HOSTS": "app.test,127.0.0.1",
        "SIDECAR_EXT_AUTHZ_LISTEN": f"127.0.0.1:{envoy}",
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("many")
    (folder / "policies").mkdir()
    (folder / "policies/contact.yaml").write_text(example("policies/contact.yaml"))
    routes = (example("routes.yaml") + SOCKET).replace("127.0.0.1:9000", f"127.0.0.1:{hook.port}")
    # a busy machine is no fault of the hook
    routes = routes.replace("echo: id}", "echo: id, timeout: 20s}")
    where = f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(folder, routes, folder / "policies", where, {**environ, **doors}, shared=True) as sidecar:
        yield World(sidecar, upstream, hook, envoy, environ)
    for part in (keys, hook, upstream):
        part.close()


@pytest.fixture
def world(shared: World) -> World:
    """Alice has the contacts 1, 3 and from 100 on, bob has 2, and nobody has 4."""
    shared.hook.pages.clear()
    for number in (1, 2, 3, *range(100, 200)):
        shared.hook.json(f"/contacts/{number}", {"id": number, "owner_id": "bob" if number == 2 else "alice"})
    shared.upstream.reset()
    return shared


def test_all_are_allowed_or_nothing_reaches_the_app(world: World) -> None:
    assert world.ask("POST", "/contacts/archive", {"ids": [1, "3", 1]}).status == 200
    assert [(seen.method, seen.body) for seen in world.upstream.seen] == [("POST", b'{"ids": [1, "3", 1]}')]
    line = world.sidecar.decisions()[-1]
    assert (line["kind"], line["id"], line["action"]) == ("contact", "", "archive")
    assert line["each"] == {"asked": 2, "ids": ["1", "3"]}
    assert len(line["call_id"]) > 0
    world.upstream.reset()
    got = world.ask("POST", "/contacts/archive", {"ids": [1, 2, 3]})
    assert world.upstream.received == b""
    problem = json.loads(got.body)
    assert {**json.loads(example("problem.json")), "request_id": problem["request_id"]} == problem
    line = world.sidecar.decisions()[-1]
    assert (line["code"], line["each"]) == ("denied_by_policy", {"asked": 3, "ids": ["1", "2", "3"], "denied": ["2"]})
    assert "told" not in line


def test_one_that_is_not_there_is_told_as_one_of_somebody_else(world: World) -> None:
    answers = [world.ask("DELETE", f"/contacts?id=1&id={number}") for number in (2, 4)]
    told = [{**json.loads(got.body), "request_id": ""} for got in answers]
    assert told[0] == told[1]
    assert told[0]["each"] == {"asked": 2, "denied": 1}
    assert [line["code"] for line in world.sidecar.decisions()[-2:]] == ["denied_by_policy", "resource_missing"]
    assert world.upstream.received == b""


def test_more_than_one_call_takes_are_asked_in_several(world: World) -> None:
    assert world.ask("POST", "/contacts/archive", {"ids": list(range(100, 200))}).status == 200
    line = world.sidecar.decisions()[-1]
    assert (line["each"]["asked"], len(line["each"]["ids"])) == (100, 32)
    assert world.ask("POST", "/contacts/archive", {"ids": [2, *range(100, 199)]}).code == "denied_by_policy"
    assert world.ask("POST", "/contacts/archive", {"ids": list(range(100, 201))}).code == "body_invalid"


@pytest.mark.parametrize(
    ("contacts", "status"),
    [
        ([{"key": 7, "owner_id": "alice"}], 200),
        ([{"key": 7, "owner_id": "alice", "acl": {"shared": [{"with": "bob"}]}}, {"key": 8, "owner_id": "alice"}], 200),
        ([{"key": 7, "owner_id": "alice"}, {"key": 7, "owner_id": "bob"}], 403), ([{"key": "7", "owner_id": "alice"}], 400),
        ([{"key": 7}], 400), ([{"key": 7, "Owner_Id": "alice"}], 400), ([], 400), ({}, 400),
    ],
)  # fmt: skip
def test_what_a_request_says_of_each_is_what_is_asked(world: World, contacts: Any, status: int) -> None:
    assert world.ask("PUT", "/contacts/import", {"contacts": contacts}).status == status
    assert len(world.upstream.seen) == (status == 200)


# --- every other door ---


@pytest.mark.parametrize(("query", "status", "code"), [("id=1&id=3", 200, ""), ("id=1&id=2", 403, "denied_by_policy")])
def test_a_proxy_that_asks_by_http_is_told(world: World, query: str, status: int, code: str) -> None:
    def ask(method: str, target: str) -> Got:
        return world.sidecar.get(
            "/_sidecar/authorize", token(), host="app.test", x_original_method=method, x_original_uri=target,
            x_forwarded_for="192.0.2.7", x_forwarded_proto="https", content_type="application/json",
        )  # fmt: skip

    got = ask("DELETE", f"/contacts?{query}")
    assert got.status == status
    assert code in (got.header("x-auth-problem") or "")
    assert ('"each": {"asked": 2, "denied": 1}' in (got.header("x-auth-problem") or "")) == bool(code)
    # such a proxy does not send the body
    assert "proxy_unable" in (ask("POST", "/contacts/archive").header("x-auth-problem") or "")


@pytest.mark.parametrize(("ids", "status"), [([1, 3], 0), ([1, 2], 403)])
async def test_envoy_is_told_by_grpc(world: World, ids: list[int], status: int) -> None:
    method = GrpcMethod(CHECK.decode(), "localhost", 5.0)
    channel = Channel(f"127.0.0.1:{world.envoy}", method)
    body = json.dumps({"ids": ids}).encode()
    headers = [
        WHOLE, (b"authorization", b"Bearer " + token().encode()), (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]  # fmt: skip
    asked = question(*headers, method="POST", path="/contacts/archive", body=body)
    answer = CheckResponse.FromString(await channel.call(method, asked, asyncio.get_running_loop().time() + 5))
    await channel.aclose()
    assert answer.denied_response.status.code == status
    assert ('"denied": 1' in answer.denied_response.body) == bool(status)


def test_a_handshake_is_refused(world: World) -> None:
    headers = {"Authorization": f"Bearer {token()}"}
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{world.sidecar.port}/ws?id=1&id=2", additional_headers=headers, proxy=None)
    assert json.loads(refused.value.response.body or b"")["each"] == {"asked": 2, "denied": 1}


def test_the_permissions_api_tells_the_code_alone(world: World) -> None:
    asked = [{"method": "DELETE", "path": f"/contacts?id=1&id={number}"} for number in (3, 2, 1, 4)]
    got = world.ask("POST", "/_sidecar/permissions", [*asked, {"method": "POST", "path": "/contacts/archive"}])
    told = [(one["allowed"], one["code"]) for one in json.loads(got.body)]
    denied = (False, "denied_by_policy")
    assert told == [(True, "allowed"), denied, (True, "allowed"), denied, (False, "body_type_unsupported")]


def test_explain_tells_of_each(world: World) -> None:
    environ = {
        "PATH": "/usr/bin", **world.environ, "SIDECAR_ROUTES": str(world.sidecar.folder / "routes.yaml"),
        "SIDECAR_POLICIES": str(world.sidecar.folder / "policies"),
    }  # fmt: skip
    claimed = '{"username": "alice", "sub": "alice", "cognito:groups": ["user"]}'
    done = guide_commands.sidecar(
        world.sidecar.folder, "explain", "POST", "/contacts/archive", "--claims", claimed, "--body",
        '{"ids": [1, 2]}', environ=environ,
    )  # fmt: skip
    for told in (
        "each       contact 1, 2",
        'contact 2 attributes  {"owner": "bob"}',
        "archive: EFFECT_DENY",
        "denied     2",
        "verdict    REFUSE denied_by_policy (each: 1 of 2 not allowed)",
    ):
        assert told in done.stdout, done.stdout + done.stderr
