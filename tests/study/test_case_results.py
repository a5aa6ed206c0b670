"""Results of cases: each difference by its name, a block for a person, JSON for a program, JUnit's XML for CI."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from sidecar.study.case_results import CaseResult, Difference, Observed, as_json, block, junit, result_of
from sidecar.study.cases import Case, Items, Sent, VisibleFields, read_cases

FOUND: dict[str, Any] = {
    "status": 200, "code": "allowed", "roles": ("admin", "user"), "id": "1", "policy": "", "denied": (),
    "items": Items(("1", "2"), ("3",), {"2": ("phone",)}), "fields": VisibleFields(("a",), ("b",)),
}  # fmt: skip
HEADERS = [(b"location", b"/x"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
SENT = (Sent("GET", "/a?b=1", {"remote-user": ["alice"]}),)


def case_of(expect: str, name: str = "a") -> Case:
    (case,) = read_cases(f"cases: [{{name: {json.dumps(name)}, request: GET /a, expect: {expect}}}]", "cases.yaml")
    return case


def result(expect: str, name: str = "a", *faults: str, why: tuple[str, ...] = ()) -> CaseResult:
    return result_of(case_of(expect, name), Observed(FOUND, HEADERS, SENT, faults, why, 0.0125))


@pytest.mark.parametrize(
    "expect",
    [
        "allowed", "{status: 200}", "{roles: [user, admin], id: 1, denied: []}", "{items: [2, 1]}",
        "{items: {kept: [1, 2], hidden: [3], masked: {2: [phone]}}}", "{fields: {shown: [a]}}",
        "{headers: {Location: /x, Set-Cookie: [a, b]}}", "{sent: {target: '/a?b=1', headers: {Remote-User: alice}}}",
    ],
)  # fmt: skip
def test_what_comes_out_as_expected_passes(expect: str) -> None:
    assert result(expect).passed


@pytest.mark.parametrize(
    ("expect", "differences"),
    [
        ("{status: 403, code: denied_by_policy}", [("status", "403", "200"), ("code", "denied_by_policy", "allowed")]),
        ("{roles: [user]}", [("roles", "[user]", "[admin, user]")]),
        ("{kind: contact, policy: p}", [("kind", "contact", "none"), ("policy", "p", "none")]),
        ("{items: {kept: [1], hidden: [2, 3], masked: {}}}", [
            ("items.kept", "[1]", "[1, 2]"), ("items.hidden", "[2, 3]", "[3]"), ("items.masked", "none", "2: [phone]")]),
        ("{fields: {shown: [b], hidden: []}}", [("fields.shown", "[b]", "[a]"), ("fields.hidden", "[]", "[b]")]),
        ("{headers: {Location: /y, X: 1}}", [("headers.location", "[/y]", "[/x]"), ("headers.x", "[1]", "[]")]),
        ("{sent: nothing}", [("sent", "nothing", "GET /a?b=1")]),
        ("{sent: {method: PUT, target: /a, headers: {Remote-User: bob}}}", [
            ("sent.method", "PUT", "GET"), ("sent.target", "/a", "/a?b=1"), ("sent.headers.remote-user", "[bob]", "[alice]")]),
    ],
)  # fmt: skip
def test_what_comes_out_otherwise_is_told_by_its_name(expect: str, differences: list[tuple[str, str, str]]) -> None:
    made = result(expect)
    assert not made.passed
    assert made.differences == tuple(Difference(*difference) for difference in differences)


def test_what_is_not_there_at_all_is_told_too() -> None:
    nothing = Observed({})
    made = result_of(case_of("{items: [1], sent: {target: /a}}"), nothing)
    assert made.differences == (
        Difference("items", "kept: [1]", "none in the answer"), Difference("sent", "any method /a", "nothing")
    )  # fmt: skip


def test_a_case_that_cannot_be_judged_has_failed() -> None:
    assert not result("allowed", "a", "it asks for more").passed


def test_a_block_has_the_place_each_difference_and_why() -> None:
    made = result(
        "{status: 403, id: 2}", "an \x1b[31m escape", "it says nothing", why=("request    GET /a", "verdict    FORWARD")
    )
    assert block(made).splitlines() == [
        "FAILED an \\x1b[31m escape",
        "  cases.yaml:1:9: GET /a",
        "  case    it says nothing",
        "  status  expected 403, found 200",
        "  id      expected 2, found 1",
        "  why     request    GET /a",
        "          verdict    FORWARD",
    ]


def test_a_program_reads_all_of_it() -> None:
    made = json.loads(json.dumps(as_json(result("{status: 403}", why=("verdict",)))))
    assert made == {
        "name": "a", "file": "cases.yaml", "line": 1, "column": 9, "passed": False,
        "differences": [{"name": "status", "expected": "403", "found": "200"}], "faults": [], "why": ["verdict"],
        "found": {
            **FOUND, "roles": ["admin", "user"], "denied": [], "fields": {"shown": ["a"], "hidden": ["b"]},
            "items": {"kept": ["1", "2"], "hidden": ["3"], "masked": {"2": ["phone"]}},
        },
        "seconds": 0.0125,
    }  # fmt: skip


ALLOWED = {
    "testsuites": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
    "testcase": {"name", "classname", "time", "file", "line"},
    "failure": {"message", "type"},
}
"""Elements and attributes of the schema that Jenkins' xunit plugin has for JUnit (junit-10.xsd), as far as we use it."""
REQUIRED = {
    "testsuites": set[str](),
    "testsuite": {"name", "tests"},
    "testcase": {"name", "classname", "time"},
    "failure": {"type"},
}
WITHIN = {"testsuites": "testsuite", "testsuite": "testcase", "testcase": "failure", "failure": ""}


def conforms(element: ElementTree.Element) -> None:
    names = set(element.attrib)
    assert REQUIRED[element.tag] <= names <= ALLOWED[element.tag]
    for child in element:
        assert child.tag == WITHIN[element.tag]
        conforms(child)


def test_junit_is_what_its_readers_take() -> None:
    name = 'a\x00 <b> & "c" \u2028 \ufffe'
    results = [result("allowed"), result("{status: 403}", name), result("allowed", "other file")]
    results[2] = results[2]._replace(case=results[2].case._replace(file="more.yaml"))
    text = junit(results, 1.5, 1796000000.0)
    root = ElementTree.fromstring(text)
    conforms(root)
    assert (root.get("tests"), root.get("failures"), root.get("time")) == ("3", "1", "1.500")
    first, second = root.findall("testsuite")
    assert (first.get("name"), first.get("tests"), first.get("failures")) == ("cases.yaml", "2", "1")
    assert (first.get("time"), first.get("timestamp")) == ("0.025", "2026-11-30T00:53:20")
    assert (second.get("name"), second.get("failures")) == ("more.yaml", "0")
    passed, failed = first.findall("testcase")
    assert (passed.get("name"), passed.get("time"), passed.get("line"), len(passed)) == ("a", "0.013", "1", 0)
    assert failed.get("name") == 'a\\x00 <b> & "c" \u2028 \\xfffe'
    (failure,) = failed
    assert failure.get("message") == "status: expected 403, found 200"
    assert "expected 403, found 200" in (failure.text or "")
