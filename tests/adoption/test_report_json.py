"""The report for programs."""

import json
from typing import Any

from sidecar.adoption.readiness import Thresholds
from sidecar.adoption.report import report_of
from sidecar.adoption.report_json import as_json
from sidecar.adoption.sighting import AppStatus, Relation, Verdict, Where
from sidecar.adoption.tally import Tally
from sidecar.record.line import Line
from tests.adoption.recorded import at, question, refused


def json_of(*lines: Line) -> dict[str, Any]:
    tally = Tally()
    tally.add_all(lines)
    found = json.loads(json.dumps(as_json(report_of(tally, Thresholds(), {Where("PUT", "/contacts/{id}")}))))
    assert isinstance(found, dict)
    return found


def test_each_cell_says_who_where_and_why() -> None:
    found = json_of(
        question(), refused(1), refused(2, route="", path="/x/7", code="route_unmapped", kind="", action="")
    )
    assert len(found["matrix"]) == len(Verdict) * len(AppStatus)
    (cell,) = [one for one in found["matrix"] if one["relation"] == Relation.WOULD_BREAK]
    assert cell == {
        "verdict": "would_refuse", "app": "2xx_3xx", "relation": "would_break", "requests": 2, "first": at(1), "last": at(2),
        "principals": {"count": 1, "more": False}, "routes": ["GET /contacts/{id}", "GET /x/{number}"], "kinds": ["contact"],
        "roles": ["user"], "causes": ["no_route", "policy"],
    }  # fmt: skip


def test_each_difference_has_its_id_cause_and_examples() -> None:
    (found,) = json_of(refused())["differences"]
    assert found == {
        "id": "12701281", "relation": "would_break", "verdict": "would_refuse", "app": "2xx_3xx", "method": "GET",
        "route": "/contacts/{id}", "kind": "contact", "action": "read", "roles": ["user"], "code": "denied_by_policy",
        "cause": "no_rule_for_roles", "intended": False, "requests": 1, "first": at(0), "last": at(0),
        "principals": {"count": 1, "more": False}, "app_statuses": {"200": 1},
        "examples": [{"request_id": "r-1", "time": at(0), "path": "/contacts/7", "status": 200}],
    }  # fmt: skip


def test_each_route_has_its_state_and_the_rules_that_it_does_not_meet() -> None:
    used, unused = json_of(question(), question(1))["readiness"]["routes"]
    assert (used["state"], [rule["name"] for rule in used["unmet"]], used["agree"]) == ("not_ready", ["watched"], 2)
    assert (unused["method"], unused["state"], unused["requests"], unused["first"]) == ("PUT", "unseen", 0, None)


def test_lists_and_days_are_numbers() -> None:
    found = json_of(question(items={"seen": 4, "kept": 3, "masked": 1}), question(1, 403))
    assert found["lists"] == [
        {"method": "GET", "route": "/contacts/{id}", "answers": 1, "seen": 4, "vanish": 1, "masked": 1}
    ]
    assert [(day["day"], day["requests"], day["app_knows_more"]) for day in found["days"]] == [
        ("2025-12-01", 1, 0), ("2025-12-02", 1, 1),
    ]  # fmt: skip
