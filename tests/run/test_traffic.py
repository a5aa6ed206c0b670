"""The traffic port as a whole."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from sidecar.config.settings import understand
from sidecar.run.parts import prepare
from sidecar.run.serving import Sidecar
from sidecar.run.traffic import Traffic
from tests.conftest import Stack, policies
from tests.stack import Recorder, binary, reply, running_sidecar


def upstream_of(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.upstream.port}"


def test_shadow_mode_forwards_what_enforcing_would_refuse_and_says_so(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, "SIDECAR_MODE": "shadow"}
    with running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), environ, shared=True) as sidecar:
        for path, code in (
            ("/nowhere", "route_unmapped"), ("/contacts/1", "token_missing"), ("/a/../b", "target_ambiguous"),
        ):  # fmt: skip
            stack.upstream.reset(reply())
            assert sidecar.get(path, x_auth_subject="root").status == 200
            (seen,) = stack.upstream.seen
            assert seen.target == path
            assert seen.values("x-auth-subject") == []
            line = sidecar.decisions()[-1]
            assert (line["mode"], line["outcome"], line["code"]) == ("shadow", "shadow_refuse", code)
        stack.upstream.reset(reply())
        got = sidecar.request("PUT", "/contacts/2", stack.tokens["alice"])
        assert got.status == 200
        assert stack.upstream.seen[0].values("x-auth-subject") == ["alice"]
        assert sidecar.decisions()[-1]["code"] == "denied_by_policy"
        # nobody runs it for weeks without seeing it
        assert "mode shadow: nothing is refused, only recorded" in sidecar.log()
        assert b'"mode":"shadow"' in sidecar.admin("/readyz").body
        assert [sidecar.metric("sidecar_mode", mode=mode) for mode in ("shadow", "enforce")] == [1, 0]
    assert "mode enforce" in stack.sidecar.log()
    assert stack.sidecar.metric("sidecar_mode", mode="shadow") == 0


def test_an_upstream_and_a_listener_may_be_unix_sockets(stack: Stack, tmp_path: Path) -> None:
    upstream_path, listen_path = tmp_path / "app.sock", tmp_path / "sidecar.sock"
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(upstream_path))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix")

        thread = threading.Thread(target=serve)
        thread.start()
        environ = {**stack.environ, "SIDECAR_LISTEN": f"unix:{listen_path}"}
        with (
            running_sidecar(tmp_path, stack.routes, policies(), f"unix:{upstream_path}", environ, shared=True),
            closing(socket.socket(socket.AF_UNIX)) as client,
        ):
            client.connect(str(listen_path))
            client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            data = b""
            while part := client.recv(65536):
                data += part
        thread.join()
    assert data.endswith(b"unix")


# --- as an ASGI app, called by a client of ASGI: no server of ours in between ---


@pytest.fixture
async def traffic(embedded_shared: None, stack: Stack, tmp_path: Path) -> AsyncIterator[Traffic]:
    (tmp_path / "routes.yaml").write_text(stack.routes)
    environ = {
        **stack.environ, "SIDECAR_UPSTREAM": upstream_of(stack), "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
        "SIDECAR_POLICIES": str(policies()), "SIDECAR_CERBOS_BINARY": str(binary()), "SIDECAR_CERBOS_TIMEOUT": "5s",
        "SIDECAR_DECISION_LOG": str(tmp_path / "decisions.jsonl"),
    }  # fmt: skip
    prepared = prepare(understand(environ, {}), environ)
    sidecar = Sidecar(prepared, None)
    assert prepared.deciding.embedded is not None
    await prepared.deciding.embedded.start()
    yield sidecar.traffic
    await sidecar.aclose()


async def ask(app: Any, method: str, path: str, token: str | None = None, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.test") as client:
        return await client.request(method, path, headers={**headers, **more.pop("headers", {})}, **more)


def code_of(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["code"])


async def test_a_balancer_may_ask_by_address_where_the_setting_says_so(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(stack.routes)
    environ = {
        **stack.environ, "SIDECAR_UPSTREAM": upstream_of(stack), "SIDECAR_ROUTES": str(tmp_path / "routes.yaml"),
        "SIDECAR_CERBOS": "127.0.0.1:1", "SIDECAR_HOSTS": "app.test", "SIDECAR_HEALTH_PATHS": "/livez",
        "SIDECAR_DECISION_LOG": str(tmp_path / "decisions.jsonl"),
    }  # fmt: skip
    sidecar = Sidecar(prepare(understand(environ, {}), environ), None)
    by_address = {"host": "10.0.3.4:8080"}
    assert (await ask(sidecar.traffic, "GET", "/livez", headers=by_address)).status_code == 200
    assert code_of(await ask(sidecar.traffic, "GET", "/livez/x", headers=by_address)) == "host_not_allowed"
    assert code_of(await ask(sidecar.traffic, "GET", "/livez?x", headers=by_address)) == "host_not_allowed"
    sidecar.status.draining = True
    assert (await ask(sidecar.traffic, "GET", "/livez", headers=by_address)).status_code == 503
    await sidecar.aclose()


async def test_any_asgi_client_gets_what_a_client_of_our_server_gets(stack: Stack, traffic: Traffic) -> None:
    alice = stack.tokens["alice"]
    assert (await ask(traffic, "GET", "/public")).json()["target"] == "/public"
    allowed = await ask(traffic, "PUT", "/contacts/1?a=b", alice, headers={"x-auth-subject": "root"}, content=b"body")
    assert (allowed.status_code, allowed.content.endswith(b"body")) == (200, True)
    assert stack.upstream.seen[-1].values("x-auth-subject") == ["alice"]
    assert (stack.upstream.seen[-1].target, stack.upstream.seen[-1].values("x-forwarded-for")) == (
        "/contacts/1?a=b", ["127.0.0.1"],
    )  # fmt: skip
    before = len(stack.upstream.seen)
    unsigned = await ask(traffic, "GET", "/contacts/1")
    assert (unsigned.status_code, code_of(unsigned), unsigned.headers["www-authenticate"][:6]) == (
        401, "token_missing", "Bearer",
    )  # fmt: skip
    denied = await ask(traffic, "PUT", "/contacts/2", alice)
    assert (denied.status_code, code_of(denied)) == (403, "denied_by_policy")
    assert code_of(await ask(traffic, "GET", "/nowhere", alice)) == "route_unmapped"
    assert code_of(await ask(traffic, "GET", "/public%2f..")) == "target_ambiguous"
    assert code_of(await ask(traffic, "TRACE", "/public")) == "request_invalid"
    assert len(stack.upstream.seen) == before
    who = await ask(traffic, "GET", "/_sidecar/whoami", alice)
    assert who.json()["principal"]["id"] == "alice"
    assert code_of(await ask(traffic, "GET", "/_sidecar/whoami")) == "token_missing"


async def test_what_cannot_be_read_is_in_the_log_and_counted(tmp_path: Path, traffic: Traffic) -> None:
    answer = await ask(traffic, "TRACE", "/public")
    async with asyncio.timeout(10):
        while not (tmp_path / "decisions.jsonl").read_text():
            await asyncio.sleep(0)
    (line,) = [json.loads(line) for line in (tmp_path / "decisions.jsonl").read_text().splitlines()]
    assert (line["code"], line["status"], line["request_id"]) == (
        "request_invalid",
        400,
        answer.headers["x-request-id"],
    )


async def test_an_answer_streams_in_as_many_pieces_as_it_comes(stack: Stack, traffic: Traffic) -> None:
    go_on = threading.Event()

    def slow(_: Recorder, connection: socket.socket, __: object) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        go_on.wait(10)
        connection.sendall(b"6\r\nsecond\r\n0\r\n\r\n")

    stack.upstream.reset(slow)
    pieces: list[bytes] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def seen(message: Any) -> None:
            if message.get("body"):
                pieces.append(message["body"])
                go_on.set()
            await send(message)

        await traffic(scope, receive, seen)

    answer = await ask(watched, "GET", "/public")
    assert (answer.content, pieces) == (b"firstsecond", [b"first", b"second"])
    assert "transfer-encoding" not in answer.headers


async def test_a_scope_that_is_not_http_is_not_answered(traffic: Traffic) -> None:
    with pytest.raises(RuntimeError, match="websocket"):
        await traffic({"type": "websocket"}, None, None)  # type: ignore[arg-type]
