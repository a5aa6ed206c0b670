"""Browser sessions: opened at a sign-in, presented with each request, renewed before their token ends, closed.

Where a session lives is its store's business: in the cookie itself, or in Redis.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import json
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from sidecar.clients.breaker import Report
from sidecar.gate.request import Request
from sidecar.gate.session import SESSION_COOKIE, Presented, Session, expired, session_crumbs
from sidecar.gate.verdict import Code, Refused

log = logging.getLogger("sidecar.sessions")

TOUCH_EVERY = 60
"""Seconds between two notes of when a session was used last."""
RENEW_AHEAD = 60
"""Seconds before its end at which a token is renewed; a fifth of its life where that is less."""
GRACE = 60
"""Seconds in which requests that were sent with the cookie before a renewal get what it gave."""
_REMEMBERED = 10_000


class Renewed(NamedTuple):
    """What a renewal gave; `refresh_token` is "" where the old one goes on. `expires` is Unix seconds."""

    token: str
    id_token: str
    refresh_token: str
    expires: int


Renew = Callable[[Session], Awaitable[Renewed]]
"""Port: asks Cognito for new tokens. Raises Refused: SESSION_EXPIRED where it gives none any more, IDP_*."""


class Found(NamedTuple):
    """A session as its store has it: the handle by which it is found, and the record that was found."""

    session: Session
    handle: str = ""
    record: bytes = b""


Release = Callable[[], Awaitable[None]]
Crumbs = dict[str, str]
"""The session's cookies of a request, by name."""


class Store(Protocol):
    """Port: where sessions live. Times are seconds; every operation may raise Refused(SESSION_STORE_*)."""

    async def read(self, crumbs: Crumbs) -> Found:
        """Raises Refused: SESSION_INVALID, SESSION_BAD_RECORD."""
        ...

    async def write(self, found: Found | None, session: Session, lives: int) -> tuple[bytes, ...]:
        """Keep a new session (`found` None), or one with new tokens -> values of Set-Cookie."""
        ...

    async def touch(self, found: Found, session: Session, lives: int, crumbs: Crumbs) -> tuple[bytes, ...]:
        """Keep another state of a session, unless it has been changed since -> values of Set-Cookie."""
        ...

    async def end(self, found: Found) -> None:
        """No request gets this session any more."""
        ...

    async def lock(self, found: Found) -> Release | None:
        """The right to renew this session alone: what gives it back, or None while somebody else has it."""
        ...


class Sessions:
    """The TokenSource of sessions. `idle` and `lifetime` are seconds."""

    def __init__(self, store: Store, *, idle: int, lifetime: int, renew: Renew, report: Report) -> None:
        self._store = store
        self._idle = idle
        self._lifetime = lifetime
        self._renew = renew
        self._report = report
        self._flights: dict[str, asyncio.Task[Session]] = {}
        self._renewed: dict[str, tuple[float, Session]] = {}

    def holds(self, request: Request) -> bool:
        """Whether the request has a session cookie."""
        return SESSION_COOKIE in request.seen.get(b"cookie", b"") and bool(session_crumbs(request.seen[b"cookie"]))

    async def open(self, session: Session) -> tuple[bytes, ...]:
        """Keep a new session -> values of Set-Cookie. Raises Refused: SESSION_STORE_*."""
        return await self._store.write(None, session, self._lives(session, session.created))

    async def current(self, request: Request, now: float) -> Session:
        """The session of a request as it is. Raises Refused: SESSION_*."""
        return (await self._read(session_crumbs(request.seen.get(b"cookie", b"")), now)).session

    async def close(self, request: Request, now: float) -> tuple[Session | None, tuple[bytes, ...]]:
        """End the session of a request, if it has one that holds -> it, and values of Set-Cookie that take it away.

        Raises Refused(SESSION_STORE_*) where that cannot be written: nobody is told to be signed out who is not.
        """
        crumbs = session_crumbs(request.seen.get(b"cookie", b""))
        gone = tuple(map(expired, crumbs))
        try:
            found = await self._read(crumbs, now)
        except Refused as refused:
            if refused.code in (Code.SESSION_INVALID, Code.SESSION_EXPIRED):
                return None, gone
            raise
        await self._store.end(found)
        return found.session, gone

    async def present(self, request: Request, now: float) -> Presented:
        """The token of the request's session, renewed where its end is near. Raises Refused: SESSION_*, IDP_*."""
        crumbs = session_crumbs(request.seen[b"cookie"])
        found = await self._read(crumbs, now)
        session = found.session
        changed = session
        # a handshake's answer may come too late to bring a browser another cookie
        if self._is_ending(session, now) and not (request.websocket and session.expires > now):
            changed = await self._renewed_session(found, now)
        if now - changed.used >= min(TOUCH_EVERY, self._idle / 4):
            changed = changed._replace(used=int(now))
        if changed is session:
            return Presented(session.token.encode("ascii"), session)
        kept = await self._kept(self._store.touch(found, changed, self._lives(changed, now), crumbs))
        return Presented(changed.token.encode("ascii"), changed, kept)

    async def _kept(self, writing: Awaitable[tuple[bytes, ...]]) -> tuple[bytes, ...]:
        try:
            return await writing
        except Refused as refused:
            # this request was judged by a session that holds; the next one tries again
            log.warning("session_write_failed: %s", refused.code)
            self._report("sessions", "write_failed")
            return ()

    async def _read(self, crumbs: Crumbs, now: float) -> Found:
        if not crumbs:
            raise Refused(Code.SESSION_INVALID, "no session")
        found = await self._store.read(crumbs)
        session = found.session
        if not session.created <= now + RENEW_AHEAD or now >= session.created + self._lifetime:
            raise Refused(Code.SESSION_EXPIRED, "its lifetime has passed")
        if now >= session.used + self._idle:
            raise Refused(Code.SESSION_EXPIRED, "it was idle for too long")
        return found

    def _lives(self, session: Session, now: float) -> int:
        return max(1, int(min(session.used + self._idle, session.created + self._lifetime) - now))

    # --- renewal ---

    def _is_ending(self, session: Session, now: float) -> bool:
        lives = _lifetime_of(session)
        # jitter, so that the tabs of a browser and a fleet do not come all at once; the same for one token
        spread = random.Random(session.id + str(session.expires)).uniform(0.8, 1.0)  # noqa: S311 - no secret
        return session.expires - now <= min(RENEW_AHEAD, lives / 5) * spread

    async def _renewed_session(self, found: Found, now: float) -> Session:
        """The session with new tokens; with the old ones while they hold, if there are no new ones to be had."""
        session = found.session
        known = self._renewed.get(session.id)
        if known is not None and known[0] > now and known[1].expires > session.expires:
            return known[1]
        try:
            return await self._flight(found, now)
        except Refused as refused:
            if session.expires > now:
                log.warning("a session was not renewed: %s %s", refused.code, refused.detail)
                return session
            raise

    async def _flight(self, found: Found, now: float) -> Session:
        """One renewal of a session that everybody who waits shares; whoever leaves does not stop it."""
        flight = self._flights.get(found.session.id)
        if flight is None:
            flight = asyncio.get_running_loop().create_task(self._ask(found, now))
            self._flights[found.session.id] = flight
            flight.add_done_callback(functools.partial(self._landed, found.session.id))
        return await asyncio.shield(flight)

    def _landed(self, name: str, flight: asyncio.Task[Session]) -> None:
        del self._flights[name]
        if not flight.cancelled():
            # where everybody who waited has left, nobody else asks what it was
            flight.exception()

    async def _ask(self, found: Found, now: float) -> Session:
        if not found.session.refresh_token:
            raise Refused(Code.SESSION_EXPIRED, "there is no refresh token")
        release = await self._store.lock(found)
        if release is None:
            return await self._renewed_elsewhere(found, now)
        try:
            # whoever had the lock before may have renewed it, and with rotation our refresh token is worth nothing
            latest = await self._latest(found)
            if latest.session.expires > found.session.expires:
                return latest.session
            changed = _with_tokens(latest.session, await self._renew(latest.session), now)
            # before anybody gets it: nobody else has the new refresh token
            await self._kept(self._store.write(latest, changed, self._lives(changed, now)))
            self._remember(changed, now)
        finally:
            await release()
        return changed

    async def _latest(self, found: Found) -> Found:
        return await self._store.read({SESSION_COOKIE.decode(): found.handle}) if found.handle else found

    def _remember(self, session: Session, now: float) -> None:
        if len(self._renewed) >= _REMEMBERED:
            self._renewed.pop(next(iter(self._renewed)))
        self._renewed.pop(session.id, None)
        self._renewed[session.id] = (now + GRACE, session)

    async def _renewed_elsewhere(self, found: Found, now: float) -> Session:
        """What another process got, as soon as it is there."""
        for _ in range(60):
            await asyncio.sleep(0.05)
            session = (await self._latest(found)).session
            if session.expires > found.session.expires:
                return session
        if found.session.expires > now:
            return found.session
        raise Refused(Code.IDP_UNAVAILABLE, "another process renews the session, and has not done it in time")


def _with_tokens(session: Session, renewed: Renewed, now: float) -> Session:
    """The session with new tokens. Raises Refused where they are of another user, or have ended."""
    if _subject(renewed.token) != _subject(session.token):
        raise Refused(Code.SESSION_INVALID, "the renewed token is of another user")
    if renewed.expires <= now:
        raise Refused(Code.SESSION_EXPIRED, "the renewed token has ended")
    return session._replace(
        token=renewed.token, id_token=renewed.id_token or session.id_token,
        refresh_token=renewed.refresh_token or session.refresh_token, expires=renewed.expires, used=int(now),
    )  # fmt: skip


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a token that was verified, or is going to be."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _subject(token: str) -> object:
    return claims_of(token).get("sub")


def _lifetime_of(session: Session) -> float:
    issued = claims_of(session.token).get("iat")
    return max(1.0, session.expires - issued) if isinstance(issued, int) else 5.0 * RENEW_AHEAD
