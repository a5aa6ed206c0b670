"""Parses the raw request once into its canonical form, or refuses it.

What is read here is what is decided, logged and sent: nothing downstream sees the raw request again.
"""

from __future__ import annotations

from typing import NamedTuple

from sidecar.gate.codes import Code
from sidecar.gate.forwarded import Described, described
from sidecar.gate.headers import (
    add_forwarded,
    read_headers,
    read_headers_again,
    read_host,
    without_alb,
    without_reserved,
)
from sidecar.gate.hosts import entries_for, without_port
from sidecar.gate.own import LOOKUP
from sidecar.gate.peers import Network
from sidecar.gate.target import NO_ODDITIES, Oddity, read_target
from sidecar.gate.trace import Trace
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import BODILESS_METHODS, Header, is_host


class Raw(NamedTuple):
    """One request as a door received it: header names in lower case, `target` exactly as on the request line.

    `headers` as a tuple are those of a request before: what they say is looked up by the tuple's identity.
    `peer` is the address of the socket's other end ("" on a unix socket), `scheme` that of the socket. With
    `holds_answer` the door can hold the app's whole answer before any of it goes out; without it, its head alone is
    the door's to mark.
    """

    method: str
    target: bytes
    headers: list[Header] | tuple[Header, ...]
    peer: str
    scheme: str
    request_id: str
    websocket: bool = False
    trace: Trace | None = None
    holds_answer: bool = False


class Reading(NamedTuple):
    """Settings of the reading: `hosts` in lower case, None for any; `trusted` peers whose X-Forwarded-* and Forwarded
    are believed, their host where `hosts` are listed: a proxy may pass on what its client says of it.
    With `by_host` a session is of one host alone.
    With `alb` the headers of a load balancer's sign-in are for the sidecar alone. `reserved` are names of headers that
    `to_app` gives to the sidecar alone."""

    hosts: frozenset[str] | None = None
    trusted: tuple[Network, ...] = ()
    alb: bool = False
    reserved: frozenset[bytes] = frozenset()
    by_host: bool = False


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
    port: str = ""
    """Port that the client has connected to, as a trusted proxy says, where the host may lack it."""
    site: str = ""
    """The host without its port, where a session is of one host alone; else ""."""


def read(raw: Raw, reading: Reading) -> Request:
    """Judge a raw request into its one reading. Raises Refused (400, 414, 421 or 508)."""
    path, segments, query, oddities = read_target(raw.target)
    headers = raw.headers
    kept, seen = read_headers_again(headers) if type(headers) is tuple else read_headers(headers)
    if LOOKUP in seen:
        raise Refused(Code.LOOKUP_LOOP, "the app sends on what a lookup asked it")
    if reading.alb:
        kept = without_alb(kept)
    if reading.reserved:
        kept = without_reserved(kept, seen, reading.reserved)
    said = described(seen, raw.peer, reading.trusted) if reading.trusted else None
    named = seen.get(b"host", b"") if said is None else _host(seen, said, reading)
    host = read_host(named, reading.hosts)
    has_body = b"transfer-encoding" in seen or seen.get(b"content-length", b"0").strip(b"0") != b""
    if has_body and raw.method in BODILESS_METHODS:
        oddities |= {Oddity.REQUEST_BODY}
    add_forwarded(kept, seen, named, raw.peer, raw.scheme, raw.request_id, said)
    target = path if raw.target.find(b"?") < 0 else path + b"?" + query
    return Request(
        raw.method, target, path.decode("ascii"), segments, query, kept, seen, host, raw.peer,
        raw.request_id, oddities, has_body, raw.websocket,
        "" if said is None else said.port.decode("latin-1"), without_port(host) if reading.by_host else "",
    )  # fmt: skip


def _host(seen: dict[bytes, bytes], said: Described | None, reading: Reading) -> bytes:
    """The host that the client has named, as far as it is known; b"" where it has named none."""
    own = seen.get(b"host", b"")
    if said is None or not said.host or reading.hosts is None:
        return own
    if reading.by_host:
        _require_one_host(own, said.host, reading.hosts)
    return said.host


def _require_one_host(own: bytes, said: bytes, hosts: frozenset[str]) -> None:
    """See that no request names two of the hosts that are told apart: the app would go by the one, and its route by the
    other. A balancer may pass on the X-Forwarded-Host of its client, and a proxy may leave out the port. Raises
    Refused(HEADER_AMBIGUOUS)."""
    name, other = own.decode("latin-1").lower(), said.decode("latin-1").lower()
    if without_port(name) != without_port(other) and not hosts.isdisjoint(entries_for(name)):
        raise Refused(Code.HEADER_AMBIGUOUS, "Host and X-Forwarded-Host: found two hosts of ours, expected one")


def as_it_came(raw: Raw, reading: Reading) -> Request:
    """The request unjudged, for shadow mode alone: the raw target, with the headers of the sidecar still removed.
    Raises Refused where it names no host, without which HTTP/1.1 cannot be spoken to the app. `host` is "" where it
    cannot be read."""
    kept, seen = read_headers(raw.headers, lenient=True)
    if b"host" not in seen:
        raise Refused(Code.REQUEST_INVALID, "Host: found none, expected one")
    if reading.alb:
        kept = without_alb(kept)
    kept = [header for header in kept if header[0] not in reading.reserved]
    said = described(seen, raw.peer, reading.trusted)
    named = _host(seen, said, reading._replace(by_host=False))
    add_forwarded(kept, seen, named, raw.peer, raw.scheme, raw.request_id, said)
    path, _, query = raw.target.partition(b"?")
    host = named.decode("ascii").lower() if is_host(named) else ""
    return Request(
        raw.method, raw.target, path.decode("latin-1"), (), query, kept, seen, host, raw.peer,
        raw.request_id, NO_ODDITIES, False, raw.websocket,
    )  # fmt: skip
