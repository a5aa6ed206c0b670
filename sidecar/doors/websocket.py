"""PEP for a WebSocket: decided at the handshake by the same gate, then relayed until it ends or may not go on."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable
from http import HTTPStatus

from sidecar.doors import answer
from sidecar.doors.caching import keep_private
from sidecar.doors.proxy import CLIENT_GONE, UPSTREAM_CODES, Receive, Scope, Send, raw_of
from sidecar.doors.refusal import Refusals
from sidecar.doors.relay import MAX_MESSAGE, TOKEN_ENDED, Leg, relay
from sidecar.gate.codes import Code
from sidecar.gate.gate import Clock, Gate
from sidecar.gate.request import Raw
from sidecar.gate.trace import BeginTrace
from sidecar.gate.verdict import Forward, Preflight, Refuse
from sidecar.net.connection import Fault
from sidecar.net.owners import Places
from sidecar.net.upgrade import UPGRADE
from sidecar.net.upstream import Upgraded, Upstream
from sidecar.record.journal import Journal, Outcome
from sidecar.wire.grammar import Header

NOT_ALLOWED = 4403
"""Close code: the gate was asked again, and its answer is no longer an allow."""
_KEY_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
# a token signed (RFC 7515) or encrypted (RFC 7516), alone or behind a prefix
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{16,}\.(?:[A-Za-z0-9_-]{16,})?\.")
_MAX_NAME = 100
"""Bytes of a subprotocol's name; what is longer is taken for a token of another kind."""


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _KEY_SALT, usedforsecurity=False).digest())


def offered_protocols(headers: Iterable[Header]) -> list[bytes]:
    """The subprotocols that a client offers, without tokens, which some put there and every log would show."""
    value = b",".join(value for name, value in headers if name == b"sec-websocket-protocol")
    offers = [offer.strip() for offer in value.split(b",")]
    return [offer for offer in offers if offer and len(offer) <= _MAX_NAME and not _TOKEN.search(offer)]


def handshake_headers(headers: tuple[Header, ...], key: bytes) -> list[Header]:
    """The permit's headers as a handshake of our own: our key, no extensions, no token among the subprotocols."""
    kept = [pair for pair in headers if not pair[0].startswith(b"sec-websocket-")]
    offers = offered_protocols(headers)
    return [
        *kept,
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", key),
        *([(b"sec-websocket-protocol", b", ".join(offers))] if offers else []),
    ]


class WebSocketDoor:
    """Decides each handshake at the gate, then relays. `now` gives Unix seconds, `timer` monotonic ones."""

    def __init__(
        self, gate: Gate, upstream: Upstream, journal: Journal, *, now: Clock, timer: Clock, new_id: Callable[[], str],
        refusals: Refusals, places: Places, max_message: int = MAX_MESSAGE, begin_trace: BeginTrace | None = None,
    ) -> None:  # fmt: skip
        self.gate = gate
        self._upstream = upstream
        self._journal = journal
        self._now = now
        self._timer = timer
        self._new_id = new_id
        self._refusals = refusals
        self._places = places
        self._max_message = max_message
        self._begin_trace = begin_trace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one valid handshake: an http scope of `net/http_server.py` with the extension UPGRADE."""
        started = self._timer()
        raw = raw_of(scope, self._new_id(), self._begin_trace)._replace(websocket=True)
        verdict = await self.gate.decide(raw, _no_body)
        match verdict:
            case Forward():
                await self._place(verdict, raw, scope, send, started)
            case Refuse(told=code):
                self._journal.record(Outcome(verdict, answer.status_of(code), self._timer() - started))
                await self._refusals.send(verdict, code, raw, send)
            case Preflight():
                raise AssertionError("a handshake is a GET, and a preflight is not")

    async def _place(self, permit: Forward, raw: Raw, scope: Scope, send: Send, started: float) -> None:
        owners = self._places.take(permit)
        if owners is None:
            busy = Code.UPSTREAM_BUSY
            self._journal.record(Outcome(permit, answer.status_of(busy), self._timer() - started, busy))
            await self._refusals.send(permit, busy, raw, send)
            return
        try:
            await self._connect(permit, raw, scope, send, started)
        finally:
            self._places.give_back(owners)

    async def _connect(self, permit: Forward, raw: Raw, scope: Scope, send: Send, started: float) -> None:
        key = base64.b64encode(secrets.token_bytes(16))
        opened = None
        fault: Code | None = Code.INTERNAL_ERROR
        try:
            opened = await self._upstream.upgrade(permit, handshake_headers(permit.headers, key))
            status, fault = opened.status, None
            if status == SWITCHING_PROTOCOLS and not _is_accepted(opened.headers, key, permit.headers):
                opened.transport.abort()
                fault = Code.UPSTREAM_PROTOCOL
        except Fault as error:
            fault = UPSTREAM_CODES[error.kind]
        except asyncio.CancelledError:
            status, fault = CLIENT_GONE, None
            raise
        finally:
            # one record whatever happened, a cancelled handshake included
            status = answer.status_of(fault) if fault is not None else status
            self._journal.record(Outcome(permit, status, self._timer() - started, fault))
        if fault is not None or opened is None:
            await self._refusals.send(permit, fault or Code.INTERNAL_ERROR, raw, send)
        elif status != SWITCHING_PROTOCOLS:
            opened.transport.abort()
            headers = [(b"content-length", b"0")]
            if permit.privacy is not None:
                headers = keep_private(headers, permit.privacy)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            try:
                await self._run(permit, raw, scope, opened)
            finally:
                # the client may have left before its side could be taken
                opened.transport.close()

    async def _run(self, permit: Forward, raw: Raw, scope: Scope, opened: Upgraded) -> None:
        upgrade = scope["extensions"][UPGRADE]
        leg = functools.partial(Leg, max_message=self._max_message, loop=asyncio.get_running_loop())
        client = leg(upgrade.take(), server=True, slow=upgrade.slow)
        upstream = leg(opened.transport, server=False)
        client.other, upstream.other = upstream, client
        client.transport.write(_switching(raw.headers, opened.headers, permit.cookies))
        upgrade.set_protocol(client)
        opened.transport.set_protocol(upstream)
        client.begin(upgrade.tail)
        upstream.begin(opened.tail)
        ends_in = None if permit.expires is None else max(0.0, permit.expires - self._now())
        await relay(
            client, upstream, ends_in=ends_in, recheck=permit.recheck,
            still_allowed=functools.partial(self._still_allowed, raw),
        )  # fmt: skip

    async def _still_allowed(self, raw: Raw) -> tuple[int, str] | None:
        verdict = await self.gate.decide(raw._replace(request_id=self._new_id(), trace=None), _no_body)
        match verdict:
            case Forward():
                return None
            case Refuse(told=code):
                # a closed WebSocket is an answer too: what could not be decided is refused
                self._journal.record(Outcome(verdict, answer.status_of(code), 0.0))
                return (TOKEN_ENDED if answer.status_of(code) == HTTPStatus.UNAUTHORIZED else NOT_ALLOWED), code
            case Preflight():
                raise AssertionError("a handshake is a GET, and a preflight is not")


SWITCHING_PROTOCOLS = 101


async def _no_body(limit: int) -> bytes:
    return b""


def _is_accepted(answered: list[Header], key: bytes, asked: tuple[Header, ...]) -> bool:
    """RFC 6455 section 4.1: upgrade, connection, the accept of our key, no extension, and an offered subprotocol."""

    def values(name: bytes) -> list[bytes]:
        return [value.strip() for key, value in answered if key == name]

    tokens = [token.strip().lower() for value in values(b"connection") for token in value.split(b",")]
    protocols = values(b"sec-websocket-protocol")
    return (
        [value.lower() for value in values(b"upgrade")] == [b"websocket"]
        and b"upgrade" in tokens
        and values(b"sec-websocket-accept") == [accept_of(key)]
        and not values(b"sec-websocket-extensions")
        and (not protocols or (len(protocols) == 1 and protocols[0] in offered_protocols(asked)))
    )


def _switching(asked: Iterable[Header], answered: list[Header], cookies: tuple[bytes, ...]) -> bytes:
    key = next(value for name, value in asked if name == b"sec-websocket-key")
    protocol = next((value for name, value in answered if name == b"sec-websocket-protocol"), None)
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"upgrade: websocket",
        b"connection: Upgrade",
        b"sec-websocket-accept: " + accept_of(key),
        *([b"sec-websocket-protocol: " + protocol] if protocol is not None else []),
        *(b"set-cookie: " + cookie for cookie in cookies),
        b"\r\n",
    ]
    return b"\r\n".join(lines)
