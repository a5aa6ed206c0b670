"""Tests that each kind of database passes: a module with a fixture `world` of its own imports them all."""

from __future__ import annotations

import asyncio
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jmespath
import pytest

from sidecar.gate.codes import Code, Dependency
from sidecar.gate.lookup import Attribute, Batch, Call, Lookup, attributes_from
from sidecar.gate.statement import Database, SqlDialect, Statement, parse_value, statement_of
from sidecar.gate.verdict import Refused
from sidecar.lookups.asking import Lookups
from sidecar.lookups.sql import SqlSource
from sidecar.net.connection import Fault
from sidecar.record.reasons import Reason
from tests.certificates import certificates
from tests.databases import OWNER, Server
from tests.fakes import refusal
from tests.gate.test_hook import MATERIAL
from tests.stack import free_port

BY_ID = "select id, number, owner_id from invoices where id = :id"
BY_NUMBER = "select id, number, owner_id from invoices where number = :id"
BY_IDS = "select id, number, owner_id from invoices where id in :ids"
BY_NUMBERS = "select id, number, owner_id from invoices where number in :ids and :kind = 'invoice'"


class Asking:
    """Lookups that ask one database, and what was reported of it."""

    def __init__(self, url: str, dialect: SqlDialect, most: int) -> None:
        self.database = Database("APP_URL", url, dialect)
        self.reported: list[tuple[Reason, str]] = []
        self.source = SqlSource(most)
        self.lookups = Lookups({Statement: self.source}, now=time.monotonic, report=self._report)

    def _report(self, dependency: Dependency, place: str, reason: Reason, detail: str) -> None:
        assert dependency is Dependency.LOOKUP
        assert place.startswith("lookups.invoice: APP_URL (statement ")
        self.reported.append((reason, detail))

    def lookup(self, sql: str, parameters: dict[str, str] | None = None, **more: Any) -> Lookup:
        filled = {name: parse_value(text) for name, text in (parameters or {}).items()}
        attributes = more.pop("attributes", {"owner": "owner_id"})
        inquiry = statement_of(sql, self.database, filled)
        read = {name: Attribute(jmespath.compile(text).search) for name, text in attributes.items()}
        return Lookup("invoice", inquiry, read, **{"timeout": 10.0, **more})

    async def ask(self, lookup: Lookup, resource_id: str = "7", asker: str = "alice") -> dict[str, Any]:
        """What the gate does."""
        question = lookup.inquiry.fill("invoice", resource_id, MATERIAL)
        call = Call(lookup, question, resource_id, (), ("https://issuer", asker))
        return attributes_from(call, await self.lookups.ask(call))

    async def ask_all(self, lookup: Lookup, *ids: str) -> list[dict[str, Any] | Code]:
        """The same of many ids."""
        calls = [Call(lookup, lookup.inquiry.fill("invoice", one, MATERIAL), one) for one in ids]
        found: list[dict[str, Any] | Code] = []
        for call, reply in zip(calls, await self.lookups.ask_all(calls), strict=True):
            try:
                found.append(attributes_from(call, reply))
            except Refused as refused:
                found.append(refused.code)
        return found

    def many(self, sql: str, parameters: dict[str, str] | None = None, **more: Any) -> Lookup:
        """A lookup that is asked about many, whose rows have their ids in the column `id`."""
        return self.lookup(sql, parameters, **{"batch": Batch(100), "echo": jmespath.compile("id").search, **more})

    async def code(self, lookup: Lookup, resource_id: str = "7") -> Code:
        return await refusal(self.ask(lookup, resource_id))


class World(ABC):
    """One database, with the table `invoices`."""

    dialect: SqlDialect
    slow: str
    """Takes seconds, and compares `:id`."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL of the user who may read `invoices`."""

    @property
    @abstractmethod
    def wrong_url(self) -> str:
        """One with another user, `nobody`, or a path to `gone`."""

    @abstractmethod
    async def run(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one statement as the owner."""

    @abstractmethod
    async def sessions(self) -> int:
        """The connections of the sidecar."""

    @abstractmethod
    async def running(self) -> int:
        """The statements of the sidecar that the database works on."""

    @asynccontextmanager
    async def asking(self, most: int = 4, url: str = "") -> AsyncIterator[Asking]:
        asking = Asking(url or self.url, self.dialect, most)
        try:
            yield asking
        finally:
            await asking.lookups.aclose()
            await until(self.sessions, 0)


async def until(count: Any, wanted: int) -> None:
    """Return when a count is as wanted."""
    async with asyncio.timeout(10):
        while await count() != wanted:
            await asyncio.sleep(0.01)


async def test_a_row_gives_attributes_and_none_is_missing(world: World) -> None:
    async with world.asking() as asking:
        assert await asking.ask(asking.lookup(BY_ID)) == {"owner": "alice"}
        assert await asking.code(asking.lookup(BY_ID), "70") is Code.RESOURCE_MISSING
        as_list = asking.lookup("with x as (select owner_id from invoices where id = :id) select owner_id from x")
        assert await asking.ask(as_list, "8") == {"owner": "bob"}


HOSTILE = (
    "' or '1'='1", "7' or '1'='1", "\\' or 1=1 -- ", "7\\", "7' --", "7;delete from invoices", "%", "_", "%s", "%(id)s", ":id",
    "?", "$1", "7'/*", "é7", "\u02bc7", "\uff17", "\U0001f600", "7 union select 'x','y'", "'", "''", "\xbf\x27 or 1=1 --",
)  # fmt: skip


async def test_a_value_is_never_sql(world: World) -> None:
    async with world.asking() as asking:
        echoed = asking.lookup(
            "select :id as said, 'x''%' as quoted from invoices where id = '7'",
            attributes={"said": "said", "quoted": "quoted"},
        )
        for text in HOSTILE:
            assert await asking.code(asking.lookup(BY_ID), text) is Code.RESOURCE_MISSING
            assert await asking.ask(echoed, text) == {"said": text, "quoted": "x'%"}
        assert await asking.ask(asking.lookup(BY_ID), "O'Neil") == {"owner": "carol"}


async def test_a_declared_type_takes_one_spelling(world: World) -> None:
    async with world.asking() as asking:
        by_number = asking.lookup(BY_NUMBER, {"id": "{id:int}"})
        assert await asking.ask(by_number) == {"owner": "alice"}
        for other in ("007", "+7", "7.0", "7abc", " 7"):
            assert await asking.code(by_number, other) is Code.REFERENCE_INVALID
        assert await asking.ask(
            asking.lookup(
                "select :n + 2 as n from invoices where id = :id", {"n": "{claims.n:int}"}, attributes={"n": "n"}
            )
        ) == {"n": 7}


async def test_one_parameter_stands_at_several_places(world: World) -> None:
    async with world.asking() as asking:
        twice = asking.lookup("select owner_id from invoices where id = :id and :kind = 'invoice' and :id = id")
        assert await asking.ask(twice, "8") == {"owner": "bob"}


GONE = Code.RESOURCE_MISSING


async def test_many_ids_are_one_statement(world: World) -> None:
    async with world.asking(most=1) as asking:
        many = asking.many(BY_IDS)
        assert await asking.ask_all(many, "8", "gone", "7", "O'Neil") == [
            {"owner": "bob"}, GONE, {"owner": "alice"}, {"owner": "carol"},
        ]  # fmt: skip
        # what differs in the number of ids alone is a few statements
        for count in range(1, 40):
            found = await asking.ask_all(many, *(f"x{count}-{one}" for one in range(count)), "7")
            assert found == [GONE] * count + [{"owner": "alice"}]
        assert len(asking.source._prepared) == 6
        numbers = asking.many(BY_NUMBERS, {"ids": "{ids:int}"}, echo=jmespath.compile("number").search)
        assert await asking.ask_all(numbers, "9", "7", "70") == [{"owner": "carol"}, {"owner": "alice"}, GONE]
        assert await refusal(asking.ask_all(numbers, "7", "007")) is Code.REFERENCE_INVALID
        # and one is asked with the same statement
        assert await asking.ask(many) == {"owner": "alice"}
        assert await asking.code(many, "70") is GONE
        assert await world.sessions() == 1


async def test_many_ids_are_never_sql(world: World) -> None:
    async with world.asking() as asking:
        assert await asking.ask_all(asking.many(BY_IDS), *HOSTILE, "7", "') or ('1'='1") == [
            *[GONE] * len(HOSTILE), {"owner": "alice"}, GONE,
        ]  # fmt: skip


async def test_a_row_that_is_not_one_of_an_asked_id_is_the_answers_fault(world: World) -> None:
    async with world.asking() as asking:
        for sql in (
            "select id, owner_id from invoices where id in :ids or id = '8'",
            "select '7' as id, owner_id from invoices where id in :ids or id = '8'",
            "select owner_id from invoices where id in :ids",
            "select null as id, owner_id from invoices where id in :ids",
            "select a.id, b.owner_id from invoices a, invoices b where a.id in :ids",
        ):
            assert await refusal(asking.ask_all(asking.many(sql), "7", "gone")) is Code.LOOKUP_BAD_ANSWER, sql
        assert await asking.ask_all(asking.many(BY_IDS), "7") == [{"owner": "alice"}]


async def test_two_rows_are_an_error(world: World) -> None:
    async with world.asking() as asking:
        assert (
            await asking.code(asking.lookup("select owner_id from invoices where :id = '7'")) is Code.LOOKUP_BAD_ANSWER
        )
        assert asking.reported == [
            (Reason.ROW_INVALID, "found more than one row, expected one: compare a unique column")
        ]


async def test_a_statement_that_the_database_cannot_run_says_why(world: World) -> None:
    async with world.asking() as asking:
        assert await asking.code(asking.lookup("select owner from invoices where id = :id")) is Code.LOOKUP_BAD_ANSWER
        assert await asking.code(asking.lookup("select owner_id frm invoices where id = :id")) is Code.LOOKUP_BAD_ANSWER
        assert [reason for reason, _ in asking.reported] == [Reason.STATEMENT_INVALID] * 2
        assert "owner" in asking.reported[0][1]
        assert await asking.ask(asking.lookup(BY_ID)) == {"owner": "alice"}


async def test_a_statement_ends_at_the_deadline_and_its_connection_with_it(world: World) -> None:
    async with world.asking(most=1) as asking:
        slow = asking.lookup(world.slow, timeout=1.0)
        await asking.ask(asking.lookup(BY_ID, timeout=1.0))
        begun = time.monotonic()
        assert await asking.code(slow) is Code.LOOKUP_TIMEOUT
        assert time.monotonic() - begun < 3.0
        await until(world.running, 0)
        assert await asking.ask(asking.lookup(BY_ID, timeout=1.0), "8") == {"owner": "bob"}
        assert await world.sessions() == 1


async def test_connections_are_bounded_and_a_question_waits_for_one(world: World) -> None:
    async with world.asking(most=2) as asking:
        lookup = asking.lookup(BY_ID)
        answers = await asyncio.gather(*(asking.ask(lookup, text) for text in ("7", "8", "O'Neil") for _ in range(4)))
        assert [answer["owner"] for answer in answers] == ["alice"] * 4 + ["bob"] * 4 + ["carol"] * 4
        calls = [asking.ask(asking.lookup(BY_ID + f" and {n} = {n}"), "7", f"user-{n}") for n in range(12)]
        assert await asyncio.gather(*calls) == [{"owner": "alice"}] * 12
        assert await world.sessions() == 2


async def test_a_question_without_a_connection_is_busy(world: World) -> None:
    async with world.asking(most=1) as asking:
        slow = asyncio.ensure_future(asking.code(asking.lookup(world.slow, timeout=1.0)))
        await until(world.running, 1)
        with pytest.raises(Fault) as caught:
            await asking.source.ask(Call(asking.lookup(BY_ID, timeout=1.0), '["7"]', "7"), 0.05)
        assert caught.value.reason is Reason.CONNECTION_LIMIT_REACHED
        assert await slow is Code.LOOKUP_TIMEOUT


async def test_one_principal_has_half_of_the_connections(world: World) -> None:
    async with world.asking(most=2) as asking:
        slow = [
            asyncio.ensure_future(asking.source.ask(_call(asking.lookup(world.slow, timeout=2.0), "mallory"), 2.0))
            for _ in range(12)
        ]
        await until(world.running, 1)
        for _ in range(3):
            assert await asking.source.ask(_call(asking.lookup(BY_ID, timeout=2.0), "alice"), 2.0)
        # the others of mallory's may have waited too long for one by now
        assert not any(each.done() and _reason(each.exception()) is Reason.DATABASE_TIMEOUT for each in slow)
        told = await asyncio.gather(*slow, return_exceptions=True)
        assert {each.reason for each in told if isinstance(each, Fault)} == {
            Reason.DATABASE_TIMEOUT, Reason.CONNECTION_LIMIT_REACHED,
        }  # fmt: skip


def _reason(error: BaseException | None) -> Reason | None:
    return error.reason if isinstance(error, Fault) else None


def _call(lookup: Lookup, asker: str) -> Call:
    return Call(lookup, '["7"]', "7", (), ("https://issuer", asker))


async def test_who_leaves_takes_no_connection_along(world: World) -> None:
    async with world.asking(most=1) as asking:
        flight = asyncio.ensure_future(
            asking.source.ask(Call(asking.lookup(world.slow, timeout=0.5), '["7"]', "7"), 10.0)
        )
        await until(world.running, 1)
        flight.cancel()
        await asyncio.gather(flight, return_exceptions=True)
        await until(world.running, 0)
        assert await asking.ask(asking.lookup(BY_ID)) == {"owner": "alice"}


async def test_nothing_of_the_url_is_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async with world.asking(url=world.wrong_url) as asking:
        with pytest.raises(Refused) as caught:
            await asking.ask(asking.lookup(BY_ID))
        told = f"{caught.value.detail} {asking.reported} {caplog.text} {asking.database!r} {asking.lookup(BY_ID)!r}"
    assert asking.reported
    for secret in ("s3cr", "nobody", "127.0.0.1", "gone", world.url):
        assert secret not in told


class Killable(World):
    """A server, whose sessions can be ended."""

    server: Server
    grant: str

    @property
    def url(self) -> str:
        return self.server.url()

    @property
    def wrong_url(self) -> str:
        return self.server.url("nobody")

    @abstractmethod
    async def kill(self) -> None:
        """End all sessions of the sidecar."""


async def check_ended_sessions(world: Killable) -> None:
    """An idle connection that has ended is replaced; one in the middle of a statement is the server's fault."""
    async with world.asking() as asking:
        lookup = asking.lookup(BY_ID)
        await asyncio.gather(*(asking.ask(asking.lookup(BY_ID + f" and {n} = {n}")) for n in range(3)))
        await world.kill()
        await until(world.sessions, 0)
        assert await asking.ask(lookup) == {"owner": "alice"}
        assert asking.reported == []
    async with world.asking() as asking:
        broken = asyncio.ensure_future(asking.code(asking.lookup(world.slow)))
        await until(world.running, 1)
        await world.kill()
        assert await broken is Code.LOOKUP_UNAVAILABLE
        assert asking.reported[-1][0] in (Reason.CONNECTION_TERMINATED, Reason.DATABASE_UNAVAILABLE)
        assert await asking.ask(asking.lookup(BY_ID)) == {"owner": "alice"}


async def check_refusals(world: Killable) -> None:
    """A wrong password, a right and a database that are not there are told as such, and the first two open no breaker."""
    async with world.asking(url=world.server.url(password="wr0ng")) as asking:
        for _ in range(6):
            assert await asking.code(asking.lookup(BY_ID)) is Code.LOOKUP_AUTH
        assert {reason for reason, _ in asking.reported} == {Reason.DATABASE_AUTH}
        assert "wr0ng" not in str(asking.reported)
    async with world.asking(url=world.server.url(OWNER) + "-of-nobody") as asking:
        assert await asking.code(asking.lookup(BY_ID)) is Code.LOOKUP_UNAVAILABLE
        assert [reason for reason, _ in asking.reported] == [Reason.DATABASE_NOT_FOUND]
    async with world.asking(most=1) as asking:
        assert await asking.code(asking.lookup("select owner_id from secrets where id = :id")) is Code.LOOKUP_AUTH
        assert {reason for reason, _ in asking.reported} == {Reason.DATABASE_PRIVILEGE}
        await asking.ask(asking.lookup(BY_ID))
        before = await world.sessions()
        assert await asking.code(asking.lookup("select owner_id from secrets where id = :id")) is Code.LOOKUP_AUTH
        assert (await world.sessions(), before) == (1, 1)


async def check_a_full_server(world: Killable, detail: str) -> None:
    """A server that takes no more sessions is busy. It takes one of the sidecar's user."""
    async with world.asking() as asking:
        await asking.ask(asking.lookup(BY_ID))
        other = Asking(world.url, world.dialect, 1)
        assert await other.code(other.lookup(BY_ID)) is Code.LOOKUP_BUSY
        assert other.reported == [(Reason.DATABASE_FULL, detail)]
        await other.lookups.aclose()


async def check_a_server_that_is_down(world: Killable) -> None:
    """It is told in milliseconds, and after five times it is not asked."""
    async with world.asking(url=f"{world.server.scheme}://reader:s3cr-t@127.0.0.1:{free_port()}/app") as asking:
        for _ in range(5):
            assert await asking.code(asking.lookup(BY_ID)) is Code.LOOKUP_UNAVAILABLE
        assert await asking.code(asking.lookup(BY_ID)) is Code.LOOKUP_OPEN
        assert [reason for reason, _ in asking.reported] == [Reason.CONNECTION_REFUSED] * 5
    silent = socket.create_server(("127.0.0.1", 0))
    async with world.asking(
        url=f"{world.server.scheme}://reader:s3cr-t@127.0.0.1:{silent.getsockname()[1]}/app"
    ) as asking:
        assert await asking.code(asking.lookup(BY_ID, timeout=0.1)) is Code.LOOKUP_TIMEOUT
        assert asking.reported == [(Reason.CONNECTION_TIMEOUT, "")]
    silent.close()


async def check_a_table_that_vanished(world: Killable) -> None:
    """It is told, and found when it is there again."""
    await world.run("create table reports (id varchar(64) primary key, owner_id varchar(64))")
    await world.run("insert into reports values ('7', 'alice')")
    await world.run(world.grant.format("reports"))
    async with world.asking(most=1) as asking:
        lookup = asking.lookup("select owner_id from reports where id = :id")
        assert await asking.ask(lookup) == {"owner": "alice"}
        await world.run("drop table reports")
        assert await asking.code(lookup) in (Code.LOOKUP_BAD_ANSWER, Code.LOOKUP_AUTH)
        assert asking.reported[-1][0] in (Reason.STATEMENT_INVALID, Reason.DATABASE_PRIVILEGE)
        await world.run("create table reports (owner_id varchar(64), more integer, id varchar(64) primary key)")
        await world.run("insert into reports values ('bob', 1, '7')")
        await world.run(world.grant.format("reports"))
        assert await asking.ask(lookup) == {"owner": "bob"}
    await world.run("drop table reports")


async def check_tls(world: Killable, asked: str, is_secured: str, folder: Path) -> None:
    """With `asked` and an authority in the URL, only the server is asked whose certificate is of its address and by that
    authority. `is_secured` is SQL that tells of TLS in a session."""
    others = certificates(folder).ca
    for host, ca, reason in (
        ("127.0.0.1", world.server.ca, None),
        ("127.0.0.1", others, Reason.CERTIFICATE_UNKNOWN_CA),
        ("localhost", world.server.ca, Reason.CERTIFICATE_NAME),
    ):
        async with world.asking(url=f"{world.server.url(host=host)}?{asked.format(ca=ca)}") as asking:
            lookup = asking.lookup(f"select ({is_secured}) = :kind as owner_id from invoices where id = :id")
            if reason is None:
                assert (await asking.ask(lookup))["owner"] in (True, 1)
            else:
                assert await asking.code(lookup) is Code.LOOKUP_UNAVAILABLE
            assert [found for found, _ in asking.reported] == ([] if reason is None else [reason])


async def check_no_tls(world: Killable, asked: str, strip: Callable[[bytes], bytes], reason: Reason) -> None:
    """Somebody between, who takes out of a server's first word that it can do TLS, hears no user, password or question."""
    heard = list[bytes]()

    async def between_both(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        server, on = await asyncio.open_connection("127.0.0.1", world.server.port)
        if world.dialect is SqlDialect.POSTGRESQL:
            # its client speaks first: may it be TLS?
            on.write(await client.read(8))
        back.write(strip(await server.read(65536)))
        heard.append(await client.read(65536))
        on.close()
        back.close()

    async with await asyncio.start_server(between_both, "127.0.0.1", 0) as between:
        port = between.sockets[0].getsockname()[1]
        url = f"{world.server.url(port=port)}?{asked.format(ca=world.server.ca)}"
        async with world.asking(url=url) as asking:
            assert await asking.code(asking.lookup(BY_ID)) is Code.LOOKUP_UNAVAILABLE
            found = [found for found, _ in asking.reported]
            assert found == [reason]
    assert heard == [b""]
