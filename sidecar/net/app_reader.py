"""Client of the protected app for lookups: sends only what an `AppQuestion` allows, which is a GET."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import final

from sidecar.gate.app_question import AppQuestion
from sidecar.gate.verdict import Destination
from sidecar.net.connection import Fault, Response
from sidecar.net.fetch import Fetched, whole
from sidecar.net.pool import Pool
from sidecar.record.reasons import Reason
from sidecar.wire.http1_response import encode_request


@final
class AppReader:
    """Asks the protected apps what lookups ask, by connections that no request of a client gets. `connect` makes those
    of an app, None being that of the settings, when the first is needed."""

    def __init__(self, connect: Callable[[Destination | None], Pool[AppQuestion]]) -> None:
        self._connect = connect
        self._pools: dict[Destination | None, Pool[AppQuestion]] = {}
        self._draining: set[Pool[AppQuestion]] = set()

    async def get(self, question: AppQuestion, *, max_body: int, deadline: float) -> Fetched:
        """GET what the question says, the whole exchange within `deadline` seconds, redirects not followed. Raises
        Fault."""
        if not isinstance(question, AppQuestion):
            # to the type checker, a value of type Any is everything
            raise TypeError(f"found {type(question).__name__}, expected the warrant of a lookup")
        pool = self._pools.get(question.upstream)
        if pool is None:
            pool = self._pools[question.upstream] = self._connect(question.upstream)
        head = encode_request(b"GET", question.target, question.headers, None)
        try:
            async with asyncio.timeout(deadline):
                connection, reader = await pool.exchange(question, head, b"GET", None)
                return await whole(Response(pool, connection, reader), reader, max_body)
        except TimeoutError:
            raise Fault(Reason.HTTP_RESPONSE_TIMEOUT, f"no whole answer within {deadline:g} s") from None

    async def retire(self, gone: Iterable[Destination]) -> None:
        """Give up the connections to apps that are gone: questions that run come to their end, and a later one opens
        its own."""
        pools = [pool for each in gone if (pool := self._pools.pop(each, None)) is not None]
        self._draining.update(pools)
        await asyncio.gather(*(pool.drain() for pool in pools))
        self._draining.difference_update(pools)

    async def aclose(self) -> None:
        """Close every connection, and open none any more."""
        for pool in (*self._pools.values(), *self._draining):
            await pool.aclose()
