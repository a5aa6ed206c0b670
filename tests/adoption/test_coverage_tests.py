"""What the real Cerbos' traces tell of the rules that tests match, in both of its formats."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from sidecar.adoption.coverage_tests import PolicyTestsError, has_tests, read_results, run_tests
from sidecar.study.policies import parse_policies
from tests.stack import binary, older_binary

HEAD = "apiVersion: api.cerbos.dev/v1\n"
RESOURCE = f"""{HEAD}resourcePolicy:
  resource: "a:doc"
  version: default
  importDerivedRoles: [d]
  rules:
    - {{actions: [read], effect: EFFECT_ALLOW, roles: [user]}}
    - {{name: second, actions: ["up*"], effect: EFFECT_ALLOW, derivedRoles: [owner], condition: {{match: {{all: {{of: [{{expr: R.attr.ok == true}}, {{expr: R.attr.big == true}}]}}}}}}}}
    - {{actions: [read], effect: EFFECT_DENY, roles: ["*"], condition: {{match: {{expr: R.attr.locked == true}}}}}}
    - {{actions: [read], effect: EFFECT_DENY, roles: ["*"], condition: {{match: {{none: {{of: [{{expr: R.attr.ok == true}}]}}}}}}}}
    - {{actions: [purge], effect: EFFECT_ALLOW, roles: [admin]}}
"""
DERIVED = f"""{HEAD}derivedRoles:
  name: d
  definitions: [{{name: owner, parentRoles: [user], condition: {{match: {{expr: R.attr.owner == P.id}}}}}}]
"""
SCOPED = f"""{HEAD}resourcePolicy:
  resource: "a:doc"
  version: default
  scope: acme
  rules: [{{actions: [read], effect: EFFECT_DENY, roles: [user], condition: {{match: {{expr: R.attr.secret == true}}}}}}]
"""
PRINCIPAL = f"""{HEAD}principalPolicy:
  principal: %s
  version: default
  rules: [{{resource: "a:doc", actions: [{{action: read, effect: EFFECT_DENY}}, {{name: own, action: purge, effect: EFFECT_ALLOW}}]}}]
"""
TESTS = """name: docs
principals: {bobs_name: {id: bob, roles: [user]}, u: {id: u, roles: [user]}}
resources:
  d: {kind: "a:doc", id: "1", attr: {owner: u, ok: true, big: true, locked: false}}
  acme: {kind: "a:doc", id: "2", scope: acme, attr: {owner: u, ok: true, locked: false, secret: %s}}
tests:
  - name: u
    input: {principals: [u], resources: [d, acme], actions: [read, update]}
    expected: [{principal: u, resource: d, actions: {read: EFFECT_ALLOW, update: EFFECT_ALLOW}}]
  - name: bob
    input: {principals: [bobs_name], resources: [d], actions: [read]}
    expected: [{principal: bobs_name, resource: d, actions: {read: EFFECT_ALLOW}}]
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    for name, text in {
        "doc": RESOURCE, "derived": DERIVED, "scoped": SCOPED, "bob": PRINCIPAL % "bob", "eve": PRINCIPAL % "eve",
    }.items():  # fmt: skip
        (folder / f"{name}.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("program", [binary, older_binary], ids=["0.55", "0.51"])
@pytest.mark.parametrize("beside", [True, False])
def test_each_rule_whose_condition_was_met_is_matched(folder: Path, program: object, beside: bool) -> None:
    tests = folder if beside else folder.parent / "tests"
    tests.mkdir(exist_ok=True)
    (tests / "doc_test.yaml").write_text(TESTS % "true")
    assert callable(program)
    matched = run_tests(program(), folder, None if beside else tests)
    assert {(rule.policy.name, rule.policy.scope, rule.name): matched.has(rule) for rule in parse_policies(folder).rules} == {
        ("a:doc", "", "rule-001"): True, ("a:doc", "", "second"): True, ("a:doc", "", "rule-003"): False,
        ("a:doc", "", "rule-004"): False, ("a:doc", "", "rule-005"): False, ("a:doc", "acme", "rule-001"): True,
        ("bob", "", "a:doc_rule-001"): True, ("bob", "", "own"): False,
        ("eve", "", "a:doc_rule-001"): False, ("eve", "", "own"): False,
    }  # fmt: skip
    # the one that says that bob may read
    assert (matched.suites, matched.failed) == (1, 1)


def test_tests_are_known_by_their_names(folder: Path) -> None:
    assert not has_tests(folder)
    (folder / "tests").mkdir()
    (folder / "tests" / "a_test.json").write_text("{}")
    assert has_tests(folder)


def test_policies_that_do_not_compile_are_an_error_that_says_why(folder: Path) -> None:
    (folder / "a_test.yaml").write_text(TESTS % "true")
    (folder / "derived.yaml").unlink()
    with pytest.raises(PolicyTestsError, match=r"doc\.yaml:5:24: cannot find derived roles"):
        run_tests(binary(), folder, None)


@pytest.mark.parametrize(
    "output",
    [
        '{"suites": [{}]}',
        '{"suites": [1]}',
        '{"suites": [{"file": "a", "testCases": [{"principals": [1]}]}]}',
    ],
)
def test_results_of_another_form_are_no_crash(tmp_path: Path, output: str) -> None:
    with pytest.raises(PolicyTestsError, match="Cerbos' results could not be read"):
        read_results(io.BytesIO(output.encode()), tmp_path)


def test_a_suite_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(PolicyTestsError, match=r"a_test\.yaml: no such thing"):
        read_results(
            io.BytesIO(json.dumps({"suites": [{"file": "a_test.yaml", "error": "no such thing"}]}).encode()), tmp_path
        )
