"""Everybody who takes part, as processes: one Cerbos, one app and one Cognito for all, the sidecars, and the peers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import sysconfig
import urllib.request
from pathlib import Path
from typing import NamedTuple

from bench import load
from sidecar.demo.cognito import USERS, LocalCognito, User
from sidecar.demo.processes import Process, status_of
from sidecar.pdp.embedded import EmbeddedCerbos
from tests.stack import free_port

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
PRINCIPALS = 32
"""Of the loads by many: as many as connections."""
ROUTES = """\
version: 1
principal: {{id: username, roles: "cognito:groups"}}
lookups:
  kept: {{url: "http://127.0.0.1:{app}/contacts/{{id}}", attributes: {{owner: owner_id}}, cache: 1h}}
  fresh: {{url: "http://127.0.0.1:{app}/contacts/{{id}}", attributes: {{owner: owner_id}}}}
{more}routes:
  - {{path: /public, access: public}}
  - {{path: /me, access: authenticated}}
  - {{path: /file, access: public}}
  - {{path: /upload, access: authenticated, methods: [PUT]}}
  - {{path: "/contacts/{{id}}", resource: contact, id: "{{path.id}}", lookup: kept, actions: {{GET: read}}}}
  - {{path: "/fresh/{{id}}", resource: contact, id: "{{path.id}}", lookup: fresh, actions: {{GET: read}}}}
  - path: "/list/{{id}}"
    resource: contact
    actions: {{GET: list}}
    items: {{at: "@", id: id, attributes: {{owner: owner_id, visibility: visibility}}}}
  - {{path: "/plain/{{id}}", resource: contact, actions: {{GET: list}}}}
  - {{path: "/denied/{{id}}", resource: contact, id: "{{path.id}}", lookup: kept, actions: {{GET: nothing}}}}
"""


class Peer(NamedTuple):
    """Somebody who answers on `port`, by these processes besides Cerbos and the app."""

    port: int
    pids: list[int]


def is_open(port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


def filled(name: str, values: dict[str, object]) -> str:
    """A configuration of `peers/` with its @NAMES@ filled in."""
    text = (PEERS / name).read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", str(value))
    return text


ITEMS = 50
"""Items of the page of a list."""


def page(items: int, notes: int = 100) -> list[dict[str, object]]:
    """Contacts as an app lists them: about 250 bytes each with notes of 100."""
    return [
        {
            "id": at, "owner_id": f"user{at % 7}", "visibility": "private" if at % 3 else "team",
            "name": "Somebody Something", "email": f"somebody{at}@example.com", "notes": "x" * notes,
        }
        for at in range(items)
    ]  # fmt: skip


class Stack:
    """All of it; made by `running`."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, binary: str | None = None) -> None:
        self.folder = folder
        self._stack = stack
        self.peers: dict[str, Peer] = {}
        self.ready: dict[str, float] = {}
        users = (*USERS, *(User(f"user{number}", "User-12345", ("user",)) for number in range(1, PRINCIPALS)))
        self.cognito = stack.enter_context(LocalCognito(free_port(), folder, os.environ, users))
        self.tokens = [self.cognito.token("alice"), *(self.cognito.token(user.name) for user in users[len(USERS) :])]
        self._loop = asyncio.new_event_loop()
        cerbos = EmbeddedCerbos(ROOT / "policies", binary=binary)
        self._loop.run_until_complete(cerbos.start())
        stack.callback(self._loop.close)
        stack.callback(lambda: self._loop.run_until_complete(cerbos.stop()))
        self.cerbos = cerbos.target
        names = ("APP", "NGINX", "SINK", "AUTHORIZER", "ADMIN", "PLAIN", "JWT", "EXT_AUTHZ")
        self.ports = {name: free_port() for name in names}
        self._start_nginx()
        self._start("sink", [sys.executable, str(PEERS / "sink.py"), str(self.ports["SINK"])], self.ports["SINK"])

    def token_file(self, principals: int) -> Path:
        """The tokens of so many principals, one a line."""
        path = self.folder / f"tokens-{principals}"
        if not path.exists():
            path.write_text("\n".join(self.tokens[:principals]))
        return path

    def _start(self, name: str, command: list[str], port: int, path: str = "/", **environ: str) -> Process:
        environment = {**os.environ, **environ}
        process = Process.start(name, command, self.folder, environment, lambda: status_of(port, path) != 0)
        self._stack.callback(process.stop)
        return process

    def _values(self) -> dict[str, object]:
        user = "user root;" if os.geteuid() == 0 else ""
        return {"FOLDER": self.folder, "USER": user, "ISSUER": self.cognito.issuer, **self.ports}

    def _start_nginx(self) -> None:
        (self.folder / "files").mkdir()
        (self.folder / "files" / "list.json").write_text(json.dumps(page(ITEMS)))
        config = self.folder / "nginx.conf"
        config.write_text(filled("nginx.conf", self._values()))
        process = self._start("nginx", [str(shutil.which("nginx")), "-c", str(config)], self.ports["APP"])
        self.peers["nginx auth_request"] = Peer(self.ports["NGINX"], [process.pid])

    def start_peers(self) -> None:
        """Envoy, the authorizer that it asks, and the article's way."""
        keys = f"{self.cognito.endpoint}/{self.cognito.pool_id}/.well-known/jwks.json"
        with urllib.request.urlopen(keys) as answer:
            (self.folder / "jwks.json").write_text(json.dumps(json.loads(answer.read())))
        authorizer = self._start(
            "authorizer",
            [sys.executable, str(PEERS / "authorizer.py"), str(self.ports["AUTHORIZER"]), self.cerbos,
             str(self.folder / "jwks.json"), self.cognito.issuer],
            self.ports["AUTHORIZER"],
        )  # fmt: skip
        config = self.folder / "envoy.yaml"
        config.write_text(filled("envoy.yaml", self._values()))
        binary = str(Path(sys.executable).parent / "envoy")
        command = [binary, "-c", str(config), "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"]
        envoy = self._start("envoy", command, self.ports["PLAIN"])
        for name, way_in in (("envoy", "PLAIN"), ("envoy jwt_authn", "JWT")):
            self.peers[name] = Peer(self.ports[way_in], [envoy.pid])
        self.peers["envoy ext_authz"] = Peer(self.ports["EXT_AUTHZ"], [envoy.pid, authorizer.pid])
        nginx = self.peers["nginx auth_request"]
        self.peers["nginx auth_request"] = nginx._replace(pids=[*nginx.pids, authorizer.pid])
        port = free_port()
        article = self._start(
            "article",
            [sys.executable, str(PEERS / "article.py"), str(port), self.cerbos, keys, self.cognito.issuer,
             f"http://127.0.0.1:{self.ports['APP']}"],
            port, "/none",
        )  # fmt: skip
        self.peers["article"] = Peer(port, [article.pid])

    def start_yes(self, kind: str) -> None:
        """Envoy, or nginx for `http`, before somebody who says yes to all, by this kind of server."""
        port = free_port()
        command = [sys.executable, str(PEERS / "always_yes.py"), kind, str(port)]
        yes = Process.start("yes", command, self.folder, os.environ, lambda: is_open(port))
        self._stack.callback(yes.stop)
        if kind == "http":
            self._start_asking_nginx("nginx, yes by http", port, [yes.pid])
        else:
            self._start_asking_envoy(f"envoy, yes by {kind}", port, port, [yes.pid])

    def start_asked_by_envoy(self, name: str, more: str = "") -> None:
        """Envoy as `deploy/envoy` has it, before a sidecar of its own."""
        port = free_port()
        process = self.start_sidecar(f"{name} sidecar", more, SIDECAR_EXT_AUTHZ_LISTEN=f"127.0.0.1:{port}")
        self._start_asking_envoy(name, port, self.peers[f"{name} sidecar"].port, [process.pid])

    def start_asked_by_nginx(self, name: str, more: str = "") -> None:
        """nginx as `deploy/nginx` has it, before a sidecar of its own."""
        settings = {"SIDECAR_FORWARD_AUTH": "nginx", "SIDECAR_TRUSTED_PROXIES": "127.0.0.1/32"}
        process = self.start_sidecar(f"{name} sidecar", more, **settings)
        self._start_asking_nginx(name, self.peers[f"{name} sidecar"].port, [process.pid])

    def _start_asking_envoy(self, name: str, asked: int, sidecar: int, pids: list[int]) -> None:
        port = free_port()
        text = (ROOT / "deploy/envoy/ext-authz-grpc.yaml").read_text()
        for there, here in ((8080, sidecar), (8000, port), (3000, self.ports["APP"]), (9002, asked)):
            text = text.replace(f"port_value: {there}}}", f"port_value: {here}}}")
        config = self.folder / f"{name.replace(' ', '-')}.yaml"
        config.write_text(text)
        binary = str(Path(sys.executable).parent / "envoy")
        command = [binary, "-c", str(config), "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"]
        envoy = self._start("envoy", command, port, "/public")
        self.peers[name] = Peer(port, [envoy.pid, *pids])

    def _start_asking_nginx(self, name: str, asked: int, pids: list[int]) -> None:
        port, folder = free_port(), self.folder / name.replace(" ", "-").replace(",", "")
        folder.mkdir(exist_ok=True)
        text = (ROOT / "deploy/nginx/sidecar.conf").read_text()
        places = {"127.0.0.1:8080": f"127.0.0.1:{asked}", "127.0.0.1:3000": f"127.0.0.1:{self.ports['APP']}"}
        for there, here in {**places, "listen 8000;": f"listen 127.0.0.1:{port} backlog=4096;"}.items():
            text = text.replace(there, here)
        (folder / "sidecar.conf").write_text(text)
        (folder / "nginx.conf").write_text(filled("nginx_asking.conf", {**self._values(), "FOLDER": folder}))
        nginx = self._start(
            "nginx", [str(shutil.which("nginx")), "-c", str(folder / "nginx.conf")], port, "/public"
        )  # fmt: skip
        self.peers[name] = Peer(port, [nginx.pid, *pids])

    def start_sidecar(
        self, name: str, more: str = "", routes: str = "", python: str = sys.executable, **settings: str
    ) -> Process:  # fmt: skip
        """A sidecar under this name, with more in its route file, run by `python` with our packages; the CPU that it
        took to be ready is noted."""
        folder = self.folder / name.replace(" ", "-")
        folder.mkdir()
        (folder / "routes.yaml").write_text(ROUTES.format(app=self.ports["APP"], more=more) + routes)
        port, admin = free_port(), free_port()
        environ = {
            "SIDECAR_UPSTREAM": f"http://127.0.0.1:{self.ports['APP']}", "SIDECAR_LISTEN": f"127.0.0.1:{port}",
            "SIDECAR_ADMIN_LISTEN": f"127.0.0.1:{admin}", "SIDECAR_CERBOS": self.cerbos,
            "SIDECAR_DECISION_LOG": str(folder / "decisions.jsonl"), "AWS_REGION": self.cognito.region,
            "AWS_COGNITO_POOL_ID": self.cognito.pool_id, "AWS_COGNITO_CLIENT_ID": self.cognito.client_id,
            "AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER": self.cognito.endpoint, **settings,
        }  # fmt: skip
        command = [python, "-m", "sidecar.cli", "run"]
        if python != sys.executable:
            environ["PYTHONPATH"] = f"{ROOT}:{sysconfig.get_path('purelib')}"
        process = Process.start(
            "sidecar", command, folder, {**os.environ, **environ}, lambda: status_of(admin, "/readyz") == 200
        )
        self.ready[name] = load.cpu([process.pid])
        self._stack.callback(process.stop)
        self.peers[name] = Peer(port, [process.pid])
        return process

    def bare_rate(self, seconds: float) -> float:
        """Checks per second of one Python process by the gRPC library."""
        import subprocess

        command = [sys.executable, str(PEERS / "bare.py"), self.cerbos, str(seconds)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
