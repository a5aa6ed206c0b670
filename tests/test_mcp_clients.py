"""The guide for MCP clients, run as it stands: real clients find out how to sign in, register, sign in and call a real server."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import threading
import time
import warnings
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from sidecar.demo.cognito import LocalCognito
from sidecar.demo.hosted_ui import HostedUIServer
from tests.conftest import policies
from tests.deploy.aws import Account
from tests.signing_in import Browser, parameters_of
from tests.stack import ROOT, Sidecar, free_port, running_sidecar

GUIDE = (ROOT / "docs/guides/mcp-clients.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"<!-- example: (\S+) -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL))
(CLIENT,) = re.findall(r"<!-- run by: tests/test_mcp_clients.py -->\n```python\n(.*?)```", GUIDE, re.DOTALL)
COMMANDS = re.findall(r"<!-- run by: tests/test_mcp_clients.py -->\n```sh\n(.*?)```", GUIDE, re.DOTALL)
GUIDES_ORIGIN = "https://crm.example.com"
REGISTERED = "https://claude.ai/api/mcp/auth_callback"


@dataclass
class Seen:
    """What the MCP server was told in its last request."""

    headers: dict[str, str]


@dataclass
class World:
    sidecar: Sidecar
    origin: str
    hosted: HostedUIServer
    callback_port: int
    seen: Seen

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"

    @property
    def scope(self) -> str:
        return f"{self.url}/use"


@contextlib.contextmanager
def mcp_server(seen: Seen) -> Iterator[int]:
    """A server of fastmcp, unchanged, that knows nothing of tokens: its port."""
    import uvicorn
    from fastmcp import FastMCP
    from fastmcp.server.dependencies import get_http_headers

    crm = FastMCP("crm")

    @crm.tool
    def whoami() -> str:
        seen.headers = get_http_headers(include_all=True)
        return seen.headers.get("x-auth-subject", "nobody")

    port = free_port()
    config = uvicorn.Config(crm.http_app(path="/mcp"), host="127.0.0.1", port=port, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def world(cognito: LocalCognito, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, port, callback_port, seen = tmp_path_factory.mktemp("mcp"), free_port(), free_port(), Seen({})
    origin = f"http://127.0.0.1:{port}"
    routes = (
        EXAMPLES["routes.yaml"]
        .replace(GUIDES_ORIGIN, origin)
        .replace("localhost:33418", f"localhost:{callback_port}")
        .replace("claude-app-client", cognito.client_id)
        .replace("eu-west-1_AbCdEf", cognito.pool_id)
        .replace("eu-west-1", cognito.region)
    ) + "  - {path: /other, access: authenticated}\n"
    callbacks = [REGISTERED, f"http://localhost:{callback_port}/callback"]
    with (
        mcp_server(seen) as server,
        HostedUIServer(
            cognito, free_port(), folder, os.environ, redirect_uris=callbacks, logout_uris=[], scopes=[f"{origin}/mcp/use"]
        ) as hosted,
        running_sidecar(
            folder / "sidecar", routes, policies(), f"http://127.0.0.1:{server}",
            {
                "SIDECAR_LISTEN": f"127.0.0.1:{port}", "AWS_COGNITO_DOMAIN": hosted.domain, "SIDECAR_LOGIN": "off",
                "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": cognito.endpoint,
            },
        ) as running,
    ):  # fmt: skip
        sidecar = Sidecar(running.process, port, running.admin_port, running.folder, running.ready_after)
        yield World(sidecar, origin, hosted, callback_port, seen)


class Storage:
    """What the official client keeps."""

    def __init__(self) -> None:
        self.tokens: Any = None
        self.client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client_info: Any) -> None:
        self.client = client_info


async def call_by_the_official_client(world: World, storage: Storage) -> str:
    from mcp import Client
    from mcp.client.auth import OAuthClientProvider
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared._httpx_utils import create_mcp_http_client
    from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata

    gone: dict[str, str] = {}

    async def redirect(url: str) -> None:
        gone.update(parameters_of(await asyncio.to_thread(Browser().sign_in, url, "alice", "Alice-1234")))

    async def callback() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(code=gone["code"], state=gone["state"])

    auth = OAuthClientProvider(
        world.url, OAuthClientMetadata.model_validate({"redirect_uris": [REGISTERED]}), storage, redirect, callback
    )
    async with (
        create_mcp_http_client(auth=auth) as http,
        Client(streamable_http_client(world.url, http_client=http)) as client,
    ):
        got = await client.call_tool("whoami", {})
    return str(got.content[0].text)  # type: ignore[union-attr]


async def test_the_official_client_signs_in_by_what_it_finds(world: World, cognito: LocalCognito) -> None:
    storage = Storage()
    assert await call_by_the_official_client(world, storage) == "alice"
    assert storage.client.client_id == cognito.client_id
    assert (storage.client.client_secret, storage.client.issuer) == (None, world.origin)
    # the server is told who asks, and gets no token of theirs
    assert "authorization" not in world.seen.headers
    said = jwt.decode(storage.tokens.access_token, options={"verify_signature": False})
    assert (said["aud"], said["client_id"], said["scope"]) == (world.url, cognito.client_id, world.scope)
    # a token for this server opens nothing else, and another token does not open this server
    got = world.sidecar.get("/other", storage.tokens.access_token)
    assert (got.status, got.code) == (401, "token_invalid")
    assert "aud: the resource of another route" in world.sidecar.decisions()[-1]["detail"]
    plain = cognito.token("alice")
    assert world.sidecar.get("/other", plain).status == 404
    got = world.sidecar.get("/mcp", plain)
    assert (got.status, got.code) == (401, "token_invalid")
    assert f"expected {world.url}" in world.sidecar.decisions()[-1]["detail"]
    assert got.header("www-authenticate") == (
        f'Bearer error="invalid_token", scope="{world.scope}", '
        f'resource_metadata="{world.origin}/.well-known/oauth-protected-resource/mcp"'
    )


async def test_the_guides_client_signs_in_with_a_browser(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """fastmcp's, which listens for the browser itself."""
    people: list[threading.Thread] = []

    def person(url: str) -> bool:
        def sign_in() -> None:
            back = Browser().sign_in(url, "bob", "Bobby-1234").headers["location"]
            for _ in range(200):
                with contextlib.suppress(httpx.ConnectError):
                    httpx.get(back, trust_env=False)
                    return
                # the client listens only once it has told the browser where to go
                time.sleep(0.02)

        people.append(threading.Thread(target=sign_in))
        people[-1].start()
        return True

    monkeypatch.setattr(webbrowser, "open", person)
    text = CLIENT.replace(GUIDES_ORIGIN, world.origin).replace("33418", str(world.callback_port))
    made: dict[str, Any] = {"__name__": "client"}
    exec(compile(text.replace("asyncio.run(main())", ""), "client.py", "exec"), made)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it keeps tokens in memory
        async with asyncio.timeout(60):
            await made["main"]()
    for thread in people:
        thread.join()
    assert (len(people), capsys.readouterr().out) == (1, "['whoami']\n")


async def test_a_client_with_another_callback_is_not_registered(world: World) -> None:
    from fastmcp import Client
    from fastmcp.client.auth import OAuth

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = Client(world.url, auth=OAuth(callback_port=free_port()))
        with pytest.raises(RuntimeError, match="invalid_redirect_uri"):
            async with client:
                pass
    assert "a registration was refused: redirect_uris: found ['http://localhost:" in world.sidecar.log()


def test_what_clients_are_told_can_be_seen_with_curl(world: World, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl: apt-get install curl")
    text = COMMANDS[1].replace(GUIDES_ORIGIN, world.origin)
    done = subprocess.run(["sh", "-eu", "-c", text], capture_output=True, text=True, check=True, cwd=tmp_path)
    header, _, document = done.stdout.partition("\n")
    assert "/.well-known/oauth-protected-resource/mcp" in header
    told = json.loads(document)
    assert (told["issuer"], told["code_challenge_methods_supported"]) == (world.origin, ["S256"])
    assert told["authorization_endpoint"] == f"{world.hosted.domain}/oauth2/authorize"


def test_paths_of_metadata_are_the_apps_without_a_resource(world: World, tmp_path: Path) -> None:
    """The rest of `/.well-known/` is: a route decides."""
    for path in ("/.well-known/openid-configuration", "/.well-known/oauth-protected-resource/other"):
        got = world.sidecar.get(path)
        assert (got.status, got.code) == (403, "route_unmapped")


WELL_KNOWN = "/.well-known/oauth-protected-resource"
HOSTILE = {
    "host of somebody else": ("GET", f"{WELL_KNOWN}/mcp", {"Host": "evil.example"}, b"", 200),
    "forwarded host": ("GET", WELL_KNOWN, {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}, b"", 200),
    "absolute target": ("GET", f"http://evil.example{WELL_KNOWN}", {}, b"", 400),
    "dot segments": ("GET", f"/x/..{WELL_KNOWN}", {}, b"", 400),
    "escape": ("GET", "/.well-known/oauth%2dprotected-resource", {}, b"", 403),
    "two slashes": ("GET", f"/{WELL_KNOWN}", {}, b"", 400),
    "parameter": ("GET", f"{WELL_KNOWN};x=1", {}, b"", 400),
    "case": ("GET", WELL_KNOWN.upper(), {}, b"", 403),
    "callback of somebody else": ("POST", "/_sidecar/register", {}, b'{"redirect_uris": ["https://evil.example/cb"]}', 400),
    "callback beside ours": ("POST", "/_sidecar/register", {}, b'{"redirect_uris": ["https://claude.ai/api/mcp/auth_callback", "https://evil.example/cb"]}', 400),
    "callback below ours": ("POST", "/_sidecar/register", {}, b'{"redirect_uris": ["https://claude.ai/api/mcp/auth_callback/../evil.example"]}', 400),
    "two lists": ("POST", "/_sidecar/register", {}, b'{"redirect_uris": ["https://claude.ai/api/mcp/auth_callback"], "redirect_uris": ["https://evil.example/cb"]}', 400),
    "compressed": ("POST", "/_sidecar/register", {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08", 400),
    "too large": ("POST", "/_sidecar/register", {}, b" " * (1024 * 1024), 413),
    "form of a page": ("POST", "/_sidecar/register", {"Content-Type": "text/plain"}, b'{"redirect_uris": ["https://claude.ai/api/mcp/auth_callback"]}', 400),
    "method override": ("GET", "/_sidecar/register", {"X-HTTP-Method-Override": "POST"}, b"", 405),
}  # fmt: skip
"""Name -> method, target, headers, body, status: nothing of them is in an answer, and nothing of them is registered."""


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_of_a_hostile_request_is_in_what_clients_are_told(world: World, name: str) -> None:
    method, target, headers, body, status = HOSTILE[name]
    connection = http.client.HTTPConnection("127.0.0.1", world.sidecar.port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest(method, target, skip_host="Host" in headers, skip_accept_encoding=True)
        for header, value in {"Content-Type": "application/json", **headers}.items():
            connection.putheader(header, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        # a server that has answered need not read the rest
        with contextlib.suppress(ConnectionError):
            connection.send(body)
        answer = connection.getresponse()
        told = answer.read()
    assert answer.status == status
    assert b"client_id" not in told
    if status == 200:
        assert json.loads(told)["resource"] == world.url
    if name != "callback of somebody else" and "beside" not in name and "below" not in name:
        # what is refused is named, so that a person can see what is missing
        assert b"evil" not in told
    assert not any("evil" in value for _, value in answer.getheaders())


def test_the_commands_prepare_the_pool(cognito: LocalCognito, tmp_path: Path) -> None:
    account = Account(cognito.endpoint, cognito.region)
    with account.command(tmp_path):
        environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "AWS_COGNITO_POOL_ID": cognito.pool_id}
        done = subprocess.run(
            ["sh", "-eu", "-c", COMMANDS[0]], env=environ, capture_output=True, text=True, check=False, timeout=60
        )
    assert done.returncode == 0, done.stdout + done.stderr
    api = account.client("cognito-idp")
    clients = api.list_user_pool_clients(UserPoolId=cognito.pool_id, MaxResults=60)["UserPoolClients"]
    (made,) = [one["ClientId"] for one in clients if one["ClientName"] == "claude"]
    client = api.describe_user_pool_client(UserPoolId=cognito.pool_id, ClientId=made)["UserPoolClient"]
    assert "ClientSecret" not in client
    assert REGISTERED in client["CallbackURLs"]
    assert client["AllowedOAuthScopes"] == [f"{GUIDES_ORIGIN}/mcp/use"]
    api.close()
