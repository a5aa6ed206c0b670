"""Verdicts on the items and fields of an answer of the app that somebody gives, by the permit that it would go out by.

The permit's own rule reads the answer, and asks the same questions as for a client. Nothing is released.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from sidecar.gate.decision import ALLOW, Question, Result
from sidecar.gate.obligation import (
    BindSession,
    BodyRule,
    Decide,
    HeldAnswer,
    KeepPrivate,
    LineRule,
    Reduce,
    ReduceEither,
    ReduceLines,
    Watch,
    chosen,
)
from sidecar.gate.settle import settle_whole
from sidecar.gate.verdict import Forward, Refuse, Refused
from sidecar.release.fields import FieldRule
from sidecar.release.items import CALL, ItemsRule
from sidecar.release.lines import LINES, LinesRule
from sidecar.release.single import FieldsRule
from sidecar.study.recording import RecordingPDP

_JSON = [(b"content-type", b"application/json")]


class ItemVerdict(NamedTuple):
    """Verdict on one item: whether it stays, without which fields, and the policy that decided on it."""

    id: str
    kept: bool
    hidden: tuple[str, ...]
    policy: str


class GivenAnswer(NamedTuple):
    """Verdict on an answer. `refusal` is why nothing of it would be released; then `items` are those that were asked
    about before. `hidden` are fields of an answer about one thing. `size` is in bytes, before and after. `missing` are
    the first items that a lookup does not have: nobody was asked about them."""

    items: tuple[ItemVerdict, ...] = ()
    hidden: tuple[str, ...] = ()
    refusal: Refuse | None = None
    calls: int = 0
    size: tuple[int, int] = (0, 0)
    missing: tuple[str, ...] = ()

    @property
    def seen(self) -> int:
        """How many items there were."""
        return len(self.items) + len(self.missing)

    @property
    def kept(self) -> int:
        """How many items stay."""
        return sum(item.kept for item in self.items)

    @property
    def masked(self) -> int:
        """How many of them stay without some of their fields."""
        return sum(item.kept and bool(item.hidden) for item in self.items)


async def given_answer(permit: Forward, body: bytes, pdp: RecordingPDP) -> GivenAnswer | None:
    """Judge an answer of the app, as JSON, by what the permit demands; None where it demands nothing of it. The gate
    that made the permit asks `pdp`."""
    since = len(pdp.questions)
    for obligation in chosen(permit.obligations, HeldAnswer(200, _JSON)):
        match obligation:
            case Reduce() | Decide():
                released = await _whole(permit, obligation, body)
            case ReduceLines():
                released = await _lines(permit, obligation, body)
            case KeepPrivate() | Watch() | ReduceEither() | BindSession():
                continue
            case _:
                assert_never(obligation)
        items: tuple[ItemVerdict, ...] = ()
        calls = 0
        if not isinstance(obligation, Decide):
            items, calls = _items(obligation.rule, since, pdp), len(pdp.questions) - since
        if isinstance(released, Refuse):
            return GivenAnswer(items, (), released, calls, (len(body), 0), permit.facts.missing)
        hidden: tuple[str, ...] = ()
        if isinstance(obligation, Reduce) and isinstance(obligation.rule, FieldsRule):
            hidden = _hidden(obligation.rule.fields, obligation.granted)
        return GivenAnswer(items, hidden, None, calls, (len(body), len(released)), permit.facts.missing)
    return None


async def _whole(permit: Forward, demand: Reduce | Decide, body: bytes) -> bytes | Refuse:
    # bytes of a paste or of a file are an answer of the kind that the rule is for
    fits = len(body) <= demand.rule.max_size
    settled = await settle_whole(permit, HeldAnswer(200, _JSON, body if fits else None))
    return settled if isinstance(settled, Refuse) else settled.body or b""


async def _lines(permit: Forward, reduce: ReduceLines, body: bytes) -> bytes | Refuse:
    windows, released = reduce.rule.units(), b""
    try:
        windows.add(body)
        windows.end()
        while lines := windows.take(CALL):
            released += await reduce.rule.window(lines, reduce.judge)
    except Refused as refused:
        return Refuse(refused.code, permit.facts, refused.detail)
    return released


def _items(rule: BodyRule | LineRule, since: int, pdp: RecordingPDP) -> tuple[ItemVerdict, ...]:
    """Return the verdicts on the items that were asked about. Questions go out in the order of the items, or in that
    in which lookups answered, though their answers may come in another."""
    return tuple(
        _item(question, at, result, rule.items if isinstance(rule, LinesRule) else rule)
        for number, question in enumerate(pdp.questions)
        if number >= since and number in pdp.answers
        for at, result in enumerate(pdp.answers[number].results)
    )


def _item(question: Question, at: int, result: Result, rule: BodyRule | LineRule) -> ItemVerdict:
    action = question.resources[at].action
    allowed = frozenset(name for name, effect in result.effects.items() if effect == ALLOW)
    kept = action in allowed
    hidden = _hidden(rule.fields, allowed) if kept and isinstance(rule, ItemsRule) else ()
    return ItemVerdict(result.id, kept, hidden, result.policies.get(action, ""))


def _hidden(fields: tuple[FieldRule, ...], allowed: frozenset[str]) -> tuple[str, ...]:
    return tuple(".".join(field.path) for field in fields if field.action not in allowed)


def place_of(at: tuple[str, ...]) -> str:
    """Write where a list is in an answer, as `routes.yaml` says it."""
    return "lines" if at == LINES else ".".join(at) or "@"
