"""MariaDB, a real one: values in the text of a statement, which only reads, and ends at the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiomysql
import jmespath
import pymysql
import pytest

from sidecar.gate.codes import Code
from sidecar.gate.statement import SqlDialect
from sidecar.record.reasons import Reason
from tests.databases import OWNER, PASSWORD, Server, mariadb
from tests.fakes import refusal
from tests.lookups.alike import *  # noqa: F403 - these are tests
from tests.lookups.alike import (
    BY_ID,
    BY_IDS,
    HOSTILE,
    Killable,
    check_a_full_server,
    check_a_server_that_is_down,
    check_a_table_that_vanished,
    check_ended_sessions,
    check_no_tls,
    check_refusals,
    check_tls,
)

pytestmark = pytest.mark.process


class MariaDb(Killable):
    dialect = SqlDialect.MYSQL
    slow = "select sleep(10) as owner_id from invoices where id = :id"
    grant = "grant select on app.{} to reader@'%'"
    ours = "from information_schema.processlist where user = 'reader'"

    def __init__(self, server: Server) -> None:
        self.server = server

    async def run(self, sql: str) -> list[tuple[Any, ...]]:
        connection = await aiomysql.connect(
            host="127.0.0.1", port=self.server.port, user=OWNER, password=PASSWORD, db="app", autocommit=True
        )
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(sql)
                return list(await cursor.fetchall())
        finally:
            await connection.ensure_closed()

    async def sessions(self) -> int:
        return int((await self.run(f"select count(*) {self.ours}"))[0][0])

    async def running(self) -> int:
        return int((await self.run(f"select count(*) {self.ours} and command = 'Query'"))[0][0])

    async def kill(self) -> None:
        for (number,) in await self.run(f"select id {self.ours}"):
            await self.run(f"kill {number}")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with mariadb() as server:
        yield server


@pytest.fixture
def world(server: Server) -> MariaDb:
    return MariaDb(server)


async def test_a_session_that_ends_is_replaced(world: MariaDb) -> None:
    await check_ended_sessions(world)


async def test_refusals_are_told_apart(world: MariaDb) -> None:
    await check_refusals(world)


async def test_a_server_that_is_down_is_told_at_once(world: MariaDb) -> None:
    await check_a_server_that_is_down(world)


async def test_a_table_that_vanished_is_told_and_found_again(world: MariaDb) -> None:
    await check_a_table_that_vanished(world)


async def test_a_session_only_reads_and_has_a_limit(world: MariaDb) -> None:
    async with world.asking() as asking:
        told = asking.lookup(
            "select @@tx_read_only as r, @@max_statement_time as t, :id as i",
            attributes={"r": "r", "t": "t"}, timeout=2.5,
        )  # fmt: skip
        assert await asking.ask(told) == {"r": 1, "t": 2.5}
    async with world.asking(url=world.server.url(OWNER)) as asking:
        await asking.ask(asking.lookup(BY_ID))
        (connections,) = asking.source._connections.values()
        with pytest.raises(pymysql.err.OperationalError, match="READ ONLY transaction"):
            await connections._idle[0].driver.query("insert into secrets values ('x', 'x')")
    assert await world.run("select * from secrets") == []


async def test_the_server_ends_a_statement_too(world: MariaDb) -> None:
    """As where the sidecar has died meanwhile."""
    async with world.asking() as asking:
        await asking.ask(asking.lookup(BY_ID, timeout=1.0))
        (connections,) = asking.source._connections.values()
        with pytest.raises(pymysql.err.OperationalError, match="max_statement_time"):
            await connections._idle[0].driver.query(
                "select count(*) from information_schema.columns a, information_schema.columns b, information_schema.columns c"
            )


async def test_what_is_committed_meanwhile_is_seen(world: MariaDb) -> None:
    """A session that begins a transaction with its first statement would see the rows of that moment for ever."""
    async with world.asking(most=1) as asking:
        assert await asking.ask(asking.lookup(BY_ID)) == {"owner": "alice"}
        await world.run("update invoices set owner_id = 'dave' where id = '7'")
        assert await asking.ask(asking.lookup(BY_ID)) == {"owner": "dave"}
        await world.run("update invoices set owner_id = 'alice' where id = '7'")


async def test_values_are_escaped_as_the_server_reads_them(world: MariaDb) -> None:
    await world.run("set global sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'")
    try:
        async with world.asking() as asking:
            said = asking.lookup("select :id as owner_id")
            for text in HOSTILE:
                assert await asking.ask(said, text) == {"owner": text}
    finally:
        await world.run("set global sql_mode = default")


async def test_text_is_compared_without_case_and_echo_tells_it(world: MariaDb) -> None:
    await world.run("create table documents (id varchar(64) primary key, number int, owner_id varchar(64))")
    await world.run("insert into documents values ('abc', 7, 'alice')")
    await world.run(world.grant.format("documents"))
    by_id, by_number = (f"select id, number, owner_id from documents where {name} = :id" for name in ("id", "number"))
    async with world.asking() as asking:
        for sql, column, others in (
            (by_id, "id", ("ABC", "abc ", "\xe0bc")),
            (by_number, "number", ("007", "7abc", "+7")),
        ):
            lookup = asking.lookup(sql)
            echoed = lookup._replace(echo=jmespath.compile(column).search)
            for other in others:
                assert await asking.ask(lookup, other) == {"owner": "alice"}
                assert await asking.code(echoed, other) is Code.LOOKUP_MISMATCH
    await world.run("drop table documents")


async def test_rows_have_the_types_of_mariadb(world: MariaDb) -> None:
    async with world.asking() as asking:
        sql = """
            select true as b, 7 as i, 7.50 as n, date '2026-01-02' as d, timestamp '2026-01-02 03:04:05' as t,
                   cast(7 as unsigned) as u, null as nothing, 'é' as e
            from invoices where id = :id
        """
        names = {name: name for name in ("b", "i", "n", "d", "t", "u", "e")}
        assert await asking.ask(asking.lookup(sql, attributes=names)) == {
            "b": 1, "i": 7, "n": 7.5, "d": "2026-01-02", "t": "2026-01-02T03:04:05", "u": 7, "e": "é",
        }  # fmt: skip
        for value in ("x'00ff'", "time '01:02:03'", "18446744073709551615"):
            assert (
                await asking.code(asking.lookup(f"select {value} as owner_id from invoices where id = :id"))
                is Code.LOOKUP_BAD_ANSWER
            )
            assert asking.reported[-1][0] is Reason.ROW_INVALID, value
        twice = asking.lookup("select id, id from invoices where id = :id")
        assert await asking.code(twice) is Code.LOOKUP_BAD_ANSWER
        assert "Duplicate column name 'id'" in asking.reported[-1][1]


def without_tls(greeting: bytes) -> bytes:
    """A server's first packet without CLIENT_SSL (https://mariadb.com/kb/en/connection/)."""
    # header, protocol, version, connection id, scramble, filler, and the higher byte of the lower capabilities
    at = greeting.index(b"\0", 5) + 1 + 4 + 8 + 1 + 1
    return greeting[:at] + bytes([greeting[at] & ~0x08]) + greeting[at + 1 :]


async def test_a_url_that_asks_for_tls_is_not_served_in_the_clear(world: MariaDb) -> None:
    """aiomysql goes on without where a server offers none."""
    await check_no_tls(world, "ssl_ca={ca}", without_tls, Reason.NOT_TLS)
    await check_no_tls(world, "ssl_check_hostname=false", without_tls, Reason.NOT_TLS)


def asks_for_the_password(greeting: bytes) -> bytes:
    """The same packet of a server that wants the password as it is."""
    packet = greeting[4:].replace(b"mysql_native_password\0", b"mysql_clear_password\0")
    return len(packet).to_bytes(3, "little") + greeting[3:4] + packet


@pytest.mark.parametrize("at_once", [True, False])
async def test_nobody_gets_the_password_in_the_clear(world: MariaDb, at_once: bool) -> None:
    """aiomysql sends it to whoever asks, in the first packet or in one that changes how to sign in."""
    heard = list[bytes]()

    async def asks(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        server, on = await asyncio.open_connection("127.0.0.1", world.server.port)
        greeting = await server.read(65536)
        back.write(asks_for_the_password(greeting) if at_once else greeting)
        heard.append(await client.read(65536))
        other = b"\xfemysql_clear_password\0"
        back.write(len(other).to_bytes(3, "little") + b"\2" + other)
        heard.append(await client.read(65536))
        on.close()
        back.close()

    async with await asyncio.start_server(asks, "127.0.0.1", 0) as between:
        url = world.server.url(port=between.sockets[0].getsockname()[1])
        async with world.asking(url=url) as asking:
            assert await asking.code(asking.lookup(BY_ID)) is Code.LOOKUP_UNAVAILABLE
            assert [reason for reason, _ in asking.reported] == [Reason.NOT_TLS]
    assert PASSWORD.encode() not in b"".join(heard)
    assert (heard[0] == b"") is at_once


async def test_a_server_is_known_by_its_certificate(world: MariaDb, tmp_path: Path) -> None:
    secured = "select if(variable_value = '', '', 'invoice') from information_schema.session_status where variable_name = 'Ssl_version'"
    await check_tls(world, "ssl_ca={ca}", secured, tmp_path)


async def test_too_many_sessions_are_told(world: MariaDb) -> None:
    await world.run("alter user reader@'%' with max_user_connections 1")
    await check_a_full_server(world, "error 1226")
    await world.run("alter user reader@'%' with max_user_connections 0")


async def test_a_row_of_another_spelling_is_not_taken_for_an_asked_one(world: MariaDb) -> None:
    async with world.asking() as asking:
        assert await refusal(asking.ask_all(asking.many(BY_IDS), "7", "o'neil")) is Code.LOOKUP_BAD_ANSWER
        exact = asking.many(BY_IDS.replace("where id", "where binary id"))
        assert await asking.ask_all(exact, "o'neil", "O'Neil") == [Code.RESOURCE_MISSING, {"owner": "carol"}]
