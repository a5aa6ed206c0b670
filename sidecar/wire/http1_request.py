"""A client's HTTP/1.1 bytes without I/O: one head and one body, in the only reading there is, or a BadRequest.

A head is held back until it is whole, given to the parser alone, and judged before anyone sees it. The extent of a body
follows from the judged head and nothing else, so bytes of a body, a trailer or an offer never become another request.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import NamedTuple, Protocol

import httptools

from sidecar.bounded import Bounded, remembered
from sidecar.wire.chunked import ChunkedReader, ChunkRules
from sidecar.wire.grammar import (
    CONTENT_LENGTH,
    FIELD_TEXT,
    MAX_TARGET,
    METHODS,
    ORIGIN_FORM,
    OWS,
    PLAIN_NAME,
    SINGLETONS,
    TEXT,
    TOKEN,
    Header,
    is_host,
    is_method,
    list_members,
)

MAX_HEAD = 32 * 1024
"""Bytes of a head, request line and blank line included."""
MAX_HEADERS = 100
MAX_OPTIONS = 64
"""Options in `Connection`."""
CHUNKED = -1
"""As `Head.length`: the body is chunked, and its length is not known in advance."""

Headers = list[Header]
Repeated = tuple[Header, ...]


class Violation(Enum):
    """Kinds of fault in a request, so far apart that a client is told of each by another answer."""

    INVALID = auto()
    """Not HTTP/1.1 as it is read here."""
    EXPECTATION_UNKNOWN = auto()
    """Another Expect than `100-continue`."""
    TARGET_INVALID = auto()
    """A target that is not in origin-form, or has bytes that are not visible ASCII."""
    TARGET_TOO_LONG = auto()
    HEADER_AMBIGUOUS = auto()
    """A header that servers could read differently: it stands twice, or its name has another spelling."""
    HEADERS_TOO_LARGE = auto()


class BadRequest(Exception):
    """Raised for bytes that are not a request with one reading; the connection is of no use after it.

    `fault` is the kind of the fault, and the message says which rule is broken.
    """

    def __init__(self, fault: Violation, rule: str) -> None:
        super().__init__(rule)
        self.fault = fault


def _invalid(rule: str) -> BadRequest:
    return BadRequest(Violation.INVALID, rule)


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

_METHODS = {name.encode("ascii"): name for name in METHODS}
_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_MAX_LINE = MAX_TARGET + 64
"""Bytes of a request line."""

_COMMON = (
    b"Host Connection User-Agent Accept Accept-Encoding Accept-Language Authorization Cookie Content-Type "
    b"Content-Length Transfer-Encoding Origin Referer Cache-Control Pragma If-None-Match If-Modified-Since Range "
    b"Upgrade Upgrade-Insecure-Requests Expect X-Requested-With X-Request-Id X-Forwarded-For X-Forwarded-Proto "
    b"X-Forwarded-Host Sec-Fetch-Site Sec-Fetch-Mode Sec-Fetch-Dest Sec-Fetch-User Sec-Ch-Ua Sec-Ch-Ua-Mobile "
    b"Sec-Ch-Ua-Platform Priority Te Dnt Traceparent Tracestate Sec-WebSocket-Key Sec-WebSocket-Version"
).split()
# clients choose names: about 600 of those that they use, so that each is judged once
_NAMES: Bounded[bytes, bytes] = Bounded(
    256 * 1024, preset={variant: name.lower() for name in _COMMON for variant in (name, name.lower())}
)
"""Names that clients use -> lower case. It learns."""

_SEEN = SINGLETONS | {b"connection"}
_OFFER = frozenset((b"upgrade", b"http2-settings"))
_SOCKET_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")  # sixteen bytes in base64: two bits in the last digit
_MAX_REMEMBERED = 4096
"""Bytes of header lines that are remembered."""
# about 600 clients with usual headers (1 KiB), whose requests come on any connection of a proxy or balancer
_HEADS: Bounded[bytes, Head] = Bounded(2 * 1024 * 1024, longest=_MAX_REMEMBERED)
"""Header lines that came on several connections -> the head that they were part of."""
_ONCE = [0] * 1024
"""Hashes of lines that came lately: what comes once, as most that differs in each request, is not worth a place."""


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
        """Take bytes; None while the head is not whole. Raises BadRequest, after which nothing more may be fed."""
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
            raise BadRequest(Violation.TARGET_TOO_LONG, f"a request line over {_MAX_LINE} bytes")
        if len(data) >= MAX_HEAD:
            raise BadRequest(Violation.HEADERS_TOO_LARGE, f"a head over {MAX_HEAD} bytes")
        # only what is new is looked at, with the byte before it: half of a line end may have been there
        fresh = data[len(self.held) - 1 :].removeprefix(b"\n") if self.held else data
        controls = fresh.replace(b"\r\n", b"").translate(None, TEXT)
        # RFC 9112 section 2.2: a bare CR is invalid; a bare LF could be read as a line end by one server alone
        if controls and not (controls == b"\r" and fresh.endswith(b"\r")):
            raise _invalid("a control character in the head")
        self.held = data

    def _read(self, head: bytes) -> Head:
        # RFC 9112 section 2.2: "SHOULD ignore at least one empty line (CRLF) received prior to the request-line"
        head = head.removeprefix(b"\r\n")
        end = head.find(b"\r\n")
        method, target, version = _read_request_line(head[:end])
        lines = head[end:]
        known = self._known(lines)
        if known is not None and method == known.method and version == known.version:
            return Head(
                method, target, version, known.headers, 0, known.keep_alive, known.expects_continue, websocket=False
            )
        self._headers, self._seen, self._ended = [], {}, False
        # the parser knows few methods, and of none other than CONNECT does the framing depend
        self._parse(head if method in METHODS else b"POST / HTTP/" + version.encode("ascii") + lines)
        judged = _judge(method, target, version, self._headers, self._seen)
        if len(lines) <= _MAX_REMEMBERED and not judged.length and not judged.websocket:
            self._last = (lines, judged._replace(headers=tuple(judged.headers)))
            if known is None:
                _remember(*self._last)
        return judged

    def _known(self, lines: bytes) -> Head | None:
        """Find a head with these lines: most clients say the same in every request, and it means the same."""
        if self._last is not None and lines == self._last[0]:
            return self._last[1]
        if len(lines) > _MAX_REMEMBERED:
            return None
        known = _HEADS.get(lines)
        if known is not None:
            self._last = (lines, known)
        return known

    def _parse(self, head: bytes) -> None:
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._ended = False
        except httptools.HttpParserError as error:
            cause = error.__context__
            raise (cause if isinstance(cause, BadRequest) else _invalid(f"the head: {error}")) from None
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
        value = value.strip(OWS)
        if lower in _SEEN:
            if lower in self._seen:
                if lower in SINGLETONS:
                    raise BadRequest(Violation.HEADER_AMBIGUOUS, f"two headers {lower.decode('ascii')}")
                self._seen[lower] += b"," + value
            else:
                self._seen[lower] = value
        self._headers.append((lower, value))
        if len(self._headers) > MAX_HEADERS:
            raise BadRequest(Violation.HEADERS_TOO_LARGE, f"more than {MAX_HEADERS} headers")

    def on_message_complete(self) -> None:
        self._ended = True


def _remember(lines: bytes, head: Head) -> None:
    """Remember for other connections what comes again."""
    number = hash(lines)
    place = number % len(_ONCE)
    if _ONCE[place] == number:
        _HEADS.put(lines, head, 2 * len(lines) + _HEADER * len(head.headers))
    else:
        _ONCE[place] = number


_HEADER = 150
"""Bytes of a header beside its texts: a pair, two objects of octets, and its place in a tuple."""


def _learn(name: bytes) -> bytes:
    if not PLAIN_NAME.fullmatch(name):
        raise BadRequest(Violation.HEADER_AMBIGUOUS, "a header name with other characters than letters, digits and '-'")
    lower = name.lower()
    _NAMES.put(name, lower, 2 * (33 + len(name)))
    return lower


def _read_request_line(line: bytes) -> tuple[str, bytes, str]:
    parts = line.split(b" ")
    if len(parts) != 3 or parts[2] not in _VERSIONS:
        raise _invalid("the request line")
    method = _METHODS.get(parts[0])
    if method is None:
        method = parts[0].decode("latin-1")
        if not is_method(method):
            raise _invalid("the method")
    target = parts[1]
    if len(target) > MAX_TARGET:
        raise BadRequest(Violation.TARGET_TOO_LONG, f"a target over {MAX_TARGET} bytes")
    if not ORIGIN_FORM.fullmatch(target):
        raise BadRequest(Violation.TARGET_INVALID, "a target that is not in origin-form")
    return method, target, _VERSIONS[parts[2]]


def _judge(method: str, target: bytes, version: str, headers: Headers, seen: dict[bytes, bytes]) -> Head:
    """Judge the headers together, in one place: host, framing, what becomes of the connection."""
    # RFC 9112 section 3.2: a server MUST answer 400 to a request without Host, with two, or with an invalid one; in
    # HTTP/1.0 there may be none, as in a balancer's health check
    if not _is_host(seen.get(b"host", b"")) and (version == "1.1" or b"host" in seen):
        raise _invalid("Host")
    if len(seen) <= 1:
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
_is_host = remembered(64 * 1024)(is_host)


def _read_framing(seen: dict[bytes, bytes], version: str) -> int:
    """RFC 9112 section 6.3, without its tolerance: one Content-Length, or exactly `chunked`, or no body."""
    coding, length = seen.get(b"transfer-encoding"), seen.get(b"content-length")
    if coding is not None:
        if length is not None or version != "1.1" or coding.lower() != b"chunked":
            raise _invalid("a Transfer-Encoding that is not exactly chunked, or beside a Content-Length")
        return CHUNKED
    if length is None:
        return 0
    if not CONTENT_LENGTH.fullmatch(length):
        raise _invalid("a Content-Length that is not one number")
    return int(length)


_NO_TOKENS: frozenset[bytes] = frozenset()


def _tokens(value: bytes) -> frozenset[bytes]:
    if value.count(b",") >= MAX_OPTIONS:
        raise _invalid(f"more than {MAX_OPTIONS} options in Connection")
    return frozenset(list_members(value))


def _expects_continue(seen: dict[bytes, bytes], version: str) -> bool:
    expect = seen.get(b"expect")
    if expect is None or version == "1.0":  # RFC 9110 section 10.1.1: MUST ignore it in an HTTP/1.0 request
        return False
    if expect.lower() != b"100-continue":
        raise BadRequest(Violation.EXPECTATION_UNKNOWN, "an Expect that is not 100-continue")
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
        raise _invalid("a WebSocket handshake: its version, its key, or a body")
    return True


def _without_offer(headers: Headers) -> Headers:
    """RFC 9110 section 7.8: a server MAY ignore an offer to upgrade; then nobody behind it may hear of it either."""
    kept: Headers = []
    for name, value in headers:
        if name == b"connection":
            options = [option for option in value.split(b",") if option.strip(OWS).lower() not in _OFFER]
            if options:
                kept.append((name, b",".join(options).strip(OWS)))
        elif name not in _OFFER:
            kept.append((name, value))
    return kept


# --- the body ---

# RFC 9112 section 7.1.1 without its blanks and quoted strings; no trailer that is used may have a name which other
# servers read as another
_CHUNKS = ChunkRules(
    size_line=re.compile(rb"([0-9A-Fa-f]{1,15})(?:;%b(?:=%b)?)*" % (TOKEN, TOKEN)),
    max_size_line=256,
    trailer=re.compile(rb"%b:%b" % (PLAIN_NAME.pattern, FIELD_TEXT)),
    max_trailers=8 * 1024,
    fault=_invalid,
)


class BodyReader(Protocol):
    """Cuts one body out of the bytes that follow its head."""

    done: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """-> (bytes of the body, bytes after the message: empty until `done`). Raises BadRequest."""


def body_of(length: int) -> BodyReader:
    """The reader of a body with that `Head.length`, which is not 0."""
    return ChunkedReader(_CHUNKS) if length == CHUNKED else Sized(length)


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
