"""The traffic port as a whole."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from pathlib import Path

from tests.conftest import Stack, policies
from tests.stack import reply, running_sidecar


def upstream_of(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.upstream.port}"


def test_shadow_mode_forwards_what_enforcing_would_refuse_and_says_so(stack: Stack, tmp_path: Path) -> None:
    environ = {**stack.environ, "SIDECAR_MODE": "shadow"}
    with running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), environ) as sidecar:
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
            running_sidecar(tmp_path, stack.routes, policies(), f"unix:{upstream_path}", environ),
            closing(socket.socket(socket.AF_UNIX)) as client,
        ):
            client.connect(str(listen_path))
            client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            data = b""
            while part := client.recv(65536):
                data += part
        thread.join()
    assert data.endswith(b"unix")
