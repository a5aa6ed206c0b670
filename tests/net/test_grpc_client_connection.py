"""`net/grpc_client_connection.py` against a server that says exactly what a test wants."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from sidecar.net.grpc_client_connection import MAX_MESSAGE, MOST_PINGS, AwaitedCall, ClientConnection, GrpcMethod
from sidecar.wire.grpc import CallFailed, Status
from tests.net.grpc_peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    OK,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Peer,
    answer,
    block,
    echo,
    frame,
    headers,
    message,
    says,
    settings,
    silence,
    talking,
    until,
)  # fmt: skip

# --- good answers ---


async def test_calls_share_a_connection_and_each_gets_its_answer() -> None:
    async with talking(echo) as (server, talk):
        await talk(b"first")
        bodies = [b"%d" % number for number in range(50)]
        assert await asyncio.gather(*(talk(body) for body in bodies)) == bodies
        assert await talk(b"", talk.other) == b""
        assert len(server.peers) == 1
        fields = list(server.peers[0].fields.values())
    assert fields[0][:4] == [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/C"), fields[0][3]]
    assert dict(fields[0])["grpc-timeout"] == "2000m"
    assert all(each == fields[0] for each in fields[:51])
    assert dict(fields[51])[":path"] == "/a.B/D"


async def test_calls_of_one_turn_go_out_as_one_piece() -> None:
    async with talking(echo) as (_, talk):
        await talk()
        connection = talk.channel._connection
        assert connection is not None
        written: list[bytes] = []
        transport = connection.transport

        class Spy:
            def write(self, data: bytes) -> None:
                written.append(data)
                transport.write(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(transport, name)

        connection._outbox.transport = Spy()  # type: ignore[assignment]
        await asyncio.gather(*(talk() for _ in range(5)))
        assert len(written) == 1
        connection._outbox.transport = transport


async def test_an_answer_is_the_same_however_it_is_cut() -> None:
    async def drip(peer: Peer, stream: int, body: bytes) -> None:
        for octet in answer(stream, body[5:]):
            peer.send(bytes((octet,)))
            await peer.writer.drain()
            await asyncio.sleep(0.001)

    async with talking(drip) as (_, talk):
        assert await talk(b"in pieces") == b"in pieces"


async def test_padding_priority_continuations_and_unknown_frames_are_read() -> None:
    def odd(stream: int) -> bytes:
        head, end = block(*HEAD), block(*OK)
        return b"".join([
            frame(0x63, 0xFF, 0, b"what"), frame(HEADERS, PRIORITY | PADDED, stream, b"\2" + b"\0" * 5 + head[:1] + b"\0\0"),
            frame(CONTINUATION, 0, stream, head[1:2]), frame(CONTINUATION, END_HEADERS, stream, head[2:]),
            frame(DATA, PADDED, stream, b"\3" + message(b"odd")[:4] + b"\0\0\0"), frame(DATA, 0, stream, b""),
            frame(DATA, 0, stream, message(b"odd")[4:]),
            frame(HEADERS, END_STREAM, stream, end[:3]), frame(CONTINUATION, END_HEADERS, stream, end[3:]),
        ])  # fmt: skip

    async with talking(says(odd)) as (_, talk):
        assert await talk() == b"odd"


async def test_interim_headers_are_no_answer() -> None:
    async with talking(says(lambda s: headers(s, [(":status", "103")]), lambda s: answer(s, b"a"))) as (_, talk):
        assert await talk() == b"a"


async def test_pings_and_settings_are_acknowledged() -> None:
    async with talking(says(frame(PING, 0, 0, b"12345678"), lambda s: answer(s, b""))) as (server, talk):
        await talk()
        peer = server.peers[0]
        await until(lambda: (ACK, 0, b"12345678") in peer.of(PING))
        assert (ACK, 0, b"") in peer.of(SETTINGS)
        ours = dict(struct.iter_unpack(">HI", peer.of(SETTINGS)[0][2]))
        # no table for its headers, no pushes
        assert (ours[1], ours[2]) == (0, 0)


async def test_pings_wait_for_their_answers_but_never_more_than_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of grpc-go pings at each question, but not while one is unanswered."""
    monkeypatch.setattr("sidecar.net.grpc_client_connection.PONG_AFTER", 3600.0)
    async with talking(says(frame(PING, 0, 0, b"12345678"), lambda s: answer(s, b""))) as (server, talk):
        for _ in range(MOST_PINGS):
            await talk()
        peer = server.peers[0]
        assert peer.of(PING) == []
        await talk()
        await until(lambda: peer.of(PING) == [(ACK, 0, b"12345678")] * (MOST_PINGS + 1))


@pytest.mark.parametrize("size", [0, 100, 4095])
async def test_a_server_that_allows_a_smaller_table_gets_none(size: int) -> None:
    async with talking(echo, settings((1, size))) as (server, talk):
        for _ in range(3):
            assert await talk(b"a") == b"a"
        peer = server.peers[0]
        blocks = [payload for _, _, payload in peer.of(HEADERS)]
    assert blocks[0] == b"\x20" + blocks[1]
    assert blocks[1] == blocks[2]
    assert len(peer.decoder.header_table.dynamic_entries) == 0


async def test_a_smaller_table_in_the_middle_ends_the_use_of_the_connection() -> None:
    async with talking(says(settings((1, 0)), lambda s: answer(s, b""))) as (server, talk):
        await talk()
        await talk()
        assert len(server.peers) == 2


# --- flow control ---


async def test_a_long_question_waits_for_the_servers_windows() -> None:
    body = bytes(range(256)) * 1000
    async with talking(echo) as (server, talk):
        await talk()
        asking = asyncio.ensure_future(talk(body))
        await until(lambda: len(server.peers[0].bodies.get(3, b"")) == 65535 - 6)
        await asyncio.sleep(0.05)
        peer = server.peers[0]
        assert len(peer.bodies[3]) == 65535 - 6
        assert all(len(payload) <= 16384 for _, _, payload in peer.of(DATA))
        peer.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1_000_000)))
        await until(lambda: len(peer.bodies[3]) == 65535)
        # a short one passes meanwhile
        assert await talk(b"short") == b"short"
        peer.send(settings((4, 100_000)))
        await until(lambda: len(peer.bodies[3]) == 100_000)
        peer.send(frame(WINDOW_UPDATE, 0, 3, struct.pack(">I", 1_000_000)))
        assert await asking == body


async def test_a_server_that_answers_before_the_whole_question_has_come_is_told_to_stop() -> None:
    async with talking(echo) as (server, talk):
        await talk()
        asking = asyncio.ensure_future(talk(b"a" * 100_000))
        peer = server.peers[0]
        await until(lambda: len(peer.bodies.get(3, b"")) > 60_000)
        peer.send(answer(3, b"enough"))
        assert await asking == b"enough"
        await until(lambda: peer.of(RST_STREAM))
        peer.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1_000_000)))
        assert await talk(b"next") == b"next"
        assert len(server.peers) == 1


async def test_the_window_for_answers_is_filled_again() -> None:
    big = b"a" * (MAX_MESSAGE - 100)

    async def behave(peer: Peer, stream: int, _: bytes) -> None:
        peer.send(answer(stream, big))

    async with talking(behave, timeout=5.0) as (server, talk):
        for _ in range(40):
            assert len(await talk()) == len(big)
        updates = [
            int.from_bytes(payload, "big") for _, stream, payload in server.peers[0].of(WINDOW_UPDATE) if not stream
        ]
    # the first is said in the preface
    assert len(updates) == 3
    assert 65535 + sum(updates) > 40 * len(big)


async def test_no_more_calls_are_made_at_once_than_the_server_takes() -> None:
    held: list[tuple[Peer, int]] = []

    async def hold(peer: Peer, stream: int, _: bytes) -> None:
        held.append((peer, stream))

    async with talking(hold, settings((3, 2)), timeout=2.0) as (_, talk):
        calls = [asyncio.ensure_future(talk()) for _ in range(4)]
        await until(lambda: len(held) == 2)
        await asyncio.sleep(0.05)
        assert len(held) == 2
        for peer, stream in list(held):
            peer.send(answer(stream, b"done"))
        await until(lambda: len(held) == 4)
        for peer, stream in held[2:]:
            peer.send(answer(stream, b"done"))
        assert await asyncio.gather(*calls) == [b"done"] * 4
        more = [asyncio.ensure_future(talk.fails()) for _ in range(3)]
        assert {status for status, _ in await asyncio.gather(*more)} == {Status.DEADLINE_EXCEEDED}


async def test_one_who_leaves_as_its_turn_comes_lets_the_next_one_in() -> None:
    held: list[int] = []

    async def hold(peer: Peer, stream: int, _: bytes) -> None:
        held.append(stream)

    async with talking(hold, settings((3, 1)), timeout=20.0) as (_, talk):
        calls = [asyncio.ensure_future(talk()) for _ in range(3)]
        connection: Any = None
        while connection is None or len(connection._room) < 2:
            await asyncio.sleep(0.001)
            connection = talk.channel._connection
        connection._most = 2
        connection._let_in()
        calls[1].cancel()
        await until(lambda: len(held) == 2)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


def awaited(talk: Any, body: bytes) -> AwaitedCall:
    return AwaitedCall(talk.method, body, asyncio.get_running_loop().time() + 20, ())


async def test_calls_are_started_together_as_far_as_there_is_room() -> None:
    async with talking(echo, settings((3, 3)), timeout=20.0) as (_, talk):
        calls = [awaited(talk, b"%d" % number) for number in range(5)]
        # no connection yet
        assert talk.channel.start_together(calls) == calls
        await talk()
        assert talk.channel.start_together(calls) == calls[3:]
        assert [await call.result() for call in calls[:3]] == [b"0", b"1", b"2"]


async def test_a_call_that_is_over_when_there_is_room_leaves_it_to_the_next() -> None:
    held: list[int] = []

    async def hold(peer: Peer, stream: int, _: bytes) -> None:
        held.append(stream)

    async with talking(hold, settings((3, 1)), timeout=20.0) as (server, talk):
        first = asyncio.ensure_future(talk())
        await until(lambda: held)
        over, last = awaited(talk, b"over"), awaited(talk, b"last")
        waits = [asyncio.ensure_future(talk.channel.start_later(each)) for each in (over, last)]
        await asyncio.sleep(0)
        # whoever waits comes before whoever comes
        assert talk.channel.start_together([last]) == [last]
        over.over = True
        server.behave = echo
        first.cancel()
        assert await last.result() == b"last"
        await asyncio.gather(*waits)
        assert server.peers[0].bodies.keys() == {held[0], held[0] + 2}


async def test_room_goes_to_those_who_wait_in_their_order_and_to_none_who_came_later() -> None:
    asked: list[bytes] = []

    async def note(peer: Peer, stream: int, body: bytes) -> None:
        asked.append(body[5:])
        await asyncio.sleep(0)
        peer.send(answer(stream, b""))

    async with talking(note, settings((3, 1)), timeout=20.0) as (_, talk):
        await talk(b"first")

        async def later(number: int) -> None:
            for _ in range(number):
                await asyncio.sleep(0)
            await talk(b"%03d" % number)

        await asyncio.gather(*map(later, range(100)))
    assert asked[1:] == sorted(asked[1:])


async def test_a_server_that_takes_more_calls_gets_those_that_wait() -> None:
    held: list[int] = []

    async def hold(peer: Peer, stream: int, _: bytes) -> None:
        held.append(stream)
        if len(held) == 1:
            peer.send(settings((3, 3)))

    async with talking(hold, settings((3, 1)), timeout=20.0) as (_, talk):
        calls = [asyncio.ensure_future(talk()) for _ in range(4)]
        await until(lambda: len(held) == 3)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


class Patient(AwaitedCall):
    """Waits a while beyond its deadline, for somebody else."""

    def goes_on(self, now: float) -> bool:
        goes_on, self.deadline = self.deadline < self.until, self.until
        return goes_on

    until = 0.0


async def test_a_call_may_go_on_beyond_its_first_deadline() -> None:
    async with talking(silence) as (_, talk):
        now = asyncio.get_running_loop().time()
        call = Patient(talk.method, b"", now + 0.05, ())
        call.until = now + 0.15
        await talk.channel.start_later(call)
        with pytest.raises(CallFailed) as caught:
            await call.result()
        assert caught.value.status is Status.DEADLINE_EXCEEDED
        assert asyncio.get_running_loop().time() >= now + 0.14


# --- bad answers ---

NO_STATUS: list[tuple[str, str]] = [("x", "y")]


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([lambda s: headers(s, [*HEAD, ("grpc-status", "8"), ("grpc-message", "a%20b")], end=True)], Status.RESOURCE_EXHAUSTED),
        ([lambda s: headers(s, HEAD), lambda s: headers(s, [("grpc-status", "5")], end=True)], Status.NOT_FOUND),
        ([lambda s: headers(s, HEAD), lambda s: headers(s, [("grpc-status", "17")], end=True)], Status.UNKNOWN),
        ([lambda s: headers(s, HEAD), lambda s: headers(s, [("grpc-status", "00")], end=True)], Status.UNKNOWN),
        ([lambda s: headers(s, HEAD), lambda s: headers(s, NO_STATUS, end=True)], Status.UNKNOWN),
        ([lambda s: headers(s, HEAD), lambda s: headers(s, OK, end=True)], Status.INTERNAL),
        ([lambda s: headers(s, [*HEAD, *OK], end=True)], Status.INTERNAL),
        ([lambda s: headers(s, HEAD), lambda s: frame(DATA, END_STREAM, s, message(b"a"))], Status.INTERNAL),
        ([lambda s: headers(s, [("content-type", "application/grpc"), *OK], end=True)], Status.UNKNOWN),
        ([lambda s: headers(s, [(":status", "200"), ("content-type", "text/html")])], Status.UNKNOWN),
        ([lambda s: headers(s, [(":status", "200")], end=True)], Status.UNKNOWN),
        ([lambda s: headers(s, [(":status", "503")], end=True)], Status.UNAVAILABLE),
        ([lambda s: headers(s, [(":status", "404"), ("content-type", "text/html")])], Status.UNIMPLEMENTED),
        ([lambda s: headers(s, [(":status", "403")], end=True)], Status.PERMISSION_DENIED),
        ([lambda s: headers(s, [(":status", "500")], end=True)], Status.UNKNOWN),
        ([lambda s: frame(RST_STREAM, 0, s, b"\0\0\0\7")], Status.UNAVAILABLE),
        ([lambda s: frame(RST_STREAM, 0, s, b"\0\0\0\x08")], Status.CANCELLED),
        ([lambda s: frame(RST_STREAM, 0, s, b"\0\0\0\x0b")], Status.RESOURCE_EXHAUSTED),
        ([lambda s: frame(RST_STREAM, 0, s, b"\0\0\0\2")], Status.INTERNAL),
        ([lambda s: headers(s, HEAD), lambda s: frame(RST_STREAM, 0, s, b"\0\0\0\0")], Status.INTERNAL),
    ],
)  # fmt: skip
async def test_what_is_no_answer_has_a_status_and_costs_no_connection(parts: list[Any], status: Status) -> None:
    async with talking(says(*parts)) as (server, talk):
        assert (await talk.fails())[0] is status
        server.behave = echo
        assert await talk(b"next") == b"next"
        assert len(server.peers) == 1


BODIES = [
    b"", b"\0", b"\0\0\0\0", message(b"ab")[:-1], message(b"ab") + b"c", message(b"a") * 2, b"\1" + message(b"a")[1:],
    b"\0\xff\xff\xff\xff",
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
async def test_what_is_not_one_whole_message_is_no_answer(body: bytes) -> None:
    parts = lambda s: headers(s, HEAD) + frame(DATA, 0, s, body) + headers(s, OK, end=True)  # noqa: E731
    async with talking(says(parts)) as (_, talk):
        assert (await talk.fails())[0] is Status.INTERNAL


async def test_an_error_says_its_words() -> None:
    words = [("grpc-status", "3"), ("grpc-message", "a%20b%C3%B6\\" + "x" * 2000)]
    async with talking(says(lambda s: headers(s, [*HEAD, *words], end=True))) as (_, talk):
        status, detail = await talk.fails()
    assert status is Status.INVALID_ARGUMENT
    assert detail.startswith("a bö\\xxx")
    assert len(detail) < 1100


@pytest.mark.parametrize(
    "data",
    [
        frame(DATA, 0, 1, b"a"),
        frame(DATA, 0, 99, b"a"),
        frame(HEADERS, END_HEADERS, 2, block(*HEAD)),
        frame(HEADERS, END_HEADERS, 1, b"\xbe"),
        frame(HEADERS, 0, 1, block(*HEAD)) + frame(PING, 0, 0, b"12345678"),
        frame(HEADERS, 0, 1, block(*HEAD)) + frame(CONTINUATION, END_HEADERS, 3, b""),
        frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"a" * 16384) * 5,
        frame(CONTINUATION, END_HEADERS, 1, block(*HEAD)),
        headers(1, HEAD) + headers(1, HEAD),
        headers(1, HEAD) + frame(DATA, PADDED, 1, b"\2a"),
        headers(1, HEAD) + frame(DATA, PADDED, 1, b""),
        frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2"),
        frame(SETTINGS, 0, 0, b"12345"),
        settings((4, 2**31)),
        frame(WINDOW_UPDATE, 0, 0, b"123"),
        frame(RST_STREAM, 0, 1, b"123"),
        frame(GOAWAY, 0, 0, b"123"),
        b"\x00\x40\x01" + frame(DATA, 0, 1)[3:],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
async def test_what_is_not_http2_ends_the_connection_and_is_internal(data: bytes) -> None:
    async with talking(says(data)) as (server, talk):
        status, detail = await talk.fails()
        assert status is Status.INTERNAL
        assert "not HTTP/2" in detail
        server.behave = echo
        assert await talk(b"next") == b"next"
        assert len(server.peers) == 2


async def test_an_answer_without_end_is_given_up() -> None:
    async def behave(peer: Peer, stream: int, __: bytes) -> None:
        peer.send(headers(stream, HEAD) + frame(DATA, 0, stream, b"\0\x7f\xff\xff\xff"))
        for _ in range(65):
            peer.send(frame(DATA, 0, stream, b"a" * 16384))

    async with talking(behave) as (server, talk):
        assert (await talk.fails())[0] is Status.RESOURCE_EXHAUSTED
        await until(lambda: server.peers[0].of(RST_STREAM))


# --- ends ---


async def test_a_connection_that_is_given_up_before_it_began_leaves_no_error_behind() -> None:
    connection = ClientConnection(asyncio.get_running_loop(), GrpcMethod("/a.B/C", "a", 1.0))
    connection.close()
    connection.connection_lost(None)
    assert connection.ready.cancelled()


async def test_a_late_call_is_given_up_and_the_others_go_on() -> None:
    async def behave(peer: Peer, stream: int, body: bytes) -> None:
        if body.endswith(b"now"):
            await echo(peer, stream, body)

    async with talking(behave, timeout=0.8) as (server, talk):
        late = asyncio.ensure_future(talk.fails(b"never"))
        await asyncio.sleep(0)
        for _ in range(8):
            assert await talk(b"now") == b"now"
            await asyncio.sleep(0.12)
        assert (await late)[0] is Status.DEADLINE_EXCEEDED
        assert server.peers[0].of(RST_STREAM) == [(0, 1, b"\0\0\0\x08")]
        assert await talk(b"now") == b"now"
        assert len(server.peers) == 1


async def test_an_answer_that_comes_after_the_deadline_is_nobodys() -> None:
    async with talking(says(frame(PING, 0, 0, b"12345678")), timeout=0.6) as (server, talk):
        assert await talk.fails() == (Status.DEADLINE_EXCEEDED, "no answer in time")
        peer = server.peers[0]
        await until(lambda: peer.of(RST_STREAM))
        peer.send(answer(1, b"late"))
        server.behave = echo
        assert await talk(b"next") == b"next"


async def test_deadlines_hold_in_any_order() -> None:
    async with talking(silence) as (_, talk):
        loop = asyncio.get_running_loop()
        now = loop.time()
        ended: list[float] = []

        async def wait(seconds: float) -> None:
            with pytest.raises(CallFailed):
                await talk.channel.call(talk.method, b"", now + seconds)
            assert loop.time() >= now + seconds
            ended.append(seconds)

        await asyncio.gather(*map(wait, (0.6, 0.2, 0.4)))
    assert ended == [0.2, 0.4, 0.6]


async def test_a_cancelled_call_is_given_up() -> None:
    async with talking(silence) as (server, talk):
        call = asyncio.ensure_future(talk())
        await until(lambda: server.peers and server.peers[0].of(DATA))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: server.peers[0].of(RST_STREAM))


async def test_a_connection_that_ends_fails_its_calls() -> None:
    async def close(peer: Peer, *_: object) -> None:
        peer.writer.close()

    async with talking(close) as (server, talk):
        assert (await talk.fails())[0] is Status.UNAVAILABLE
        server.behave = echo
        await talk()
        assert len(server.peers) == 2


async def test_a_server_that_goes_away_ends_what_it_took_and_the_rest_is_unavailable() -> None:
    async def leave(peer: Peer, stream: int, body: bytes) -> None:
        if stream == 3:
            peer.send(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 0)))
            peer.send(answer(1, b"taken"))

    async with talking(leave) as (server, talk):
        taken, left = await asyncio.gather(talk(), talk.fails())
        assert (taken, left[0]) == (b"taken", Status.UNAVAILABLE)
        server.behave = echo
        assert await talk(b"a") == b"a"
        assert len(server.peers) == 2
