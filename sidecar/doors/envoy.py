"""Envoy's request, and what it is told, as far as it is the same by both of its protocols (ext_authz and ext_proc)."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from sidecar.bounded import remembered
from sidecar.gate.codes import Code
from sidecar.gate.own import FORWARDED_FOR, FORWARDED_PROTO, OWN_COOKIES, REQUEST_ID
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Refused, Verdict
from sidecar.record.journal import code_of
from sidecar.wire.grammar import Header
from sidecar.wire.grpc import Status

FRAMING = frozenset((b"content-length", b"connection", b"transfer-encoding"))
"""Headers of an answer of ours that Envoy writes itself."""
BESIDE = frozenset((b"set-cookie", b"vary"))
"""Headers of an answer of ours that may stand beside others of their name."""
TOLD_TO_CALLS = (REQUEST_ID, b"retry-after", b"www-authenticate")
"""Headers of an answer of ours that a client of gRPC gets too."""
# of some headers Envoy keeps one, and joins two with a bare comma, which no token has in it (RFC 6750 section 2.1)
_DOUBLED = re.compile(rb"bearer [^,]*,[^ ]", re.IGNORECASE)
# without `encode_raw_headers` it joins all with one, two headers Cookie too
_COOKIES_JOINED = re.compile(rb",[ \t]*(?:" + b"|".join(OWN_COOKIES) + rb")")


class EnvoyRequest(NamedTuple):
    """Request that Envoy holds; `grpc` says that it is a call of gRPC."""

    raw: Raw
    grpc: bool


def request_of(
    method: str, target: bytes, headers: list[Header], peer: str, request_id: str, *, has_body: bool,
    holds_answer: bool = False,
) -> EnvoyRequest:  # fmt: skip
    """Return a request, by what Envoy says of it; `headers`, which may change, have no pseudo-headers."""
    seen = dict(headers)
    websocket = method == "GET" and seen.get(b"upgrade", b"").lower() == b"websocket"
    if has_body and not websocket and b"content-length" not in seen and b"transfer-encoding" not in seen:
        # over HTTP/2 a body needs no header that tells of it; that of a handshake is what follows it
        headers.append((b"transfer-encoding", b"chunked"))
    if FORWARDED_FOR in seen:
        _without_own_hop(headers, peer)
    scheme = "https" if seen.get(FORWARDED_PROTO) == b"https" else "http"
    kind = seen.get(b"content-type", b"")
    grpc = kind == b"application/grpc" or kind.startswith(b"application/grpc+")
    raw = Raw(
        method, target, headers, peer, scheme, request_id, websocket, holds_answer=holds_answer and not websocket
    )  # fmt: skip
    return EnvoyRequest(raw, grpc)


def plain_headers(given: list[Header], exact: bool, method: bytes, target: bytes, host: bytes) -> list[Header]:
    """The headers without the pseudo-headers. Raises Refused where those say something else than the question."""
    once = {b":method": method, b":path": target, b":authority": host, b"host": host}
    headers = [(b"host", host)]
    for header in given:
        name, value = header
        if name in once:
            # a byte that is not UTF-8 was replaced in one of the two
            if value != once[name]:
                raise Refused(Code.REQUEST_INVALID, f"two values of {name.decode('ascii')}")
        elif name[:1] != b":":
            if name == b"authorization" and _DOUBLED.match(value):
                raise Refused(Code.HEADER_AMBIGUOUS, "two headers authorization")
            if name == b"cookie" and not exact and _COOKIES_JOINED.search(value):
                raise Refused(Code.HEADER_AMBIGUOUS, "two headers cookie, joined by Envoy")
            headers.append(header)
    return headers


# about 1,000 clients
@remembered(512 * 1024)
def address(text: str) -> str:
    """The client's address as Envoy knows it, "" where it has none."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return ""
    return text


def _without_own_hop(headers: list[Header], peer: str) -> None:
    """Envoy has said already who its client is, as any proxy adds to what it forwards: the gate does it once."""
    for at, (name, value) in enumerate(headers):
        if name == FORWARDED_FOR:
            before, _, last = value.rpartition(b",")
            if last.strip() == peer.encode("ascii"):
                headers[at] = (name, before.rstrip())


def removed_hops(raw: Raw, grpc: bool) -> tuple[bytes, ...]:
    """List the headers of the client's connection that Envoy would pass on: `te: trailers`, which a gRPC server must
    get and nobody else needs."""
    return (b"te",) if not grpc and any(name == b"te" for name, _ in raw.headers) else ()


def facts_of(verdict: Verdict) -> list[tuple[bytes, str]]:
    """List the facts that Envoy may write in its own log: %DYNAMIC_METADATA(envoy.filters.http.ext_authz:code)%, or
    of `ext_proc`."""
    facts = verdict.facts
    return [
        (b"principal", facts.principal), (b"route", facts.route), (b"code", code_of(verdict)),
        (b"request_id", facts.request_id),
    ]  # fmt: skip


def grpc_status(status: int) -> Status:
    """The gRPC status of a refused call (github.com/grpc/grpc, doc/statuscodes.md), by the HTTP status of its code."""
    return _STATUSES.get(status, Status.UNKNOWN)


_STATUSES = {
    400: Status.INVALID_ARGUMENT, 401: Status.UNAUTHENTICATED, 403: Status.PERMISSION_DENIED, 404: Status.NOT_FOUND,
    405: Status.UNIMPLEMENTED, 408: Status.DEADLINE_EXCEEDED, 413: Status.RESOURCE_EXHAUSTED,
    414: Status.INVALID_ARGUMENT, 415: Status.INVALID_ARGUMENT, 421: Status.INVALID_ARGUMENT,
    429: Status.RESOURCE_EXHAUSTED, 431: Status.INVALID_ARGUMENT, 500: Status.INTERNAL,
    501: Status.UNIMPLEMENTED, 502: Status.UNAVAILABLE, 503: Status.UNAVAILABLE, 504: Status.DEADLINE_EXCEEDED,
    508: Status.FAILED_PRECONDITION,
}  # fmt: skip
