"""Body of a request that is held until it is decided: its beginning in memory, the rest in a file without a name."""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import IO, Any, TypeVar

from sidecar.gate.body import Viewer
from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.net.room import NoRoom, Room, Rooms, owner_of

T = TypeVar("T")
IN_MEMORY = 1024 * 1024
"""Bytes of one body in memory."""
PIECE = 256 * 1024
"""Bytes that are written to a file, or read from it, at once."""
VALUE = 72
"""Bytes of a small value of a JSON document in memory, with its place in the list or the object that has it."""


def weight_of(data: bytes) -> int:
    """Estimate the bytes that a piece of a body takes where it is kept and read as JSON, at most."""
    return len(data) + VALUE * (data.count(b",") + data.count(b"[") + data.count(b"{"))


class LentBody:
    """Room in `memory` for a body that another proxy holds, while it is read."""

    def __init__(self, memory: Room, client: str) -> None:
        self._memory = memory
        self._client = client
        self._taken = ("", 0)

    def take(self, body: bytes, viewer: Viewer) -> None:
        """Take room for it. Raises Refused(BODY_NO_ROOM)."""
        owner = owner_of(viewer.asker, self._client)
        size = len(body) + (weight_of(body) if viewer.keeps else 0)
        try:
            self._memory.take(owner, size)
        except NoRoom as error:
            raise Refused(Code.BODY_NO_ROOM, str(error)) from None
        self._taken = (owner, size)

    def close(self) -> None:
        """Give it back."""
        self._memory.give_back(*self._taken)
        self._taken = ("", 0)


class HeldBody:
    """Bytes of one body, put in and then taken out in order, in room that is its owner's. The file has no name: it is
    gone with the process, and nobody else opens it (TMPDIR says on which disk it is)."""

    def __init__(self, rooms: Rooms, owner: str) -> None:
        self.size = 0
        """Bytes that are held."""
        self._rooms = rooms
        self._owner = owner
        self._memory = 0
        self._weight = 0
        self._first: deque[bytes] = deque()
        self._room = IN_MEMORY
        self._file: IO[bytes] | None = None
        self._work: asyncio.Future[Any] | None = None
        self._written = 0
        self._in_file = 0
        self._is_read = False
        self._rest: list[bytes] = []
        self._unwritten = 0

    @property
    def is_in_file(self) -> bool:
        """True if a part is in a file."""
        return self._file is not None

    async def put(self, data: bytes, weight: int = 0) -> None:
        """Hold these bytes after the others. What is made of them elsewhere takes `weight` more, until `lighten`.
        Raises NoRoom; they are held all the same."""
        if not data:
            # no bytes are the end of a body to who takes it, and would be taken before what is in the file
            return
        self.size += len(data)
        if len(data) <= self._room:
            self._first.append(data)
            self._room -= len(data)
        else:
            self._room = 0
            self._rest.append(data)
            self._unwritten += len(data)
        self._rooms.memory.take(self._owner, len(data) + weight, self._memory + self._weight)
        self._memory += len(data)
        self._weight += weight
        if self._unwritten >= PIECE:
            await self._write(b"".join(self._rest))
            self._rest.clear()
            self._leave_memory(self._unwritten)
            self._unwritten = 0

    def lighten(self) -> None:
        """Give back the room of what was made of these bytes."""
        if self._weight:
            self._rooms.memory.give_back(self._owner, self._weight)
            self._weight = 0

    async def take(self) -> bytes:
        """The next bytes, never none while there are any. Raises OSError."""
        if self._first:
            data = self._first.popleft()
            if not self._first and not self._rest and self._file is None:
                # most are one piece, and this is their end
                self.close()
                return data
            self._leave_memory(len(data))
        elif self._file is not None and (found := await self._in_thread(partial(self._read, self._file))):
            data = found
        else:
            data = b"".join(self._rest)
            self._rest.clear()
            self._leave_memory(len(data))
        self.size -= len(data)
        if not self.size:
            self.close()
        return data

    def close(self) -> None:
        """Hold nothing any more."""
        self.size = 0
        self._first.clear()
        self._rest.clear()
        held = self._memory + self._weight
        if held:
            self._rooms.memory.give_back(self._owner, held)
            self._memory = self._weight = 0
        self._rooms.disk.give_back(self._owner, self._written)
        self._written = 0
        if self._file is not None:
            file, self._file = self._file, None
            if self._work is None or self._work.done():
                file.close()
            else:
                self._work.add_done_callback(partial(_close, file))

    def _leave_memory(self, size: int) -> None:
        # the last piece may have found no room
        size = min(size, self._memory)
        if size:
            self._rooms.memory.give_back(self._owner, size)
            self._memory -= size

    async def _write(self, data: bytes) -> None:
        if self._file is None:
            try:
                # without a buffer, which a full disk would leave to be written again when the file is read or closed
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it is closed with this
            except OSError as error:
                raise NoRoom(f"no temporary file: {error.strerror}") from None
        self._rooms.disk.take(self._owner, len(data), self._written)
        self._written += len(data)
        try:
            await self._in_thread(partial(_append, self._file, data))
        except OSError as error:
            raise NoRoom(f"a temporary file: {error.strerror}") from None
        self._in_file += len(data)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Do what may wait for the disk. A thread goes on when who waits for it is cancelled, and the file stays open
        until then: the number of a closed one may be a connection's, which the thread would write to."""
        begun = self._work = asyncio.get_running_loop().run_in_executor(None, work)
        return await asyncio.shield(begun)

    def _read(self, file: IO[bytes]) -> bytes:
        if not self._is_read:
            self._is_read = True
            file.seek(0)
        # of a piece that found no room a part may stand there: it is in memory still
        data = file.read(min(PIECE, self._in_file))
        self._in_file -= len(data)
        return data


def _close(file: IO[bytes], done: asyncio.Future[Any]) -> None:
    file.close()
    if not done.cancelled():
        # nobody waits for it any more, nor takes note of what it raised
        done.exception()


def _append(file: IO[bytes], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]
