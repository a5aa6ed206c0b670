"""What one process remembers for a while, and never more of it than fits."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Memo(Generic[T]):
    """Values by key, each for `seconds`; of more than `most` the one that was put first is forgotten."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._seconds = seconds
        self._kept: dict[str, tuple[T, float]] = {}

    def put(self, key: str, value: T, now: float) -> None:
        """Remember a value from now on, in place of an earlier one."""
        self.drop(key)
        self._kept[key] = (value, now + self._seconds)
        # all are kept equally long, and a dict keeps the order of insertion: the first ends first
        while self._kept and (len(self._kept) > self._most or self._first_end() <= now):
            del self._kept[next(iter(self._kept))]

    def get(self, key: str, now: float) -> T | None:
        """The value, None where there is none any more."""
        value, until = self._kept.get(key, (None, 0.0))
        return value if now < until else None

    def drop(self, key: str) -> None:
        """Forget a value."""
        self._kept.pop(key, None)

    def __len__(self) -> int:
        return len(self._kept)

    def _first_end(self) -> float:
        return next(iter(self._kept.values()))[1]
