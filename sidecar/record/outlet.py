"""Outlet for lines: a file, a pipe, a socket or a terminal that is written without ever waiting for its reader."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, NoReturn
from weakref import WeakValueDictionary

Write = Callable[[bytes], int]
"""Writes as much as is taken at once -> bytes taken. Raises BlockingIOError for nothing now, OSError for a fault."""

UNBOUNDED = 1 << 30
LAST = 1.0
"""Seconds that the reader of a pipe has for what is left when its outlet is closed."""
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
_NO_WAIT = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
_locks: WeakValueDictionary[tuple[int, int], threading.Lock] = WeakValueDictionary()
"""Locks by device and inode: stdout and stderr may be one file."""


class _Turn(NamedTuple):
    """Turn to write to one file, which an outlet keeps while a piece of its own is half written there. `take` never
    waits -> whether the turn is ours."""

    take: Callable[[], bool]
    give: Callable[[], None]


class _Target(NamedTuple):
    """Open file to write to, `most` bytes in one piece: a pipe that several processes share takes PIPE_BUF bytes whole
    (POSIX, `write`)."""

    fd: int
    write: Write
    most: int
    turn: _Turn
    end: socket.socket | None = None
    carrier: threading.Thread | None = None

    def close(self) -> None:
        """Give it back; what is on its way to a reader has so long."""
        if self.end is not None:
            self.end.close()
        else:
            os.close(self.fd)
        if self.carrier is not None:
            self.carrier.join(LAST)


class Outlet:
    """Takes lines, writes what the reader takes, and holds the rest. `waiting` are the bytes that it holds."""

    def __init__(self, target: _Target, path: str = "") -> None:
        self.waiting = 0
        self._target = target
        self._path = path
        self._held: deque[bytes] = deque()
        self._sent = 0  # bytes of the first piece that were written

    @classmethod
    def of_file(cls, path: str) -> Outlet:
        """Append to a file, or to a pipe that has a name. Raises OSError."""
        return cls(_target(_appending(path)), path)

    @classmethod
    def standard(cls, fd: int) -> Outlet:
        """Write to stdout (1) or stderr (2). Raises OSError."""
        mode = os.fstat(fd).st_mode
        if not stat.S_ISFIFO(mode) and not os.isatty(fd):
            return cls(_target(os.dup(fd)))
        try:
            # opened anew: the flag is shared by all who have the same opening, the parent's shell too
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            # another user's pipe
            return cls(_carried(fd))
        return cls(_target(own))

    def put(self, lines: list[str]) -> None:
        """Take whole lines, which `send` writes."""
        for piece in _pieces(lines, self._target.most):
            self._held.append(piece)
            self.waiting += len(piece)

    def send(self) -> bool:
        """Write what is taken at once -> whether nothing is left. Raises OSError where nothing can be written."""
        held, write, turn = self._held, self._target.write, self._target.turn
        # whoever has a piece half written has kept the turn
        if not self._sent and not turn.take():
            return not held
        try:
            while held:
                piece = held[0]
                taken = write(piece[self._sent :] if self._sent else piece)
                self.waiting -= taken
                self._sent += taken
                if self._sent == len(piece):
                    held.popleft()
                    self._sent = 0
        except BlockingIOError:
            return False
        finally:
            if not self._sent:
                turn.give()
        return True

    def follow(self) -> None:
        """Open the file anew where its path leads to another one, or to none. Raises OSError where it cannot be, and
        the one before is gone too."""
        if not self._path:
            return
        before = os.fstat(self._target.fd)
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self._path), before):
                return
        try:
            target = _target(_appending(self._path))
        except OSError as error:
            if before.st_nlink == 0:
                # what is written to a file without a name is read by nobody
                self._target = self._target._replace(write=partial(_fail, error))
                raise
            return
        self._leave()
        self._target = target

    def close(self) -> None:
        """Give the file back. What is held is lost."""
        self._leave()

    def _leave(self) -> None:
        if self._sent:
            self._target.turn.give()
        self._target.close()
        # a line that was half written is written whole
        self.waiting += self._sent
        self._sent = 0


def _fail(error: OSError, _: bytes) -> NoReturn:
    raise error


def _appending(path: str) -> int:
    return os.open(path, _APPEND, 0o666)


def _target(fd: int) -> _Target:
    """Write to what never blocks: a file, a device, a socket, or what was opened with O_NONBLOCK."""
    mode, turn = os.fstat(fd).st_mode, _turn(fd)
    if stat.S_ISSOCK(mode):
        end = socket.socket(fileno=fd)
        return _Target(fd, lambda data: end.send(data, _NO_WAIT), select.PIPE_BUF, turn, end)
    return _Target(fd, partial(os.write, fd), UNBOUNDED if stat.S_ISREG(mode) else select.PIPE_BUF, turn)


def _turn(fd: int) -> _Turn:
    """Turn among all who write there: processes too where it is a pipe, of which each outlet has its own opening."""
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        return _Turn(partial(_take_pipe, fd), partial(fcntl.flock, fd, fcntl.LOCK_UN))
    lock = _lock(fd)
    return _Turn(partial(lock.acquire, blocking=False), lock.release)


def _take_pipe(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock(fd: int) -> threading.Lock:
    found = os.fstat(fd)
    return _locks.setdefault((found.st_dev, found.st_ino), threading.Lock())


def _carried(fd: int) -> _Target:
    """Write to a pipe of our own, whose other end a thread carries over to one that may block."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    carrier = threading.Thread(target=_carry, args=(reading, fd, _lock(fd)), daemon=True)
    carrier.start()
    return _Target(writing, partial(os.write, writing), select.PIPE_BUF, _turn(writing), carrier=carrier)


def _carry(reading: int, fd: int, lock: threading.Lock) -> None:
    with contextlib.suppress(OSError), open(reading, "rb") as source:
        for line in source:
            with lock:
                _write(fd, line)


def _write(fd: int, data: bytes) -> None:
    while data:
        # it may be non-blocking by somebody else's doing
        select.select([], [fd], [])
        with contextlib.suppress(BlockingIOError):
            data = data[os.write(fd, data) :]


def _pieces(lines: list[str], most: int) -> Iterator[bytes]:
    """Join lines into pieces of `most` bytes; a line that is longer is a piece of its own."""
    whole = "".join(lines).encode("ascii")
    if len(whole) <= most:
        if whole:
            yield whole
        return
    piece = ""
    for line in lines:
        if piece and len(piece) + len(line) > most:
            yield piece.encode("ascii")
            piece = ""
        piece += line
    yield piece.encode("ascii")
