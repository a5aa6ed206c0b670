"""Sessions that live in Redis, for several replicas: the cookie holds a handle, and Redis alone can read no record."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import re
import secrets
from collections.abc import Awaitable
from typing import Any

import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sidecar.clients.seal import Seal
from sidecar.clients.session_cookie import decoded, encoded
from sidecar.clients.sessions import Crumbs, Found, Release
from sidecar.gate.session import SESSION_COOKIES, Session, set_cookie
from sidecar.gate.verdict import Code, Refused

WITHIN = 0.2
"""Seconds for one operation."""
LOCK_SECONDS = 10
"""A lock whose owner died is free after so long; longer than the questions to Cognito take."""
_HANDLE = re.compile(r"[A-Za-z0-9_-]{43}")
_PURPOSE = "session in redis"
# the lock and the record are let go or replaced only by whoever knows what is there
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"
_REPLACE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('set', KEYS[1], ARGV[2], 'EX', ARGV[3]) end"


class RedisStore:
    """Keeps each session under a digest of its handle, sealed for that handle. `url` is redis-py's."""

    def __init__(self, url: str, seal: Seal, prefix: str = "sidecar:") -> None:
        self._redis: Any = redis.asyncio.from_url(
            url, socket_timeout=WITHIN, socket_connect_timeout=WITHIN, max_connections=64, retry=None,
            health_check_interval=0,
        )  # fmt: skip
        self._seal = seal
        self._prefix = prefix

    async def read(self, crumbs: Crumbs) -> Found:
        """The session of the cookie's handle. Raises Refused: SESSION_INVALID, SESSION_STORE_*, SESSION_BAD_RECORD."""
        handle = crumbs.get(SESSION_COOKIES[0], "")
        if len(crumbs) != 1 or not _HANDLE.fullmatch(handle):
            raise Refused(Code.SESSION_INVALID, "not a handle of a session")
        record = await self._do(self._redis.get(self._key(handle)))
        if record is None:
            raise Refused(Code.SESSION_INVALID, "no such session")
        try:
            session = decoded(self._seal.unseal(_PURPOSE, record.decode("ascii"), handle))
        except ValueError as error:
            raise Refused(Code.SESSION_BAD_RECORD, str(error)) from None
        return Found(session, handle, record)

    async def write(self, found: Found | None, session: Session, lives: int) -> tuple[bytes, ...]:
        """Keep it for `lives` seconds; a new one under a new handle. Raises Refused: SESSION_*."""
        handle = found.handle if found is not None else secrets.token_urlsafe(32)
        record = self._sealed(handle, session)
        # a session that was ended meanwhile is not brought back
        if not await self._do(self._redis.set(self._key(handle), record, ex=lives, xx=found is not None)):
            raise Refused(Code.SESSION_INVALID, "the session was ended")
        return (set_cookie(SESSION_COOKIES[0], handle),) if found is None else ()

    async def touch(self, found: Found, session: Session, lives: int, crumbs: Crumbs) -> tuple[bytes, ...]:
        """Keep it, unless another process has renewed or ended it since it was read."""
        record = self._sealed(found.handle, session)
        await self._do(self._redis.eval(_REPLACE, 1, self._key(found.handle), found.record, record, lives))
        return ()

    async def end(self, found: Found) -> None:
        """Delete it."""
        await self._do(self._redis.delete(self._key(found.handle)))

    async def lock(self, found: Found) -> Release | None:
        """The lock of this session over all processes."""
        name, owner = f"{self._key(found.handle)}:lock", secrets.token_hex(16)
        if not await self._do(self._redis.set(name, owner, nx=True, ex=LOCK_SECONDS)):
            return None
        return functools.partial(self._release, name, owner)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _release(self, name: str, owner: str) -> None:
        # whoever took too long must not give back what another one has by now
        with contextlib.suppress(Refused):
            await self._do(self._redis.eval(_RELEASE, 1, name, owner))

    async def _do(self, operation: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(WITHIN):
                return await operation
        except (TimeoutError, RedisTimeoutError, RedisConnectionError, OSError) as error:
            # what came too late must not be taken for the answer to another question
            raise Refused(Code.SESSION_STORE_UNAVAILABLE, type(error).__name__) from None
        except RedisError as error:
            raise Refused(Code.SESSION_STORE_ERROR, type(error).__name__) from None

    def _sealed(self, handle: str, session: Session) -> str:
        return self._seal.seal(_PURPOSE, encoded(session), handle)

    def _key(self, handle: str) -> str:
        return f"{self._prefix}session:{hashlib.sha256(handle.encode('ascii')).hexdigest()}"
