"""A file that several processes append whole lines to, and that is renamed where it is full: bounded in all.

Whoever writes holds the lock of the file that the path leads to (flock(2)), so that no line is cut by another, none
goes to a file that has been renamed, and a line that was not written whole is taken back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

OLD = 3
"""Files that are kept besides the one that is written: `FILE.1`, the newest, to `FILE.3`."""
PIECE = 256 * 1024
"""Bytes that are written in one go, unless a single line is longer."""
_APPEND = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class RotatedFile:
    """`size` are the bytes of all its files together. What it makes is for its owner alone."""

    def __init__(self, path: str, size: int) -> None:
        # a link is followed: what is renamed is the file
        self.path = os.path.realpath(path)
        self._most = size // (OLD + 1)
        self._fd = -1

    def append(self, lines: bytes) -> None:
        """Append whole lines, all of them or none. Raises OSError; what is no file is one."""
        while not self._locked():
            self._close()
        try:
            before = os.fstat(self._fd).st_size
            if before and before + len(lines) > self._most:
                self._rotate()
            else:
                self._write(lines, before)
                return
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        # another process may have begun the new one, and filled it
        self._close()
        self.append(lines)

    def _locked(self) -> bool:
        """Open the file and wait for its lock -> whether it is the one that the path leads to."""
        if self._fd < 0:
            self._fd = os.open(self.path, _APPEND, 0o600)
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            self._close()
            raise OSError(errno.EINVAL, "not a file")
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            return os.path.samestat(os.stat(self.path), found)
        except FileNotFoundError:
            return False

    def _write(self, lines: bytes, before: int) -> None:
        # of a process that was killed, or a machine that stopped, while it wrote
        torn = before > 0 and os.pread(self._fd, 1, before - 1) != b"\n"
        rest = memoryview(b"\n" + lines if torn else lines)
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, before)
            raise

    def _rotate(self) -> None:
        for number in range(OLD, 0, -1):
            newer = f"{self.path}.{number - 1}" if number > 1 else self.path
            with contextlib.suppress(FileNotFoundError):
                os.replace(newer, f"{self.path}.{number}")

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Give the file back."""
        self._close()
