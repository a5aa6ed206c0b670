"""SQLite: a file that is opened to be read, whatever else is in the statement."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jmespath
import pytest

from sidecar.gate.codes import Code
from sidecar.gate.statement import SqlDialect
from sidecar.record.reasons import Reason
from tests.databases import ROWS
from tests.lookups.alike import *  # noqa: F403 - these are tests
from tests.lookups.alike import BY_ID, BY_NUMBER, World


class File(World):
    dialect = SqlDialect.SQLITE
    slow = (
        "with recursive n(x) as (select 1 union all select x + 1 from n where x < 1000000000) "
        "select count(*) as owner_id from n where :id <> ''"
    )

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    @property
    def wrong_url(self) -> str:
        return f"sqlite:///{self.path.parent}/gone/app.db"

    async def run(self, sql: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    async def sessions(self) -> int:
        return sum(1 for thread in threading.enumerate() if "_connection_worker_thread" in thread.name)

    async def running(self) -> int:
        return sum(1 for frame in sys._current_frames().values() if frame.f_code.co_name == "_execute_fetchall")


@pytest.fixture
def world(tmp_path: Path) -> File:
    made = sqlite3.connect(tmp_path / "app.db")
    made.executescript(ROWS)
    made.close()
    return File(tmp_path / "app.db")


async def test_text_and_numbers_are_one_to_it_and_echo_tells_them_apart(world: File) -> None:
    await world.run("create table documents (id integer primary key, owner_id text)")
    await world.run("insert into documents values (7, 'alice')")
    by_id = "select id, owner_id from documents where id = :id"
    async with world.asking() as asking:
        echoed = asking.lookup(by_id)._replace(echo=jmespath.compile("id").search)
        assert await asking.ask(echoed) == {"owner": "alice"}
        for other in ("007", "+7", "7.0", " 7"):
            assert await asking.ask(asking.lookup(by_id), other) == {"owner": "alice"}
            assert await asking.code(echoed, other) is Code.LOOKUP_MISMATCH
            assert await asking.code(asking.lookup(by_id, {"id": "{id:int}"}), other) is Code.REFERENCE_INVALID


async def test_nothing_is_written(world: File) -> None:
    before = world.path.read_bytes()
    async with world.asking() as asking:
        await asking.ask(asking.lookup(BY_ID))
        (connections,) = asking.source._connections.values()
        for sql in (
            "delete from invoices",
            "create table more (id text)",
            "pragma user_version = 7",
            f"attach '{world.path.parent}/none/other.db' as other",
        ):
            with contextlib.suppress(sqlite3.OperationalError):
                await connections._idle[0].driver.execute(sql)
    assert world.path.read_bytes() == before
    assert [each.name for each in world.path.parent.iterdir()] == ["app.db"]


async def test_a_file_that_is_not_there_is_not_made(world: File, tmp_path: Path) -> None:
    async with world.asking(url=f"sqlite:///{tmp_path}/none.db") as asking:
        for _ in range(5):
            assert await asking.code(asking.lookup(BY_ID)) is Code.LOOKUP_UNAVAILABLE
        assert await asking.code(asking.lookup(BY_ID)) is Code.LOOKUP_OPEN
        assert asking.reported == [(Reason.DATABASE_UNAVAILABLE, "SQLITE_CANTOPEN")] * 5
    assert not (tmp_path / "none.db").exists()


async def test_a_file_that_is_no_database_is_told(world: File, tmp_path: Path) -> None:
    (tmp_path / "a b?.db").write_text("not a database, however long it is" * 100)
    async with world.asking(url=f"sqlite:///{tmp_path}/a b%3F.db") as asking:
        assert await asking.code(asking.lookup(BY_ID)) is Code.LOOKUP_UNAVAILABLE
        assert asking.reported == [(Reason.DATABASE_UNAVAILABLE, "SQLITE_NOTADB")]


async def test_a_locked_file_is_busy(world: File) -> None:
    other = sqlite3.connect(world.path, isolation_level=None)
    async with world.asking() as asking:
        other.execute("begin exclusive")
        begun = time.monotonic()
        assert await asking.code(asking.lookup(BY_ID, timeout=0.2)) in (Code.LOOKUP_BUSY, Code.LOOKUP_TIMEOUT)
        assert time.monotonic() - begun < 1.0
        other.execute("rollback")
        assert await asking.ask(asking.lookup(BY_ID, timeout=0.2)) == {"owner": "alice"}
    other.close()


async def test_a_value_that_a_function_cannot_use_is_not_told(world: File) -> None:
    await world.run("create virtual table pages using fts5(text)")
    async with world.asking(most=1) as asking:
        for sql in (
            "select json_extract('{}', :id) as owner_id",
            "select text as owner_id from pages where pages match :id",
            "select json_extract(owner_id, '$') as owner_id from invoices where id = '7' and :id <> ''",
        ):
            assert await asking.code(asking.lookup(sql), "s3cret-s3cret:") is Code.LOOKUP_BAD_ANSWER
        assert asking.reported == [(Reason.STATEMENT_INVALID, "SQLITE_ERROR")] * 3
        assert await world.sessions() == 1


async def test_rows_have_the_types_of_sqlite(world: File) -> None:
    async with world.asking() as asking:
        names = {name: name for name in "itn"}
        read = asking.lookup(
            "select 1 as i, 'é' as t, 1.5 as n, null as z from invoices where id = :id", attributes=names
        )
        assert await asking.ask(read) == {"i": 1, "t": "é", "n": 1.5}
        assert (
            await asking.code(asking.lookup("select x'00' as b from invoices where id = :id")) is Code.LOOKUP_BAD_ANSWER
        )
        assert (
            await asking.code(asking.lookup("select cast(x'ff' as text) as b from invoices where id = :id"))
            is Code.LOOKUP_BAD_ANSWER
        )
        assert (
            await asking.code(asking.lookup("select 9e999 as b from invoices where id = :id")) is Code.LOOKUP_BAD_ANSWER
        )
        assert [
            "leave it out" in asking.reported[0][1],
            asking.reported[1][1],
            "not finite" in asking.reported[2][1],
        ] == [True, "OperationalError", True]


async def test_a_table_that_vanished_is_told_and_found_again(world: File) -> None:
    async with world.asking() as asking:
        by_number = asking.lookup(BY_NUMBER, {"id": "{id:int}"})
        assert await asking.ask(by_number) == {"owner": "alice"}
        await world.run("alter table invoices rename to other")
        assert await asking.code(by_number) is Code.LOOKUP_BAD_ANSWER
        assert asking.reported == [(Reason.STATEMENT_INVALID, "SQLITE_ERROR: no such table: invoices")]
        await world.run("alter table other rename to invoices")
        assert await asking.ask(by_number) == {"owner": "alice"}
