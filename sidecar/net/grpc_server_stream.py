"""One call of gRPC with many messages each way, at the side of the server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from sidecar.wire import grpc
from sidecar.wire.grpc import CallFailed, Status

MAX_WAITING = 2048
"""Messages of one call that its method has not taken yet; their bytes have a bound of their own."""


class Conversation(Protocol):
    """Call as its method sees it."""

    async def receive(self) -> bytes | None:
        """Return the next message of the client, None once it has ended its part."""

    def send(self, message: bytes) -> None:
        """Send a message, what the client does not take now later."""


StreamHandler = Callable[[Conversation], Awaitable[None]]
"""Method of many messages. The call ends well when it returns. Raises CallFailed for a call that ends otherwise."""


class ServerStream:
    """Implements Conversation. `since` is when it last went on; `size` are bytes that came and were not given back,
    `owed` those given back that the client has not been told of. `finished` says that the method has returned, and
    `answered` that the headers of the answer are sent."""

    __slots__ = (
        "_begun", "_buffer", "_given_back", "_heard", "_max_message", "_sent", "_taken", "_waiter", "answered", "ended",
        "finished", "more", "owed", "since", "size", "task", "unsent",
    )  # fmt: skip

    def __init__(
        self, since: float, max_message: int, sent: Callable[[bytes], None], given_back: Callable[[int], None]
    ) -> None:
        self.since = since
        self.size = self.owed = self.more = 0
        self.unsent = b""
        self.ended = self.finished = self.answered = False
        self.task: asyncio.Task[None] | None = None
        self._max_message = max_message
        self._sent = sent
        self._given_back = given_back
        self._begun = False
        self._buffer = bytearray()  # what is no whole message yet
        self._heard: deque[bytes] = deque()
        self._taken = 0  # bytes of the message that the method has
        self._waiter: asyncio.Future[None] | None = None

    @property
    def waits(self) -> bool:
        """Return whether the client has to go on with a message, of which the first is due at once."""
        return bool(self._buffer) or not self._begun

    def hear(self, data: bytes, ended: bool, now: float) -> bool:
        """Take a part of what the client says; return whether it ends a message or the client's part. Raises
        CallFailed where that is no message, or one too many."""
        whole = ended
        if not self._buffer:
            self.since = now
        self._buffer += data
        while (size := self._message_size()) is not None and len(self._buffer) >= size:
            if len(self._heard) >= MAX_WAITING:
                raise CallFailed(Status.RESOURCE_EXHAUSTED, "too many messages at once")
            self._heard.append(bytes(memoryview(self._buffer)[grpc.PREFIX : size]))
            del self._buffer[:size]
            self.since, self._begun, whole = now, True, True
        if ended:
            self.ended = True
            if self._buffer:
                raise CallFailed(Status.INTERNAL, "a message that is broken off")
        if self._waiter is not None and whole and not self._waiter.done():
            self._waiter.set_result(None)
        return whole

    def _message_size(self) -> int | None:
        """Bytes of the message that the buffer begins with, its prefix included; None where not even that is there.
        Raises CallFailed."""
        if len(self._buffer) < grpc.PREFIX:
            return None
        if self._buffer[0]:
            compressed = self._buffer[0] == 1
            raise (
                CallFailed(Status.UNIMPLEMENTED, "a compressed message")
                if compressed
                else CallFailed(Status.INTERNAL, "not a message")
            )
        size = int.from_bytes(self._buffer[1 : grpc.PREFIX], "big")
        if size > self._max_message:
            raise CallFailed(Status.RESOURCE_EXHAUSTED, f"over {self._max_message} bytes")
        return size + grpc.PREFIX

    async def receive(self) -> bytes | None:
        """See Conversation. The bytes of the message before are given back, as its method is done with it."""
        if self._taken:
            taken, self._taken = self._taken, 0
            self._given_back(taken)
        while not self._heard:
            if self.ended:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self._heard.popleft()
        self._taken = len(message) + grpc.PREFIX
        return message

    def send(self, message: bytes) -> None:
        """See Conversation."""
        self._sent(message)
