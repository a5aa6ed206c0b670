"""Datasette reads more of a query than a rule does: what it is asked is what was decided."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.apps.conftest import policy, protected, token
from tests.stack import Sidecar

ROUTES = """\
routes:
  - path: /data/open.json            # as before there was `query`
    resource: note
    attributes: {owner: "{query.owner}"}
    actions: {GET: list}
  - path: /data/notes.json
    resource: note
    attributes: {owner: "{query.owner}"}
    query: [owner, _shape, _size]
    actions: {GET: list}
  - path: /data/mine.json
    resource: note
    attributes: {owner: "{principal.id}"}
    query: [_shape]
    set_query: {owner: "{principal.id}"}
    actions: {GET: list}
  - {path: "/data/open/{id}", resource: row, id: "{path.id}", actions: {GET: read}}
  - {path: "/data/notes/{id:int}", resource: row, id: "{path.id}", query: [], actions: {GET: read}}
"""
POLICIES = {
    "note.yaml": policy(
        "note",
        "{actions: [list], effect: EFFECT_ALLOW, roles: [user], condition: {match: {expr: request.resource.attr.owner == request.principal.id}}}",
    ),
    "row.yaml": policy(
        "row",
        "{actions: [read], effect: EFFECT_ALLOW, roles: [user]}",
        "{actions: [read], effect: EFFECT_DENY, roles: ['*'], condition: {match: {expr: request.resource.id == '7'}}}",
    ),
}
EVERYTHING = quote("1=1 or 1=1")


@pytest.fixture(scope="module")
def sidecar(datasette: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    with protected(tmp_path_factory.mktemp("before-datasette"), ROUTES, POLICIES, datasette) as made:
        yield made


def owners(sidecar: Sidecar, target: str) -> list[str]:
    got = sidecar.get(target, token("alice"))
    assert got.status == 200, got
    return [row["owner"] for row in json.loads(got.body)]


def test_without_a_list_the_app_is_asked_for_more_than_was_decided(sidecar: Sidecar) -> None:
    """The witness: this is what `sidecar check` warns of."""
    assert owners(sidecar, "/data/open.json?owner=alice&_shape=array") == ["alice"]
    assert owners(sidecar, f"/data/open.json?owner=alice&_shape=array&_where={EVERYTHING}") == ["alice", "bob"]


def test_with_a_list_it_is_not(sidecar: Sidecar) -> None:
    assert owners(sidecar, "/data/notes.json?owner=alice&_shape=array&_size=5") == ["alice"]
    for more in (
        f"_where={EVERYTHING}",
        "owner__not=alice",
        "_WHERE=1",
        "%5fwhere=1=1",
        "_next=7",
        "_search=x",
        "_facet=owner",
    ):
        got = sidecar.get(f"/data/notes.json?owner=alice&_shape=array&{more}", token("alice"))
        assert (got.status, got.code) == (400, "query_not_allowed")
    assert sidecar.get("/data/notes.json?owner=bob&_shape=array", token("alice")).code == "denied_by_policy"


@pytest.mark.parametrize(
    "query", ["_shape=array", "_shape=array&owner=bob", "owner=bob&_shape=array&owner%5B%5D=bob&OWNER=bob"]
)
def test_a_parameter_that_the_sidecar_sets_is_the_only_one(sidecar: Sidecar, query: str) -> None:
    assert owners(sidecar, f"/data/mine.json?{query}") == ["alice"]


def test_an_id_has_one_spelling_where_its_pattern_says_so(sidecar: Sidecar) -> None:
    """SQLite reads 07 and +7 and 7.0 as 7, which the policy keeps from everybody."""
    assert sidecar.get("/data/open/7", token("alice")).code == "denied_by_policy"
    for spelling in ("07", "+7", "7.0"):
        witness = sidecar.get(f"/data/open/{spelling}", token("alice"))
        assert (witness.status, b"hers" in witness.body) == (200, True)
        assert sidecar.get(f"/data/notes/{spelling}", token("alice")).code == "segment_invalid"
    assert sidecar.get("/data/notes/7", token("alice")).code == "denied_by_policy"
    assert sidecar.get("/data/notes/8", token("alice")).status == 200
