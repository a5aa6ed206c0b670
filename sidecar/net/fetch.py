"""HTTP client for servers that need no permit: lookup hooks and PDPs. Never used for the protected app."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import NamedTuple, final

from sidecar.net.connection import Fault, Response
from sidecar.net.pool import Origin, Pool
from sidecar.record.reasons import Reason
from sidecar.wire.grammar import Header
from sidecar.wire.http1_response import ResponseReader, encode_request


class Fetched(NamedTuple):
    """A whole answer: status, all of its headers with names in lower case, and body."""

    status: int
    headers: list[Header]
    body: bytes


@final
class Fetch:
    """Asks the server at `origin` for whole answers, by connections that nobody else has."""

    def __init__(self, origin: Origin, *, tls: ssl.SSLContext | None = None) -> None:
        self._pool: Pool[None] = Pool(origin, tls=tls)

    async def get(self, target: bytes, headers: Iterable[Header], *, max_body: int, deadline: float) -> Fetched:
        """GET `target`, the whole exchange within `deadline` seconds, redirects not followed. Raises Fault."""
        head = encode_request(b"GET", target, [(b"host", self._pool.origin.authority), *headers], None)
        return await self._within(deadline, head, b"GET", max_body)

    async def post(
        self, target: bytes, headers: Iterable[Header], body: bytes, *, max_body: int, deadline: float
    ) -> Fetched:
        """POST `body` as `get` gets; never sent a second time. Raises Fault."""
        head = encode_request(b"POST", target, [(b"host", self._pool.origin.authority), *headers], len(body))
        return await self._within(deadline, head + body, b"POST", max_body)

    async def _within(self, deadline: float, message: bytes, method: bytes, max_body: int) -> Fetched:
        try:
            async with asyncio.timeout(deadline):
                connection, reader = await self._pool.exchange(None, message, method, None)
                return await whole(Response(self._pool, connection, reader), reader, max_body)
        except TimeoutError:
            raise Fault(Reason.HTTP_RESPONSE_TIMEOUT, f"no whole answer within {deadline:g} s") from None

    async def aclose(self) -> None:
        """Close every connection, and open none any more."""
        await self._pool.aclose()


async def whole(response: Response, reader: ResponseReader, max_body: int) -> Fetched:
    """The whole of an answer whose head has come. Raises Fault, for one that is encoded or too large, too."""
    parts: list[bytes] = []
    size = 0
    try:
        if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in reader.raw_headers):
            raise Fault(Reason.HTTP_RESPONSE_CONTENT_CODING, "an encoded body, expected identity")
        while data := await response.read():
            parts.append(data)
            size += len(data)
            if size > max_body:
                raise Fault(Reason.HTTP_RESPONSE_BODY_SIZE, f"a body over {max_body} bytes")
    finally:
        response.close()
    return Fetched(reader.status, reader.raw_headers, b"".join(parts))
