"""`net/grpc_outbox.py`: one piece for each turn, and a bound for what waits."""

from __future__ import annotations

import asyncio

from sidecar.net.grpc_outbox import Outbox


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.unsent = 0
        self.aborted = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.said.append(data)

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def outbox(most: int | None = None) -> tuple[Outbox, Transport]:
    made, transport = Outbox(asyncio.get_running_loop(), most), Transport()
    made.transport = transport
    return made, transport


async def test_what_is_written_in_one_turn_goes_out_as_one_piece() -> None:
    made, transport = outbox()
    made.write(b"a")
    made.write(b"b")
    assert transport.said == []
    await asyncio.sleep(0)
    made.write(b"c")
    made.flush()
    assert transport.said == [b"ab", b"c"]
    # and nothing is left for the turn's end
    await asyncio.sleep(0)
    assert transport.said == [b"ab", b"c"]


async def test_what_is_held_goes_out_when_it_is_flushed_and_needs_no_turn_more() -> None:
    made, transport = outbox()
    made.hold()
    made.write(b"a")
    made.write(b"b")
    await asyncio.sleep(0)
    assert transport.said == []
    made.flush()
    assert transport.said == [b"ab"]
    made.write(b"c")
    await asyncio.sleep(0)
    assert transport.said == [b"ab", b"c"]


async def test_nothing_is_written_to_one_that_is_gone() -> None:
    made, transport = outbox()
    transport.aborted = True
    made.write(b"a")
    made.flush()
    assert transport.said == []


async def test_too_much_that_waits_ends_the_connection() -> None:
    made, transport = outbox(1000)
    made.bound(1000)
    assert not transport.aborted
    made.bound(1001)
    assert transport.aborted
    other, transport = outbox(1000)
    transport.unsent = 1001
    other.write(b"x")
    other.flush()
    assert transport.aborted


async def test_where_there_is_no_bound_any_number_may_wait() -> None:
    made, transport = outbox()
    transport.unsent = 10**9
    made.write(b"x")
    made.flush()
    assert not transport.aborted
