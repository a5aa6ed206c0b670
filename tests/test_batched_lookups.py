"""Lookups that ask about many in one call decide as those that ask about each: through the gate, over real connections."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import re
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from jwt import PyJWK

from sidecar.config.routes.file import RoutesFile, read_routes
from sidecar.gate.body import Show, Viewer
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Result
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.request import Raw, Reading
from sidecar.gate.verdict import Forward, Refuse, Verdict
from sidecar.lookups.asking import Lookups
from sidecar.lookups.http import HttpSource
from tests.config.routes.reading import read_once
from tests.fakes import Web, answer
from tests.gate.test_gate import NOW, TOKEN
from tests.stack import ROOT
from tests.tokens import CLIENT, ISSUER, public_key

ROUTES = """\
version: 1
lookups:
  single: {url: "HOOK/docs/{id}?org={path.org}", attributes: {owner: o, of: p}, optional: [of], missing: MISSING, echo: id, timeout: 20s}
  batched: {url: "HOOK/list?org={path.org}&id={ids}", batch: {max: 7}, attributes: {owner: o, of: p}, optional: [of], missing: MISSING, echo: id, timeout: 20s}
  keyed: {url: "HOOK/keyed?org={path.org}&ids={ids}", batch: {max: 7, separator: ",", at: data.docs}, attributes: {owner: o, of: p}, optional: [of], missing: MISSING, timeout: 20s}
  parent: {url: "HOOK/docs/{lookup.LOOKUP.of}?org=x", attributes: {above: o}, missing: MISSING, timeout: 20s}
routes:
  - {path: "/{org:any}/archive", resource: doc, each: {at: "{body.ids}", lookup: LOOKUP}, actions: {POST: archive}}
  - {path: "/{org:any}/chained", resource: doc, each: {at: "{body.ids}", lookup: [LOOKUP, parent]}, actions: {POST: archive}}
  - {path: "/{org:any}/docs/{id}", resource: doc, id: "{path.id}", lookup: LOOKUP, actions: {GET: read}}
"""


class Hooks:
    """A hook that is asked about one, or about many, and says the same."""

    def __init__(self, documents: dict[str, Any], web: Web) -> None:
        self.documents = documents
        self.web = web
        web.behave = self.behave

    async def behave(self, writer: asyncio.StreamWriter) -> None:
        target = urlsplit(self.web.asked[-1][0].split()[1])
        query = parse_qs(target.query)
        assert query["org"] in (["a&b"], ["x"])
        if target.path.startswith("/docs/"):
            told = self.documents.get(unquote(target.path.removeprefix("/docs/")))
            await answer(404 if told is None else 200, json.dumps(told).encode())(writer)
            return
        ids = query["id"] if target.path == "/list" else query["ids"][0].split(",")
        found = {one: self.documents[one] for one in ids if one in self.documents}
        told = [*found.values()] if target.path == "/list" else {"data": {"docs": found}}
        await answer(200, json.dumps(told).encode())(writer)


class World:
    """The gate with one of the lookups, and a PDP that denies a few."""

    def __init__(self, lookup: str, missing: str, hook: Hooks) -> None:
        text = ROUTES.replace("LOOKUP", lookup).replace("HOOK", hook.web.origin).replace("MISSING", missing)
        self.routes: RoutesFile = read_once(text)
        self.questions: list[Question] = []
        self.lookups = Lookups({Hook: HttpSource()}, now=time.monotonic)

    async def find(self, issuer: str, kid: str) -> PyJWK:
        return public_key("k1")

    async def check(self, question: Question) -> PdpAnswer:
        self.questions.append(question)
        results = [
            Result(
                one.kind, one.id, {one.action: DENY if one.attributes.get("owner") == "denied" else ALLOW}, False, {}
            )
            for one in question.resources
        ]
        return PdpAnswer(question.request_id, "call", tuple(results))

    async def send(self, target: str, ids: list[str] | None = None) -> Verdict:
        tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), self.find)
        rules = Rules(self.routes.table, self.routes.lookups, tokens, Reading())
        gate = Gate(rules, self.lookups, self, now=lambda: NOW, timer=itertools.count().__next__)
        data = b"" if ids is None else json.dumps({"ids": ids}).encode()
        headers = [(b"host", b"a"), (b"authorization", b"Bearer " + TOKEN)]
        if data:
            headers += [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]

        async def read(limit: int, show: Show, viewer: Viewer) -> None:
            show(data)

        return await gate.decide(Raw("POST" if data else "GET", target.encode(), headers, "", "http", "r1"), read)


def told(world: World, verdict: Verdict) -> Any:
    """All that a verdict says, and what the PDP was asked."""
    asked = [[(one.id, dict(one.attributes)) for one in question.resources] for question in world.questions]
    if isinstance(verdict, Forward):
        return "forward", verdict.facts.each, asked
    assert isinstance(verdict, Refuse)
    return verdict.code, verdict.client_code, dict(verdict.more or {}), verdict.facts.each, asked


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Web(answer(500)) as web:
        yield web


LOOKUPS = ("single", "batched", "keyed")


@pytest.mark.parametrize("missing", ["deny", "hide", "empty"])
async def test_with_and_without_batches_the_verdicts_are_the_same(web: Web, missing: str) -> None:
    chance, seen = random.Random(17), set[tuple[str, str]]()
    for _ in range(12):
        ids = [f"d{number}" for number in chance.sample(range(40), chance.randint(1, 20))]
        ids += chance.choices(ids, k=chance.randint(0, 3))
        documents: dict[str, Any] = {
            one: {"id": one, "o": chance.choice(["a", "a", "a", "denied"]), "p": chance.choice([None, "top", "gone"])}
            for one in ids
            if chance.random() < 0.95
        } | {"top": {"id": "top", "o": "root"}}
        hook = Hooks(documents, web)
        for target, sent in (("/a%26b/archive", ids), ("/a%26b/chained", ids), (f"/a%26b/docs/{ids[0]}", None)):
            outcomes = []
            for lookup in LOOKUPS:
                world = World(lookup, missing, hook)
                verdict = await world.send(target, sent)
                outcomes.append(told(world, verdict))
                await world.lookups.aclose()
            texts = [str(outcome).replace(name, "LOOKUP") for name, outcome in zip(LOOKUPS, outcomes, strict=True)]
            assert texts[0] == texts[1] == texts[2]
            seen.add((target.split("/")[2], outcomes[0][0]))
    assert len(seen) >= 6


async def test_a_request_about_many_is_a_few_calls(web: Web) -> None:
    hook = Hooks({str(number): {"id": number, "o": "a"} for number in range(100)}, web)
    calls = {}
    for lookup in LOOKUPS:
        web.asked.clear()
        world = World(lookup, "deny", hook)
        assert isinstance(await world.send("/a%26b/archive", [str(number) for number in range(100)]), Forward)
        calls[lookup] = len(web.asked)
        await world.lookups.aclose()
    assert calls == {"single": 100, "batched": 15, "keyed": 15}


async def test_an_id_that_cannot_stand_in_one_value_is_refused_before_anybody_is_asked(web: Web) -> None:
    world = World("keyed", "deny", Hooks({}, web))
    verdict = await world.send("/a%26b/archive", ["1", "2,3"])
    assert isinstance(verdict, Refuse)
    assert (verdict.code, web.asked, world.questions) == ("reference_invalid", [], [])
    await world.lookups.aclose()


PAGE = (ROOT / "docs/guides/chained-lookups.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    *_, found = re.findall(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


async def test_the_guides_example_asks_and_reads_as_it_says(web: Web) -> None:
    world = World("batched", "hide", Hooks({}, web))
    world.routes = read_routes(example("routes.yaml").replace("http://127.0.0.1:9000", web.origin), "routes.yaml", {})
    web.behave = answer(200, example("answer.json").encode())
    verdict = await world.send("/contacts/archive", ["7", "8", "9"])
    assert isinstance(verdict, Refuse)
    assert (verdict.client_code, verdict.more) == ("resource_hidden", {"each": {"asked": 3, "denied": 1}})
    assert [line for line, _ in web.asked] == ["GET /contacts?id=7&id=8&id=9 HTTP/1.1"]
    asked = [(one.id, dict(one.attributes)) for one in world.questions[0].resources]
    assert asked == [("7", {"account": "acme", "status": "locked"}), ("9", {"account": "acme", "status": "open"})]
    await world.lookups.aclose()
