"""Several apps behind one sidecar, by host and by path: real requests to a process, and real apps behind it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from sidecar.demo.processes import Process
from tests import guide_commands
from tests.conftest import policies
from tests.faults.fakes import FakeCerbos, allow
from tests.foreign.ways import listens, nginx_file, placed, search_path
from tests.stack import ROOT, Answer, Recorder, Seen, Sidecar, Web, free_port, reply, running_sidecar, wait_for
from tests.tokens import CLIENT, ISSUER, POOL, claims, key_set, mint

GUIDE = (ROOT / "docs/guides/several-apps.md").read_text(encoding="utf-8")

ROUTES = """\
version: 1
upstreams:
  crm: "http://127.0.0.1:{crm}"
  wiki: {{url: "http://127.0.0.1:{wiki}", head_timeout: 400ms}}
  chat: "http://127.0.0.1:{chat}"
  old: "http://127.0.0.1:{old}"
  down: "http://127.0.0.1:{down}"
identity:
  - {{issuer: "{issuer}", jwks_url: "http://127.0.0.1:{keys}/jwks", client_ids: [{client}]}}
  - {{issuer: "{issuer}-acme", jwks_url: "http://127.0.0.1:{keys}/acme", client_ids: [{client}], hosts: [acme.test]}}
  - {{issuer: "{issuer}-globex", jwks_url: "http://127.0.0.1:{keys}/globex", client_ids: [{client}], hosts: ["*.globex.test"]}}
routes:
  - {{path: "/**", hosts: [crm.test], upstream: crm, access: authenticated, methods: [GET, POST]}}
  - {{path: /open, hosts: [crm.test], upstream: crm, access: public}}
  - {{path: /open, hosts: [wiki.test, "*.wiki.test"], upstream: wiki, access: public}}
  - {{path: /ws, hosts: [chat.test], upstream: chat, resource: chat, actions: {{WS: join}}}}
  - {{path: "/down/{{x}}", upstream: down, access: public}}
  - {{path: "/old/{{x}}", upstream: old, access: public}}
  - {{path: /open, access: public}}
  - {{path: /me, hosts: [acme.test, "*.globex.test"], access: authenticated}}
"""


@dataclass
class World:
    sidecar: Sidecar
    apps: dict[str, Recorder]
    routes: str

    def reached(self) -> list[str]:
        """The apps that were asked since, by their names."""
        names = [name for name, app in self.apps.items() for _ in app.seen]
        for app in self.apps.values():
            app.reset()
        return names


def talk(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    apps = {name: Recorder() for name in ("default", "crm", "wiki", "old")}
    keys, cerbos = Web(), FakeCerbos()
    cerbos.check = allow
    for path in ("jwks", "acme", "globex"):
        keys.json(f"/{path}", key_set("k1" if path == "jwks" else path))
    with serve(talk, "127.0.0.1", free_port()) as chat:
        threading.Thread(target=chat.serve_forever, daemon=True).start()
        routes = ROUTES.format(
            crm=apps["crm"].port, wiki=apps["wiki"].port, old=apps["old"].port, chat=chat.socket.getsockname()[1],
            down=free_port(), issuer=ISSUER, keys=keys.port, client=CLIENT,
        )  # fmt: skip
        environ = {"SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}", "SIDECAR_UPSTREAM_CONNECT_TIMEOUT": "5s"}
        folder = tmp_path_factory.mktemp("several")
        with running_sidecar(
            folder, routes, policies(), f"http://127.0.0.1:{apps['default'].port}", environ
        ) as sidecar:
            yield World(sidecar, apps, routes)
    keys.close()
    cerbos.close()
    for app in apps.values():
        app.close()


@pytest.fixture(autouse=True)
def fresh(world: World) -> None:
    world.reached()


def token(**said: object) -> str:
    return mint(claims(time.time(), **said)).decode()


def raw(world: World, data: bytes) -> tuple[int, bytes]:
    """The status and all of the answer to these bytes."""
    with closing(socket.create_connection(("127.0.0.1", world.sidecar.port))) as client:
        client.sendall(data)
        client.settimeout(20)
        answer = b""
        while not re.search(rb"\r\n\r\n", answer):
            answer += client.recv(65536)
        return int(answer.split()[1]), answer


@pytest.mark.parametrize(
    ("host", "path", "app"),
    [
        ("crm.test", "/open", "crm"),
        ("CRM.Test", "/open", "crm"),
        ("crm.test:8443", "/open", "crm"),
        ("wiki.test", "/open", "wiki"),
        ("team.wiki.test", "/open", "wiki"),
        ("chat.test", "/open", "default"),
        ("acme.test", "/old/1", "old"),
    ],
)
def test_the_host_and_the_path_choose_the_app(world: World, host: str, path: str, app: str) -> None:
    assert world.sidecar.get(path, Host=host).status == 200
    seen = world.apps[app].seen[0]
    # what was decided is what is sent
    assert (seen.values("host"), seen.values("x-forwarded-host")) == ([host], [host])
    assert world.reached() == [app]
    line = world.sidecar.decisions()[-1]
    assert (line["host"], line.get("upstream")) == (host.lower(), None if app == "default" else app)


def test_each_app_has_its_routes_and_no_others(world: World) -> None:
    assert world.sidecar.get("/private", Host="wiki.test").code == "route_unmapped"
    assert world.sidecar.get("/private", Host="crm.test").code == "token_missing"
    assert world.reached() == []
    assert world.sidecar.get("/private", token(), Host="crm.test").status == 200
    assert world.reached() == ["crm"]


@pytest.mark.parametrize(
    "host",
    [
        "evil.test", "crm.test.", "crm.test.evil.test", "a.b.wiki.test", "xwiki.test", ".wiki.test", "test", "127.0.0.1",
        "wiki.test.:80", "crm.test:80.", "a..wiki.test",
    ],
)  # fmt: skip
def test_a_host_that_no_route_names_is_421(world: World, host: str) -> None:
    status, answer = raw(world, f"GET /open HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert (status, b"host_not_allowed" in answer or b"request_invalid" in answer) in ((421, True), (400, True))
    # neither has the host that nobody may name a page of ours
    assert raw(world, f"GET /_sidecar/whoami HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())[0] == status
    assert world.reached() == []


@pytest.mark.parametrize(
    "data",
    [
        b"GET http://wiki.test/open HTTP/1.1\r\nHost: crm.test\r\n\r\n",
        b"GET http://crm.test/open HTTP/1.1\r\nHost: crm.test\r\n\r\n",
        b"GET //wiki.test/open HTTP/1.1\r\nHost: crm.test\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: crm.test\r\nHost: wiki.test\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: crm.test\r\nHost: crm.test\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: crm.test, wiki.test\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: crm.test/wiki.test\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: crm.test@wiki.test\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /open HTTP/1.1\r\n\r\n",
    ],
)
def test_what_names_two_hosts_or_none_reaches_no_app(world: World, data: bytes) -> None:
    status, _ = raw(world, data)
    assert status in (400, 401)
    assert world.reached() == []


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "Forwarded", "X-Host", "X-Original-Host"])
def test_nobody_chooses_the_app_by_another_header(world: World, header: str) -> None:
    value = "host=wiki.test" if header == "Forwarded" else "wiki.test"
    assert world.sidecar.get("/open", Host="crm.test", **{header: value}).status == 200
    assert world.apps["crm"].seen[0].values("x-forwarded-host") == ["crm.test"]
    assert world.reached() == ["crm"]


# --- pools by host ---


@pytest.mark.parametrize(
    ("pool", "good"),
    [
        ("acme", {"acme.test", "acme.test:8080"}),
        ("globex", {"eu.globex.test", "us.globex.test:8080"}),
        # the one without hosts
        ("", {"crm.test", "acme.test", "acme.test:8080", "eu.globex.test", "us.globex.test:8080"}),
    ],
)
def test_a_token_of_one_pool_is_nobody_on_anothers_host(world: World, pool: str, good: set[str]) -> None:
    said = {"iss": f"{ISSUER}-{pool}"} if pool else {}
    made = mint(claims(time.time(), **said), pool or "k1").decode()
    for host in ("crm.test", "acme.test", "acme.test:8080", "eu.globex.test", "us.globex.test:8080"):
        got = world.sidecar.get("/me", made, Host=host)
        assert (got.status if got.status == 200 else got.code) == (200 if host in good else "token_invalid"), host
    for host in ("globex.test", "a.b.globex.test", ".globex.test", "acme.test."):
        assert world.sidecar.get("/me", made, Host=host).status == 421


# --- one that is down, or slow ---


def test_one_app_that_is_down_takes_no_other_with_it(world: World) -> None:
    for number in range(6):
        assert world.sidecar.get(f"/down/{number}", Host="chat.test").status == 502
        assert world.sidecar.get("/open", Host="crm.test").status == 200
    assert world.sidecar.get("/down/6", Host="chat.test").code == "upstream_open"
    assert 'sidecar_breaker_open{dep="upstream",name="down"} 1.0' in world.sidecar.admin("/metrics").body.decode()
    assert world.sidecar.metric("sidecar_breaker_open", dep="upstream") == 1
    ready = world.sidecar.admin("/readyz")
    assert (ready.status, b'"upstreams_away": "down"' in ready.body.replace(b'":"', b'": "')) == (200, True)
    assert world.sidecar.get("/open", Host="crm.test").status == 200
    assert "upstreams.down: http://127.0.0.1:" in world.sidecar.log()
    assert world.sidecar.metric("sidecar_upstream_connections", upstream="crm", state="idle") == 1


def held(until: threading.Event, target: str, then: Answer) -> Answer:
    """Answer a target when it may be answered, and others at once."""

    def answer(app: Recorder, connection: socket.socket, seen: Seen) -> None:
        if seen.target == target:
            until.wait(20)
        then(app, connection, seen)

    return answer


def test_each_app_has_its_own_time(world: World) -> None:
    let_go = threading.Event()
    world.apps["wiki"].answer = held(let_go, "/open", reply())
    assert world.sidecar.get("/open", Host="wiki.test").code == "upstream_timeout"
    let_go.set()


# --- WebSockets ---


def test_a_websocket_goes_to_the_app_of_its_host(world: World) -> None:
    def said_at(host: str) -> object:
        sock = socket.create_connection(("127.0.0.1", world.sidecar.port))
        headers = {"Authorization": f"Bearer {token()}"}
        with connect(f"ws://{host}/ws", sock=sock, additional_headers=headers, proxy=None) as client:
            client.send("hello")
            return client.recv(10)

    assert said_at("chat.test") == "hello"
    assert world.sidecar.decisions()[-1]["upstream"] == "chat"
    for host, status in (("wiki.test", 403), ("chat.test.", 421), ("crm.test", 405)):
        with pytest.raises(InvalidStatus) as caught:
            said_at(host)
        assert caught.value.response.status_code == status
    assert world.reached() == []


# --- reloads ---


def test_an_app_that_a_reload_removes_ends_what_it_has_begun(world: World) -> None:
    file, let_go = world.sidecar.folder / "routes.yaml", threading.Event()
    world.apps["old"].answer = held(let_go, "/old/1", reply(200, b"whole"))
    answers: list[bytes] = []
    asking = threading.Thread(target=lambda: answers.append(world.sidecar.get("/old/1", Host="chat.test").body))
    asking.start()
    wait_for(lambda: world.apps["old"].seen, what="the request is at the app")
    without = "\n".join(line for line in world.routes.splitlines() if "old" not in line) + "\n"
    moved = without.replace(
        f'crm: "http://127.0.0.1:{world.apps["crm"].port}"', f'crm: "http://127.0.0.1:{world.apps["wiki"].port}"'
    )
    file.write_text(moved)
    wait_for(lambda: world.sidecar.get("/old/2", token(), Host="chat.test").status == 403, what="the app is gone")
    world.reached()
    # another address under the same name
    assert world.sidecar.get("/open", Host="crm.test").status == 200
    assert world.reached() == ["wiki"]
    let_go.set()
    asking.join(20)
    assert answers == [b"whole"]
    broken = without.replace("upstream: crm", "upstream: crn", 1)
    file.write_text(broken)
    wait_for(lambda: "found 'crn'" in world.sidecar.log(), what="the fault is told")
    assert world.sidecar.get("/open", Host="crm.test").status == 200
    file.write_text(world.routes)
    wait_for(lambda: world.sidecar.get("/old/1", Host="chat.test").status == 200, what="the app is back")
    assert set(world.reached()) == {"wiki", "old"}


# --- the guide ---


def test_the_guides_files_have_no_warning_and_its_question_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    # of two route files the first, whose apps the question leads to
    for name, text in reversed(re.findall(r"<!-- example: (\S+) -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL)):
        (tmp_path / name).write_text(text)
    environ = {"AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT}
    checked = guide_commands.sidecar(tmp_path, "check", environ=environ)
    assert (checked.returncode, "warning:" in checked.stderr + checked.stdout) == (0, False), checked
    (command,) = re.findall(r"^sidecar (explain .+)$", GUIDE, re.MULTILINE)
    explained = guide_commands.sidecar(tmp_path, *shlex.split(command), environ=environ)
    assert explained.stdout.endswith("verdict    FORWARD allowed\n"), explained


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The routes of the guide, whose apps are here."""
    apps = {name: Recorder() for name in ("crm", "wiki", "files")}
    keys, cerbos = Web(), FakeCerbos()
    cerbos.check = allow
    keys.json("/jwks", key_set())
    routes = re.findall(r"<!-- example: routes.yaml -->\n```yaml\n(.*?)```", GUIDE, re.DOTALL)[0]
    for name, app in apps.items():
        routes, count = re.subn(rf"http://{name}:\d+", f"http://127.0.0.1:{app.port}", routes)
        assert count == 1
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks", "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}",
        "SIDECAR_FORWARD_AUTH": "nginx", "SIDECAR_TRUSTED_PROXIES": "127.0.0.1/32",
    }  # fmt: skip
    # no SIDECAR_UPSTREAM: each route names its app
    with running_sidecar(tmp_path_factory.mktemp("guide"), routes, policies(), "", environ) as sidecar:
        yield World(sidecar, apps, routes)
    keys.close()
    cerbos.close()
    for app in apps.values():
        app.close()


@pytest.mark.parametrize(
    ("host", "method", "path", "outcome"),
    [
        ("crm.example.com", "GET", "/contacts?page=2", "crm"),
        ("crm.example.com", "DELETE", "/contacts/7", "crm"),
        ("crm.example.com", "GET", "/contacts/seven", "segment_invalid"),
        ("crm.example.com", "GET", "/pages/home", "route_unmapped"),
        ("crm.example.com", "PUT", "/files/a", "files"),
        ("wiki.example.com", "GET", "/pages/home", "wiki"),
        ("wiki.example.com", "GET", "/assets/a/b.css", "wiki"),
        ("wiki.example.com", "GET", "/files/a", "files"),
        ("wiki.example.com", "GET", "/contacts", "route_unmapped"),
        ("files.example.com", "GET", "/files/a", "host_not_allowed"),
        ("wiki.example.com.", "GET", "/files/a", "host_not_allowed"),
    ],
)
def test_the_guides_routes_do_what_it_says(guided: World, host: str, method: str, path: str, outcome: str) -> None:
    guided.reached()
    got = guided.sidecar.request(method, path, token(), Host=host)
    assert (got.code if got.status >= 400 else guided.reached()[0]) == outcome
    assert guided.reached() == []
    line = guided.sidecar.decisions()[-1]
    if outcome in guided.apps:
        assert line["upstream"] == outcome
        assert line["route"].startswith("/files" if outcome == "files" else host)


@pytest.mark.parametrize(
    ("host", "uri", "status"),
    [
        ("crm.example.com", "/contacts", 200),
        ("crm.example.com:8443", "/contacts", 200),
        ("wiki.example.com", "/contacts", 403),
        ("wiki.example.com", "/pages/home", 200),
        ("files.example.com", "/files/a", 421),
        ("crm.example.com, wiki.example.com", "/pages/home", 400),
    ],
)
def test_another_proxys_question_is_decided_by_the_host_of_what_it_holds(
    guided: World, host: str, uri: str, status: int
) -> None:
    guided.reached()
    got = guided.sidecar.get(
        "/_sidecar/authorize", token(), Host=host, X_Original_Method="GET", X_Original_URI=uri,
        X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https",
    )  # fmt: skip
    assert got.status == status
    assert guided.reached() == []


def test_nginx_asks_about_the_host_that_it_holds(guided: World, tmp_path: Path) -> None:
    """A real one, with deploy/nginx: it forwards to one app, and the sidecar decides by the host."""
    program = shutil.which("nginx", path=search_path())
    if program is None:
        pytest.skip("nginx is not installed: apt-get install nginx")
    port, app = free_port(), guided.apps["crm"]
    text = (ROOT / "deploy/nginx/sidecar.conf").read_text(encoding="utf-8")
    places = {
        "127.0.0.1:3000": f"127.0.0.1:{app.port}", "127.0.0.1:8080": f"127.0.0.1:{guided.sidecar.port}",
        "listen 8000;": f"listen 127.0.0.1:{port};",
    }  # fmt: skip
    (tmp_path / "sidecar.conf").write_text(placed(text, places))
    command = [program, "-c", str(nginx_file(tmp_path, f"    include {tmp_path}/sidecar.conf;"))]
    asked = {
        ("crm.example.com", "/contacts"): 200, ("wiki.example.com", "/contacts"): 403, ("CRM.example.com:80", "/contacts"): 200,
        ("wiki.example.com", "/pages/home"): 200, ("crm.example.com", "/pages/home"): 403, ("files.example.com", "/files/a"): 421,
    }  # fmt: skip
    guided.reached()
    # a client whose address is not that of a trusted proxy
    guest = httpx.HTTPTransport(local_address="127.0.0.2")
    with (
        Process.start("nginx", command, tmp_path, os.environ, lambda: listens(port)),
        httpx.Client(transport=guest, trust_env=False) as client,
    ):
        for (host, path), status in asked.items():
            headers = {"Host": host, "Authorization": f"Bearer {token()}", "X-Forwarded-Host": "wiki.example.com"}
            got = client.get(f"http://127.0.0.1:{port}{path}", headers=headers)
            assert got.status_code == status, (host, path, got.text)
            assert [seen.values("host") for seen in app.seen] == ([[host]] if status == 200 else [])
            app.reset()


def test_the_host_that_a_trusted_proxy_tells_chooses_the_app(guided: World) -> None:
    guided.reached()
    told = {"Host": "sidecar.internal", "X-Forwarded-Host": "wiki.example.com"}
    assert guided.sidecar.get("/files/a", token(), **told).status == 200
    assert guided.sidecar.get("/pages/home", token(), **told).status == 200
    assert guided.sidecar.get("/contacts", token(), **told).code == "route_unmapped"
    # what was decided is what the app is told
    assert guided.apps["wiki"].seen[0].values("x-forwarded-host") == ["wiki.example.com"]
    assert guided.reached() == ["wiki", "files"]
    assert guided.sidecar.get("/files/a", token(), Host="sidecar.internal").code == "host_not_allowed"


def test_who_asks_for_permissions_asks_about_their_own_host(guided: World) -> None:
    asked = b'[{"method": "GET", "path": "/contacts"}, {"method": "GET", "path": "/pages/home"}]'
    for host, allowed in (("crm.example.com", [True, False]), ("wiki.example.com", [False, True])):
        got = guided.sidecar.request(
            "POST", "/_sidecar/permissions", token(), asked, Host=host, Content_Type="application/json"
        )
        assert [one["allowed"] for one in json.loads(got.body)] == allowed
