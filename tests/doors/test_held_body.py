"""Bodies that are held until they are decided: in order, in memory to a bound, and then in a file without a name."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.doors.held_body import IN_MEMORY, PIECE, HeldBody, LentBody, weight_of
from sidecar.gate.body import Viewer
from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.net.room import NoRoom, Room, Rooms, rooms
from tests.fakes import until
from tests.tries import tries

LARGE = 1024**3


def held(made: Rooms, owner: str = "alice") -> HeldBody:
    return HeldBody(made, owner)


def used(made: Rooms) -> tuple[int, int]:
    return made.memory.used, made.disk.used


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
    made, before = rooms(LARGE, LARGE), files()
    body, sent = held(made), [bytes([number % 251]) * 100_000 for number in range(31)]
    for data in sent:
        await body.put(data)
    assert (body.size, files()) == (3_100_000, before + 1)
    in_memory = sum(map(len, body._first)) + sum(map(len, body._rest))
    assert sum(map(len, body._first)) <= IN_MEMORY
    assert sum(map(len, body._rest)) < PIECE
    assert used(made) == (in_memory, 3_100_000 - in_memory)
    found = await taken(body)
    assert b"".join(found) == b"".join(sent)
    assert max(map(len, found)) <= PIECE
    assert (files(), used(made), body.size) == (before, (0, 0), 0)


@given(sizes=st.lists(st.sampled_from([0, 1, 1000, PIECE - 1, PIECE, IN_MEMORY, IN_MEMORY + 1]), max_size=12))
@tries(50)
async def test_no_piece_is_empty_before_the_end_wherever_an_empty_one_was_put(sizes: list[int]) -> None:
    """An app would take an empty piece for the end of the body: chunks end with one."""
    made = rooms(LARGE, LARGE)
    body, sent = held(made), [bytes([65 + number]) * size for number, size in enumerate(sizes)]
    for data in sent:
        await body.put(data)
    found = await taken(body)
    assert b"".join(found) == b"".join(sent)
    assert all(found)
    assert used(made) == (0, 0)


async def test_a_small_body_needs_no_file() -> None:
    before, body = files(), held(rooms(LARGE, 0))
    await body.put(b"a" * IN_MEMORY)
    await body.put(b"b")
    assert files() == before
    assert b"".join(await taken(body)) == b"a" * IN_MEMORY + b"b"


async def test_a_body_that_nobody_takes_is_let_go() -> None:
    made, before = rooms(LARGE, LARGE), files()
    body = held(made)
    for _ in range(20):
        await body.put(b"a" * PIECE, 10)
    body.close()
    body.close()
    assert (files(), used(made), body.size) == (before, (0, 0), 0)


async def test_all_bodies_share_the_disk_and_one_that_finds_none_keeps_what_it_has() -> None:
    made = rooms(LARGE, 4 * PIECE)
    first, second, other = held(made), held(made), held(made, "bob")
    for body in (first, second):
        for _ in range(IN_MEMORY // PIECE + 1):
            await body.put(b"a" * PIECE)
    with pytest.raises(NoRoom, match="SIDECAR_HELD_DISK: a share"):
        await first.put(b"b" * PIECE)
    for _ in range(IN_MEMORY // PIECE + 1):
        await other.put(b"c" * PIECE)
    assert b"".join(await taken(first)) == b"a" * (IN_MEMORY + PIECE) + b"b" * PIECE
    other.close()
    await second.put(b"c" * PIECE)
    second.close()
    assert used(made) == (0, 0)


async def test_all_bodies_share_the_memory_and_one_that_finds_none_keeps_what_it_has() -> None:
    made = rooms(1000, 0)
    first, second, other = held(made), held(made), held(made, "bob")
    await first.put(b"a" * 400)
    with pytest.raises(NoRoom, match="SIDECAR_HELD_MEMORY: a share of 1000"):
        await second.put(b"b" * 101)
    await other.put(b"c" * 200)
    # in shadow it goes on all the same
    assert b"".join(await taken(second)) == b"b" * 101
    first.close()
    other.close()
    await second.put(b"b" * 300)
    second.close()
    assert used(made) == (0, 0)


async def test_what_is_made_of_a_body_takes_room_until_it_is_decided() -> None:
    made = rooms(1000, 0)
    body = held(made)
    await body.put(b"a" * 100, 300)
    assert made.memory.used == 400
    body.lighten()
    body.lighten()
    assert made.memory.used == 100
    assert await body.take() == b"a" * 100
    assert made.memory.used == 0


@pytest.mark.parametrize("value", [[[]] * 300, [{}] * 300, ["ab"] * 300, [1.5] * 300, [{"a": [i]} for i in range(300)]])
def test_a_document_takes_no_more_than_is_estimated(value: Any) -> None:
    text = json.dumps(value, separators=(",", ":")).encode()

    def size(part: Any) -> int:
        inner = part if isinstance(part, list) else [*part.values()] if isinstance(part, dict) else []
        return sys.getsizeof(part) + sum(map(size, inner))

    assert size(json.loads(text)) <= 3 * weight_of(text)


async def test_a_body_that_another_proxy_holds_takes_room_while_it_is_read() -> None:
    memory = Room(1000, "SIDECAR_HELD_MEMORY")
    lent, more = LentBody(memory, "10.0.0.1"), LentBody(memory, "10.0.0.1")
    lent.take(b"a" * 300, Viewer(("https://issuer", "alice"), keeps=False))
    with pytest.raises(Refused) as caught:
        more.take(b"a" * 150, Viewer(("https://issuer", "alice"), keeps=True))
    assert caught.value.code is Code.BODY_NO_ROOM
    for body in (lent, lent, more):
        body.close()
    assert memory.used == 0


async def test_without_a_folder_for_files_there_is_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    body = held(rooms(LARGE, LARGE))
    await body.put(b"a" * IN_MEMORY)
    with pytest.raises(NoRoom, match="no temporary file: No such file"):
        await body.put(b"b" * PIECE)
    assert b"".join(await taken(body)) == b"a" * IN_MEMORY + b"b" * PIECE


async def test_a_full_disk_is_no_room() -> None:
    made = rooms(LARGE, LARGE)
    body = held(made)
    await body.put(b"a" * IN_MEMORY)
    with open("/dev/full", "wb", buffering=0) as full:
        body._file = full
        with pytest.raises(NoRoom, match="No space left"):
            await body.put(b"b" * PIECE)
    body.close()
    assert used(made) == (0, 0)


@contextlib.contextmanager
def files_of(most: int) -> Iterator[None]:
    """Let no file of this process become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("more", [1, 100_000, PIECE - 1])
async def test_a_disk_that_is_full_in_the_middle_of_a_piece_neither_doubles_nor_keeps_anything(more: int) -> None:
    made, before = rooms(LARGE, LARGE), files()
    shadowed, refused = held(made), held(made)
    for body in (shadowed, refused):
        await body.put(b"a" * IN_MEMORY)
        await body.put(b"b" * PIECE)
    with files_of(PIECE + more):
        for body in (shadowed, refused):
            with pytest.raises(NoRoom, match="File too large"):
                await body.put(b"c" * PIECE)
        refused.close()
        # in shadow it goes on all the same, as it came
        assert b"".join(await taken(shadowed)) == b"a" * IN_MEMORY + b"b" * PIECE + b"c" * PIECE
    assert (used(made), files()) == ((0, 0), before)


async def test_a_file_stays_open_until_no_thread_writes_to_it() -> None:
    """The number of a closed file may be a connection's by then. A pipe that nobody reads is a disk that hangs."""
    made = rooms(LARGE, LARGE)
    body = held(made)
    await body.put(b"a" * IN_MEMORY)
    reads, writes = os.pipe()
    file = body._file = open(writes, "wb", buffering=0)  # noqa: SIM115 - the body closes it
    writing = asyncio.create_task(body.put(b"b" * PIECE))
    with open(reads, "rb", buffering=0) as pipe:
        got = await asyncio.to_thread(pipe.read, 1)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        body.close()
        assert (file.closed, used(made)) == (False, (0, 0))
        while data := await asyncio.to_thread(pipe.read, PIECE):
            got += data
        await until(lambda: file.closed)
    assert got == b"b" * PIECE
