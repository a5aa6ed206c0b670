"""Recorded questions tell which rules decided them: the real Cerbos is asked them again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sidecar.adoption import coverage_questions
from sidecar.adoption.coverage_questions import Samples, ask_again
from sidecar.adoption.coverage_tests import PolicyTestsError
from sidecar.record.line import Line
from sidecar.study.policies import parse_policies
from tests.adoption.questions import denied, question, unasked
from tests.adoption.recorded import decision
from tests.stack import binary, older_binary

RESOURCE = """\
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  resource: contact
  version: default
  rules:
    - {actions: [read], effect: EFFECT_ALLOW, roles: [user], condition: {match: {expr: R.attr.owner == P.id}}}
    - {actions: [read], effect: EFFECT_ALLOW, roles: [user], condition: {match: {expr: R.attr.team == "all"}}}
    - {actions: [read], effect: EFFECT_DENY, roles: ["*"], condition: {match: {expr: R.attr.locked == true}}}
    - {actions: [update], effect: EFFECT_DENY, roles: ["*"], condition: {match: {expr: R.attr.locked == true}}}
"""
PRINCIPAL = """\
apiVersion: api.cerbos.dev/v1
principalPolicy:
  principal: %s
  version: default
  rules: [{resource: contact, actions: [{action: read, effect: EFFECT_DENY}]}]
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "contact.yaml").write_text(RESOURCE)
    for name in ("banned", "other"):
        (tmp_path / f"{name}.yaml").write_text(PRINCIPAL % name)
    # a test of the user is no question of the log
    (tmp_path / "a_test.yaml").write_text("name: a\nprincipals: 5\n")
    return tmp_path


def samples(folder: Path, *lines: Line) -> Samples:
    made = Samples(parse_policies(folder))
    for line in lines:
        made.add(line)
    return made


@pytest.mark.parametrize("program", [binary, older_binary], ids=["0.55", "0.51"])
def test_the_rules_that_decided_are_known(folder: Path, program: Callable[[], Path]) -> None:
    asked = samples(
        folder,
        question(attributes={"owner": "alice", "team": "sales", "locked": False}),
        denied(attributes={"owner": "alice", "team": "sales", "locked": True}),
        denied(principal="banned", attributes={"owner": "eve", "team": "sales", "locked": False}),
    )
    matched = ask_again(program(), folder, asked)
    assert [(rule.policy.name, rule.name) for rule in parse_policies(folder).rules if matched.has(rule)] == [
        ("banned", "contact_rule-001"), ("contact", "rule-001"), ("contact", "rule-003"),
    ]  # fmt: skip


def test_some_of_those_alike_are_enough(folder: Path) -> None:
    asked = samples(folder, *[question()] * 10, *[question(roles=("user", str(role))) for role in range(4)])
    assert len(asked.moments) == 3 + 4


def test_what_was_not_asked_or_not_recorded_whole_is_left_out(folder: Path) -> None:
    asked = samples(
        folder,
        decision(),
        unasked("route_unmapped"),
        question(weight=7, redacted=("resource.team", "resource.unread")),
        question(redacted=("resource.unread",)),
    )
    assert len(asked.moments) == 1
    assert asked.redacted == {"resource.team": 7}


@pytest.mark.parametrize(("name", "bound"), [("MAX_QUESTIONS", 2), ("MAX_BYTES", 700)])
def test_the_questions_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, bound: int) -> None:
    monkeypatch.setattr(coverage_questions, name, bound)
    assert len(samples(folder, *[question(roles=(str(role),)) for role in range(9)]).moments) == 2


def test_policies_that_cannot_be_read_are_an_error(folder: Path, tmp_path: Path) -> None:
    asked = samples(folder, question())
    (folder / "contact.yaml").write_text("nonsense")
    with pytest.raises(PolicyTestsError):
        ask_again(binary(), folder, asked)
