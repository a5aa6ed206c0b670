"""The guide database.md as it stands: its grants, routes, policy and commands, at a real PostgreSQL, before the real Cerbos."""

from __future__ import annotations

import asyncio
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from sidecar.config.routes.file import read_routes
from sidecar.gate.lookup import Call
from sidecar.gate.statement import Statement
from sidecar.gate.verdict import Forward, Refuse
from sidecar.lookups.asking import Lookups
from sidecar.lookups.sql import SqlSource
from tests import guide_commands
from tests.databases import OWNER, PASSWORD, Server, postgresql
from tests.gate.test_hook import MATERIAL
from tests.stack import ROOT, Got, Recorder, Sidecar, Web, binary, running_sidecar, wait_for
from tests.test_item_lookups import Asked
from tests.tokens import CLIENT, POOL, claims, key_set, mint

pytestmark = pytest.mark.process
PAGE = (ROOT / "docs/guides/database.md").read_text(encoding="utf-8")


def example(name: str, at: int = 0) -> str:
    return str(re.findall(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)[at])


async def run(server: Server, sql: str) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=server.port, user=OWNER, password=PASSWORD, database="postgres"
    )
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


@dataclass
class World:
    sidecar: Sidecar
    upstream: Recorder
    folder: Path
    environ: dict[str, str]

    def ask(self, method: str, target: str, name: str = "alice") -> Got:
        return self.sidecar.request(method, target, mint(claims(time.time(), sub=name)).decode())

    def command(self, word: str) -> tuple[int, str]:
        (line,) = re.findall(rf"^sidecar {word} .+$", PAGE, re.MULTILINE)
        environ = {**self.environ, "SIDECAR_POLICIES": "policies", "SIDECAR_CERBOS_BINARY": str(binary())}
        done = guide_commands.sidecar(self.folder, *shlex.split(line)[1:], environ=environ)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("database-guide")
    (folder / "policies").mkdir()
    (folder / "policies/invoice.yaml").write_text(example("example: policies/invoice.yaml"))
    (folder / "routes.yaml").write_text(example("example: routes.yaml"))
    grants, url = re.findall(r"<!-- run by: \S+ -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    with postgresql() as server:
        # the guide's table has numbers for ids
        asyncio.run(run(server, "alter table invoices drop column id; alter table invoices rename column number to id"))
        asyncio.run(run(server, "alter table invoices add column note text"))
        asyncio.run(run(server, grants))
        where = url.split("=", 1)[1].strip().strip("'").replace("db:5432/app", f"127.0.0.1:{server.port}/postgres")
        keys, upstream = Web(), Recorder()
        keys.json("/jwks", key_set())
        environ = {
            "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT, "INVOICES_URL": where,
            "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks", "SIDECAR_UPSTREAM": f"http://127.0.0.1:{upstream.port}",
        }  # fmt: skip
        routes = (folder / "routes.yaml").read_text()
        with running_sidecar(
            folder / "run", routes, folder / "policies", environ["SIDECAR_UPSTREAM"], environ
        ) as sidecar:
            yield World(sidecar, upstream, folder, environ)
            assert "chosen-by-you" not in sidecar.log()
            assert "chosen-by-you" not in sidecar.admin("/config").body.decode()
        for part in (keys, upstream):
            part.close()


def test_the_row_decides(world: World) -> None:
    wait_for(lambda: world.ask("GET", "/invoices/7").status == 200, 10, "the first connection")
    for method, number, status in (("DELETE", 7, 200), ("GET", 8, 404), ("DELETE", 8, 404), ("GET", 70, 404)):
        got = world.ask(method, f"/invoices/{number}")
        assert got.status == status, (method, number)
        if status == 404:
            assert got.code == "resource_hidden"
    assert [world.ask(method, "/invoices/8", "bob").status for method in ("GET", "DELETE")] == [200, 404]
    assert world.ask("GET", "/invoices/007").code == "segment_invalid"


def test_it_is_tried_before_the_first_request(world: World) -> None:
    code, said = world.command("check")
    assert code == 0, said
    shown = "lookups.invoice.sql: INVOICES_URL: select id, owner_id, status from invoices where id = :id (:id int): it runs, and has no such row"
    assert shown in said
    code, explained = world.command("explain")
    assert code == 0, explained
    assert (
        "lookup     invoice: INVOICES_URL: select id, owner_id, status from invoices where id = :id (:id int)"
        in explained
    )
    assert "chosen-by-you" not in said + explained


def test_the_user_can_read_nothing_else(world: World) -> None:
    routes = (world.folder / "routes.yaml").read_text()
    (world.folder / "routes.yaml").write_text(routes.replace("owner_id, status from", "owner_id, status, note from"))
    try:
        code, said = world.command("check")
    finally:
        (world.folder / "routes.yaml").write_text(routes)
    assert code == 1
    assert "found no answer (database_privilege: 42501 InsufficientPrivilegeError)" in said


async def test_many_ids_are_one_statement(world: World) -> None:
    lookup = read_routes(example("example: routes.yaml", 1), "routes.yaml", world.environ).lookups["invoice"]
    lookups = Lookups({Statement: SqlSource(1)}, now=time.monotonic)
    calls = [Call(lookup, lookup.inquiry.fill("invoice", one, MATERIAL), one) for one in ("8", "70", "7")]
    try:
        replies = await lookups.ask_all(calls)
    finally:
        await lookups.aclose()
    assert [reply.document and reply.document["owner_id"] for reply in replies] == ["bob", None, "alice"]


async def test_a_list_is_one_statement(world: World) -> None:
    routes = read_routes(example("example: routes.yaml", 1), "routes.yaml", world.environ)
    asked = Asked(routes, Lookups({Statement: SqlSource(1)}, now=time.monotonic), "alice")
    try:
        assert await asked.kept("/invoices", [{"id": one} for one in (8, 70, 7, 7)]) == ["7", "7"]
        assert asked.asked().keys() == {"7", "8"}
        assert isinstance(await asked.decide("/invoices/7"), Forward)
        assert isinstance(await asked.decide("/invoices/8"), Refuse)
        refused = await asked.get("/invoices", [{"id": 7}, {"id": "007"}])
        assert isinstance(refused, Refuse)
        assert refused.code == "items_unreadable"
    finally:
        await asked.lookups.aclose()
