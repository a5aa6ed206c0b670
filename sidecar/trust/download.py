"""Bounded downloads from servers that are asked rarely, each on its own connection.

Key servers and the identity provider are such. What is asked for each request has `net.fetch`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import httpx


class Unusable(Exception):
    """The answer's body cannot be taken; the message says why, for the log."""


class Downloaded(NamedTuple):
    """A whole answer."""

    status: int
    headers: httpx.Headers
    body: bytes


class Downloads:
    """Asks by `timeout` seconds for each step, for answers of `limit` bytes at most; redirects are not followed."""

    def __init__(self, *, timeout: float, limit: int, max_connections: int | None = None) -> None:
        self._timeout = timeout
        self._limit = limit
        self._max_connections = max_connections
        self._http: httpx.AsyncClient | None = None

    async def ask(self, request: httpx.Request, judge: Callable[[httpx.Response], None]) -> Downloaded:
        """Send a request, and read its answer unless `judge` raises for its head. Raises Unusable, httpx.HTTPError."""
        # made by hand, a request has no cookie of an answer before (R26)
        request.headers["accept-encoding"] = "identity"
        response = await self._client().send(request, stream=True)
        try:
            judge(response)
            return Downloaded(response.status_code, response.headers, await self._body(response))
        finally:
            await response.aclose()

    async def _body(self, response: httpx.Response) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Unusable("an encoded body")
        body = b""
        async for part in response.aiter_raw():
            body += part
            if len(body) > self._limit:
                raise Unusable(f"over {self._limit} bytes")
        return body

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            # a connection for each question: nothing that is sent too much can be taken for the next answer
            self._http = httpx.AsyncClient(
                trust_env=False, follow_redirects=False, timeout=httpx.Timeout(self._timeout),
                limits=httpx.Limits(max_connections=self._max_connections, max_keepalive_connections=0),
            )  # fmt: skip
        # what a server sets as a cookie is not kept
        self._http.cookies.clear()
        return self._http

    async def aclose(self) -> None:
        """Close; questions that are open end as faults."""
        if self._http is not None:
            await self._http.aclose()
