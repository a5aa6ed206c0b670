"""One client's connection: whose turn it is, when reading pauses, and how it ends, with a limit to all of it.

The app is started only for a request that has one reading. What a client sends is read by `wire/http1_request.py`, and
what the app says is written by `net/exchange.py`.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast
from urllib.parse import unquote

import uvicorn
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from sidecar.gate.codes import Code
from sidecar.net.early_answer import problem, refusal_of
from sidecar.net.exchange import App, Cycle, Message
from sidecar.net.limits import Crowd, Drain, Limits, Patience, Timed, ticker_of
from sidecar.net.upgrade import UPGRADE, Upgrade
from sidecar.wire.http1_request import BadRequest, BodyReader, Head, HeadReader, body_of

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Serve = Callable[[Head, str, str, Receive, Send], Awaitable[None]]
"""Takes a request as it was read: (head, the client's address or "", scheme, receive and send of ASGI)."""


class Direct(Protocol):
    """An ASGI app that takes some requests without a scope, which costs as much to make as the rest of the reading."""

    def direct(self, target: bytes) -> Serve | None:
        """Return the callable for a request with this target, as it came; None for the app itself."""


RecordRefusal = Callable[[int, Code, str], str]
"""Told of each refusal before the app: (status, code, the client's address) -> the request id for the answer."""


def _nobody(_: bytes) -> None:
    return None


# --- one connection ---

_NO_LINGER = struct.pack("ii", 1, 0)
_BUFFER = memoryview(bytearray(32 * 1024))
"""Of all connections: what is read into it is copied before anything else is read. No more is read at once, so that no
more waits in our memory for its turn."""
_WRITE_LIMIT = 4 * 1024
"""Bytes of an answer that the client has not taken yet, above which the app waits."""


# where a connection is; not an enum, since a look at a member of one costs as much as three calls
_HEAD, _BODY = range(2)
_ANSWER = 2  # the request has come whole
_TUNNEL = 3  # what comes is no HTTP
_LINGER = 4  # what comes is dropped
_CLOSING = 5


class StrictProtocol(asyncio.BufferedProtocol):
    """One client connection, with the constructor that uvicorn's servers call."""

    __slots__ = (
        "_app", "_app_state", "_body", "_body_seconds", "_busy", "_client", "_connections", "_crowd", "_cycle",
        "_direct", "_drain", "_drained", "_dropped", "_head_begun", "_limits", "_overloaded", "_patience", "_paused",
        "_peer", "_pending", "_reader", "_refused", "_scheme", "_scope_of_all", "_server_state", "_state", "_ticker",
        "blocked", "deadline", "loop", "owner", "transport",
    )  # fmt: skip

    transport: asyncio.Transport
    _cycle: Cycle  # the conversation under way, while there is one: `_busy`
    _body: BodyReader

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        limits: Limits | None = None,
        refused: RecordRefusal = lambda *_: "",
        drain: Drain | None = None,
        crowd: Crowd | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        self.loop = _loop or asyncio.get_running_loop()
        self.deadline = math.inf
        self.blocked = False
        self.owner = ""
        self._limits = limits or Limits()
        self._crowd = crowd or Crowd(self._limits)
        self._refused = refused
        self._drain = drain or Drain()
        self._app: App = config.loaded_app
        self._direct: Callable[[bytes], Serve | None] = getattr(config.loaded_app, "direct", _nobody)
        self._app_state = app_state
        self._server_state = server_state
        self._connections = cast(set[Timed], server_state.connections)
        self._ticker = ticker_of(server_state, self._connections, self.loop, self._limits.tick)
        self._state = _HEAD
        self._reader = HeadReader()
        self._body_seconds = 0.0
        self._busy = False
        self._pending = b""
        self._head_begun = True
        self._overloaded = False
        self._paused = False
        self._dropped = 0
        self._patience = Patience(self._limits)
        self._drained: asyncio.Future[None] | None = None
        self._client: tuple[str, int] | None = None
        self._peer = ""
        self._scheme = ""
        self._scope_of_all: dict[str, Any] = {}

    # --- what the transport says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast(asyncio.Transport, transport)
        self._client = get_remote_addr(transport)
        self._peer = self._client[0] if self._client else ""
        self._scheme = "https" if is_ssl(transport) else "http"
        self._scope_of_all = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "root_path": "", "client": self._client,
            "server": get_local_addr(transport), "scheme": self._scheme,
        }  # fmt: skip
        transport.set_write_buffer_limits(_WRITE_LIMIT)
        self._ticker.start()
        self._overloaded = not self._has_place()
        self._connections.add(self)
        # one that will be turned away is not worth waiting for
        self.deadline = self._ticker.now + (self._limits.linger if self._overloaded else self._limits.head)

    def _has_place(self) -> bool:
        crowd, owner = self._crowd, self._crowd.owner_of(self._peer)
        self.owner = owner
        full = crowd.is_full
        if not full and crowd.has_share_for(owner):
            has = True
        elif crowd.has_share_for(owner, self._ticker.idle()):
            has = not full or self._ticker.shed()
        else:
            has = self._ticker.shed(owner)
        if has:
            crowd.enter(owner)
        return has

    def _give_up_place(self) -> None:
        if self in self._connections:
            self._connections.discard(self)
            self._crowd.unblock(self)
            if not self._overloaded:
                self._crowd.leave(self.owner)

    def count_slow(self, blocked: bool) -> None:
        """See Upgrade.slow."""
        if blocked and self in self._connections:
            self._crowd.block(self)
        else:
            self._crowd.unblock(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._give_up_place()
        self._state = _CLOSING
        self._reader.close()
        self._release()
        if self._busy:
            # nobody waits for the answer: whatever the app does for it, an upstream request above all, ends now
            self._cycle.gone = True
            self._cancel()

    def _cancel(self) -> None:
        task = self._cycle.task
        if task is not None:
            # one that is cancelled before its first step never comes to `ended`
            task.add_done_callback(self._server_state.tasks.discard)
            task.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(_BUFFER[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        state = self._state
        if state is _HEAD:
            self._read_head(data)
        elif state is _BODY:
            self._read_body(data)
        elif state is _ANSWER or state is _TUNNEL:
            # the next request waits for its turn, in our memory what was read at once, in the kernel's the rest
            self._pending += data
            self._pause()
        elif state is _LINGER:
            self._dropped += len(data)
            if self._dropped > self._limits.linger_bytes:
                self.close()

    def pause_writing(self) -> None:
        if self._state is _BODY and self._cycle.waiting:
            self._credit(0)
        self.blocked = True
        self._await_client()
        self._crowd.block(self)

    def resume_writing(self) -> None:
        self._patience.credit(self._ticker.now, self.transport.get_write_buffer_size())
        self._release()
        if self._state is _HEAD:
            self._hear()
        elif self._busy and self._state is not _LINGER:
            self.deadline = math.inf
            if self._cycle.waiting:
                self.awaits_body()

    def _release(self) -> None:
        self.blocked = False
        self._crowd.unblock(self)
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # --- what uvicorn's server and the ticker say ---

    def shutdown(self) -> None:
        """Close if idle; otherwise let the answer end, and then close. A tunnel ends now."""
        if self._busy:
            self._cycle.keep_alive = False
            if self._cycle.taken:
                self._cancel()
        elif self._state is _HEAD:
            self.close()

    def expire(self) -> None:
        """The deadline has passed."""
        if self._state is _CLOSING or (self.blocked and self._state is not _LINGER):
            self._expire_write()
        elif self._state is _HEAD and self._reader.held:
            self._refuse(408, Code.REQUEST_TIMEOUT)
        elif self._state is _BODY:
            self._give_up_body(408, Code.REQUEST_TIMEOUT)
        else:
            self.close()

    def _expire_write(self) -> None:
        if self._patience.credit(self._ticker.now, self.transport.get_write_buffer_size()):
            self._await_client()
        else:
            self.cut()

    def cut(self) -> None:
        """Close at once, whatever the client has not taken."""
        self.transport.abort()

    @property
    def idle(self) -> bool:
        """Return whether it has a place, and nothing of a request has come since the opening or the last answer."""
        return self._state is _HEAD and not self._reader.held and not self._pending and not self._overloaded

    @property
    def idle_since(self) -> float:
        """Return when it was opened or its last answer ended; only where it is idle."""
        return self.deadline - (self._limits.head if self._head_begun else self._limits.keep_alive)

    def close(self) -> None:
        """Close when what is written has been taken; a client that takes nothing is cut off."""
        self._state = _CLOSING
        self._await_client()
        self.transport.close()

    def _await_client(self) -> None:
        self.deadline = self._patience.begin(self._ticker.now, self.transport.get_write_buffer_size())

    # --- bytes in ---

    def _read_head(self, data: bytes) -> None:
        try:
            head = self._reader.feed(data)
        except BadRequest as error:
            self._refuse(*refusal_of(error.fault))
            return
        if head is not None:
            self._begin(head)
        elif not self._head_begun:
            self._head_begun = True
            self.deadline = self._ticker.now + self._limits.head

    def _begin(self, head: Head) -> None:
        if self._overloaded:
            self._refuse(503, Code.OVERLOADED)
            return
        self.deadline = math.inf
        rest, self._reader.rest = self._reader.rest, b""
        keep_alive = head.keep_alive and not self._drain.begun
        cycle = Cycle(self, head.method, head.version, head.length != 0, keep_alive, head.expects_continue)
        serve = None if head.websocket else self._direct(head.target)
        if serve is not None:
            work = cycle.run(serve, head, self._peer, self._scheme)
        else:
            scope = self._scope(head)
            if head.websocket:
                scope["extensions"] = {UPGRADE: Upgrade(self, rest)}
            work = cycle.run(self._app, scope)
        if head.websocket:
            cycle.keep_alive = False
            self._state = _TUNNEL
            self._pause()
            rest = b""
        elif head.length:
            self._state = _BODY
            self._body = body_of(head.length)
            self._body_seconds = self._limits.body
        else:
            self._state = _ANSWER
        self._cycle, self._busy = cycle, True
        cycle.task = task = self.loop.create_task(work)
        self._server_state.tasks.add(task)
        if rest:
            self.data_received(rest)

    def _scope(self, head: Head) -> dict[str, Any]:
        target = head.target
        raw_path, _, query = target.partition(b"?")
        path = raw_path.decode("ascii")
        scope = self._scope_of_all.copy()
        scope["http_version"] = head.version
        scope["method"] = head.method
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        scope["raw_target"] = target
        scope["headers"] = list(head.headers)
        scope["state"] = self._app_state.copy()
        return scope

    def _read_body(self, data: bytes) -> None:
        try:
            body, rest = self._body.feed(data)
        except BadRequest as error:
            self._give_up_body(*refusal_of(error.fault))
            return
        self._credit(len(data))
        self._cycle.add_body(body, self._body.done)
        if self._body.done:
            self._state = _ANSWER
            if rest:
                self.data_received(rest)
        elif self._cycle.buffered > self._limits.buffer:
            self._pause()

    def _credit(self, count: int) -> None:
        """Take the time that the app has waited from what it may wait, and give some back for what came."""
        if self.blocked:
            # the time that runs is the answer's: no body that drips in gives any of it back
            return
        left = self._body_seconds if self.deadline == math.inf else self.deadline - self._ticker.now
        self._body_seconds = min(self._limits.body, left + count / self._limits.body_rate)
        self.deadline = math.inf

    def _give_up_body(self, status: int, code: Code) -> None:
        """The body will not come: the app hears http.disconnect, and the client its error if no answer is under way."""
        self._cycle.broken = True
        self._cycle.keep_alive = False
        if not self.blocked:
            self.deadline = math.inf
        if self._cycle.started:
            self._pause()
        else:
            self._cycle.gone = True
            self._refuse(status, code)
        self._cycle.wake()

    def _pause(self) -> None:
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    # --- what the conversation says ---

    def fixed_headers(self) -> bytes:
        return self._ticker.render(self._server_state.default_headers)

    async def drained(self) -> None:
        if self._drained is None or self._drained.done():
            self._drained = self.loop.create_future()
        await asyncio.shield(self._drained)

    def awaits_body(self) -> None:
        self._resume()
        if not self.blocked:
            self.deadline = self._ticker.now + self._body_seconds

    def answered(self, cycle: Cycle) -> None:
        self._server_state.total_requests += 1
        whole, self._busy = self._state is _ANSWER, False
        if self.transport.is_closing():
            self.close()
        elif whole and cycle.keep_alive:
            self._next()
        elif whole and not self._pending:
            self.close()
        else:
            self._linger()

    def _next(self) -> None:
        self._state = _HEAD
        self._head_begun = False
        if self.blocked:
            # one that does not take its answers is not heard: each answer would hold some memory
            self._pause()
        else:
            self._hear()

    def _hear(self) -> None:
        """Read the next request, unless it has begun."""
        self.deadline = self._ticker.now + (self._limits.head if self._head_begun else self._limits.keep_alive)
        if self._pending:
            self._pause()
            self._ticker.turns.wait(self._hear_pending)
        else:
            self._resume()

    def _hear_pending(self) -> None:
        if self._pending and self._state is _HEAD and not self.blocked and not self.transport.is_closing():
            data, self._pending = self._pending, b""
            self._resume()
            self.data_received(data)

    def ended(self, cycle: Cycle) -> None:
        if cycle.task is not None:
            self._server_state.tasks.discard(cycle.task)
        if cycle.taken:
            self._busy = False
            self._give_up_place()
            self.transport.close()

    def abort(self) -> None:
        # with a reset: to an HTTP/1.0 client the end of the connection is the end of the answer
        connected = self.transport.get_extra_info("socket")
        if connected is not None and not self.transport.is_closing():
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    def give_away(self) -> asyncio.Transport:
        """See Upgrade.take."""
        if not self._busy or self._cycle.started or self._cycle.gone or self.transport.is_closing():
            raise RuntimeError("the connection was taken, answered or closed before")
        self._cycle.hand_over()
        return self.transport

    # --- the end ---

    def _refuse(self, status: int, code: Code) -> None:
        if not self.transport.is_closing():
            request_id = self._refused(status, code, self._peer)
            self.transport.write(problem(status, code, self.fixed_headers(), request_id=request_id))
            self._linger()

    def _linger(self) -> None:
        """Say that no more comes, and drop what the client still sends, for a while.

        RFC 9112 section 9.6: a close with unread bytes makes the client's system drop the answer that it should read.
        """
        self._state = _LINGER
        self._pending = b""
        self.deadline = self._ticker.now + self._limits.linger
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._resume()
