"""Sessions that live in Redis, for several replicas: the browser has a handle, and only with it can a record be found
and opened. A record is written back only where it still is, so that nothing brings back a session that was ended."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from sidecar.gate.codes import Code
from sidecar.gate.own import SESSION_COOKIES
from sidecar.gate.session import Session
from sidecar.gate.verdict import Refused
from sidecar.net.breaker import Report
from sidecar.sessions.redis_link import DEADLINE, RedisLink, milliseconds
from sidecar.sessions.seal import Seal, UnknownKey
from sidecar.sessions.store import Kept, LoadedSession, Renew, decode, encode, from_cookies, to_cookies

log = logging.getLogger("sidecar.sessions")

LOCKED_FOR = 10_000
"""Milliseconds after which a renewal that never said how it ended is no longer waited for."""
POLL = 0.05
PURPOSE = "session handle"
_ID, _HANDLE = 16, 32
"""Bytes of a session's id and of the handle, which has 256 random bits."""

_IF_AS_READ = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
# the lock's owner may write over a mere touch; one whose lock ran out may not write over another's renewal
_IF_MINE = """
local found = redis.call('GET', KEYS[1])
if not found then return 'ended' end
if redis.call('GET', KEYS[2]) ~= ARGV[1] and found ~= ARGV[2] then return 'overtaken' end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 'written'
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""


_Argument = bytes | str | int


class _Place(NamedTuple):
    """Contents of a cookie: which session, under which keys, and what its record is sealed for."""

    id: str
    key: str
    lock: str
    purpose: str


class RedisStore:
    """Keeps sessions in Redis: at `sidecar:session:{hash of the handle}`, sealed with a key of secret and handle.

    `deadline` is for one operation, in seconds, with connecting and waiting for a free connection."""

    def __init__(self, url: str, seal: Seal, report: Report, *, deadline: float = DEADLINE) -> None:
        self._link = RedisLink(url, deadline=deadline)
        self._redis, self._within = self._link.redis, self._link.within
        self._seal = seal
        self._report = report
        self._if_as_read, self._if_mine, self._release = map(
            self._redis.register_script, (_IF_AS_READ, _IF_MINE, _RELEASE)
        )

    async def open(self, session: Session, ttl: float) -> tuple[bytes, ...]:
        """Keep a new session under a new handle; the cookie of it. Raises Refused: SESSION_STORE_*."""
        told = bytes.fromhex(session.id) + os.urandom(_HANDLE)
        place = _place(told)
        record = self._sealed(place, session)
        await self._within(lambda: self._redis.set(place.key, record, px=milliseconds(ttl)))
        return to_cookies(self._seal.seal(PURPOSE, told), SESSION_COOKIES)

    async def load(self, cookie_pairs: Mapping[str, str]) -> LoadedSession:
        """The session of the handle. Raises Refused: SESSION_INVALID for an invalid handle, SESSION_EXPIRED where
        there is no record, SESSION_BAD_RECORD, SESSION_STORE_*."""
        place = self._found(cookie_pairs)
        record = await self._within(lambda: self._redis.get(place.key))
        if record is None:
            raise Refused(Code.SESSION_EXPIRED, "no record: ended, or too long without a request")
        return LoadedSession(self._read(place, record), cookie_pairs, record)

    async def touch(self, held: LoadedSession, session: Session, ttl: float) -> tuple[bytes, ...]:
        """Write when the session was last used, unless the record is another by now."""
        place = self._found(held.cookie_pairs)
        arguments: list[_Argument] = [held.record, self._sealed(place, session), milliseconds(ttl)]
        try:
            await self._within(lambda: self._if_as_read([place.key], arguments))
        except Refused as refused:
            self._not_written(session, refused)
        return ()

    async def renew(self, held: LoadedSession, ask: Renew, ttl: float, wait: float) -> Kept:
        """Ask for new tokens under a lock that all processes share, and write them before they are used."""
        place, owner, loop = self._found(held.cookie_pairs), secrets.token_hex(16), asyncio.get_running_loop()
        until = loop.time() + wait
        while not await self._locked(place, owner):
            if loop.time() >= until:
                raise Refused(Code.IDP_UNAVAILABLE, "another process is renewing the session")
            await asyncio.sleep(POLL)
            other = await self.load(held.cookie_pairs)
            if other.session.expires > held.session.expires:
                return Kept(other.session)
        try:
            # another process may have been faster before the lock was ours
            held = await self.load(held.cookie_pairs)
            session = await ask(held.session)
            if session is not held.session:
                await self._write_renewed(place, owner, held, session, ttl)
            return Kept(session)
        finally:
            # a lock that cannot be released runs out by itself
            with contextlib.suppress(Refused):
                await self._within(lambda: self._release([place.lock], [owner]))

    async def end(self, cookie_pairs: Mapping[str, str]) -> Session | None:
        """Delete the record. Raises Refused(SESSION_STORE_*) where that is not sure to have happened."""
        try:
            place = self._found(cookie_pairs)
        except Refused:
            return None
        record = await self._within(lambda: self._taken(place.key))
        try:
            return self._read(place, record) if record is not None else None
        except Refused:
            return None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._link.aclose()

    async def _write_renewed(
        self, place: _Place, owner: str, held: LoadedSession, session: Session, ttl: float
    ) -> None:
        arguments: list[_Argument] = [owner, held.record, self._sealed(place, session), milliseconds(ttl)]
        try:
            how = await self._within(lambda: self._if_mine([place.key, place.lock], arguments))
        except Refused as refused:
            self._not_written(session, refused)
            return
        if how == b"ended":
            raise Refused(Code.SESSION_INVALID, "ended while it was renewed")
        if how != b"written":
            self._not_written(session, Refused(Code.SESSION_STORE_ERROR, "another process renewed it meanwhile"))

    def _found(self, cookie_pairs: Mapping[str, str]) -> _Place:
        try:
            told = self._seal.unseal(PURPOSE, from_cookies(cookie_pairs))
        except ValueError as error:
            raise Refused(Code.SESSION_INVALID, str(error)) from None
        if len(told) != _ID + _HANDLE:
            raise Refused(Code.SESSION_INVALID, f"a handle of {len(told)} bytes, expected {_ID + _HANDLE}")
        return _place(told)

    def _sealed(self, place: _Place, session: Session) -> bytes:
        return self._seal.seal(place.purpose, encode(session)).encode("ascii")

    def _read(self, place: _Place, record: object) -> Session:
        try:
            if not isinstance(record, bytes):
                raise ValueError(f"{type(record).__name__} instead of text")  # noqa: TRY004, TRY301 - as garbage
            session = decode(self._seal.unseal(place.purpose, record.decode("latin-1")))
        except UnknownKey as error:
            raise self._alarm(place, str(error)) from None
        except ValueError as error:
            log.error("session_bad_record: %s", error, extra={"fields": {"session": place.id}})  # noqa: TRY400
            raise Refused(Code.SESSION_BAD_RECORD, str(error)) from None
        if session.id != place.id:
            raise self._alarm(place, "the record of another session")
        return session

    def _alarm(self, place: _Place, detail: str) -> Refused:
        log.error("session_mismatch: %s", detail, extra={"fields": {"session": place.id}})
        self._report("sessions", "mismatch")
        return Refused(Code.SESSION_INVALID, detail)

    def _not_written(self, session: Session, refused: Refused) -> None:
        log.error("session_write_failed: %s", refused.detail, extra={"fields": {"session": session.id}})
        self._report("sessions", "write_failed")

    async def _taken(self, key: str) -> bytes | None:
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.get(key)
            pipeline.delete(key)
            record: bytes | None = (await pipeline.execute())[0]
            return record

    async def _locked(self, place: _Place, owner: str) -> bool:
        """Return whether the renewal of a session is this owner's from now on."""
        return bool(await self._within(lambda: self._redis.set(place.lock, owner, nx=True, px=LOCKED_FOR)))


def _place(told: bytes) -> _Place:
    handle = told[_ID:]
    # in braces: all keys of a session are in one slot of a cluster
    key = f"sidecar:session:{{{hashlib.sha256(b'session handle' + handle).hexdigest()}}}"
    return _Place(told[:_ID].hex(), key, f"{key}:renewal", f"session record {handle.hex()}")
