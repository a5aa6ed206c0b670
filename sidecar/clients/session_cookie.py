"""Sessions that live in the cookie itself, sealed: nothing to run beside the sidecar, and nothing to lose."""

from __future__ import annotations

import json
import zlib
from typing import Any

from sidecar.clients.seal import Seal
from sidecar.clients.sessions import Crumbs, Found, Release
from sidecar.gate.session import SESSION_COOKIES, Session, expired, set_cookie
from sidecar.gate.verdict import Code, Refused

_PURPOSE = "session"
_VERSION = 1
MAX_COOKIE = 4096
"""Bytes of a cookie with its name and attributes that every browser keeps (RFC 6265 section 6.1)."""
_PIECE = MAX_COOKIE - len(set_cookie(SESSION_COOKIES[-1], ""))
_MAX_RECORD = 32 * 1024
_REMEMBERED = 100_000


class CookieStore:
    """Keeps nothing but the ids of sessions that were ended here, until they would have ended by themselves.

    Another process, or this one after a restart, does not know of them: until its token ends, a copy of the cookie
    that was taken before the sign-out goes on there. Its refresh token is revoked.
    """

    def __init__(self, seal: Seal) -> None:
        self._seal = seal
        self._ended: dict[str, None] = {}

    async def read(self, crumbs: Crumbs) -> Found:
        """The session that the cookies hold. Raises Refused(SESSION_INVALID)."""
        pieces = [crumbs.get(name) for name in SESSION_COOKIES]
        count = len(crumbs)
        # exactly the pieces that one value was cut into: all of them, and no other
        if not all(pieces[:count]) or count > len(SESSION_COOKIES):
            raise Refused(Code.SESSION_INVALID, "not the pieces of one session")
        try:
            record = self._seal.unseal(_PURPOSE, "".join(piece for piece in pieces if piece is not None))
            session = decoded(_inflated(record))
        except ValueError as error:
            raise Refused(Code.SESSION_INVALID, str(error)) from None
        if session.id in self._ended:
            raise Refused(Code.SESSION_INVALID, "the session was ended")
        return Found(session)

    async def write(self, found: Found | None, session: Session, lives: int) -> tuple[bytes, ...]:
        """The cookies that hold the session. Raises Refused(SESSION_STORE_ERROR) for one that is too large."""
        value = self._seal.seal(_PURPOSE, zlib.compress(encoded(session), 6))
        pieces = [value[at : at + _PIECE] for at in range(0, len(value), _PIECE)]
        if len(pieces) > len(SESSION_COOKIES):
            raise Refused(Code.SESSION_STORE_ERROR, f"{len(value)} bytes do not fit: set SIDECAR_REDIS_URL")
        return tuple(map(set_cookie, SESSION_COOKIES, pieces))

    async def touch(self, found: Found, session: Session, lives: int, crumbs: Crumbs) -> tuple[bytes, ...]:
        """The same; cookies of the request that it needs no more are taken away."""
        cookies = await self.write(found, session, lives)
        return (*cookies, *(expired(name) for name in crumbs if name not in SESSION_COOKIES[: len(cookies)]))

    async def end(self, found: Found) -> None:
        """Remember that it was ended."""
        if len(self._ended) >= _REMEMBERED:
            self._ended.pop(next(iter(self._ended)))
        self._ended[found.session.id] = None

    async def lock(self, found: Found) -> Release | None:
        """This process alone renews what it is shown."""
        return _nothing


async def _nothing() -> None:
    return


def encoded(session: Session) -> bytes:
    """A session as a record."""
    return json.dumps([_VERSION, *session], separators=(",", ":")).encode("utf-8")


def decoded(record: bytes) -> Session:
    """The session of a record. Raises ValueError for one of another version or shape."""
    fields: Any = json.loads(record)
    kinds = (int, str, str, str, str, str, int, int, int, bool)
    if not isinstance(fields, list) or [type(field) for field in fields] != list(kinds) or fields[0] != _VERSION:
        raise ValueError("a record of another version")
    return Session(*fields[1:])


def _inflated(record: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        data = inflate.decompress(record, _MAX_RECORD)
    except zlib.error:
        raise ValueError("a record of another version") from None
    if not inflate.eof or inflate.unused_data:
        raise ValueError("a record of another version")
    return data
