"""`net/grpc_client.py` against a server that says exactly what a test wants, and against the gRPC library's."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from hpack import Decoder, Encoder

from sidecar.net.grpc_client import MAX_MESSAGE, CallFailed, Channel, Method, Status

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 0x20
HEAD = [(":status", "200"), ("content-type", "application/grpc")]
OK = [("grpc-status", "0"), ("grpc-message", "")]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def block(*fields: tuple[str, str]) -> bytes:
    encoder = Encoder()
    encoder.header_table_size = 0
    return encoder.encode(fields)


def headers(stream: int, fields: list[tuple[str, str]], end: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(*fields))


def message(body: bytes) -> bytes:
    return b"\0" + len(body).to_bytes(4, "big") + body


def data(stream: int, body: bytes) -> bytes:
    return b"".join(frame(DATA, 0, stream, body[at : at + 16384]) for at in range(0, len(body), 16384))


def answer(stream: int, body: bytes) -> bytes:
    return headers(stream, HEAD) + data(stream, message(body)) + headers(stream, OK, end=True)


def settings(*pairs: tuple[int, int], flags: int = 0) -> bytes:
    return frame(SETTINGS, flags, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


class Peer:
    """One connection at the server's side, frame by frame. `seen` is all that came; `asked` the whole questions."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.seen: list[tuple[int, int, int, bytes]] = []
        self.fields: dict[int, list[tuple[str, str]]] = {}
        self.bodies: dict[int, bytes] = {}
        self.decoder = Decoder()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def run(self) -> None:
        assert await self.reader.readexactly(len(PREFACE)) == PREFACE
        if self.server.hello:
            self.send(self.server.hello)
        while True:
            head = await self.reader.readexactly(9)
            payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            self.seen.append((kind, flags, stream, payload))
            if kind == HEADERS:
                self.fields[stream] = [(str(n), str(v)) for n, v in self.decoder.decode(payload)]
                self.bodies[stream] = b""
            if kind == DATA:
                self.bodies[stream] += payload
                if flags & END_STREAM:
                    await self.server.behave(self, stream, self.bodies[stream])

    def of(self, kind: int) -> list[tuple[int, int, bytes]]:
        return [(flags, stream, payload) for seen, flags, stream, payload in self.seen if seen == kind]


Behave = Callable[[Peer, int, bytes], Awaitable[None]]


class Server:
    """`behave` says what becomes of a whole question, `hello` what is said at first."""

    def __init__(self, behave: Behave, hello: bytes = settings()) -> None:
        self.behave = behave
        self.hello = hello
        self.peers: list[Peer] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(self, reader, writer)
        self.peers.append(peer)
        try:
            await peer.run()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def talking(
    behave: Behave, hello: bytes = settings(), timeout: float = 2.0
) -> AsyncIterator[tuple[Server, Talk]]:
    server = Server(behave, hello)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    target = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    talk = Talk(target, timeout)
    try:
        yield server, talk
    finally:
        await talk.channel.aclose()
        listening.close()
        for peer in server.peers:
            peer.writer.close()
        await asyncio.sleep(0)


class Talk:
    """A channel, and calls on it."""

    def __init__(self, target: str, timeout: float) -> None:
        self.method = Method("/a.B/C", target, timeout)
        self.other = Method("/a.B/D", target, timeout)
        self.channel = Channel(target, self.method)
        self.timeout = timeout

    async def __call__(self, body: bytes = b"x", method: Method | None = None) -> bytes:
        deadline = asyncio.get_running_loop().time() + self.timeout
        return await self.channel.call(method or self.method, body, deadline)

    async def fails(self, body: bytes = b"x") -> tuple[Status, str]:
        with pytest.raises(CallFailed) as caught:
            await self(body)
        return caught.value.status, caught.value.detail


async def echo(peer: Peer, stream: int, body: bytes) -> None:
    peer.send(answer(stream, body[5:]))


def says(*parts: bytes | Callable[[int], bytes]) -> Behave:
    """Answer each question with these bytes."""

    async def behave(peer: Peer, stream: int, _: bytes) -> None:
        peer.send(b"".join(part if isinstance(part, bytes) else part(stream) for part in parts))

    return behave


async def silence(*_: object) -> None:
    pass


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


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

        connection.transport = Spy()  # type: ignore[assignment]
        await asyncio.gather(*(talk() for _ in range(5)))
        assert len(written) == 1
        connection.transport = transport


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


@pytest.mark.parametrize(
    "hello", [b"HTTP/1.1 400 Bad Request\r\n\r\n", frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0, b"1")]
)
async def test_a_server_of_something_else_is_unavailable(hello: bytes) -> None:
    async with talking(echo, hello) as (_, talk):
        assert (await talk.fails())[0] is Status.UNAVAILABLE


async def test_an_answer_without_end_is_given_up() -> None:
    async def behave(peer: Peer, stream: int, _: bytes) -> None:
        peer.send(headers(stream, HEAD) + frame(DATA, 0, stream, b"\0\x7f\xff\xff\xff"))
        for _ in range(65):
            peer.send(frame(DATA, 0, stream, b"a" * 16384))

    async with talking(behave) as (server, talk):
        assert (await talk.fails())[0] is Status.RESOURCE_EXHAUSTED
        await until(lambda: server.peers[0].of(RST_STREAM))


# --- ends ---


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


async def test_a_server_that_says_nothing_any_more_is_connected_anew() -> None:
    async with talking(echo, timeout=0.6) as (server, talk):
        await talk()
        server.behave = silence
        assert (await talk.fails())[0] is Status.DEADLINE_EXCEEDED
        server.behave = echo
        await talk()
        assert len(server.peers) == 2


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


async def test_a_connection_whose_numbers_are_used_up_makes_room_for_another() -> None:
    async with talking(echo) as (server, talk):
        await talk()
        assert talk.channel._connection is not None
        talk.channel._connection._next = 2**31 - 3
        assert await talk(b"last but one") == b"last but one"
        assert await talk(b"last") == b"last"
        assert await talk(b"first") == b"first"
        assert [max(peer.fields) for peer in server.peers] == [2**31 - 1, 1]


async def test_nobody_there_is_unavailable_and_callers_share_the_attempt() -> None:
    async with talking(echo) as (server, talk):
        assert await asyncio.gather(*(talk(b"a") for _ in range(20))) == [b"a"] * 20
        assert len(server.peers) == 1
    assert (await talk.fails())[0] is Status.UNAVAILABLE


async def test_one_who_leaves_does_not_take_the_connection_from_the_others() -> None:
    async with talking(echo) as (_, talk):
        first = asyncio.ensure_future(talk())
        second = asyncio.ensure_future(talk(b"b"))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b"b"


async def test_closing_fails_what_is_under_way() -> None:
    async with talking(silence) as (server, talk):
        call = asyncio.ensure_future(talk.fails())
        await until(lambda: server.peers and server.peers[0].of(DATA))
        await talk.channel.aclose()
        assert (await call)[0] is Status.UNAVAILABLE


# --- the library's server ---


@pytest.mark.parametrize("size", [0, 1, 16384, 70_000, MAX_MESSAGE - 100])
async def test_messages_of_any_size_come_back_from_the_grpc_library(size: int) -> None:
    class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # the library has no types
        def service(self, _: Any) -> Any:
            async def handle(data: bytes, __: Any) -> bytes:
                return data

            return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Echo(),))
    talk = Talk(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", 5.0)
    await server.start()
    body = (b"%d," % size) * (size // 4 + 1)
    try:
        assert await asyncio.gather(*(talk(body[:size]) for _ in range(5))) == [body[:size]] * 5
    finally:
        await talk.channel.aclose()
        await server.stop(None)
