"""Lookups of one rule: each asked with what those before it know, and side by side where none waits for another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from sidecar.gate.lookup import Call, Lookup, Missing, Reply, ReplyReader, call_for, is_missing
from sidecar.gate.references import Material
from sidecar.gate.verdict import Refused
from sidecar.together import in_order

MAX_CHAIN = 8
"""Lookups of one rule."""
_STRICTEST = (Missing.HIDE, Missing.DENY, Missing.EMPTY)

Known = Mapping[str, Any] | Refused
"""Attributes that lookups know of a resource, or why it is missing."""
AskAll = Callable[[Sequence[Call]], Awaitable[Sequence[Reply]]]
"""Asks calls of one lookup: -> their replies, in order."""


def missing_of(lookups: Sequence[Lookup]) -> Missing:
    """The treatment of a resource that one of some lookups does not have. It is one for all of them, or what a client
    is told would say which of them has it (CWE-204)."""
    return min((lookup.missing for lookup in lookups), key=_STRICTEST.index)


async def known_of(
    lookups: Sequence[Lookup], kind: str, ids: Sequence[str], material: Material, ask_all: AskAll, readings: ReplyReader
) -> list[Known]:
    """Ask lookups about resources, and return what they know of each, in order. Raises Refused for any other fault than
    that a resource is missing."""
    found: dict[str, list[Known]] = {}
    places = {lookup.name: at for at, lookup in enumerate(lookups)}

    async def ask(at: int) -> None:
        found[lookups[at].name] = await _ask_one(lookups[at], kind, ids, material, found, ask_all, readings)

    await in_order([[places[name] for name in lookup.needs] for lookup in lookups], ask)
    return [_joined([found[lookup.name][at] for lookup in lookups]) for at in range(len(ids))]


async def _ask_one(
    lookup: Lookup, kind: str, ids: Sequence[str], material: Material, found: Mapping[str, Sequence[Known]],
    ask_all: AskAll, readings: ReplyReader,
) -> list[Known]:  # fmt: skip
    known: list[Known] = [{}] * len(ids)
    calls: dict[int, Call] = {}
    needs = lookup.needs
    for at, resource_id in enumerate(ids):
        if not needs:
            calls[at] = call_for(lookup, kind, resource_id, material)
            continue
        needed = {name: found[name][at] for name in needs}
        missing = next((one for one in needed.values() if isinstance(one, Refused)), None)
        if missing is not None:
            known[at] = missing
        else:
            calls[at] = call_for(lookup, kind, resource_id, material._replace(known=needed))
    for (at, call), reply in zip(calls.items(), await ask_all([*calls.values()]) if calls else (), strict=True):
        known[at] = _read(readings, call, reply)
    return known


def _read(readings: ReplyReader, call: Call, reply: Reply) -> Known:
    try:
        return readings.attributes(call, reply)
    except Refused as refused:
        if not is_missing(refused, call.lookup.missing):
            raise
        return refused


def _joined(known: Sequence[Known]) -> Known:
    attributes: dict[str, Any] = {}
    for one in known:
        if isinstance(one, Refused):
            return one
        attributes.update(one)
    return attributes
