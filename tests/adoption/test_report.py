"""What a report has, in which order, and what a person says of it."""

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.adoption.draft import draft_of
from sidecar.adoption.evidence import Evidence
from sidecar.adoption.grants import Enough
from sidecar.adoption.readiness import Thresholds
from sidecar.adoption.report import IntendedError, Report, read_intended, report_of
from sidecar.adoption.report_json import as_json
from sidecar.adoption.report_page import as_html
from sidecar.adoption.report_text import as_text
from sidecar.adoption.sighting import Relation, Where
from sidecar.adoption.tally import Tally
from sidecar.record.line import Line, UnreadLine
from tests.adoption.recorded import at, decision, differing, question, refused
from tests.record.test_line import lines


def reported(*lines: Line, intended: frozenset[str] = frozenset()) -> Report:
    tally = Tally()
    tally.add_all(lines)
    return report_of(tally, Thresholds(), None, intended, ["a note"])


def test_the_worst_and_the_most_frequent_come_first() -> None:
    report = reported(question(0, 403, weight=9), refused(roles=("a",)), refused(roles=("b",), weight=2), question())
    found = [(one.group.key.relation, one.group.key.roles) for one in report.findings]
    assert found == [
        (Relation.WOULD_BREAK, ("b",)), (Relation.WOULD_BREAK, ("a",)), (Relation.APP_KNOWS_MORE, ("user",)),
    ]  # fmt: skip
    assert report.totals[Relation.WOULD_BREAK] == (3, 2, 0)
    assert report.totals[Relation.AGREE].requests == 1


def test_what_is_intended_is_marked_and_is_no_difference_that_fails() -> None:
    report = reported(refused())
    intended = frozenset(one.group.key.id for one in report.findings)
    assert report.has(Relation.WOULD_BREAK)
    assert not reported(refused(), intended=intended).has(Relation.WOULD_BREAK)
    assert reported(refused(), refused(code="no_roles"), intended=intended).has(Relation.WOULD_BREAK)


def test_lists_that_lose_the_most_come_first() -> None:
    report = reported(
        question(route="/a", items={"seen": 5, "kept": 4}),
        question(route="/b", items={"seen": 5, "kept": 1}),
        question(),
    )
    assert [where for where, _ in report.lists] == [Where("GET", "/b"), Where("GET", "/a")]


def test_a_question_log_of_one_replica_alone_is_told() -> None:
    def told(*weights: int) -> bool:
        lines: list[Line] = [question(weight=weight) for weight in weights]
        lines += [decision(days) for days in range(1, 11)]
        return any("it is not of all replicas" in note for note in reported(*lines).notes)

    assert (told(1), told(9, 1), told()) == (True, False, False)


def test_what_a_person_must_know_of_the_lines_is_noted() -> None:
    unread = UnreadLine(at(0), "r-1", "shadow", "refuse", "request_invalid", 400, "::1")
    notes = reported(question(weight=2), decision(), unread).notes
    assert [note.split(" ")[0] for note in notes] == ["a", "1", "1", "some"]


def test_a_file_of_intended_differences_has_an_id_in_each_line() -> None:
    text = "# agreed on Monday\n\n0123abcd interns change nothing\n  89abcdef\n"
    assert read_intended(text, "intended.txt") == {"0123abcd", "89abcdef"}
    with pytest.raises(IntendedError, match=r"intended.txt:2: found 'interns', expected the id of a difference"):
        read_intended("0123abcd\ninterns\n", "intended.txt")


def test_what_candidate_policies_would_decide_otherwise_is_grouped() -> None:
    report = reported(
        question(), differing(0), differing(1, request_id="r-2", principal="eve"), differing(roles=("guest",), untold=4),
        differing(ours="deny", theirs="allow"),
    )  # fmt: skip
    assert [(one.key.theirs, one.key.roles, one.span.requests) for one in report.candidate] == [
        ("allow", ("user",), 1), ("deny", ("user",), 2), ("deny", ("guest",), 1),
    ]  # fmt: skip
    assert report.notes[-1] == "4 more decisions that the candidate policies make otherwise are in no group"
    assert as_json(report)["candidate"][1] == {
        "ours": "allow", "theirs": "deny", "route": "/contacts/{id}", "kind": "contact", "action": "read", "roles": ["user"],
        "candidate_revision": "946adfca825cf747", "requests": 2, "first": at(0), "last": at(1),
        "principals": {"count": 2, "more": False}, "examples": ["r-1", "r-2"],
    }  # fmt: skip
    text = as_text(report)
    assert "  deny -> allow  /contacts/{id}  contact read  roles: user\n    1 request of 1 principal" in text
    page = as_html(report)
    assert "<h2>Candidate policies</h2>" in page
    assert "Candidate policies" not in as_html(reported(question()))


@settings(max_examples=12)
@given(st.lists(lines(), max_size=8))
def test_whatever_lines_a_log_has_there_is_a_report(logged: list[Line]) -> None:
    tally = Tally()
    tally.add_all(logged)
    report = report_of(tally, Thresholds(), {Where("GET", "/")})
    json.dumps(as_json(report))
    assert as_html(report).endswith("</html>")
    assert not [char for char in as_text(report) if not char.isprintable() and char != "\n"]
    evidence = Evidence()
    evidence.add_all(logged)
    for name, text in draft_of(evidence, Enough(1, 1)).files.items():
        assert yaml.safe_load(text), name
