"""Connections to Redis with one deadline for each operation, and what its faults are to us."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, ConnectionError, TimeoutError

from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused

DEADLINE = 0.2
"""Seconds for one operation."""
MAX_CONNECTIONS = 32


class RedisLink:
    """One use's own connections. `deadline` is in seconds, with connecting and waiting for a free connection."""

    def __init__(self, url: str, *, deadline: float = DEADLINE, connections: int = MAX_CONNECTIONS) -> None:
        self._deadline = deadline
        # one more try: a kept connection may have been closed by Redis long ago
        self.redis: Redis = Redis.from_url(
            url, retry=Retry(NoBackoff(), 1), socket_connect_timeout=deadline, socket_timeout=deadline, protocol=2,
            max_connections=2 * connections, driver_info=None,
        )  # fmt: skip
        # an option of the URL that no connection takes is found now
        self.redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        # not the pool's own limit: whoever waits there and leaves may take a connection along
        self._free = asyncio.Semaphore(connections)

    async def within(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Return the answer of Redis. Raises Refused: SESSION_STORE_UNAVAILABLE where it does not, or not in time,
        SESSION_STORE_ERROR where it refuses to."""
        try:
            async with asyncio.timeout(self._deadline), self._free:
                return await work()
        except (AuthenticationError, AuthorizationError) as error:
            raise _fault(Code.SESSION_STORE_ERROR, error) from None
        except (ConnectionError, TimeoutError, OSError) as error:
            # the builtin TimeoutError is an OSError
            raise _fault(Code.SESSION_STORE_UNAVAILABLE, error) from None
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in asking is a store that refuses
            raise _fault(Code.SESSION_STORE_ERROR, error) from None

    async def aclose(self) -> None:
        """Close the connections."""
        await self.redis.aclose()


def _fault(code: Code, error: Exception) -> Refused:
    return Refused(code, f"{type(error).__name__}: {error}")


def milliseconds(seconds: float) -> int:
    """A time to live as Redis takes it, which is never 0."""
    return max(1, int(seconds * 1000))
