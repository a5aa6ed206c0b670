"""Body of a request that is held until it is decided: its beginning in memory, the rest in a file without a name."""

from __future__ import annotations

import asyncio
import tempfile
from collections import deque
from typing import IO

IN_MEMORY = 1024 * 1024
"""Bytes of one body in memory."""
ON_DISK = 2 * 1024**3
"""Bytes of all bodies of one process in files."""
PIECE = 256 * 1024
"""Bytes that are written to a file, or read from it, at once."""


class NoRoom(Exception):
    """There is no room for more of a body."""


class Disk:
    """Room for bodies in files. `most` in bytes."""

    def __init__(self, most: int = ON_DISK) -> None:
        self._most = most
        self.used = 0
        """Bytes that are taken."""

    def take(self, size: int) -> None:
        """Take room for so many bytes. Raises NoRoom."""
        if self.used + size > self._most:
            raise NoRoom(f"bodies of {self._most} bytes are held in files, which is all that may be")
        self.used += size

    def give_back(self, size: int) -> None:
        """Give back room for so many bytes."""
        self.used -= size


class HeldBody:
    """Bytes of one body, put in and then taken out in order. The file has no name: it is gone with the process, and
    nobody else opens it (TMPDIR says on which disk it is)."""

    def __init__(self, disk: Disk) -> None:
        self.size = 0
        """Bytes that are held."""
        self._disk = disk
        self._first: deque[bytes] = deque()
        self._room = IN_MEMORY
        self._file: IO[bytes] | None = None
        self._written = 0
        self._is_read = False
        self._rest: list[bytes] = []
        self._unwritten = 0

    @property
    def is_in_file(self) -> bool:
        """True if a part is in a file."""
        return self._file is not None

    async def put(self, data: bytes) -> None:
        """Hold these bytes after the others. Raises NoRoom; they are held all the same."""
        self.size += len(data)
        if len(data) <= self._room:
            self._first.append(data)
            self._room -= len(data)
            return
        self._room = 0
        self._rest.append(data)
        self._unwritten += len(data)
        if self._unwritten >= PIECE:
            await self._write(b"".join(self._rest))
            self._rest.clear()
            self._unwritten = 0

    async def take(self) -> bytes:
        """The next bytes, never none while there are any. Raises OSError."""
        if self._first:
            data = self._first.popleft()
        elif self._file is not None and (found := await asyncio.to_thread(self._read, self._file)):
            data = found
        else:
            data = b"".join(self._rest)
            self._rest.clear()
        self.size -= len(data)
        if not self.size:
            self.close()
        return data

    def close(self) -> None:
        """Hold nothing any more."""
        self.size = 0
        self._first.clear()
        self._rest.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
            self._disk.give_back(self._written)

    async def _write(self, data: bytes) -> None:
        if self._file is None:
            try:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed with this
            except OSError as error:
                raise NoRoom(f"no temporary file: {error.strerror}") from None
        self._disk.take(len(data))
        self._written += len(data)
        try:
            await asyncio.to_thread(self._file.write, data)
        except OSError as error:
            raise NoRoom(f"a temporary file: {error.strerror}") from None

    def _read(self, file: IO[bytes]) -> bytes:
        if not self._is_read:
            self._is_read = True
            file.seek(0)
        return file.read(PIECE)
