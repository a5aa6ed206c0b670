"""PEP: an HTTP request on its way, forwarded by a permit or refused, streaming both ways."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from sidecar.doors import answer
from sidecar.doors.caching import keep_private
from sidecar.doors.refusal import Refusals, send_whole
from sidecar.gate.codes import Code
from sidecar.gate.cors import ANSWER_HEADERS
from sidecar.gate.gate import Gate
from sidecar.gate.request import Raw
from sidecar.gate.trace import BeginTrace
from sidecar.gate.verdict import Forward, Preflight, Refuse, Refused
from sidecar.net.connection import Fault, FaultKind, Response
from sidecar.net.exchange import Incomplete
from sidecar.net.upstream import Upstream
from sidecar.record.journal import Journal, Outcome
from sidecar.wire.http1_request import Head

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

CLIENT_GONE = 499
"""The status in the log of a request whose client left before the answer; nginx's number for it."""

UPSTREAM_CODES = {
    FaultKind.UNAVAILABLE: Code.UPSTREAM_UNAVAILABLE,
    FaultKind.TIMEOUT: Code.UPSTREAM_TIMEOUT,
    FaultKind.PROTOCOL: Code.UPSTREAM_PROTOCOL,
    FaultKind.PARTIAL: Code.UPSTREAM_PARTIAL,
    FaultKind.OPEN: Code.UPSTREAM_OPEN,
    FaultKind.BUSY: Code.UPSTREAM_BUSY,
}


class ClientGone(Exception):
    """The client left before its body was complete, or before its answer was."""


class ClientBody:
    """The body of a request as it arrives: read whole for the gate, then given to the upstream as it came."""

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], receive: Receive) -> None:
        self.length: int | None = None
        self.expected = False
        for name, value in headers:
            if name == b"content-length":
                self.length, self.expected = int(value), True
            elif name == b"transfer-encoding":
                self.expected = True
        self.complete = not self.expected
        self._receive = receive
        self._held: list[bytes] = []

    async def read(self) -> bytes:
        """The next bytes, b"" at the end. Raises ClientGone."""
        if self._held:
            return self._held.pop(0)
        while not self.complete:
            data = await self._next()
            if data:
                return data
        return b""

    async def whole(self, limit: int) -> bytes:
        """All of the body, which stays here to be forwarded. Raises Refused: BODY_TOO_LARGE, BODY_INVALID."""
        size = 0
        while not self.complete:
            try:
                self._held.append(await self._next())
            except ClientGone:
                raise Refused(Code.BODY_INVALID, "the body broke off") from None
            size += len(self._held[-1])
            if size > limit:
                raise Refused(Code.BODY_TOO_LARGE, f"more than {limit} bytes")
        return b"".join(self._held)

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            raise ClientGone
        self.complete = not message.get("more_body", False)
        body: bytes = message.get("body", b"")
        return body


class Proxy:
    """Decides each request at the gate and does what the verdict says. `timer` gives monotonic seconds."""

    def __init__(
        self, gate: Gate, upstream: Upstream, journal: Journal, timer: Callable[[], float], new_id: Callable[[], str],
        refusals: Refusals, begin_trace: BeginTrace | None = None,
    ) -> None:  # fmt: skip
        self.gate = gate
        self._upstream = upstream
        self._journal = journal
        self._timer = timer
        self._new_id = new_id
        self._refusals = refusals
        self._begin_trace = begin_trace

    async def __call__(self, head: Head, peer: str, scheme: str, receive: Receive, send: Send) -> None:
        """Handle one request as `net/http_server.py` has read it."""
        started = self._timer()
        body = ClientBody(head.headers if head.length else [], receive)
        trace = self._begin_trace(head.headers) if self._begin_trace is not None else None
        raw = Raw(head.method, head.target, head.headers, peer, scheme, self._new_id(), False, trace)
        verdict = await self.gate.decide(raw, body.whole)
        if isinstance(verdict, Forward):
            await self._forward(verdict, raw, body, send, started)
        elif isinstance(verdict, Refuse):
            self._journal.record(Outcome(verdict, answer.status_of(verdict.told), self._timer() - started))
            await self._refusals.send(verdict, verdict.told, raw, send)
        else:
            await self._answer_preflight(verdict, send, started)

    async def _forward(self, permit: Forward, raw: Raw, body: ClientBody, send: Send, started: float) -> None:
        status, response = 500, None
        fault: Code | None = Code.INTERNAL_ERROR
        try:
            response = await self._upstream.send(permit, body if body.expected else None)
            status, fault = response.status, None
        except Fault as error:
            fault = UPSTREAM_CODES[error.kind]
            status = answer.status_of(fault)
        except ClientGone:
            status, fault = CLIENT_GONE, None
        except asyncio.CancelledError:
            status, fault = CLIENT_GONE, None
            raise
        finally:
            # one record whatever happened, a cancelled request included
            self._journal.record(Outcome(permit, status, self._timer() - started, fault))
        if fault is not None:
            await self._refusals.send(permit, fault, raw, send)
        elif response is not None:
            await self._relay(response, permit, send)

    async def _relay(self, response: Response, permit: Forward, send: Send) -> None:
        headers = response.headers
        if permit.reply_headers:
            headers = [pair for pair in headers if pair[0] not in ANSWER_HEADERS] + list(permit.reply_headers)
        if permit.privacy is not None:
            headers = keep_private(headers, permit.privacy)
        if permit.cookies:
            headers = [*headers, *((b"set-cookie", cookie) for cookie in permit.cookies)]
        if response.length is not None:
            headers = [*headers, (b"content-length", str(response.length).encode("ascii"))]
        try:
            if response.complete:
                made = answer.Answer(response.status, headers, response.whole())
                # the client may be slow, and the upstream has done its part
                response.close()
                await send_whole(made, send)
                return
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            while True:
                data = await response.read()
                if not data:
                    break
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientGone:
            raise Incomplete("the client left during its upload") from None
        except Fault as error:
            self._journal.broken_off(permit.facts, UPSTREAM_CODES[error.kind])
            raise Incomplete(error.kind) from None
        finally:
            response.close()

    async def _answer_preflight(self, verdict: Preflight, send: Send, started: float) -> None:
        self._journal.record(Outcome(verdict, 204, self._timer() - started))
        await send_whole(answer.Answer(204, list(verdict.headers), b""), send)


def raw_of(scope: Scope, request_id: str, begin_trace: BeginTrace | None = None) -> Raw:
    """The request of an ASGI http scope that `net/http_server.py` made."""
    client = scope["client"]
    peer = client[0] if client else ""
    trace = begin_trace(scope["headers"]) if begin_trace is not None else None
    return Raw(scope["method"], scope["raw_target"], scope["headers"], peer, scope["scheme"], request_id, False, trace)
