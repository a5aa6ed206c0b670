"""Addresses of clients and proxies: the key that a client is counted by, and which peers are believed."""

from __future__ import annotations

import ipaddress

from sidecar.bounded import remembered

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_HOPS = 64
"""Addresses in X-Forwarded-For."""
MAX_ADDRESS = 64
"""Characters of an address, its zone included. A longer text is no address, and is not kept."""
_WELL_KNOWN = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses as a translator writes them (RFC 6052 section 2.1)."""


def client_key(peer: str) -> str:
    """The text that a client is counted by: an IPv4 address as it is, an IPv6 address as its /64.

    One IPv6 host chooses among 2**64 addresses of its own link (RFC 4291 section 2.5.4, RFC 8981), so that a count by
    address would limit nobody. An IPv4 address in IPv6 form (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2) counts as
    that IPv4 address. Peers without an address, as on a unix socket, share the key "".
    """
    if ":" not in peer:
        return peer if len(peer) <= MAX_ADDRESS else ""
    return _ipv6_key(peer) if len(peer) <= MAX_ADDRESS else ""


# about 1,000 clients
@remembered(512 * 1024)
def _ipv6_key(peer: str) -> str:
    try:
        address = ipaddress.IPv6Address(peer)
    except ValueError:
        return ""
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address in _WELL_KNOWN:
        return str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"


def is_trusted(peer: str, trusted: tuple[Network, ...]) -> bool:
    """Return whether the socket's other end is a listed proxy. A peer without an address (unix socket) never is."""
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


def are_addresses(hops: bytes) -> bool:
    """Return whether a value of X-Forwarded-For is what proxies make of it: IP addresses with commas between."""
    if hops.count(b",") >= MAX_HOPS:
        return False
    try:
        return all(ipaddress.ip_address(part.strip()) for part in hops.decode("ascii").split(","))
    except ValueError:
        return False
