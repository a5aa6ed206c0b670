"""The server that uvicorn runs with our protocol: its settings, and the sockets that it serves."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from sidecar.net.http_server import config
from tests.net.raw_http import reply, running


async def app(scope: Any, receive: Any, send: Any) -> None:
    await reply(send, 200, b"ok")


def test_a_unix_socket_serves_too_and_has_no_peer_address(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with running(app, uds=path) as server, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(path)
        client.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert server.seen[0].scope["client"] is None


def test_the_settings_that_safety_rests_on_are_pinned() -> None:
    settings = config(app, host="127.0.0.1", port=0)
    assert (settings.ws, settings.loop, settings.lifespan, settings.interface) == ("none", "uvloop", "off", "asgi3")
    assert (settings.proxy_headers, settings.server_header, settings.access_log) == (False, False, False)
    assert (settings.date_header, settings.timeout_keep_alive) == (True, 75)
    settings.load()
    with pytest.raises(TypeError):
        config(app, proxy_headers=True)
