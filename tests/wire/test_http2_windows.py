"""`wire/http2_windows.py`: what waits, for which window, and that it is counted."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.wire import http2
from sidecar.wire.http2 import ProtocolError
from sidecar.wire.http2_windows import SendWindows


class Stream:
    def __init__(self) -> None:
        self.more = 0
        self.unsent = b""


class World:
    """Streams of one connection; `sent` are those whose body had to wait and has gone."""

    def __init__(self, *streams: int, last: int = 0) -> None:
        self.streams = {stream: Stream() for stream in streams}
        self.sent: list[int] = []
        self.said = b""
        self.windows = SendWindows(self.streams, self._write, sent=self._sent, last=last)

    def _write(self, data: bytes) -> None:
        self.said += data

    def _sent(self, stream: int) -> None:
        self.sent.append(stream)
        del self.streams[stream]

    def send(self, number: int, size: int) -> None:
        self.windows.wait(number, self.streams[number], bytes(size))

    def frames(self) -> list[tuple[int, int, int]]:
        """(flags, stream, bytes) of each frame that was written since."""
        said, self.said, found, at = self.said, b"", [], 0
        while at < len(said):
            high, low, kind, flags, stream = http2.FRAME_HEAD.unpack_from(said, at)
            assert kind == http2.DATA
            found.append((flags, stream, high << 8 | low))
            at += 9 + (high << 8 | low)
        return found


def test_the_connection_s_window_is_shared_in_order() -> None:
    world = World(1, 3, 5)
    world.windows.widen(100_000 - http2.DEFAULT_WINDOW)
    for stream in (1, 3, 5):
        world.send(stream, 40_000)
    assert sum(size for _, _, size in world.frames()) == 100_000
    assert (world.sent, world.windows.waiting) == ([1, 3], 20_000)
    world.windows.widen(1)
    assert world.frames() == [(0, 5, 1)]
    world.windows.widen(50_000)
    assert sum(size for _, _, size in world.frames()) == 19_999
    assert (world.sent, world.windows.waiting) == ([1, 3, 5], 0)


def test_a_stream_that_takes_nothing_holds_up_nobody() -> None:
    world = World(1, 3)
    world.windows.resize(10)
    world.send(1, 20)
    world.send(3, 10)
    assert world.frames() == [(0, 1, 10), (0, 3, 10)]
    assert (world.sent, world.windows.stalled, world.windows.waiting) == ([3], 1, 10)
    world.windows.widen_stream(1, world.streams[1], 4)
    assert world.frames() == [(0, 1, 4)]
    world.windows.resize(16)
    assert world.frames() == [(0, 1, 6)]
    assert (world.sent, world.windows.stalled, world.windows.waiting) == ([3, 1], 0, 0)


def test_a_smaller_window_takes_back_what_was_given() -> None:
    """Section 6.9.2: a window may become negative."""
    world = World(1)
    world.windows.resize(100)
    world.send(1, 200)
    world.windows.resize(50)
    world.windows.widen_stream(1, world.streams[1], 50)
    assert world.frames() == [(0, 1, 100)]
    world.windows.widen_stream(1, world.streams[1], 50)
    assert world.frames() == [(0, 1, 50)]


def test_what_was_forgotten_waits_no_longer() -> None:
    world = World(1)
    world.windows.resize(0)
    world.send(1, 100)
    call = world.streams.pop(1)
    world.windows.forget(1, call)
    assert (world.windows.waiting, world.windows.stalled) == (0, 0)
    world.windows.resize(1000)
    assert world.frames() == []


def _all(world: World) -> None:
    world.windows.widen(2**31 - http2.DEFAULT_WINDOW)


def _one(world: World) -> None:
    world.windows.widen_stream(1, world.streams[1], 2**31 - http2.DEFAULT_WINDOW)


@pytest.mark.parametrize("widen", [_all, _one])
def test_no_window_is_wider_than_the_protocol_has_it(widen: Callable[[World], None]) -> None:
    with pytest.raises(ProtocolError) as broken:
        widen(World(1))
    assert broken.value.code == http2.FLOW_CONTROL_ERROR


@pytest.mark.parametrize(
    "widen", [lambda world: world.windows.widen(0), lambda world: world.windows.widen_stream(1, world.streams[1], 0)]
)
def test_a_window_that_is_no_wider_is_an_error(widen: Callable[[World], None]) -> None:
    with pytest.raises(ProtocolError) as broken:
        widen(World(1))
    assert broken.value.code == http2.PROTOCOL_ERROR


@pytest.mark.parametrize(("size", "fits"), [(1, True), (100, True), (101, False), (http2.MAX_FRAME + 1, False)])
def test_a_body_goes_at_once_in_one_frame_that_both_windows_take(size: int, fits: bool) -> None:
    world = World(1, 3)
    if size <= http2.MAX_FRAME:
        world.windows.resize(100)
    assert world.windows.take(size, world.streams[1]) is fits
    # what it took is gone from the connection's window
    world.windows.resize(http2.MAX_WINDOW)
    world.send(3, http2.DEFAULT_WINDOW)
    assert sum(part for _, _, part in world.frames()) == http2.DEFAULT_WINDOW - (size if fits else 0)


def test_nothing_goes_at_once_while_another_body_waits_for_the_connection() -> None:
    world = World(1, 3)
    world.windows.resize(http2.MAX_WINDOW)
    world.send(1, http2.DEFAULT_WINDOW + 1)
    assert not world.windows.take(1, world.streams[3])


def test_the_last_frame_of_a_body_is_marked() -> None:
    world = World(1, last=http2.END_STREAM)
    world.windows.resize(10)
    world.send(1, 15)
    world.windows.resize(20)
    assert world.frames() == [(0, 1, 10), (http2.END_STREAM, 1, 5)]
