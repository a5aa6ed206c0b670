"""What of a recorded line can be asked again, and how the answers are compared. The PDP itself is in tests/run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar.adoption import replay
from sidecar.adoption.replay import OTHERS, Recalled, Replay, ReplayCase, SkipReason, Unreplayed, by, case_of, recall
from sidecar.record.line import QuestionLine
from sidecar.study.policies import parse_policies
from sidecar.study.readings import AttributeUses
from tests.adoption.questions import denied, question, unasked
from tests.stack import ROOT

READINGS = AttributeUses(parse_policies(ROOT / "policies"))


def case(line: QuestionLine) -> ReplayCase | Unreplayed:
    found = recall(line)
    return case_of(found, READINGS) if isinstance(found, Recalled) else found


def asked(line: QuestionLine) -> ReplayCase:
    found = case(line)
    assert isinstance(found, ReplayCase), found
    return found


def test_a_question_is_asked_as_it_was() -> None:
    found = asked(question(attributes={"owner": "bob", "tags": ["a"]}, principal_attributes={"level": 3}, scope="eu"))
    assert (found.principal.id, found.principal.roles, found.principal.attributes) == ("alice", ("user",), {"level": 3})
    (one,) = found.resources
    assert (one.kind, one.id, one.action, one.scope) == ("contact", "7", "read", "eu")
    assert one.attributes == {"owner": "bob", "tags": ["a"]}
    assert found.allowed
    assert not asked(denied()).allowed


def test_many_resources_are_one_request() -> None:
    ids = [{"id": str(at), "allowed": at < 2, "attributes": {"owner": "alice"}} for at in range(3)]
    found = asked(denied(attributes=None, resources=tuple(ids), id=""))
    assert [one.id for one in found.resources] == ["0", "1", "2"]
    assert not found.allowed


def test_several_things_of_one_request_are_asked_as_they_were() -> None:
    told = (
        {"id": "1", "allowed": True, "attributes": {}},
        {"id": "-", "allowed": True, "attributes": {}, "kind": "note", "action": "list", "scope": "s"},
    )
    found = recall(question(attributes=None, resources=told))
    assert isinstance(found, Recalled)
    assert [(one.kind, one.id, one.action, one.scope) for one in found.resources] == [
        ("contact", "1", "read", ""),
        ("note", "-", "list", "s"),
    ]


def test_a_fault_after_the_permit_leaves_the_verdict() -> None:
    assert asked(question(code="upstream_timeout", status=504)).allowed


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (unasked("token_missing", principal=""), SkipReason.NO_PRINCIPAL, "token_missing"),
        (unasked("route_unmapped"), SkipReason.NOT_ASKED, "route_unmapped"),
        (question(asked=False, code="public", principal=""), SkipReason.NO_PRINCIPAL, "public"),
        (denied(code="pdp_unavailable"), SkipReason.UNDECIDED, "pdp_unavailable"),
        # refused for the one that nobody knows, too
        (
            denied(attributes=None, resources=({"id": "1", "allowed": False, "attributes": {}},), missing=1),
            SkipReason.UNDECIDED,
            "denied_by_policy",
        ),
        (question(outcome="shadow_refuse", code="items_unreadable"), SkipReason.UNDECIDED, "items_unreadable"),
        (question(attributes={}, redacted=("resource.owner",)), SkipReason.REDACTED, "resource.owner"),
        (
            question(attributes={}, redacted=("resource.visibility", "resource.owner"), owner=("owner",)),
            SkipReason.REDACTED,
            "resource.visibility",
        ),
    ],
)
def test_what_cannot_be_replayed_says_why(line: QuestionLine, reason: SkipReason, detail: str) -> None:
    found = case(line)
    assert isinstance(found, Unreplayed)
    assert (found.reason, found.detail) == (reason, detail)
    assert reason.meaning


def test_what_no_policy_reads_may_be_left_out() -> None:
    line = question(attributes={"owner": "bob"}, redacted=("resource.phone", "principal.email"))
    assert asked(line).resources[0].attributes == {"owner": "bob"}


def test_an_attribute_that_is_the_principals_id_is_known_though_it_was_left_out() -> None:
    line = question(attributes={"status": "new"}, redacted=("resource.owner",), owner=("owner",))
    assert asked(line).resources[0].attributes == {"status": "new", "owner": "alice"}


def test_an_id_of_digits_may_have_been_a_number_and_is_not_guessed() -> None:
    line = question(principal="42", attributes={}, redacted=("resource.owner",), owner=("owner",))
    assert case(line) == Unreplayed(line, SkipReason.REDACTED, "resource.owner")


def test_policies_that_ask_for_the_time_get_the_recorded_one(tmp_path: Path) -> None:
    text = (ROOT / "policies/contact.yaml").read_text().replace("!(has(", "now() > timestamp(R.attr.until) || !(has(")
    (tmp_path / "contact.yaml").write_text(text)
    readings = AttributeUses(parse_policies(tmp_path))
    found = recall(question())
    assert isinstance(found, Recalled)
    made = case_of(found, readings)
    assert isinstance(made, ReplayCase)
    assert made.timed
    assert not asked(question()).timed


# --- the comparison ---


def compared(*pairs: tuple[QuestionLine, bool]) -> Replay:
    outcome = Replay()
    for line, allowed in pairs:
        outcome.compare(asked(line), allowed, READINGS)
    return outcome


def test_each_line_counts_by_its_weight_and_each_direction_apart() -> None:
    outcome = compared(
        (question(weight=5), True), (denied(weight=2), False), (question(weight=3, principal="bob"), False),
        (denied(roles=("admin",), request_id="r-9"), True),
    )  # fmt: skip
    outcome.skip(Unreplayed(question(weight=4), SkipReason.REDACTED, "resource.x"))
    assert (outcome.requests, outcome.same, outcome.replayed) == (15, 7, 11)
    assert (outcome.changed(widens=False), outcome.changed(widens=True)) == (3, 1)
    assert outcome.unreplayed == {(SkipReason.REDACTED, "resource.x"): 4}
    assert by(outcome, "principal", widens=False) == [("bob", 3)]
    assert by(outcome, "role", widens=True) == [("admin", 1)]
    assert by(outcome, "route", widens=True) == [("/contacts/{id}", 1)]


def test_a_change_names_the_rules_that_may_have_done_it() -> None:
    outcome = compared((denied(), True), (question(), False))
    gained, lost = sorted(outcome.changes, key=lambda change: not change.widens)
    assert [place.rpartition("/")[2] for place in gained.rules] == ["contact.yaml:18:7", "contact.yaml:26:7"]
    assert lost.rules == ()
    assert by(outcome, "rule", widens=True)[0][1] == 1


def test_a_widening_that_is_meant_is_none_beyond() -> None:
    outcome = compared((denied(weight=2), True), (denied(action="update"), True), (question(), False))
    assert outcome.widened_beyond([]) == 3
    assert outcome.widened_beyond(["contact:read"]) == 1
    assert outcome.widened_beyond(["contact:read", "contact:update"]) == 0


def test_changes_without_number_are_counted_as_one_and_never_as_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST_CHANGES", 2)
    outcome = compared(*[(denied(action=f"a{at}"), True) for at in range(5)])
    for number in range(5):
        outcome.skip(Unreplayed(question(), SkipReason.REDACTED, f"resource.x{number}"))
    assert outcome.changes[OTHERS].requests == 3
    assert outcome.widened_beyond([f"contact:a{at}" for at in range(5)]) == 3
    assert sum(outcome.unreplayed.values()) == 5
    assert len(outcome.unreplayed) == 3


def test_principals_and_examples_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MOST_PRINCIPALS", 3)
    outcome = compared(*[(denied(principal=f"u-{at}", request_id=f"r-{at}"), True) for at in range(9)])
    (tally,) = outcome.changes.values()
    assert (len(tally.principals), tally.more_principals, tally.examples) == (3, True, ["r-0", "r-1", "r-2"])
    assert tally.requests == 9


def test_times_are_those_of_the_lines() -> None:
    early: Any = question()._replace(time="2026-01-30T12:00:00.000+00:00")
    outcome = compared((denied(), True), (early, True), (denied(time=early.time), True))
    (tally,) = outcome.changes.values()
    assert (outcome.first, tally.first) == (early.time, early.time)
    assert outcome.last == tally.last == question().time
