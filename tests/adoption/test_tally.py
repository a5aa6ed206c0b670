"""What is counted, and that it stays within its bounds."""

import tracemalloc
from typing import Any

import pytest

from sidecar.adoption import tally as tallies
from sidecar.adoption.causes import Cause
from sidecar.adoption.sighting import AppStatus, Relation, Verdict, Where
from sidecar.adoption.tally import Tally
from sidecar.record.line import Line, SignedIn, UnreadLine
from tests.adoption.recorded import at, decision, question, refused


def tallied(*lines: Line) -> Tally:
    tally = Tally()
    tally.add_all(lines)
    return tally


def test_a_line_counts_for_the_requests_that_it_stands_for() -> None:
    tally = tallied(question(weight=5), refused(1, weight=3), refused(2, weight=0))
    assert tally.span.requests == 9
    assert tally.cells[Verdict.WOULD_REFUSE, AppStatus.DONE].span == tallies.TrafficSpan(4, at(1), at(2))
    assert tally.days == {
        "2025-12-01": {Relation.AGREE: 5}, "2025-12-02": {Relation.WOULD_BREAK: 3}, "2025-12-03": {Relation.WOULD_BREAK: 1},
    }  # fmt: skip


def test_each_route_cause_and_role_set_is_a_group_with_its_first_and_last_line_and_examples() -> None:
    lines = [refused(day, request_id=f"r-{day}", principal=f"p-{day % 3}") for day in range(5)]
    other = refused(5, route="", path="/reports/7", code="route_unmapped")
    tally = tallied(*lines, other, refused(6, roles=("intern",)))
    one, two, three = tally.groups[Relation.WOULD_BREAK].values()
    assert (one.span.requests, one.span.first, one.span.last, one.principals.count) == (5, at(0), at(4), 3)
    assert [example.request_id for example in one.examples] == ["r-2", "r-3", "r-4"]
    assert two.key.where == Where("GET", "", "/reports/{number}")
    assert three.key.roles == ("intern",)
    assert len({group.key.id for group in (one, two, three)}) == 3


def test_the_id_of_a_group_is_the_same_in_every_run() -> None:
    (group,) = tallied(refused()).groups[Relation.WOULD_BREAK].values()
    assert group.key.id == "12701281"


def test_where_both_logs_tell_of_the_same_requests_the_question_log_counts() -> None:
    tally = tallied(decision(0), question(1), decision(1.1), question(2), decision(2.1))
    assert (tally.span.requests, tally.repeated) == (3, 2)


def test_requests_that_no_gate_judged_are_counted_apart_and_other_events_not() -> None:
    tally = tallied(
        UnreadLine(at(0), "r-1", "shadow", "refuse", "request_invalid", 400, "::1"),
        SignedIn(at(0), "r-2", "::1", "bob"),
    )
    assert (tally.unread.requests, tally.lines) == (1, 0)


def test_a_role_that_was_never_allowed_is_another_cause_than_a_policy_that_says_no() -> None:
    update: dict[str, Any] = {"method": "PUT", "action": "update"}
    tally = tallied(
        question(**update), refused(roles=("user",), **update), refused(roles=("intern",), **update),
        refused(kind="order", policy="NO_MATCH"), refused(code="claim_missing"), question(app_status=403),
    )  # fmt: skip
    groups = [group for relation in tally.groups.values() for group in relation.values()]
    assert {(group.key.roles, group.key.kind, tally.cause(group.key)) for group in groups} == {
        (("user",), "contact", Cause.POLICY), (("intern",), "contact", Cause.ROLE), (("user",), "order", Cause.NO_POLICY),
        (("user",), "contact", Cause.CLAIM), (("user",), "contact", Cause.WIDER_POLICY),
    }  # fmt: skip


def test_items_of_lists_that_would_vanish_are_summed_by_route() -> None:
    route: dict[str, Any] = {"route": "/contacts", "path": "/contacts"}
    tally = tallied(
        question(items={"seen": 10, "kept": 7, "masked": 2, "pushed": "exact"}, weight=2, **route),
        question(items={"seen": 5, "kept": 5}, **route), question(items={"seen": 1, "kept": 9}, **route),
        question(items={"seen": "x"}, **route),
    )  # fmt: skip
    count = tally.routes[Where("GET", "/contacts")]
    assert (count.lists, count.seen, count.vanish, count.masked) == (3, 25, 6, 4)


def test_principals_are_exact_up_to_a_bound_and_then_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tallies, "MAX_DISTINCT", 3)
    few = tallied(*(refused(principal=f"p-{number % 3}") for number in range(9)))
    many = tallied(*(refused(principal=f"p-{number % 4}") for number in range(9)))
    sampled = tallied(refused(weight=2), refused(principal=""))
    found = [next(iter(one.groups[Relation.WOULD_BREAK].values())).principals for one in (few, many, sampled)]
    assert [(one.count, one.more) for one in found] == [(3, False), (3, True), (1, True)]


def test_no_bound_loses_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "MAX_GROUPS",
        "MAX_ROUTES",
        "MAX_DAYS",
        "MAX_PRINCIPALS",
        "MAX_REMEMBERED",
        "MAX_STATUSES",
        "MAX_ALLOWED",
    ):
        monkeypatch.setattr(tallies, name, 2)
    lines = [
        refused(number, 200 + number, route=f"/r/{number}", principal=f"p-{number}", kind=f"k-{number}")
        for number in range(20)
    ]
    tally = tallied(*lines, *(question(20, kind=f"k-{number}") for number in range(5)))
    breaks = tally.groups[Relation.WOULD_BREAK]
    assert len(breaks) == len(tally.routes) == len(tally.days) == len(tally.principals) == len(tally.allowed) == 2
    assert tally.principals_beyond
    assert sum(group.span.requests for group in breaks.values()) + tally.beyond[Relation.WOULD_BREAK].requests == 20
    assert sum(count.span.requests for count in tally.routes.values()) + tally.routes_beyond.requests == 25
    assert sum(sum(day.values()) for day in tally.days.values()) + tally.days_beyond == 25


def test_a_route_is_enforced_once_all_its_last_lines_are() -> None:
    where = Where("GET", "/contacts/{id}")
    enforced = [question(3, mode="enforce") for _ in range(tallies.SURELY)]
    assert tallied(question(mode="enforce")).routes[where].enforced
    assert not tallied(question(), *enforced[1:]).routes[where].enforced
    assert tallied(question(), *enforced).routes[where].enforced
    assert not tallied(*enforced, question()).routes[where].enforced


def test_a_log_in_which_nothing_repeats_takes_little_memory() -> None:
    tally = Tally()
    tracemalloc.start()
    for number in range(4_000):
        kind = (refused, question)[number % 2]
        tally.add(
            kind(
                number / 10, 403 if kind is question else 200, route=f"/r/{number % 900}" if number % 3 else "", path=f"/{number}-" + "x" * 8000,
                principal=f"p-{number}", request_id=f"r-{number}" + "x" * 8000, roles=tuple(f"{number}-{one}" for one in range(40)),
            )
        )  # fmt: skip
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 16 * 1024 * 1024
    assert tally.span.requests == 4_000
