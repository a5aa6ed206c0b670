"""Faults of a database: the status, the code, nothing upstream, a log line and a count, and never a word of its URL."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.databases import PASSWORD, QUOTED, ROWS, Server, postgresql
from tests.faults import fakes
from tests.faults.fakes import FakeCerbos, Scripted, answers
from tests.faults.test_faults import World, assert_refused, environment, token
from tests.paused import paused
from tests.stack import ROOT, Recorder, Web, free_port, running_sidecar, wait_for
from tests.tokens import key_set

LOOKUP = (
    '{{sql: "{sql}", database: {variable}, batch: {batch}, attributes: {{owner: owner_id}}, echo: id, timeout: 300ms}}'
)
BY_ID = "select id, owner_id from invoices where id = :id"
SLOW = (
    "with recursive n(x) as (select 1 union all select x + 1 from n where x < 100000000) "
    "select id, owner_id, (select count(*) from n) as c from invoices where id = :id"
)
STATEMENTS = {
    "file": (BY_ID, "FILE_URL"), "slow": (SLOW, "FILE_URL"),
    "gone": ("select id, owner_id from gone where id = :id", "FILE_URL"),
    "two": ("select id, owner_id from invoices where :id <> ''", "FILE_URL"),
    "blob": ("select id, x'00' as owner_id from invoices where id = :id", "FILE_URL"),
    "number": ("select id, number as owner_id, 9007199254740993 as n from invoices where id = :id", "FILE_URL"),
    "other": ("select '8' as id, owner_id from invoices where id = :id", "FILE_URL"),
    "empty": ("select id, null as owner_id from invoices where id = :id", "FILE_URL"),
    "many": ("select id, owner_id from invoices where id in :ids", "FILE_URL"),
    "unasked": ("select '8' as id, owner_id from invoices where id in :ids", "FILE_URL"),
    "doubles": ("select a.id, b.owner_id from invoices a, invoices b where a.id in :ids", "FILE_URL"),
    "nameless": ("select owner_id from invoices where id in :ids", "FILE_URL"),
    "server": (BY_ID, "SERVER_URL"), "secret": (BY_ID.replace("invoices", "secrets"), "SERVER_URL"),
    "asleep": (BY_ID.replace("owner_id", "owner_id, pg_sleep(5)::text as s"), "SERVER_URL"),
    "wrong": (BY_ID, "WRONG_URL"), "down": (BY_ID, "DOWN_URL"),
}  # fmt: skip


@dataclass
class Databases(World):
    """One sidecar, and its databases beside it."""

    file: Path
    server: Server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    folder = tmp_path_factory.mktemp("sql-faults")
    with ExitStack() as stack:
        server = stack.enter_context(postgresql())
        keys, cerbos, upstream, hook = Web(), FakeCerbos(), Recorder(), Scripted(answers(b""))
        for part in (keys, cerbos, upstream, hook):
            stack.callback(part.close)
        keys.json("/jwks", key_set())
        file = folder / "app.db"
        made = sqlite3.connect(file)
        made.executescript(ROWS)
        made.close()
        environ = {
            **environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}", "FILE_URL": f"sqlite:///{file}",
            "SERVER_URL": server.url(), "WRONG_URL": server.url(password="wr0ng-word"),
            "DOWN_URL": f"mysql://reader:{QUOTED}@127.0.0.1:{free_port()}/app", "SIDECAR_SQL_CONNECTIONS": "2",
        }  # fmt: skip
        lookups = "".join(
            f"  {name}: {LOOKUP.format(sql=sql, variable=variable, batch=str(':ids' in sql).lower())}\n"
            for name, (sql, variable) in STATEMENTS.items()
        )
        routes = "".join(
            f'  - {{path: "/{name}/{{id}}", resource: contact, id: "{{path.id}}", lookup: {name}, actions: {{GET: read}}}}\n'
            for name in STATEMENTS
        )
        text = f"version: 1\nlookups:\n{lookups}routes:\n{routes}"
        where = f"http://127.0.0.1:{upstream.port}"
        sidecar = stack.enter_context(running_sidecar(folder / "sidecar", text, ROOT / "policies", where, environ))
        yield Databases(cerbos, hook, upstream, sidecar, token(), file, server)
        told = sidecar.log() + str(sidecar.decisions())
        for secret in (PASSWORD, QUOTED, "wr0ng", "reader:", str(server.port), "app.db"):
            assert secret not in told


@pytest.fixture
def world(shared: Databases) -> Databases:
    shared.cerbos.check = fakes.allow
    shared.upstream.reset()
    return shared


FAULTS = {
    "too slow, a file": ("slow", "lookup_timeout", "database_timeout"),
    "too slow, a server": ("asleep", "lookup_timeout", "database_timeout"),
    "a table that is not there": ("gone", "lookup_bad_answer", "statement_invalid: SQLITE_ERROR: no such table: gone"),
    "two rows": ("two", "lookup_bad_answer", "row_invalid: found more than one row"),
    "bytes": ("blob", "lookup_bad_answer", "row_invalid: column 'owner_id': found bytes"),
    "a number that is not exact": ("number", "lookup_bad_answer", "row_invalid: column 'n': found an integer beyond 2^53"),
    "contradicting: another id": ("other", "lookup_mismatch", "the answer is about another id"),
    "contradicting: no value": ("empty", "lookup_mismatch", "attributes.owner: found nothing"),
    "many: an id that nobody asked for": ("unasked", "lookup_bad_answer", "found an id that nobody has asked for"),
    "many: one id twice": ("doubles", "lookup_bad_answer", "found one id twice"),
    "many: rows without ids": ("nameless", "lookup_bad_answer", "found no id"),
    "permission denied": ("secret", "lookup_auth", "database_privilege: 42501"),
    "wrong password": ("wrong", "lookup_auth", "database_auth: 28P01"),
    "down": ("down", "lookup_unavailable", "connection_refused"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_database_that_fails_is_503(world: Databases, fault: str) -> None:
    name, code, detail = FAULTS[fault]
    asked = world.cerbos.asked
    assert_refused(world, f"/{name}/7", 503, code, "lookup", code.removeprefix("lookup_"))
    assert world.cerbos.asked == asked
    assert f"lookups.{name}" in world.sidecar.decisions()[-1]["detail"]
    assert detail in world.sidecar.decisions()[-1]["detail"]


@pytest.mark.parametrize("name", ["file", "server", "many"])
def test_a_row_decides_and_none_is_403(world: Databases, name: str) -> None:
    wait_for(lambda: world.sidecar.get(f"/{name}/7", world.token).status == 200, 10, name)
    assert world.sidecar.get(f"/{name}/70", world.token).code == "denied_by_policy"
    assert world.sidecar.decisions()[-1]["code"] == "resource_missing"


def test_a_file_that_is_away_is_503_and_taken_back(world: Databases) -> None:
    away = world.file.with_suffix(".away")
    wait_for(lambda: world.sidecar.get("/file/7", world.token).status == 200, 10)
    shutil.copy(world.file, away)
    # an open file stays whole when its name goes: this one is broken in place
    world.file.write_bytes(b"no database" * 4096)
    try:
        wait_for(lambda: world.sidecar.get("/file/7", world.token).code == "lookup_unavailable", 10)
    finally:
        world.file.write_bytes(away.read_bytes())
    wait_for(lambda: world.sidecar.get("/file/7", world.token).status == 200, 10)


def processes_of(server: Server) -> list[int]:
    """Each process of PostgreSQL: a session is one, in a group of its own."""
    parent = server.process.pid
    return [*map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()), parent]


def test_a_server_that_stops_in_the_middle_is_503_and_taken_back(world: Databases) -> None:
    """The sessions end; after five faults nobody is asked, and then the server is there again."""
    wait_for(lambda: world.sidecar.get("/server/7", world.token).status == 200, 10)
    with paused(*processes_of(world.server)):
        world.upstream.reset()
        assert_refused(world, "/server/7", 503, "lookup_timeout", "lookup", "timeout")
        for _ in range(4):
            world.sidecar.get("/server/7", world.token)
        assert_refused(world, "/server/7", 503, "lookup_open", "lookup", "open")
    wait_for(lambda: world.sidecar.get("/server/7", world.token).status == 200, 10)
