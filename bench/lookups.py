"""CPU of one lookup by source: a hook by HTTP beside the app, functions, and SQL at real databases, in turn; and of the
items of a list, many in one call beside one by one.

    python -m bench.lookups [ROUNDS]

It counts this process alone: the question, the connection, the row or the answer, and the attributes. A database that
is not installed is left out.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import jmespath
import pytest
import uvloop

from sidecar.api import BatchLookupRequest, LookupRequest
from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.asking import LOOKUPS_AT_ONCE
from sidecar.gate.chain import known_of
from sidecar.gate.expressions import searcher
from sidecar.gate.function import Function
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Principal
from sidecar.gate.lookup import (
    Attribute,
    Batch,
    Call,
    Inquiry,
    Lookup,
    Reply,
    ReplyReader,
    ResourceField,
    attributes_from,
    call_for,
)
from sidecar.gate.references import Material
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.statement import Binding, Database, SqlDialect, Statement, statement_of
from sidecar.lookups.asking import Lookups
from sidecar.lookups.function import FunctionSource
from sidecar.lookups.http import HttpSource
from sidecar.lookups.sql import SqlSource
from sidecar.lookups.upstream import UpstreamSource
from sidecar.net.app_reader import AppReader
from sidecar.net.pool import Origin, Pool
from sidecar.together import together
from tests.databases import ROWS, mariadb, postgresql

ROUNDS = 12
EACH = 500
"""Lookups of one source in one round."""
LISTS = 20
"""Lists of one source in one round."""
ITEMS = 50
"""Items of a list."""
SQL = "select id, owner_id, status from invoices where id = :id"
NUMBERS = (
    f"with recursive n(id) as (select 1 union all select id + 1 from n where id < {ITEMS}) "
    "select n.id, i.owner_id, i.status from n join invoices i on i.id = '7' where n.id "
)
"""A table of as many invoices as a list has items, without its end."""
ATTRIBUTES = {
    name: Attribute(jmespath.compile(text).search) for name, text in (("owner", "owner_id"), ("status", "status"))
}
MATERIAL = Material(
    read(Raw("GET", b"/invoices/7", [(b"host", b"x")], "", "http", "r"), Reading()), {"id": "7"},
    Principal("alice", ("user",), {}, "i", 1.0, {}), None,
)  # fmt: skip

TOLD = [(b"authorization", b"Bearer " + b"x" * 900), (b"x-auth-subject", b"alice"), (b"x-auth-roles", b"user")]
"""What the app is told of the principal."""


def _answer(told: object) -> bytes:
    body = json.dumps(told).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _serve(port: multiprocessing.connection.Connection) -> None:
    one, many = _answer(plain(LookupRequest("invoice", "7", None, 1.0))), _answer(_all(map(str, range(1, ITEMS + 1))))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while asked := await reader.readuntil(b"\r\n\r\n"):
                writer.write(many if b"&id=" in asked else one)

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(serve())


@contextmanager
def hook() -> Iterator[str]:
    """A hook in a process of its own: its origin."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
        process.join()


@contextmanager
def _sqlite() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        made = sqlite3.connect(Path(folder) / "app.db")
        made.executescript(ROWS)
        made.close()
        yield f"sqlite:///{folder}/app.db"


def _inquiries(stack: ExitStack) -> Iterator[tuple[str, Inquiry]]:
    target = ("/invoices/", ResourceField.ID)
    yield "http", Hook(stack.enter_context(hook()), target)
    yield "app", AppInquiry(target)
    yield "principal", AppInquiry(target, as_principal=True)
    yield "function", Function(f"{__name__}:plain")
    yield "async", Function(f"{__name__}:later")
    for name, server, dialect in (
        ("postgresql", postgresql, SqlDialect.POSTGRESQL),
        ("mariadb", mariadb, SqlDialect.MYSQL),
    ):
        try:
            url = stack.enter_context(server()).url()
        except pytest.skip.Exception as missing:
            print(f"{name}: {missing}")
            continue
        yield name, statement_of(SQL, Database("APP_URL", url, dialect), {})
    yield "sqlite", statement_of(SQL, Database("APP_URL", stack.enter_context(_sqlite()), SqlDialect.SQLITE), {})


def plain(request: LookupRequest) -> dict[str, str]:
    """A function that knows all invoices."""
    return {"id": request.id, "owner_id": "alice", "status": "open"}


def _all(ids: Iterable[str]) -> dict[str, dict[str, str]]:
    return {one: plain(LookupRequest("invoice", one, None, 1.0)) for one in ids}


def many(request: BatchLookupRequest) -> dict[str, dict[str, str]]:
    """A function that knows all invoices, and is asked about many."""
    return _all(request.ids)


async def later(request: LookupRequest) -> dict[str, str]:
    """The same, async."""
    return plain(request)


def _asker(lookups: Lookups, name: str, inquiry: Inquiry) -> Callable[[], Awaitable[None]]:
    lookup = Lookup(name, inquiry, ATTRIBUTES, timeout=10.0)

    async def ask() -> None:
        call = call_for(lookup, "invoice", "7", MATERIAL)
        if isinstance(inquiry, AppInquiry):
            call = call._replace(
                app=inquiry.warrant(call, MATERIAL.request, TOLD if inquiry.as_principal else (), None)
            )
        found = attributes_from(call, await lookups.ask(call))
        assert found == {"owner": "alice", "status": "open"}

    return ask


def _of_items(name: str, inquiry: Inquiry) -> dict[str, Lookup]:
    """The lookups of a list's items, by `one by one` and `in one call`; none where a source has no such."""
    by_id, echoed = Lookup(name, inquiry, ATTRIBUTES, timeout=10.0), searcher("id")
    match inquiry:
        case Hook(origin):
            many = by_id._replace(inquiry=Hook(origin, ("/invoices?id=", ResourceField.IDS)))
        case Function(name=function) if function.endswith("plain"):
            many = by_id._replace(inquiry=Function(f"{__name__}:many", batch=True))
        case Statement(database=database):
            typed = {"id": (ResourceField.ID, Binding.INT), "ids": (ResourceField.IDS, Binding.INT)}
            by_id = by_id._replace(inquiry=statement_of(NUMBERS + "= :id", database, {"id": typed["id"]}))
            many = by_id._replace(
                inquiry=statement_of(NUMBERS + "in :ids", database, {"ids": typed["ids"]}), echo=echoed
            )
        case _:
            return {}
    return {"one by one": by_id, "in one call": many._replace(name=f"{name}-many", batch=Batch(100))}


def _list_asker(lookups: Lookups, lookup: Lookup) -> Callable[[], Awaitable[None]]:
    ids, readings = [str(number) for number in range(1, ITEMS + 1)], ReplyReader()

    async def ask_all(calls: Sequence[Call]) -> Sequence[Reply]:
        if lookup.batch is not None:
            return await lookups.ask_all(calls)
        return await together([partial(lookups.ask, call) for call in calls], LOOKUPS_AT_ONCE)

    async def ask() -> None:
        known = await known_of([lookup], "invoice", ids, MATERIAL, ask_all, readings)
        assert known == [{"owner": "alice", "status": "open"}] * ITEMS

    return ask


async def measure(inquiries: dict[str, Inquiry], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Microseconds of CPU for one lookup, by source and round; and for those of the items of a list, by source and way,
    and round."""
    http = inquiries["http"]
    assert isinstance(http, Hook)
    app = UpstreamSource(AppReader(lambda _: Pool(Origin.parse(http.origin))))
    lookups = Lookups(
        {Hook: HttpSource(), AppInquiry: app, Function: FunctionSource(), Statement: SqlSource(8)}, now=time.monotonic
    )
    taken = await _timed({name: _asker(lookups, name, inquiry) for name, inquiry in inquiries.items()}, EACH, rounds)
    of_items = {
        f"{name}, {way}": _list_asker(lookups, lookup)
        for name, inquiry in inquiries.items()
        for way, lookup in _of_items(name, inquiry).items()
    }
    lists = await _timed(of_items, LISTS, rounds)
    await lookups.aclose()
    return taken, lists


async def _timed(askers: dict[str, Callable[[], Awaitable[None]]], times: int, rounds: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in askers}
    for turn in range(-1, rounds):
        for name, ask in askers.items():
            begun = time.process_time()
            for _ in range(times):
                await ask()
            # the first turn opens connections, and loads libraries
            if turn >= 0:
                taken[name].append((time.process_time() - begun) / times * 1e6)
    return taken


def main() -> None:
    """Print the least and the median for each source, and how they compare with HTTP."""
    with ExitStack() as stack:
        inquiries = dict(_inquiries(stack))
        taken, lists = uvloop.run(measure(inquiries, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
    for name, times in taken.items():
        least, median = min(times), statistics.median(times)
        ratio = statistics.median(mine / http for mine, http in zip(times, taken["http"], strict=True))
        print(f"{name:12}{least:7.0f} us least {median:7.0f} us median {ratio:6.2f} of HTTP")
    print(f"{ITEMS} items of a list:")
    for name in dict.fromkeys(way.partition(",")[0] for way in lists):
        single, batch = lists[f"{name}, one by one"], lists[f"{name}, in one call"]
        ratio = statistics.median(mine / other for mine, other in zip(batch, single, strict=True))
        print(f"{name:12}{min(batch):7.0f} us in one call {min(single):7.0f} us one by one {ratio:6.2f} of it")


if __name__ == "__main__":
    main()
