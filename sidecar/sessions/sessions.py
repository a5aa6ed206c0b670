"""Browser sessions: loads them by cookie, limits their lifetime, and renews tokens before they expire."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from sidecar.bounded import Expiring
from sidecar.gate.codes import Code
from sidecar.gate.identity import Tokens, kept_claims
from sidecar.gate.own import SESSION_COOKIE, expired
from sidecar.gate.request import Request
from sidecar.gate.session import Presented, Session, session_cookies
from sidecar.gate.verdict import Refused
from sidecar.sessions.store import Kept, LoadedSession, Store
from sidecar.wire import base64url, strict_json

log = logging.getLogger("sidecar.sessions")

MARGIN = 60.0
"""Seconds before its end from which on a token is renewed; a fifth of the life of a token that lives shorter."""
USED_EVERY = 60.0
"""Seconds between two writings of when a session was last used."""
GRACE = 300.0
"""Grace period in seconds in which a request with the old cookie gets the new tokens: its refresh token may be dead."""
AGAIN_AFTER = 10.0
"""Seconds after a renewal that failed in which a token that is still good is served without another try."""
RENEW_WITHIN = 5.0
"""Seconds for a renewal, should the port have no deadline of its own."""
ENDED, RENEWED, TOUCHED, FAILED = 32 * 1024 * 1024, 16 * 1024 * 1024, 8 * 1024 * 1024, 1024 * 1024
"""Bytes: about 80,000 sessions signed out, 4,000 with new tokens (3 KiB), 20,000 in use and 2,500 not renewed."""


class Renewed(NamedTuple):
    """New tokens. `refresh_token` is "" where the old one goes on; `expires` is the end of `token`, in Unix seconds.
    `identity` is what the session keeps of the id token, None where what it has goes on."""

    token: str
    id_token: str
    refresh_token: str
    expires: int
    identity: str | None = None


Renew = Callable[[Session, Tokens], Awaitable[Renewed]]
"""Port: asks Cognito for new tokens, of the use that `Tokens` takes. Raises Refused: SESSION_EXPIRED where it gives
none any more (`invalid_grant`), IDP_UNAVAILABLE, IDP_BAD_ANSWER."""

_COOKIE = SESSION_COOKIE.encode("ascii")


class Sessions:
    """Gives requests the token of their session. A session ends `idle` seconds after its last use, and `lifetime`
    seconds after the sign-in.

    Which sessions were ended, which tokens were renewed and what failed is remembered by this process alone, in bounds.
    """

    def __init__(self, store: Store, renew: Renew, *, idle: float, lifetime: float) -> None:
        self._store = store
        self._renew = renew
        self._idle = idle
        self._lifetime = lifetime
        self._used_every = min(USED_EVERY, idle / 4)
        self._ended: Expiring[str, bool] = Expiring(ENDED, lifetime)
        self._renewed: Expiring[str, Session] = Expiring(RENEWED, GRACE)
        self._touched: Expiring[str, bool] = Expiring(TOUCHED, self._used_every)
        self._failed: Expiring[str, Code] = Expiring(FAILED, AGAIN_AFTER)
        self._flights: dict[str, asyncio.Task[Kept]] = {}

    vary = b"Cookie"

    def holds(self, request: Request) -> bool:
        """Return whether the request has a cookie of a session."""
        cookie = request.seen.get(b"cookie", b"")
        return _COOKIE in cookie and bool(session_cookies(cookie))

    async def present(self, request: Request, now: float, tokens: Tokens) -> Presented:
        """The session's token, renewed if it is about to end. Raises Refused: SESSION_*, IDP_*.

        For a WebSocket a good token is taken as it is and nothing is written: a recheck cannot set a cookie.
        """
        held = await self._load(request, now)
        kept = Kept(held.session)
        if self._is_due(held.session, now) or lacks_claims(held.session, tokens):
            if not request.websocket or held.session.expires <= now:
                kept = await self._renewal(held, now, tokens)
        elif not request.websocket:
            kept = await self._used(held, now)
        return Presented(kept.session.token.encode("utf-8"), kept.session, kept.cookies)

    async def current(self, request: Request, now: float) -> Session:
        """The session as it is, whether its token is still good or not. Raises Refused: TOKEN_MISSING, SESSION_*."""
        return self._newest((await self._load(request, now)).session, now)

    async def open(self, session: Session) -> tuple[bytes, ...]:
        """Values of Set-Cookie for a new sign-in. Raises Refused: SESSION_STORE_*."""
        return await self._store.open(session, self._left(session, session.created))

    async def close(self, request: Request, now: float) -> tuple[Session | None, tuple[bytes, ...]]:
        """Sign out: the session that ended, with its newest refresh token, and values of Set-Cookie that take its
        cookies away. Raises Refused(SESSION_STORE_*) where the session may live on."""
        cookie_pairs = _cookie_pairs(request)
        session = await self._store.end(cookie_pairs) if cookie_pairs else None
        cleared = tuple(map(expired, cookie_pairs))
        if session is None or self._ended.get(session.id, now):
            return None, cleared
        self._ended.put(session.id, True, now)
        flight = self._flights.get(session.id)
        if flight is not None:
            await asyncio.wait([flight])
        newest = self._newest(session, now)
        self._renewed.drop(session.id)
        return newest, cleared

    async def aclose(self) -> None:
        """Let renewals come to their end, since what they got would be lost, and close the store."""
        if self._flights:
            await asyncio.wait(self._flights.values())
        await self._store.aclose()

    # --- how long a session lives ---

    async def _load(self, request: Request, now: float) -> LoadedSession:
        cookie_pairs = _cookie_pairs(request)
        if not cookie_pairs:
            raise Refused(Code.TOKEN_MISSING)
        held = await self._store.load(cookie_pairs)
        self._refuse_ended(held.session, now)
        if held.session.host != request.site:
            raise Refused(Code.SESSION_INVALID, "a session of another host")
        if self._left(held.session, now) <= 0 or now >= held.session.used + self._idle:
            raise Refused(Code.SESSION_EXPIRED, "its idle time or its lifetime has passed")
        return held

    def _refuse_ended(self, session: Session, now: float) -> None:
        if self._ended.get(session.id, now):
            raise Refused(Code.SESSION_INVALID, "signed out")

    def _left(self, session: Session, now: float) -> float:
        """After how many seconds a session that is used now ends."""
        return min(self._idle, session.created + self._lifetime - now)

    async def _used(self, held: LoadedSession, now: float) -> Kept:
        session = held.session
        # a page's many requests come at once, all with the same cookie
        if now - session.used < self._used_every or self._touched.get(session.id, now):
            return Kept(session)
        self._touched.put(session.id, True, now)
        session = session._replace(used=int(now))
        return Kept(session, await self._store.touch(held, session, self._left(session, now)))

    # --- new tokens ---

    def _is_due(self, session: Session, now: float) -> bool:
        """Return whether the token has ended or, for a session that outlives it and can be renewed, is about to."""
        ttl = session.expires - now
        if ttl <= 0:
            return True
        if ttl >= MARGIN or not session.refresh_token or session.expires >= session.created + self._lifetime:
            return False
        # sessions that began together are not renewed together; the same for each request of one session
        share = 0.5 + int(session.id[:4], 16) / 0x1FFFF
        return ttl < min(MARGIN, _life(session) / 5) * share

    async def _renewal(self, held: LoadedSession, now: float, tokens: Tokens) -> Kept:
        # newer than what was loaded where new tokens could not be written
        session = self._newest(held.session, now)
        # a session that began before its claims were named has no use for its token alone
        good = session.expires > now and not lacks_claims(session, tokens)
        failed = self._failed.get(session.id, now)
        if failed is not None and good:
            return Kept(session)
        if failed is Code.SESSION_EXPIRED or not session.refresh_token:
            raise Refused(Code.SESSION_EXPIRED, "its token has ended, and there is no other")
        try:
            kept = await self._shared(held, now, tokens)
        except Refused as refused:
            if refused.code is Code.SESSION_INVALID or not good:
                raise
            return Kept(session)
        self._refuse_ended(session, now)
        return kept

    async def _shared(self, held: LoadedSession, now: float, tokens: Tokens) -> Kept:
        """One renewal of a session at a time; all requests get what it gives."""
        key = held.session.id
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.get_running_loop().create_task(self._fly(held, now, tokens))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        # not awaited itself: whoever leaves takes the new tokens from nobody, least of all from the browser
        await asyncio.wait([flight])
        if flight.cancelled():
            raise Refused(Code.IDP_UNAVAILABLE, "closed")
        return flight.result()

    def _landed(self, key: str, flight: asyncio.Task[Kept]) -> None:
        self._flights.pop(key, None)
        if not flight.cancelled():
            # everybody who waited may have left: then nobody else takes note of what it raised
            flight.exception()

    async def _fly(self, held: LoadedSession, now: float, tokens: Tokens) -> Kept:
        session = held.session
        # with a token that is still good nobody waits for another process
        wait = 0.0 if self._newest(session, now).expires > now else RENEW_WITHIN
        try:
            ask = partial(self._ask, now=now, tokens=tokens)
            return await self._store.renew(held, ask, self._left(session, now), wait)
        except Refused as refused:
            self._failed.put(session.id, refused.code, now)
            if refused.code is Code.SESSION_INVALID:
                self._ended.put(session.id, True, now)
                with contextlib.suppress(Refused):
                    await self._store.end(held.cookie_pairs)
            raise

    async def _ask(self, session: Session, now: float, tokens: Tokens) -> Session:
        if not self._is_due(session, now) and not lacks_claims(session, tokens):
            return session
        known = self._newest(session, now)
        if known is not session:
            return known
        new = _renewed(session, await self._answer(session, tokens), now)
        # before it is written: should that fail, the next request must not ask with a dead refresh token
        self._renewed.put(session.id, new, now)
        return new

    def _newest(self, session: Session, now: float) -> Session:
        """The session with the newest tokens that this process got for it, else as it is."""
        known = self._renewed.get(session.id, now)
        return known if known is not None and known.expires > session.expires else session

    async def _answer(self, session: Session, tokens: Tokens) -> Renewed:
        try:
            async with asyncio.timeout(RENEW_WITHIN):
                return await self._renew(session, tokens)
        except Refused:
            raise
        except TimeoutError:
            raise Refused(Code.IDP_UNAVAILABLE, f"no new tokens within {RENEW_WITHIN} s") from None
        except Exception as error:
            log.exception("a renewal failed")
            raise Refused(Code.IDP_BAD_ANSWER, type(error).__name__) from None


def _cookie_pairs(request: Request) -> dict[str, str]:
    return session_cookies(request.seen.get(b"cookie", b""))


def _renewed(session: Session, renewed: Renewed, now: float) -> Session:
    """The session with new tokens. Raises Refused: SESSION_INVALID where they are somebody else's, IDP_BAD_ANSWER.

    Nothing is trusted for it: the gate verifies the token as any other."""
    tokens = (renewed.token, renewed.id_token or renewed.token)
    subjects = {claims_of(token).get("sub") for token in tokens}
    if None in subjects:
        raise Refused(Code.IDP_BAD_ANSWER, "a token without a subject")
    if subjects != {claims_of(session.token).get("sub")}:
        log.error("session_mismatch: renewed for another subject", extra={"fields": {"session": session.id}})
        raise Refused(Code.SESSION_INVALID, "renewed for another subject")
    if renewed.expires <= now:
        raise Refused(Code.IDP_BAD_ANSWER, "a new token that has ended")
    return session._replace(
        token=renewed.token, identity=session.identity if renewed.identity is None else renewed.identity,
        refresh_token=renewed.refresh_token or session.refresh_token, expires=renewed.expires, used=int(now),
    )  # fmt: skip


def lacks_claims(session: Session, tokens: Tokens) -> bool:
    """Return whether a session began before `routes.yaml` named a claim of the id token: it kept none of it."""
    return bool(tokens.session_claims) and not tokens.session_claims <= kept_claims(session.identity).keys()


def _life(session: Session) -> float:
    """Seconds from a token's `iat` to its end; where it does not say, as if it lived long."""
    issued = claims_of(session.token).get("iat")
    return session.expires - issued if type(issued) is int else 5 * MARGIN


def claims_of(token: str) -> dict[str, object]:
    """Read the claims of a JWT without verifying it; an empty dict for any other text."""
    part = token.split(".")[1] if token.count(".") == 2 else ""
    try:
        claims = strict_json.loads(base64url.decode(part.encode("ascii")))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}
