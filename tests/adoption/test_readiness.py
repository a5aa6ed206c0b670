"""When it is time to enforce, all routes or some."""

from sidecar.adoption.readiness import Judge, Readiness, RouteState, Thresholds, days_between
from sidecar.adoption.sighting import Relation, Where
from sidecar.adoption.tally import Tally
from sidecar.record.line import QuestionLine
from tests.adoption.recorded import at, question, refused

READ, UPDATE, DELETE = (Where(method, "/contacts/{id}") for method in ("GET", "PUT", "DELETE"))


def judged(lines: list[QuestionLine], mapped: set[Where] | None = None, intended: set[str] | None = None) -> Readiness:
    tally = Tally()
    tally.add_all(lines)
    return Judge(tally, Thresholds(), intended or set()).judge({READ} if mapped is None else mapped)


def states(readiness: Readiness) -> dict[Where, RouteState]:
    return {route.where: route.state for route in readiness.routes}


def unmet(readiness: Readiness) -> list[str]:
    return [rule.name for rule in readiness.rules if not rule.met]


WEEK = [question(day) for day in range(9)]


def test_a_week_without_a_difference_and_with_every_route_is_enough() -> None:
    found = judged(WEEK)
    assert (found.ready, found.sentence) == (True, "Enforce: every rule is met.")
    assert states(found) == {READ: RouteState.READY}
    assert (found.days, found.share) == (8.0, 1.0)


def test_a_short_time_is_not_enough_and_is_not_rounded_up() -> None:
    found = judged([question(0), question(6.99)])
    assert unmet(found) == ["watched"]
    assert found.sentence == "Do not enforce yet: watched for 6.9 days only."
    assert states(found) == {READ: RouteState.NOT_READY}


def test_what_would_break_holds_its_route_back_and_no_other() -> None:
    update = [question(day, method="PUT") for day in range(9)]
    found = judged([*WEEK, *update, refused(7.5)], {READ, UPDATE})
    assert unmet(found) == ["quiet", "nothing_breaks"]
    assert states(found) == {READ: RouteState.NOT_READY, UPDATE: RouteState.READY}
    assert found.newest == at(7.5)
    assert found.sentence == (
        "Do not enforce everything yet: the last new difference came 0.5 days before the last request; 1 kind of the "
        "requests of the last 3 days would break. 1 of 2 routes is ready: enforce those first, with `mode: enforce`."
    )


def test_what_broke_before_the_quiet_days_was_mended() -> None:
    assert judged([*WEEK, refused(1), refused(4.9)]).ready


def test_a_known_difference_is_no_new_one_but_still_breaks() -> None:
    assert unmet(judged([*WEEK, refused(1), refused(7.5)])) == ["nothing_breaks"]


def test_what_the_app_knows_more_is_new_and_breaks_nothing() -> None:
    assert unmet(judged([*WEEK, question(7.5, 403)])) == ["quiet"]


def test_what_a_person_intends_holds_nothing_back() -> None:
    tally = Tally()
    tally.add(refused(7.5))
    (group,) = tally.groups[Relation.WOULD_BREAK].values()
    assert judged([*WEEK, refused(7.5)], intended={group.key.id}).ready


def test_too_many_undecided_requests_hold_it_back() -> None:
    enough = [question(8, weight=2000)]
    assert judged([*WEEK, refused(2, code="lookup_timeout"), *enough]).ready
    found = judged([*WEEK, refused(2, code="lookup_timeout")])
    assert unmet(found) == ["decided"]
    assert states(found) == {READ: RouteState.NOT_READY}


def test_routes_that_nobody_used_hold_it_back_and_are_named() -> None:
    found = judged(WEEK, {READ, DELETE})
    assert unmet(found) == ["routes_seen"]
    assert states(found) == {READ: RouteState.READY, DELETE: RouteState.UNSEEN}
    assert found.share == 0.5


def test_without_the_route_file_nobody_can_say_enforce() -> None:
    tally = Tally()
    tally.add_all(WEEK)
    found = Judge(tally, Thresholds(), ()).judge(None)
    assert [(rule.name, rule.met) for rule in found.rules if not rule.met] == [("routes_seen", None)]
    assert not found.ready


def test_an_enforced_route_is_said_to_be() -> None:
    found = judged([line._replace(mode="enforce") for line in WEEK])
    assert states(found) == {READ: RouteState.ENFORCED}


def test_groups_beyond_the_bound_hold_it_back() -> None:
    tally = Tally()
    tally.add_all(WEEK)
    tally.beyond[Relation.WOULD_BREAK] = tally.span
    assert "nothing_breaks" in [
        rule.name for rule in Judge(tally, Thresholds(), ()).judge({READ}).rules if not rule.met
    ]


def test_days_between_times() -> None:
    assert days_between(at(1), at(2.5)) == 1.5
    assert days_between("", at(1)) == 0.0
