"""Real apps: what import drafts of their specs and logs routes each of their operations to the right kind, id and action."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
import yaml

from sidecar.cli import main
from sidecar.config.routes.file import read_routes
from sidecar.demo.processes import Process, status_of
from sidecar.gate.routing import path_values
from sidecar.imports.targets import read_path
from tests.foreign.ways import listens, nginx_file, systems
from tests.stack import ROOT, free_port, wait_for

pytestmark = pytest.mark.process
NGINX = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")


class Asked(NamedTuple):
    """One operation of an app, and the route that it must have: kind, id and action."""

    request: str
    kind: str
    id: str
    action: str


def table(text: str) -> list[Asked]:
    """Lines of `GET /a/7  kind id action`; `-` where a resource has no id."""
    rows = [line.split() for line in text.strip().splitlines()]
    return [Asked(f"{method} {path}", *rest) for method, path, *rest in rows]


def drafted(folder: Path, *files: str) -> str:
    """The draft of some files with every `draft: true` taken out, as a person would in the end."""
    assert (
        main(["import", *(str(folder / name) for name in files), "--out", str(folder / "routes.yaml"), "--force"]) == 0
    )
    return re.sub(r"^ *draft: true\n", "", (folder / "routes.yaml").read_text(), flags=re.MULTILINE)


def found(text: str, request: str) -> Asked | None:
    """What the draft asks about a request."""
    method, path = request.split()
    segments, _ = read_path(path.encode())
    route = read_routes(text, "routes.yaml", {}).table.find(segments)
    entries = {one["path"]: one for one in yaml.safe_load(text)["routes"]}
    entry = entries[route.name] if route is not None else {"actions": {}}
    if route is None or method not in entry["actions"]:
        return None
    identity = re.sub(r"\{path\.(\w+)\}", lambda name: path_values(route, segments)[name[1]], entry.get("id", "-"))
    return Asked(request, entry["resource"], identity, entry["actions"][method])


def check(text: str, expected: list[Asked]) -> None:
    assert [found(text, one.request) for one in expected] == expected


def spec_of(name: str, needs: str, folder: Path) -> str:
    """The spec that an app's own generator makes."""
    if find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed (make setup)")
    (folder / f"{name}.json").write_text(_told_by(name))
    return f"{name}.json"


@functools.cache
def _told_by(name: str) -> str:
    command = [sys.executable, "-W", "ignore", "-m", f"tests.imports.witnesses.{name}", "spec"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


FASTAPI = """
GET    /contacts               contact -   list
POST   /contacts               contact -   create
GET    /contacts/7             contact 7   read
PUT    /contacts/7             contact 7   update
DELETE /contacts/7             contact 7   delete
POST   /contacts/7/archive     contact 7   archive
GET    /contacts/7/notes       note    -   list
GET    /contacts/7/notes/3     note    3   read
GET    /users/alice            user    alice read
GET    /healthz                healthz -   read
"""


def test_fastapi_by_its_spec(tmp_path: Path) -> None:
    text = drafted(tmp_path, spec_of("fastapi_app", "fastapi", tmp_path))
    # the server's path is before each until a log tells otherwise
    check(text, [one._replace(request=one.request.replace(" /", " /crm/")) for one in table(FASTAPI)])


def test_django_rest_by_its_spec(tmp_path: Path) -> None:
    text = drafted(tmp_path, spec_of("drf_app", "drf_spectacular", tmp_path))
    expected = """
    GET    /api/v1/invoices/           invoice        -  list
    POST   /api/v1/invoices/           invoice        -  create
    GET    /api/v1/invoices/7/         invoice        7  read
    PUT    /api/v1/invoices/7/         invoice        7  update
    PATCH  /api/v1/invoices/7/         invoice        7  update
    DELETE /api/v1/invoices/7/         invoice        7  delete
    POST   /api/v1/invoices/7/send/    invoice        7  send
    GET    /api/v1/invoices/overdue/   invoice        -  overdue
    GET    /api/v1/purchase-orders/    purchase_order -  list
    GET    /api/v1/purchase-orders/7/  purchase_order 7  read
    """
    check(text, table(expected))


def test_flask_smorest_by_its_spec(tmp_path: Path) -> None:
    text = drafted(tmp_path, spec_of("smorest_app", "flask_smorest", tmp_path))
    uuid = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    expected = f"""
    GET    /pets/                        pet -  list
    POST   /pets/                        pet -  create
    GET    /pets/7                       pet 7  read
    PUT    /pets/7                       pet 7  update
    DELETE /pets/7                       pet 7  delete
    POST   /pets/7/adopt                 pet 7  adopt
    GET    /pets/7/vaccinations/{uuid}   vaccination {uuid} read
    """
    check(text, table(expected))


class Logged(NamedTuple):
    """Apps behind one real nginx, which logs each to a file of its name."""

    folder: Path
    ports: dict[str, int]

    def send(self, app: str, *requests: str) -> list[int]:
        """Send requests through nginx, and wait for the line of the last one, which nginx writes after its answer;
        returns their statuses."""
        lines = self.lines(app, requests[-1])
        url = f"http://127.0.0.1:{self.ports[app]}"
        with httpx.Client(
            base_url=url, headers={"Cookie": "session=marked", "Authorization": "Bearer marked"}
        ) as client:
            sent = [
                client.request(*one.split(), json=None if one[0] in "GD" else {"title": "marked"}) for one in requests
            ]
        self.wait_for(app, requests[-1], lines + requests.count(requests[-1]))
        return [answer.status_code for answer in sent]

    def lines(self, app: str, request: str) -> int:
        """Count the lines that the log of an app has of a request."""
        return (self.folder / f"{app}.access").read_text().count(f'"{request} HTTP/1.1"')

    def wait_for(self, app: str, request: str, count: int) -> None:
        """Return when the log of an app has so many lines of a request."""
        wait_for(lambda: self.lines(app, request) >= count, what=f"{count} lines of {request}")


SERVER = """
server {{
    listen 127.0.0.1:{port};
    access_log {folder}/{name}.access combined;
    location / {{
        proxy_pass http://127.0.0.1:{app};
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $http_connection;
    }}
}}
"""


def answers(port: int) -> bool:
    return status_of(port, "/") in (200, 404)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Logged]:
    if NGINX is None:
        pytest.skip("nginx is not installed (apt-get install nginx)")
    folder = tmp_path_factory.mktemp("logged")
    with closing(sqlite3.connect(folder / "data.db")) as database:
        database.execute("create table notes (id integer primary key, owner text)")
        database.executemany("insert into notes values (?, ?)", [(7, "alice"), (8, "bob")])
        database.commit()
    (folder / "db.json").write_text(
        json.dumps({"articles": [{"id": n, "title": "a"} for n in (1, 2)], "comments": [{"id": 1, "articleId": 1}]})
    )
    script = ROOT / "node_modules/json-server/lib/cli/bin.js"
    apps = {"datasette": free_port(), "json_server": free_port(), "fastapi": free_port()}
    commands = {
        "datasette": [sys.executable, "-m", "datasette", "serve", "data.db", "--port", str(apps["datasette"])],
        "json_server": [
            str(shutil.which("node")),
            str(script),
            "--port",
            str(apps["json_server"]),
            "--quiet",
            "db.json",
        ],
        "fastapi": [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.imports.witnesses.fastapi_app",
            "serve",
            str(apps["fastapi"]),
        ],
    }
    if find_spec("fastapi") is None:
        del commands["fastapi"], apps["fastapi"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:
        for name, command in commands.items():
            ready = Process.start(name, command, folder, environ, partial(answers, apps[name]))
            stack.enter_context(ready)
        ports = {name: free_port() for name in apps}
        servers = [SERVER.format(port=ports[name], folder=folder, name=name, app=apps[name]) for name in apps]
        command = [systems("nginx"), "-c", str(nginx_file(folder, "\n".join(servers)))]
        stack.enter_context(
            Process.start("nginx", command, folder, environ, lambda: all(map(listens, ports.values())))
        )  # fmt: skip
        yield Logged(folder, ports)


def test_datasette_by_its_log(logged: Logged) -> None:
    """Datasette has no spec: a crawl of it tells. The names of its tables are fixed where rows are below them."""
    requests = [
        "GET /", "GET /data", "GET /data/notes", "GET /data/notes.json?_sort=id", "GET /data/notes/7", "GET /data/notes/8",
        "GET /data/notes/7.json", "GET /-/versions.json", "GET /-/static/app.css", "GET /data/secretmarked", "GET /data/notes/99",
    ]  # fmt: skip
    statuses = logged.send("datasette", *requests)
    assert statuses == [200] * 9 + [404] * 2
    text = drafted(logged.folder, "datasette.access")
    assert "marked" not in text
    expected = """
    GET /data               data    -  read
    GET /data/notes         note    -  list
    GET /data/notes.json    note    -  list
    GET /data/notes/7       note    7  read
    GET /data/notes/7.json  note    7  read
    GET /-/versions.json    version -  list
    GET /-/static/app.css   static  -  read
    GET /                   page    -  read
    """
    check(text, table(expected))
    assert "query: [_sort]" in text


def test_json_server_by_its_log(logged: Logged) -> None:
    requests = [
        "GET /articles", "GET /articles?_page=1&_limit=2&title=marked", "GET /articles/1", "GET /articles/2", "GET /articles/1/comments",
        "POST /articles", "PUT /articles/1", "PATCH /articles/2", "GET /comments/1", "GET /comments", "GET /db", "GET /db", "GET /marked",
    ]  # fmt: skip
    statuses = logged.send("json_server", *requests)
    assert statuses == [200] * 5 + [201] + [200] * 6 + [404]
    assert logged.send("json_server", "DELETE /comments/1") == [200]
    text = drafted(logged.folder, "json_server.access")
    assert "marked" not in text
    expected = """
    GET    /articles             article  -  list
    POST   /articles             article  -  create
    GET    /articles/1           article  1  read
    PUT    /articles/1           article  1  update
    PATCH  /articles/1           article  1  update
    GET    /articles/1/comments  comment  -  list
    GET    /comments/1           comment  1  read
    DELETE /comments/1           comment  1  delete
    GET    /comments             comment  -  list
    GET    /db                   db       -  read
    """
    check(text, table(expected))
    assert "query: [_limit, _page, title]" in text


def test_fastapi_by_its_spec_and_its_log(logged: Logged, capsys: pytest.CaptureFixture[str]) -> None:
    """The log tells what the spec leaves out: the prefix that no request has, the mount, and paths of several segments."""
    spec = spec_of("fastapi_app", "fastapi", logged.folder)
    requests = [
        *(one.request for one in table(FASTAPI)),
        "GET /users/me",
        "GET /files/a/b",
        "GET /files/a/c",
        "GET /admin/jobs/7",
        "GET /contacts/+7",
    ]
    assert set(logged.send("fastapi", *requests)) == {200, 201, 204}
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
    }
    with (
        httpx.Client() as client,
        client.stream("GET", f"http://127.0.0.1:{logged.ports['fastapi']}/ws", headers=upgrade) as answer,
    ):
        assert answer.status_code == 101
    logged.wait_for("fastapi", "GET /ws", 1)
    text = drafted(logged.folder, spec, "fastapi.access")
    check(text, [*table(FASTAPI), *table("GET /admin/jobs/7 job 7 read\nWS /ws ws - connect")])
    told = capsys.readouterr().out
    assert "has the path /crm, which 0 requests had" in told
    assert "GET /users/{name} stands before /users/me" in told
    assert "/files/{path} of the spec: 2 requests with further segments behind it" in told
    assert "1 request that the app answered well had a number or UUID in another spelling" in told
