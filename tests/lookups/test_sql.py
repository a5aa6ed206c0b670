"""Connections to a database: few, only while they are good, and none for nobody."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from sidecar.gate.hook import Hook
from sidecar.gate.lookup import Call, Lookup
from sidecar.gate.statement import SqlDialect
from sidecar.lookups import sql
from tests.databases import ROWS
from tests.lookups.alike import BY_ID, Asking, until
from tests.lookups.test_sqlite import File


@pytest.fixture
def world(tmp_path: Path) -> File:
    made = sqlite3.connect(tmp_path / "app.db")
    made.executescript(ROWS)
    made.close()
    return File(tmp_path / "app.db")


async def test_another_inquiry_is_none_of_it() -> None:
    with pytest.raises(TypeError, match=r"lookups\.doc: not a statement"):
        await sql.SqlSource(1).ask(Call(Lookup("doc", Hook("http://h", ()), {}), "/", "7"), 1.0)


async def test_a_connection_that_nobody_uses_is_closed(world: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "IDLE", 0.05)
    async with world.asking() as asking:
        await asyncio.gather(*(asking.ask(asking.lookup(f"{BY_ID} and {n} = {n}")) for n in range(3)))
        await until(world.sessions, 0)
        assert await asking.ask(asking.lookup(BY_ID)) == {"owner": "alice"}


async def test_one_that_is_used_again_stays(world: File, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.asking() as asking:
        await asking.ask(asking.lookup(BY_ID))
        (connections,) = asking.source._connections.values()
        first = connections._idle[0]
        await asking.ask(asking.lookup(BY_ID))
        assert connections._idle[0].driver is first.driver
        monkeypatch.setattr(sql, "IDLE", asyncio.get_running_loop().time() - first.used + 10)
        connections._close_idle(asyncio.get_running_loop())
        assert connections._alarm is not None
        assert await world.sessions() == 1


async def test_an_answer_is_kept_and_equal_questions_are_one(world: File) -> None:
    async with world.asking(most=1) as asking:
        cached = asking.lookup(BY_ID, cache=60.0)
        assert await asyncio.gather(*(asking.ask(cached) for _ in range(5))) == [{"owner": "alice"}] * 5
        await world.run("update invoices set owner_id = 'bob'")
        assert await asking.ask(cached) == {"owner": "alice"}
        # another statement is another question, whatever the name and the values
        assert await asking.ask(asking.lookup(BY_ID + " and 1 = 1", cache=60.0)) == {"owner": "bob"}


async def test_each_database_and_timeout_has_connections_of_its_own(world: File) -> None:
    async with world.asking() as asking:
        for timeout in (5.0, 5.0, 6.0):
            await asking.ask(asking.lookup(BY_ID, timeout=timeout))
        assert len(asking.source._connections) == 2


async def test_a_statement_is_ended_even_where_it_had_not_begun(world: File) -> None:
    """A thread hears of an interruption only while a statement runs: one of a queue would run for ever."""
    asking = Asking(world.url, SqlDialect.SQLITE, 1)
    await asking.ask(asking.lookup(BY_ID))
    (connections,) = asking.source._connections.values()
    driver = connections._idle[0].driver
    # the thread is busy with this one, and has not begun with the next, when that is left
    ahead = asyncio.ensure_future(driver.execute_fetchall(world.slow.replace(":id", "'7'")))
    await until(world.running, 1)
    flight = asyncio.ensure_future(asking.source.ask(Call(asking.lookup(world.slow), '["7"]', "7"), 10.0))
    await asyncio.sleep(0)
    flight.cancel()
    await asyncio.gather(flight, ahead, return_exceptions=True)
    await until(world.sessions, 0)
    await asking.lookups.aclose()
