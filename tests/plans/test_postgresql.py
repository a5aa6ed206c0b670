"""Dialect `postgrest` as PostgREST puts it to a real PostgreSQL: as conditions over columns, with literals of no type.

Its rows are shown as PostgreSQL writes them as JSON, floats of 32 bits and decimals rounded as they are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any as Anything

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.gate.values import Type
from sidecar.plans.filter import All, Any, Exactness, Filter, Operator, RowField, Term, Unsayable, Value
from sidecar.plans.plan import Conditional, Constant, PlanExpression, PlanVariable
from sidecar.plans.postgrest import PostgRest
from sidecar.plans.translate import FieldNames, filter_of
from tests.databases import server_folder
from tests.plans.grammars import postgrest
from tests.plans.oracle import has
from tests.plans.trees import TEXTS

pytestmark = pytest.mark.process

NAMES = FieldNames(
    {
        "owner": RowField(("owner",), Type.STRING, required=True),
        "note": RowField(("note",)),
        "n": RowField(("n",), Type.INT, required=True),
        "ok": RowField(("ok",), Type.BOOL, required=True),
        "x": RowField(("x",)),
        "d": RowField(("d",), Type.NUMBER),
    }
)
TABLE = "create table r (id int, owner text not null, note text, n int not null, ok bool not null, x real, d numeric)"
NUMBERS = [0.0, 0.1, 1.0, 2.5, 5.0, -3.0, 16777217.0, 0.30000000000000004]
RELATIONS = st.sampled_from(["eq", "ne", "lt", "le", "gt", "ge"])
LEAVES = st.one_of(
    st.builds(
        lambda op, name, value: PlanExpression(op, (PlanVariable(f"request.resource.attr.{name}"), Constant(value))),
        RELATIONS, st.sampled_from(["n", "x", "d"]), st.sampled_from(NUMBERS),
    ),
    st.builds(
        lambda op, name, value: PlanExpression(op, (PlanVariable(f"request.resource.attr.{name}"), Constant(value))),
        st.sampled_from(["eq", "ne", "startsWith", "endsWith", "contains"]), st.sampled_from(["owner", "note"]),
        st.sampled_from(TEXTS),
    ),
    st.builds(lambda values: PlanExpression("in", (PlanVariable("request.resource.attr.note"), Constant(tuple(values)))),
              st.lists(st.sampled_from(TEXTS), min_size=2, max_size=4)),
    st.just(PlanVariable("request.resource.attr.ok")),
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda op, parts: PlanExpression(op, tuple(parts)), st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
        inner.map(lambda part: PlanExpression("not", (part,))),
    ),
    max_leaves=6,
)  # fmt: skip


def literal(value: Anything) -> str:
    """A literal of no type, as a driver sends a parameter."""
    return "null" if value is None else "'" + str(value).replace("'", "''") + "'"


class PostgreSql:
    """A database in a folder, asked by a process of its own each time: one line is one statement."""

    def __init__(self, folder: Path, user: dict[str, Anything]) -> None:
        self._folder = folder
        self._user = user
        self._run("initdb", "-D", "data", "-U", "postgres", "--locale=C.UTF-8", "-E", "UTF8", "--no-sync")

    def _run(self, *command: str, said: str = "") -> str:
        done = subprocess.run(
            [str(shutil.which(command[0])), *command[1:]], cwd=self._folder, input=said.encode(), capture_output=True,
            check=False, env={"PATH": os.environ["PATH"]}, **self._user,
        )  # fmt: skip
        assert done.returncode == 0 and b"ERROR" not in done.stderr, done.stderr.decode()  # noqa: PT018
        return bytes(done.stdout).decode()

    def answers(self, statements: Sequence[str]) -> list[list[str]]:
        """The first column of what each statement gives."""
        said = self._run("postgres", "--single", "-F", "-D", "data", "postgres", said="\n".join(statements) + "\n")
        return [re.findall(r' 1: \w+ = "(.*)"\t\(typeid', part) for part in said.split("backend> ")[1:-1]]


@pytest.fixture(scope="module")
def database() -> Iterator[PostgreSql]:
    if shutil.which("initdb") is None or shutil.which("postgres") is None:
        pytest.skip("initdb and postgres are not on PATH (apt-get install postgresql)")
    with server_folder() as (folder, user):
        made = PostgreSql(folder, user)
        texts = [*TEXTS, *TEXTS]
        rows = [
            (at, text, None if at % 5 == 0 else texts[at - 3], at % 7 - 3, at % 2 == 0, number, number)
            for at, (text, number) in enumerate(
                zip(texts, [*NUMBERS, None, "5.00000000000000000001", "0.1000000000000000000001"] * 4, strict=False)
            )
        ]
        values = ", ".join(f"({', '.join(map(literal, row))})" for row in rows)
        made.answers([TABLE, f"insert into r values {values}"])
        yield made


_OPERATORS = {
    Operator.EQ: "=", Operator.NE: "<>", Operator.LT: "<", Operator.LE: "<=", Operator.GT: ">", Operator.GE: ">=",
}  # fmt: skip
_LIKE = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


def sql(part: Filter) -> str:
    """A condition, as PostgREST makes it (src/PostgREST/Query/SqlFragment.hs)."""
    match part:
        case All(parts):
            return f"({' and '.join(map(sql, parts))})"
        case Any(parts):
            return f"({' or '.join(map(sql, parts))})"
        case Unsayable():
            raise ValueError(part)
        case Term(field, relation, values):
            if relation in (Operator.IN, Operator.NOT_IN):
                negation = "not " if relation is Operator.NOT_IN else ""
                return f"{negation}{field.path[0]} in ({', '.join(map(_text, values))})"
            if relation in _OPERATORS:
                return f"{field.path[0]} {_OPERATORS[relation]} {_text(values[0])}"
            start = "" if relation is Operator.STARTS_WITH else "%"
            end = "" if relation is Operator.ENDS_WITH else "%"
            return f"{field.path[0]} like {literal(start + str(values[0]).translate(_LIKE) + end)}"


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return literal(str(value).lower())
    return literal(int(value) if isinstance(value, float) and value == int(value) else value)


@given(st.lists(TREES, min_size=40, max_size=60))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_row_is_lost(database: PostgreSql, trees: list[Anything]) -> None:
    filters = [filter_of(Conditional(tree), NAMES) for tree in trees]
    said = [PostgRest().narrow(whole, frozenset()) for whole in filters]
    wheres = [sql(postgrest(each.parameters[0][1])) if each.parameters else "true" for each in said]
    shown, *found = database.answers(
        ["select row_to_json(r) from r", *(f"select id from r where {where}" for where in wheres)]
    )
    rows = [json.loads(text) for text in shown]
    assert len(rows) > 20
    for whole, narrowing, where, ids in zip(filters, said, wheres, found, strict=True):
        wanted = {row["id"] for row in rows if has(whole, row)}
        assert wanted <= set(map(int, ids)), where
        if narrowing.exactness is Exactness.EXACT:
            assert wanted == set(map(int, ids)), where
