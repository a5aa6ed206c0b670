"""Bounded downloads from servers that are asked rarely, each on its own connection.

Key servers and the identity provider are such. What is asked for each request has `net.fetch`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import NamedTuple

import httpx

from sidecar.trust.transport import DirectTransport


class Unusable(Exception):
    """The answer's body cannot be taken; the message says why, for the log."""


class Downloaded(NamedTuple):
    """A whole answer."""

    status: int
    headers: httpx.Headers
    body: bytes


class Proxy(NamedTuple):
    """A forward proxy (RFC 9110 section 9.3.6, CONNECT) for https, but not for the hosts of `exceptions`: names, which
    stand for those below them too, addresses, networks, or `*` for all. With no `url` there is none."""

    url: str = ""
    exceptions: tuple[str, ...] = ()

    def is_for(self, host: str) -> bool:
        """Return whether a host is asked through it."""
        return bool(self.url) and not any(_covers(exception.lower(), host.lower()) for exception in self.exceptions)


def _covers(exception: str, host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = exception.partition(":")[0].removeprefix("*").removeprefix(".")
        return exception == "*" or (name != "" and (host == name or host.endswith("." + name)))
    try:
        return exception == "*" or address in ipaddress.ip_network(exception, strict=False)
    except ValueError:
        return False


NO_PROXY = Proxy()


class Downloads:
    """Asks by `timeout` seconds for each step, for answers of `limit` bytes at most; redirects are not followed. Where
    https is asked through a `proxy`, that sees the host's name and no more."""

    def __init__(
        self, *, timeout: float, limit: int, max_connections: int | None = None, proxy: Proxy = NO_PROXY
    ) -> None:
        self._timeout = timeout
        self._limit = limit
        self._max_connections = max_connections
        self._proxy = proxy
        self._http: dict[str, httpx.AsyncClient] = {}

    async def ask(self, request: httpx.Request, judge: Callable[[httpx.Response], None]) -> Downloaded:
        """Send a request, and read its answer unless `judge` raises for its head. Raises Unusable, httpx.HTTPError."""
        # made by hand, a request has no cookie of an answer before (R26)
        request.headers["accept-encoding"] = "identity"
        url = request.url
        proxied = url.scheme == "https" and self._proxy.is_for(url.host)
        response = await self._client(self._proxy.url if proxied else "").send(request, stream=True)
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

    def _client(self, proxy: str) -> httpx.AsyncClient:
        client = self._http.get(proxy)
        if client is None:
            # a connection for each question: nothing that is sent too much can be taken for the next answer
            client = self._http[proxy] = httpx.AsyncClient(
                trust_env=False, follow_redirects=False, timeout=httpx.Timeout(self._timeout), proxy=proxy or None,
                limits=httpx.Limits(max_connections=self._max_connections, max_keepalive_connections=0),
                transport=None if proxy else DirectTransport(self._max_connections),
            )  # fmt: skip
        # what a server sets as a cookie is not kept
        client.cookies.clear()
        return client

    async def aclose(self) -> None:
        """Close; questions that are open end as faults."""
        for client in self._http.values():
            await client.aclose()
