"""Dialect `json-server`, held against the real one."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Iterator
from typing import Any as Anything

import pytest
from hypothesis import given

from sidecar.demo.processes import Process, status_of
from sidecar.gate.query import with_values
from sidecar.gate.values import Type
from sidecar.plans.dialect import Narrowing, asked_names
from sidecar.plans.filter import All, Any, Exactness, Filter, Operator, RowField, Term
from sidecar.plans.json_server import MOST, JsonServer
from sidecar.plans.plan import Conditional, Node
from sidecar.plans.translate import filter_of
from tests.plans.oracle import has
from tests.plans.trees import NAMES, TEXTS, trees
from tests.stack import ROOT, free_port
from tests.tries import tries

ROWS: list[dict[str, Anything]] = [
    {"id": 1, "owner": "alice", "n": 5, "ok": True, "x": 0.1, "tags": ["a", "alice"], "account": {"tenant": "t"}},
    {"id": 2, "owner": "Alice", "n": 6, "ok": False, "x": None, "tags": ["alice,b"], "note": "5"},
    {"id": "x y", "owner": "", "n": -3, "ok": True, "note": 5, "tags": [5]},
    {"id": "5", "owner": "5", "n": 0, "ok": False, "note": ["alice"], "x": 1e21, "tags": None},
    *(
        {"id": 10 + at, "owner": text, "n": at, "ok": at % 2 == 0, "note": text, "tags": [text, at], "x": at / 2}
        for at, text in enumerate(TEXTS)
    ),
    *(
        {"id": 50 + at, "owner": "z", "n": 1, "ok": True, "note": value}
        for at, value in enumerate([True, 0, 1.5, None])
    ),
]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[http.client.HTTPConnection]:
    """json-server with rows of all kinds."""
    folder, port = tmp_path_factory.mktemp("rows"), free_port()
    (folder / "db.json").write_text(json.dumps({"rows": ROWS}), encoding="utf-8")
    script = ROOT / "node_modules/json-server/lib/cli/bin.js"
    command = ["node", str(script), "--host", "127.0.0.1", "--port", str(port), "--quiet", "db.json"]
    process = Process.start("json-server", command, folder, os.environ, lambda: status_of(port, "/rows") == 200)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    yield connection
    connection.close()
    process.stop()


def narrow(whole: Filter, query: bytes = b"") -> Narrowing:
    asked = asked_names(query)
    assert asked is not None
    return JsonServer().narrow(whole, asked)


def found(app: http.client.HTTPConnection, said: Narrowing) -> list[Anything]:
    app.request("GET", "/rows?" + with_values(b"", said.parameters).decode("ascii"))
    answer = app.getresponse()
    rows = json.loads(answer.read())
    assert answer.status == 200
    return [row["id"] for row in rows]


def term(name: str, relation: Operator, *values: Anything) -> Term:
    return Term(NAMES.attributes[name], relation, values)


@pytest.mark.process
@given(tree=trees)
@tries(150)
def test_no_row_is_lost(app: http.client.HTTPConnection, tree: Node) -> None:
    whole = filter_of(Conditional(tree), NAMES)
    said = narrow(whole)
    ids, wanted = found(app, said), [row["id"] for row in ROWS if has(whole, row)]
    assert set(map(str, wanted)) <= set(map(str, ids))
    if said.exactness is Exactness.EXACT:
        assert ids == wanted


@pytest.mark.process
@pytest.mark.parametrize(
    ("part", "ids", "exactness"),
    [
        (term("owner", Operator.EQ, "alice"), [1, 13], Exactness.EXACT),
        (term("owner", Operator.IN, "alice", "5"), [1, "5", 13, 14], Exactness.EXACT),
        (term("owner", Operator.NE, "z"), None, Exactness.EXACT),
        (term("tenant", Operator.EQ, "t"), [1], Exactness.WEAKENED),
        # its `5` is "5", too
        (term("note", Operator.EQ, "5"), [2, "x y", 14], Exactness.WEAKENED),
        (All((term("n", Operator.GE, 5.0), term("n", Operator.LE, 6.0))), [1, 2, 15, 16], Exactness.EXACT),
        (term("x", Operator.EQ, 0.1), [1], Exactness.EXACT),
        (Term(RowField(("id",), identifies=True), Operator.IN, ("1", "x y")), [1, "x y"], Exactness.EXACT),
    ],
)  # fmt: skip
def test_rows_of_the_real_one(
    app: http.client.HTTPConnection, part: Filter, ids: list[Anything] | None, exactness: Exactness
) -> None:
    said = narrow(part)
    assert said.exactness is exactness
    assert found(app, said) == ([row["id"] for row in ROWS if has(part, row)] if ids is None else ids)


@pytest.mark.process
def test_a_field_that_no_row_has_is_ignored(app: http.client.HTTPConnection) -> None:
    assert len(found(app, narrow(Term(RowField(("nowhere",)), Operator.EQ, ("x",))))) == len(ROWS)


@pytest.mark.parametrize(
    "part",
    [
        Term(RowField(("q",)), Operator.EQ, ("x",)), Term(RowField(("_sort",)), Operator.EQ, ("x",)),
        Term(RowField(("a_ne",)), Operator.EQ, ("x",)), Term(RowField(("callback",)), Operator.EQ, ("x",)),
        term("owner", Operator.IN, *map(str, range(MOST + 1))),
        # another value reads as this one there, or no value at all
        term("note", Operator.NE, "5"), Term(RowField(("owner",), Type.STRING), Operator.NE, ("a",)),
        term("owner", Operator.NE, 5.0), term("x", Operator.NE, 5.0), term("n", Operator.NE, 0.5),
        term("x", Operator.IN, 0.5, 1.5), term("n", Operator.LT, "a"),
        Any((term("owner", Operator.EQ, "a"), term("note", Operator.EQ, "a"))),
    ],
)  # fmt: skip
def test_what_it_cannot_say(part: Filter) -> None:
    assert narrow(part) == ((), Exactness.NONE, ())


def test_a_pattern_is_no_expression_of_the_principals() -> None:
    assert narrow(term("note", Operator.STARTS_WITH, "a.*|b")).parameters == (("note_like", "^a\\.\\*\\|b"),)
    assert narrow(term("note", Operator.ENDS_WITH, "é/")).parameters == (("note_like", "é\\/$"),)
    assert narrow(term("tags", Operator.HAS, True)).parameters == (("tags_like", "true"),)


def test_a_value_is_one_value() -> None:
    said = narrow(term("owner", Operator.EQ, "a&owner=b#%00"))
    assert with_values(b"page=1", said.parameters) == b"page=1&owner=a%26owner%3Db%23%2500"


def test_what_a_client_filters_by_is_the_clients() -> None:
    both = All((term("owner", Operator.EQ, "a"), term("ok", Operator.EQ, True)))
    assert narrow(both, b"owner=b&_page=2").parameters == (("ok", "true"),)
    assert narrow(both, b"owner_ne=b&_page=2").exactness is Exactness.EXACT
