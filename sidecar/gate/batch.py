"""A lookup that is asked about many ids in one call: its parts, and the reply about each in one answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeGuard

from sidecar.gate.codes import Code
from sidecar.gate.lookup import Call, Inquiry, Reply, document_of, id_text, search_in
from sidecar.gate.values import type_of
from sidecar.gate.verdict import Refused

_GONE = Reply(404, "application/json", b"")


class BatchInquiry(Inquiry, Protocol):
    """An `Inquiry` about many. What fills it is all but the ids, and equal for all that are asked in one call."""

    @property
    def longest(self) -> int | None:
        """Characters that a question may have, None where nobody cuts it."""

    def join(self, question: str, ids: Sequence[str]) -> str:
        """The question about these ids."""


def parts_of(calls: Sequence[Call]) -> Iterator[Sequence[Call]]:
    """Part calls of one lookup into those that go together in one, as few as can be."""
    groups: dict[str, list[Call]] = {}
    for call in calls:
        groups.setdefault(call.question, []).append(call)
    for group in groups.values():
        batch, longest = group[0].lookup.batch, _inquiry_of(group[0]).longest
        assert batch is not None  # noqa: S101 - for the type checker
        for first in range(0, len(group), batch.most):
            part = group[first : first + batch.most]
            yield from [part] if longest is None else _fitting(part, longest)


def _fitting(calls: Sequence[Call], longest: int) -> Iterator[Sequence[Call]]:
    if len(calls) == 1 or len(batch_of(calls).question) <= longest:
        yield calls
    else:
        half = len(calls) // 2
        yield from _fitting(calls[:half], longest)
        yield from _fitting(calls[half:], longest)


def _is_about_many(inquiry: Inquiry) -> TypeGuard[BatchInquiry]:
    # to ask for an instance of a protocol takes as long as a third of a lookup
    return hasattr(inquiry, "join")


def _inquiry_of(call: Call) -> BatchInquiry:
    inquiry = call.lookup.inquiry
    if not _is_about_many(inquiry):
        raise TypeError(f"lookups.{call.lookup.name}: asked about many, which it cannot be")
    return inquiry


def batch_of(calls: Sequence[Call]) -> Call:
    """Return one call about all that some calls with the same question are about."""
    first, ids = calls[0], tuple([call.resource_id for call in calls])
    return first._replace(question=_inquiry_of(first).join(first.question, ids), resource_id="", ids=ids)


def replies_of(call: Call, reply: Reply) -> dict[str, Reply]:
    """Return the reply about each of a call's ids; 404 where the answer has none about it.

    Raises Refused, and then there is none about any: LOOKUP_* as of one, LOOKUP_BAD_ANSWER for an id that nobody has
    asked for, or one that stands there twice.
    """
    lookup, batch = call.lookup, call.lookup.batch
    assert batch is not None  # noqa: S101 - for the type checker
    if reply.status == 404:
        # it is about a list, which is there where all of its ids are not
        raise Refused(Code.LOOKUP_STATUS, f"lookups.{lookup.name}: answered 404 about {len(call.ids)} ids")
    told = document_of(call, reply)
    for name in batch.at:
        told = told.get(name) if isinstance(told, dict) else None
    found = _by_name(call, told) if lookup.echo is None else _by_echo(call, told)
    if not found.keys() <= set(call.ids):
        detail = f"lookups.{lookup.name}: found an id that nobody has asked for"
        raise Refused(Code.LOOKUP_BAD_ANSWER, detail, about_another=True)
    return {
        name: _GONE if found.get(name) is None else Reply(200, "application/json", b"", found[name])
        for name in call.ids
    }  # fmt: skip


def answer_of(call: Call, replies: Mapping[str, Reply]) -> Reply:
    """Return the answer of which `replies_of` makes these replies, each with JSON or 404."""
    lookup, batch = call.lookup, call.lookup.batch
    assert batch is not None  # noqa: S101 - for the type checker
    found = {name: json.loads(reply.body) for name, reply in replies.items() if reply.status == 200}
    told: Any = found if lookup.echo is None else [*found.values()]
    for name in reversed(batch.at):
        told = {name: told}
    return Reply(200, "application/json", json.dumps(told).encode("utf-8"))


def _by_name(call: Call, told: Any) -> Mapping[str, Any]:
    if not isinstance(told, dict):
        expected = "expected an object, id: document; or name where an item has its id by `echo`"
        raise Refused(Code.LOOKUP_BAD_ANSWER, f"lookups.{call.lookup.name}: found {type_of(told)}, {expected}")
    return told


def _by_echo(call: Call, told: Any) -> Mapping[str, Any]:
    place = f"lookups.{call.lookup.name}"
    if not isinstance(told, list):
        raise Refused(Code.LOOKUP_BAD_ANSWER, f"{place}: found {type_of(told)}, expected a list, as `echo` is named")
    found: dict[str, Any] = {}
    for at, item in enumerate(told):
        name = id_text(search_in(call.lookup.echo, item))
        if not name or name in found:
            raise Refused(Code.LOOKUP_BAD_ANSWER, f"{place}[{at}]: found {'one id twice' if name else 'no id'}")
        found[name] = item
    return found
