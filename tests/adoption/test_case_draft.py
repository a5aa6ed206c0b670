"""Drafts of cases: one for each kind of request, which says what its line says, in a file that can be read."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.adoption.case_draft import MAX_CELLS, TRIED, CaseDraft, Cells, Users, drafts_of, file_of, with_names
from sidecar.adoption.drafted_request import Undraftable
from sidecar.adoption.logs import Logged
from sidecar.record.line import Decision, QuestionLine, UnreadLine
from sidecar.study.cases import AppAnswer, read_cases
from tests.adoption.test_drafted_request import ID, TIME, decision, question, routes_of

ROUTES = routes_of(
    'path: "/r/{id}", id: "{path.id}", lookup: doc', lookups='{doc: {url: "http://h/{id}", attributes: {owner: owner}}}'
)


def logged(line: QuestionLine | Decision | UnreadLine, number: int = 1) -> Logged:
    return Logged("q.log", number, line)


def of_route(**more: Any) -> QuestionLine:
    return question("/r/7", "/r/{id}", **more)


def of_decision() -> Decision:
    return decision()._replace(path="/r/7", route="/r/{id}")


def drafts(line: QuestionLine | Decision) -> list[CaseDraft]:
    return list(drafts_of(logged(line), ROUTES))


def test_lines_of_one_kind_are_one() -> None:
    cells = Cells()
    lines: list[Any] = [
        *(of_route(attributes={"owner": str(at)}) for at in range(9)), of_route(owner=("owner",)), of_route(code="denied_by_policy"),
        of_route(roles=("admin",)), decision(), UnreadLine(TIME, ID, "enforce", "refuse", "request_invalid", 400, ""),
    ]  # fmt: skip
    for at, line in enumerate(lines):
        cells.add(logged(line, at))
    assert (cells.lines, [(kind.count, len(kind.first)) for kind in cells.kinds()]) == (
        13, [(9, TRIED), (1, 1), (1, 1), (1, 1), (1, 1)]
    )  # fmt: skip


def test_the_question_log_tells_more_than_the_decision_log_of_one_request() -> None:
    cells = Cells()
    for line in (decision(), question()):
        cells.add(logged(line))
    (kind,) = cells.kinds()
    assert isinstance(kind.first[0].line, QuestionLine)


def test_kinds_are_bounded() -> None:
    cells = Cells()
    for at in range(MAX_CELLS + 5):
        cells.add(logged(of_route(kind=f"k{at}")))
    assert (len(cells.kinds()), cells.beyond, cells.lines) == (MAX_CELLS, 5, MAX_CELLS + 5)


def test_a_draft_says_what_its_line_says() -> None:
    (draft,) = drafts(of_route(attributes={"owner": "alice"}))
    assert (draft.claims, draft.made_up) == ({"username": "alice", "cognito:groups": ["user"]}, ())
    assert draft.case == {
        "name": "alice POST /r/7: allowed", "request": "POST /r/7", "lookups": {"doc": {"7": {"owner": "alice"}}},
        "expect": {"status": 200, "code": "allowed", "kind": "contact", "id": "7", "action": "read"},
    }  # fmt: skip


def test_what_is_made_up_is_tried_both_ways() -> None:
    allowed = drafts(of_decision())
    assert [draft.case["lookups"]["doc"]["7"]["owner"] for draft in allowed] == ["somebody-else", "alice"]
    denied = drafts(of_decision()._replace(code="denied_by_policy"))
    assert [draft.case["lookups"]["doc"]["7"]["owner"] for draft in denied] == ["alice", "somebody-else"]
    assert {draft.made_up for draft in (*allowed, *denied)} == {("owner",)}


def test_what_is_made_up_is_never_the_principal_s_where_the_line_names_owners() -> None:
    for code in ("allowed", "denied_by_policy"):
        (draft,) = drafts(of_route(attributes={}, redacted=("resource.owner",), code=code))
        assert (draft.case["lookups"]["doc"]["7"], draft.made_up) == ({"owner": "somebody-else"}, ("owner",))


@pytest.mark.parametrize(
    ("line", "part", "value"),
    [
        (of_route(app_status=404, status=404), "app", {"status": 404}),
        (of_route(code="resource_missing", asked=False), "lookups", {"doc": {"7": "missing"}}),
        (question("/no", "", principal="", kind="", code="token_expired"), "claims", {"sub": "somebody", "exp": 1}),
        (question("/no", "", principal="", kind="", code="token_invalid"), "token", "invalid"),
        (of_route(outcome="shadow_refuse", code="denied_by_policy", attributes={"owner": "x"}), "expect",
         {"code": "denied_by_policy", "kind": "contact", "id": "7", "action": "read"}),
    ],
)  # fmt: skip
def test_what_a_line_has_is_in_its_case(line: QuestionLine, part: str, value: Any) -> None:
    assert drafts(line)[0].case[part] == value


ANSWERS = [
    ('items: {at: data.list, id: id}', "GET", {"body": {"data": {"list": []}}}),
    ('items: {at: "@", id: id}', "GET", {"body": []}),
    ('items: {at: lines, id: id}', "GET", {"headers": {"content-type": "application/x-ndjson"}, "body": ""}),
    ('fields: {phone: view}', "GET", {"body": {}}),
    ('lookup: {from: answer, attributes: {owner: account.owner}}', "GET", {"body": {"account": {"owner": "bob"}}}),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "method", "answer"), ANSWERS)
def test_a_route_that_judges_the_answer_gets_one(rule: str, method: str, answer: Any) -> None:
    routes = routes_of(f'path: /r, id: "7", query: [], {rule}', actions=method)
    line = question(method=method, attributes={"owner": "bob"})
    (draft,) = drafts_of(logged(line), routes)
    assert draft.case["app"] == answer


def test_a_thing_that_the_app_does_not_have_is_not_there() -> None:
    routes = routes_of(
        'path: /r, id: "7", query: [], lookup: {from: answer, attributes: {owner: owner}}', actions="GET"
    )
    (draft,) = drafts_of(logged(question(method="GET", code="resource_missing")), routes)
    assert draft.case["app"] == {"status": 404}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (of_route(code="pdp_timeout"), "pdp_timeout is a fault of that moment"),
        (of_route(code="overloaded"), "overloaded depends on more than the request"),
        (of_route(code="session_expired"), "session_expired is about a session, which no log has"),
        (of_route(code="of_tomorrow"), "the code of_tomorrow is of another version"),
        (question("/a b"), "its path cannot be written as it came"),
    ],
)
def test_what_is_no_case_is_told(line: QuestionLine, reason: str) -> None:
    with pytest.raises(Undraftable, match=reason):
        drafts(line)


def test_a_file_can_be_read_and_says_where_each_case_is_from() -> None:
    lines = [
        of_route(attributes={"owner": "2026-01-31"}), of_route(attributes={}, redacted=("resource.owner",), roles=("admin",)),
        question("/no", "", principal="", kind="", code="route_unmapped", status=403), of_route(principal="no: [user", roles=()),
        of_route(app_status=204, status=204),
    ]  # fmt: skip
    users = Users()
    text = file_of(with_names([drafts(line)[0] for line in lines], users), users)
    dated, made_up, nobody, odd, answered = read_cases(text, "cases.yaml")
    assert (dated.name, dated.claims) == (
        "alice POST /r/7: allowed",
        {"sub": "alice", "username": "alice", "cognito:groups": ["user"]},
    )
    assert dated.reply("doc", "7") == {"owner": "2026-01-31"}
    assert (made_up.name, made_up.claims) == (
        "alice POST /r/7: allowed (2)", {"sub": "alice", "username": "alice", "cognito:groups": ["admin"]}
    )  # fmt: skip
    assert (nobody.name, nobody.claims) == ("nobody POST /no: route_unmapped", None)
    assert odd.claims == {"sub": "no: [user", "username": "no: [user"}
    assert answered.answers == (AppAnswer(204),)
    assert text.count("# q.log:1, 2026-01-31T12:00:00.250+00:00\n") == 4
    assert "; made up, since the log leaves it out: owner\n" in text


NAMES = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=8)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(NAMES, NAMES, VALUES)
def test_a_file_says_what_the_log_says_whatever_that_is(principal: str, resource_id: str, owner: Any) -> None:
    routes = routes_of(
        'path: /r, id: "{header.x-id}", lookup: doc', lookups='{doc: {url: "http://h/{id}", attributes: {owner: a.b}}}'
    )
    line = question(resource_id=resource_id, principal=principal, attributes={"owner": owner})
    users = Users()
    (case,) = read_cases(file_of(with_names(list(drafts_of(logged(line), routes)), users), users), "f")
    assert case.claims == {"sub": principal, "username": principal, "cognito:groups": ["user"]}
    assert case.reply("doc", resource_id) == {"a": {"b": owner}}


def test_a_case_names_its_host_where_routes_do() -> None:
    routes = routes_of('path: "/r/{id}", hosts: [crm.test], id: "{path.id}"')
    line = of_route()._replace(host="crm.test", route="crm.test/r/{id}")
    (draft,) = drafts_of(logged(line), routes)
    assert draft.case["headers"] == {"Host": "crm.test"}
    (draft,) = drafts(of_route(attributes={"owner": "alice"})._replace(host="crm.test"))
    assert "headers" not in draft.case
