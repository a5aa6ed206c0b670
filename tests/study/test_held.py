"""What `sidecar check` says of bodies that never find room."""

from __future__ import annotations

import pytest

from sidecar.study.held import warnings
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
        (127, 2048, ["POST /a: found max_body of 33554432 bytes, expected at most 33292288: one principal has half of "
                     "SIDECAR_HELD_MEMORY, so that larger bodies are always 503 body_no_room"]),
        (128, 2044, ["PUT /a: found max_body of 1073741824 bytes, expected at most 1072693248: one principal has half "
                     "of SIDECAR_HELD_DISK, so that larger bodies are always 503 body_no_room"]),
    ],
)  # fmt: skip
def test_a_body_that_never_finds_room_is_warned_of(memory: int, disk: int, told: list[str]) -> None:
    assert list(warnings(read(ROUTES).table, memory * MIB, disk * MIB)) == told


def test_messages_and_bodies_of_a_size_of_their_own_are_looked_at_too() -> None:
    found = [warning.split(":")[0] for warning in warnings(read(ROUTES).table, MIB, 0)]
    assert found == ["POST /a", "PUT /a", "PATCH /a", "POST /mcp"]
