"""Room that owners share: as many bytes as are free, and what was given back is free again."""

from __future__ import annotations

import contextlib

import pytest

from sidecar.net.room import Lent, NoRoom, Room, owner_of, rooms


def test_one_owner_gets_half_and_leaves_a_share_to_each_who_comes() -> None:
    room = Room(1000, "SIDECAR_HELD_MEMORY")
    room.take("a", 500)
    with pytest.raises(NoRoom, match="SIDECAR_HELD_MEMORY: a share of 1000 bytes is taken"):
        room.take("a", 1)
    room.take("b", 250)
    with pytest.raises(NoRoom):
        room.take("b", 1)
    room.take("c", 125)
    assert room.used == 875
    with pytest.raises(NoRoom, match="all of 1000 bytes"):
        room.take("d", 126)
    for owner, size in (("a", 500), ("b", 250), ("c", 125), ("d", 0)):
        room.give_back(owner, size)
    assert (room.used, len(room._held)) == (0, 0)


def test_one_thing_that_is_larger_than_a_share_is_told_apart_from_a_share_that_is_taken() -> None:
    room = Room(1000, "x")
    room.take("a", 300)
    for size, had, told in (
        (501, 0, "x: needs 501 bytes, one principal has at most 500"),
        (201, 300, "x: needs 501 bytes, one principal has at most 500"),
        (201, 299, "x: a share of 1000 bytes is taken"),
    ):
        with pytest.raises(NoRoom) as caught:
            room.take("a", size, had)
        assert str(caught.value) == told


def test_room_that_is_taken_for_a_while_comes_back_whatever_happens() -> None:
    room = Room(1000, "x")
    with contextlib.suppress(RuntimeError), room.taken("a", 10):
        assert room.used == 10
        raise RuntimeError
    with pytest.raises(NoRoom), room.taken("a", 501):
        pass
    assert room.used == 0


def test_nothing_takes_no_room_and_is_not_remembered() -> None:
    room = Room(1000, "x")
    room.take("a", 500)
    room.take("b", 250)
    for owner in ("a", "b", "c"):
        with room.taken(owner, 0):
            room.take(owner, 0)
    assert (room.used, sorted(room._held)) == (750, ["a", "b"])


def test_owners_are_principals_or_clients() -> None:
    alice, nobody = ("https://issuer", "alice"), ("", "")
    assert owner_of(alice, "10.0.0.1") == "principal https://issuer alice"
    assert owner_of(nobody, "10.0.0.1") == "client 10.0.0.1"
    assert owner_of(("", "client 10.0.0.1"), "") != owner_of(nobody, "10.0.0.1")
    memory, disk = rooms(10, 20)
    with pytest.raises(NoRoom, match="SIDECAR_HELD_DISK: needs 11 bytes, one principal has at most 10"):
        disk.take("a", 11)
    assert memory.used == 0


def test_equal_ids_of_two_issuers_are_two_owners() -> None:
    room = Room(1000, "SIDECAR_HELD_MEMORY")
    for issuer, size in (("https://one", 500), ("https://two", 250)):
        room.take(owner_of((issuer, "alice"), "10.0.0.1"), size)
    assert room.used == 750


def test_what_is_lent_grows_and_shrinks_and_comes_back() -> None:
    room = Room(1000, "x")
    with contextlib.suppress(NoRoom), Lent(room, "a") as lent:
        for size in (0, 300, 100, 500, 0, 400):
            lent.holds(size)
            assert room.used == size
        with pytest.raises(NoRoom, match="x: needs 501 bytes, one principal has at most 500"):
            lent.holds(501)
        assert room.used == 400
        lent.holds(501)
    assert (room.used, len(room._held)) == (0, 0)
