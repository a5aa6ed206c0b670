"""What the app let whom do, as question lines tell."""

from typing import Any

from sidecar.adoption.evidence import NUMBER, RESOURCE_ID, Evidence, RequestGroup, together
from sidecar.adoption.tally import Table
from sidecar.record.line import Line
from tests.adoption.recorded import at, decision, question

USER = frozenset({"user"})


def collected(*lines: Line) -> Evidence:
    evidence = Evidence()
    evidence.add_all(lines)
    return evidence


def test_the_apps_own_answer_counts_and_not_ours() -> None:
    refused = {"outcome": "shadow_refuse", "code": "denied_by_policy"}
    evidence = collected(question(0, 200, weight=3, **refused), question(1, 403), question(2, 404), question(3, 302))
    (answers,) = evidence.cases.values()
    assert answers.admitted.span.requests == 4
    assert answers.admitted.statuses == {200: 3, 302: 1}
    assert (answers.refused.span.requests, answers.unclear) == (1, 1)
    assert evidence.span.requests == 6


def test_a_case_is_a_kind_an_action_all_roles_and_the_owner_match() -> None:
    evidence = collected(question(), question(owner=("owner",)), question(id="bob", roles=("admin", "user")))
    assert set(evidence.cases) == {
        RequestGroup("contact", "read", USER, frozenset()), RequestGroup("contact", "read", USER, frozenset({"owner"})),
        RequestGroup("contact", "read", frozenset({"admin", "user"}), frozenset({RESOURCE_ID})),
    }  # fmt: skip


def test_of_many_resources_each_counts_where_the_app_did_it_and_none_where_it_refused() -> None:
    resources = (
        {"id": "1", "allowed": True, "attributes": {"owner": "bob"}}, {"id": "2", "allowed": True, "attributes": {"owner": "eve"}},
    )  # fmt: skip
    evidence = collected(question(resources=resources), question(0, 403, resources=resources))
    assert {tuple(case.own): (one.admitted.span.requests, one.refused.span.requests, one.unclear) for case, one in evidence.cases.items()} == {
        ("owner",): (1, 0, 1), (): (1, 0, 1),
    }  # fmt: skip


def test_of_many_resources_that_are_alike_a_refusal_counts() -> None:
    resources = tuple({"id": each, "allowed": True, "attributes": {"owner": "eve"}} for each in "12")
    evidence = collected(question(0, 403, resources=resources), question(0, 403, resources=resources, owner=("owner",)))
    assert {case.own: (one.refused.span.requests, one.unclear) for case, one in evidence.cases.items()} == {
        frozenset(): (1, 0), frozenset({"owner"}): (1, 0),
    }  # fmt: skip


def test_lines_that_say_nothing_of_the_app_are_counted_with_their_reason() -> None:
    evidence = collected(
        question(kind=""), question(asked=False), question(0, None), question(scope="acme"), decision(), question(items={"seen": 2}),
    )  # fmt: skip
    assert sorted(evidence.skipped.values()) == [1, 1, 1, 1]
    assert evidence.lists == {"/contacts/{id}"}
    assert len(evidence.cases) == 1


def test_requests_that_no_route_took_are_told_from_those_whose_route_asks_no_policy() -> None:
    nowhere: dict[str, Any] = {"kind": "", "route": "", "outcome": "shadow_refuse"}
    evidence = collected(
        question(kind="", code="public"), question(kind="", code="authenticated", weight=2),
        question(code="route_unmapped", weight=3, **nowhere), question(code="segment_invalid", **nowhere),
        question(kind="", code="method_unmapped"), question(kind="", code="token_missing"), question(code="moon_phase", **nowhere),
    )  # fmt: skip
    assert evidence.skipped == {
        "their route asks no policy": 3, "no route took them: route_unmapped": 3, "no route took them: segment_invalid": 1,
        "no route took them: method_unmapped": 1, "no route took them: a code of another version": 1,
        "a refusal comes before any policy is asked: token_missing": 1,
    }  # fmt: skip


def test_a_request_for_several_things_tells_nothing_of_each() -> None:
    told = (
        {"id": "1", "allowed": True, "attributes": {}},
        {"id": "1", "allowed": True, "attributes": {}, "action": "list"},
    )
    evidence = collected(question(resources=told, attributes=None))
    assert evidence.skipped == {"they ask for several things, which the app answers with one status": 1}
    assert len(evidence.cases) == 0


def test_cases_are_bounded() -> None:
    evidence = Evidence()
    evidence.cases = Table(2)
    evidence.add_all(question(kind=f"k-{number}") for number in range(5))
    assert len(evidence.cases) == 2
    assert evidence.skipped == {"there are more cases than are told apart": 3}


def test_several_together_are_one() -> None:
    one, other = Evidence(), Evidence()
    one.add(question(0, principal="a"))
    other.add(question(2, 204, principal="b", weight=2))
    hits = together(answers.admitted for each in (one, other) for answers in each.cases.values())
    assert (hits.span.requests, hits.span.first, hits.span.last, len(hits.principals)) == (3, at(0), at(2), 2)
    assert hits.statuses == {200: 1, 204: 2}
    assert together([]).span.requests == 0


def test_an_id_that_is_a_number_owns_as_a_number() -> None:
    evidence = collected(question(principal="8", owner=("owner",), attributes={"owner": 8}))
    assert [case.own for case in evidence.cases] == [frozenset({NUMBER + "owner"})]


def test_of_many_resources_with_attributes_that_are_left_out_only_those_count_that_are_all_own() -> None:
    resources = ({"id": "1", "allowed": True, "attributes": {}}, {"id": "2", "allowed": True, "attributes": {}})
    left_out: dict[str, Any] = {"resources": resources, "redacted": ("resource.owner",)}
    evidence = collected(question(**left_out), question(owner=("owner",), **left_out))
    assert [case.own for case in evidence.cases] == [frozenset({"owner"})]
    assert list(evidence.skipped.values()) == [1]
