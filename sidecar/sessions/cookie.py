"""Sessions that live in the browser's cookie, sealed: nothing to run, and nothing that replicas share."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from sidecar.gate.codes import Code
from sidecar.gate.own import SESSION_COOKIES
from sidecar.gate.session import Session
from sidecar.gate.verdict import Refused
from sidecar.net.breaker import Report
from sidecar.sessions.seal import Seal
from sidecar.sessions.store import Kept, LoadedSession, Renew, decode, encode, from_cookies, to_cookies

log = logging.getLogger("sidecar.sessions")

PURPOSE = "session"


class CookieStore:
    """The whole record is in the cookie. What was handed out cannot be taken back: an older cookie still opens."""

    def __init__(self, seal: Seal, report: Report) -> None:
        self._seal = seal
        self._report = report

    async def open(self, session: Session, ttl: float) -> tuple[bytes, ...]:
        """The cookies of a new session; pieces of an earlier one go."""
        return self._cookies(session, SESSION_COOKIES)

    async def load(self, cookie_pairs: Mapping[str, str]) -> LoadedSession:
        """The session in the cookies. Raises Refused(SESSION_INVALID)."""
        try:
            return LoadedSession(decode(self._seal.unseal(PURPOSE, from_cookies(cookie_pairs))), cookie_pairs)
        except ValueError as error:
            raise Refused(Code.SESSION_INVALID, str(error)) from None

    async def touch(self, held: LoadedSession, session: Session, ttl: float) -> tuple[bytes, ...]:
        """The cookies anew."""
        return self._again(held, session)

    async def renew(self, held: LoadedSession, ask: Renew, ttl: float, wait: float) -> Kept:
        """The cookies with new tokens; tokens that do not fit serve this one request."""
        session = await ask(held.session)
        return Kept(session) if session is held.session else Kept(session, self._again(held, session))

    async def end(self, cookie_pairs: Mapping[str, str]) -> Session | None:
        """The session; that it has ended is for somebody else to remember."""
        try:
            return (await self.load(cookie_pairs)).session
        except Refused:
            return None

    async def aclose(self) -> None:
        """Nothing is open."""

    def _again(self, held: LoadedSession, session: Session) -> tuple[bytes, ...]:
        try:
            return self._cookies(session, held.cookie_pairs)
        except Refused as refused:
            log.error("session_write_failed: %s", refused.detail, extra={"fields": {"session": session.id}})  # noqa: TRY400
            self._report("sessions", "write_failed")
            return ()

    def _cookies(self, session: Session, names: Iterable[str]) -> tuple[bytes, ...]:
        return to_cookies(self._seal.seal(PURPOSE, encode(session)), names)
