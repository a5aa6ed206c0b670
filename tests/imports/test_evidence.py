"""Evidence is counted within bounds, and no text is kept."""

from __future__ import annotations

from sidecar.imports.evidence import (
    MAX_IDS,
    MAX_NAMES,
    Distinct,
    MethodEvidence,
    TemplateBounds,
    method_of,
    proves,
    requests,
)
from sidecar.imports.sighting import Location, SpecOperation
from tests.imports.collecting import request

PLACE = Location("a.log", 1)


def test_distinct_texts_are_counted_up_to_a_bound() -> None:
    budget, found = TemplateBounds(10_000, 0), Distinct()
    for text in ["a", "b", "a"]:
        found.add(text, budget)
    assert (len(found), str(found), budget.ids) == (2, "2", 9_998)
    for number in range(MAX_IDS + 5):
        found.add(str(number), budget)
    assert str(found) == f"more than {MAX_IDS}"
    none = Distinct()
    none.add("a", TemplateBounds(0, 0))
    assert str(none) == "more than 0"


def test_distinct_texts_of_two_are_those_of_both() -> None:
    budget, one, other = TemplateBounds(10_000, 0), Distinct(), Distinct()
    one.add("a", budget)
    for text in ("a", "b"):
        other.add(text, budget)
    one.join(other)
    assert str(one) == "2"
    for number in range(MAX_IDS):
        other.add(str(number), budget)
    one.join(other)
    assert str(one) == f"more than {MAX_IDS}"


def test_requests_operations_and_collections_are_apart() -> None:
    evidence = MethodEvidence(PLACE)
    evidence.add(request("GET /a?x=1 200"))
    evidence.add(request("GET /a?x=1&y=2 404"))
    evidence.add(request("GET /a")._replace(status=None))
    evidence.add(request("GET /a")._replace(status=None, operation=SpecOperation("readA")))
    assert (evidence.hits, evidence.statuses, evidence.query) == (2, {200: 1, 404: 1}, {"x": 2, "y": 1})
    assert evidence.in_collection
    assert evidence.operation is not None
    assert evidence.operation.id == "readA"


def test_names_are_kept_up_to_a_bound() -> None:
    evidence = MethodEvidence(PLACE)
    for number in range(3 * MAX_NAMES):
        evidence.add(request("GET /a")._replace(query=(f"n{number}",)))
    assert len(evidence.query) == MAX_NAMES
    other = MethodEvidence(PLACE)
    other.add(request("GET /a 500")._replace(query=("more", "n0")))
    evidence.join(other)
    assert (evidence.hits, evidence.query["n0"], "more" in evidence.query) == (3 * MAX_NAMES + 1, 2, False)


def test_a_method_is_that_of_a_route() -> None:
    assert [method_of(request(text)) for text in ("HEAD /", "WS / 101", "PUT /")] == ["GET", "WS", "PUT"]


def test_only_an_answer_that_went_well_proves_a_route() -> None:
    good = ["GET / 200", "GET / 304", "WS / 101", "POST / 302", "DELETE / 204"]
    assert all(proves(request(text)) for text in good)
    assert proves(request("GET /")._replace(status=None))
    assert not any(
        proves(request(text)) for text in ("GET / 302", "HEAD / 301", "GET / 404", "POST / 403", "GET / 500")
    )


def test_numbers_of_requests_are_said() -> None:
    assert [requests(count) for count in (0, 1, 1200)] == ["0 requests", "1 request", "1,200 requests"]
