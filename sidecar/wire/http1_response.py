"""HTTP/1.1 towards a server, without I/O: requests into bytes, and bytes into one answer with one framing.

A head is read when it is whole, each line by the one grammar there is; where a body ends follows from the judged head
alone, so that a byte after the end is always seen for what it is: a reason never to use the connection again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from functools import partial

from sidecar.bounded import Bounded
from sidecar.wire.chunked import ChunkedReader, ChunkRules
from sidecar.wire.grammar import (
    CONTENT_LENGTH,
    FIELD_LINE,
    FIELD_TEXT,
    OWS,
    TEXT,
    Header,
    list_members,
)

MAX_HEAD = 64 * 1024
"""Bytes of an answer's head."""
MAX_HEADERS = 256
MAX_INTERIM = 16
"""Interim answers (1xx) before the final one."""
CHUNKED = -1
"""As a length: the body is chunked, and its length is not known in advance."""
MAX_TRAILERS = 8 * 1024


class Flaw(StrEnum):
    """How an answer breaks the protocol."""

    NOT_HTTP = "not_http"
    TLS_EXPECTED = "tls_expected"
    STATUS_LINE = "status_line_invalid"
    HEADER = "header_invalid"
    FOLDED = "header_folded"
    HEAD_SIZE = "http_response_header_section_size"
    LENGTH_REPEATED = "length_repeated"
    LENGTH = "length_invalid"
    TRANSFER_CODING = "http_response_transfer_coding"
    CHUNK = "chunk_invalid"
    INTERIM = "interim_limit_reached"
    UPGRADE = "upgrade_unexpected"


class BadAnswer(Exception):
    """The server's bytes are not an answer that has one reading; the message says more than the flaw."""

    def __init__(self, flaw: Flaw, message: str) -> None:
        super().__init__(message)
        self.flaw = flaw


# RFC 9112 section 7.1.1: chunk-ext = *( BWS ";" BWS chunk-ext-name [...] ), whose quoted values may hold any text
_CHUNKS = ChunkRules(
    size_line=re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;%b)?" % FIELD_TEXT),
    max_size_line=4096,
    trailer=FIELD_LINE,
    max_trailers=MAX_TRAILERS,
    fault=partial(BadAnswer, Flaw.CHUNK),
)


# --- requests ---


def encode_request(method: bytes, target: bytes, headers: Iterable[Header], length: int | None) -> bytes:
    """The head of a request. `length` is the body's in bytes, CHUNKED, or None for no body and no framing.

    `headers` hold no framing and no header of the connection: both are said here.
    """
    parts = [method, b" ", target, b" HTTP/1.1\r\n"]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    if length is None:
        parts.append(b"\r\n")
    elif length == CHUNKED:
        parts.append(b"transfer-encoding: chunked\r\n\r\n")
    else:
        parts.append(b"content-length: %d\r\n\r\n" % length)
    return b"".join(parts)


def encode_chunk(data: bytes) -> bytes:
    """One chunk (RFC 9112 section 7.1). `data` must not be empty: an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


# --- answers ---

# RFC 9112 section 4: status-line = HTTP-version SP status-code SP [ reason-phrase ]; many leave the second SP out
_STATUS = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9][0-9])(?: %b)?" % FIELD_TEXT)
_BEGINNING = b"HTTP/1."
_COOKIES = (b"set-cookie", b"set-cookie2")
"""Each is another, and so no line to remember."""
# about 1,000 lines
_LINES: Bounded[bytes, Header] = Bounded(512 * 1024)
"""Lines of heads as servers sent them lately -> what they say: most say what they said before."""
_MAX_LINE = 128
"""Bytes of a line that is remembered."""


def _field(line: bytes) -> Header:
    """A line of a head as (name in lower case, value). Raises BadAnswer."""
    match = FIELD_LINE.fullmatch(line)
    if match is None:
        if line[:1] in (b" ", b"\t"):
            raise BadAnswer(Flaw.FOLDED, "a line of the head that begins with a blank")
        raise BadAnswer(Flaw.HEADER, "a line of the head that is not a header")
    header = (match[1].lower(), match[2].strip(OWS))
    if len(line) <= _MAX_LINE and header[0] not in _COOKIES:
        _LINES.put(line, header, 200 + 2 * len(line))
    return header


class ResponseReader:
    """Reads the answer to one request; `head_request` says that it was a HEAD, `upgrade` that 101 may be the answer.

    After the head: `status`, `raw_headers` with names in lower case, and `length`: bytes of the body, or what a HEAD
    or 304 declares, or None. `complete` when the answer has ended, `residual` when bytes came after that: for an
    upgrade they are in `tail`, and no fault. `interim` counts the 1xx answers that came before.
    """

    status = 0
    length: int | None = None
    head_done = complete = residual = keep_alive = False
    interim = 0
    tail = b""
    _received = b""
    _left: int | None = 0  # bytes of the body still to come, None until the connection ends
    _chunks: ChunkedReader | None = None

    def __init__(self, head_request: bool, upgrade: bool = False) -> None:
        self.head_request = head_request
        self.raw_headers: list[Header] = []
        self._upgrade = upgrade

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the server, give the bytes of the body among them. Raises BadAnswer."""
        if not self.head_done:
            data = self._feed_head(data)
            if not self.head_done:
                return b""
        if self.complete:
            self._after_end(data)
            return b""
        if not data:
            return b""
        if self._chunks is not None:
            body, rest = self._chunks.feed(data)
            if self._chunks.done:
                self.complete = True
                self._after_end(rest)
            return body
        if self._left is None:
            return data
        body, rest = data[: self._left], data[self._left :]
        self._left -= len(body)
        if not self._left:
            self.complete = True
            self._after_end(rest)
        return body

    @property
    def ends_with_connection(self) -> bool:
        """Return whether the body has no end of its own, so that the connection's is its end (RFC 9112 section 6.3,
        8)."""
        return self.head_done and self._left is None

    def _after_end(self, data: bytes) -> None:
        if data:
            if self.status == 101:
                self.tail += data
            else:
                self.residual = True

    def _feed_head(self, data: bytes) -> bytes:
        """Take bytes of a head; what comes after the final head."""
        while data and not self.head_done:
            seen = len(self._received)
            if seen:
                data = self._received + data
            end = data.find(b"\r\n\r\n", max(0, seen - 3), MAX_HEAD + 4)
            if end < 0:
                self._hold(data, seen)
                return b""
            self._received = b""
            self._read_head(data[:end])
            data = data[end + 4 :]
        return data

    def _hold(self, data: bytes, seen: int) -> None:
        """Keep an unfinished head, unless it can no longer become a good one."""
        if len(data) > MAX_HEAD:
            raise BadAnswer(Flaw.HEAD_SIZE, f"a head over {MAX_HEAD} bytes")
        if not data.startswith(_BEGINNING[: len(data)]):
            raise _not_http(data)
        # only what is new is looked at, with the byte before it: half of a line end may have been there
        fresh = data[seen - 1 :].removeprefix(b"\n") if seen else data
        controls = fresh.replace(b"\r\n", b"").translate(None, TEXT)
        if controls and not (controls == b"\r" and fresh.endswith(b"\r")):
            raise BadAnswer(Flaw.HEADER, "a control character in the head")
        self._received = data

    def _read_head(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        match = _STATUS.fullmatch(lines[0])
        if match is None:
            if not head.startswith(_BEGINNING):
                raise _not_http(head)
            raise BadAnswer(Flaw.STATUS_LINE, f"the status line {lines[0][:64]!r}")
        if len(lines) > MAX_HEADERS + 1:
            raise BadAnswer(Flaw.HEAD_SIZE, f"more than {MAX_HEADERS} headers")
        known = _LINES.get
        headers = [known(line) or _field(line) for line in lines[1:]]
        status = int(match[2])
        if status < 200 and status != 101:
            self.interim += 1
            if self.interim > MAX_INTERIM:
                raise BadAnswer(Flaw.INTERIM, f"more than {MAX_INTERIM} interim answers")
            return
        if status == 101 and not self._upgrade:
            raise BadAnswer(Flaw.UPGRADE, "status 101")
        self.status, self.raw_headers = status, headers
        if status == 101:
            self.complete = True
        else:
            self._choose_framing(match[1])
        self.head_done = True

    def _choose_framing(self, version: bytes) -> None:
        """RFC 9112 section 6.3, without its leniency: one framing or none."""
        lengths, codings, closes = _framing_of(self.raw_headers)
        if codings and (lengths or version == b"1.0" or len(codings) > 1 or codings[0].lower() != b"chunked"):
            raise BadAnswer(
                Flaw.TRANSFER_CODING, "a transfer-encoding that is not exactly chunked, or beside a content-length"
            )
        if len(lengths) > 1:
            raise BadAnswer(Flaw.LENGTH_REPEATED, f"{len(lengths)} content-lengths")
        if lengths and not CONTENT_LENGTH.fullmatch(lengths[0]):
            raise BadAnswer(Flaw.LENGTH, "a content-length that is not one number")
        self.keep_alive = version == b"1.1" and not closes
        # "A server MUST NOT send a Content-Length header field in any response with a status code of [...] 204"
        # (RFC 9110 section 8.6)
        self.length = int(lengths[0]) if lengths and self.status != 204 else None
        if self.head_request or self.status in (204, 304):
            self.complete = True
        elif codings:
            self._chunks = ChunkedReader(_CHUNKS)
        elif self.length is None:
            self._left, self.keep_alive = None, False
        else:
            self._left = self.length
            self.complete = not self.length


def _not_http(data: bytes) -> BadAnswer:
    # a TLS record of an alert or a handshake (RFC 8446 section 5.1)
    if data[:2] in (b"\x15\x03", b"\x16\x03"):
        return BadAnswer(Flaw.TLS_EXPECTED, "a record of TLS")
    return BadAnswer(Flaw.NOT_HTTP, f"an answer that begins with {data[:16]!r}, and not with HTTP/1")


_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"connection"))


def _framing_of(headers: list[Header]) -> tuple[list[bytes], list[bytes], bool]:
    """-> (every Content-Length, every Transfer-Encoding, whether Connection says close), in one pass, as each answer
    comes by here."""
    lengths: list[bytes] = []
    codings: list[bytes] = []
    closes = False
    for name, value in headers:
        if name not in _FRAMING:
            continue
        if name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif value != b"keep-alive" and b"close" in list_members(value):
            closes = True
    return lengths, codings, closes
