"""Bodies that are held until they are decided: in order, in memory to a bound, and then in a file without a name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from sidecar.doors.held_body import IN_MEMORY, PIECE, Disk, HeldBody, NoRoom


def files() -> int:
    """Files without a name that this process has open."""
    links = Path("/proc/self/fd").iterdir()
    return sum("(deleted)" in os.readlink(link) for link in links if link.is_symlink())


async def taken(body: HeldBody) -> list[bytes]:
    found = []
    while body.size:
        found.append(await body.take())
    return found


async def test_what_was_put_in_comes_out_in_order_and_nothing_is_left() -> None:
    disk, before = Disk(), files()
    body, sent = HeldBody(disk), [bytes([number % 251]) * 100_000 for number in range(31)]
    for data in sent:
        await body.put(data)
    assert (body.size, files()) == (3_100_000, before + 1)
    assert sum(map(len, body._first)) <= IN_MEMORY
    assert sum(map(len, body._rest)) < PIECE
    assert disk.used == 3_100_000 - sum(map(len, body._first)) - sum(map(len, body._rest))
    found = await taken(body)
    assert b"".join(found) == b"".join(sent)
    assert max(map(len, found)) <= PIECE
    assert (files(), disk.used, body.size) == (before, 0, 0)


async def test_a_small_body_needs_no_file() -> None:
    disk, before = Disk(0), files()
    body = HeldBody(disk)
    await body.put(b"a" * IN_MEMORY)
    await body.put(b"b")
    assert files() == before
    assert b"".join(await taken(body)) == b"a" * IN_MEMORY + b"b"


async def test_a_body_that_nobody_takes_is_let_go() -> None:
    disk, before = Disk(), files()
    body = HeldBody(disk)
    for _ in range(20):
        await body.put(b"a" * PIECE)
    body.close()
    body.close()
    assert (files(), disk.used, body.size) == (before, 0, 0)


async def test_all_bodies_share_the_room_and_one_that_finds_none_keeps_what_it_has() -> None:
    disk = Disk(2 * PIECE)
    first, second = HeldBody(disk), HeldBody(disk)
    for body in (first, second):
        for _ in range(IN_MEMORY // PIECE + 1):
            await body.put(b"a" * PIECE)
    with pytest.raises(NoRoom, match="all that may be"):
        await first.put(b"b" * PIECE)
    assert b"".join(await taken(first)) == b"a" * (IN_MEMORY + PIECE) + b"b" * PIECE
    await second.put(b"c" * PIECE)
    second.close()
    assert disk.used == 0


async def test_without_a_folder_for_files_there_is_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    body = HeldBody(Disk())
    await body.put(b"a" * IN_MEMORY)
    with pytest.raises(NoRoom, match="no temporary file: No such file"):
        await body.put(b"b" * PIECE)
    assert b"".join(await taken(body)) == b"a" * IN_MEMORY + b"b" * PIECE


async def test_a_full_disk_is_no_room() -> None:
    disk = Disk()
    body = HeldBody(disk)
    await body.put(b"a" * IN_MEMORY)
    with open("/dev/full", "wb", buffering=0) as full:
        body._file = full
        with pytest.raises(NoRoom, match="No space left"):
            await body.put(b"b" * PIECE)
    body.close()
    assert disk.used == 0
