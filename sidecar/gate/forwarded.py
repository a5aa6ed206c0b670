"""Descriptions of a request by trusted proxies: the client's address, scheme, host and port.

X-Forwarded-* count where there are any; a proxy that says the same in Forwarded (RFC 7239) must remove them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from sidecar.bounded import remembered
from sidecar.gate.own import FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO
from sidecar.gate.peers import MAX_ADDRESS, MAX_HOPS, Network, is_trusted
from sidecar.wire.grammar import Header

FORWARDED, FORWARDED_PORT = b"forwarded", b"x-forwarded-port"
_X_FORWARDED = (FORWARDED_FOR, FORWARDED_PROTO, FORWARDED_HOST)
_READ = frozenset((*_X_FORWARDED, FORWARDED, FORWARDED_PORT))


class Described(NamedTuple):
    """A request as its proxies describe it, b"" for each part that they do not: `hops` as in X-Forwarded-For."""

    hops: bytes = b""
    proto: bytes = b""
    host: bytes = b""
    port: bytes = b""


def described(seen: dict[bytes, bytes], peer: str, trusted: tuple[Network, ...]) -> Described | None:
    """Return what a trusted peer says of a request, with the proxies before it; None of anybody else."""
    if not trusted or not is_trusted(peer, trusted):
        return None
    hops = seen.get(FORWARDED_FOR, b"")
    proto, host, port = seen.get(FORWARDED_PROTO, b""), seen.get(FORWARDED_HOST, b""), seen.get(FORWARDED_PORT, b"")
    if not (hops or proto or host) and FORWARDED in seen:
        return _of_forwarded(seen[FORWARDED], trusted)
    if b"," in proto or b"," in host or b"," in port:
        # each proxy has added its own: the outermost that is trusted saw what the client sent
        count = 1 + _trusted_at_the_end(hops.split(b","), trusted)
        proto, host, port = (_outermost(value, count) for value in (proto, host, port))
    return Described(hops, proto, host, port)


def client_of(headers: Iterable[Header], peer: str, trusted: tuple[Network, ...]) -> str:
    """Return the address of the client of a request that is not read yet."""
    if not trusted or not is_trusted(peer, trusted):
        return peer
    seen: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _READ:
            seen[name] = seen[name] + b", " + value if name in seen else value
    said = described(seen, peer, trusted)
    return peer if said is None else client_address(peer, said.hops, trusted)


# AWS, "X-Forwarded headers and Application Load Balancers": with client port preservation, a port follows
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?|([0-9.]{7,15}):[0-9]{1,5}")


def client_address(peer: str, hops: bytes, trusted: tuple[Network, ...]) -> str:
    """Return the address of the client: the socket's, or the last in X-Forwarded-For that a trusted proxy saw."""
    if not is_trusted(peer, trusted):
        return peer
    for hop in reversed(hops.split(b",")[-MAX_HOPS:]):
        address = _address(hop.strip())
        if not address:
            break
        if not is_trusted(address, trusted):
            return address
    return peer


# about 1,000 clients
@remembered(512 * 1024)
def _address(hop: bytes) -> str:
    """Return the address in a hop, "" if it has none."""
    text = hop.decode("latin-1")
    with_port = _WITH_PORT.fullmatch(text)
    try:
        address = str(ipaddress.ip_address(with_port[1] or with_port[2] if with_port else text))
    except ValueError:
        return ""
    return address if len(address) <= MAX_ADDRESS else ""


def _trusted_at_the_end(hops: list[bytes], trusted: tuple[Network, ...]) -> int:
    """How many proxies in a row have seen a trusted one, which is what they say at the end."""
    count = 0
    for hop in reversed(hops[-MAX_HOPS:]):
        address = _address(hop.strip())
        if not address or not is_trusted(address, trusted):
            break
        count += 1
    return count


def _outermost(value: bytes, count: int) -> bytes:
    values = value.split(b",")
    return values[-min(count, len(values))].strip()


# RFC 7239 section 4, RFC 9110 section 5.6
_PAIR = re.compile(
    rb"[ \t]*(?:([A-Za-z]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([!#$%&'*+.^_`|~0-9A-Za-z-]+)))?[ \t]*([;,]|\Z)", re.DOTALL
)


def _of_forwarded(value: bytes, trusted: tuple[Network, ...]) -> Described:
    """The same of Forwarded; nothing of a value whose end cannot be read."""
    elements = _elements(value)
    if elements is None:
        elements = _last_elements(value)
    fors = [_address(element.get(b"for", b"")) for element in elements]
    if not elements:
        return Described()
    known = len(fors)
    while known and fors[known - 1]:
        known -= 1
    hops = [address.encode("ascii") for address in fors[known:]]
    outermost = elements[-min(1 + _trusted_at_the_end(hops, trusted), len(elements))]
    return Described(b", ".join(hops), outermost.get(b"proto", b"").lower(), outermost.get(b"host", b""))


def _elements(value: bytes) -> list[dict[bytes, bytes]] | None:
    """Each element of a value, by its parameters; None where one of them cannot be read or stands twice, or where there
    are too many elements."""
    elements: list[dict[bytes, bytes]] = [{}]
    at = 0
    while at < len(value):
        match = _PAIR.match(value, at)
        if match is None or len(elements) > MAX_HOPS:
            return None
        name, quoted, token, end = match.groups()
        if name is not None:
            if name.lower() in elements[-1]:
                return None
            elements[-1][name.lower()] = re.sub(rb"\\(.)", rb"\1", quoted) if quoted is not None else token
        if end == b",":
            elements.append({})
        at = match.end()
    return [element for element in elements if element]


def _last_elements(value: bytes) -> list[dict[bytes, bytes]]:
    """The last elements, which the proxies wrote: a client may have sent them a value that cannot be read, such as a
    quote that never ends, and must not hide behind it. No part of a quoted text passes for an element: it would end
    with a quote that it does not begin with."""
    found: list[dict[bytes, bytes]] = []
    for part in reversed(value.split(b",")[-MAX_HOPS:]):
        elements = _elements(part)
        if elements is None:
            break
        found[:0] = elements
    return found
