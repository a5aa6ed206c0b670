"""A rule reaches the questions that it may decide, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.config.routes.file import read_routes
from sidecar.study.policies import parse_policies
from sidecar.study.reach import about, by_kind
from sidecar.study.supply import questions

ROUTES = """
version: 1
routes:
  - {path: /a, resource: "a:b", actions: {GET: list, POST: create}}
  - {path: /s, resource: s, scope: "{claims.tenant}", actions: {GET: list}}
"""
RESOURCE = 'apiVersion: api.cerbos.dev/v1\nresourcePolicy: {resource: %s, version: %s, scope: "%s", rules: [%s]}\n'
PRINCIPAL = """
apiVersion: api.cerbos.dev/v1
principalPolicy: {principal: p, version: default, rules: [{resource: "%s", actions: [{action: "%s", effect: 1}]}]}
"""
RULE = '{actions: ["%s"], effect: EFFECT_ALLOW, roles: [user]}'


@pytest.mark.parametrize(("policy", "reached"), [
    (RESOURCE % ("a_b", "default", "", RULE % "list"), ["GET /a"]),
    (RESOURCE % ("a_b", "default", "", RULE % "*"), ["GET /a", "POST /a"]),
    (RESOURCE % ("a_b", "default", "", RULE % "delete"), []),
    (RESOURCE % ("a_b", "other", "", RULE % "list"), []),
    (RESOURCE % ("a_b", "default", "acme", RULE % "list"), []),
    (RESOURCE % ("s", "default", "acme", RULE % "list"), ["GET /s"]),
    (PRINCIPAL % ("*", "list"), ["GET /a", "GET /s"]),
    (PRINCIPAL % ("a:*", "*"), ["GET /a", "POST /a"]),
])  # fmt: skip
def test_a_rule_reaches_the_questions_that_it_may_decide(tmp_path: Path, policy: str, reached: list[str]) -> None:
    (tmp_path / "p.yaml").write_text(policy)
    (rule,) = parse_policies(tmp_path).rules
    asked = by_kind(questions(read_routes(ROUTES, "routes.yaml", {})))
    assert [each.where for each in about(rule, asked)] == reached
