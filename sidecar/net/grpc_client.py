"""A client of gRPC for one server: connects when there is a call to make, with prior knowledge (RFC 9113 section 3.3)
or over TLS.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from sidecar.net.faults import reason_of, said_by
from sidecar.net.grpc_client_connection import AwaitedCall, C, ClientConnection, GrpcMethod, UnaryCall
from sidecar.record.reasons import Reason
from sidecar.wire.grpc import CallFailed, Status
from sidecar.wire.hpack import Field

CONNECT_WITHIN = 1.0
"""Seconds for a connection, until the server has said its settings."""


class Unreachable(CallFailed):
    """There is no connection for a call."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(Status.UNAVAILABLE, f"{reason}: {detail}")
        self.reason = reason
        self.more = detail


class Channel:
    """Calls to a server at `host:port` or `unix:/path`; a connection is opened when one is needed.

    Calls of the method `indexed` are the cheapest. With `tls`, which agrees on `h2`, a port is asked over TLS.
    """

    def __init__(self, target: str, indexed: GrpcMethod, tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self._indexed = indexed
        self._connection: ClientConnection | None = None
        self._opening: asyncio.Task[ClientConnection] | None = None
        self._closed = False

    async def call(self, method: GrpcMethod, message: bytes, deadline: float, headers: Sequence[Field] = ()) -> bytes:
        """Call with a message, wait for the answer's until `deadline` in the loop's time. `headers` go with this call,
        besides the method's. Raises CallFailed."""
        call = AwaitedCall(method, message, deadline, headers)
        await self.start_later(call)
        return await call.result()

    def start_together(self, calls: Sequence[C]) -> Sequence[C]:
        """Start calls now, in one piece of output; return those for which there is no connection, or no room on it."""
        connection = self._connection
        return calls if connection is None or not connection.usable else connection.start_together(calls)

    async def start_later(self, call: UnaryCall) -> None:
        """Start a call when there is a connection with room for it, until its deadline, unless it is over by then.
        Raises CallFailed."""
        connection = self._connection
        if connection is None or not connection.usable:
            connection = await self._connect(call.deadline)
        await connection.start_later(call)

    async def _connect(self, deadline: float) -> ClientConnection:
        if self._closed:
            raise CallFailed(Status.UNAVAILABLE, "the channel is closed")
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            self._opening.add_done_callback(self._opened)
        opening = self._opening
        # not awaited itself: one who leaves does not take the connection from the others
        await asyncio.wait([opening], timeout=max(deadline - asyncio.get_running_loop().time(), 0.0))
        if not opening.done():
            raise CallFailed(Status.DEADLINE_EXCEEDED, "no connection in time")
        if opening.cancelled():
            raise CallFailed(Status.UNAVAILABLE, "the channel is closed")
        error = opening.exception()
        # one of its own for each: whoever raises it adds to its traceback
        if isinstance(error, Unreachable):
            raise Unreachable(error.reason, error.more)
        if isinstance(error, CallFailed):
            raise CallFailed(error.status, error.detail)
        return opening.result()

    def _opened(self, opening: asyncio.Task[ClientConnection]) -> None:
        self._opening = None
        # everybody who waited may have left: then nobody else takes note of what it raised
        if not opening.cancelled() and opening.exception() is None:
            self._connection = opening.result()

    async def _open(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        connection = ClientConnection(loop, self._indexed)
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                if self._target.startswith("unix:"):
                    await loop.create_unix_connection(lambda: connection, self._target.removeprefix("unix:"))
                else:
                    host, _, port = self._target.rpartition(":")
                    await loop.create_connection(lambda: connection, host.strip("[]"), int(port), ssl=self._tls)
                    self._require_h2(connection.transport)
                await connection.ready
        except TimeoutError:
            raise Unreachable(Reason.CONNECTION_TIMEOUT, f"no connection within {CONNECT_WITHIN:g} s") from None
        except (OSError, ValueError) as error:
            raise Unreachable(reason_of(error), said_by(error)) from None
        finally:
            if not connection.usable:
                connection.close()
        return connection

    def _require_h2(self, transport: asyncio.Transport) -> None:
        if self._tls is None:
            return
        tls = transport.get_extra_info("ssl_object")
        if tls is None or tls.selected_alpn_protocol() != "h2":
            raise CallFailed(Status.UNAVAILABLE, "a server whose TLS does not agree on h2 (RFC 9113 section 3.3)")

    async def aclose(self) -> None:
        """Close; what is under way fails."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()
            # the transport tells its protocol in the loop's next turn
            await asyncio.sleep(0)
