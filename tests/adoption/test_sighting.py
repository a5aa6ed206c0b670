"""Our verdict and the app's status of a line, and how both stand to each other."""

import pytest

from sidecar.adoption.sighting import (
    AppStatus,
    Judged,
    Relation,
    Verdict,
    Where,
    app_status_of,
    column_of,
    relation_of,
    shape_of,
    verdict_of,
    where_of,
)
from tests.adoption.recorded import decision, question, refused


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (question(), Verdict.ALLOW), (question(code="public"), Verdict.ALLOW), (refused(), Verdict.WOULD_REFUSE),
        (refused(mode="shadow-policy"), Verdict.WOULD_REFUSE), (refused(code="lookup_timeout"), Verdict.UNDECIDED),
        (refused(code="pdp_unavailable"), Verdict.UNDECIDED), (refused(code="keys_unavailable"), Verdict.UNDECIDED),
        (refused(code="internal_error"), Verdict.UNDECIDED), (refused(code="moon_phase"), Verdict.WOULD_REFUSE),
        (question(outcome="refuse", code="denied_by_policy"), Verdict.REFUSE),
        (question(outcome="refuse", code="lookup_open"), Verdict.UNDECIDED),
        (question(code="upstream_timeout"), Verdict.ALLOW), (refused(code="upstream_timeout"), Verdict.WOULD_REFUSE),
        (question(code="items_unreadable"), Verdict.WOULD_REFUSE),
        (question(code="items_too_many", mode="enforce"), Verdict.REFUSE), (decision(), Verdict.ALLOW),
        (decision(outcome="shadow_refuse", code="route_unmapped"), Verdict.WOULD_REFUSE),
    ],
)  # fmt: skip
def test_a_line_has_one_verdict(line: Judged, verdict: Verdict) -> None:
    assert verdict_of(line) is verdict


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (question(), 200), (question(app_status=None), None), (refused(app_status=403), 403), (decision(status=404), 404),
        (decision(outcome="shadow_refuse", code="route_unmapped", status=302), 302),
        (decision(outcome="refuse", code="denied_by_policy", status=403), None),
        (decision(code="upstream_timeout", status=504), None), (decision(code="items_unreadable", status=502), None),
        (decision(code="preflight", status=204), None), (decision(status=499), None),
        (decision(outcome="shadow_refuse", code="denied_by_policy", status=502, dep="upstream"), None),
    ],
)  # fmt: skip
def test_the_apps_status_is_known_where_it_answered(line: Judged, status: int | None) -> None:
    assert app_status_of(line) == status


def test_each_status_has_its_column() -> None:
    statuses = [101, 200, 304, 399, 400, 401, 403, 404, 409, 499, 500, 599, None]
    assert [column_of(status) for status in statuses] == [
        AppStatus.DONE, AppStatus.DONE, AppStatus.DONE, AppStatus.DONE, AppStatus.OTHER, AppStatus.REFUSED, AppStatus.REFUSED, AppStatus.MISSING,
        AppStatus.OTHER, AppStatus.OTHER, AppStatus.FAULT, AppStatus.FAULT, AppStatus.NONE,
    ]  # fmt: skip


def test_refusing_what_the_app_does_would_break_and_allowing_what_it_refuses_is_its_knowledge() -> None:
    found = {(verdict, status): relation_of(verdict, status) for verdict in Verdict for status in AppStatus}
    of = {relation: [cell for cell, one in found.items() if one is relation] for relation in Relation}
    assert of[Relation.WOULD_BREAK] == [(Verdict.WOULD_REFUSE, AppStatus.DONE)]
    assert of[Relation.APP_KNOWS_MORE] == [(Verdict.ALLOW, AppStatus.REFUSED)]
    assert of[Relation.UNCLEAR] == [
        (Verdict.WOULD_REFUSE, one) for one in (AppStatus.OTHER, AppStatus.FAULT, AppStatus.NONE)
    ]
    assert {verdict for verdict, _ in of[Relation.UNDECIDED]} == {Verdict.UNDECIDED}
    assert {verdict for verdict, _ in of[Relation.REFUSED]} == {Verdict.REFUSE}
    assert len(of[Relation.AGREE]) == 7


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/contacts/7", "/contacts/{number}"), ("/", "/"), ("", ""), ("/a/7/b/8", "/a/{number}/b/{number}"),
        ("/o/0f8fad5b-d9cb-469f-a165-70867728950e", "/o/{uuid}"), ("/t/9f86d081884c7d659a2feaa0c55ad015", "/t/{id}"),
        ("/contacts/archive", "/contacts/archive"), ("/x/" + "a" * 65, "/x/{id}"), ("/1/2/3/4/5/6/7/8/9/10", "/{number}" * 8 + "/…"),
    ],
)  # fmt: skip
def test_ids_in_a_path_become_placeholders(path: str, shape: str) -> None:
    assert shape_of(path) == shape


def test_head_is_counted_as_get_and_a_path_without_a_route_by_its_shape() -> None:
    assert where_of(question(method="HEAD")) == Where("GET", "/contacts/{id}")
    assert where_of(question(method="HEAD", route="")) == Where("GET", "", "/contacts/{number}")
    assert str(where_of(question(route=""))) == "GET /contacts/{number}"
