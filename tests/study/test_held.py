"""What `sidecar check` says of bodies that never find room."""

from __future__ import annotations

import pytest

from sidecar.doors import held_body, holding
from sidecar.doors.held_body import HeldBody
from sidecar.net.room import NoRoom, rooms
from sidecar.study.held import IN_MEMORY, JUDGED, PIECE, SMALL, answer_warnings, warnings
from tests.config.routes.reading import read

MIB = 1024**2
ROUTES = """\
version: 1
routes:
  - path: /a
    resource: a
    actions:
      GET: list
      POST: {action: create, attributes: {owner: "{body.owner}"}, max_body: 32MiB}
      PUT: {action: upload, attributes: {owner: "{form.owner}"}, max_body: 1GiB}
      PATCH: {action: open, max_body: 8MiB, attributes: {owner: "{body.owner}"}}
  - {path: /mcp, mcp: {server: crm}}
  - {path: /b, access: public}
"""


@pytest.mark.parametrize(
    ("memory", "disk", "told"),
    [
        (128, 2048, []),
        (127, 2048, ["routes.yaml:7:77: routes[0].actions.POST.max_body: POST /a: found max_body of 32MiB, expected at most "
                     "33292288 bytes: one principal has half of SIDECAR_HELD_MEMORY, and a body counts twice while it is read, "
                     "so that larger bodies are always 503 body_no_room"]),
        (128, 2044, ["routes.yaml:8:76: routes[0].actions.PUT.max_body: PUT /a: found max_body of 1024MiB, expected at most "
                     "1023MiB: one principal has half of SIDECAR_HELD_DISK, so that larger bodies are always 503 body_no_room"]),
    ],
)  # fmt: skip
def test_a_body_that_never_finds_room_is_warned_of(memory: int, disk: int, told: list[str]) -> None:
    assert list(warnings(read(ROUTES), "routes.yaml", memory * MIB, disk * MIB)) == told


def test_messages_and_bodies_of_a_size_of_their_own_are_looked_at_too() -> None:
    found = [warning.split(": ")[2] for warning in warnings(read(ROUTES), "routes.yaml", MIB, 0)]
    assert found == ["POST /a", "PUT /a", "PATCH /a", "POST /mcp"]


@pytest.mark.parametrize(
    ("memory", "disk", "told"),
    [
        (MIB, 2 * MIB, "at most 524288 bytes: one principal has half of SIDECAR_HELD_MEMORY, so"),
        (2 * MIB, 2 * MIB, "at most 1MiB: one principal has half of SIDECAR_HELD_MEMORY, so"),
        (2 * (IN_MEMORY + PIECE) - 2, 2 * MIB, "at most 1310719 bytes: one principal has half of SIDECAR_HELD_MEMORY, so"),
        (2 * (IN_MEMORY + PIECE), 2 * MIB, "at most 2MiB: one principal has half of SIDECAR_HELD_DISK, so"),
    ],
)  # fmt: skip
async def test_a_form_needs_memory_before_it_is_on_disk(memory: int, disk: int, told: str) -> None:
    (warning,) = (one for one in warnings(read(ROUTES), "routes.yaml", memory, disk) if ": PUT /a: " in one)
    assert told in warning
    most = memory // 2 if "MEMORY" in told else IN_MEMORY + disk // 2
    await held_whole(memory, disk, most)
    with pytest.raises(NoRoom):
        await held_whole(memory, disk, most + PIECE)


async def held_whole(memory: int, disk: int, size: int) -> None:
    """Hold a body of so many bytes as a door does."""
    body = HeldBody(rooms(memory, disk), "alice")
    try:
        while size > 0:
            await body.put(b"a" * min(size, PIECE // 4))
            size -= PIECE // 4
    finally:
        body.close()


def test_sizes_are_those_of_the_body_that_is_held() -> None:
    assert (IN_MEMORY, PIECE) == (held_body.IN_MEMORY, held_body.PIECE)
    assert (SMALL, JUDGED) == (holding.SMALL, holding.JUDGED)


LISTS = """\
version: 1
routes:
  - path: /list
    resource: a
    actions: {GET: list, POST: make}
    items: {at: data, id: id, max_size: 2MiB}
  - {path: "/lines", resource: a, actions: {GET: list}, items: {at: lines, id: id}}
  - {path: "/one/{id}", resource: a, id: "{path.id}", actions: {GET: read}, fields: {phone: view}}
  - {path: "/own/{id}", resource: a, id: "{path.id}", lookup: {from: answer, attributes: {owner: o}}, actions: {GET: read}}
  - {path: /mcp, mcp: {server: crm, audience: any, max_size: 512KiB}}
"""


def answers(memory: int, *, ext_proc: bool = False) -> list[str]:
    return list(answer_warnings(read(LISTS), "routes.yaml", memory, ext_proc=ext_proc))


def test_an_answer_that_never_finds_room_is_warned_of_at_its_place() -> None:
    assert answers(8 * MIB) == []
    found = answers(8 * MIB - 2)
    assert found[0] == (
        "routes.yaml:6:12: routes[0].items: GET /list: found answers of up to 2MiB, expected at most 1048575 bytes: one principal "
        "has half of SIDECAR_HELD_MEMORY, and an answer counts four times while it is judged, so that larger ones are always 503 "
        "upstream_busy: lower `max_size`, or raise SIDECAR_HELD_MEMORY to 8MiB"
    )
    assert [line.split(": ")[2] for line in found] == ["GET /list", "GET /one/{id}", "GET /own/{id}"]
    # 512 KiB find no room either
    assert [line.split(": ")[2] for line in answers(2 * MIB)][-2:] == ["POST /mcp", "GET /mcp"]


def test_by_ext_proc_large_answers_take_of_the_room_too() -> None:
    assert answers(16 * MIB, ext_proc=True) == []
    found = answers(15 * MIB, ext_proc=True)
    assert [line.split(": ")[2] for line in found] == ["GET /list"]
    assert "judged by ext_proc, so that" in found[0]
    assert found[0].endswith("raise SIDECAR_HELD_MEMORY to 16MiB")


@pytest.mark.parametrize("memory", [MIB, 2 * MIB, 8 * MIB - 2])
async def test_the_room_for_an_answer_is_that_of_the_door(memory: int) -> None:
    most = memory // 2 // JUDGED

    async def hold(size: int) -> bool:
        left = [b"a" * (size - size // 2), b"a" * (size // 2)]

        async def piece() -> bytes:
            return left.pop() if left else b""

        room = rooms(memory, 0).memory
        try:
            async with holding.Holding(room).hold(piece, 10 * MIB, None, "alice") as held:
                return held.whole
        except NoRoom:
            return False

    assert [await hold(most), await hold(most + 1), await hold(SMALL)] == [True, False, False]
    assert await hold(SMALL) is False
