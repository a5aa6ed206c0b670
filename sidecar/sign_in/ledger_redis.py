"""The ledger that replicas share, in Redis: their counts are one, and what one of them used up is used up for all."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial

from sidecar.sessions.redis_link import DEADLINE, RedisLink, milliseconds
from sidecar.sign_in.ledger import Count, Reservation

CONNECTIONS = 16
_PREFIX = "sidecar:sign-in:"

# a sorted set of marks by their time; the clock is Redis' own, which all replicas share
_TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""


class RedisLedger:
    """Ledger at `sidecar:sign-in:…`, on connections that sessions do not use. `deadline` is for one operation, in
    seconds. Where Redis does not answer nobody signs in; a session could not be kept there either."""

    def __init__(self, url: str, *, deadline: float = DEADLINE) -> None:
        self._link = RedisLink(url, deadline=deadline, connections=CONNECTIONS)
        self._take = self._link.redis.register_script(_TAKE)

    async def take(self, counts: Sequence[Count], now: float) -> Reservation | None:
        """One place under every key, or None. Raises Refused: SESSION_STORE_*."""
        place = Reservation((), secrets.token_hex(8), now)
        # one after the other: in a cluster, the keys are in several slots
        for count in counts:
            if not await self._taken(count, place.mark):
                await self.give_back(place)
                return None
            place = place._replace(counts=(*place.counts, count))
        return place

    async def give_back(self, place: Reservation) -> None:
        """Free a place. Raises Refused: SESSION_STORE_*."""
        for count in place.counts:
            await self._link.within(partial(self._link.redis.zrem, _PREFIX + count.key, place.mark))

    async def spend(self, key: str, seconds: float, now: float) -> bool:
        """Use a key up; False where any replica did before. Raises Refused: SESSION_STORE_*."""
        return bool(
            await self._link.within(lambda: self._link.redis.set(_PREFIX + key, "", nx=True, px=milliseconds(seconds)))
        )

    async def is_spent(self, key: str, now: float) -> bool:
        """Return True for a key that any replica used up. Raises Refused: SESSION_STORE_*."""
        return bool(await self._link.within(lambda: self._link.redis.exists(_PREFIX + key)))

    async def remember(self, key: str, seconds: float, now: float) -> None:
        """Know a key on all replicas. Raises Refused: SESSION_STORE_*."""
        await self._link.within(lambda: self._link.redis.set(f"{_PREFIX}known:{key}", "", px=milliseconds(seconds)))

    async def knows(self, key: str, now: float) -> bool:
        """Return True for a key that any replica remembers. Raises Refused: SESSION_STORE_*."""
        return bool(await self._link.within(lambda: self._link.redis.exists(f"{_PREFIX}known:{key}")))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._link.aclose()

    async def _taken(self, count: Count, mark: str) -> bool:
        arguments: list[bytes | str | int] = [mark, count.limit, milliseconds(count.seconds)]
        return bool(await self._link.within(lambda: self._take([_PREFIX + count.key], arguments)))
