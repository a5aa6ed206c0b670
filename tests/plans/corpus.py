"""Cerbos' own hostile plans (github.com/cerbos/query-plan-adapters, folder conformance, Apache-2.0), as an app's rows.

`.ci/run` says where they are, in QUERY_PLAN_CORPUS; without it the tests are skipped. `OURS` stands beside them: what
that corpus has not.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from sidecar.gate.identity import Principal

Row = dict[str, Any]


class Case(NamedTuple):
    """One question about all rows of an app: who asks, for what."""

    kind: str
    action: str
    principal: Principal
    scope: str = ""


class Corpus(NamedTuple):
    """Policies by the names of their files, rows of a kind, and questions about them."""

    policies: dict[str, Any]
    rows: list[Row]
    cases: list[Case]


def principal(id_: str, *roles: str, **attributes: Any) -> Principal:
    return Principal(id_, roles, attributes, "iss", 2.0**40, {})


def query_plan() -> Corpus:
    """The corpus, from the folder that the variable names; the calling test is skipped where there is none."""
    folder = Path(os.environ.get("QUERY_PLAN_CORPUS", "nowhere"))
    if not folder.is_dir():
        pytest.skip("no corpus of query plans: QUERY_PLAN_CORPUS names no folder")

    def read(name: str) -> Any:
        return json.loads((folder / name).read_text(encoding="utf-8"))

    seeds, derived, said = read("seeds.json"), read("derived-fields.json")["derived"], read("actions.json")
    by_id = {seed["id"]: seed for seed in seeds["seeds"]}
    rows = [_row(seed, by_id, derived[seed["id"]]) for seed in seeds["seeds"]]
    who = seeds["principal"]
    asker = principal(who["id"], *who["roles"], **who["attr"])
    cases = [Case(seeds["resourceKind"], action, asker) for action in said["conformance"]]
    policy = yaml.safe_load((folder / "adversarial.yaml").read_text(encoding="utf-8"))
    return Corpus({"adversarial.json": policy}, rows, cases)


_SCALARS = ("aBool", "aNumber", "aString", "aOptionalString")


def _row(seed: Row, by_id: dict[str, Row], derived: Row) -> Row:
    row = {"id": seed["id"], **{name: seed[name] for name in _SCALARS}, **derived, "tags": seed["tags"]}
    row["tagNames"] = [tag["name"] for tag in seed["tags"]]
    row |= {"owner": seed["aOptionalString"], "coOwner": derived["scope"], "obj": {"inner": seed["aString"]}}
    names = seed["subCategoryNames"]
    # without the labels of these, which are nested more deeply than attributes may be
    subs = [{"name": name} for name in names]
    row["categories"] = [{"name": "business", "subCategories": subs}] if names else []
    row["mainCategory"] = {"subCategories": subs, "subNames": names} if names else None
    row["parent"] = _parent(seed, by_id, 2)
    return row


def _parent(seed: Row, by_id: dict[str, Row], hops: int) -> Row | None:
    above = by_id.get(seed["parentSeedId"] or "")
    if above is None or not hops:
        return None
    found = {name: above[name] for name in _SCALARS if above[name] is not None}
    inner = _parent(above, by_id, hops - 1)
    return found | ({"inner": inner} if inner is not None else {})


# --- what that corpus has not ---


def _rule(effect: str, expr: str = "", /, action: str = "read", **who: Any) -> Row:
    rule: Row = {"actions": [action], "effect": f"EFFECT_{effect}", **who}
    return rule | ({"condition": {"match": {"expr": expr}}} if expr else {})


def _policy(kind: str, *rules: Row, **fields: Any) -> Row:
    body = {"resource": kind, "version": "default", "rules": list(rules), **fields}
    return {"apiVersion": "api.cerbos.dev/v1", "resourcePolicy": body}


USER: dict[str, Any] = {"roles": ["user"]}
EDITOR: dict[str, Any] = {"roles": ["editor"]}
ANYBODY: dict[str, Any] = {"roles": ["*"]}
OWNED = "R.attr.owner == P.id"
_DERIVED = {
    "apiVersion": "api.cerbos.dev/v1",
    "derivedRoles": {
        "name": "of-docs",
        "definitions": [
            {
                "name": "owner",
                "parentRoles": ["user"],
                "condition": {"match": {"expr": f"has(R.attr.owner) && {OWNED}"}},
            },
            {"name": "stranger", "parentRoles": ["user"], "condition": {"match": {"expr": "!has(R.attr.owner)"}}},
        ],
    },
}
_OF_ALICE = {
    "apiVersion": "api.cerbos.dev/v1",
    "principalPolicy": {
        "principal": "ann",
        "version": "default",
        "rules": [{"resource": "beside", "actions": [{"action": "read", "effect": "EFFECT_ALLOW"}]}],
    },
}
_POLICIES = {
    "derived.json": _DERIVED,
    "ann.json": _OF_ALICE,
    "beside.json": _policy("beside", _rule("ALLOW", **USER), _rule("DENY", "R.attr.secret == true", **USER)),
    "bare.json": _policy("bare", _rule("ALLOW", **USER), _rule("DENY", "R.attr.secret", **ANYBODY)),
    "without.json": _policy("without", _rule("ALLOW", **USER), _rule("DENY", "R.attr.note != 'b'", **USER)),
    "bounds.json": _policy("bounds", _rule("ALLOW", **USER), _rule("DENY", "R.attr.n < 5", **USER)),
    "roles.json": _policy("roles", _rule("ALLOW", **EDITOR), _rule("DENY", "R.attr.n > 0", **USER), _rule("ALLOW", **USER)),
    "derives.json": _policy(
        "derives", _rule("ALLOW", derivedRoles=["owner"]), _rule("ALLOW", "R.attr.n == 1", derivedRoles=["stranger"]),
        _rule("ALLOW", action="list", derivedRoles=["owner"]), importDerivedRoles=["of-docs"],
    ),
    "scoped.json": _policy("scoped", _rule("ALLOW", "R.attr.n > 4", **USER)),
    "scoped-acme.json": _policy("scoped", _rule("ALLOW", OWNED, **USER), scope="acme"),
    "denied.json": _policy("denied", _rule("DENY", **USER)),
    "denied-acme.json": _policy("denied", _rule("ALLOW", OWNED, **USER), scope="acme"),
    "large.json": _policy("large", _rule("ALLOW", "R.attr.n == 9007199254740993", **USER),
                          _rule("ALLOW", "R.attr.n < 9007199254740993", action="below", **USER)),
    "presence.json": _policy("presence", _rule("ALLOW", f"!has(R.attr.note) || {OWNED}", **USER)),
    "maps.json": _policy("maps", _rule("ALLOW", "P.attr.levels[R.attr.note] < 5", **USER)),
    "nulls.json": _policy("nulls", _rule("ALLOW", "R.attr.note == null", **USER),
                          _rule("ALLOW", "R.attr.note != null", action="not", **USER)),
    "teams.json": _policy("teams", _rule("ALLOW", "R.attr.note in P.attr.teams || P.id in R.attr.tags", **USER)),
}  # fmt: skip
_ROWS: list[Row] = [
    {"id": 1, "owner": "ann", "n": 5, "secret": True, "note": "a", "tags": ["ann"]},
    {"id": 2, "owner": "ben", "n": 1, "secret": False, "note": "b", "tags": ["ben"]},
    {"id": 3, "owner": None, "n": 0, "secret": None, "note": None, "tags": []},
    {"id": 4, "owner": "ann", "n": 1, "note": "null"},
    {"id": "4", "owner": "Ann", "n": 4.5, "secret": "true", "note": 1},
    {"id": 5, "owner": "ben", "n": 9007199254740991, "secret": 1, "note": True, "tags": ["ann", "ben"]},
    {"id": 5, "owner": "ben", "n": 9007199254740991, "secret": 1, "note": True, "tags": ["ann", "ben"]},
    {"id": "x y", "n": -1, "secret": 0, "note": "a,b"},
    {"id": "é", "owner": "", "note": "5"},
]
_ANN = {"levels": {"a": 3, "b": 7}, "teams": ["a", "a,b", "null"]}
_KINDS = sorted({policy["resourcePolicy"]["resource"] for policy in _POLICIES.values() if "resourcePolicy" in policy})
_WHO = [
    principal("ann", "user", **_ANN),
    principal("ben", "user", **_ANN),
    principal("ben", "editor", "user", **_ANN),
    principal("eve", "nobody", **_ANN),
]
OURS = Corpus(
    _POLICIES,
    _ROWS,
    [
        Case(kind, action, who, scope)
        for kind in _KINDS
        for who in _WHO
        for action, scope in (("read", ""), ("read", "acme"), ("list", ""), ("below", ""), ("not", ""))
        if scope == "" or kind in ("scoped", "denied")
    ],
)
"""ALLOW beside DENY, derived roles, several roles, scopes, a principal's own policy, large numbers, nulls, duplicates."""
