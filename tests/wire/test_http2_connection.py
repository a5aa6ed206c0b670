"""`wire/http2_connection.py`: what an end reads, piece by piece, and what it answers by itself."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire import http2, http2_connection
from sidecar.wire.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ProtocolError,
    frame,
)  # fmt: skip
from sidecar.wire.http2_connection import Http2Connection
from sidecar.wire.http2_windows import SendWindows

BEGUN = http2.settings()
PRIORITY = 2


class End:
    """One end: `seen` are its events, `said` what it answered."""

    def __init__(self, preface: bytes = b"", counts: bool = True) -> None:
        self.seen: list[tuple[object, ...]] = []
        self.said = b""
        self.cost = 0
        self.windows = SendWindows({}, self._write)
        self.connection = Http2Connection(
            self, self._write, self.windows, max_block=100, preface=preface, on_cost=self._count if counts else None
        )

    def _write(self, data: bytes) -> None:
        self.said += data

    def _count(self, frames: int) -> None:
        self.cost += frames

    def on_headers(self, stream: int, block: bytes, ended: bool) -> None:
        self.seen.append(("headers", stream, block, ended))

    def on_data(self, stream: int, data: bytes, ended: bool) -> None:
        self.seen.append(("data", stream, data, ended))

    def on_settings(self, settings: Mapping[int, int]) -> None:
        self.seen.append(("settings", dict(settings)))

    def on_window(self, stream: int, more: int) -> None:
        self.seen.append(("window", stream, more))

    def on_reset(self, stream: int, code: int) -> None:
        self.seen.append(("reset", stream, code))

    def on_goaway(self, last: int) -> None:
        self.seen.append(("goaway", last))

    def on_pong(self, payload: bytes) -> None:
        self.seen.append(("pong", payload))


def begun() -> End:
    end = End()
    end.connection.feed(BEGUN)
    end.seen.clear()
    end.said, end.cost = b"", 0
    return end


SPEECH = b"".join(
    (
        http2.settings((4, 1000), (4, 2000), (0x99, 7)),
        frame(HEADERS, END_HEADERS, 1, b"block"),
        frame(DATA, 0, 1, b"one"),
        frame(DATA, PADDED | END_STREAM, 1, b"\2two\0\0"),
        frame(HEADERS, PADDED | HAS_PRIORITY | END_STREAM, 3, b"\1" + bytes(5) + b"be" + b"\0"),
        frame(CONTINUATION, 0, 3, b"g"),
        frame(CONTINUATION, END_HEADERS, 3, b"un"),
        http2.SETTINGS_ACK,
        http2.window_update(1, 5),
        http2.rst_stream(1, 8),
        frame(PING, 0, 0, b"12345678"),
        frame(PING, ACK, 0, b"87654321"),
        frame(PRIORITY, 0, 1, bytes(5)),
        frame(0x42, 0xFF, 7, b"?"),
        http2.goaway(3, 0),
    )
)
MEANS = [
    ("settings", {4: 2000, 0x99: 7}),
    ("headers", 1, b"block", False),
    ("data", 1, b"one", False),
    ("data", 1, b"two", True),
    ("headers", 3, b"begun", True),
    ("window", 1, 5),
    ("reset", 1, 8),
    ("pong", b"87654321"),
    ("goaway", 3),
]


@pytest.mark.parametrize("preface", [b"", PREFACE])
@pytest.mark.parametrize("size", [1, 2, 7, 9, 10, 1000])
def test_frames_mean_the_same_however_they_are_cut(preface: bytes, size: int) -> None:
    end, speech = End(preface), preface + SPEECH
    for at in range(0, len(speech), size):
        end.connection.feed(speech[at : at + size])
    assert end.seen == MEANS
    assert end.said == http2.SETTINGS_ACK + frame(PING, ACK, 0, b"12345678")
    assert not end.connection.waits


def test_what_is_no_part_of_a_body_or_a_whole_block_is_counted() -> None:
    end = End()
    end.connection.feed(SPEECH)
    # two settings, two continuations, a window, a reset, two pings, a priority, one that nobody knows, and a goaway
    assert end.cost == 11
    end = begun()
    end.connection.feed(frame(SETTINGS, 0, 0, struct.pack(">HI", 0x99, 1) * 32))
    assert end.cost == 1 + 6 * 32 // 64
    silent = End(counts=False)
    silent.connection.feed(SPEECH)
    assert silent.seen == MEANS


def test_the_window_of_the_connection_and_of_new_streams_is_kept() -> None:
    class Body:
        more = 0
        unsent = b""

    end = begun()
    end.connection.feed(http2.settings((4, 70_000)) + http2.window_update(0, 10))
    taken = [end.windows.take(16_000, Body()) for _ in range(5)]
    assert taken == [True] * 4 + [False]
    assert end.windows.take(http2.DEFAULT_WINDOW + 10 - 64_000, Body())


def test_the_connection_s_window_is_filled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2_connection, "REFILL", 1000)
    end = begun()
    end.connection.feed(frame(DATA, PADDED, 1, b"\x09" + b"x" * 590 + bytes(9)))
    assert end.said == b""
    end.connection.feed(frame(DATA, 0, 1, b"x" * 400))
    assert end.said == http2.window_update(0, 1000)


def test_it_tells_where_something_began_that_has_to_go_on() -> None:
    end = End(PREFACE)
    feed = end.connection.feed

    def waits() -> bool:
        return end.connection.waits

    assert (feed(PREFACE[:5]), waits(), end.connection.is_open) == (False, True, False)
    assert (feed(PREFACE[5:]), waits()) == (False, True)
    # all up to the settings began with the connection
    assert (feed(BEGUN[:4]), waits()) == (False, True)
    assert (feed(BEGUN[4:]), waits(), end.connection.is_open) == (False, False, True)
    assert (feed(http2.SETTINGS_ACK[:4]), waits()) == (True, True)
    # the same frame still
    assert (feed(http2.SETTINGS_ACK[4:7]), waits()) == (False, True)
    assert (feed(http2.SETTINGS_ACK[7:]), waits()) == (False, False)
    assert (feed(frame(HEADERS, 0, 1, b"a")), waits()) == (True, True)
    assert (feed(frame(CONTINUATION, 0, 1, b"b")), waits()) == (False, True)
    assert (feed(frame(CONTINUATION, END_HEADERS, 1, b"c") + b"\0"), waits()) == (True, True)


BREAKS = {
    "no settings": (b"", frame(PING, 0, 0, bytes(8)), 1),
    "an acknowledgement first": (b"", http2.SETTINGS_ACK + frame(PING, 0, 0, bytes(8)), 1),
    "a long frame": (BEGUN, frame(DATA, 0, 1, b"")[:0] + b"\x00\x40\x01" + frame(DATA, 0, 1, b"")[3:], 6),
    "settings of a wrong length": (b"", frame(SETTINGS, 0, 0, b"12345"), 1),
    "settings of a stream": (b"", frame(SETTINGS, 0, 1, b""), 1),
    "an acknowledgement that says something": (BEGUN, frame(SETTINGS, ACK, 0, bytes(6)), 1),
    "a window that is too wide": (b"", http2.settings((4, 2**31), (4, 1)), 3),
    "bad padding": (BEGUN, frame(HEADERS, END_HEADERS | PADDED, 1, b"\xffa"), 1),
    "padding and nothing else": (BEGUN, frame(DATA, PADDED, 1, b""), 1),
    "a priority that is cut off": (BEGUN, frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, b"\0\0"), 1),
    "a block that is broken off": (BEGUN, frame(HEADERS, 0, 1, b"a") + frame(PING, 0, 0, bytes(8)), 1),
    "a block that goes on elsewhere": (BEGUN, frame(HEADERS, 0, 1, b"a") + frame(CONTINUATION, 0, 3, b"x"), 1),
    "a block without a beginning": (BEGUN, frame(CONTINUATION, END_HEADERS, 1, b"x"), 1),
    "a block without an end": (BEGUN, frame(HEADERS, 0, 1, b"a") + frame(CONTINUATION, 0, 1, bytes(50)) * 2, 11),
    "empty continuations": (BEGUN, frame(HEADERS, 0, 1, b"a") + frame(CONTINUATION, 0, 1, b""), 11),
    "a push": (BEGUN, frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), 1),
    "a short ping": (BEGUN, frame(PING, 0, 0, b"1"), 1),
    "a ping of a stream": (BEGUN, frame(PING, 0, 1, bytes(8)), 1),
    "a short reset": (BEGUN, frame(RST_STREAM, 0, 1, b"1"), 1),
    "a short window": (BEGUN, frame(WINDOW_UPDATE, 0, 0, b"1"), 1),
    "a window that is no wider": (BEGUN, http2.window_update(0, 0), 1),
    "a wide window": (BEGUN, http2.window_update(0, 2**31 - 1), 3),
    "a short goaway": (BEGUN, frame(GOAWAY, 0, 0, b"123"), 1),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_has_no_one_reading_ends_the_connection(name: str) -> None:
    before, said, code = BREAKS[name]
    end = End()
    end.connection.feed(before)
    with pytest.raises(ProtocolError) as broken:
        end.connection.feed(said)
    assert broken.value.code == code


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"X", PREFACE[:5] + b"?"])
def test_another_preface_is_none(said: bytes) -> None:
    with pytest.raises(ProtocolError):
        End(PREFACE).connection.feed(said)


FRAMES = st.tuples(st.integers(0, 10), st.integers(0, 255), st.sampled_from([0, 1, 3]), st.binary(max_size=40))


@given(st.lists(FRAMES), st.binary(max_size=20))
def test_no_bytes_do_anything_else(frames: list[tuple[int, int, int, bytes]], rest: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        begun().connection.feed(b"".join(frame(*each) for each in frames) + rest)
