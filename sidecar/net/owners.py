"""Owners of places: the client's address and the principal. Each gets a fair share."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable

from sidecar.gate.peers import MAX_ADDRESS, MAX_HOPS, Network, client_key, is_trusted
from sidecar.gate.verdict import Forward

# AWS, "X-Forwarded headers and Application Load Balancers": with client port preservation, a port follows
_WITH_PORT = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::[0-9]{1,5})?|([0-9.]{7,15}):[0-9]{1,5}")


def client_address(peer: str, forwarded_for: bytes, trusted: tuple[Network, ...]) -> str:
    """The address of the client: the socket's, or the last in X-Forwarded-For that a trusted proxy saw before it."""
    if not is_trusted(peer, trusted):
        return peer
    for said in reversed(forwarded_for.decode("latin-1").split(",")[-MAX_HOPS:]):
        hop = said.strip()
        with_port = _WITH_PORT.fullmatch(hop)
        try:
            address = str(ipaddress.ip_address(with_port[1] or with_port[2] if with_port else hop))
        except ValueError:
            break
        if len(address) > MAX_ADDRESS:
            break
        if not is_trusted(address, trusted):
            return address
    return peer


class Owners:
    """Tells owners apart. A trusted proxy, or one on a unix socket, is none: what it asks is its clients'."""

    def __init__(self, trusted: tuple[Network, ...] = ()) -> None:
        self._trusted = trusted

    def of_peer(self, peer: str) -> str:
        """The owner of a connection, "" for none."""
        return "" if is_trusted(peer, self._trusted) else client_key(peer)

    def of_permit(self, permit: Forward) -> tuple[str, ...]:
        """The owners of what is sent by a permit."""
        facts = permit.facts
        # the permit's own is the last: what a trusted proxy said, with the proxy behind it, or the socket's other end
        said = next((value for name, value in reversed(permit.headers) if name == b"x-forwarded-for"), b"")
        owners = []
        client = self.of_peer(client_address(facts.peer, said, self._trusted))
        if client:
            owners.append("client " + client)
        if facts.principal:
            owners.append("principal " + facts.principal)
        return tuple(owners)


class Places:
    """So many places; each owner gets as many as are free, so that a few owners always leave some to the others."""

    def __init__(self, count: int, owners: Callable[[Forward], tuple[str, ...]] = lambda _: ()) -> None:
        self._free = count
        self._owners = owners
        self._used: Counter[str] = Counter()

    def take(self, permit: Forward) -> tuple[str, ...] | None:
        """Take a place in the name of a permit's owners, which `give_back` takes; None where they have their share."""
        owners = self._owners(permit)
        if self._free <= 0 or any(self._used[owner] >= self._free for owner in owners):
            return None
        self._free -= 1
        self._used.update(owners)
        return owners

    def give_back(self, owners: tuple[str, ...]) -> None:
        """Free the place."""
        self._free += 1
        self._used.subtract(owners)
        for owner in owners:
            if not self._used[owner]:
                del self._used[owner]
