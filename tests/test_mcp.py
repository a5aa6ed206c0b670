"""MCP with real servers and clients, the official ones and fastmcp, unchanged, and the real Cerbos between them."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from sidecar.demo.processes import status_of
from tests import guide_commands
from tests.conftest import Stack
from tests.foreign.envoy_grpc import EXT_PROC, filled, running_envoy
from tests.mcp_servers import GO_ON, SERVERS, Servers, read_one_root, running_servers
from tests.stack import ROOT, Got, Sidecar, binary, free_port, running_sidecar
from tests.tokens import ISSUER

GUIDE = (ROOT / "docs/guides/mcp.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL))
HEAD, _, ROUTE = EXAMPLES["routes.yaml"].partition("  - path: /mcp\n")
ROUTES = HEAD + "".join(f"  - path: /{name}/mcp\n{ROUTE}" for name in (*SERVERS, "odd"))


ENVOY_ASKS = free_port()


@pytest.fixture(autouse=True)
def one_root_for_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    read_one_root(monkeypatch)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with running_servers() as servers:
        yield servers


@pytest.fixture(scope="module")
def sidecar(session_stack: Stack, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("mcp")
    (folder / "policies").mkdir()
    agent = jwt.decode(session_stack.tokens["alice"], options={"verify_signature": False})["client_id"]
    for name, text in EXAMPLES.items():
        if name.startswith("policies/"):
            (folder / name).write_text(text.replace("back-office-agent", agent))
    upstream = f"http://127.0.0.1:{servers.port}"
    environ = {**session_stack.environ, EXT_PROC.listen: f"127.0.0.1:{ENVOY_ASKS}"}
    with running_sidecar(folder, ROUTES, folder / "policies", upstream, environ, shared=True) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def by_envoy(sidecar: Sidecar, servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """The same sidecar, asked by an Envoy with the shipped configuration: requests go to its port."""
    port = free_port()
    ports = {8000: port, 8080: sidecar.port, 3000: servers.port, EXT_PROC.port: ENVOY_ASKS, 50051: 1}
    text = filled(EXT_PROC.config, ports, {"{path_separated_prefix: /mcp}": '{safe_regex: {regex: "/[a-z-]+/mcp"}}'})
    with running_envoy(tmp_path_factory.mktemp("envoy") / "mcp", text, lambda: status_of(port, "/") == 403):
        yield replace(sidecar, port=port)


@asynccontextmanager
async def official(sidecar: Sidecar, name: str, token: str, mode: str) -> AsyncIterator[Any]:
    # these packages take two seconds to import: no run without these tests does
    from mcp.client.client import Client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client

    http = create_mcp_http_client(headers={"Authorization": f"Bearer {token}"})
    url = f"http://127.0.0.1:{sidecar.port}/{name}/mcp"
    async with http, Client(streamable_http_client(url, http_client=http), mode=mode) as client:
        yield client


@asynccontextmanager
async def fast(sidecar: Sidecar, name: str, token: str, mode: str) -> AsyncIterator[Any]:
    from fastmcp import Client
    from fastmcp.client.transports import StreamableHttpTransport

    url = f"http://127.0.0.1:{sidecar.port}/{name}/mcp"
    transport = StreamableHttpTransport(url, headers={"Authorization": f"Bearer {token}"})
    async with Client(transport, mode=mode) as client:
        yield client


def refusal() -> type[Exception]:
    """What both clients raise where the server answers with an error."""
    from mcp import MCPError

    return MCPError


def listed(found: Any, member: str) -> list[Any]:
    """What a list has, which the one client gives as an object and the other as the list."""
    return list(getattr(found, member, found))


@pytest.mark.parametrize("client", [official, fast])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("name", SERVERS)
async def test_an_agent_uses_what_the_policy_lets_it_use(
    session_stack: Stack, sidecar: Sidecar, servers: Servers, name: str, mode: str, client: Any
) -> None:
    async with asyncio.timeout(20), client(sidecar, name, session_stack.tokens["alice"], mode) as agent:
        tools = listed(await agent.list_tools(), "tools")
        assert {tool.name for tool in tools} == {"get_contact", "count_slowly", "delete_contact"}
        resources = listed(await agent.list_resources(), "resources")
        assert [str(resource.uri) for resource in resources] == ["crm://readme"]
        templates = listed(await agent.list_resource_templates(), "resource_templates")
        assert [template.uri_template for template in templates] == ["crm://contacts/{id}"]
        prompts = listed(await agent.list_prompts(), "prompts")
        assert [prompt.name for prompt in prompts] == ["summarize"]
        assert (await agent.call_tool("get_contact", {"id": "7"})).content[0].text == "contact 7"
        assert (await agent.call_tool("count_slowly", {})).content[0].text == "counted"
        assert "7" in str(await agent.read_resource("crm://contacts/7"))
        assert "Summarize tea" in str(await agent.get_prompt("summarize", {"topic": "tea"}))
        before = len(servers.seen)
        for refused in (
            lambda: agent.call_tool("secret_report", {}),
            lambda: agent.call_tool("delete_contact", {"id": "1", "force": True}),
            lambda: agent.call_tool("delete_contact", {"id": "2"}),
            lambda: agent.read_resource("crm://secret/salaries"),
            lambda: agent.get_prompt("secret_prompt", {}),
        ):
            with pytest.raises(refusal(), match="have access"):
                await refused()
        assert not [body for body in servers.seen[before:] if b"secret" in body or b"delete" in body]
        # and the session goes on
        assert "deleted 3" in (await agent.call_tool("delete_contact", {"id": "3"})).content[0].text


def post(sidecar: Sidecar, token: str, message: Any, name: str = "official-json", **headers: str) -> Got:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    named = {"content_type": "application/json", "accept": "application/json, text/event-stream", **headers}
    return sidecar.request("POST", f"/{name}/mcp", token, body=body, **named)


def call(name: str, arguments: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments or {}, **more},
    }


def test_a_refusal_is_an_error_of_the_request(session_stack: Stack, sidecar: Sidecar) -> None:
    got = post(sidecar, session_stack.tokens["alice"], call("secret_report"))
    told = json.loads(got.body)
    assert (got.status, got.header("content-type"), told["id"]) == (200, "application/json", 7)
    assert told["error"]["code"] == -32001
    assert told["error"]["data"] == {
        "code": "denied_by_policy",
        "status": 403,
        "request_id": got.header("x-request-id"),
    }


def test_a_refused_notification_has_the_status_of_its_code(session_stack: Stack, sidecar: Sidecar) -> None:
    got = post(sidecar, session_stack.tokens["alice"], {"jsonrpc": "2.0", "method": "notifications/secret"})
    assert (got.status, json.loads(got.body)["error"]["code"]) == (200, -32601)
    got = post(sidecar, "no token", call("get_contact"))
    assert got.status == 401
    assert got.header("www-authenticate")


def test_what_is_read_in_two_ways_never_reaches_a_server(
    session_stack: Stack, sidecar: Sidecar, servers: Servers
) -> None:
    token, before = session_stack.tokens["alice"], len(servers.seen)
    secret = json.dumps(call("secret_report")).encode()
    for body, error in (
        (b"[" + secret + b"]", -32600),
        (secret.replace(b'"method"', b'"method": "ping", "method"'), -32700),
        (secret.replace(b'"name"', b'"name": "get_contact", "Name"'), -32700),
        (secret.replace(b'"id": 7', b'"id": 7.0'), -32600),
    ):
        got = post(sidecar, token, body)
        assert (got.status, json.loads(got.body)["error"]["code"]) == (400, error)
    got = post(sidecar, token, call("get_contact"), mcp_method="tools/call", mcp_name="secret_report")
    assert (got.status, json.loads(got.body)["error"]["code"]) == (400, -32020)
    assert len(servers.seen) == before


@pytest.mark.parametrize("method", ["ping", "tools/list", "initialize"])
@pytest.mark.parametrize("answer", ["json", "stream"])
def test_a_list_is_judged_whatever_it_answers(session_stack: Stack, sidecar: Sidecar, method: str, answer: str) -> None:
    """Servers find the stream of an answer by the request's id, which the client chooses: the list that one request
    asked for may come in answer to another of the same id."""
    got = post(sidecar, session_stack.tokens["alice"], {"jsonrpc": "2.0", "id": answer, "method": method}, "odd")
    assert (got.status, got.header("cache-control")) == (200, "private, no-store")
    assert b"get_contact" in got.body
    assert b"secret_report" not in got.body


def test_what_a_server_sends_once_more_is_judged_too(session_stack: Stack, sidecar: Sidecar) -> None:
    got = sidecar.get("/odd/mcp", session_stack.tokens["alice"], accept="text/event-stream", last_event_id="7")
    assert b"get_contact" in got.body
    assert b"secret_report" not in got.body


def test_a_stream_and_the_end_of_a_session_are_decided_too(session_stack: Stack, sidecar: Sidecar) -> None:
    """The admin has no right to listen: the policy gives it to others."""
    for method, status in (("GET", 403), ("DELETE", 200), ("PUT", 405)):
        got = sidecar.request(method, "/odd/mcp", session_stack.tokens["admin"], accept="text/event-stream")
        assert got.status == status


# --- whose a session is ---

HELLO = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "agent", "version": "1"},
    },
}  # fmt: skip
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}
BOTH = "application/json, text/event-stream"


def session_of(sidecar: Sidecar, token: str, name: str) -> str:
    """The id of a session that begins."""
    got = post(sidecar, token, HELLO, name, accept=BOTH)
    session = got.header("mcp-session-id")
    assert (got.status, bool(session)) == (200, True), got
    assert post(sidecar, token, READY, name, accept=BOTH, mcp_session_id=session or "").status == 202
    return session or ""


@pytest.mark.parametrize("way", ["direct", "envoy"])
@pytest.mark.parametrize("name", SERVERS)
def test_a_session_is_for_whom_it_was_begun_alone(
    session_stack: Stack, sidecar: Sidecar, request: pytest.FixtureRequest, servers: Servers, name: str, way: str
) -> None:
    at: Sidecar = sidecar if way == "direct" else request.getfixturevalue("by_envoy")
    alice, bob = session_stack.tokens["alice"], session_stack.tokens["bob"]
    session = session_of(at, alice, name)
    own = servers.sessions[-1]
    # the server sees its own, and the client another one
    assert session.endswith("." + own)
    assert session != own
    sent = len(servers.sessions)
    other = ("B" if session[0] == "A" else "A") + session[1:]
    for token, named in ((bob, session), (bob, own), (alice, own), (alice, session[:-1]), (alice, other)):
        for method in ("POST", "GET", "DELETE"):
            body = json.dumps(call("get_contact", {"id": "7"})).encode() if method == "POST" else b""
            kind = {"content_type": "application/json"} if body else {}
            got = at.request(
                method, f"/{name}/mcp", token, body=body, accept=BOTH, mcp_session_id=named, **kind,
            )  # fmt: skip
            assert (got.status, json.loads(got.body)["code"]) == (404, "mcp_session_foreign"), (method, named)
    assert servers.sessions[sent:] == []
    # of whoever began it, it goes on to its end
    got = post(at, alice, call("get_contact", {"id": "7"}), name, accept=BOTH, mcp_session_id=session)
    assert b"contact 7" in got.body
    assert at.request("DELETE", f"/{name}/mcp", alice, mcp_session_id=session).status == 200
    assert set(servers.sessions[sent:]) == {own}
    assert post(at, alice, call("get_contact"), name, accept=BOTH, mcp_session_id=session).status == 404


# --- where an Envoy moves the bytes, and asks ---


@pytest.mark.parametrize("name", SERVERS)
async def test_an_agent_uses_by_way_of_envoy_what_the_policy_lets_it_use(
    session_stack: Stack, by_envoy: Sidecar, servers: Servers, name: str
) -> None:
    async with asyncio.timeout(20), official(by_envoy, name, session_stack.tokens["alice"], "legacy") as agent:
        tools = listed(await agent.list_tools(), "tools")
        assert {tool.name for tool in tools} == {"get_contact", "count_slowly", "delete_contact"}
        assert (await agent.call_tool("count_slowly", {})).content[0].text == "counted"
        before = len(servers.seen)
        with pytest.raises(refusal(), match="have access"):
            await agent.call_tool("secret_report", {})
        assert not [body for body in servers.seen[before:] if b"secret" in body]
        assert (await agent.call_tool("get_contact", {"id": "7"})).content[0].text == "contact 7"


@pytest.mark.parametrize("answer", ["json", "stream"])
def test_a_list_is_judged_by_way_of_envoy(session_stack: Stack, by_envoy: Sidecar, answer: str) -> None:
    got = post(by_envoy, session_stack.tokens["alice"], {"jsonrpc": "2.0", "id": answer, "method": "ping"}, "odd")
    assert (got.status, got.header("cache-control")) == (200, "private, no-store")
    assert b"get_contact" in got.body
    assert b"secret_report" not in got.body


def test_events_go_out_by_way_of_envoy_while_the_server_writes_them(session_stack: Stack, by_envoy: Sidecar) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": "slow", "method": "tools/list"})
    headers = {"Authorization": f"Bearer {session_stack.tokens['alice']}", "Content-Type": "application/json"}
    GO_ON.clear()
    with closing(http.client.HTTPConnection("127.0.0.1", by_envoy.port, timeout=5)) as connection:
        connection.request("POST", "/odd/mcp", body, {**headers, "Accept": "application/json, text/event-stream"})
        answer = connection.getresponse()
        first = answer.read1()
        GO_ON.set()
        rest = answer.read()
    assert (first.count(b"get_contact"), rest.count(b"get_contact")) == (1, 1)
    assert b"secret_report" not in first + rest


def test_the_guides_files_have_no_warning_and_its_cases_pass(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text)
    environ = {
        "SIDECAR_ISSUER": ISSUER, "SIDECAR_JWKS_URL": "http://127.0.0.1:9/jwks", "AWS_COGNITO_CLIENT_ID": "back-office-agent",
        "SIDECAR_UPSTREAM": "http://127.0.0.1:9", "SIDECAR_CERBOS_BINARY": str(binary()),
    }  # fmt: skip
    checked = guide_commands.sidecar(tmp_path, "check", environ=environ)
    assert (checked.returncode, "warning:" in checked.stderr + checked.stdout) == (0, False), checked
    tested = guide_commands.sidecar(tmp_path, "test", "cases.yaml", environ=environ)
    assert tested.returncode == 0, tested.stdout
    (command,) = re.findall(r"^sidecar (explain .+)$", GUIDE, re.MULTILINE)
    explained = guide_commands.sidecar(tmp_path, *shlex.split(command), environ=environ)
    assert (explained.returncode, "call: EFFECT_ALLOW" in explained.stdout) == (0, True), explained
