"""MySQL itself, where it is: what `test_mysql` tries with MariaDB, and what differs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jmespath
import pytest

from sidecar.gate.codes import Code
from sidecar.record.reasons import Reason
from tests.databases import Server, mysql
from tests.lookups.alike import *  # noqa: F403 - these are tests
from tests.lookups.alike import (
    HOSTILE,
    check_a_full_server,
    check_a_table_that_vanished,
    check_ended_sessions,
    check_no_tls,
    check_refusals,
    check_tls,
)
from tests.lookups.test_mysql import MariaDb, without_tls

pytestmark = pytest.mark.process


class MySql(MariaDb):
    """Its passwords are `caching_sha2_password`'s, which go by TLS or encrypted with the server's key."""

    ours = "from performance_schema.processlist where user = 'reader'"
    slow = "select benchmark(2000000000, sha2(id, 512)) as owner_id from invoices where id = :id"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with mysql() as server:
        yield server


@pytest.fixture
def world(server: Server) -> MySql:
    return MySql(server)


async def test_a_session_that_ends_is_replaced(world: MySql) -> None:
    await check_ended_sessions(world)


async def test_refusals_are_told_apart(world: MySql) -> None:
    await check_refusals(world)


async def test_a_table_that_vanished_is_told_and_found_again(world: MySql) -> None:
    await check_a_table_that_vanished(world)


async def test_a_session_only_reads_and_has_a_limit(world: MySql) -> None:
    async with world.asking() as asking:
        told = asking.lookup(
            "select @@transaction_read_only as r, @@max_execution_time as t, :id as i",
            attributes={"r": "r", "t": "t"}, timeout=2.5,
        )  # fmt: skip
        assert await asking.ask(told) == {"r": 1, "t": 2500}


async def test_values_are_escaped_as_the_server_reads_them(world: MySql) -> None:
    await world.run("set global sql_mode = 'NO_BACKSLASH_ESCAPES,ANSI_QUOTES'")
    try:
        async with world.asking() as asking:
            said = asking.lookup("select :id as owner_id")
            for text in HOSTILE:
                assert await asking.ask(said, text) == {"owner": text}
    finally:
        await world.run("set global sql_mode = default")


async def test_a_server_is_known_by_its_certificate(world: MySql, tmp_path: Path) -> None:
    secured = "select if(variable_value = '', '', 'invoice') from performance_schema.session_status where variable_name = 'Ssl_version'"
    await world.run("grant select on performance_schema.session_status to reader@'%'")
    await check_tls(world, "ssl_ca={ca}", secured, tmp_path)


async def test_a_url_that_asks_for_tls_is_not_served_in_the_clear(world: MySql) -> None:
    await check_no_tls(world, "ssl_ca={ca}", without_tls, Reason.NOT_TLS)


async def test_too_many_sessions_are_told(world: MySql) -> None:
    await world.run("alter user reader@'%' with max_user_connections 1")
    await check_a_full_server(world, "error 1226")
    await world.run("alter user reader@'%' with max_user_connections 0")


async def test_text_is_compared_without_accents_and_width_and_echo_tells_it(world: MySql) -> None:
    """Its own collation finds row 7 for a full-width 7, too."""
    by_default = "select id, owner_id from invoices where id collate utf8mb4_0900_ai_ci = :id"
    async with world.asking() as asking:
        for text, owner in (("o'n\u00e9il", "carol"), ("\uff17", "alice")):
            assert await asking.ask(asking.lookup(by_default), text) == {"owner": owner}
            told = asking.lookup(by_default, echo=jmespath.compile("id").search)
            assert await asking.code(told, text) is Code.LOOKUP_MISMATCH
