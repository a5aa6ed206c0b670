"""A WebSocket between its two sides: frames pass as they come, so that a message in pieces stays in pieces.

Pings are answered where they come in, and neither side can make the sidecar hold more than a bounded amount.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import cast

from websockets.exceptions import ProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

from sidecar.gate.codes import Code
from sidecar.net.limits import Limits, Patience

logger = logging.getLogger("sidecar.websocket")
logger.setLevel(logging.WARNING)

TOKEN_ENDED = 4401
"""Close code: the token that the handshake was decided by has ended."""
MAX_FRAGMENTS = 1024
"""Frames of one message; more are a flood (1008)."""
MAX_CONTROLS = 100
"""Pings and pongs of one side within `CONTROL_SECONDS`, or while it takes no answers; more are a flood (1008)."""
CONTROL_SECONDS = 1.0
PING_EVERY = 20.0
"""Seconds between two pings to each side; a side that says or takes nothing through two of them is given up."""
CLOSE_WITHIN = 5.0
"""Seconds for the closing handshake (RFC 6455 section 7.1.1)."""
TURN = 100
"""Frames that one side may have relayed before other connections get their turn."""
_PIECE = 2048  # bytes read between two looks at the number of frames
_RELAYED = {
    CloseCode.NO_STATUS_RCVD: None,  # a close frame without a code (RFC 6455 section 7.4.1)
    CloseCode.ABNORMAL_CLOSURE: CloseCode.BAD_GATEWAY,
}


_BUFFER = memoryview(bytearray(28 * 1024))
"""Of all legs: what is read into it is copied before anything else is read."""


class Leg(asyncio.BufferedProtocol):
    """One side of a relayed WebSocket: bytes of its transport <-> frames for the other leg. `slow` is told when this
    side begins to take nothing of what is said to it, and when it has caught up."""

    other: Leg

    def __init__(
        self, transport: asyncio.Transport, *, server: bool, max_message: int, loop: asyncio.AbstractEventLoop,
        slow: Callable[[bool], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.transport = transport
        self.protocol = Protocol(SERVER if server else CLIENT, state=OPEN, max_size=max_message, logger=logger)
        self.closed: asyncio.Future[None] = loop.create_future()
        self.blocked = False
        self._slow = slow
        self._patience = Patience(Limits())
        self._loop = loop
        self._unread = memoryview(b"")
        self._reading = False
        self._turn: asyncio.Handle | None = None
        self._failed = False
        self._heard = loop.time()
        self._unsent = 0
        self._fragments = 0
        self._controls = 0
        self._controls_since = self._heard
        self._closing: asyncio.TimerHandle | None = None

    def begin(self, tail: bytes) -> None:
        """Start with the bytes that have come already; the transport is paused, and this is its protocol."""
        if self.transport.is_closing():
            # its protocol before this one may have been told of its end
            self.connection_lost(None)
        else:
            self.data_received(tail)

    # --- what the transport says ---

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone: so goes the other leg's."""
        if self._closing is not None:
            self._closing.cancel()
        self._end()
        self._loop.call_soon(self.other.read)
        if not self.closed.done():
            self.closed.set_result(None)

    def eof_received(self) -> bool:
        """No more bytes will come; the transport closes itself when what is written has been taken."""
        self._end()
        self._expect_close()
        return False

    def _end(self) -> None:
        self._unread = memoryview(b"")
        with contextlib.suppress(EOFError):
            self.protocol.receive_eof()
        self._pass_close()

    def pause_writing(self) -> None:
        """This side is slow: let the other one wait."""
        self.blocked = True
        self._patience.begin(self._loop.time(), self.transport.get_write_buffer_size())
        self.other.settle()
        self._slow(True)

    def resume_writing(self) -> None:
        """This side has caught up."""
        self.blocked = False
        self._heard = self._loop.time()
        self._patience.credit(self._heard, self.transport.get_write_buffer_size())
        self._slow(False)
        self.other.read()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Read no more at once than may wait here."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.data_received(bytes(_BUFFER[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Read frames and hand them to the other leg."""
        if not self.blocked:
            self._heard = self._loop.time()
        self._unread = memoryview(bytes(self._unread) + data)
        self.read()

    # --- reading ---

    @property
    def takes(self) -> bool:
        """Return whether the other side may be read: what it says is written here, or dropped because this side
        ends."""
        return not self.blocked or self.protocol.state is not OPEN

    def read(self) -> None:
        """Relay what has come, in turns with other connections: frames of a few bytes are much work for little data."""
        frames = 0
        while self._unread and frames < TURN and self.other.takes:
            piece, self._unread = self._unread[:_PIECE], self._unread[_PIECE:]
            self.protocol.receive_data(bytes(piece))
            events = self.protocol.events_received()
            for event in events:
                self._relay(cast(Frame, event))
            frames += len(events)
        self.other.flush()
        self.flush()
        if self.protocol.close_expected():
            self._expect_close()
            self._pass_close()
        self.settle()
        if self._turn is not None:
            self._turn.cancel()
        self._turn = self._loop.call_soon(self.read) if self._unread and self.other.takes else None

    def settle(self) -> None:
        """Let the transport read if, and only if, there is nothing left to relay and the other side takes it."""
        wanted = not self._unread and self.other.takes
        if wanted is not self._reading and not self.transport.is_closing():
            self._reading = wanted
            (self.transport.resume_reading if wanted else self.transport.pause_reading)()

    def _relay(self, frame: Frame) -> None:
        if self._failed:
            return
        if frame.opcode in (Opcode.PING, Opcode.PONG):
            self._count_control()
        elif frame.opcode is not Opcode.CLOSE:
            self._fragments = 0 if frame.fin else self._fragments + 1
            if self._fragments > MAX_FRAGMENTS:
                self._fail("too many fragments")
            else:
                self.other.send(frame)

    def _count_control(self) -> None:
        now = self._loop.time()
        # answers to a side that takes none would pile up here, however slowly it asks
        if not self.blocked and now - self._controls_since > CONTROL_SECONDS:
            self._controls, self._controls_since = 0, now
        self._controls += 1
        if self._controls > MAX_CONTROLS:
            self._fail("too many control frames")

    def _fail(self, reason: str) -> None:
        """Close, and read nothing any more: a ping in a closing handshake would still be answered."""
        self._failed = True
        self.protocol.fail(CloseCode.POLICY_VIOLATION, reason)

    # --- what is said to this side ---

    def send(self, frame: Frame) -> None:
        """Pass a data frame of the other side on, with the next `flush`."""
        if self.protocol.state is OPEN:
            self.protocol.send_frame(Frame(frame.opcode, frame.data, frame.fin))

    def keep_alive(self, seconds: float) -> None:
        """Give this side up if it has shown no sign of life for so long; otherwise ask for one."""
        now, unsent = self._loop.time(), self.transport.get_write_buffer_size()
        # one that we do not read cannot be heard, and one that is slow answers a ping after all that stands before it
        alive = unsent < self._unsent if self.blocked else not self.other.takes
        self._heard = now if alive else self._heard
        self._unsent = unsent
        if now - self._heard > seconds or (self.blocked and not self._patience.credit(now, unsent)):
            self.transport.abort()
        elif self.blocked:
            self._patience.begin(now, unsent)
        elif self.protocol.state is OPEN:
            self.protocol.send_ping(b"")
            self.flush()

    def close(self, code: int | None, reason: str = "") -> None:
        """Begin the closing handshake with this side, unless it has begun."""
        if self.protocol.state is OPEN and not self.transport.is_closing():
            self._expect_close()
            try:
                self.protocol.send_close(code, reason)
            except ProtocolError:
                self.protocol.send_close(CloseCode.PROTOCOL_ERROR)
            self.flush()

    def flush(self) -> None:
        """Write what the protocol has to say; an empty piece ends our half of the connection."""
        said = self.protocol.data_to_send()
        if said and not self.transport.is_closing():
            self.transport.writelines([data for data in said if data])
            if not said[-1]:
                self._end_writing()

    def _end_writing(self) -> None:
        # a close with unread bytes would be a reset, and could take the close frame with it
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _expect_close(self) -> None:
        if self._closing is None:
            self._closing = self._loop.call_later(CLOSE_WITHIN, self.transport.abort)
            self._loop.call_soon(self.other.read)

    def _pass_close(self) -> None:
        """Tell the other side how this one ended, in the words that it used."""
        ended = self.protocol.close_rcvd or self.protocol.close_sent or Close(CloseCode.ABNORMAL_CLOSURE, "")
        code = _RELAYED[CloseCode(ended.code)] if ended.code in _RELAYED else ended.code
        self.other.close(code, ended.reason if code is not None else "")


StillAllowed = Callable[[], Awaitable[tuple[int, str] | None]]
"""Asks the gate again: None, or the close code and the reason with which both sides are to be closed."""


async def relay(
    client: Leg, upstream: Leg, *, ends_in: float | None, recheck: float, still_allowed: StillAllowed,
    ping_every: float = PING_EVERY,
) -> None:  # fmt: skip
    """Run both legs until both are closed. In `ends_in` seconds the token ends; every `recheck` seconds (0: never)
    the gate is asked again. A cancelled relay says 1001, going away, to both sides."""
    loop = asyncio.get_running_loop()
    timers = {loop.create_task(_keep_alive(client, upstream, ping_every))}
    if ends_in is not None:
        timers.add(loop.create_task(_end_after(ends_in, client, upstream)))
    if recheck:
        timers.add(loop.create_task(_recheck(recheck, still_allowed, client, upstream)))

    def timer_done(timer: asyncio.Task[None]) -> None:
        # fail closed: what is no longer watched may not go on
        if not timer.cancelled() and (error := timer.exception()) is not None:
            logger.error("a timer of a WebSocket failed, which ends it", exc_info=error)
            close_both(client, upstream, CloseCode.INTERNAL_ERROR, Code.INTERNAL_ERROR)

    for timer in timers:
        timer.add_done_callback(timer_done)
    try:
        await asyncio.wait([client.closed, upstream.closed])
    except asyncio.CancelledError:
        close_both(client, upstream, CloseCode.GOING_AWAY, "")
        raise
    finally:
        for timer in timers:
            timer.cancel()


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


async def _keep_alive(client: Leg, upstream: Leg, every: float) -> None:
    while True:
        await asyncio.sleep(every)
        for leg in (client, upstream):
            leg.keep_alive(2 * every)
