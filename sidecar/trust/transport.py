"""httpx over connections of ours, one for each question.

The transport that httpx brings loads a second client of HTTP/1.1, one of HTTP/2 and a second event loop's interface: a
seventh of a start, for one key set. It stays for what goes through a forward proxy.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import httpx

from sidecar.net.connection import Fault, Response, Timeouts
from sidecar.net.pool import Origin, Pool
from sidecar.record.reasons import FaultKind, Reason
from sidecar.wire.http1_response import ResponseReader, encode_request

_PORTS = {"http": 80, "https": 443}
_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection"))
"""Headers that are said where a request is encoded."""


class DirectTransport(httpx.AsyncBaseTransport):
    """Asks servers without a proxy between; `max_connections` at once, where that is bounded. Raises what httpx' own
    transport raises."""

    def __init__(self, max_connections: int | None = None) -> None:
        self._places = asyncio.Semaphore(max_connections) if max_connections is not None else None
        self._tls: ssl.SSLContext | None = None
        self._pools: set[Pool[None]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and give its answer when the head has come."""
        seconds = request.extensions["timeout"]
        await self._take_place(request, seconds["pool"])
        try:
            pool = self._pool_for(request.url, Timeouts(seconds["connect"], seconds["read"], seconds["read"]))
        except BaseException:
            self._give_back_place()
            raise
        stream = _Stream(self, pool, request)
        try:
            reader = await stream.ask()
        except BaseException:
            await stream.aclose()
            raise
        return httpx.Response(reader.status, headers=reader.raw_headers, stream=stream)

    async def _take_place(self, request: httpx.Request, seconds: float | None) -> None:
        if self._places is not None:
            try:
                async with asyncio.timeout(seconds):
                    await self._places.acquire()
            except TimeoutError:
                raise httpx.PoolTimeout("no place for another question", request=request) from None

    def _give_back_place(self) -> None:
        if self._places is not None:
            self._places.release()

    def _pool_for(self, url: httpx.URL, timeouts: Timeouts) -> Pool[None]:
        if url.scheme not in _PORTS:
            raise httpx.UnsupportedProtocol(f"found {url.scheme}://, expected http:// or https://")
        origin = Origin(url.scheme, url.raw_host.decode("ascii"), url.port or _PORTS[url.scheme])
        # for https alone, as to read the CAs takes a twentieth of a start
        if url.scheme == "https" and self._tls is None:
            self._tls = httpx.create_ssl_context(trust_env=False)
            self._tls.set_alpn_protocols(["http/1.1"])
        pool: Pool[None] = Pool(origin, timeouts=timeouts, tls=self._tls, max_idle=0)
        self._pools.add(pool)
        return pool

    async def end(self, pool: Pool[None]) -> None:
        """Close the connection of a question, once."""
        if pool in self._pools:
            self._pools.discard(pool)
            self._give_back_place()
            await pool.aclose()

    async def aclose(self) -> None:
        """Close all connections; questions that are open end as faults."""
        for pool in list(self._pools):
            await self.end(pool)


class _Stream(httpx.AsyncByteStream):
    """The one question that a pool is for, and the body of its answer."""

    def __init__(self, transport: DirectTransport, pool: Pool[None], request: httpx.Request) -> None:
        self._transport = transport
        self._pool = pool
        self._request = request
        self._response: Response | None = None

    async def ask(self) -> ResponseReader:
        """Send the request; -> the head of its answer. Raises httpx.TransportError."""
        request = self._request
        content = await request.aread()
        headers = [header for header in request.headers.raw if header[0].lower() not in _FRAMING]
        method, length = request.method.encode("ascii"), len(content) if content else None
        message = encode_request(method, request.url.raw_path, headers, length) + content
        try:
            connection = await self._pool.connect(None)
        except Fault as fault:
            late = fault.kind is FaultKind.TIMEOUT
            raise _as(httpx.ConnectTimeout if late else httpx.ConnectError, fault, request) from fault
        reader = ResponseReader(method == b"HEAD")
        try:
            await connection.ask(reader, message, None)
        except Fault as fault:
            raise _as(_while_reading(fault), fault, request) from fault
        self._response = Response(self._pool, connection, reader)
        return reader

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert self._response is not None  # noqa: S101 - who reads has asked
        try:
            while data := await self._response.read():
                yield data
        except Fault as fault:
            raise _as(_while_reading(fault), fault, self._request) from fault

    async def aclose(self) -> None:
        """Be done with the answer, however much of it was read."""
        if self._response is not None:
            self._response.close()
        await self._transport.end(self._pool)


def _while_reading(fault: Fault) -> type[httpx.TransportError]:
    if fault.kind is FaultKind.TIMEOUT:
        return httpx.ReadTimeout
    # an end without an answer is one that is not whole
    broken = fault.kind in (FaultKind.PROTOCOL, FaultKind.PARTIAL) or fault.reason is Reason.CONNECTION_TERMINATED
    return httpx.RemoteProtocolError if broken else httpx.ReadError


def _as(kind: type[httpx.TransportError], fault: Fault, request: httpx.Request) -> httpx.TransportError:
    """The fault as httpx would raise it; `reason_of` finds ours behind it."""
    return kind(fault.detail or str(fault.reason), request=request)
