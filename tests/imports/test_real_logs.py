"""Logs as real servers write them: nginx, both Caddys, Envoy, and a browser's own recording; no header of theirs is told."""

from __future__ import annotations

import io
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sidecar.demo.processes import Process
from sidecar.imports.reading import sightings
from sidecar.imports.sighting import Notes
from tests.foreign.ways import listens, nginx_file, search_path, systems
from tests.stack import free_port

pytestmark = pytest.mark.process
TARGETS = ["/contacts/7?page=1&q=a%20b", "/a%22b/%C3%A4?x=\"'&y=\\", "/a%2Fb/c", "/%61", "/late;x"]
SEEN = ["GET /contacts/7 200 page,q", 'GET /a"b/\u00e4 200 x,y', "GET /a/b/c 200 ", "GET /a 200 ", "GET /late;x 200 "]


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture(scope="module")
def app() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@contextmanager
def running(name: str, command: list[str], folder: Path, port: int) -> Iterator[None]:
    program = shutil.which(command[0], path=search_path())
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    environ = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with Process.start(name, [program, *command[1:]], folder, environ, lambda: listens(port)):
        yield


def ask(port: int) -> None:
    """The targets as they stand: a client would repair some of them."""
    import socket

    for target in TARGETS:
        with socket.create_connection(("127.0.0.1", port)) as made:
            made.sendall(
                f"GET {target} HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer marked\r\nCookie: marked=marked\r\n"
                "User-Agent: marked\r\nReferer: http://marked/\r\nConnection: close\r\n\r\n".encode()
            )
            while made.recv(4096):
                pass


def read(log: Path) -> tuple[list[str], Notes]:
    notes = Notes()
    found = [
        f"{one.method} {one.path} {one.status} {','.join(one.query)}"
        for one in sightings([str(log)], io.BytesIO(), notes)
    ]
    return found, notes


def check(log: Path, form: str, seen: list[str] = SEEN) -> None:
    found, notes = read(log)
    assert found == seen
    assert notes.read == {(str(log), form): len(seen)}
    assert notes.broken == {}
    assert "marked" not in " ".join([*found, *notes.broken_places, *map(str, notes.skipped_places)])


def test_nginx(app: int, tmp_path: Path) -> None:
    port = free_port()
    server = f"server {{ listen 127.0.0.1:{port}; access_log {tmp_path}/log combined; location / {{ proxy_pass http://127.0.0.1:{app}; }} }}"
    with running("nginx", [systems("nginx"), "-c", str(nginx_file(tmp_path, server))], tmp_path, port):
        ask(port)
    check(tmp_path / "log", "combined")


@pytest.mark.parametrize("program", ["caddy", "systems"])
def test_caddy(app: int, tmp_path: Path, program: str) -> None:
    port = free_port()
    (tmp_path / "Caddyfile").write_text(
        f"{{\n admin off\n auto_https off\n}}\nhttp://:{port} {{\n bind 127.0.0.1\n log {{\n  output file {tmp_path}/log\n  format json\n }}\n"
        f" reverse_proxy 127.0.0.1:{app}\n}}\n"
    )
    command = [
        systems("caddy") if program == "systems" else program,
        "run",
        "--config",
        "Caddyfile",
        "--adapter",
        "caddyfile",
    ]
    with running("caddy", command, tmp_path, port):
        ask(port)
    check(tmp_path / "log", "caddy")


ENVOY = """
static_resources:
  listeners:
    - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: app
                access_log:
                  - name: envoy.access_loggers.file
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
                      path: {folder}/log
                      log_format:
                        json_format:
                          start_time: "%START_TIME%"
                          method: "%REQ(:METHOD)%"
                          path: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"
                          response_code: "%RESPONSE_CODE%"
                          authority: "%REQ(:AUTHORITY)%"
                          user_agent: "%REQ(USER-AGENT)%"
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
                route_config:
                  virtual_hosts: [{{name: app, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: app}}}}]}}]
  clusters:
    - name: app
      load_assignment:
        cluster_name: app
        endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {app}}}}}}}}}]}}]
"""


def test_envoy(app: int, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "envoy.yaml").write_text(ENVOY.format(port=port, folder=tmp_path, app=app))
    command = [
        "envoy",
        "-c",
        "envoy.yaml",
        "--concurrency",
        "1",
        "-l",
        "error",
        "--use-dynamic-base-id",
        "--file-flush-interval-msec",
        "50",
    ]
    with running("envoy", command, tmp_path, port):
        ask(port)
    check(tmp_path / "log", "envoy")
