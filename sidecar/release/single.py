"""Answers about one thing, of which fields are hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from sidecar.gate.codes import Code
from sidecar.gate.obligation import HeldAnswer, Judge, Reduce, Reduced
from sidecar.gate.verdict import Refused
from sidecar.release.content import honest_headers, is_failed, readable
from sidecar.release.fields import FieldRule, changes, searched_by
from sidecar.wire.json_slices import JsonText, spliced

MAX_SIZE = 1024 * 1024
"""Bytes of an answer about one thing."""


@dataclass(frozen=True, slots=True)
class FieldsRule:
    """`fields` of a route: each stays in the answer's object where the principal may do its action to the resource of
    the request."""

    fields: tuple[FieldRule, ...]
    max_size: int = MAX_SIZE

    nothing: ClassVar[None] = None
    lookups: ClassVar[tuple[str, ...]] = ()

    @property
    def asks(self) -> tuple[str, ...]:
        """The actions of the fields."""
        return tuple(dict.fromkeys(rule.action for rule in self.fields))

    def demand(self, judge: Judge, granted: frozenset[str], pushed: str) -> Reduce:
        """Demand that fields be hidden."""
        return Reduce(self, judge, granted)

    def searched(self, query: bytes) -> Sequence[tuple[str, str]]:
        """List the hidden fields that a query names: an app may look for one thing among those that fit its query, and
        a 404 tells that it does not."""
        return [("", action) for action in searched_by(query, self.fields)]

    async def reduce(self, held: HeldAnswer, judge: Judge, granted: frozenset[str]) -> Reduced:
        """Hide the fields whose action is not among the `granted`. Raises Refused(ITEMS_UNREADABLE)."""
        return self.hidden(held, granted)

    def hidden(self, held: HeldAnswer, granted: frozenset[str]) -> Reduced:
        """As `reduce`."""
        body = readable(held) if held.body else None
        if body is None:
            return Reduced(held, {})
        text = JsonText(body)
        edits = [rule.hide() for rule in self.fields if rule.action not in granted]
        try:
            if not isinstance(text.value(text.whole()), dict) and is_failed(held):
                return Reduced(held, {})
            made = list(changes(text, text.whole(), edits))
        except ValueError as error:
            raise Refused(Code.ITEMS_UNREADABLE, f"fields: {error}") from None
        return Reduced(
            HeldAnswer(held.status, honest_headers(held.headers), spliced(body, made)), {"masked": int(bool(made))}
        )
