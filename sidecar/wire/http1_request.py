"""A client's HTTP/1.1 bytes without I/O: one head and one body, in the only reading there is, or a refusal.

A head is held back until it is whole, given to the parser alone, and judged before anyone sees it. The extent of a body
follows from the judged head and nothing else, so bytes of a body, a trailer or an offer never become another request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

import httptools

from sidecar.bounded import Bounded, remembered
from sidecar.gate.codes import Code

MAX_HEAD = 32 * 1024
"""Bytes of a head, request line and blank line included."""
MAX_HEADERS = 100
MAX_OPTIONS = 64
"""Options in `Connection`."""
MAX_TARGET = 8 * 1024
"""Bytes of a request target; RFC 9110 section 4.1 recommends at least 8000."""
CHUNKED = -1
"""As `Head.length`: the body is chunked, and its length is not known in advance."""

Headers = list[tuple[bytes, bytes]]
Repeated = tuple[tuple[bytes, bytes], ...]


class Rejected(Exception):
    """Error: the client sent no request that we read; the connection is of no use after it."""

    def __init__(self, status: int, code: Code) -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code


class Head(NamedTuple):
    """One judged head. `headers` is final, with names in lower case, and the same tuple again for each head of the
    connection that repeats the one before; `target` is as it stood on the request line.

    `length` is that of the body in bytes, 0 for none, or CHUNKED. `websocket` says that this is a valid handshake
    (RFC 6455 section 4.2.1); every other offer to upgrade has been removed from `headers`.
    """

    method: str
    target: bytes
    version: str
    headers: Headers | Repeated
    length: int
    keep_alive: bool
    expects_continue: bool
    websocket: bool


# --- the head ---

# CONNECT and TRACE are not among them: the one asks for a tunnel, the other for an echo of credentials
_METHODS = {
    name: name.decode()
    for name in (
        b"GET HEAD POST PUT PATCH DELETE OPTIONS PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK REPORT SEARCH QUERY"
    ).split()
}
_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_TARGET = re.compile(rb"/[!\"$-~]*")  # origin-form, visible ASCII without "#"
_MAX_LINE = MAX_TARGET + 64
_TEXT = bytes(octet for octet in range(256) if octet == 0x09 or (octet >= 0x20 and octet != 0x7F))

_NAME = re.compile(rb"[A-Za-z0-9-]+")
_COMMON = (
    b"Host Connection User-Agent Accept Accept-Encoding Accept-Language Authorization Cookie Content-Type "
    b"Content-Length Transfer-Encoding Origin Referer Cache-Control Pragma If-None-Match If-Modified-Since Range "
    b"Upgrade Upgrade-Insecure-Requests Expect X-Requested-With X-Request-Id X-Forwarded-For X-Forwarded-Proto "
    b"X-Forwarded-Host Sec-Fetch-Site Sec-Fetch-Mode Sec-Fetch-Dest Sec-Fetch-User Sec-Ch-Ua Sec-Ch-Ua-Mobile "
    b"Sec-Ch-Ua-Platform Priority Te Dnt Traceparent Tracestate Sec-WebSocket-Key Sec-WebSocket-Version"
).split()
# clients choose names: about 600 of those that they use, so that each is judged once
_NAMES: Bounded[bytes, bytes] = Bounded(
    256 * 1024, preset={spelled: name.lower() for name in _COMMON for spelled in (name, name.lower())}
)
"""Names that clients use -> lower case. It learns."""

# of two of these, two servers could pick different ones
_SINGLE = frozenset(
    b"host authorization content-type content-length transfer-encoding upgrade http2-settings origin expect "
    b"sec-websocket-key sec-websocket-version".split()
)
_SEEN = _SINGLE | {b"connection"}
_OFFER = frozenset((b"upgrade", b"http2-settings"))
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+)(?::[0-9]{1,5})?")
_SOCKET_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")  # sixteen bytes in base64: two bits in the last digit
_BAD_REQUEST = (400, Code.REQUEST_INVALID)
_MAX_REMEMBERED = 4096
"""Bytes of the header lines that a connection remembers from its last request."""


class HeadReader:
    """Reads the heads of one connection, one at a time.

    `feed` gives the head once it is whole, and then `rest` is what followed it. Memory is bounded by MAX_HEAD, since
    bytes are counted before any of them is parsed.
    """

    def __init__(self) -> None:
        self.held = b""
        self.rest = b""
        self._headers: Headers = []
        self._seen: dict[bytes, bytes] = {}
        self._ended = False
        self._parser = httptools.HttpRequestParser(self)
        self._last: tuple[bytes, Head] | None = None

    def feed(self, data: bytes) -> Head | None:
        """Take bytes; None while the head is not whole. Raises Rejected, after which nothing more may be fed."""
        start = 0
        if self.held:
            start = max(0, len(self.held) - 3)
            data = self.held + data
        end = data.find(b"\r\n\r\n", start, MAX_HEAD) + 4
        if end < 4:
            self._hold(data)
            return None
        self.held = b""
        self.rest = data[end:]
        return self._read(data[:end])

    def _hold(self, data: bytes) -> None:
        """Keep an unfinished head, unless it can no longer become a good one."""
        if len(data) > _MAX_LINE and data.find(b"\r\n", 2, _MAX_LINE) < 0:
            raise Rejected(414, Code.TARGET_TOO_LONG)
        if len(data) >= MAX_HEAD:
            raise Rejected(431, Code.HEADERS_TOO_LARGE)
        # only what is new is looked at, with the byte before it: half of a line end may have been there
        fresh = data[len(self.held) - 1 :].removeprefix(b"\n") if self.held else data
        controls = fresh.replace(b"\r\n", b"").translate(None, _TEXT)
        # RFC 9112 section 2.2: a bare CR is invalid; a bare LF could be read as a line end by one server alone
        if controls and not (controls == b"\r" and fresh.endswith(b"\r")):
            raise Rejected(*_BAD_REQUEST)
        self.held = data

    def _read(self, head: bytes) -> Head:
        # RFC 9112 section 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the request-line"
        head = head.removeprefix(b"\r\n")
        end = head.find(b"\r\n")
        method, target, version = _read_request_line(head[:end])
        lines = head[end:]
        if self._last is not None and lines == self._last[0]:
            # most clients say the same in every request of a connection, and it means the same
            last = self._last[1]
            if method == last.method and version == last.version:
                return Head(
                    method, target, version, last.headers, 0, last.keep_alive, last.expects_continue, websocket=False
                )
        self._headers, self._seen, self._ended = [], {}, False
        self._parse(head)
        judged = _judge(method, target, version, self._headers, self._seen)
        if len(lines) <= _MAX_REMEMBERED and not judged.length and not judged.websocket:
            self._last = (lines, judged._replace(headers=tuple(judged.headers)))
        return judged

    def _parse(self, head: bytes) -> None:
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._ended = False
        except httptools.HttpParserError as error:
            cause = error.__context__
            raise (cause if isinstance(cause, Rejected) else Rejected(*_BAD_REQUEST)) from None
        if not self._ended:
            # this parser now waits for a body or for a tunnel, which are not its business: the next head gets another
            self._parser = httptools.HttpRequestParser(self)

    def close(self) -> None:
        """Let go of the parser, which holds on to this reader."""
        del self._parser

    # called by the parser

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = _NAMES.get(name)
        if lower is None:
            lower = _learn(name)
        value = value.strip(b" \t")
        if lower in _SEEN:
            if lower in self._seen:
                if lower in _SINGLE:
                    raise Rejected(400, Code.HEADER_AMBIGUOUS)
                self._seen[lower] += b"," + value
            else:
                self._seen[lower] = value
        self._headers.append((lower, value))
        if len(self._headers) > MAX_HEADERS:
            raise Rejected(431, Code.HEADERS_TOO_LARGE)

    def on_message_complete(self) -> None:
        self._ended = True


def _learn(name: bytes) -> bytes:
    # "_" and "." are tokens to RFC 9110, but many servers fold them to "-": two names for one header
    if not _NAME.fullmatch(name):
        raise Rejected(400, Code.HEADER_AMBIGUOUS)
    lower = name.lower()
    _NAMES.put(name, lower, 2 * (33 + len(name)))
    return lower


def _read_request_line(line: bytes) -> tuple[str, bytes, str]:
    parts = line.split(b" ")
    if len(parts) != 3 or parts[0] not in _METHODS or parts[2] not in _VERSIONS:
        raise Rejected(*_BAD_REQUEST)
    target = parts[1]
    if len(target) > MAX_TARGET:
        raise Rejected(414, Code.TARGET_TOO_LONG)
    if not _TARGET.fullmatch(target):
        raise Rejected(400, Code.TARGET_AMBIGUOUS)
    return _METHODS[parts[0]], target, _VERSIONS[parts[2]]


def _judge(method: str, target: bytes, version: str, headers: Headers, seen: dict[bytes, bytes]) -> Head:
    """Judge the headers together, in one place: host, framing, what becomes of the connection."""
    # RFC 9112 section 3.2: a server MUST answer 400 to a request without Host, with two, or with an invalid one
    host = seen.get(b"host", b"")
    if len(host) > 255 or not _is_host(host):
        raise Rejected(*_BAD_REQUEST)
    if len(seen) == 1:
        return Head(method, target, version, headers, 0, version == "1.1", False, False)
    length = _read_framing(seen, version)
    tokens = _tokens(seen[b"connection"]) if b"connection" in seen else _NO_TOKENS
    websocket = _is_handshake(method, version, seen, tokens)
    if not websocket and (b"upgrade" in seen or b"http2-settings" in seen):
        headers = _without_offer(headers)
    expects = _expects_continue(seen, version)
    return Head(
        method, target, version, headers, length, version == "1.1" and b"close" not in tokens, expects, websocket
    )


# an app has few names; a client may send any
@remembered(64 * 1024)
def _is_host(value: bytes) -> bool:
    return _HOST.fullmatch(value) is not None


def _read_framing(seen: dict[bytes, bytes], version: str) -> int:
    """RFC 9112 section 6.3, without its tolerance: one Content-Length, or exactly `chunked`, or no body."""
    coding, length = seen.get(b"transfer-encoding"), seen.get(b"content-length")
    if coding is not None:
        if length is not None or version != "1.1" or coding.lower() != b"chunked":
            raise Rejected(*_BAD_REQUEST)
        return CHUNKED
    if length is None:
        return 0
    if not length.isdigit() or len(length) > 15:
        raise Rejected(*_BAD_REQUEST)
    return int(length)


_NO_TOKENS: frozenset[bytes] = frozenset()


def _tokens(value: bytes) -> frozenset[bytes]:
    if value.count(b",") >= MAX_OPTIONS:
        raise Rejected(*_BAD_REQUEST)
    return frozenset(token.strip(b" \t").lower() for token in value.split(b","))


def _expects_continue(seen: dict[bytes, bytes], version: str) -> bool:
    expect = seen.get(b"expect")
    if expect is None or version == "1.0":  # RFC 9110 section 10.1.1: MUST ignore it in an HTTP/1.0 request
        return False
    if expect.lower() != b"100-continue":
        raise Rejected(417, Code.REQUEST_INVALID)
    return True


def _is_handshake(method: str, version: str, seen: dict[bytes, bytes], tokens: frozenset[bytes]) -> bool:
    """Return whether this asks for a WebSocket. One that asks and is not valid is refused: its bytes could be a
    tunnel's."""
    asks = seen.get(b"upgrade", b"").lower() == b"websocket" and b"upgrade" in tokens
    if not asks or method != "GET" or version != "1.1":
        return False
    framed = b"content-length" in seen or b"transfer-encoding" in seen
    key = seen.get(b"sec-websocket-key", b"")
    if framed or seen.get(b"sec-websocket-version") != b"13" or not _SOCKET_KEY.fullmatch(key):
        raise Rejected(*_BAD_REQUEST)
    return True


def _without_offer(headers: Headers) -> Headers:
    """RFC 9110 section 7.8: a server MAY ignore an offer to upgrade; then nobody behind it may hear of it either."""
    kept: Headers = []
    for name, value in headers:
        if name == b"connection":
            left = [token for token in value.split(b",") if token.strip(b" \t").lower() not in _OFFER]
            if left:
                kept.append((name, b",".join(left).strip(b" \t")))
        elif name not in _OFFER:
            kept.append((name, value))
    return kept


# --- the body ---


class Body(Protocol):
    """Cuts one body out of the bytes that follow its head."""

    done: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """-> (bytes of the body, bytes after the message: empty until `done`). Raises Rejected."""


def body_of(length: int) -> Body:
    """The reader of a body with that `Head.length`, which is not 0."""
    return Chunked() if length == CHUNKED else Sized(length)


class Sized:
    """A body with a Content-Length (RFC 9112 section 6.2)."""

    __slots__ = ("_left", "done")

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        left = self._left - len(data)
        if left > 0:
            self._left = left
            return data, b""
        cut, self._left, self.done = self._left, 0, True
        return data[:cut], data[cut:]


_TOKEN = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;%b(?:=%b)?)*" % (_TOKEN, _TOKEN))
_TRAILER = re.compile(rb"[A-Za-z0-9-]+:[\t -~\x80-\xff]*")
_MAX_SIZE_LINE = 256
_MAX_TRAILERS = 8 * 1024


class Chunked:
    """A chunked body (RFC 9112 section 7.1). Chunk extensions are ignored; trailers are checked and dropped."""

    __slots__ = ("_held", "_left", "_read", "_trailers", "done")

    def __init__(self) -> None:
        self._held = b""
        self._left = 0
        self._trailers = 0
        self._read: Callable[[Chunked, bytes], None] = Chunked._read_size
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        if self._held:
            data, self._held = self._held + data, b""
        parts: list[bytes] = []
        position = 0
        while position < len(data) and not self.done:
            if self._left:
                part = data[position : position + self._left]
                parts.append(part)
                self._left -= len(part)
                position += len(part)
                continue
            end = data.find(b"\r\n", position)
            if end < 0:
                self._hold(data[position:])
                break
            self._read(self, data[position:end])
            position = end + 2
        return b"".join(parts), data[position:] if self.done else b""

    def _hold(self, line: bytes) -> None:
        limit = _MAX_TRAILERS if self._read is Chunked._read_trailer else _MAX_SIZE_LINE
        if len(line) > limit or b"\n" in line or b"\r" in line[:-1]:
            raise Rejected(*_BAD_REQUEST)
        self._held = line

    def _read_size(self, line: bytes) -> None:
        match = _SIZE.fullmatch(line)
        if not match or len(line) > _MAX_SIZE_LINE:
            raise Rejected(*_BAD_REQUEST)
        self._left = int(match[1], 16)
        self._read = Chunked._read_data_end if self._left else Chunked._read_trailer

    def _read_data_end(self, line: bytes) -> None:
        if line:
            raise Rejected(*_BAD_REQUEST)
        self._read = Chunked._read_size

    def _read_trailer(self, line: bytes) -> None:
        """RFC 9110 section 6.5.1: trailers may be discarded; merged into the headers they would be a second word."""
        if not line:
            self.done = True
            return
        self._trailers += len(line)
        if self._trailers > _MAX_TRAILERS or not _TRAILER.fullmatch(line):
            raise Rejected(*_BAD_REQUEST)
