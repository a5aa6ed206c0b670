"""Items and fields of the app's answer that a client got, told by both bodies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sidecar.gate.ask import Ask
from sidecar.gate.lookup import id_text, search_in
from sidecar.gate.verdict import Refused
from sidecar.release.fields import FieldRule
from sidecar.release.items import ItemsRule
from sidecar.release.lines import LinesRule
from sidecar.release.lookup import AnswerLookupRule
from sidecar.release.single import FieldsRule
from sidecar.study.cases import Items, VisibleFields
from sidecar.wire import strict_json

_ABSENT = object()


def items_left(ask: Ask | None, answers: Sequence[bytes], body: bytes) -> Items | None:
    """Return what a client that got `body` has of the list in the app's `answers`; None where there is no list."""
    rule = ask.answer if ask is not None else None
    lines = isinstance(rule, LinesRule)
    if isinstance(rule, LinesRule):
        rule = rule.items
    if not isinstance(rule, ItemsRule):
        return None
    had = [item for answer in answers for item in _items(rule, answer, lines=lines)]
    got = list(_items(rule, body, lines=lines))
    hidden = Counter(name for name, _ in had) - Counter(name for name, _ in got)
    return Items(
        tuple(sorted(name for name, _ in got)), tuple(sorted(hidden.elements())),
        {name: fields for name, fields in _masked(rule.fields, had, got) if fields},
    )  # fmt: skip


def fields_left(ask: Ask | None, answers: Sequence[bytes], body: bytes) -> VisibleFields | None:
    """Return which of the route's fields a client that got `body` has; None where the route hides none, or there is no
    object."""
    rule = ask.answer if ask is not None else None
    if ask is not None and isinstance(ask.answer_lookup, AnswerLookupRule):
        rule = ask.answer_lookup.fields
    if not isinstance(rule, FieldsRule) or not answers:
        return None
    had, got = _parsed(answers[-1]), _parsed(body)
    if not isinstance(had, dict) or not isinstance(got, dict):
        return None
    hidden = _hidden(rule.fields, had, got)
    there = [".".join(field.path) for field in rule.fields if _at(had, field.path) is not _ABSENT]
    return VisibleFields(tuple(sorted(set(there) - set(hidden))), hidden)


def _items(rule: ItemsRule, body: bytes, *, lines: bool) -> Iterator[tuple[str, Any]]:
    """Yield the items of a body with their ids, as far as there are any."""
    if lines:
        found = [_parsed(line) for line in body.split(b"\n") if line.strip()]
    else:
        listed = _at(_parsed(body), rule.at)
        found = listed if isinstance(listed, list) else []
    for item in found:
        try:
            yield id_text(search_in(rule.id, item)), item
        except Refused:
            yield "", item


def _masked(
    fields: Sequence[FieldRule], had: Sequence[tuple[str, Any]], got: Sequence[tuple[str, Any]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield, of each item that is left, its fields that are not as the app has them. Both lists are in one order."""
    before = iter(had)
    for name, item in got:
        for known, whole in before:
            if known == name:
                yield name, _hidden(fields, whole, item)
                break


def _hidden(fields: Sequence[FieldRule], had: Any, got: Any) -> tuple[str, ...]:
    gone = [field.path for field in fields if _at(had, field.path) is not _ABSENT]
    return tuple(sorted(".".join(path) for path in gone if _at(got, path) != _at(had, path)))


def _at(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return _ABSENT
        value = value[name]
    return value


def _parsed(body: bytes) -> Any:
    try:
        return strict_json.loads(body)
    except ValueError:
        return _ABSENT
