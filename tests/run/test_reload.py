"""Routes are reloaded whole or not at all, and no request is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from sidecar.api import LookupRequest
from sidecar.config.settings import understand
from sidecar.gate.lookup import attributes_from, call_for
from sidecar.gate.verdict import Destination
from sidecar.run import reload
from sidecar.run.deciding import deciding
from sidecar.run.tasks import Tasks
from sidecar.run.upstreams import make_named, upstream
from tests.conftest import Stack, policies
from tests.fakes import Web, json_answer, until
from tests.gate.test_hook import MATERIAL
from tests.net.test_app_reader import warrant
from tests.stack import Sidecar, running_sidecar, wait_for
from tests.tokens import CLIENT, POOL


def upstream_of(stack: Stack) -> str:
    return f"http://127.0.0.1:{stack.upstream.port}"


@pytest.fixture
def own(stack: Stack, tmp_path: Path) -> contextlib.AbstractContextManager[Sidecar]:
    return running_sidecar(tmp_path, stack.routes, policies(), upstream_of(stack), stack.environ, shared=True)


def test_routes_reload_in_place_and_a_broken_file_leaves_the_old_ones_in_force(
    stack: Stack, own: contextlib.AbstractContextManager[Sidecar]
) -> None:
    with own as sidecar:
        assert sidecar.get("/extra").code == "route_unmapped"
        (sidecar.folder / "routes.yaml").write_text(stack.routes + "  - {path: /extra, access: public}\n")
        wait_for(lambda: sidecar.get("/extra").status == 200, what="the new route")
        (sidecar.folder / "routes.yaml").write_text("version: 1\nroutes: nonsense\n")
        wait_for(lambda: "not reloaded" in sidecar.log(), what="the fault is told")
        assert "routes.yaml:2:9" in sidecar.log()
        assert sidecar.get("/extra").status == 200
        (sidecar.folder / "routes.yaml").write_text(stack.routes)
        (sidecar.folder / "routes.yaml").write_text(stack.routes.replace("routes:", "draft: true\nroutes:", 1))
        wait_for(lambda: "found `draft: true` of the whole file" in sidecar.log(), what="the draft is told")
        assert sidecar.get("/extra").status == 200
        (sidecar.folder / "routes.yaml").write_text(stack.routes + "  - {path: /extra, access: public, draft: true}\n")
        wait_for(lambda: sidecar.get("/extra").status == 403, what="the route is a draft")
        (sidecar.folder / "routes.yaml").write_text(stack.routes)
        os.kill(sidecar.pid, signal.SIGHUP)
        assert sidecar.get("/contacts/1", stack.tokens["alice"]).status == 200


def test_not_a_request_is_lost_while_routes_reload(
    stack: Stack, own: contextlib.AbstractContextManager[Sidecar]
) -> None:
    with own as sidecar:
        statuses: set[int] = set()
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                statuses.add(sidecar.get("/contacts/1", stack.tokens["alice"]).status)

        workers = [threading.Thread(target=ask) for _ in range(4)]
        for worker in workers:
            worker.start()
        for _ in range(20):
            os.kill(sidecar.pid, signal.SIGHUP)
            time.sleep(0.05)
        stop.set()
        for worker in workers:
            worker.join()
        assert statuses == {200}


APPS = """\
version: 1
upstreams: {{crm: "{origin}"{more}}}
lookups: {{deal: {{upstream: "/api/deals/{{id}}", attributes: {{owner: owner}}}}}}
routes:
  - {{path: "/deals/{{id}}", upstream: crm, resource: deal, id: "{{path.id}}", query: [], lookup: deal, actions: {{GET: read}}}}
{routes}"""


async def test_an_app_that_a_reload_removes_keeps_no_connection_for_lookups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "RETIRED_FOR", 0.0)
    file = tmp_path / "routes.yaml"
    async with Web(json_answer({"owner": "alice"})) as web:
        old = Destination("old", web.origin)
        both = APPS.format(
            origin=web.origin, more=f', old: "{web.origin}"', routes="  - {path: /old, upstream: old, access: public}\n"
        )
        file.write_text(both)
        environ = {
            "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT, "SIDECAR_LOGIN": "off",
            "SIDECAR_ROUTES": str(file), "SIDECAR_CERBOS": "127.0.0.1:1", "SIDECAR_CERBOS_TLS": "plaintext",
        }  # fmt: skip
        made = deciding(understand(environ, {}), {})
        apps, tasks = upstream(made.settings), Tasks()
        make_named(apps, made.configured.routes)()
        again = reload.Reload(made, made.gate(), apps, reload.stamp_of(str(file)), tasks)
        for each in made.configured.routes.table.upstreams:
            assert (await made.app_reader.get(warrant(upstream=each), max_body=100, deadline=20)).status == 200
        assert web.open == 2
        file.write_text(APPS.format(origin=web.origin, more="", routes=""))
        await again.reload_routes()
        assert again.fault == ""
        assert old not in made.configured.routes.table.upstreams
        await until(lambda: web.open == 1)
        await tasks.aclose()
        await apps.aclose()
        await made.aclose()


async def test_a_reload_tells_all_that_is_wrong_at_once(tmp_path: Path) -> None:
    """But for what is wrong with a function, since nothing is imported of a file that has a fault."""
    file = tmp_path / "routes.yaml"
    file.write_text("version: 1\nroutes: [{path: /x, access: public}]\n")
    environ = {
        "SIDECAR_UPSTREAM": "http://127.0.0.1:1", "SIDECAR_ROUTES": str(file), "SIDECAR_CERBOS": "127.0.0.1:1",
        "SIDECAR_CERBOS_TLS": "plaintext", "SIDECAR_LISTEN": "127.0.0.1:1",
    }  # fmt: skip
    made = deciding(understand(environ, {}), {})
    apps, tasks = upstream(made.settings), Tasks()
    again = reload.Reload(made, made.gate(), apps, reload.stamp_of(str(file)), tasks)
    lookups = (
        "version: 1\nlookups:\n  f: {function: 'nowhere:find', attributes: {a: a}}\n"
        "  s: {upstream: '/itself/{id}', attributes: {a: a}}\n"
    )
    file.write_text(lookups + "routes: [{path: /x, access: authenticated}]\n")
    await again.reload_routes()
    assert [line.partition(": ")[0] for line in again.fault.splitlines()] == [f"{file}:5:17", f"{file}:4:17"]
    file.write_text(lookups + "routes: [{path: /x, access: public}]\n")
    await again.reload_routes()
    assert [line.partition(": ")[0] for line in again.fault.splitlines()] == [f"{file}:3:17", f"{file}:4:17"]
    await tasks.aclose()
    await apps.aclose()
    await made.aclose()


OPENED = """\
version: 1
lookups:
  stays: {{url: "{origin}/{{id}}", attributes: {{owner: owner}}, timeout: 20s}}
{more}routes: [{{path: /x, access: public}}]
"""
GOES = """\
  hook: {{url: "{origin}/{{id}}", attributes: {{owner: owner}}, timeout: 20s}}
  called: {{function: "tests.run.test_reload:owner", attributes: {{owner: owner}}, timeout: 20s}}
  row: {{sql: "select 'alice' as owner where :id = '7'", database: DOCS_URL, attributes: {{owner: owner}}, timeout: 20s}}
"""


def owner(request: LookupRequest) -> dict[str, str]:
    """A function of a lookup."""
    return {"owner": "alice"}


def opened(database: Path) -> tuple[int, int]:
    """The threads of the function, and the connections to the database, each of which has a file open."""
    threads = sum(thread.name == "lookup called" for thread in threading.enumerate())
    return threads, sum(os.path.realpath(each) == str(database) for each in Path("/proc/self/fd").iterdir())


async def test_a_lookup_that_a_reload_removes_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reload, "RETIRED_FOR", 0.0)
    file, database = tmp_path / "routes.yaml", tmp_path / "docs.db"
    sqlite3.connect(database).execute("create table docs (id text)").connection.close()
    async with Web(json_answer({"owner": "alice"})) as gone, Web(json_answer({"owner": "alice"})) as web:
        file.write_text(OPENED.format(origin=web.origin, more=GOES.format(origin=gone.origin)))
        environ = {
            "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT, "SIDECAR_LOGIN": "off",
            "SIDECAR_ROUTES": str(file), "SIDECAR_CERBOS": "127.0.0.1:1", "SIDECAR_CERBOS_TLS": "plaintext",
            "SIDECAR_UPSTREAM": web.origin, "DOCS_URL": f"sqlite:///{database}",
        }  # fmt: skip
        made = deciding(understand(environ, {}), environ)
        apps, tasks = upstream(made.settings), Tasks()
        again = reload.Reload(made, made.gate(), apps, reload.stamp_of(str(file)), tasks)
        for lookup in made.configured.routes.lookups.values():
            call = call_for(lookup, "doc", "7", MATERIAL)
            assert attributes_from(call, await made.hooks.ask(call)) == {"owner": "alice"}
        assert (web.open, gone.open, *opened(database)) == (1, 1, 1, 1)
        assert set(made.hooks.breakers()) == {"stays", "hook", "called", "row"}
        file.write_text(OPENED.format(origin=web.origin, more=""))
        await again.reload_routes()
        assert again.fault == ""
        await until(lambda: (web.open, gone.open, *opened(database)) == (1, 0, 0, 0))
        assert set(made.hooks.breakers()) == set(made.hooks.shares) == {"stays"}
        await tasks.aclose()
        await apps.aclose()
        await made.aclose()
