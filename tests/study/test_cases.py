"""A file of cases: what it says is what is run, and each fault of it stands with its place."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.shapes import Problem
from sidecar.study.cases import AppAnswer, Case, CasesError, Items, Sent, VisibleFields, read_cases

WHOLE = """\
users:
  alice: {username: alice, "cognito:groups": [user]}
  bob: {sub: b-2}
lookups:
  contact: {"1": {owner_id: alice}, "2": missing, "3": 500, "*": timeout}
cases:
  - name: a list
    user: alice
    request: GET /contacts?_page=1
    headers: {Accept: application/json, X-Many: [a, b]}
    app: [{status: 200, headers: {X-Total-Count: 2}, body: [{id: 1}]}, {body: text}]
    expect: {status: 200, code: allowed, items: {kept: [2, 1], hidden: [3], masked: {1: [phone, mail]}}, sent: {method: GET, target: /contacts}}
  - name: a change
    claims: {sub: eve, level: 3}
    request: PUT /contacts/1
    body: {name: Ada}
    lookups: {contact: {"1": unavailable}, other: {x: {}}}
    expect: {told: denied_by_policy, route: "/contacts/{id}", principal: eve, roles: user, kind: contact, id: 1, action: update, policy: resource.contact.vdefault, denied: [1], fields: {shown: [a], hidden: [b]}, headers: {Location: /x}, sent: nothing}
  - {name: nobody, token: none, request: GET /, expect: token_missing}
  - {name: a token as it is, token: a.b.c, request: POST /, headers: {Content-Type: text/csv}, body: "1,2", expect: token_invalid}
"""
CASE = "cases: [{name: a, request: GET /, expect: allowed%s}]"
BAD = [
    ("", "f:1:1: found an empty file, expected at least `cases`"),
    ("cases: [", "f:1:9: not YAML: expected the node content, but found '<stream end>' while parsing a flow node"),
    ("cases: {}", "f:1:8: cases: found a mapping, expected a list"),
    ("cases: []", "f:1:8: cases: found 0 items, expected at least 1"),
    ("users: {}", "f:1:1: found no 'cases', expected it: the cases"),
    ("case: []", "f:1:1: found the name 'case', expected one of users, lookups, cases, did you mean 'cases'? "
     "It is required: the cases"),
    (CASE % ", usr: x", "f:1:52: cases[0]: found the name 'usr', expected one of name, user, claims, token, request, "
     "headers, body, form, lookups, app, expect, did you mean 'user'?"),
    (CASE % ", user: x", "f:1:58: cases[0].user: found 'x', expected a name of `users`, which has none"),
    ("users: {alice: {}}\n" + CASE % ", user: alise", "f:2:58: cases[0].user: found 'alise', expected one of alice, did you mean 'alice'?"),
    (CASE % ", claims: {}, token: none", "f:1:71: cases[0].token: found both claims and token, expected one of them"),
    (CASE % ", claims: [x]", "f:1:60: cases[0].claims: found a list, expected a mapping"),
    (CASE % ", claims: {born: 2000-01-01}", "f:1:67: cases[0].claims: found '2000-01-01', which YAML takes for a date, expected JSON: put it in quotes"),
    (CASE % ", headers: {X-A: [1, yes]}", "f:1:71: cases[0].headers.X-A[1]: found true or false 'yes', expected a header's value in one line"),
    (CASE % ', headers: {"X A": b}', "f:1:62: cases[0].headers: found the name 'X A', expected a header's name"),
    (CASE % ', headers: {X-A: "a\\nb"}', "f:1:67: cases[0].headers.X-A: found 'a\\nb', expected a header's value in one line"),
    (CASE % ", lookups: {contact: {1: gone}}", "f:1:75: cases[0].lookups.contact.1: found 'gone', expected the JSON that the lookup tells, a status such as 500, or missing, unavailable or timeout"),
    (CASE % ", lookups: {contact: {1: 99}}", "f:1:75: cases[0].lookups.contact.1: found '99', expected the JSON that the lookup tells, a status such as 500, or missing, unavailable or timeout"),
    (CASE % ", app: {status: 100}", "f:1:66: cases[0].app.status: found a number '100', expected a whole number from 200 to 599"),
    (CASE % ", app: []", "f:1:57: cases[0].app: found 0 items, expected at least 1"),
    ("cases: [{name: a, request: GET, expect: allowed}]", "f:1:28: cases[0].request: found 'GET', expected a method and a path, such as GET /contacts/42"),
    ("cases: [{name: a, request: GET /a b, expect: allowed}]", "f:1:28: cases[0].request: found 'GET /a b', expected a method and a path, such as GET /contacts/42"),
    ("cases: [{name: a, request: GET /}]", "f:1:9: cases[0]: found no 'expect', expected it: what comes out; a text alone is `code`"),
    ("cases: [{name: a, request: GET /, expect: {}}]", "f:1:43: cases[0].expect: found nothing, expected at least `status` or `code`"),
    ("cases: [{name: a, request: GET /, expect: allow}]", "f:1:43: cases[0].expect: found 'allow', expected a code of docs/reference/codes.md, such as denied_by_policy, did you mean 'allowed'?"),
    ("cases: [{name: a, request: GET /, expect: {sent: no}}]", "f:1:50: cases[0].expect.sent: found true or false 'no', expected nothing or a mapping"),
    (
        "cases:\n  - {name: a, request: GET /, expect: allowed}\n  - {name: a, request: GET /, expect: allowed}",
        "f:3:12: cases[1].name: found 'a' again, as in line 2, expected another name; it stands twice",
    ),
]  # fmt: skip


def test_a_file_is_read_as_it_says() -> None:
    of_list, change, nobody, as_it_is = read_cases(WHOLE, "f")
    assert (of_list.place, of_list.method, of_list.target) == ("f:7:5", "GET", "/contacts?_page=1")
    assert of_list.claims == {"sub": "alice", "username": "alice", "cognito:groups": ["user"]}
    assert of_list.headers == ((b"accept", b"application/json"), (b"x-many", b"a"), (b"x-many", b"b"))
    assert of_list.body is None
    assert of_list.answers == (
        AppAnswer(200, ((b"x-total-count", b"2"), (b"content-type", b"application/json")), b'[{"id": 1}]'),
        AppAnswer(200, ((b"content-type", b"text/plain; charset=utf-8"),), b"text"),
    )
    assert of_list.expected == {
        "status": 200, "code": "allowed", "items": Items(("1", "2"), ("3",), {"1": ("mail", "phone")}),
        "sent": Sent("GET", "/contacts", {}),
    }  # fmt: skip
    assert change.claims == {"sub": "eve", "level": 3}
    assert (change.headers, change.body) == (((b"content-type", b"application/json"),), b'{"name": "Ada"}')
    assert change.answers is None
    assert change.expected["fields"] == VisibleFields(("a",), ("b",))
    assert change.expected["headers"] == {"location": ["/x"]}
    assert (change.expected["sent"], change.expected["id"], change.expected["roles"]) == ("nothing", "1", ("user",))
    assert (nobody.claims, nobody.token, nobody.expected) == (None, "", {"code": "token_missing"})
    assert (as_it_is.claims, as_it_is.token) == (None, "a.b.c")
    assert (as_it_is.headers, as_it_is.body) == (((b"content-type", b"text/csv"),), b"1,2")


def test_a_lookup_tells_what_the_case_says_before_what_the_file_says() -> None:
    of_list, change, *_ = read_cases(WHOLE, "f")
    replies = [of_list.reply("contact", resource_id) for resource_id in ("1", "2", "3", "4")]
    assert replies == [{"owner_id": "alice"}, "missing", 500, "timeout"]
    assert [change.reply("contact", "1"), change.reply("contact", "2")] == ["unavailable", "missing"]
    assert [change.reply("other", "x"), change.reply("other", "y"), change.reply("none", "x")] == [{}, None, None]


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_a_fault_stands_with_its_place(text: str, problem: str) -> None:
    with pytest.raises(CasesError) as caught:
        read_cases(text, "f")
    assert str(caught.value.problems[0]) == problem.removesuffix("; it stands twice")


@given(st.integers(0, len(WHOLE)), st.integers(0, 40), st.text(max_size=12))
def test_a_damaged_file_is_read_or_refused(at: int, length: int, text: str) -> None:
    problems: Sequence[Problem] = ()
    cases: tuple[Case, ...] = ()
    try:
        cases = read_cases(WHOLE[:at] + text + WHOLE[at + length :], "f")
    except CasesError as error:
        problems = error.problems
    assert bool(problems) is not bool(cases)
    assert all(problem.line >= 1 for problem in problems)
    assert len({case.name for case in cases}) == len(cases)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(CasesError) as caught:
        read_cases("cases:\n  - {name: a, request: x, expect: y}\n  - {nme: a, expect: {}}\n", "f")
    assert [problem.path for problem in caught.value.problems] == [
        "cases[0].request", "cases[0].expect", "cases[1].request", "cases[1].nme", "cases[1].expect",
    ]  # fmt: skip


def test_a_form_is_written_as_browsers_write_it() -> None:
    text = """\
cases:
  - {name: a form, request: POST /, form: {owner: Zoë B, ids: [1, "2"], none: []}, expect: allowed}
"""
    (case,) = read_cases(text, "f")
    assert case.body == b"owner=Zo%C3%AB+B&ids=1&ids=2"
    assert case.headers == ((b"content-type", b"application/x-www-form-urlencoded"),)
