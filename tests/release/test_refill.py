"""Pages that become one answer: each item once and in order, and the cursor of the last."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sidecar.gate.expressions import searcher
from sidecar.gate.obligation import HeldAnswer
from sidecar.release.cursor import PageOrigin, Refill
from sidecar.release.items import ItemsRule
from sidecar.release.refill import ListPages, Page, read_page

JSON = (b"content-type", b"application/json")
RULE = ItemsRule(("data",), searcher("id"), "note", "read", {}, max_items=10, totals=(("total",),))
REFILL = Refill(3, ("next",), last=(("more",), ("page", "end")))
ORIGIN = PageOrigin("/notes", frozenset(), b"", b"")


def page(body: bytes, seen: int, rule: ItemsRule = RULE, refill: Refill = REFILL, **headers: bytes) -> Page:
    """A page of which the items in `body` were kept."""
    kept = len(json.loads(body)["data"] if rule.at else json.loads(body))
    counts = {"seen": seen, "kept": kept, "masked": 0, "calls": 1}
    given = [JSON, *((name.encode().replace(b"_", b"-"), value) for name, value in headers.items())]
    return read_page(rule, refill, ORIGIN, HeldAnswer(200, given, body), counts)


def merged(first: Page, *more: Page, rule: ItemsRule = RULE, refill: Refill = REFILL) -> HeldAnswer:
    pages = ListPages(rule, refill, first, b"")
    for one in more:
        pages.take(one)
    return pages.answer()


def test_items_are_added_as_they_came_and_the_cursor_is_the_last_ones() -> None:
    first = page(
        b'{"data": [ {"n" : 1.50e2} ],\n "next":"?p=2", "more": true, "page": {"no": 1, "end": 4}, "x": "\\u00e9"}', 4
    )
    second = page(b'{"data": [{"n":2},  {"n": 3 }], "next": "\\u003fp=3", "page": {"end" : 8}}', 4)
    assert merged(first, second).body == (
        b'{"data": [ {"n" : 1.50e2},{"n":2},{"n": 3 } ],\n "next":"\\u003fp=3", "page": {"no": 1, "end": 8}, "x": "\\u00e9"}'
    )


@pytest.mark.parametrize(
    ("last", "left"),
    [
        (b'{"data": [], "next": null}', {"data": [], "next": None}),
        (b'{"data": []}', {"data": []}),
        (b'{"data": [7], "next": ""}', {"data": [7], "next": ""}),
    ],
)
def test_the_end_of_the_list_is_told_as_the_last_page_tells_it(last: bytes, left: object) -> None:
    assert json.loads(merged(page(b'{"data": [ ], "next": "?p=2"}', 2), page(last, 2)).body or b"") == left


def test_a_page_without_items_takes_those_of_the_next() -> None:
    first = page(b'{"next": "?p=2", "data": [\n]}', 2)
    assert merged(first, page(b'{"data": [1, 2]}', 2)).body == b'{"data": [\n1,2]}'
    rule, refill = replace(RULE, at=(), totals=()), Refill(2)
    first = page(b"[]", 2, rule, refill, link=b"<?p=2>; rel=next")
    more = page(b"[1]", 2, rule, refill)
    assert merged(first, more, rule=rule, refill=refill) == HeldAnswer(200, [JSON], b"[1]")


def test_totals_of_one_page_are_true_of_none() -> None:
    first = page(b'{"data": [1], "total": 1, "next": "?p=2"}', 2, x_total_count=b"1", x_other=b"1")
    made = merged(first, page(b'{"data": [2], "total": 1}', 2, x_total_count=b"1"))
    assert (made.headers, made.body) == ([JSON, (b"x-other", b"1")], b'{"data": [1,2]}')


def test_one_page_alone_stays_as_it_is() -> None:
    first = page(b'{"data": [1], "total": 1, "next": "?p=2"}', 2, x_total_count=b"1")
    assert merged(first) is first.answer


def test_the_link_header_tells_the_same_as_the_body() -> None:
    first = page(b'{"data": [], "next": "?p=2"}', 2, link=b"<?p=2>; rel=next")
    made = merged(first, page(b'{"data": [1], "next": "?p=3"}', 2, link=b'<?p=3>; rel="next"'))
    assert made.headers == [JSON, (b"link", b'<?p=3>; rel="next"')]


def test_pages_are_asked_for_until_it_is_full_and_no_page_twice() -> None:
    pages = ListPages(RULE, REFILL, page(b'{"data": [1], "next": "?p=2"}', 3), b"")
    assert (pages.next(), pages.next()) == (b"p=2", None)
    pages.take(page(b'{"data": [], "next": "?p=3"}', 3))
    assert pages.next() == b"p=3"
    pages.take(page(b'{"data": [2, 3, 4], "next": "?p=4"}', 3))
    assert (pages.is_full, pages.next()) == (True, None)
    assert pages.counts == {"seen": 9, "kept": 4, "masked": 0, "calls": 3}


@pytest.mark.parametrize("back", [b"?p=2", b"?", b"/notes"])
def test_a_cursor_that_leads_back_is_the_end(back: bytes) -> None:
    pages = ListPages(RULE, REFILL, page(b'{"data": [], "next": "?p=2"}', 3), b"")
    assert pages.next() == b"p=2"
    pages.take(page(b'{"data": [], "next": "%s"}' % back, 3))
    assert pages.next() is None


def test_no_more_pages_than_the_route_says_and_no_more_items() -> None:
    pages = ListPages(RULE, REFILL, page(b'{"data": [], "next": "?p=1"}', 2), b"")
    asked = 0
    while pages.next() is not None:
        asked += 1
        pages.take(page(b'{"data": [], "next": "?p=%d"}' % (asked + 1), 2))
    assert (asked, pages.number) == (3, 4)
    assert pages.fits(page(b'{"data": []}', 2))
    assert not pages.fits(page(b'{"data": []}', 3))


@pytest.mark.parametrize(
    ("body", "counts"),
    [(b'{"data": []}', {}), (None, {"seen": 1}), (b'{"data": [], "next": 2}', {"seen": 1}), (b'{"data": [], "page": 1}', {"seen": 1})],
)  # fmt: skip
def test_what_is_no_page_is_a_fault(body: bytes | None, counts: Mapping[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_page(RULE, REFILL, ORIGIN, HeldAnswer(200, [JSON], body), counts)
