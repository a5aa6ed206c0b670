"""A replay's outcome as text and as JSON: the same numbers, within bounds."""

from __future__ import annotations

import json

from sidecar.adoption import replay_report
from sidecar.adoption.replay import Replay, SkipReason, Unreplayed
from tests.adoption.questions import denied, question, unasked
from tests.adoption.test_replay import READINGS, asked, compared

REVISION = "f" * 16


def outcome() -> Replay:
    made = compared(
        (question(weight=7), True), (question(weight=1200, principal="bob"), False),
        (denied(request_id="r-2", roles=("guest", "user")), True),
    )  # fmt: skip
    made.skip(Unreplayed(unasked("token_missing", weight=3), SkipReason.NO_PRINCIPAL, "token_missing"))
    return made


def test_the_text_has_both_directions_apart_with_rule_role_principal_and_example() -> None:
    text = "\n".join(replay_report.as_text(outcome(), REVISION))
    head, lost = text.split("\nallow -> deny\n")
    lost, gained = lost.split("\ndeny -> allow\n")
    gained, unreplayed = gained.split("\nnot replayed\n")
    assert "1,211 requests from 2026-01-31T12:00:00.000+00:00" in head
    assert f"policies {'0' * 16} -> {REVISION}" in head
    assert "/contacts/{id}  contact:read  user\n    1,200 requests of 1 principal," in lost
    assert "no rule of the new policies allows it" in lost
    assert "by principal: bob 1,200" in lost
    assert "contact.yaml:18:7" in gained
    assert "such as r-2" in gained
    assert "by role: guest 1, user 1" in gained
    assert unreplayed == "           3  nobody was identified (token_missing)"


def test_a_terminal_only_shows_what_a_line_says() -> None:
    evil = "\x1b]0;x\x07\u202e\n"
    made = compared((denied(request_id=evil, route=evil, principal=evil, roles=(evil,)), True))
    made.skip(Unreplayed(question(), SkipReason.REDACTED, evil))
    assert all(map(str.isprintable, replay_report.as_text(made, REVISION)))


def test_json_has_the_same() -> None:
    made = json.loads(json.dumps(replay_report.as_json(outcome(), REVISION)))
    assert (made["requests"], made["replayed"], made["same"]) == (1211, 1208, 7)
    assert made["allow_to_deny"]["requests"] == 1200
    assert made["allow_to_deny"]["by_principal"] == {"bob": 1200}
    (gained,) = made["deny_to_allow"]["changes"]
    assert (gained["kind"], gained["action"], gained["roles"]) == ("contact", "read", ["guest", "user"])
    assert gained["examples"] == ["r-2"]
    assert made["unreplayed"] == [{"reason": "no_principal", "detail": "token_missing", "requests": 3}]
    assert made["revisions"] == {"recorded": {"0" * 16: 1211}, "new": REVISION}


def test_a_long_list_is_cut_and_says_so() -> None:
    made = Replay()
    for at in range(30):
        made.compare(asked(denied(action=f"a{at}")), True, READINGS)
        made.skip(Unreplayed(question(), SkipReason.REDACTED, f"resource.x{at}"))
    text = "\n".join(replay_report.as_text(made, REVISION))
    assert text.count("and 10 more: --json has them") == 2
    assert len(replay_report.as_json(made, REVISION)["deny_to_allow"]["changes"]) == 30


def test_nothing_is_said_of_nothing() -> None:
    text = "\n".join(replay_report.as_text(Replay(), REVISION))
    assert "allow -> deny\n" not in text
    assert "policies none ->" in text
