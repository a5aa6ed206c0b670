"""Room in bytes, in memory or on a disk, for what is held of many requests at once; each owner gets a fair share."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple


class NoRoom(Exception):
    """There is no room for more."""


class Room:
    """So many bytes. Each owner gets as many as are free, so that a few owners always leave some to the others. `name`
    is for messages."""

    __slots__ = ("_held", "_name", "most", "used")

    def __init__(self, most: int, name: str) -> None:
        self.most = most
        """Bytes that there are."""
        self._name = name
        self.used = 0
        """Bytes that are taken."""
        self._held: dict[str, int] = {}

    def take(self, owner: str, size: int, had: int = 0) -> None:
        """Take room in the name of an owner, for something that has had so much before. Raises NoRoom, and then nothing
        is taken."""
        if not size:
            # nobody is an owner of nothing, and nothing always has room
            return
        held = self._held.get(owner, 0) + size
        if held > self.most - self.used - size:
            raise NoRoom(f"{self._name}: {self._why_not(size, had)}")
        self.used += size
        self._held[owner] = held

    def _why_not(self, size: int, had: int) -> str:
        share = self.most // 2
        if had + size > share:
            return f"needs {had + size} bytes, one principal has at most {share}"
        return f"{'all' if self.used + size > self.most else 'a share'} of {self.most} bytes is taken"

    def give_back(self, owner: str, size: int) -> None:
        """Give back room that this owner has taken."""
        if not size:
            return
        self.used -= size
        left = self._held[owner] - size
        if left:
            self._held[owner] = left
        else:
            del self._held[owner]

    @contextmanager
    def taken(self, owner: str, size: int) -> Generator[None]:
        """Take room until this ends. Raises NoRoom."""
        self.take(owner, size)
        try:
            yield
        finally:
            self.give_back(owner, size)


class Lent:
    """Room of one owner for something that grows and shrinks: use as a context, at whose end it is given back."""

    def __init__(self, room: Room, owner: str) -> None:
        self._room = room
        self._owner = owner
        self._size = 0

    def holds(self, size: int) -> None:
        """Take or give back what makes it so many bytes. Raises NoRoom, and then it has what it had."""
        if size > self._size:
            self._room.take(self._owner, size - self._size, self._size)
        else:
            self._room.give_back(self._owner, self._size - size)
        self._size = size

    def __enter__(self) -> Lent:
        return self

    def __exit__(self, *_: object) -> None:
        self.holds(0)


class Rooms(NamedTuple):
    """Room of one process for bodies and answers that are held."""

    memory: Room
    disk: Room


def rooms(memory: int, disk: int) -> Rooms:
    """Make both, of so many bytes."""
    return Rooms(Room(memory, "SIDECAR_HELD_MEMORY"), Room(disk, "SIDECAR_HELD_DISK"))


def owner_of(asker: tuple[str, str], client: str) -> str:
    """The owner of what is held: a principal, by issuer and id, or where none is known a client's address."""
    # an issuer is a URL, in which no space stands
    return f"principal {asker[0]} {asker[1]}" if asker[1] else f"client {client}"
