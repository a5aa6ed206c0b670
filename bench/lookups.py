"""CPU of one lookup by source: a hook by HTTP beside the app, functions, and SQL at real databases, in turn.

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
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jmespath
import pytest
import uvloop

from sidecar.api import LookupRequest
from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.function import Function
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Principal
from sidecar.gate.lookup import Attribute, Inquiry, Lookup, ResourceField, attributes_from, call_for
from sidecar.gate.references import Material
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.statement import Database, Dialect, Statement, statement_of
from sidecar.lookups.asking import Lookups
from sidecar.lookups.function import FunctionSource
from sidecar.lookups.http import HttpSource
from sidecar.lookups.sql import SqlSource
from sidecar.lookups.upstream import UpstreamSource
from sidecar.net.app_reader import AppReader
from sidecar.net.pool import Origin, Pool
from tests.databases import ROWS, mariadb, postgresql

ROUNDS = 12
EACH = 500
"""Lookups of one source in one round."""
SQL = "select id, owner_id, status from invoices where id = :id"
ATTRIBUTES = {
    name: Attribute(jmespath.compile(text).search) for name, text in (("owner", "owner_id"), ("status", "status"))
}
MATERIAL = Material(
    read(Raw("GET", b"/invoices/7", [(b"host", b"x")], "", "http", "r"), Reading()), {"id": "7"},
    Principal("alice", ("user",), {}, "i", 1.0, {}), None,
)  # fmt: skip

TOLD = [(b"authorization", b"Bearer " + b"x" * 900), (b"x-auth-subject", b"alice"), (b"x-auth-roles", b"user")]
"""What the app is told of the principal."""


def _serve(port: multiprocessing.connection.Connection) -> None:
    body = json.dumps({"id": "7", "owner_id": "alice", "status": "open"}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(head + body)

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
    for name, server, dialect in (("postgresql", postgresql, Dialect.POSTGRESQL), ("mariadb", mariadb, Dialect.MYSQL)):
        try:
            url = stack.enter_context(server()).url()
        except pytest.skip.Exception as missing:
            print(f"{name}: {missing}")
            continue
        yield name, statement_of(SQL, Database("APP_URL", url, dialect), {})
    yield "sqlite", statement_of(SQL, Database("APP_URL", stack.enter_context(_sqlite()), Dialect.SQLITE), {})


def plain(request: LookupRequest) -> dict[str, str]:
    """A function that knows all invoices."""
    return {"id": request.id, "owner_id": "alice", "status": "open"}


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


async def measure(inquiries: dict[str, Inquiry], rounds: int) -> dict[str, list[float]]:
    """Microseconds of CPU for one lookup, by source and round."""
    http = inquiries["http"]
    assert isinstance(http, Hook)
    app = UpstreamSource(AppReader(lambda _: Pool(Origin.parse(http.origin))))
    lookups = Lookups(
        {Hook: HttpSource(), AppInquiry: app, Function: FunctionSource(), Statement: SqlSource(8)}, now=time.monotonic
    )
    askers = {name: _asker(lookups, name, inquiry) for name, inquiry in inquiries.items()}
    taken: dict[str, list[float]] = {name: [] for name in askers}
    for turn in range(-1, rounds):
        for name, ask in askers.items():
            begun = time.process_time()
            for _ in range(EACH):
                await ask()
            # the first turn opens connections, and loads libraries
            if turn >= 0:
                taken[name].append((time.process_time() - begun) / EACH * 1e6)
    await lookups.aclose()
    return taken


def main() -> None:
    """Print the least and the median for each source, and how they compare with HTTP."""
    with ExitStack() as stack:
        inquiries = dict(_inquiries(stack))
        taken = uvloop.run(measure(inquiries, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS))
    for name, times in taken.items():
        least, median = min(times), statistics.median(times)
        ratio = statistics.median(mine / http for mine, http in zip(times, taken["http"], strict=True))
        print(f"{name:12}{least:7.0f} us least {median:7.0f} us median {ratio:6.2f} of HTTP")


if __name__ == "__main__":
    main()
