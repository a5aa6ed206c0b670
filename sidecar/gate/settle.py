"""Second half of the gate: the app's answer and its permit -> the answer for the client, or a refusal. Pure.

How to add an obligation is in docs/architecture.md.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from sidecar.gate.codes import Code
from sidecar.gate.obligation import KeepPrivate, Obligation
from sidecar.gate.verdict import Forward, Refuse, Refused
from sidecar.wire.caching import keep_private
from sidecar.wire.grammar import Header

PARTIAL_CONTENT = 206
"""The status of an answer that is a part of another (RFC 9110 section 15.3.7)."""


class HeldAnswer(NamedTuple):
    """The app's answer as a door holds it: nothing of it has gone out.

    `headers` have names in lower case. `body` is None where nothing needs it, or where it is too large to be held.
    """

    status: int
    headers: list[Header]
    body: bytes | None = None


class Released(NamedTuple):
    """Answer released to the client. `body` is None where the app's own goes out as it comes."""

    status: int
    headers: list[Header]
    body: bytes | None = None


def settle(permit: Forward, held: HeldAnswer) -> Released | Refuse:
    """Do what a permit demands of the app's answer. Never raises: what cannot be done is a refusal."""
    try:
        for obligation in permit.obligations:
            held = _settled(obligation, held)
    except Refused as refused:
        return _refusal(permit, refused.code, refused.detail)
    except Exception as error:  # noqa: BLE001 - fail closed: a bug of ours releases nothing
        return _refusal(permit, Code.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
    return Released(held.status, held.headers, held.body)


def _settled(obligation: Obligation, held: HeldAnswer) -> HeldAnswer:
    """The answer with one obligation done. Raises Refused."""
    if obligation.needs_body and held.body is None:
        raise Refused(Code.UPSTREAM_PROTOCOL, "an answer too large to be held, as an obligation needs it")
    if obligation.needs_body and held.status == PARTIAL_CONTENT:
        raise Refused(Code.UPSTREAM_PROTOCOL, "a part of an answer, and an obligation needs the whole")
    match obligation:
        case KeepPrivate():
            return HeldAnswer(held.status, keep_private(held.headers, obligation.vary, obligation.no_store), held.body)
        case _:
            assert_never(obligation)


def _refusal(permit: Forward, code: Code, detail: str) -> Refuse:
    return Refuse(code, permit.facts, detail, (), permit.reply_headers, permit.cookies)
