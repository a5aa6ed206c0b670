"""What a client can do by an id that ends in a statement: another row, another statement, or two readings of one id."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.faults.fakes import FakeCerbos
from tests.faults.test_faults import environment
from tests.stack import ROOT, Got, Recorder, Sidecar, Web, reply, running_sidecar, wait_for
from tests.tokens import claims, key_set, mint

pytestmark = pytest.mark.process
ROUTES = """\
version: 1
lookups:
  text: {sql: "select id, owner from notes where id = :id", database: NOTES_URL, attributes: {owner: owner}, echo: id, timeout: 5s}
  number: {sql: "select owner from contacts where id = :id", database: NOTES_URL, parameters: {id: "{id:int}"}, attributes: {owner: owner}, timeout: 5s}
  loose: {sql: "select id, owner from contacts where id = :id", database: NOTES_URL, attributes: {owner: owner}, echo: id, timeout: 5s}
  mine: {sql: "select owner from notes where id = :id and owner = :who", database: NOTES_URL, parameters: {who: "{claims.nick}"}, attributes: {owner: owner}, timeout: 5s}
  several: {sql: "select id, owner from contacts where id in :ids", database: NOTES_URL, batch: true, attributes: {owner: owner}, timeout: 5s}
routes:
  - {path: "/several/{id:any}", resource: contact, id: "{path.id}", lookup: several, query: [], actions: {GET: read}}
  - {path: /several, resource: contact, query: [], each: {at: "{body.ids}", lookup: several}, actions: {POST: read}}
  - {path: "/text/{id:any}", resource: contact, id: "{path.id}", lookup: text, query: [], actions: {GET: read}}
  - {path: "/number/{id:any}", resource: contact, id: "{path.id}", lookup: number, query: [], actions: {GET: read}}
  - {path: "/loose/{id:any}", resource: contact, id: "{path.id}", lookup: loose, query: [], actions: {GET: read}}
  - {path: "/mine/{id:any}", resource: contact, id: "{path.id}", lookup: mine, query: [], actions: {GET: read}}
  - {path: /listed, resource: contact, query: [], actions: {GET: list}, items: {at: "@", id: id, lookup: several}}
  - {path: /single, resource: contact, query: [], actions: {GET: list}, items: {at: "@", id: id, lookup: loose, max: 100}}
  - {path: /many, resource: contact, query: [], each: {at: "{body.ids}", lookup: loose}, actions: {POST: read}}
"""
INJECTED = (
    "7' or '1'='1", "7'; delete from notes; --", "' union select 'x', 'y' --", "7\\", "7\\' or 1=1 --", "7/**/or/**/1=1", "7%", "_",
    ":id", "?", "?1", "@id", "$1", "${id}", "{id}", "%s", "7) or (1=1", "x'37'", "7 ", " 7", "\u02bc or 1=1", "\uff17",
)  # fmt: skip


@dataclass
class World:
    sidecar: Sidecar
    upstream: Recorder
    file: Path

    def ask(self, target: str, body: object = None, **more: object) -> Got:
        token = mint(claims(time.time(), **more)).decode()
        sent = None if body is None else json.dumps(body).encode()
        return self.sidecar.request(
            "GET" if body is None else "POST", target, token, sent, content_type="application/json"
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("sql-hostile")
    with closing(sqlite3.connect(folder / "app.db")) as made:
        made.executescript(
            "create table notes (id text primary key, owner text); insert into notes values ('7', 'alice'), ('O''Neil', 'bob');"
            "create table contacts (id integer primary key, owner text); insert into contacts values (7, 'alice'), (8, 'bob');"
        )
    keys, cerbos, upstream = Web(), FakeCerbos(), Recorder()
    keys.json("/jwks", key_set())
    environ = {
        **environment(keys.port), "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}", "NOTES_URL": f"sqlite:///{folder}/app.db",
        "SIDECAR_CERBOS_TIMEOUT": "5s",
    }  # fmt: skip
    where = f"http://127.0.0.1:{upstream.port}"
    with running_sidecar(folder / "run", ROUTES, ROOT / "policies", where, environ) as sidecar:
        made_world = World(sidecar, upstream, folder / "app.db")
        wait_for(lambda: made_world.ask("/text/7").status == 200, 20, "the first connection")
        yield made_world
    for part in (keys, cerbos, upstream):
        part.close()


@pytest.mark.parametrize("route", ["text", "number", "loose", "several"])
def test_no_id_is_a_statement_or_another_row(world: World, route: str) -> None:
    before = world.file.read_bytes()
    for text in INJECTED:
        world.upstream.reset()
        got = world.ask(f"/{route}/{quote(text, safe='')}")
        assert got.status in (400, 403, 503), (route, text, got)
        assert world.upstream.received == b"", (route, text)
    assert world.file.read_bytes() == before
    assert world.ask(f"/{route}/7").status == 200


def test_a_quote_is_a_part_of_an_id(world: World) -> None:
    assert world.ask("/text/O%27Neil").status == 200


@pytest.mark.parametrize("text", ["007", "+7", "7.0", "7e0", "0x7", "%37%20", "7%00", "\u0667", "7%0a"])
def test_a_spelling_is_not_another_row(world: World, text: str) -> None:
    """SQLite finds row 7 for some of them."""
    for route in ("number", "loose", "several"):
        world.upstream.reset()
        assert world.ask(f"/{route}/{quote(text, safe='%')}").status in (400, 403, 503)
        assert world.upstream.received == b""


def test_a_claim_is_bound_as_well(world: World) -> None:
    assert world.ask("/mine/7", nick="alice").status == 200
    for nick in ("' or '1'='1", "alice' --", "ALICE", "alice\x00"):
        assert world.ask("/mine/7", nick=nick).status in (400, 403)


@pytest.mark.parametrize("path", ["/many", "/several"])
def test_many_are_each_one_row(world: World, path: str) -> None:
    assert world.ask(path, {"ids": [7, 8]}).status == 200
    world.upstream.reset()
    for ids in ([7, "007"], ["7' or 1=1 --"], [7, "+8"], [7, 7.5], [None], [[7]], ["7", "8) or (1=1"]):
        assert world.ask(path, {"ids": ids}).status in (400, 403, 503), ids
    assert world.upstream.received == b""


ODD = [
    *INJECTED,
    "007",
    "+7",
    "7.0",
    "7e0",
    "0x7",
    "7\x00",
    "\u0667",
    "7\n",
    "",
    "7 or 1=1",
    "9",
    True,
    7.5,
    None,
    [7],
    {"id": 7},
]


@pytest.mark.parametrize("path", ["/listed", "/single"])
def test_what_somebody_wrote_as_an_id_of_an_item_shows_no_other_row(world: World, path: str) -> None:
    """All items whose row is found would be shown. One that has none is left out, or the whole list is refused."""
    before = world.file.read_bytes()
    for odd in ODD:
        items = [{"id": 7, "text": "mine"}, {"id": odd, "text": "secret"}]
        world.upstream.reset(reply(200, json.dumps(items).encode(), "Content-Type: application/json"))
        got = world.ask(path)
        assert b"secret" not in got.body, odd
        assert got.status in (502, 503) or json.loads(got.body) == items[:1], (odd, got)
        assert len(world.upstream.seen) == 1
    assert world.file.read_bytes() == before
    rows = [{"id": one} for one in (8, "7", 7, "8")]
    world.upstream.reset(reply(200, json.dumps(rows).encode(), "Content-Type: application/json"))
    assert json.loads(world.ask(path).body) == rows
