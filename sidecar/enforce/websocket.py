"""PEP for a WebSocket: decided at the handshake by the same gate, then relayed until it ends or may not go on.

Frames are relayed as they come, so that a message in pieces stays in pieces; pings are answered where they come in.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import cast

from websockets.exceptions import ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

from sidecar.clients.pool import Fault, Pool, Upgraded
from sidecar.enforce import answer
from sidecar.enforce.proxy import CLIENT_GONE, UPSTREAM_CODES, Receive, Scope, Send, raw_of, refuse
from sidecar.enforce.server import UPGRADE
from sidecar.gate.gate import Clock, Gate
from sidecar.gate.request import Header, Raw
from sidecar.gate.verdict import Code, Forward, Preflight, Refuse
from sidecar.journal import Journal, Outcome

logger = logging.getLogger("sidecar.websocket")
logger.setLevel(logging.WARNING)

TOKEN_ENDED = 4401
"""Close code: the token that the handshake was decided by has ended."""
NOT_ALLOWED = 4403
"""Close code: the gate was asked again, and its answer is no longer an allow."""
MAX_MESSAGE = 1024 * 1024
MAX_FRAGMENTS = 1024
"""Frames of one message; more are a flood (1008)."""
MAX_CONTROLS = 100
"""Pings and pongs of one side within `CONTROL_SECONDS`; more are a flood (1008)."""
CONTROL_SECONDS = 1.0
PING_EVERY = 20.0
"""Seconds between two pings to each side; a side that says nothing through two of them is given up."""
CLOSE_WITHIN = 5.0
"""Seconds for the closing handshake (RFC 6455 section 7.1.1)."""
_RELAYED = {
    CloseCode.NO_STATUS_RCVD: None,  # a close frame without a code (RFC 6455 section 7.4.1)
    CloseCode.ABNORMAL_CLOSURE: CloseCode.BAD_GATEWAY,
    CloseCode.TLS_HANDSHAKE: CloseCode.BAD_GATEWAY,
}


class Leg(asyncio.Protocol):
    """One side of a relayed WebSocket: bytes of its transport <-> frames for the other leg."""

    other: Leg
    transport: asyncio.Transport

    def __init__(self, server: bool, max_message: int, loop: asyncio.AbstractEventLoop) -> None:
        side = SERVER if server else CLIENT
        self.protocol = Protocol(side, state=OPEN, max_size=max_message, logger=logger)
        self.closed: asyncio.Future[None] = loop.create_future()
        self.heard = loop.time()
        self._loop = loop
        self._fragments = 0
        self._controls = 0
        self._controls_since = self.heard
        self._closing: asyncio.TimerHandle | None = None

    def attach(self, transport: asyncio.Transport) -> None:
        """Use `transport`, whose protocol this becomes."""
        self.transport = transport

    # --- what the transport says ---

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: so goes the other leg's."""
        if self._closing is not None:
            self._closing.cancel()
        with contextlib.suppress(EOFError):
            self.protocol.receive_eof()
        if not self.closed.done():
            self.closed.set_result(None)
        self._pass_close()

    def eof_received(self) -> bool:
        """No more bytes will come; the transport closes itself."""
        return False

    def pause_writing(self) -> None:
        """This side is slow: let the other one wait."""
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This side has caught up."""
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Read frames and hand them to the other leg."""
        if self.protocol.reader.eof:
            return
        self.heard = self._loop.time()
        self.protocol.receive_data(data)
        for event in self.protocol.events_received():
            self._relay(cast(Frame, event))
        self.flush()
        if self.protocol.close_expected():
            self._expect_close()
            self._pass_close()

    def _relay(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            self._count_control()
        elif frame.opcode is not Opcode.CLOSE:
            self._fragments = 0 if frame.fin else self._fragments + 1
            if self._fragments > MAX_FRAGMENTS:
                self.close(CloseCode.POLICY_VIOLATION, "too many fragments")
            else:
                self.other.send(frame)

    def _count_control(self) -> None:
        if self.heard - self._controls_since > CONTROL_SECONDS:
            self._controls, self._controls_since = 0, self.heard
        self._controls += 1
        if self._controls > MAX_CONTROLS:
            self.close(CloseCode.POLICY_VIOLATION, "too many control frames")

    # --- what is said to this side ---

    def send(self, frame: Frame) -> None:
        """Pass a data frame of the other side on."""
        if self.protocol.state is OPEN:
            self.protocol.send_frame(Frame(frame.opcode, frame.data, frame.fin))
            self.flush()

    def ping(self) -> None:
        """Ask whether this side is still there."""
        if self.protocol.state is OPEN:
            self.protocol.send_ping(b"")
            self.flush()

    def close(self, code: int | None, reason: str = "") -> None:
        """Begin the closing handshake with this side, unless it has begun."""
        if self.protocol.state is OPEN and not self.transport.is_closing():
            try:
                self.protocol.send_close(code, reason)
            except ProtocolError:
                self.protocol.send_close(CloseCode.PROTOCOL_ERROR)
            self.flush()
            self._expect_close()

    def flush(self) -> None:
        """Write what the protocol has to say; an empty piece ends our half of the connection."""
        for data in self.protocol.data_to_send():
            if data:
                self.transport.write(data)
            elif not self.transport.is_closing():
                self.transport.close()

    def _expect_close(self) -> None:
        if self._closing is None:
            self._closing = self._loop.call_later(CLOSE_WITHIN, self.transport.abort)

    def _pass_close(self) -> None:
        """Tell the other side how this one ended, in the words that it used."""
        ended = self.protocol.close_rcvd or self.protocol.close_sent or Close(CloseCode.ABNORMAL_CLOSURE, "")
        code = _RELAYED.get(CloseCode(ended.code), ended.code) if ended.code in _RELAYED else ended.code
        self.other.close(code, ended.reason if code is not None else "")


StillAllowed = Callable[[], Awaitable[tuple[int, str] | None]]
"""Asks the gate again: None, or the close code and the reason with which both sides are to be closed."""


async def relay(
    client: Leg, upstream: Leg, *, ends_in: float | None, recheck: float, still_allowed: StillAllowed
) -> None:
    """Run both legs until both are closed. In `ends_in` seconds the token ends; every `recheck` seconds (0: never)
    the gate is asked again. A cancelled relay says 1001, going away, to both sides."""
    loop = asyncio.get_running_loop()
    client.other, upstream.other = upstream, client
    timers = {loop.create_task(_keep_alive(client, upstream, loop))}
    if ends_in is not None:
        timers.add(loop.create_task(_end_after(ends_in, client, upstream)))
    if recheck:
        timers.add(loop.create_task(_recheck(recheck, still_allowed, client, upstream)))
    try:
        await asyncio.wait([client.closed, upstream.closed])
    except asyncio.CancelledError:
        close_both(client, upstream, CloseCode.GOING_AWAY, "")
        raise
    finally:
        for task in timers:
            task.cancel()


def close_both(client: Leg, upstream: Leg, code: int, reason: str) -> None:
    """Begin the closing handshake with both sides."""
    client.close(code, reason)
    upstream.close(code, reason)


async def _end_after(seconds: float, client: Leg, upstream: Leg) -> None:
    await asyncio.sleep(seconds)
    close_both(client, upstream, TOKEN_ENDED, Code.TOKEN_EXPIRED)


async def _recheck(every: float, still_allowed: StillAllowed, client: Leg, upstream: Leg) -> None:
    while True:
        await asyncio.sleep(every)
        ended = await still_allowed()
        if ended is not None:
            close_both(client, upstream, *ended)
            return


async def _keep_alive(client: Leg, upstream: Leg, loop: asyncio.AbstractEventLoop) -> None:
    while True:
        await asyncio.sleep(PING_EVERY)
        for leg in (client, upstream):
            if loop.time() - leg.heard > 2 * PING_EVERY:
                leg.transport.abort()
            leg.ping()


# --- the handshake ---

_KEY_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_TOKEN_IN_PROTOCOL = re.compile(rb"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]*")


def accept_of(key: bytes) -> bytes:
    """The Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _KEY_SALT, usedforsecurity=False).digest())


def offered_protocols(value: bytes) -> bytes:
    """The subprotocols that a client offers, without tokens, which some put there and every log would show."""
    offers = [offer.strip() for offer in value.split(b",")]
    return b", ".join(offer for offer in offers if offer and not _TOKEN_IN_PROTOCOL.fullmatch(offer))


def handshake_headers(headers: tuple[Header, ...], key: bytes) -> list[Header]:
    """The permit's headers as a handshake of our own: our key, no extensions, no token among the subprotocols."""
    kept = [pair for pair in headers if not pair[0].startswith(b"sec-websocket-")]
    offers = offered_protocols(b", ".join(value for name, value in headers if name == b"sec-websocket-protocol"))
    return [
        *kept,
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", key),
        *([(b"sec-websocket-protocol", offers)] if offers else []),
    ]


class WebSocketDoor:
    """Decides each handshake at the gate, then relays. `now` gives Unix seconds, `timer` monotonic ones."""

    def __init__(
        self, gate: Gate, upstream: Pool, journal: Journal, *, now: Clock, timer: Clock, new_id: Callable[[], str],
        max_message: int = MAX_MESSAGE,
    ) -> None:  # fmt: skip
        self.gate = gate
        self._upstream = upstream
        self._journal = journal
        self._now = now
        self._timer = timer
        self._new_id = new_id
        self._max_message = max_message

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one valid handshake: an http scope of `enforce/server.py` with the extension UPGRADE."""
        started = self._timer()
        raw = raw_of(scope, self._new_id())._replace(websocket=True)
        verdict = await self.gate.decide(raw, _no_body)
        match verdict:
            case Forward():
                await self._connect(verdict, raw, scope, send, started)
            case Refuse(code=code, facts=facts):
                self._journal.record(Outcome(verdict, answer.status_of(code), self._timer() - started))
                await refuse(code, facts, raw, send, verdict.methods, verdict.reply_headers)
            case Preflight():
                raise AssertionError("a handshake is a GET, and a preflight is not")

    async def _connect(self, permit: Forward, raw: Raw, scope: Scope, send: Send, started: float) -> None:
        key = base64.b64encode(secrets.token_bytes(16))
        loop = asyncio.get_running_loop()
        upstream_leg = Leg(False, self._max_message, loop)
        status, fault, opened = CLIENT_GONE, None, None
        try:
            opened = await self._upstream.upgrade(permit, handshake_headers(permit.headers, key))
            status = opened.status
            if status == SWITCHING_PROTOCOLS and not _is_accepted(opened.headers, key, permit.headers):
                opened.transport.abort()
                fault = Code.UPSTREAM_PROTOCOL
        except Fault as error:
            fault = UPSTREAM_CODES[error.kind]
        finally:
            status = answer.status_of(fault) if fault is not None else status
            self._journal.record(Outcome(permit, status, self._timer() - started, fault))
        if fault is not None or opened is None:
            await refuse(fault or Code.INTERNAL_ERROR, permit.facts, raw, send, (), permit.reply_headers)
        elif status != SWITCHING_PROTOCOLS:
            opened.transport.abort()
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            try:
                await self._run(permit, raw, scope, opened, upstream_leg)
            finally:
                # the client may have left before its side could be taken
                opened.transport.close()

    async def _run(self, permit: Forward, raw: Raw, scope: Scope, opened: Upgraded, upstream_leg: Leg) -> None:
        upgrade = scope["extensions"][UPGRADE]
        client_leg = Leg(True, self._max_message, asyncio.get_running_loop())
        client_leg.other, upstream_leg.other = upstream_leg, client_leg
        upstream_leg.attach(opened.transport)
        client_leg.attach(upgrade.take())
        client_leg.transport.write(_switching(raw.headers, opened.headers))
        for leg, transport, tail in (
            (client_leg, upgrade, upgrade.tail),
            (upstream_leg, opened.transport, opened.tail),
        ):
            transport.set_protocol(leg)
            if tail:
                leg.data_received(tail)
            leg.transport.resume_reading()
        ends_in = None if permit.expires is None else max(0.0, permit.expires - self._now())
        await relay(
            client_leg, upstream_leg, ends_in=ends_in, recheck=permit.recheck,
            still_allowed=functools.partial(self._still_allowed, raw),
        )  # fmt: skip

    async def _still_allowed(self, raw: Raw) -> tuple[int, str] | None:
        verdict = await self.gate.decide(raw._replace(request_id=self._new_id()), _no_body)
        match verdict:
            case Forward():
                return None
            case Refuse(code=code):
                # a closed WebSocket is an answer too: what could not be decided is refused
                self._journal.record(Outcome(verdict, answer.status_of(code), 0.0))
                ended = code in (Code.TOKEN_EXPIRED, Code.TOKEN_INVALID, Code.TOKEN_MISSING)
                return (TOKEN_ENDED if ended else NOT_ALLOWED), code
            case Preflight():
                raise AssertionError("a handshake is a GET, and a preflight is not")


SWITCHING_PROTOCOLS = 101


async def _no_body(limit: int) -> bytes:
    return b""


def _is_accepted(answered: list[Header], key: bytes, asked: tuple[Header, ...]) -> bool:
    """RFC 6455 section 4.1: upgrade, connection, the accept of our key, no extension, and an offered subprotocol."""

    def values(name: bytes) -> list[bytes]:
        return [value.strip() for key, value in answered if key == name]

    offers = offered_protocols(b", ".join(value for name, value in asked if name == b"sec-websocket-protocol"))
    protocols = values(b"sec-websocket-protocol")
    return (
        [value.lower() for value in values(b"upgrade")] == [b"websocket"]
        and [value.lower() for value in values(b"connection")] == [b"upgrade"]
        and values(b"sec-websocket-accept") == [accept_of(key)]
        and not values(b"sec-websocket-extensions")
        and (not protocols or (len(protocols) == 1 and protocols[0] in offers.split(b", ")))
    )


def _switching(asked: list[Header], answered: list[Header]) -> bytes:
    key = next(value for name, value in asked if name == b"sec-websocket-key")
    protocol = next((value for name, value in answered if name == b"sec-websocket-protocol"), None)
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"upgrade: websocket",
        b"connection: Upgrade",
        b"sec-websocket-accept: " + accept_of(key),
        *([b"sec-websocket-protocol: " + protocol] if protocol is not None else []),
        b"\r\n",
    ]
    return b"\r\n".join(lines)
