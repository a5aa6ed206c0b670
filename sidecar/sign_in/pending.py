"""A sign-in that a browser has begun: sealed into a cookie of its own, so that nobody else can end it (R19)."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from typing import Any, NamedTuple, Protocol

from sidecar.gate.codes import Code
from sidecar.gate.own import CONSOLE_PATH, LOGIN_COOKIE, PREFIX, expired, set_cookie
from sidecar.gate.request import Request
from sidecar.gate.target import read_target
from sidecar.gate.verdict import Refused
from sidecar.sessions.store import MAX_COOKIE
from sidecar.sign_in.ledger import Ledger
from sidecar.sign_in.provider import Challenge

LASTS = 600
"""Seconds in which a sign-in must end; Cognito's code lives five minutes (authorization endpoint)."""
_AT_ONCE, _TOGETHER = 8, 4096
"""Sign-ins that one browser may have begun besides a new one, in as many tabs, and bytes of their cookies, since many
servers take 8 KiB of a header. Of more, those that were begun first are given up."""
_PURPOSE = "login"
_VERSION = 2


class Sealing(Protocol):
    """Port: authenticated encryption of a cookie's value."""

    def seal(self, purpose: str, data: bytes) -> str: ...

    def unseal(self, purpose: str, text: str) -> bytes:
        """Raises ValueError for what was not sealed for this purpose."""
        ...


class Pending(NamedTuple):
    """One sign-in on its way. `to` is where the person goes afterwards, `created` Unix seconds.

    `challenge` is what Cognito's API asked for after the password, and `user` stands for the name that came with it
    (`sign_in.attempts.known_key`).
    """

    state: str
    nonce: str
    verifier: str
    to: str
    created: int
    challenge: Challenge | None = None
    user: str = ""


def begin(to: str, now: float) -> Pending:
    """A new sign-in, with 256 bits of state, nonce and code verifier each (RFC 7636 section 7.1)."""
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    return Pending(state, nonce, verifier, safe_target(to), int(now))


def safe_target(text: str) -> str:
    """A path of this host to go to after the sign-in, `/` in place of any other (R18)."""
    try:
        path, _, query, oddities = read_target(text.encode("ascii"))
    except (Refused, UnicodeEncodeError):
        return "/"
    # a second slash would make it another host's (RFC 3986 section 4.2)
    if oddities or not path.startswith(b"/") or path.startswith(b"//"):
        return "/"
    if path.startswith(PREFIX.encode()) and path != CONSOLE_PATH.encode():
        return "/"
    return (path + (b"?" + query if query else b"")).decode("ascii")


class PendingSignIns:
    """Keeps sign-ins in cookies of the browser that began them. Each can be ended once, as `ledger` remembers."""

    def __init__(self, sealing: Sealing, ledger: Ledger) -> None:
        self._sealing = sealing
        self._ledger = ledger

    def cookies(self, pending: Pending, request: Request) -> tuple[bytes, ...]:
        """The Set-Cookie values that let this browser, and no other, go on."""
        others = {name: value for name, value in _cookies(request).items() if name != _name(pending.state)}
        return (self._cookie(self.fitted(pending)), *map(expired, self._given_up(others, pending.created)))

    def fitted(self, pending: Pending) -> Pending:
        """The sign-in with a way back that fits into a cookie which every browser keeps: without its query where that
        is too long, and `/` where the path is."""
        for to in (pending.to, pending.to.partition("?")[0]):
            made = pending._replace(to=to)
            if len(self._cookie(made)) <= MAX_COOKIE:
                return made
        return pending._replace(to="/")

    def _cookie(self, pending: Pending) -> bytes:
        record = json.dumps([_VERSION, *pending], separators=(",", ":")).encode("utf-8")
        value = self._sealing.seal(_PURPOSE, record)
        return set_cookie(_name(pending.state), value, LASTS)

    def _given_up(self, others: dict[str, str], now: int) -> list[str]:
        """Which of a browser's other sign-ins end: what nobody can go on with, and the oldest of too many."""
        begun = {name: self._begun(value) for name, value in others.items()}
        size, kept = 0, set[str]()
        for name in sorted(others, key=lambda name: begun[name], reverse=True):
            size += len(name) + len(others[name]) + 3
            if len(kept) < _AT_ONCE and size <= _TOGETHER and begun[name] + LASTS > now:
                kept.add(name)
        return [name for name in others if name not in kept]

    def _begun(self, value: str) -> int:
        """When a sign-in was begun, in Unix seconds; 0 for a cookie that we did not make."""
        try:
            return _decoded(self._sealing.unseal(_PURPOSE, value)).created
        except ValueError:
            return 0

    async def find(self, state: str, request: Request, now: float) -> Pending:
        """The sign-in that this browser began under this state. Raises Refused: SIGN_IN_INVALID, SESSION_STORE_*."""
        value = _cookies(request).get(_name(state)) if state else None
        if value is None:
            raise Refused(Code.SIGN_IN_INVALID, "no sign-in that this browser began")
        try:
            pending = _decoded(self._sealing.unseal(_PURPOSE, value))
        except ValueError:
            raise Refused(Code.SIGN_IN_INVALID, "a sign-in cookie that the sidecar did not make") from None
        if not hmac.compare_digest(pending.state.encode(), state.encode("utf-8", "replace")):
            raise Refused(Code.SIGN_IN_INVALID, "the state of another sign-in")
        if not pending.created <= now < pending.created + LASTS:
            raise Refused(Code.SIGN_IN_INVALID, "a sign-in that took too long")
        if await self._ledger.is_spent(_spent(pending), now):
            raise Refused(Code.SIGN_IN_INVALID, "a sign-in that has ended")
        return pending

    async def end(self, pending: Pending, now: float) -> tuple[bytes, ...]:
        """End it, so that it cannot be ended again: the Set-Cookie values that take it from the browser.

        Of several that end one sign-in at once the first does. Raises Refused: SIGN_IN_INVALID, SESSION_STORE_*.
        """
        # as long as its cookie opens
        if not await self._ledger.spend(_spent(pending), pending.created + LASTS - now, now):
            raise Refused(Code.SIGN_IN_INVALID, "a sign-in that has ended")
        return (expired(_name(pending.state)),)


def _spent(pending: Pending) -> str:
    return f"state:{pending.state}"


def _name(state: str) -> str:
    # several tabs have a cookie each; of the state no more than tells them apart
    return f"{LOGIN_COOKIE}.{hashlib.sha256(state.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _cookies(request: Request) -> dict[str, str]:
    pairs = (pair.strip().partition(b"=") for pair in request.seen.get(b"cookie", b"").split(b";"))
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, _, value in pairs
        if name.startswith(LOGIN_COOKIE.encode() + b".") and name[len(LOGIN_COOKIE) + 1 :].isalnum()
    }


def _decoded(record: bytes) -> Pending:
    """The record of an unsealed cookie. Raises ValueError for one of another version of ours."""
    fields: Any = json.loads(record)
    if not isinstance(fields, list) or len(fields) != 8 or fields[0] != _VERSION:
        raise ValueError("another version")
    _, state, nonce, verifier, to, created, challenge, user = fields
    asked = Challenge(*challenge) if challenge is not None else None
    return Pending(state, nonce, verifier, to, created, asked, user)
