"""Memory with a bound in bytes: every memo and cache of the sidecar is one of these.

A bound on the number of entries is not enough: clients, hooks and providers choose how large an entry is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from itertools import chain
from sys import getsizeof
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

LONGEST_KEY = 256
"""Bytes of a text in a key; an entry with a longer one is never kept, and each look for it misses."""
ENTRY = 256
"""Bytes of an entry beside its key and its value: two places in tables that are up to half empty."""


class Bounded(Generic[K, V]):
    """Values by key, of `most` bytes together; the entry that was put first makes room.

    `get(key)` is that of a dict, at its cost. Values in `preset` stay for good and weigh nothing. `longest` replaces
    LONGEST_KEY where the keys are no client's texts.
    """

    __slots__ = ("_kept", "_longest", "_weights", "get", "most", "weight")

    def __init__(self, most: int, *, longest: int = LONGEST_KEY, preset: Mapping[K, V] | None = None) -> None:
        self.most = most
        self.weight = 0
        """Bytes of all entries, at most `most`."""
        self._longest = longest
        self._kept: dict[K, V] = dict(preset or {})
        # of what may go, in the order of insertion. No plain dict: finding its first entry passes all that were deleted
        self._weights: OrderedDict[K, int] = OrderedDict()
        self.get: Callable[[K], V | None] = self._kept.get

    def put(self, key: K, value: V, weight: int | None = None) -> None:
        """Remember a value as the newest, in place of an earlier one. `weight` in bytes of key and value, else as
        `size_of` estimates it. What is heavier than all together may be, or has a longer key, is not kept."""
        if key in self._kept and key not in self._weights:
            return
        self.drop(key)
        weight = ENTRY + (size_of((key, value)) if weight is None else weight)
        if weight > self.most or _longest_text(key) > self._longest:
            return
        self._kept[key] = value
        self._weights[key] = weight
        self.weight += weight
        while self.weight > self.most:
            self._drop_first()

    def drop(self, key: K) -> None:
        """Forget a value, if it is there and no preset."""
        weight = self._weights.pop(key, None)
        if weight is not None:
            del self._kept[key]
            self.weight -= weight

    def clear(self) -> None:
        """Forget everything but the presets."""
        for key in list(self._weights):
            self.drop(key)

    def first(self) -> V | None:
        """The value that was put first, the next to make room."""
        return self._kept[next(iter(self._weights))] if self._weights else None

    def values(self) -> list[V]:
        """All values that may go, in the order in which they were put."""
        return [self._kept[key] for key in self._weights]

    def has_no_room(self, weight: int) -> bool:
        """Return whether a value of this weight would have others forgotten."""
        return self.weight + ENTRY + weight > self.most

    def drop_first(self) -> None:
        """Forget the value that was put first."""
        if self._weights:
            self._drop_first()

    def _drop_first(self) -> None:
        key, weight = self._weights.popitem(last=False)
        del self._kept[key]
        self.weight -= weight

    def __len__(self) -> int:
        return len(self._weights)


class Expiring(Generic[K, V]):
    """Values by key, each for a time and of `most` bytes together. The clock is the caller's, in seconds."""

    __slots__ = ("_kept", "_seconds")

    def __init__(self, most: int, seconds: float, *, longest: int = LONGEST_KEY) -> None:
        self._seconds = seconds
        self._kept: Bounded[K, tuple[V, float]] = Bounded(most, longest=longest)

    @property
    def weight(self) -> int:
        """Bytes of all entries."""
        return self._kept.weight

    def get(self, key: K, now: float) -> V | None:
        """The value, None where there is none any more."""
        kept = self._kept.get(key)
        return kept[0] if kept is not None and now < kept[1] else None

    def put(self, key: K, value: V, now: float, *, seconds: float | None = None, weight: int | None = None) -> None:
        """Remember a value from now on, in place of an earlier one; for `seconds` where another time is its own."""
        until = now + (self._seconds if seconds is None else seconds)
        self._kept.put(key, (value, until), weight)
        # those that were put first end first where all are kept equally long
        while (first := self._kept.first()) is not None and first[1] <= now:
            self._kept.drop_first()

    def drop(self, key: K) -> None:
        """Forget a value."""
        self._kept.drop(key)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)


def remembered(most: int, *, longest: int = LONGEST_KEY) -> Callable[[Callable[[K], V]], Callable[[K], V]]:
    """Decorator of a function whose answer depends on its one argument alone: each is found once, in a `Bounded`."""

    def decorate(find: Callable[[K], V]) -> Callable[[K], V]:
        store: Bounded[K, V] = Bounded(most, longest=longest)
        get = store.get

        @wraps(find)
        def found(key: K) -> V:
            value = get(key)
            if value is None:
                value = find(key)
                store.put(key, value)
            return value

        return found

    return decorate


_WHOLE = frozenset((str, bytes, int, float, bool, type(None)))
"""Types without parts, which most parts are of."""
_SERIES = (tuple, list, set, frozenset)
_MAPPINGS = (dict, Mapping)


def size_of(value: Any) -> int:
    """Bytes that a value takes, its parts included: an estimate, too high where parts are shared."""
    size = 0
    level = [value]
    while level:
        size += sum(map(getsizeof, level))
        level = [inner for part in level if type(part) not in _WHOLE for inner in _parts(part)]
    return size


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, _SERIES):
        return value
    return chain(value.keys(), value.values()) if isinstance(value, _MAPPINGS) else ()


def _longest_text(key: Any) -> int:
    """Bytes of the longest text in a key, which is a text, a number, or a tuple or set of keys."""
    if isinstance(key, str):
        return len(key) if key.isascii() else len(key.encode("utf-8", "surrogatepass"))
    if isinstance(key, bytes):
        return len(key)
    return max(map(_longest_text, key), default=0) if isinstance(key, tuple | frozenset) else 0
