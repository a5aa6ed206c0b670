"""Lists of the app, item by item: each is decided by itself, and only those that are allowed are released."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from sidecar.gate.codes import Code
from sidecar.gate.lookup import Attribute, attributes_in, attributes_in_all, column_of, id_text, search_in
from sidecar.gate.obligation import NOT_THERE, AnswerItems, HeldAnswer, Judge, Reduce, Reduced
from sidecar.gate.verdict import Refused
from sidecar.release.content import honest_headers, is_failed, readable, tells_number
from sidecar.release.cursor import Refill
from sidecar.release.fields import Edit, FieldRule, changes, searched_by
from sidecar.together import together
from sidecar.wire.grammar import Header
from sidecar.wire.json_slices import JsonText, Replacement, Span, TooMany, spliced, without

CALL = 50
"""Items that are asked about in one question, as many as Cerbos takes in a call by default (its `requestLimits`)."""
AT_ONCE = 4
"""Questions of one list under way at once, each about `CALL`."""
MAX_ITEMS = 1000
"""Items of one list, where the route says no other number."""
MAX_SIZE = 10 * 1024 * 1024
"""Bytes of an answer, where the route says no other number."""
TOTAL_HEADERS = (b"x-total-count", b"x-total")
"""Headers that are made true where they can be, whether or not a route names them."""


@dataclass(frozen=True, slots=True)
class ItemsRule:
    """`items` of a route: where the list is, what each item is to the policy, and what tells how many there are.

    `at` are the names that lead to the array, none for the whole answer. `id` and the attributes are compiled
    expressions over an item. `totals` are the names that lead to a total in the body. `lookups` are asked for more of
    each item, of `part` items at a time.
    """

    at: tuple[str, ...]
    id: Any
    kind: str
    action: str
    attributes: Mapping[str, Attribute]
    optional: frozenset[str] = frozenset()
    fields: tuple[FieldRule, ...] = ()
    total_headers: tuple[bytes, ...] = TOTAL_HEADERS
    totals: tuple[tuple[str, ...], ...] = ()
    max_items: int = MAX_ITEMS
    max_size: int = MAX_SIZE
    refill: Refill | None = None
    lookups: tuple[str, ...] = ()
    part: int = CALL
    asks: ClassVar[tuple[str, ...]] = ()

    @property
    def nothing(self) -> HeldAnswer | None:
        """Answer without items, where the whole answer is the list."""
        return HeldAnswer(200, [(b"content-type", b"application/json")], b"[]") if not self.at else None

    def searched(self, query: bytes) -> Sequence[tuple[str, str]]:
        """List the hidden fields that a query searches or sorts by, each by the kind and the action that show it."""
        return [(self.kind, action) for action in searched_by(query, self.fields)]

    @property
    def actions(self) -> tuple[str, ...]:
        """The action, and those of the fields: all are asked in one question."""
        return tuple(dict.fromkeys([self.action, *(rule.action for rule in self.fields)]))

    def demand(self, judge: Judge, granted: frozenset[str], pushed: str) -> Reduce:
        """Demand that only allowed items be released."""
        return Reduce(self, judge, granted, pushed)

    async def reduce(self, held: HeldAnswer, judge: Judge, granted: frozenset[str]) -> Reduced:
        """Drop the items that the principal may not see, and hide the fields that it may not. Raises Refused:
        ITEMS_UNREADABLE, ITEMS_TOO_MANY, or LOOKUP_* and PDP_* where one of them could not be decided."""
        body = readable(held)
        found = self._found(body, is_failed(held)) if body is not None else None
        if body is None or found is None:
            return Reduced(held._replace(headers=self.headers(held.headers)), {})
        text, spans, items = found
        allowed, calls = await self._asked(items, judge)
        gone = [at for at, actions in enumerate(allowed) if self.action not in actions]
        made = list(without(spans, gone))
        masked = self._hide(text, spans, allowed, made) if self.fields else 0
        kept = len(spans) - len(gone)
        made += self._totals(text, len(spans), kept)
        answer = HeldAnswer(held.status, self.headers(held.headers, len(spans), kept), spliced(body, made))
        return Reduced(answer, {"seen": len(spans), "kept": kept, "masked": masked, "calls": calls})

    async def _asked(self, parts: Sequence[AnswerItems], judge: Judge) -> tuple[list[frozenset[str]], int]:
        """Return the allowed actions of each item, and in how many questions they were asked about."""
        at_once = max(AT_ONCE * CALL // self.part, 1)
        answers = await together([partial(judged, judge, part) for part in parts], at_once)
        # few lists have what a lookup does not: then all of a part were asked about
        missing = [answer.count(NOT_THERE) if NOT_THERE in answer else 0 for answer in answers]
        calls = sum(-(-(len(answer) - gone) // CALL) for answer, gone in zip(answers, missing, strict=True))
        return [actions for answer in answers for actions in answer], calls

    def _found(self, body: bytes, failed: bool) -> tuple[JsonText, list[Span], list[AnswerItems]] | None:
        """Find the items, in parts. An answer that `failed` need not have the list: None, if it is other
        JSON."""
        text, parts, actions = JsonText(body), list[AnswerItems](), self.actions

        def take(first: int, values: list[Any]) -> None:
            parts.append(AnswerItems(self.kind, actions, *self._ids_and_attributes(first, values), self.lookups))

        try:
            return text, text.array(self.at, self.max_items, self.part, take), parts
        except TooMany as error:
            raise Refused(Code.ITEMS_TOO_MANY, f"items: {error}") from None
        except ValueError as error:
            if failed and not parts and text.is_json():
                return None
            raise Refused(Code.ITEMS_UNREADABLE, f"items.at: {error}") from None

    def _ids_and_attributes(self, first: int, values: list[Any]) -> tuple[list[str], list[dict[str, Any]]]:
        """Read the ids and the attributes of some items, of which `first` is the number of the first."""
        ids, attributes = column_of(values, self.id), attributes_in_all(values, self.attributes)
        if ids is not None and attributes is not None:
            types = set(map(type, ids))
            if types == {int}:
                return list(map(str, ids)), attributes
            if types == {str} and all(ids):
                return ids, attributes
        # one by one, which also finds what is wrong with which
        told = []
        for at, value in enumerate(values, first):
            try:
                told.append(self.item(value))
            except Refused as refused:
                raise Refused(refused.code, f"items[{at}]: {refused.detail}") from None
        return [item_id for item_id, _ in told], [known for _, known in told]

    def item(self, value: Any) -> tuple[str, dict[str, Any]]:
        """Read an item: -> (its id, its attributes). Raises Refused(ITEMS_UNREADABLE)."""
        try:
            item_id = id_text(search_in(self.id, value))
            # one without an id is refused for that
            attributes = attributes_in(value, self.attributes, self.optional, "attributes") if item_id else {}
        except Refused as refused:
            # as a lookup reads them, and said of the app's answer
            raise Refused(Code.ITEMS_UNREADABLE, refused.detail) from None
        if not item_id:
            raise Refused(Code.ITEMS_UNREADABLE, "found no id, expected a text or a whole number")
        return item_id, attributes

    def _hide(
        self, text: JsonText, spans: Sequence[Span], allowed: Sequence[frozenset[str]], made: list[Replacement]
    ) -> int:
        """Add the changes that hide fields of the items that stay, and return in how many."""
        masked = 0
        for at, (span, actions) in enumerate(zip(spans, allowed, strict=True)):
            if self.action in actions:
                found = self.hidden(f"items[{at}]", text, span, actions)
                made += found
                masked += bool(found)
        return masked

    def hidden(self, place: str, text: JsonText, span: Span, allowed: frozenset[str]) -> list[Replacement]:
        """Return the changes that hide fields of an item. Raises Refused(ITEMS_UNREADABLE)."""
        edits = [rule.hide() for rule in self.fields if rule.action not in allowed]
        return _changes(f"{place}.fields", text, span, edits) if edits else []

    def headers(self, headers: Sequence[Header], seen: int | None = None, kept: int = 0) -> list[Header]:
        """Return an answer's headers that are true of what is left: `kept` of the `seen`, None where these were not
        counted."""
        made = []
        for name, value in honest_headers(headers):
            if seen is not None and name in self.total_headers and value.strip() == str(seen).encode("ascii"):
                made.append((name, str(kept).encode("ascii")))
            elif name not in self.total_headers and not tells_number(name, value):
                made.append((name, value))
        return made

    def _totals(self, text: JsonText, seen: int, kept: int) -> Iterator[Replacement]:
        """Yield the changes that make each total true, where the list is all there is, or take it out."""

        def true(said: bytes) -> bytes:
            return str(kept).encode("ascii") if said == str(seen).encode("ascii") else b""

        if self.totals:
            yield from _changes("items.total", text, text.whole(), [Edit(path, true) for path in self.totals])


async def judged(judge: Judge, items: AnswerItems) -> list[frozenset[str]]:
    """Return the allowed actions of each item. Raises Refused."""
    try:
        return await judge(items)
    except Refused as refused:
        if refused.code is Code.REFERENCE_INVALID:
            # the app's answer is at fault, and not who asked for it
            raise Refused(Code.ITEMS_UNREADABLE, f"items: {refused.detail}") from None
        raise


def _changes(place: str, text: JsonText, span: Span, edits: Sequence[Edit]) -> list[Replacement]:
    try:
        return list(changes(text, span, edits))
    except ValueError as error:
        raise Refused(Code.ITEMS_UNREADABLE, f"{place}: {error}") from None
