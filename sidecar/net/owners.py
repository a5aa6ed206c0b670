"""Owners of places: the client's address and the principal. Each gets a fair share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sidecar.gate.peers import Network, client_key, is_trusted
from sidecar.gate.verdict import Forward


class Owners:
    """Tells owners apart. A trusted proxy, or one on a unix socket, owns nothing: its requests are its clients'."""

    def __init__(self, trusted: tuple[Network, ...] = ()) -> None:
        self._trusted = trusted

    def of_peer(self, peer: str) -> str:
        """The owner of a connection, "" for none."""
        return "" if is_trusted(peer, self._trusted) else client_key(peer)

    def of_permit(self, permit: Forward) -> tuple[str, ...]:
        """The owners of what is sent by a permit."""
        facts = permit.facts
        owners = []
        client = self.of_peer(facts.peer)
        if client:
            owners.append("client " + client)
        if facts.principal:
            owners.append(f"principal {facts.issuer} {facts.principal}")
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
