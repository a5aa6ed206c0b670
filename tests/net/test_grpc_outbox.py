"""`net/grpc_outbox.py`: what waits, for which window, and that it is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from sidecar.net import grpc_outbox as unary_outbox
from sidecar.net.grpc_client import CallFailed, Status
from sidecar.net.grpc_outbox import Call, Outbox, WindowTooWide, failure
from sidecar.wire import http2


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        self.said = b""
        self.unsent = 0
        self.aborted = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.said += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


async def _nothing(_: bytes) -> bytes:
    return b""


class World:
    """An outbox with calls on it; `sent` are those whose answer has gone."""

    def __init__(self, *streams: int) -> None:
        self.transport = Transport()
        self.calls = {stream: Call(_nothing, 0.0) for stream in streams}
        self.sent: list[int] = []
        self.outbox = Outbox(asyncio.get_running_loop(), self.calls, self._sent)
        self.outbox.transport = self.transport

    def _sent(self, stream: int) -> None:
        self.sent.append(stream)
        del self.calls[stream]

    def answer(self, stream: int, size: int) -> None:
        self.outbox.answer(stream, self.calls[stream], bytes(size - 5), 0.0)

    def frames(self) -> list[tuple[int, int, int]]:
        """(kind, stream, bytes) of each frame that was written since."""
        self.outbox.flush()
        said, self.transport.said, found, at = self.transport.said, b"", [], 0
        while at < len(said):
            high, low, kind, _, stream = http2.FRAME_HEAD.unpack_from(said, at)
            found.append((kind, stream, high << 8 | low))
            at += 9 + (high << 8 | low)
        return [each for each in found if each[0] == http2.DATA]


async def test_the_connection_s_window_is_shared_in_order() -> None:
    world = World(1, 3, 5)
    world.outbox.widen(100_000 - http2.DEFAULT_WINDOW)
    for stream in (1, 3, 5):
        world.answer(stream, 40_000)
    assert sum(size for _, _, size in world.frames()) == 100_000
    assert (world.sent, world.outbox.waiting) == ([1, 3], 20_000)
    world.outbox.widen(1)
    assert world.frames() == [(http2.DATA, 5, 1)]
    world.outbox.widen(50_000)
    assert sum(size for _, _, size in world.frames()) == 19_999
    assert (world.sent, world.outbox.waiting) == ([1, 3, 5], 0)


async def test_a_stream_that_takes_nothing_holds_up_nobody() -> None:
    world = World(1, 3)
    world.outbox.resize(10)
    world.answer(1, 20)
    world.answer(3, 10)
    assert world.frames() == [(http2.DATA, 1, 10), (http2.DATA, 3, 10)]
    assert (world.sent, world.outbox.stalled, world.outbox.waiting) == ([3], 1, 10)
    world.outbox.widen_stream(1, world.calls[1], 4)
    assert world.frames() == [(http2.DATA, 1, 4)]
    world.outbox.resize(16)
    assert world.frames() == [(http2.DATA, 1, 6)]
    assert (world.sent, world.outbox.stalled, world.outbox.waiting) == ([3, 1], 0, 0)


async def test_a_smaller_window_takes_back_what_was_given() -> None:
    """Section 6.9.2: a window may become negative."""
    world = World(1)
    world.outbox.resize(100)
    world.answer(1, 200)
    world.outbox.resize(50)
    world.outbox.widen_stream(1, world.calls[1], 50)
    assert world.frames() == [(http2.DATA, 1, 100)]
    world.outbox.widen_stream(1, world.calls[1], 50)
    assert world.frames() == [(http2.DATA, 1, 50)]


async def test_what_was_forgotten_waits_no_longer() -> None:
    world = World(1)
    world.outbox.resize(0)
    world.answer(1, 100)
    call = world.calls.pop(1)
    world.outbox.forget(1, call)
    assert (world.outbox.waiting, world.outbox.stalled) == (0, 0)
    world.outbox.resize(1000)
    assert world.frames() == []


def _all(world: World) -> None:
    world.outbox.widen(2**31 - http2.DEFAULT_WINDOW)


def _one(world: World) -> None:
    world.outbox.widen_stream(1, world.calls[1], 2**31 - http2.DEFAULT_WINDOW)


@pytest.mark.parametrize("widen", [_all, _one])
async def test_no_window_is_wider_than_the_protocol_has_it(widen: Callable[[World], None]) -> None:
    with pytest.raises(WindowTooWide):
        widen(World(1))


async def test_too_much_that_waits_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unary_outbox, "MAX_UNSENT", 1000)
    world = World(1)
    world.outbox.resize(0)
    world.answer(1, 1000)
    assert not world.transport.aborted
    world.calls[3] = Call(_nothing, 0.0)
    world.answer(3, 10)
    assert world.transport.aborted
    other = World()
    other.transport.unsent = 1001
    other.outbox.write(b"x")
    other.outbox.flush()
    assert other.transport.aborted


def test_a_detail_is_cut_and_escaped() -> None:
    said = failure(1, CallFailed(Status.NOT_FOUND, "\u20ac" * 1000))
    assert len(said) < 200
    assert b"%E2%82%AC" in said
