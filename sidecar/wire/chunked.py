"""Chunked bodies (RFC 9112 section 7.1), read in one way for both roles: from a client, and from a server.

Extensions are skipped, and trailers are checked and dropped: "A recipient MUST ignore unrecognized chunk extensions",
and RFC 9110 section 6.5.1 lets a recipient discard trailers; merged into the headers they would be a second word.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple


class ChunkRules(NamedTuple):
    """How one role reads chunks.

    `size_line` matches the line before a chunk, with its size in hexadecimal digits as the only group, and `trailer` a
    line of the trailer section. `max_size_line` and `max_trailers` are bytes: of one such line, and of all trailers.
    `fault` makes the exception that tells of a broken rule.
    """

    size_line: re.Pattern[bytes]
    max_size_line: int
    trailer: re.Pattern[bytes]
    max_trailers: int
    fault: Callable[[str], Exception]


class ChunkedReader:
    """Reads one chunked body; `done` once it has ended."""

    __slots__ = ("_held", "_in_trailers", "_left", "_rules", "_trailers", "done")

    def __init__(self, rules: ChunkRules) -> None:
        self.done = False
        self._rules = rules
        self._held = b""  # a line that has not ended
        self._left = 0  # bytes of the chunk under way, its CR LF included
        self._in_trailers = False
        self._trailers = 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """-> (bytes of the body, bytes after its end). Raises the rules' `fault`."""
        if self._held:
            data, self._held = self._held + data, b""
        at, parts = 0, []
        while at < len(data) and not self.done:
            if self._left > 2:
                part = data[at : at + self._left - 2]
                parts.append(part)
                at, self._left = at + len(part), self._left - len(part)
            elif self._left:
                at = self._end_chunk(data, at)
            else:
                end = data.find(b"\r\n", at)
                if end < 0:
                    self._hold(data[at:])
                    break
                self._read_line(data, at, end)
                at = end + 2
        return b"".join(parts), data[at:] if self.done else b""

    def _end_chunk(self, data: bytes, at: int) -> int:
        expected = b"\r\n"[2 - self._left :]
        found = data[at : at + self._left]
        if not expected.startswith(found):
            raise self._rules.fault("a chunk that does not end with CR LF")
        self._left -= len(found)
        return at + len(found)

    def _hold(self, line: bytes) -> None:
        """Keep an unfinished line, unless it can no longer become a good one."""
        # RFC 9112 section 2.2: a bare CR is invalid, and a bare LF is a line end to some servers
        if b"\n" in line or b"\r" in line[:-1]:
            raise self._rules.fault("a bare CR or LF in a chunk's line")
        self._check_length(len(line) - line.endswith(b"\r"))
        self._held = line

    def _check_length(self, length: int) -> None:
        if self._in_trailers:
            if self._trailers + length > self._rules.max_trailers:
                raise self._rules.fault(f"trailers over {self._rules.max_trailers} bytes")
        elif length > self._rules.max_size_line:
            raise self._rules.fault(f"a chunk's size and extensions over {self._rules.max_size_line} bytes")

    def _read_line(self, data: bytes, at: int, end: int) -> None:
        self._check_length(end - at)
        if self._in_trailers:
            self._read_trailer(data, at, end)
            return
        match = self._rules.size_line.fullmatch(data, at, end)
        if match is None:
            raise self._rules.fault("a chunk without a size")
        size = int(match[1], 16)
        self._in_trailers = size == 0
        self._left = size + 2 if size else 0

    def _read_trailer(self, data: bytes, at: int, end: int) -> None:
        if at == end:
            self.done = True
        elif self._rules.trailer.fullmatch(data, at, end) is None:
            raise self._rules.fault("a trailer that is not a header")
        self._trailers += end - at
