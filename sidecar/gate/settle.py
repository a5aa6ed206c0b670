"""Second half of the gate: the app's answer and its permit -> the answer for the client, or a refusal.

No I/O but the questions to the PDP that an obligation brings along. How to add an obligation is in
docs/architecture.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, NoReturn, assert_never

from sidecar.gate.codes import Code
from sidecar.gate.lookup import Missing, masked_code
from sidecar.gate.mcp_session import SESSION
from sidecar.gate.obligation import (
    BindSession,
    Decide,
    Demand,
    HeldAnswer,
    KeepPrivate,
    Reduce,
    Reduced,
    ReduceEither,
    ReduceLines,
    Watch,
    undecided,
)
from sidecar.gate.verdict import Forward, Refuse, Refused
from sidecar.wire.caching import keep_private
from sidecar.wire.grammar import Header


class Released(NamedTuple):
    """Answer released to the client. `body` is None where the app's own goes out as it comes, but for `lines`, where
    each is judged. `before` are bytes of it that a door has read already. `counts` are the numbers of a list that was
    reduced, and `cookies` take the place of the permit's. In shadow `watch` is what would have been done."""

    status: int
    headers: list[Header]
    body: bytes | None = None
    lines: ReduceLines | None = None
    before: bytes = b""
    counts: Mapping[str, int] | None = None
    cookies: tuple[bytes, ...] = ()
    watch: Demand | None = None


def settle(permit: Forward, held: HeldAnswer, *, streams: bool = False) -> Released | Refuse:
    """Do what a permit demands of the head of the app's answer. Never raises: what cannot be done is a refusal.

    A door that `streams` lets each line of `lines` be judged before it goes out.
    """
    lines = watch = None
    try:
        for obligation in permit.obligations:
            match obligation:
                case KeepPrivate():
                    held = _private(held, obligation)
                case BindSession():
                    held = _bound(held, obligation)
                case ReduceLines() | ReduceEither():
                    lines = _lines_of(obligation, held, streams)
                    held, has_lines = lines.rule.begin(held)
                    lines = lines if has_lines else None
                case Watch():
                    watch = obligation.demand
                case Reduce() | Decide():
                    _refuse_head()
                case _:
                    assert_never(obligation)
    except Exception as error:  # noqa: BLE001 - fail closed: a bug of ours releases nothing
        return _refusal(permit, error)
    return Released(held.status, held.headers, held.body, lines, watch=watch)


def _refuse_head() -> NoReturn:
    raise Refused(Code.INTERNAL_ERROR, "an obligation that needs the body, settled over the head")


def _lines_of(obligation: ReduceLines | ReduceEither, held: HeldAnswer, streams: bool) -> ReduceLines:
    demand = obligation.of(held) if isinstance(obligation, ReduceEither) else obligation
    if isinstance(demand, Reduce):
        _refuse_head()
    if not streams:
        raise Refused(Code.PROXY_UNABLE, "the answer line by line, which this door does not see")
    return demand


def _whole_of(obligation: ReduceLines | ReduceEither, held: HeldAnswer) -> Reduce:
    demand = obligation.of(held) if isinstance(obligation, ReduceEither) else obligation
    if isinstance(demand, ReduceLines):
        raise Refused(Code.PROXY_UNABLE, "the answer line by line, which is not held whole")
    return demand


async def settle_whole(permit: Forward, held: HeldAnswer) -> Released | Refuse:
    """Do what a permit demands of the whole of the app's answer. Never raises but for cancellation: what cannot be done
    is a refusal."""
    counts = None
    try:
        for obligation in permit.obligations:
            match obligation:
                case KeepPrivate():
                    held = _private(held, obligation)
                case BindSession():
                    held = _bound(held, obligation)
                case Reduce():
                    held, counts = await _reduced(permit, held, obligation)
                case ReduceLines() | ReduceEither():
                    held, counts = await _reduced(permit, held, _whole_of(obligation, held))
                case Decide():
                    held = await _decided(permit, held, obligation)
                case Watch():
                    # beside a demand that needs the body there is none
                    pass
                case _:
                    assert_never(obligation)
    except Exception as error:  # noqa: BLE001 - as in `settle`
        return _refusal(permit, error)
    return Released(held.status, held.headers, held.body, counts=counts)


def _private(held: HeldAnswer, obligation: KeepPrivate) -> HeldAnswer:
    # `_replace` takes four times as long, and most answers are private
    return HeldAnswer(held.status, keep_private(held.headers, obligation.vary, obligation.no_store), held.body)


def _bound(held: HeldAnswer, obligation: BindSession) -> HeldAnswer:
    named = [value for name, value in held.headers if name == SESSION]
    if not named:
        return held
    if len(named) > 1:
        raise Refused(Code.UPSTREAM_PROTOCOL, f"{SESSION.decode()}: found it twice")
    try:
        bound = (SESSION, obligation.bind(named[0]))
    except ValueError as error:
        raise Refused(Code.UPSTREAM_PROTOCOL, str(error)) from None
    return held._replace(headers=[bound if pair[0] == SESSION else pair for pair in held.headers])


async def _reduced(permit: Forward, held: HeldAnswer, obligation: Reduce) -> Reduced:
    if held.body is None:
        raise Refused(Code.ITEMS_TOO_MANY, f"an answer of more than {obligation.rule.max_size} bytes")
    reduced = await obligation.rule.reduce(held, obligation.judge, obligation.granted)
    # an answer without a list has no numbers, and is written as any other
    permit.facts.items = (
        {**reduced.counts, "pushed": obligation.pushed} if obligation.pushed else reduced.counts
    ) or None
    return reduced


async def _decided(permit: Forward, held: HeldAnswer, obligation: Decide) -> HeldAnswer:
    try:
        allowed = await obligation.conclude(obligation.rule.read(held, obligation.resource_id))
    except Exception as error:
        if not obligation.shadow:
            raise
        permit.facts.would_refuse = error.code if isinstance(error, Refused) else Code.INTERNAL_ERROR
        return held
    if obligation.shadow:
        return held
    reduced = obligation.rule.reduce(held, allowed)
    permit.facts.items = reduced.counts or None
    return reduced.answer


def _refusal(permit: Forward, error: Exception) -> Refuse:
    code, detail, told = Code.INTERNAL_ERROR, f"{type(error).__name__}: {error}", None
    if isinstance(error, Refused):
        open_ = undecided(permit.obligations)
        code, detail = error.code, error.detail
        told = masked_code(error, Missing(open_.rule.missing)) if open_ is not None else None
    return Refuse(code, permit.facts, detail, (), permit.reply_headers, permit.cookies, told)
