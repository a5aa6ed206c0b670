"""The gate's second half: the app's answer by its permit -> what is released to the client, or a refusal. Pure.

To add an obligation:

1. a frozen dataclass in `gate/obligation.py`, in the union `Obligation`, with `needs_body` where it is settled over
   the whole answer;
2. a branch in `_settled` below, and one in `doors/handover.py` that says how another proxy does it; mypy names both;
3. the route's method carries it in `Ask.obligations`, and a stage of the gate that finds one adds it to `_Way`.

Nothing else changes. A door that cannot hold a whole answer says so on its `Raw`, and the gate refuses such a route
there (`proxy_unable`). The proxy reads the body before it settles, and releases nothing until then.
"""

from __future__ import annotations

from typing import NamedTuple, assert_never

from sidecar.gate.codes import Code
from sidecar.gate.obligation import KeepPrivate, Obligation
from sidecar.gate.verdict import Forward, Refuse, Refused
from sidecar.wire.caching import keep_private
from sidecar.wire.grammar import Header


class Held(NamedTuple):
    """The app's answer as a door holds it: nothing of it has gone out.

    `headers` have names in lower case. `body` is None where nothing needs it, or where it is too large to be held.
    """

    status: int
    headers: list[Header]
    body: bytes | None = None


class Released(NamedTuple):
    """What may go out to the client. `body` is None where the app's own goes out as it comes."""

    status: int
    headers: list[Header]
    body: bytes | None = None


def settle(permit: Forward, held: Held) -> Released | Refuse:
    """Do what a permit demands of the app's answer. Never raises: what cannot be done is a refusal."""
    try:
        for obligation in permit.obligations:
            held = _settled(obligation, held)
    except Refused as refused:
        return _refusal(permit, refused.code, refused.detail)
    except Exception as error:  # noqa: BLE001 - fail closed: a bug of ours releases nothing
        return _refusal(permit, Code.INTERNAL_ERROR, f"{type(error).__name__}: {error}")
    return Released(held.status, held.headers, held.body)


def _settled(obligation: Obligation, held: Held) -> Held:
    """The answer with one obligation done. Raises Refused."""
    if obligation.needs_body and held.body is None:
        raise Refused(Code.UPSTREAM_PROTOCOL, "an answer too large to be held, as an obligation needs it")
    match obligation:
        case KeepPrivate():
            return Held(held.status, keep_private(held.headers, obligation.vary, obligation.no_store), held.body)
        case _:
            assert_never(obligation)


def _refusal(permit: Forward, code: Code, detail: str) -> Refuse:
    return Refuse(code, permit.facts, detail, (), permit.reply_headers, permit.cookies)
