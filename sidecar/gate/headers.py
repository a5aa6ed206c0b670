"""Headers of a request: which affect the decision, which go to the app, and which are refused.

Each name is judged once, by a table. A name that is in no table goes to the app.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sidecar.bounded import Bounded, remembered
from sidecar.gate.codes import Code
from sidecar.gate.forwarded import FORWARDED, FORWARDED_PORT, Described
from sidecar.gate.hosts import entries_for
from sidecar.gate.own import (
    FILTER,
    FORWARDED_FOR,
    FORWARDED_HOST,
    FORWARDED_PROTO,
    LOOKUP,
    OWN_COOKIES,
    REQUEST_ID,
    SET_BY_SIDECAR,
    is_to_proxy,
)
from sidecar.gate.peers import are_addresses
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import CONTROLS, FOLDED, HOP_BY_HOP, LOWER_NAME, SINGLETONS, Header, is_host, list_members

_KEEP, _DROP, _DECIDES, _DECIDES_DROP = range(4)

# another path, method, host or client than those of the request itself
OVERRIDES = (
    b"x-http-method-override x-http-method x-method-override x-rewrite-url x-envoy-original-path "
    b"x-envoy-original-host x-envoy-external-address x-host forwarded x-forwarded x-real-ip x-client-ip "
    b"x-cluster-client-ip true-client-ip cf-connecting-ip cf-connecting-ipv6 fastly-client-ip x-azure-clientip "
    b"x-forwarded-port x-azure-socketip x-appengine-user-ip x-remote-ip x-remote-addr x-proxyuser-ip proxy-client-ip "
    b"wl-proxy-client-ip x-scheme x-url-scheme front-end-https"
).split()
OVERRIDE_PREFIXES = (b"x-forwarded-", b"x-original-")
"""Prefixes of headers by which other proxies describe the request or its sender; no list of such names is complete."""
ALB_PREFIX = b"x-amzn-oidc-"
ALB_ACCESS_TOKEN, ALB_DATA = b"x-amzn-oidc-accesstoken", b"x-amzn-oidc-data"
ALB_HEADERS = (ALB_ACCESS_TOKEN, ALB_DATA, b"x-amzn-oidc-identity")
"""Headers that an AWS load balancer sends about the user it has signed in."""
_SINGLE = (*SINGLETONS, ALB_ACCESS_TOKEN, ALB_DATA)
_ALSO_READ = (
    b"cookie accept x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port forwarded x-request-id "
    b"access-control-request-method sec-fetch-site "
    b"sec-fetch-mode connection content-encoding"
).split()

_DROPPED = dict.fromkeys([*HOP_BY_HOP, *OVERRIDES, *SET_BY_SIDECAR, FILTER, LOOKUP], _DROP)
_DECIDING = {name: _DECIDES_DROP if name in _DROPPED else _DECIDES for name in [*_SINGLE, *_ALSO_READ, LOOKUP]}
# clients choose names: about 700 of those that they use, so that each is judged once
_ACTIONS: Bounded[bytes, int] = Bounded(256 * 1024, preset=_DROPPED | _DECIDING)
"""Header names -> what becomes of such a header. It learns names to keep."""
_LIST_HEADERS = {
    b"cookie": b"; ", b"accept": b", ", b"connection": b", ",
    **dict.fromkeys((FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PORT, FORWARDED), b", "),
}  # fmt: skip
# A client may not take an end-to-end header of the request away by naming it in Connection (RFC 9110 section 7.6.1)
_NOT_NOMINATED = frozenset(
    [*OVERRIDES, *SET_BY_SIDECAR, FILTER, LOOKUP, *_SINGLE, b"cookie", b"content-encoding", b"content-range", b"accept"]
) - {b"upgrade", b"http2-settings"}

# what decides, frames, negotiates or describes a request, for the sidecar or for an app
_OF_REQUESTS = re.compile(
    rb"(?:accept|access-control|content|if|sec|x-original|x-amzn|x-envoy|grpc)(?:-.*)?|range|user-agent|referer|via|"
    rb"date|priority|prefer|pragma|cache-control|early-data|max-forwards|last-event-id|traceparent|tracestate|baggage|"
    rb"cookie2|set-cookie2?"
)
_OF_PRINCIPAL = frozenset(
    b"x-forwarded-user x-forwarded-email x-forwarded-groups x-forwarded-roles x-forwarded-tenant "
    b"x-forwarded-preferred-username".split()
)


def is_reservable(name: bytes) -> bool:
    """Return whether `to_app` may take a name in lower case for what it tells of the principal."""
    if name in _OF_PRINCIPAL:
        return True
    known = name in _DROPPED or name in _DECIDING or name.startswith(OVERRIDE_PREFIXES) or is_to_proxy(name)
    return not known and _OF_REQUESTS.fullmatch(name) is None


MAX_NOMINATED = 64
"""Names in Connection."""
MAX_COOKIES = 256
"""Cookies of a request that has one of the sidecar's own; a browser keeps about 180 of one site."""


def _learn(name: bytes) -> int:
    if not LOWER_NAME.fullmatch(name):
        raise Refused(Code.HEADER_AMBIGUOUS, f"the header name {name[:64]!r}, expected letters, digits and '-'")
    action = _DROP if name.startswith(OVERRIDE_PREFIXES) else _KEEP
    _ACTIONS.put(name, action, len(name))
    return action


def read_headers(headers: Iterable[Header], lenient: bool = False) -> tuple[list[Header], dict[bytes, bytes]]:
    """Read the headers of a request into those that go to the app and, by name, those that decide something.

    Raises Refused: HEADER_AMBIGUOUS, HEADERS_TOO_LARGE. With `lenient` what cannot be read in one way is dropped where
    it is the sidecar's business, and kept otherwise.
    """
    kept: list[Header] = []
    seen: dict[bytes, bytes] = {}
    for header in headers:
        name = header[0]
        action = _ACTIONS.get(name)
        if action is None:
            action = _DROP if lenient and not LOWER_NAME.fullmatch(name) else _learn(name)
        if action >= _DECIDES:
            seen[name] = _joined(name, seen[name], header[1], lenient) if name in seen else header[1]
        if action in (_KEEP, _DECIDES):
            kept.append(header)
    values = b"".join([value for _, value in kept])
    if not lenient and len(values.translate(None, CONTROLS)) != len(values):
        raise Refused(Code.HEADER_AMBIGUOUS, "a control character in a header")
    return _without_ours(kept, seen, lenient), seen


# a few hundred clients with usual headers (1 KiB), which keep a connection each
_again: Bounded[int, tuple[tuple[Header, ...], list[Header], dict[bytes, bytes]]] = Bounded(1024 * 1024)
_HEADER = 150
"""Bytes of a header beside its texts: a pair, two objects of octets, and its places in two lists."""


def read_headers_again(headers: tuple[Header, ...]) -> tuple[list[Header], dict[bytes, bytes]]:
    """Read as `read_headers` does, once for a tuple, which cannot have changed."""
    known = _again.get(id(headers))
    if known is None or known[0] is not headers:
        known = (headers, *read_headers(headers))
        _again.put(id(headers), known, sum([_HEADER + len(name) + len(value) for name, value in headers]))
    return known[1].copy(), known[2]


def _without_ours(kept: list[Header], seen: dict[bytes, bytes], lenient: bool) -> list[Header]:
    """Take away what is between the client and us alone: headers that Connection names, our cookies, the wait for
    100."""
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


def without_alb(kept: list[Header]) -> list[Header]:
    """Remove what a load balancer says of whom it has signed in."""
    return [header for header in kept if not header[0].startswith(ALB_PREFIX)]


def without_reserved(kept: list[Header], seen: dict[bytes, bytes], reserved: frozenset[bytes]) -> list[Header]:
    """Remove what only the sidecar may say. Raises Refused(HEADER_AMBIGUOUS) where Connection names one of it."""
    for token in list_members(seen.get(b"connection", b"")):
        if token.translate(FOLDED) in reserved:
            raise Refused(Code.HEADER_AMBIGUOUS, f"Connection names {token[:64]!r}")
    return [header for header in kept if header[0] not in reserved]


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
    nominated = set(list_members(connection))
    if nominated <= _COMMON_NOMINATIONS:
        return kept
    if not lenient:
        for token in nominated:
            folded = token.translate(FOLDED)
            if (
                folded in _NOT_NOMINATED
                or folded.startswith(OVERRIDE_PREFIXES)
                or not (token == b"" or LOWER_NAME.fullmatch(token))
            ):
                raise Refused(Code.HEADER_AMBIGUOUS, f"Connection names {token[:64]!r}")
    return [header for header in kept if header[0] not in nominated or header[0] in _NOT_NOMINATED]


_COMMON_NOMINATIONS = frozenset([b"keep-alive", b"close", b"", b"te", b"upgrade"])


def _refuse_tossed_cookies(value: bytes) -> None:
    """Two cookies of one name of ours: one of them was put there by somebody else (R20)."""
    names = [pair.partition(b"=")[0].strip() for pair in value.split(b";")]
    ours = [name for name in names if name.startswith(OWN_COOKIES)]
    if len(ours) != len(set(ours)):
        raise Refused(Code.HEADER_AMBIGUOUS, "two cookies of one name of the sidecar's own")


def _without_own_cookies(header: Header) -> list[Header]:
    name, value = header
    if name != b"cookie" or not any(own in value for own in OWN_COOKIES):
        return [header]
    pairs = [pair for pair in value.split(b";") if not pair.strip().startswith(OWN_COOKIES)]
    return [(name, b";".join(pairs).strip())] if pairs else []


def read_host(host: bytes, allowed: frozenset[str] | None) -> str:
    """The host that the request names, in lower case, with its port. Refuses: REQUEST_INVALID, HOST_NOT_ALLOWED."""
    name = _host_name(host)
    if allowed is not None and name not in allowed and allowed.isdisjoint(entries_for(name)):
        raise Refused(Code.HOST_NOT_ALLOWED, f"Host: {name}")
    return name


# an app has few names; a client may send any
@remembered(64 * 1024)
def _host_name(host: bytes) -> str:
    if not is_host(host):
        raise Refused(Code.REQUEST_INVALID, "Host: expected one host, with or without a port")
    return host.decode("ascii").lower()


_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def add_forwarded(
    kept: list[Header],
    seen: dict[bytes, bytes],
    host: bytes,
    peer: str,
    scheme: str,
    request_id: str,
    said: Described | None,
) -> None:
    """Add who the client is: what a trusted peer said, extended by that peer; from anyone else the socket alone."""
    client, proto, chosen_id = peer.encode("ascii"), scheme.encode("ascii"), request_id.encode("ascii")
    if said is not None:
        if said.hops and are_addresses(said.hops):
            client = said.hops + b", " + client if client else said.hops
        if said.proto in (b"http", b"https"):
            proto = said.proto
        if _REQUEST_ID.fullmatch(seen.get(REQUEST_ID, b"")):
            chosen_id = seen[REQUEST_ID]
    if client:
        kept.append((FORWARDED_FOR, client))
    kept.append((FORWARDED_PROTO, proto))
    if host:
        kept.append((FORWARDED_HOST, host))
    kept.append((REQUEST_ID, chosen_id))
