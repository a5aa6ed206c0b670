"""Pages of a list that become one answer: what is left of each, and the cursor of the last."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

from sidecar.gate.obligation import HeldAnswer
from sidecar.release.content import is_failed
from sidecar.release.cursor import LINK, Link, PageOrigin, Refill, next_links, next_query, place_of, with_next_links
from sidecar.release.fields import Edit, changes
from sidecar.release.items import CALL, ItemsRule
from sidecar.wire.json_slices import JsonText, Replacement, Span, spliced


class Carried(NamedTuple):
    """Member of a page that tells of the next one, and its JSON text, b"" where it has none."""

    path: tuple[str, ...]
    text: bytes


class Page(NamedTuple):
    """One page of the app after its items were judged: what is left of it, and where. `next` is the query of the page
    that follows it, None where none does. `links` and `carried` are what an answer that ends with it says of that."""

    answer: HeldAnswer
    counts: Mapping[str, int]
    text: JsonText
    items: list[Span]
    links: list[Link]
    carried: list[Carried]
    next: bytes | None


def read_page(
    rule: ItemsRule, refill: Refill, origin: PageOrigin, answer: HeldAnswer, counts: Mapping[str, int]
) -> Page:  # fmt: skip
    """Read what was released of a page. Raises ValueError if it is no page, or does not name the next one clearly."""
    if not counts or answer.body is None or is_failed(answer):
        raise ValueError(f"found the status {answer.status}, expected a page")
    text = JsonText(answer.body)
    items = text.array(rule.at, rule.max_items, CALL, _pass)
    return Page(
        answer, counts, text, items, next_links(answer.headers), _carried(refill, text),
        next_query(refill, origin, answer.headers, text),
    )  # fmt: skip


def _pass(_first: int, _values: list[Any]) -> None:
    """Take no note of items: they were read before."""


def _carried(refill: Refill, text: JsonText) -> list[Carried]:
    paths = [*refill.last] if refill.place == LINK else [refill.place, *refill.last]
    places = [(path, place_of(text, path)) for path in paths]
    return [Carried(path, b"" if at is None else text.data[at.start : at.end]) for path, at in places]


class ListPages:
    """Pages of one list, in order. Each is taken as a whole: of a page in parts the cursor would lose the rest. `query`
    is the one of the first."""

    def __init__(self, rule: ItemsRule, refill: Refill, first: Page, query: bytes) -> None:
        self._rule = rule
        self._refill = refill
        self._first = self._last = first
        self._added: list[bytes] = []
        self.counts = dict(first.counts)
        self.number = 1
        self.size = len(first.text.data)
        self._known = {query}

    @property
    def is_full(self) -> bool:
        """Return whether as many items are left as the app's first page had."""
        return self.counts["kept"] >= self._first.counts["seen"]

    def next(self) -> bytes | None:
        """Return the query of the page to ask for, None where no more are, or it was asked for."""
        query = self._last.next
        if self.is_full or self.number > self._refill.pages or query is None or query in self._known:
            return None
        self._known.add(query)
        return query

    def fits(self, page: Page) -> bool:
        """Return whether there is room for a page."""
        return self.counts["seen"] + page.counts["seen"] <= self._rule.max_items

    def take(self, page: Page) -> None:
        """Add a page."""
        self._last = page
        self.number += 1
        self.size += len(page.text.data)
        self._added += [page.text.data[start:end] for start, end in page.items]
        for name, number in page.counts.items():
            self.counts[name] += number

    def answer(self) -> HeldAnswer:
        """Return the first page with the items of all, and the cursor of the last. Raises ValueError."""
        first, last = self._first, self._last
        if last is first:
            return first.answer
        text = first.text
        made = list(changes(text, text.whole(), self._edits())) if self._rule.at else []
        if self._added:
            made.append(self._insertion())
        headers = with_next_links(first.answer.headers, last.links)
        # of a list in pages no total of one page is true
        headers = [header for header in headers if header[0] not in self._rule.total_headers]
        return HeldAnswer(first.answer.status, headers, spliced(text.data, made))

    def _edits(self) -> list[Edit]:
        carried = [Edit(path, partial(_instead, text)) for path, text in self._last.carried]
        return carried + [Edit(path, partial(_instead, b"")) for path in self._rule.totals]

    def _insertion(self) -> Replacement:
        added = b",".join(self._added)
        if self._first.items:
            end = self._first.items[-1].end
            return Replacement(Span(end, end), b"," + added)
        place = place_of(self._first.text, self._rule.at)
        if place is None:
            raise ValueError("no list on the first page")
        return Replacement(Span(place.end - 1, place.end - 1), added)


def _instead(text: bytes, _: bytes) -> bytes:
    return text
