"""Policies whose plans have every row that a check allows, and those of which that is not known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.gate.identity import Principal
from sidecar.gate.narrowing import ListQuestion
from sidecar.plans.narrow import PlanTrust
from sidecar.study.plannable import Plannable
from sidecar.study.policies import parse_policies

ALL, NOTHING = PlanTrust(conditions=True, denied=True, allowed=True), PlanTrust()
NARROWS = PlanTrust(conditions=True, denied=True)
OWNED = "R.attr.owner == P.id"


def principal(*roles: str, id_: str = "alice") -> Principal:
    return Principal(id_, roles or ("user",), {}, "iss", 0.0, {})


def rule(expr: str | None = None, *, deny: bool = False, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"actions": ["read"], "effect": "EFFECT_DENY" if deny else "EFFECT_ALLOW", "roles": ["user"]}
    return made | ({"condition": {"match": {"expr": expr}}} if expr else {}) | fields


def policy(*rules: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"resourcePolicy": {"resource": "doc", "version": "default", "rules": list(rules), **fields}}


def trust(
    folder: Path, *policies: dict[str, Any], who: Principal | None = None, action: str = "read", scope: str = "",
    strict: bool = False,
) -> PlanTrust:  # fmt: skip
    for number, each in enumerate(policies):
        (folder / f"p{number}.json").write_text(json.dumps({"apiVersion": "api.cerbos.dev/v1", **each}))
    question = ListQuestion("r", who or principal(), "doc", action, scope)
    return Plannable(parse_policies(folder), strict=strict)(question)


@pytest.mark.parametrize(
    "expr",
    [
        OWNED, "R.attr.tags.exists(t, t == P.id)", "P.attr.team in R.attr.teams", "R.attr.n > 5", "R.attr.ok",
        f"R.attr.ok && {OWNED}", "request.resource.attr.owner == request.principal.id", "R.id == 'a'",
        "has(R.attr.owner) && R.attr.owner == P.id", "!(has(R.attr.owner) && R.attr.owner == P.id)",
        "!(has(R.attr.ok) && R.attr.ok)", "!(has(R.attr.n) && 3 < R.attr.n)", "!R.attr.ok", "V.mine", "!V.mine",
        "has(P.attr.x) && R.attr.owner == P.attr.x", "!has(P.attr.x) && R.attr.ok", "R.attr.k in P.attr.map",
        "P.attr.map['a'] == R.attr.k", "R.attr['owner'] == P.id", "(P.attr.a ? 1 : 2) == R.attr.n || R.attr.ok",
    ],
)  # fmt: skip
def test_a_plan_of_these_has_every_row(tmp_path: Path, expr: str) -> None:
    mine = {"variables": {"local": {"mine": f"has(R.attr.owner) && {OWNED}"}}}
    assert trust(tmp_path, policy(rule(expr), **mine)).conditions


@pytest.mark.parametrize(
    "expr",
    [
        f"!has(R.attr.x) || {OWNED}", "!(has(R.attr.x) && R.attr.y == 1)", "has(R.attr.x) == false", "!V.there",
        "P.attr.map[R.attr.k] < 5", "R.attr.ok ? R.attr.a : R.attr.b", "R.attr.?x.orValue(1) == 1",
        "R.attr.owner == C.me", "G.open || R.attr.ok", "'owner' in runtime.effectiveDerivedRoles", "R.kind == 'doc'",
        "R.attr.day < now()", "timeSince(R.attr.day) > duration('1h')", "R.attr.x == b'a'", "request.auxData.jwt.x == R.id",
        "request == R.attr", "request['resource'].id == 'a'", "V.absent", "V.loop", "R.attr.owner ==", "has(R.attr.m[P.id])",
    ],
)  # fmt: skip
def test_of_these_it_is_not_known(tmp_path: Path, expr: str) -> None:
    names = {"variables": {"local": {"there": "has(R.attr.x)", "loop": "V.loop"}}}
    assert trust(tmp_path, policy(rule(expr), **names)) == NOTHING


def test_a_presence_is_true_to_a_plan(tmp_path: Path) -> None:
    assert trust(tmp_path, policy(rule("has(R.attr.x)"))) == NARROWS
    assert trust(tmp_path, policy(rule("has(R.attr.x)", deny=True))) == NOTHING


@pytest.mark.parametrize(("kind", "expected"), [("any", NARROWS), ("all", NARROWS), ("none", NOTHING)])
def test_none_turns_it_round(tmp_path: Path, kind: str, expected: PlanTrust) -> None:
    condition = {"match": {kind: {"of": [{"expr": "has(R.attr.x)"}, {"expr": OWNED}]}}}
    assert trust(tmp_path, policy(rule(condition=condition))) == expected


def test_a_deny_for_one_of_several_roles(tmp_path: Path) -> None:
    rules = policy(rule(), rule("R.attr.secret", deny=True), rule(roles=["editor"]))
    assert trust(tmp_path, rules) == NARROWS
    assert trust(tmp_path, rules, who=principal("user", "editor")) == NOTHING
    assert (
        trust(tmp_path, policy(rule(), rule("R.attr.secret", deny=True, roles=["*"])), who=principal("a", "b"))
        == NARROWS
    )


def test_only_rules_that_a_question_meets(tmp_path: Path) -> None:
    odd = rule("P.attr.map[R.attr.k] < 5", roles=["other"])
    rules = policy(rule(), odd, rule("!has(R.attr.x)", actions=["write", "li*"]))
    assert trust(tmp_path, rules) == ALL
    assert trust(tmp_path, rules, action="write") == NOTHING
    assert trust(tmp_path, rules, action="list") == NOTHING
    assert trust(tmp_path, rules, who=principal("other")) == NOTHING


def test_policies_of_other_kinds(tmp_path: Path) -> None:
    of_alice = {"principalPolicy": {"principal": "alice", "version": "default", "rules": []}}
    of_role = {"rolePolicy": {"role": "clerk", "version": "default", "rules": []}}
    rules = policy(rule())
    assert trust(tmp_path, rules, of_alice, of_role) == NOTHING
    assert trust(tmp_path, rules, of_alice, of_role, who=principal(id_="bob")) == ALL
    assert trust(tmp_path, rules, of_alice, of_role, who=principal("clerk", id_="bob")) == NOTHING


def test_scopes(tmp_path: Path) -> None:
    leaf = policy(rule(OWNED), scope="acme")
    assert trust(tmp_path, policy(rule()), leaf, scope="acme").conditions
    denies = policy(rule(deny=True))
    assert trust(tmp_path, denies, leaf, scope="acme") == NOTHING
    consents = policy(rule(), scope="acme", scopePermissions="SCOPE_PERMISSIONS_REQUIRE_PARENTAL_CONSENT_FOR_ALLOWS")
    assert trust(tmp_path, policy(rule()), consents, scope="acme") == NOTHING
    assert trust(tmp_path, policy(rule()), consents) == ALL


def test_derived_roles(tmp_path: Path) -> None:
    def derived(expr: str) -> dict[str, Any]:
        role = {"name": "owner", "parentRoles": ["user"], "condition": {"match": {"expr": expr}}}
        return {"derivedRoles": {"name": "d", "definitions": [role]}}

    changes = rule(roles=[], derivedRoles=["owner"])
    assert (
        trust(tmp_path, derived(f"has(R.attr.owner) && {OWNED}"), policy(changes, importDerivedRoles=["d"])) == NARROWS
    )
    assert trust(tmp_path, derived("!has(R.attr.owner)"), policy(changes, importDerivedRoles=["d"])) == NOTHING


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("resourcePolicy: [")
    assert trust(tmp_path, policy(rule())) == NOTHING


@pytest.mark.parametrize(
    ("expr", "allowed"),
    [
        (None, True), ("P.attr.level > 5", True), ("R.attr.ok && P.attr.level > 5", True), ("R.attr.n != 5", True),
        ("!(R.attr.x in P.attr.none)", False), ("R.attr.x == 1 || R.attr.x != 1", False), ("has(R.attr.x)", False),
        ("V.x", False),
    ],
)  # fmt: skip
def test_that_everything_is_allowed_is_known_of_the_principal_alone(
    tmp_path: Path, expr: str | None, allowed: bool
) -> None:
    assert trust(tmp_path, policy(rule(expr))).allowed is allowed
    assert not trust(tmp_path, policy(rule(expr), rule("P.attr.x", deny=True))).allowed


def test_a_strict_check_denies_for_an_error(tmp_path: Path) -> None:
    def strict(*exprs: str | None, who: Principal | None = None) -> PlanTrust:
        return trust(tmp_path, policy(*map(rule, exprs)), strict=True, who=who)

    assert strict(OWNED) == NARROWS
    assert strict(None) == ALL
    assert strict(None, "P.attr.level > 5") == PlanTrust(conditions=True, allowed=True)
    assert strict(None, "R.attr.n > 5") == NARROWS
    assert strict(None, "int(P.id) > 5") == PlanTrust(conditions=True, allowed=True)
    assert strict(None, "P.id == 'a'", who=principal("user", "b")) == NARROWS
    condition = {"match": {"none": {"of": [{"expr": "P.attr.x"}]}}}
    assert trust(tmp_path, policy(rule(condition=condition)), strict=True) == PlanTrust(conditions=True)
