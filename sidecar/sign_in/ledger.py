"""Counts, and what may be used once: the port of a ledger, and the one of a single process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sidecar.bounded import Bounded, Expiring

COUNTS = 16 * 1024 * 1024
SPENT = 16 * 1024 * 1024
KNOWN = 16 * 1024 * 1024
"""Bytes of memory for each kind of entry: some 30,000 of them."""


class Count(NamedTuple):
    """At most `limit` places under a key, each for `seconds`."""

    key: str
    limit: int
    seconds: float


class Reservation(NamedTuple):
    """One place under each of `counts`. `mark` tells it from others of the same key."""

    counts: tuple[Count, ...]
    mark: str
    taken: float


class Ledger(Protocol):
    """Port: what is counted and remembered around sign-ins. Keys are short texts of ours; times are Unix seconds.

    Each method raises Refused: SESSION_STORE_* where the ledger cannot be asked, so that nothing goes uncounted.
    """

    async def take(self, counts: Sequence[Count], now: float) -> Reservation | None:
        """One place under every key; None, and no place, where one of them has none left."""
        ...

    async def give_back(self, place: Reservation) -> None:
        """Free a place before its time."""
        ...

    async def spend(self, key: str, seconds: float, now: float) -> bool:
        """Use a key up for `seconds`; False where it was used before."""
        ...

    async def is_spent(self, key: str, now: float) -> bool:
        """Return True for a key that was used up."""
        ...

    async def remember(self, key: str, seconds: float, now: float) -> None:
        """Know a key for `seconds` from now on."""
        ...

    async def knows(self, key: str, now: float) -> bool:
        """Return True for a key that is remembered."""
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...


class LocalLedger:
    """Ledger of this process alone. Where memory runs out, the entries that changed least recently go."""

    def __init__(self, *, counts: int = COUNTS, spent: int = SPENT, known: int = KNOWN) -> None:
        self._counts: Bounded[str, list[float]] = Bounded(counts)
        # apart: a flood of one kind forgets nothing of the other
        self._spent: Expiring[str, bool] = Expiring(spent, 0.0)
        self._known: Expiring[str, bool] = Expiring(known, 0.0)

    async def take(self, counts: Sequence[Count], now: float) -> Reservation | None:
        """One place under every key, or None; nothing else runs in between."""
        taken = [self._live(count, now) for count in counts]
        if any(len(times) >= count.limit for count, times in zip(counts, taken, strict=True)):
            return None
        for count, times in zip(counts, taken, strict=True):
            self._put(count.key, [*times, now])
        return Reservation(tuple(counts), "", now)

    async def give_back(self, place: Reservation) -> None:
        """Take one place of that time away: those of one key and time are alike."""
        for count in place.counts:
            times = list(self._counts.get(count.key) or ())
            if place.taken in times:
                times.remove(place.taken)
                self._put(count.key, times)

    async def spend(self, key: str, seconds: float, now: float) -> bool:
        """Use a key up; False where it was used before."""
        if self._spent.get(key, now):
            return False
        self._spent.put(key, True, now, seconds=seconds)
        return True

    async def is_spent(self, key: str, now: float) -> bool:
        """Return True for a key that was used up."""
        return self._spent.get(key, now) is not None

    async def remember(self, key: str, seconds: float, now: float) -> None:
        """Know a key from now on."""
        self._known.put(key, True, now, seconds=seconds)

    async def knows(self, key: str, now: float) -> bool:
        """Return True for a key that is remembered."""
        return self._known.get(key, now) is not None

    async def aclose(self) -> None:
        """Nothing is open."""

    def _live(self, count: Count, now: float) -> list[float]:
        times = self._counts.get(count.key) or []
        return [taken for taken in times if taken > now - count.seconds]

    def _put(self, key: str, times: list[float]) -> None:
        if times:
            self._counts.put(key, times)
        else:
            self._counts.drop(key)
