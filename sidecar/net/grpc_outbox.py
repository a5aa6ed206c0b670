"""Output of one connection: all frames of one turn of the loop as one piece."""

from __future__ import annotations

import asyncio


class Outbox:
    """Gathers frames until the loop's turn ends. A peer that leaves more than `most` bytes where they are is left."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int | None = None) -> None:
        self._loop = loop
        self._most = most
        self._out: list[bytes] = []
        self._held = False

    def write(self, data: bytes) -> None:
        """Write whole frames."""
        if not self._out and not self._held:
            self._loop.call_soon(self.flush)
        self._out.append(data)

    def hold(self) -> None:
        """Leave it to the caller to `flush`, in this turn."""
        self._held = True

    def flush(self) -> None:
        """Give the transport what was written."""
        self._held = False
        out, self._out = self._out, []
        if out and not self.transport.is_closing():
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            if self._most is not None:
                self.bound(self.transport.get_write_buffer_size())

    def bound(self, unsent: int) -> None:
        """Leave a peer that has so many bytes to take, where they are too many."""
        if self._most is not None and unsent > self._most:
            self.transport.abort()
