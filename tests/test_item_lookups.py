"""Lists whose items are looked up: each is decided as the same thing that is asked for alone, whoever tells of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from jwt import PyJWK

from sidecar.api import BatchLookupRequest
from sidecar.config.routes.file import RoutesFile, read_routes
from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Resource, Result
from sidecar.gate.evaluation import Rules
from sidecar.gate.function import Function
from sidecar.gate.gate import Gate
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.mode import Mode
from sidecar.gate.obligation import HeldAnswer, ReduceLines
from sidecar.gate.request import Raw, Reading
from sidecar.gate.settle import Released, settle_whole
from sidecar.gate.statement import Statement
from sidecar.gate.verdict import Forward, Refuse, Refused, Verdict
from sidecar.lookups.asking import Lookups
from sidecar.lookups.function import FunctionSource
from sidecar.lookups.http import HttpSource
from sidecar.lookups.sql import SqlSource
from tests.fakes import Web, answer
from tests.gate.test_gate import NOW, TOKEN
from tests.tokens import CLIENT, ISSUER, public_key

ROUTES = """\
version: 1
lookups:
  single: {url: "HOOK/docs/{id}?org={path.org}", attributes: {owner: o, of: p}, optional: [of], missing: MISSING, echo: id, timeout: 20s, cache: CACHE}
  batched: {url: "HOOK/list?org={path.org}&id={ids}", batch: {max: 70}, attributes: {owner: o, of: p}, optional: [of], missing: MISSING, echo: id, timeout: 20s, cache: CACHE}
  keyed: {url: "HOOK/keyed?org={path.org}&ids={ids}", batch: {max: 7, separator: ",", at: data.docs}, attributes: {owner: o, of: p}, optional: [of], missing: MISSING, timeout: 20s, cache: CACHE}
  rows: {sql: "select id, o, p from docs where id in :ids", database: DOCS_URL, batch: true, attributes: {owner: o, of: p}, optional: [of], missing: MISSING, timeout: 20s, cache: CACHE}
  called: {function: "tests.test_item_lookups:of_many", batch: true, attributes: {owner: o, of: p}, optional: [of], missing: MISSING, timeout: 20s, cache: CACHE}
  parent: {url: "HOOK/docs/{lookup.LOOKUP.of}?org=x", attributes: {above: o}, missing: MISSING, timeout: 20s, cache: CACHE}
routes:
  - {path: "/{org:any}/docs", resource: list, actions: {GET: list}, items: {at: data, id: id, resource: doc, lookup: LOOKUP, max: 100, fields: {secret: see}}}
  - {path: "/{org:any}/chained", resource: list, actions: {GET: list}, items: {at: data, id: id, resource: doc, lookup: [LOOKUP, parent], max: 100}}
  - {path: "/{org:any}/chained/{id}", resource: doc, id: "{path.id}", lookup: [LOOKUP, parent], actions: {GET: read}}
  - {path: "/{org:any}/docs/{id}", resource: doc, id: "{path.id}", lookup: LOOKUP, actions: {GET: read}}
"""
MORE = """\
  - {path: "/{org:any}/own", resource: list, actions: {GET: list}, items: {at: data, id: id, resource: doc, attributes: {owner: o, of: kept, size: size}, lookup: LOOKUP, max: 1000}}
  - {path: "/{org:any}/lines", resource: list, actions: {GET: list}, items: {at: lines, id: id, resource: doc, lookup: LOOKUP}}
"""
LOOKUPS = ("single", "batched", "keyed", "rows", "called")
JSON = [(b"content-type", b"application/json")]
DOCUMENTS: dict[str, Any] = {}


def of_many(request: BatchLookupRequest) -> dict[str, Any]:
    """A function that knows all documents."""
    return {one: DOCUMENTS[one] for one in request.ids if one in DOCUMENTS}


class Asked:
    """The gate with the routes of a file and real sources, and a PDP that allows what is `owner`'s."""

    def __init__(self, routes: RoutesFile, lookups: Lookups, owner: str = "mine") -> None:
        self.routes = routes
        self.lookups = lookups
        self.owner = owner
        self.questions: list[Question] = []
        self.mode: Mode = "enforce"

    async def find(self, issuer: str, kid: str) -> PyJWK:
        return public_key("k1")

    async def check(self, question: Question) -> PdpAnswer:
        self.questions.append(question)
        return PdpAnswer(question.request_id, "call", tuple(map(self._result, question.resources)))

    def _result(self, one: Resource) -> Result:
        allowed = ALLOW if one.action == "list" or one.attributes.get("owner") == self.owner else DENY
        return Result(one.kind, one.id, dict.fromkeys((one.action, *one.more_actions), allowed), False, {})

    async def decide(self, target: str) -> Verdict:
        tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), self.find)
        rules = Rules(self.routes.table, self.routes.lookups, tokens, Reading())
        gate = Gate(rules, self.lookups, self, now=lambda: NOW, timer=itertools.count().__next__, mode=self.mode)
        headers = [(b"host", b"a"), (b"authorization", b"Bearer " + TOKEN)]
        return await gate.decide(Raw("GET", target.encode(), headers, "", "http", "r1", holds_answer=True), None)

    async def get(self, target: str, items: Sequence[Mapping[str, Any]]) -> Released | Refuse:
        """The app's answer with these items, as it is released."""
        permit = await self.decide(target)
        assert isinstance(permit, Forward), permit
        self.permit = permit
        return await settle_whole(permit, HeldAnswer(200, JSON, json.dumps({"data": items}).encode()))

    async def kept(self, target: str, items: Sequence[Mapping[str, Any]]) -> list[str]:
        released = await self.get(target, items)
        assert isinstance(released, Released), released
        return [str(item["id"]) for item in json.loads(released.body or b"")["data"]]

    def asked(self) -> dict[str, Any]:
        """What the PDP was asked about items: id -> attributes."""
        return {
            one.id: dict(one.attributes)
            for question in self.questions
            for one in question.resources
            if one.action != "list"
        }


class World(Asked):
    """The gate with one of the lookups, each at what really answers."""

    def __init__(self, web: Web, folder: Path, lookup: str, missing: str = "deny", cache: str = "0s") -> None:
        text = ROUTES if lookup == "single" else ROUTES + MORE
        for name, told in (("LOOKUP", lookup), ("HOOK", web.origin), ("MISSING", missing), ("CACHE", cache)):
            text = text.replace(name, told)
        self.web = web
        self.file = folder / "docs.db"
        self.counted: list[str] = []
        lookups = Lookups(
            {Hook: HttpSource(), Statement: SqlSource(2), Function: FunctionSource()},
            now=time.monotonic, count=lambda cache, outcome: self.counted.append(outcome),
        )  # fmt: skip
        super().__init__(read_routes(text, "routes.yaml", {"DOCS_URL": f"sqlite:///{self.file}"}), lookups)

    async def behave(self, writer: asyncio.StreamWriter) -> None:
        target = urlsplit(self.web.asked[-1][0].split()[1])
        query = parse_qs(target.query)
        assert query["org"] in (["a&b"], ["x"])
        if target.path.startswith("/docs/"):
            told = DOCUMENTS.get(unquote(target.path.removeprefix("/docs/")))
            await answer(404 if told is None else 200, json.dumps(told).encode())(writer)
            return
        ids = query["id"] if target.path == "/list" else query["ids"][0].split(",")
        found = {one: DOCUMENTS[one] for one in ids if one in DOCUMENTS}
        told = [*found.values()] if target.path == "/list" else {"data": {"docs": found}}
        await answer(200, json.dumps(told).encode())(writer)


Make = Callable[..., World]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    made: list[World] = []
    async with Web(answer(500)) as web:

        def make(lookup: str, missing: str = "deny", cache: str = "0s") -> World:
            world = World(web, tmp_path, lookup, missing, cache)
            web.behave = world.behave
            with closing(sqlite3.connect(world.file)) as file, file:
                file.execute("create table if not exists docs (id text primary key, o text, p text)")
                file.execute("delete from docs")
                file.executemany("insert into docs values (:id, :o, :p)", DOCUMENTS.values())
            made.append(world)
            return world

        yield make
        for world in made:
            await world.lookups.aclose()


def documents(**told: Any) -> None:
    """Let there be these."""
    DOCUMENTS.clear()
    DOCUMENTS.update({name: {"id": name, "p": None} | one for name, one in told.items()})


@pytest.mark.parametrize("missing", ["deny", "hide", "empty"])
async def test_the_list_and_the_single_read_agree_on_every_row(make: Make, missing: str) -> None:
    chance = random.Random(17)
    ids = [f"d{number}" for number in chance.sample(range(60), 13)]
    documents(
        top={"o": "root"},
        **{one: {"o": chance.choice(["mine", "other"]), "p": chance.choice(["top", "gone"])} for one in ids[3:]},
    )
    items = [{"id": one} for one in [*ids, *ids[:4]]]
    outcomes = []
    for lookup in LOOKUPS:
        for path in ("docs", "chained"):
            world = make(lookup, missing)
            if (path, missing) == ("chained", "empty"):
                # alone it is the same: nobody knows what the second one is to be asked about
                assert await refused(world, items, f"/a%26b/{path}") == ("lookup_incomplete", 0)
                continue
            kept = await world.kept(f"/a%26b/{path}", items)
            asked, alone = world.asked(), list[str]()
            world.questions.clear()
            for item in items:
                if isinstance(await world.decide(f"/a%26b/{path}/{item['id']}"), Forward):
                    alone.append(item["id"])
            assert kept == alone
            assert asked == world.asked()
            assert 0 < len(kept) < len(items)
            assert world.permit.facts.items is not None
            assert world.permit.facts.items["kept"] == len(kept)
            outcomes.append((path, kept, asked))
    each = len(outcomes) // len(LOOKUPS)
    assert outcomes == outcomes[:each] * len(LOOKUPS)


async def test_a_list_is_a_few_calls(make: Make) -> None:
    documents(**{f"d{number}": {"o": "mine"} for number in range(100)})
    items = [{"id": f"d{number}"} for number in range(100)]
    calls = {}
    for lookup in ("single", "batched", "keyed"):
        world = make(lookup)
        world.web.asked.clear()
        assert len(await world.kept("/a%26b/docs", items)) == 100
        calls[lookup] = len(world.web.asked)
        assert world.asked().keys() == DOCUMENTS.keys()
    assert calls == {"single": 100, "batched": 2, "keyed": 16}


async def test_what_is_known_is_not_asked_again(make: Make) -> None:
    documents(**{f"d{number}": {"o": "mine"} for number in range(30)})
    world = make("batched", cache="60s")
    world.web.asked.clear()
    assert isinstance(await world.decide("/a%26b/docs/d7"), Forward)
    assert len(await world.kept("/a%26b/docs", [{"id": f"d{number}"} for number in range(20)])) == 20
    assert isinstance(await world.decide("/a%26b/docs/d8"), Forward)
    assert len(await world.kept("/a%26b/docs", [{"id": f"d{number}"} for number in range(30)])) == 30
    asked = [parse_qs(urlsplit(line.split()[1]).query)["id"] for line, _ in world.web.asked]
    assert sorted(itertools.chain(*asked)) == sorted(DOCUMENTS)
    assert len(asked) == 3
    assert world.counted.count("miss") == 30


async def test_lists_at_the_same_time_share_a_call(make: Make) -> None:
    documents(d1={"o": "mine"}, d2={"o": "other"})
    world = make("batched")
    world.web.asked.clear()
    kept = await asyncio.gather(*(world.kept("/a%26b/docs", [{"id": "d1"}, {"id": "d2"}]) for _ in range(4)))
    assert kept == [["d1"]] * 4
    assert len(world.web.asked) == 1


async def test_what_a_lookup_gives_goes_before_what_the_item_says(make: Make) -> None:
    documents(d1={"o": "other"}, d2={"o": "mine", "p": "top"}, d3={"o": "mine"})
    world = make("batched")
    said = [{"id": f"d{number}", "o": "mine", "kept": "said", "size": number} for number in (1, 2, 3)]
    assert await world.kept("/a%26b/own", said) == ["d2", "d3"]
    # where the lookup has no value for one of its own, what the item says does not stand in for it
    assert world.asked() == {
        "d1": {"owner": "other", "size": 1}, "d2": {"owner": "mine", "of": "top", "size": 2},
        "d3": {"owner": "mine", "size": 3},
    }  # fmt: skip


@pytest.mark.parametrize("missing", ["deny", "hide"])
async def test_what_is_missing_is_dropped_without_asking(make: Make, missing: str) -> None:
    documents(d2={"o": "mine"})
    world = make("batched", missing)
    assert await world.kept("/a%26b/docs", [{"id": "d1"}, {"id": "d2"}, {"id": "d3"}]) == ["d2"]
    facts = world.permit.facts
    assert world.asked().keys() == {"d2"}
    assert facts.items == {"seen": 3, "kept": 1, "masked": 0, "calls": 1}
    assert facts.missing == ("d1", "d3")
    world.questions.clear()
    assert await world.kept("/a%26b/docs", [{"id": "d1"}]) == []
    assert world.asked() == {}
    assert world.permit.facts.items == {"seen": 1, "kept": 0, "masked": 0, "calls": 0}
    assert await world.kept("/a%26b/docs", []) == []


async def test_lines_are_looked_up_window_by_window(make: Make) -> None:
    documents(**{f"d{number}": {"o": ("mine", "other")[number % 2]} for number in range(0, 60, 3)})
    world = make("rows")
    permit = await world.decide("/a%26b/lines")
    assert isinstance(permit, Forward)
    (demand,) = [one for one in permit.obligations if isinstance(one, ReduceLines)]
    lines = [json.dumps({"id": f"d{number}"}).encode() + b"\n" for number in range(60)]
    left = b"".join([await demand.rule.window(lines[at : at + 20], demand.judge) for at in (0, 20, 40)])
    assert left.split(b"\n")[:-1] == [line.strip() for line in lines[::6]]
    # a bound one, since lines have no end
    assert len(permit.facts.missing) == 40
    for _ in range(4):
        await demand.rule.window([json.dumps({"id": "none"}).encode()], demand.judge)
        await demand.rule.window(lines, demand.judge)
    assert len(permit.facts.missing) == 100


async def test_in_shadow_the_list_goes_out_and_would_be_judged(make: Make) -> None:
    documents(d1={"o": "mine"})
    world = make("batched")
    world.mode = "shadow"
    world.web.asked.clear()
    released = await world.get("/a%26b/docs", [{"id": "d1"}, {"id": "d2"}])
    assert isinstance(released, Released)
    assert json.loads(released.body or b"") == {"data": [{"id": "d1"}, {"id": "d2"}]}
    assert world.web.asked == []


# --- faults: nothing is released, and the list is never silently shorter ---


async def refused(world: World, items: Sequence[Mapping[str, Any]], path: str = "/a%26b/docs") -> tuple[Code, int]:
    """The code with which a list is refused, and how many of its items the PDP was asked about."""
    world.questions.clear()
    released = await world.get(path, items)
    assert isinstance(released, Refuse), released
    assert released.masked_as is None
    return released.code, len(world.asked())


FAULTS = {
    "another status": (500, b"", "lookup_status"),
    "missing as a whole": (404, b"{}", "lookup_status"),
    "no JSON": (200, b"<html>", "lookup_bad_answer"),
    "no list": (200, b'{"d1": {}}', "lookup_bad_answer"),
    "another id": (200, b'[{"id": "d1", "o": "mine"}, {"id": "d9", "o": "mine"}]', "lookup_bad_answer"),
    "an id twice": (200, b'[{"id": "d1", "o": "mine"}, {"id": "d1", "o": "other"}]', "lookup_bad_answer"),
    "no owner": (200, b'[{"id": "d1", "o": "mine"}, {"id": "d2"}]', "lookup_mismatch"),
    "another type": (200, b'[{"id": "d1", "o": "mine"}, {"id": "d2", "o": [1]}]', "lookup_mismatch"),
    "not allowed": (401, b"", "lookup_auth"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_lookup_that_fails_refuses_the_list(make: Make, fault: str) -> None:
    documents(d1={"o": "mine"}, d2={"o": "mine"})
    world = make("batched", "hide")
    status, body, code = FAULTS[fault]
    world.web.behave = answer(status, body)
    assert await refused(world, [{"id": "d1"}, {"id": "d2"}]) == (code, 0)


async def test_one_part_that_fails_refuses_the_whole_list(make: Make) -> None:
    documents(**{f"d{number}": {"o": "mine"} for number in range(300)})
    world = make("batched")
    items = [{"id": f"d{number}", "o": "", "kept": "", "size": 1} for number in range(300)]
    assert len(await world.kept("/a%26b/own", items)) == 300
    good, calls = world.behave, itertools.count()

    async def behave(writer: asyncio.StreamWriter) -> None:
        await (answer(500) if next(calls) == 2 else good)(writer)

    world.web.behave = behave
    code, asked = await refused(world, items, "/a%26b/own")
    assert code == "lookup_status"
    assert asked < 300


BAD_IDS = ["", ".", "..", "a\x00b", "a\nb", "x" * 5000, "\x7f", True, 1.5, None, [], {"id": "d1"}]


@pytest.mark.parametrize("lookup", LOOKUPS)
async def test_an_id_that_nobody_can_be_asked_about_refuses_the_list(make: Make, lookup: str) -> None:
    """As the app's fault: whoever asked has not said it. A database and a function know of no dot segments."""
    documents(d1={"o": "mine"})
    world = make(lookup)
    for bad in BAD_IDS:
        if lookup in ("single", "batched", "keyed") or bad not in (".", ".."):
            assert await refused(world, [{"id": "d1"}, {"id": bad}]) == ("items_unreadable", 0), bad


@pytest.mark.parametrize("lookup", LOOKUPS)
async def test_an_id_that_says_more_than_an_id_is_one_id(make: Make, lookup: str) -> None:
    odd = [
        "d1&id=d2",
        "d1/../d2",
        "d1?org=x",
        "d1#",
        "%64%31",
        "d1 ",
        "D1",
        "d1' or '1'='1",
        "id in ('d1')",
        "é",
        "d1;d2",
    ]
    if lookup == "keyed":
        odd = ["D1", "d1~", "d1.", "+d1"]
    documents(d1={"o": "mine"}, d2={"o": "mine"})
    world = make(lookup)
    assert await world.kept("/a%26b/docs", [{"id": one} for one in odd]) == []
    assert world.permit.facts.missing == tuple(odd)
    if lookup == "keyed":
        # what would be another list in one value
        assert await refused(world, [{"id": "d1,d2"}]) == ("items_unreadable", 0)
    documents(**{one: {"o": "mine"} for one in odd})
    assert await make(lookup).kept("/a%26b/docs", [{"id": one} for one in odd]) == odd


async def test_lines_with_such_an_id_break_off_as_the_apps_fault(make: Make) -> None:
    world = make("keyed")
    permit = await world.decide("/a%26b/lines")
    assert isinstance(permit, Forward)
    (demand,) = [one for one in permit.obligations if isinstance(one, ReduceLines)]
    with pytest.raises(Refused) as refused:
        await demand.rule.window([b'{"id": "d1,d2"}\n'], demand.judge)
    assert refused.value.code == "items_unreadable"


async def test_what_a_lookup_reads_of_the_request_is_required_before_the_app_is_asked(make: Make) -> None:
    documents(d1={"o": "mine"})
    world = make("batched")
    text = ROUTES.replace("org={path.org}&id", "org={query.org}&id")
    for name, told in (("LOOKUP", "batched"), ("HOOK", world.web.origin), ("MISSING", "deny"), ("CACHE", "0s")):
        text = text.replace(name, told)
    world.routes = read_routes(text, "routes.yaml", {"DOCS_URL": f"sqlite:///{world.file}"})
    for query in ("", "?org=x&org=x", "?other=x"):
        verdict = await world.decide(f"/a/docs{query}")
        assert isinstance(verdict, Refuse)
        assert (verdict.code, world.questions) == ("reference_invalid", [])
    assert await world.kept("/a/docs?org=x", [{"id": "d1"}]) == ["d1"]
