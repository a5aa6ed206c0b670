"""PostgreSQL, a real one: sessions that only read, and end at the deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from sidecar.gate.codes import Code
from sidecar.gate.statement import SqlDialect
from sidecar.record.reasons import Reason
from tests.databases import OWNER, PASSWORD, Server, pgbouncer, postgresql
from tests.lookups.alike import *  # noqa: F403 - these are tests
from tests.lookups.alike import (
    BY_ID,
    BY_NUMBER,
    Killable,
    check_a_full_server,
    check_a_server_that_is_down,
    check_a_table_that_vanished,
    check_ended_sessions,
    check_no_tls,
    check_refusals,
    check_tls,
    until,
)
from tests.paused import paused

pytestmark = pytest.mark.process
OURS = "from pg_stat_activity where application_name = 'authorization-sidecar'"


class PostgreSql(Killable):
    dialect = SqlDialect.POSTGRESQL
    slow = "select pg_sleep(10)::text as owner_id where :id <> ''"
    grant = "grant select on {} to reader"

    def __init__(self, server: Server) -> None:
        self.server = server

    async def run(self, sql: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self.server.port, user=OWNER, password=PASSWORD, database="postgres"
        )
        try:
            return [tuple(record) for record in await connection.fetch(sql)]
        finally:
            await connection.close()

    async def sessions(self) -> int:
        return int((await self.run(f"select count(*) {OURS}"))[0][0])

    async def running(self) -> int:
        return int((await self.run(f"select count(*) {OURS} and state = 'active'"))[0][0])

    async def kill(self) -> None:
        await self.run(f"select pg_terminate_backend(pid) {OURS}")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgresql() as server:
        yield server


@pytest.fixture
def world(server: Server) -> PostgreSql:
    return PostgreSql(server)


async def test_a_session_that_ends_is_replaced(world: PostgreSql) -> None:
    await check_ended_sessions(world)


async def test_refusals_are_told_apart(world: PostgreSql) -> None:
    await check_refusals(world)


async def test_a_server_that_is_down_is_told_at_once(world: PostgreSql) -> None:
    await check_a_server_that_is_down(world)


async def test_a_table_that_vanished_is_told_and_found_again(world: PostgreSql) -> None:
    await check_a_table_that_vanished(world)


async def test_a_session_only_reads_and_has_a_limit(world: PostgreSql) -> None:
    await world.run("create sequence if not exists numbers")
    await world.run("grant usage on numbers to reader")
    async with world.asking() as asking:
        told = asking.lookup(
            "select current_setting('transaction_read_only') as r, current_setting('statement_timeout') as t, :id as i",
            attributes={"r": "r", "t": "t"}, timeout=2.5,
        )  # fmt: skip
        assert await asking.ask(told) == {"r": "on", "t": "2500ms"}
        written = asking.lookup("select nextval('numbers')::text as owner_id where :id <> ''")
        assert await asking.code(written) is Code.LOOKUP_BAD_ANSWER
        assert asking.reported == [(Reason.STATEMENT_INVALID, "25006 ReadOnlySQLTransactionError")]


async def test_the_server_ends_a_statement_too(world: PostgreSql) -> None:
    """As where the sidecar has died meanwhile."""
    async with world.asking() as asking:
        await asking.ask(asking.lookup(BY_ID, timeout=1.0))
        (connections,) = asking.source._connections.values()
        with pytest.raises(asyncpg.QueryCanceledError):
            await connections._idle[0].driver.fetch("select pg_sleep(10)")


async def test_a_type_that_does_not_fit_is_told_with_what_to_do(world: PostgreSql) -> None:
    async with world.asking() as asking:
        assert await asking.code(asking.lookup(BY_NUMBER)) is Code.LOOKUP_BAD_ANSWER
        told = asking.reported[0][1]
        assert told.startswith(
            "42883: operator does not exist: bigint = text; a parameter is bound as a text, or as the type that"
        )


async def test_a_value_that_a_function_cannot_use_is_not_told(world: PostgreSql) -> None:
    async with world.asking(most=1) as asking:
        for sql in (
            "select to_tsquery(:id)::text as owner_id",
            "select to_tsquery('english', :id)::text as owner_id",
            "select cast(:id as regclass)::text as owner_id",
            "select pg_has_role(cast(:id as name), 'reader', 'member') as owner_id",
            "select current_setting(:id) as owner_id",
            "select jsonb_path_exists('{}', cast(:id as jsonpath)) as owner_id",
        ):
            assert await asking.code(asking.lookup(sql), "s3cret s3cret") is Code.LOOKUP_BAD_ANSWER
        assert {reason for reason, _ in asking.reported} == {Reason.STATEMENT_INVALID}
        assert "s3cret" not in str(asking.reported)
        assert asking.reported[0][1] == "42601 PostgresSyntaxError"
        assert await world.sessions() == 1


async def test_a_value_that_the_server_does_not_take_is_the_fault_of_the_request(world: PostgreSql) -> None:
    async with world.asking(most=1) as asking:
        cast = asking.lookup("select owner_id from invoices where number = cast(:id as bigint)")
        assert await asking.ask(cast, "007") == {"owner": "alice"}
        for text in ("x", "9" * 30, "7.5"):
            assert await asking.code(cast, text) is Code.REFERENCE_INVALID
        date = asking.lookup("select :id as owner_id where cast(:id as date) > '2026-01-01'")
        assert await asking.code(date, "2026-02-30") is Code.REFERENCE_INVALID
        assert asking.reported == []
        assert await world.sessions() == 1


async def test_a_uuid_is_asked_in_one_spelling(world: PostgreSql) -> None:
    known = "0b2f3c9e-0d3a-4e77-9c54-000000000001"
    sql = f"select * from (values (uuid '{known}', 'alice')) as t(id, owner_id) where id = :id"
    async with world.asking() as asking:
        assert await asking.ask(asking.lookup(sql, {"id": "{id:uuid}"}), known) == {"owner": "alice"}
        assert await asking.code(asking.lookup(sql, {"id": "{id:uuid}"}), known.upper()) is Code.REFERENCE_INVALID


async def test_rows_have_the_types_of_postgresql(world: PostgreSql) -> None:
    async with world.asking() as asking:
        sql = """
            select true as b, 7::int2 as i, 7.50::numeric as n, '{"org": {"id": "x", "n": [1, 2]}}'::jsonb as j,
                   '{"a":1}'::json as k, array['a', 'b'] as l, date '2026-01-02' as d,
                   timestamptz '2026-01-02 03:04:05+02' as z, timestamp '2026-01-02 03:04:05' as t,
                   'ab'::char(4) as p, inet '10.0.0.1' as a, null as nothing
            from invoices where id = :id
        """
        names = {name: name for name in ("b", "i", "n", "d", "z", "t", "p", "a")} | {
            "org": "j.org.id",
            "first": "l[0]",
            "k": "k.a",
        }
        assert await asking.ask(asking.lookup(sql, attributes=names)) == {
            "b": True, "i": 7, "n": 7.5, "d": "2026-01-02", "z": "2026-01-02T01:04:05Z", "t": "2026-01-02T03:04:05", "p": "ab  ",
            "a": "10.0.0.1", "org": "x", "first": "a", "k": 1,
        }  # fmt: skip
        for value in (
            "'x'::bytea",
            "interval '1 day'",
            "'NaN'::numeric",
            "'NaN'::float8",
            "9007199254740993",
            "int4range(1, 2)",
            "(1, 2)",
            "point '(1,2)'",
        ):
            refused = asking.lookup(f"select {value} as owner_id from invoices where id = :id")
            assert await asking.code(refused) is Code.LOOKUP_BAD_ANSWER, value
            assert asking.reported[-1][0] is Reason.ROW_INVALID, value
            assert "owner_id" in asking.reported[-1][1], value


async def test_too_many_sessions_are_told(world: PostgreSql) -> None:
    await world.run("alter role reader connection limit 1")
    await check_a_full_server(world, "53300 TooManyConnectionsError")
    await world.run("alter role reader connection limit -1")


SECURED = "select case when ssl then 'invoice' end from pg_stat_ssl where pid = pg_backend_pid()"


async def test_a_server_is_known_by_its_certificate(
    world: PostgreSql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await check_tls(world, "ssl=verify-full&sslrootcert={ca}", SECURED, tmp_path)
    monkeypatch.setenv("PGSSLROOTCERT", str(world.server.ca))
    async with world.asking(url=f"{world.url}?sslmode=verify-full") as asking:
        told = asking.lookup(f"select ({SECURED}) as owner_id where :id <> ''")
        assert await asking.ask(told) == {"owner": "invoice"}
    async with world.asking(url=f"{world.server.url(host='localhost')}?sslmode=verify-full") as asking:
        assert await asking.code(asking.lookup(BY_ID)) is Code.LOOKUP_UNAVAILABLE
        assert [reason for reason, _ in asking.reported] == [Reason.CERTIFICATE_NAME]


async def test_a_url_that_asks_for_tls_is_not_served_in_the_clear(world: PostgreSql) -> None:
    await check_no_tls(world, "ssl=verify-full&sslrootcert={ca}", lambda _: b"N", Reason.NOT_TLS)


# --- behind PgBouncer, where each transaction may have another session ---


class Pooled(PostgreSql):
    """The same, of which the sidecar knows the pooler."""

    def __init__(self, server: Server, pooler: Server) -> None:
        super().__init__(server)
        self.pooler = pooler

    @property
    def url(self) -> str:
        return f"{self.pooler.url()}?pooler=transaction"

    async def sessions(self) -> int:
        # they are the pooler's, which keeps them
        return 0


@pytest.fixture(scope="module")
def pooled(server: Server) -> Iterator[Pooled]:
    with pgbouncer(server) as pooler:
        yield Pooled(server, pooler)


async def test_behind_a_pooler_a_statement_reads_only_and_has_a_limit(pooled: Pooled) -> None:
    async with pooled.asking(most=8) as asking:
        told = asking.lookup(
            "select current_setting('transaction_read_only') as r, current_setting('statement_timeout') as t, :id as i",
            attributes={"r": "r", "t": "t"}, timeout=2.5,
        )  # fmt: skip
        assert await asking.ask(told) == {"r": "on", "t": "2500ms"}
        # of more connections than there are sessions, each statement is prepared where it runs
        lookups = [asking.lookup(BY_ID + f" and {number} = {number}") for number in range(40)]
        assert await asyncio.gather(*map(asking.ask, lookups)) == [{"owner": "alice"}] * 40
        assert await asking.code(asking.lookup("select owner from invoices where id = :id")) is Code.LOOKUP_BAD_ANSWER
        assert await asking.code(asking.lookup(BY_NUMBER, {"id": "{id:int}"}), "70") is Code.RESOURCE_MISSING
        assert await asking.code(asking.lookup(pooled.slow, timeout=0.2)) is Code.LOOKUP_TIMEOUT
        assert await asking.ask(asking.lookup(BY_ID), "8") == {"owner": "bob"}
        await until(pooled.running, 0)
    assert await pooled.run("select count(*) from pg_stat_activity where state like 'idle in transaction%'") == [(0,)]


async def test_a_pooler_refuses_what_a_session_begins_with_and_is_told_how(pooled: Pooled) -> None:
    async with pooled.asking(url=pooled.pooler.url()) as asking:
        assert await asking.code(asking.lookup(BY_ID)) is Code.LOOKUP_UNAVAILABLE
        ((reason, detail),) = asking.reported
    assert reason is Reason.DATABASE_UNAVAILABLE
    assert detail.endswith("a pooler that takes no settings of a session, expected `pooler=transaction` in the URL")


async def test_a_pooler_that_hangs_is_left_at_the_deadline(pooled: Pooled) -> None:
    async with pooled.asking(most=1) as asking:
        await asking.ask(asking.lookup(BY_ID, timeout=0.5))
        slow = asyncio.ensure_future(asking.code(asking.lookup(pooled.slow, timeout=0.5)))
        await until(pooled.running, 1)
        begun = time.monotonic()
        with paused(pooled.pooler.process.pid):
            assert await slow is Code.LOOKUP_TIMEOUT
            assert time.monotonic() - begun < 1.5
        assert await asking.ask(asking.lookup(BY_ID, timeout=0.5), "8") == {"owner": "bob"}
    await until(pooled.running, 0)
