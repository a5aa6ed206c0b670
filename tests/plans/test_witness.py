"""With a push and without, the same items are shown: by each dialect, for each hostile plan, on both versions of Cerbos."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any as Anything

import pytest

from sidecar.demo.processes import Process, status_of
from sidecar.gate.decision import Question, Resource, granted, judge, resources_of
from sidecar.gate.expressions import compile_expression
from sidecar.gate.lookup import Attribute
from sidecar.gate.narrowing import ListQuestion, Narrowed, Push, PushedAttribute
from sidecar.gate.obligation import AnswerItems, HeldAnswer
from sidecar.gate.query import with_values
from sidecar.gate.values import Type
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.cerbos_plan import CerbosPlans
from sidecar.plans.dialects import DIALECTS
from sidecar.plans.filter import Filter
from sidecar.plans.narrow import Narrower, PlanTrust
from sidecar.plans.plan import Plan
from sidecar.release.items import ItemsRule
from sidecar.study.plannable import Plannable
from sidecar.study.policies import parse_policies
from tests import policy_table, stack
from tests.plans import grammars
from tests.plans.corpus import OURS, Case, Corpus, Row, query_plan
from tests.plans.oracle import has

pytestmark = pytest.mark.process

PAGE = stack.ROOT / "docs/reference/push.md"


def attributes_of(rows: Sequence[Row]) -> dict[str, Attribute]:
    """Attributes of a route for rows: each field by its own name, of any JSON, with the type that all of them have."""
    names = dict.fromkeys(name for row in rows for name in row if name != "id")
    return {name: Attribute(compile_expression(name).search, _type(name, rows), name) for name in names}


def _type(name: str, rows: Sequence[Row]) -> Type:
    kinds = {type(row[name]) for row in rows if row.get(name) is not None}
    known = {str: Type.STRING, bool: Type.BOOL, int: Type.INT}
    if len(kinds) == 1 and (kind := kinds.pop()) in known and all(row.get(name) != "" for row in rows):
        return known[kind]
    return Type.JSON


def optional(rows: Sequence[Row]) -> frozenset[str]:
    names = {name for row in rows for name in row}
    return frozenset(name for name in names if any(row.get(name) is None for row in rows))


class App:
    """Rows, of which each dialect is told in its own words: json-server by itself, the others by their grammars."""

    def __init__(self, rows: list[Row], port: int) -> None:
        self.rows = rows
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def asked(self, dialect: str, narrowed: Narrowed) -> list[Row]:
        """The rows that it answers with."""
        if dialect == "json-server":
            self._connection.request("GET", "/rows?" + with_values(b"", narrowed.parameters).decode("ascii"))
            found: list[Row] = json.loads(self._connection.getresponse().read())
            return found
        whole = self._read(dialect, narrowed)
        return self.rows if whole is None else [row for row in self.rows if has(whole, row)]

    def _read(self, dialect: str, narrowed: Narrowed) -> Filter | None:
        if dialect == "header":
            return grammars.header(narrowed.headers[0][1]) if narrowed.headers else None
        if dialect == "django":
            return grammars.django(narrowed.parameters)
        read: Callable[[str], Filter] = getattr(grammars, dialect)
        return read(narrowed.parameters[0][1]) if narrowed.parameters else None


class Witness:
    """A Cerbos with the policies of a corpus, and an app with its rows."""

    def __init__(self, corpus: Corpus, cerbos: Cerbos, trusted: Plannable, app: App) -> None:
        self.app = app
        self._cerbos = cerbos
        self._attributes, self._optional = attributes_of(corpus.rows), optional(corpus.rows)
        self._trusted = trusted
        self._narrowing = Narrower(self._plan, self._trust)
        self._plans: dict[tuple[str, ...], Plan] = {}

    async def _plan(self, question: ListQuestion) -> Plan:
        """Ask once for all dialects."""
        key = (question.kind, question.action, question.scope, question.principal.id, *question.principal.roles)
        if key not in self._plans:
            self._plans[key] = await CerbosPlans(self._cerbos).plan(question)
        return self._plans[key]

    async def _trust(self, question: ListQuestion) -> PlanTrust:
        return self._trusted(question)

    async def truth(self, case: Case) -> list[str]:
        """The rows that single checks allow."""
        resources = []
        for row in self.app.rows:
            told = {name: row[name] for name in self._attributes if row.get(name) is not None}
            resources.append(Resource(case.kind, str(row["id"]), case.action, told, (), case.scope))
        question = Question("r", case.principal, tuple(resources))
        allowed = judge(question, await self._cerbos.check(question))
        return [json.dumps(row) for row, ok in zip(self.app.rows, allowed, strict=True) if ok]

    async def narrowed(self, case: Case, dialect: str) -> Narrowed:
        """What the app is asked for."""
        attributes = {
            name: PushedAttribute(name, attribute.type, name not in self._optional)
            for name, attribute in self._attributes.items()
        }
        push = Push(dialect, "id", attributes, case.kind, case.action)
        question = ListQuestion("r", case.principal, case.kind, case.action, case.scope)
        return await self._narrowing.narrow(question, push, b"")

    async def shown(self, case: Case, rows: Sequence[Row]) -> list[str]:
        """The items that are released of an app's answer."""

        async def ask(items: AnswerItems) -> list[frozenset[str]]:
            question = Question(
                "r", case.principal, resources_of(items.kind, items.actions, items.ids, items.attributes, case.scope)
            )
            return granted(question, await self._cerbos.check(question))

        rule = ItemsRule((), compile_expression("id").search, case.kind, case.action, self._attributes, self._optional)
        held = HeldAnswer(200, [(b"content-type", b"application/json")], json.dumps(rows).encode())
        reduced = await rule.reduce(held, ask, frozenset())
        return [json.dumps(row) for row in json.loads(reduced.answer.body or b"[]")]


@pytest.fixture(params=["0.51", "0.55"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both versions of Cerbos that npm has."""
    if request.param == "0.51":
        older = stack.older_binary()
        monkeypatch.setattr(policy_table, "binary", lambda: older)
    return str(request.param)


@pytest.fixture(scope="module")
def port_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[list[Row]], int]]:
    """A json-server for rows, which nobody changes."""
    processes, ports = list[Process](), dict[str, int]()

    def serve(rows: list[Row]) -> int:
        database = json.dumps({"rows": rows})
        if database not in ports:
            folder = tmp_path_factory.mktemp("rows")
            (folder / "db.json").write_text(database, encoding="utf-8")
            port, script = stack.free_port(), stack.ROOT / "node_modules/json-server/lib/cli/bin.js"
            command = ["node", str(script), "--host", "127.0.0.1", "--port", str(port), "--quiet", "db.json"]
            processes.append(
                Process.start("json-server", command, folder, os.environ, lambda: status_of(port, "/rows") == 200)
            )
            ports[database] = port
        return ports[database]

    yield serve
    for process in processes:
        process.stop()


@pytest.fixture
def served(port_of: Callable[[list[Row]], int]) -> Iterator[Callable[[list[Row]], App]]:
    """An app with rows. It has a connection of its own, which the server would not keep from one test to the next."""
    with contextlib.ExitStack() as apps:
        yield lambda rows: apps.enter_context(contextlib.closing(App(rows, port_of(rows))))


@asynccontextmanager
async def witness(folder: Path, corpus: Corpus, app: App, *, strict: bool) -> AsyncIterator[Witness]:
    policies = folder / "policies"
    policies.mkdir()
    for name, policy in corpus.policies.items():
        (policies / name).write_text(json.dumps(policy), encoding="utf-8")
    trusted = Plannable(parse_policies(policies), strict=strict)
    with policy_table.real_cerbos(folder, policies, strict=strict) as running:
        cerbos = Cerbos(running.grpc, timeout=5.0, now=time.monotonic)
        yield Witness(corpus, cerbos, trusted, app)
        await cerbos.aclose()


async def count(folder: Path, corpus: Corpus, app: App, *, strict: bool = False) -> dict[str, Counter[str]]:
    """Ask for each case with each push; return how many were pushed exactly, weakened, or not at all."""
    counts = {dialect: Counter[str]() for dialect in DIALECTS}
    async with witness(folder, corpus, app, strict=strict) as asked:
        for case in corpus.cases:
            truth = await asked.truth(case)
            assert await asked.shown(case, app.rows) == truth, case
            for dialect in DIALECTS:
                narrowed = await asked.narrowed(case, dialect)
                rows = [] if narrowed.nothing else app.asked(dialect, narrowed)
                # each item is decided as it was among all
                kept = [text for text in map(json.dumps, rows) if text in truth]
                assert kept == truth, (case.kind, case.action, case.principal.id, dialect)
                counts[dialect][narrowed.pushed] += 1
    return counts


def table(counts: dict[str, Counter[str]]) -> str:
    """The table of the page."""
    rows = [f"| `{name}` | {said['exact']} | {said['weakened']} | {said['none']} |" for name, said in counts.items()]
    return "\n".join(["| dialect | exactly | weakened | not at all |", "| --- | --- | --- | --- |", *rows])


async def test_hostile_plans_of_cerbos(version: str, tmp_path: Path, served: Callable[[list[Row]], App]) -> None:
    corpus = query_plan()
    assert (len(corpus.cases), len(corpus.rows)) == (187, 21)
    counts = await count(tmp_path, corpus, served(corpus.rows))
    print(f"\nCerbos {version}\n{table(counts)}")
    if version == "0.55":
        (told,) = re.findall(r"(?m)(?:^\| .*\n){2}(?:^\| `[a-z-]+` \| \d+ \| \d+ \| \d+ \|\n)+", PAGE.read_text())
        assert told.strip() == table(counts)


@pytest.mark.parametrize("strict", [False, True])
async def test_hostile_plans_of_ours(
    version: str, strict: bool, tmp_path: Path, served: Callable[[list[Row]], App]
) -> None:
    if strict and version == "0.51":
        pytest.skip("Cerbos 0.51 has no strict evaluation")
    counts = await count(tmp_path, OURS, served(OURS.rows), strict=strict)
    assert all(said["exact"] for said in counts.values())


def test_the_words_of_this_file() -> None:
    said: Anything = table({"a": Counter(exact=1, none=2)})
    assert said.endswith("| `a` | 1 | 0 | 2 |")
