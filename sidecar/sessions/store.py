"""Port of the session stores, with the record and the cookies that they share."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

from sidecar.gate.codes import Code
from sidecar.gate.own import SESSION_COOKIES, expired, set_cookie
from sidecar.gate.session import Session
from sidecar.gate.verdict import Refused
from sidecar.wire import strict_json

MAX_COOKIE = 4096
"""Bytes of one cookie with name, value and attributes that every browser keeps (RFC 6265 section 6.1)."""
MAX_PIECES = len(SESSION_COOKIES)


class LoadedSession(NamedTuple):
    """A session as a request has it: `cookie_pairs` are its cookies by name, `record` what a store has of it."""

    session: Session
    cookie_pairs: Mapping[str, str]
    record: bytes = b""


class Kept(NamedTuple):
    """A session as it is kept from now on, and the values of Set-Cookie that tell the browser."""

    session: Session
    cookies: tuple[bytes, ...] = ()


Renew = Callable[[Session], Awaitable[Session]]
"""Gives the session with new tokens, or the very same one where it needs none. Raises Refused."""


class Store(Protocol):
    """Port: where sessions are kept. `ttl` is after how many seconds without another word one may be forgotten."""

    async def open(self, session: Session, ttl: float) -> tuple[bytes, ...]:
        """Keep a new session; values of Set-Cookie. Raises Refused: SESSION_STORE_*."""
        ...

    async def load(self, cookie_pairs: Mapping[str, str]) -> LoadedSession:
        """The session of these cookies. Raises Refused: SESSION_*."""
        ...

    async def touch(self, held: LoadedSession, session: Session, ttl: float) -> tuple[bytes, ...]:
        """Keep when a session was last used. Where that cannot be written, the session is as it was."""
        ...

    async def renew(self, held: LoadedSession, ask: Renew, ttl: float, wait: float) -> Kept:
        """Ask for new tokens and keep them. Whoever cannot because another process does waits up to `wait` seconds
        for what that one gets. Raises Refused: what `ask` raises, SESSION_*, IDP_UNAVAILABLE for a wait in vain."""
        ...

    async def end(self, cookie_pairs: Mapping[str, str]) -> Session | None:
        """End the session of these cookies; it as it was, None where it cannot be read. Raises Refused:
        SESSION_STORE_*, and then it may still be there."""
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...


# --- the record ---

_VERSION = b"\x01"
_MAX_RECORD = 64 * 1024
"""Bytes of a record's JSON: three tokens of 16 KiB, and some."""
_KINDS = (str, str, str, str, str, int, int, int, bool)
_OF_ONE_HOST = (*_KINDS, str)
"""Kinds of the fields where the last one names the host: without it, the record is what it was before there was one."""
_ID = re.compile(r"[0-9a-f]{32}")


def encode(session: Session) -> bytes:
    """A session -> a version byte and deflated JSON. A JWT's base64url shrinks to the three quarters that are in it."""
    fields = list(session if session.host else session[:-1])
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    return _VERSION + zlib.compress(text.encode("utf-8"))


def decode(record: bytes) -> Session:
    """The session of a record. Raises ValueError for anything else than `encode` makes."""
    if record[:1] != _VERSION:
        raise ValueError("a session record of another version")
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(record[1:], _MAX_RECORD)
    except zlib.error:
        raise ValueError("a session record that is not deflated") from None
    if not inflate.eof or inflate.unused_data:
        raise ValueError("a session record that is too long, too short or followed by more")
    fields = strict_json.loads(text)
    if not isinstance(fields, list) or tuple(map(type, fields)) not in (_KINDS, _OF_ONE_HOST):
        raise ValueError("a session record with other fields")
    session = Session(*fields)
    times = (session.expires, session.created, session.used)
    if not _ID.fullmatch(session.id) or not all(0 <= time < strict_json.EXACT_INTEGER for time in times):
        raise ValueError("a session record with an invalid id or time")
    return session


# --- the cookies ---

_PIECE = MAX_COOKIE - len(set_cookie(SESSION_COOKIES[-1], "4."))


def to_cookies(text: str, names: Iterable[str]) -> tuple[bytes, ...]:
    """Values of Set-Cookie for a sealed text: as many pieces as it needs, the first says how many, and those of `names`
    that are left over are taken away. Raises Refused(SESSION_STORE_ERROR) for more than MAX_PIECES.

    Without Max-Age, so that closing the browser forgets the session; how long it lives is in the seal.
    """
    count = -(-len(text) // _PIECE)
    if count > MAX_PIECES:
        raise Refused(
            Code.SESSION_STORE_ERROR,
            f"a session of {len(text)} bytes, expected at most {MAX_PIECES * _PIECE}; with SIDECAR_REDIS_URL it fits",
        )
    pieces = [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]
    pieces[0] = f"{count}.{pieces[0]}"
    return (
        *map(set_cookie, SESSION_COOKIES, pieces),
        *(expired(name) for name in names if name not in SESSION_COOKIES[:count]),
    )


def from_cookies(cookie_pairs: Mapping[str, str]) -> str:
    """The sealed text of a request's cookies; what lies beyond the count is left over and not read. That no piece is of
    another session is for the seal to see. Raises ValueError."""
    count, dot, first = cookie_pairs.get(SESSION_COOKIES[0], "").partition(".")
    if dot != "." or count not in ("1", "2", "3", "4"):
        raise ValueError("not a session cookie")
    pieces = [first, *(cookie_pairs.get(name, "") for name in SESSION_COOKIES[1 : int(count)])]
    if not all(pieces):
        raise ValueError("a piece of the session cookie is missing")
    return "".join(pieces)
