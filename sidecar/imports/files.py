"""Files as streams: plain or gzip, by their first bytes, line by line within a bound of memory."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sidecar.imports.sighting import UnusableFile

HEAD = 64 * 1024
"""Bytes by which a format is told."""
MAX_LINE = 256 * 1024
"""Bytes of a line; a longer one is broken."""
MAX_DOCUMENT = 64 * 1024**2
"""Bytes of a document that is read as a whole."""
CHUNK = 256 * 1024
STDIN = "-"
UNREADABLE = (OSError, EOFError, zlib.error)
"""Faults of a stream that has begun, those of gzip among them."""


class InputFile(NamedTuple):
    """An open file: its name for messages, its first bytes, and a stream that begins with them."""

    name: str
    head: bytes
    stream: io.BufferedIOBase


class _Again(io.RawIOBase):
    """A stream whose first bytes, which were read already, come again. `progress` gets the number of bytes that were
    read so far."""

    def __init__(self, head: bytes, rest: io.BufferedIOBase, progress: Callable[[int], None]) -> None:
        self._head = memoryview(head)
        self._rest = rest
        self._progress = progress
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data: bytes | memoryview
        if self._head:
            data, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        else:
            data = self._rest.read1(len(buffer))
        buffer[: len(data)] = data
        self._count += len(data)
        self._progress(self._count)
        return len(data)

    def close(self) -> None:
        self._rest.close()
        super().close()


def open_source(name: str, stdin: io.BufferedIOBase, progress: Callable[[int], None]) -> InputFile:
    """Open a file, or `-` for stdin. `progress` gets the bytes of it that were read so far. Raises UnusableFile."""
    try:
        opened = stdin if name == STDIN else Path(name).open("rb")  # noqa: SIM115 - the source closes it
        head, stream = _begun(opened, progress)
        if head.startswith(b"\x1f\x8b"):
            head, stream = _begun(gzip.GzipFile(fileobj=stream), _untold)
    except UNREADABLE as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else "it is no whole gzip file"
        raise UnusableFile(
            [f"{name}: cannot be read: {said}, expected a file that can be read, or - for stdin"]
        ) from None
    return InputFile("stdin" if name == STDIN else name, head, stream)


def _untold(_: int) -> None:
    """Compressed bytes are counted where they are read."""


def _begun(stream: io.BufferedIOBase, progress: Callable[[int], None]) -> tuple[bytes, io.BufferedIOBase]:
    head = stream.read(HEAD)
    return head, io.BufferedReader(_Again(head, stream, progress), CHUNK)


def lines(stream: io.BufferedIOBase, longest: int = MAX_LINE) -> Iterator[tuple[int, bytes | None]]:
    """Each line with its number, None in place of one of more than `longest` bytes, which is no less than a chunk.
    Holds no more than one chunk and one line."""
    number, rest, skipping = 0, b"", False
    while chunk := stream.read1(CHUNK):
        first, *others = chunk.split(b"\n")
        rest = b"" if skipping else rest + first
        if not others:
            skipping = skipping or len(rest) > longest
            continue
        number += 1
        yield number, None if skipping or len(rest) > longest else rest
        skipping, rest = False, others.pop()
        for line in others:
            number += 1
            yield number, line
    if rest or skipping:
        yield number + 1, None if skipping else rest


def whole(source: InputFile) -> bytes:
    """A document as a whole. Raises UnusableFile."""
    try:
        data = source.stream.read(MAX_DOCUMENT + 1)
    except UNREADABLE:
        raise UnusableFile([f"{source.name}: cannot be read to its end, expected a whole file"]) from None
    if len(data) > MAX_DOCUMENT:
        raise UnusableFile([f"{source.name}: more than {MAX_DOCUMENT // 1024**2} MiB, expected a smaller document"])
    return data
