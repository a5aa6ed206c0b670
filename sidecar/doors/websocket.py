"""PEP for WebSockets: the gate decides the handshake, then messages are relayed until the end or a later refusal."""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import re
import secrets
from collections.abc import Iterable
from http import HTTPStatus

from sidecar.doors.answer import Answer, status_of
from sidecar.doors.app_answer import report_fault
from sidecar.doors.door import Door, Receive, Scope, Visit, raw_of_scope
from sidecar.doors.proxy import CLIENT_GONE
from sidecar.doors.refusal import Send, send_whole
from sidecar.gate.body import no_body
from sidecar.gate.codes import Code
from sidecar.gate.obligation import HeldAnswer
from sidecar.gate.settle import Released, settle
from sidecar.gate.verdict import Forward, Preflight, Refuse
from sidecar.net.connection import Fault
from sidecar.net.owners import Places
from sidecar.net.upgrade import UPGRADE
from sidecar.net.upstream import Handshake, Upgraded, Upstream
from sidecar.record.reasons import Reason
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


class WebSocketDoor:
    """Decides each handshake at the gate, then relays what is no answer any more, and of which it holds nothing."""

    def __init__(self, door: Door, upstream: Upstream, places: Places, *, max_message: int) -> None:
        self._door = door
        self._upstream = upstream
        self._places = places
        self._max_message = max_message

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one valid handshake: an http scope of `net/http_connection.py` with the extension UPGRADE."""
        door = self._door
        started, raw = door.timer(), raw_of_scope(scope, door.new_id())._replace(websocket=True)
        visit = Visit(door.traced(raw), started)
        permit = await door.admit(visit, no_body)
        if isinstance(permit, Forward):
            await self._place(permit, visit, scope, send)
        else:
            await send_whole(permit, send)

    async def _place(self, permit: Forward, visit: Visit, scope: Scope, send: Send) -> None:
        owners = self._places.take(permit)
        if owners is None:
            self._door.record(visit, permit, status_of(Code.UPSTREAM_BUSY), Code.UPSTREAM_BUSY)
            await self._fail(permit, Code.UPSTREAM_BUSY, visit, send)
            return
        try:
            await self._connect(permit, visit, scope, send)
        finally:
            self._places.give_back(owners)

    async def _fail(self, permit: Forward, fault: Code, visit: Visit, send: Send) -> None:
        await send_whole(self._door.refusals.whole(permit, fault, visit.raw), send)

    async def _connect(self, permit: Forward, visit: Visit, scope: Scope, send: Send) -> None:
        key = base64.b64encode(secrets.token_bytes(16))
        opened, detail = None, ""
        settled: Released | Refuse | None = None
        fault: Code | None = Code.INTERNAL_ERROR
        try:
            opened = await self._upstream.upgrade(permit, Handshake(key, tuple(offered_protocols(permit.headers))))
            status, fault = opened.status, None
            if status != SWITCHING_PROTOCOLS:
                opened.transport.abort()
                settled = settle(permit, HeldAnswer(status, [(b"content-length", b"0")]))
                if isinstance(settled, Refuse):
                    fault, detail = settled.code, settled.detail
            else:
                _require_accepted(opened, key, permit.headers)
        except Fault as error:
            fault, detail = report_fault(self._door, self._upstream, permit, error)
        except asyncio.CancelledError:
            status, fault = CLIENT_GONE, None
            raise
        finally:
            # one record whatever happened, a cancelled handshake included
            status = status_of(fault) if fault is not None else status
            said = opened.status if opened is not None else None
            self._door.record(visit, permit, status, fault, detail, said)
        if fault is not None or opened is None:
            await self._fail(permit, fault or Code.INTERNAL_ERROR, visit, send)
        elif isinstance(settled, Released):
            cookies = [(b"set-cookie", cookie) for cookie in permit.cookies]
            await send_whole(Answer(settled.status, [*settled.headers, *cookies], b""), send)
        else:
            try:
                await self._run(permit, visit, scope, opened)
            finally:
                # the client may have left before its side could be taken
                opened.transport.close()

    async def _run(self, permit: Forward, visit: Visit, scope: Scope, opened: Upgraded) -> None:
        # at the first WebSocket: to load the library takes 10 ms of a start
        from sidecar.doors.relay import Leg, relay

        upgrade = scope["extensions"][UPGRADE]
        leg = functools.partial(Leg, max_message=self._max_message, loop=asyncio.get_running_loop())
        client = leg(upgrade.take(), server=True, slow=upgrade.slow)
        upstream = leg(opened.transport, server=False)
        client.other, upstream.other = upstream, client
        client.transport.write(_switching(visit.raw.headers, opened.headers, permit.cookies))
        upgrade.set_protocol(client)
        opened.transport.set_protocol(upstream)
        client.begin(upgrade.tail)
        upstream.begin(opened.tail)
        ends_in = None if permit.expires is None else max(0.0, permit.expires - self._door.now())
        await relay(
            client, upstream, ends_in=ends_in, recheck=permit.recheck,
            still_allowed=functools.partial(self._still_allowed, visit),
        )  # fmt: skip

    async def _still_allowed(self, visit: Visit) -> tuple[int, str] | None:
        door = self._door
        again = Visit(visit.raw._replace(request_id=door.new_id(), trace=None), door.timer())
        verdict = await door.gate.decide(again.raw, no_body)
        match verdict:
            case Forward():
                return None
            case Refuse(client_code=code):
                # a closed WebSocket is an answer too: what could not be decided is refused
                door.record(again, verdict, status_of(code))
                from sidecar.doors.relay import TOKEN_ENDED

                return (TOKEN_ENDED if status_of(code) == HTTPStatus.UNAUTHORIZED else NOT_ALLOWED), code
            case Preflight():
                raise AssertionError("a handshake is a GET, and a preflight is not")


SWITCHING_PROTOCOLS = 101


def _require_accepted(opened: Upgraded, key: bytes, asked: tuple[Header, ...]) -> None:
    """Raise Fault for an answer to another handshake, and close its connection."""
    if not _is_accepted(opened.headers, key, asked):
        opened.transport.abort()
        raise Fault(Reason.HTTP_UPGRADE_FAILED)


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
