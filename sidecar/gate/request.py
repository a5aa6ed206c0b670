"""The raw request, judged once into one canonical reading, or refused.

What is read here is what is decided, logged and sent: nothing downstream sees the raw request again.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from sidecar.bounded import Bounded, remembered
from sidecar.gate.peers import MAX_ADDRESS
from sidecar.gate.trace import Trace
from sidecar.gate.verdict import Code, Refused

MAX_TARGET = 8192
"""Bytes of a request target; RFC 9110 section 4.1 recommends at least 8000."""
MAX_SEGMENTS = 256
"""Of a path."""
MAX_ESCAPES = 768
"""Of a path: 256 characters of three octets. Of escaped percent signs, a sixth of it. With these bounds no target costs
more to read than a token costs to verify."""

Header = tuple[bytes, bytes]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Oddity(StrEnum):
    """What two servers could read differently, and a route may allow by name (`allow:` in routes.yaml)."""

    ENCODED_SLASH = "encoded_slash"
    ENCODED_PERCENT = "encoded_percent"
    SEMICOLON = "semicolon"
    EMPTY_SEGMENT = "empty_segment"
    REQUEST_BODY = "request_body"


class Raw(NamedTuple):
    """One request as a door received it: header names in lower case, `target` exactly as on the request line.

    `headers` as a tuple are those of a request before: what they say is looked up by the tuple's identity.
    `peer` is the address of the socket's other end ("" on a unix socket), `scheme` that of the socket.
    """

    method: str
    target: bytes
    headers: list[Header] | tuple[Header, ...]
    peer: str
    scheme: str
    request_id: str
    websocket: bool = False
    trace: Trace | None = None


class Reading(NamedTuple):
    """Settings of the reading: `hosts` in lower case, None for any; `trusted` peers whose X-Forwarded-* is believed.
    With `alb` the headers of a load balancer's sign-in are for the sidecar alone."""

    hosts: frozenset[str] | None = None
    trusted: tuple[Network, ...] = ()
    alb: bool = False


class Request(NamedTuple):
    """The canonical request.

    `path` is the path as it is sent; `segments` are its parts with every escape decoded; `target` is path and query.
    `headers` are the end-to-end headers that go upstream, ours included but for the identity headers.
    `seen` holds the headers that decide something, by name. `oddities` must all be allowed by the route.
    """

    method: str
    target: bytes
    path: str
    segments: tuple[str, ...]
    query: bytes
    headers: list[Header]
    seen: dict[bytes, bytes]
    host: str
    peer: str
    request_id: str
    oddities: frozenset[Oddity]
    has_body: bool
    websocket: bool


NO_ODDITIES: frozenset[Oddity] = frozenset()


def read(raw: Raw, reading: Reading) -> Request:
    """Judge a raw request into its one reading. Raises Refused (400, 414 or 421)."""
    path, segments, query, oddities = read_target(raw.target)
    headers = raw.headers
    kept, seen = _read_again(headers) if type(headers) is tuple else _read_headers(headers)
    kept = _without_alb(kept, reading)
    host = read_host(seen, reading.hosts)
    has_body = b"transfer-encoding" in seen or seen.get(b"content-length", b"0").strip(b"0") != b""
    if has_body and raw.method in _BODILESS:
        oddities |= {Oddity.REQUEST_BODY}
    _add_forwarded(kept, seen, raw, reading.trusted)
    target = path if raw.target.find(b"?") < 0 else path + b"?" + query
    return Request(
        raw.method, target, path.decode("ascii"), segments, query, kept, seen, host, raw.peer,
        raw.request_id, oddities, has_body, raw.websocket,
    )  # fmt: skip


def as_it_came(raw: Raw, reading: Reading) -> Request:
    """The request unjudged, for shadow mode alone: the raw target, with the headers of the sidecar still removed."""
    kept, seen = _read_headers(raw.headers, lenient=True)
    kept = _without_alb(kept, reading)
    _add_forwarded(kept, seen, raw, reading.trusted)
    path, _, query = raw.target.partition(b"?")
    return Request(
        raw.method, raw.target, path.decode("latin-1"), (), query, kept, seen, "", raw.peer,
        raw.request_id, NO_ODDITIES, False, raw.websocket,
    )  # fmt: skip


# --- the target ---

# RFC 3986 section 3.3: pchar = unreserved / pct-encoded / sub-delims / ":" / "@"; without "%" and ";" nothing is odd
_PLAIN_PATH = re.compile(rb"(?:/[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?")
_PATH_OCTETS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~!$&'()*+,=:@;/-%"
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_QUERY = re.compile(rb"[!\"$-~]*")  # visible ASCII without "#", as it came
_ESCAPE = re.compile(rb"%(?=[0-9A-Fa-f]{2})")
# of an unreserved character (RFC 3986 section 2.3)
_NEEDLESS_ESCAPE = re.compile(rb"%(?=2[DdEe]|3[0-9]|[46][1-9A-Fa-f]|5[0-9AaFf]|7[0-9AaEe])")
_NEVER_ESCAPED = re.compile(rb"%(?:[01][0-9A-Fa-f]|23|3[Ff]|5[Cc]|7[Ff])")
_ODD = (
    (b"%2f", Oddity.ENCODED_SLASH), (b"%25", Oddity.ENCODED_PERCENT), (b"%3b", Oddity.SEMICOLON),
    (b";", Oddity.SEMICOLON),
)  # fmt: skip
# C1 controls are controls too, to terminals and to some parsers
_C1 = re.compile(r"[\x80-\x9f]")
_ESCAPED_SLASH = "\0"
"""Stands for it while a path is one text: an escaped NUL is refused before."""
# a dot segment, or an empty part beside an escaped slash or before a ";", wherever the path is cut
_HIDDEN = re.compile(r"[/\0](?:\.{1,2}(?:[/\0;]|\Z)|;)|\0(?:[/\0]|\Z)|/\0")
_NEVER_UNDER_TWO = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\\#?/;]")
_DOTS = frozenset((".", ".."))
_MAX_ESCAPES_OF_ESCAPES = 8


def read_target(target: bytes) -> tuple[bytes, tuple[str, ...], bytes, frozenset[Oddity]]:
    """Read an origin-form target (RFC 9112 section 3.2.1) into canonical path, decoded segments, query and oddities.

    Escapes of unreserved characters are decoded (RFC 3986 section 6.2.2.2) and nothing else is touched.
    Raises Refused: TARGET_TOO_LONG over 8 KiB, 256 segments or 768 escapes of the path, TARGET_AMBIGUOUS for what
    can be read in two ways.
    """
    if len(target) > MAX_TARGET:
        raise Refused(Code.TARGET_TOO_LONG, f"{len(target)} bytes, at most {MAX_TARGET}")
    path, _, query = target.partition(b"?")
    if len(path) > MAX_SEGMENTS:
        _refuse_long(path)
    if query and not _QUERY.fullmatch(query):
        raise Refused(Code.TARGET_AMBIGUOUS, "a query with a byte that is not visible ASCII, or '#'")
    # a dot segment starts right after a slash
    if path and b"/." not in path and _PLAIN_PATH.fullmatch(path):
        return path, tuple(path[1:].decode("ascii").split("/")), query, NO_ODDITIES
    canonical, segments, oddities = _read_odd_path(path)
    return canonical, segments, query, oddities


def _refuse_long(path: bytes) -> None:
    if path.count(b"/") > MAX_SEGMENTS:
        raise Refused(Code.TARGET_TOO_LONG, f"{path.count(b'/')} segments, at most {MAX_SEGMENTS}")
    if path.count(b"%") > MAX_ESCAPES or path.count(b"%25") > MAX_ESCAPES // 6:
        raise Refused(
            Code.TARGET_TOO_LONG, f"{path.count(b'%')} escapes, at most {MAX_ESCAPES}, and {MAX_ESCAPES // 6} of '%'"
        )


def _read_odd_path(path: bytes) -> tuple[bytes, tuple[str, ...], frozenset[Oddity]]:
    """-> (the path as it is sent, its segments as texts, what is odd about it). Refuses what no route may allow.

    The path is looked at as a whole, a fixed number of times: with a look at each segment a client without a token
    could ask for as many as there are bytes.
    """
    if not path.startswith(b"/"):
        raise Refused(Code.TARGET_AMBIGUOUS, "a target that is not a path")
    if path.translate(None, _PATH_OCTETS) or _BROKEN_ESCAPE.search(path):
        raise Refused(Code.TARGET_AMBIGUOUS, "a byte that is no pchar of RFC 3986, or a broken escape")
    oddities: set[Oddity] = set()
    canonical, folded = path, path
    if b"%" in path:
        canonical = _without_needless_escapes(path)
        folded = canonical.lower()
    oddities.update([oddity for text, oddity in _ODD if text in folded])
    segments = _read_segments(canonical)
    if b"//" in canonical:
        oddities.add(Oddity.EMPTY_SEGMENT)
    return canonical, tuple(segments), frozenset(oddities)


def _without_needless_escapes(path: bytes) -> bytes:
    canonical = _unescape(path, _NEEDLESS_ESCAPE)
    # an escaped dot beside another dot is a dot segment to one who cuts the segment elsewhere
    if canonical.count(b"..") != path.count(b".."):
        raise Refused(Code.TARGET_AMBIGUOUS, "escaped dots")
    never = _NEVER_ESCAPED.search(canonical)
    if never is not None:
        raise Refused(Code.TARGET_AMBIGUOUS, f"the escape {never[0].decode('ascii')}")
    return canonical


def _unescape(data: bytes, escape: re.Pattern[bytes]) -> bytes:
    """Decode the escapes whose "%" the pattern finds, at the speed of C: as quoted-printable (RFC 2045 section 6.7)."""
    return binascii.a2b_qp(escape.sub(b"=", data.replace(b"=", b"=3D")))


def _read_segments(path: bytes) -> list[str]:
    """The segments of a canonical path with every escape decoded. No reading of one, however often decoded and
    wherever cut, may give a dot segment or hide a separator."""
    text = path.decode("ascii")
    if b"%" in path:
        marked = path.replace(b"%2F", b"%00").replace(b"%2f", b"%00")
        text = _text(binascii.a2b_qp(marked.replace(b"=", b"=3D").replace(b"%", b"=")))
    # the pattern alone would look at each character
    if ("/." in text or "/;" in text or _ESCAPED_SLASH in text) and _HIDDEN.search(text):
        raise Refused(Code.TARGET_AMBIGUOUS, "a dot segment")
    segments = text[1:].split("/")
    if _ESCAPED_SLASH in text:
        segments = [segment.replace(_ESCAPED_SLASH, "/") for segment in segments]
    if "%" in text:
        _refuse_hidden_escapes([segment for segment in segments if "%" in segment])
    return segments


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(Code.TARGET_AMBIGUOUS, "escapes that are not UTF-8") from None
    if not text.isascii() and _C1.search(text):
        raise Refused(Code.TARGET_AMBIGUOUS, "a control character")
    return text


def _refuse_hidden_escapes(texts: list[str]) -> None:
    """Decode the segments again, all of them at once, until nothing changes."""
    for _ in range(_MAX_ESCAPES_OF_ESCAPES):
        decoded = _text(_unescape("\n".join(texts).encode("utf-8"), _ESCAPE)).split("\n")
        if decoded == texts:
            return
        if len(decoded) != len(texts):
            raise Refused(Code.TARGET_AMBIGUOUS, "a control character under two escapes")
        changed = [(before, after) for before, after in zip(texts, decoded, strict=True) if before != after]
        texts = [after for _, after in changed]
        joined, before = "\n".join(texts), "\n".join([text for text, _ in changed])
        if joined.count("..") != before.count("..") or not _DOTS.isdisjoint(texts) or _NEVER_UNDER_TWO.search(joined):
            raise Refused(Code.TARGET_AMBIGUOUS, "dots or a separator under two escapes")
    raise Refused(Code.TARGET_AMBIGUOUS, "escapes of escapes")


# --- the headers ---

_KEEP, _DROP, _DECIDES, _DECIDES_DROP = range(4)

# RFC 9110 section 7.6.1, RFC 9113 section 8.2.2 for what belongs to one connection
_HOP_BY_HOP = (
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer transfer-encoding "
    b"upgrade http2-settings content-length"
).split()
IDENTITY_HEADERS = (b"x-auth-subject", b"x-auth-roles", b"x-auth-assertion")
"""What only the sidecar may say to the upstream, and nobody to the client."""
# another path, method, host or client than those of the request itself
OVERRIDES = (
    b"x-http-method-override x-http-method x-method-override x-rewrite-url x-envoy-original-path "
    b"x-envoy-original-host x-envoy-external-address x-host forwarded x-forwarded x-real-ip x-client-ip "
    b"x-cluster-client-ip true-client-ip cf-connecting-ip cf-connecting-ipv6 fastly-client-ip x-azure-clientip "
    b"x-azure-socketip x-appengine-user-ip x-remote-ip x-remote-addr x-proxyuser-ip proxy-client-ip "
    b"wl-proxy-client-ip x-scheme x-url-scheme front-end-https x-request-id"
).split()
OVERRIDE_PREFIXES = (b"x-forwarded-", b"x-original-")
"""What begins like this is another proxy's word for the request or its sender, and no list of such names is whole."""
ALB_PREFIX = b"x-amzn-oidc-"
ALB_ACCESS_TOKEN, ALB_DATA = b"x-amzn-oidc-accesstoken", b"x-amzn-oidc-data"
ALB_HEADERS = (ALB_ACCESS_TOKEN, ALB_DATA, b"x-amzn-oidc-identity")
"""What an AWS load balancer sends of whom it has signed in."""
# headers of which two would let two servers pick different ones
_SINGLE = [
    *b"authorization host origin content-type content-length upgrade transfer-encoding expect".split(),
    ALB_ACCESS_TOKEN,
    ALB_DATA,
]
_ALSO_SEEN = (
    b"cookie accept x-forwarded-for x-forwarded-proto x-request-id access-control-request-method sec-fetch-site "
    b"sec-fetch-mode connection content-encoding"
).split()

_FORWARDED = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")
_DROPPED = dict.fromkeys([*_HOP_BY_HOP, *OVERRIDES, *_FORWARDED, *IDENTITY_HEADERS], _DROP)
_DECIDING = {name: _DECIDES_DROP if name in _DROPPED else _DECIDES for name in [*_SINGLE, *_ALSO_SEEN]}
# clients choose names: about 700 of those that they use, so that each is judged once
_ACTIONS: Bounded[bytes, int] = Bounded(256 * 1024, preset=_DROPPED | _DECIDING)
"""Header names -> what becomes of such a header. It learns names to keep."""
_LIST_HEADERS = {b"cookie": b"; ", b"accept": b", ", b"x-forwarded-for": b", ", b"connection": b", "}
# A client may not take an end-to-end header of the request away by naming it in Connection (RFC 9110 section 7.6.1)
_NOT_NOMINATED = frozenset(
    [*OVERRIDES, *IDENTITY_HEADERS, *_SINGLE, b"cookie", b"content-encoding", b"content-range", b"accept"]
) - {b"upgrade"}

MAX_NOMINATED = 64
"""Names in Connection."""
MAX_COOKIES = 256
"""Cookies of a request that has one of the sidecar's own; a browser keeps about 180 of one site."""
MAX_HOPS = 64
"""Addresses in X-Forwarded-For."""

_NAME = re.compile(rb"[a-z0-9-]+")
_CONTROLS = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
_TOKEN_LIST = re.compile(rb"[a-z0-9-]*")


def _learn(name: bytes) -> int:
    if not _NAME.fullmatch(name):
        raise Refused(Code.HEADER_AMBIGUOUS, f"the header name {name[:64]!r}, expected letters, digits and '-'")
    action = _DROP if name.startswith(OVERRIDE_PREFIXES) else _KEEP
    _ACTIONS.put(name, action, len(name))
    return action


def _read_headers(headers: Iterable[Header], lenient: bool = False) -> tuple[list[Header], dict[bytes, bytes]]:
    kept: list[Header] = []
    seen: dict[bytes, bytes] = {}
    for header in headers:
        name = header[0]
        action = _ACTIONS.get(name)
        if action is None:
            action = _DROP if lenient and not _NAME.fullmatch(name) else _learn(name)
        if action >= _DECIDES:
            seen[name] = _joined(name, seen[name], header[1], lenient) if name in seen else header[1]
        if action in (_KEEP, _DECIDES):
            kept.append(header)
    values = b"".join([value for _, value in kept])
    if not lenient and len(values.translate(None, _CONTROLS)) != len(values):
        raise Refused(Code.HEADER_AMBIGUOUS, "a control character in a header")
    return _without_ours(kept, seen, lenient), seen


# a few hundred clients with usual headers (1 KiB), which keep a connection each
_again: Bounded[int, tuple[tuple[Header, ...], list[Header], dict[bytes, bytes]]] = Bounded(1024 * 1024)
_HEADER = 150
"""Bytes of a header beside its texts: a pair, two objects of octets, and its places in two lists."""


def _read_again(headers: tuple[Header, ...]) -> tuple[list[Header], dict[bytes, bytes]]:
    """As `_read_headers`, once for a tuple, which cannot have changed."""
    known = _again.get(id(headers))
    if known is None or known[0] is not headers:
        known = (headers, *_read_headers(headers))
        _again.put(id(headers), known, sum([_HEADER + len(name) + len(value) for name, value in headers]))
    return known[1].copy(), known[2]


def _without_ours(kept: list[Header], seen: dict[bytes, bytes], lenient: bool) -> list[Header]:
    """What is between the client and us alone: headers that Connection names, our cookies, the wait for 100."""
    if b"connection" in seen:
        kept = _without_nominated(kept, seen[b"connection"], lenient)
    cookie = seen.get(b"cookie")
    if cookie is not None and any(own in cookie for own in OWN_COOKIES):
        if cookie.count(b";") >= MAX_COOKIES:
            raise Refused(Code.HEADERS_TOO_LARGE, f"more than {MAX_COOKIES} cookies")
        if not lenient:
            _refuse_tossed_cookies(cookie)
        kept = [pair for header in kept for pair in _without_own_cookies(header)]
    if seen.get(b"expect", b"").lower() == b"100-continue":
        kept = [header for header in kept if header[0] != b"expect"]
    return kept


def _without_alb(kept: list[Header], reading: Reading) -> list[Header]:
    return [header for header in kept if not header[0].startswith(ALB_PREFIX)] if reading.alb else kept


def _joined(name: bytes, first: bytes, second: bytes, lenient: bool) -> bytes:
    separator = _LIST_HEADERS.get(name, b", " if lenient else b"")
    if not separator:
        raise Refused(Code.HEADER_AMBIGUOUS, f"two headers {name.decode()}")
    return first + separator + second


def _without_nominated(kept: list[Header], connection: bytes, lenient: bool) -> list[Header]:
    if connection.count(b",") >= MAX_NOMINATED:
        if not lenient:
            raise Refused(Code.HEADER_AMBIGUOUS, f"Connection: more than {MAX_NOMINATED} names")
        # in shadow it is forwarded: a client that floods takes nothing away by it
        connection = b""
    nominated = {token.strip(b" \t").lower() for token in connection.split(b",")}
    if nominated <= _COMMON_NOMINATIONS:
        return kept
    if not lenient:
        for token in nominated:
            folded = token.translate(_FOLD)
            if folded in _NOT_NOMINATED or folded.startswith(OVERRIDE_PREFIXES) or not _TOKEN_LIST.fullmatch(token):
                raise Refused(Code.HEADER_AMBIGUOUS, f"Connection names {token[:64]!r}")
    return [header for header in kept if header[0] not in nominated or header[0] in _NOT_NOMINATED]


_FOLD = bytes.maketrans(b"_.", b"--")
_COMMON_NOMINATIONS = frozenset([b"keep-alive", b"close", b"", b"te", b"upgrade"])

OWN_COOKIES = (b"__Host-session", b"__Host-login")
"""Prefixes of the names of the sidecar's own cookies: they never reach the upstream, and it can set none of them."""


def _refuse_tossed_cookies(value: bytes) -> None:
    """Two cookies of one name of ours: one of them was put there by somebody else (R20)."""
    names = [crumb.partition(b"=")[0].strip() for crumb in value.split(b";")]
    ours = [name for name in names if name.startswith(OWN_COOKIES)]
    if len(ours) != len(set(ours)):
        raise Refused(Code.HEADER_AMBIGUOUS, "two cookies of one name of the sidecar's own")


def _without_own_cookies(header: Header) -> list[Header]:
    name, value = header
    if name != b"cookie" or not any(own in value for own in OWN_COOKIES):
        return [header]
    crumbs = [crumb for crumb in value.split(b";") if not crumb.strip().startswith(OWN_COOKIES)]
    return [(name, b";".join(crumbs).strip())] if crumbs else []


# RFC 3986 section 3.2.2; a reg-name without escapes, which no host of a web app has
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")


def read_host(seen: dict[bytes, bytes], allowed: frozenset[str] | None) -> str:
    """The host that the request names, in lower case, with its port. Refuses: REQUEST_INVALID, HOST_NOT_ALLOWED."""
    name = _host_name(seen.get(b"host", b""))
    if allowed is not None and name not in allowed and re.sub(r":\d+\Z", "", name) not in allowed:
        raise Refused(Code.HOST_NOT_ALLOWED, f"Host: {name}")
    return name


# an app has few names; a client may send any
@remembered(64 * 1024)
def _host_name(host: bytes) -> str:
    if not _HOST.fullmatch(host):
        raise Refused(Code.REQUEST_INVALID, "Host: expected one host, with or without a port")
    return host.decode("ascii").lower()


_BODILESS = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def _add_forwarded(kept: list[Header], seen: dict[bytes, bytes], raw: Raw, trusted: tuple[Network, ...]) -> None:
    """Say who the client is: what a trusted peer said, extended by that peer; from anyone else the socket alone."""
    peer, scheme, request_id = raw.peer.encode("ascii"), raw.scheme.encode("ascii"), raw.request_id.encode("ascii")
    if trusted and is_trusted(raw.peer, trusted):
        said = seen.get(b"x-forwarded-for", b"")
        if said and _are_addresses(said):
            peer = said + b", " + peer if peer else said
        if seen.get(b"x-forwarded-proto") in (b"http", b"https"):
            scheme = seen[b"x-forwarded-proto"]
        if _REQUEST_ID.fullmatch(seen.get(b"x-request-id", b"")):
            request_id = seen[b"x-request-id"]
    if peer:
        kept.append((b"x-forwarded-for", peer))
    kept.append((b"x-forwarded-proto", scheme))
    if b"host" in seen:
        kept.append((b"x-forwarded-host", seen[b"host"]))
    kept.append((b"x-request-id", request_id))


def _are_addresses(said: bytes) -> bool:
    """Whether X-Forwarded-For is what proxies make of it: IP addresses with commas between."""
    if said.count(b",") >= MAX_HOPS:
        return False
    try:
        return all(ipaddress.ip_address(part.strip()) for part in said.decode("ascii").split(","))
    except ValueError:
        return False


def is_trusted(peer: str, trusted: tuple[Network, ...]) -> bool:
    """Whether the socket's other end is a listed proxy. A peer without an address (unix socket) never is."""
    return len(peer) <= MAX_ADDRESS and _is_in((peer, trusted))


# about 700 proxies
@remembered(512 * 1024)
def _is_in(asked: tuple[str, tuple[Network, ...]]) -> bool:
    peer, trusted = asked
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in trusted)
