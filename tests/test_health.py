"""The health check's command says what the admin port says, and refuses whatever it cannot read."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from sidecar.config.setting_table import SETTINGS
from sidecar.health import DEFAULT_LISTEN, main
from tests.conftest import Stack
from tests.stack import free_port


class _UnixHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"/readyz": 503, "/livez": 200}[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def listening(path: Path) -> Iterator[None]:
    with socketserver.UnixStreamServer(str(path), _UnixHandler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_the_default_is_that_of_the_settings() -> None:
    assert next(one.default for one in SETTINGS if one.variable == "SIDECAR_ADMIN_LISTEN") == DEFAULT_LISTEN


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_sidecar_that_is_ready(stack: Stack, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"SIDECAR_ADMIN_LISTEN": f"{host}:{stack.sidecar.admin_port}"}
    assert main([], environ) == 0
    assert '"ready":true' in capsys.readouterr().out
    assert main(["livez"], environ) == 0
    assert capsys.readouterr().out == "ok\n"


def test_one_that_is_not_ready_behind_a_unix_socket(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"SIDECAR_ADMIN_LISTEN": f"unix:{tmp_path / 'admin.sock'}"}
    with listening(tmp_path / "admin.sock"):
        assert main([], environ) == 1
        assert main(["livez"], environ) == 0
    assert capsys.readouterr().out == "/readyz\n/livez\n"


@pytest.mark.parametrize("listen", ["127.0.0.1:{port}", "[::]:{port}", "unix:/nowhere/admin.sock"])
def test_nobody_there(listen: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {"SIDECAR_ADMIN_LISTEN": listen.format(port=free_port())}) == 1
    assert "Error" in capsys.readouterr().out


def test_what_answers_no_http(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_mumble, args=(server,))
        thread.start()
        assert main([], {"SIDECAR_ADMIN_LISTEN": f"127.0.0.1:{server.getsockname()[1]}"}) == 1
        thread.join()
    assert "BadStatusLine" in capsys.readouterr().out


def _mumble(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"hello\r\n\r\n")
