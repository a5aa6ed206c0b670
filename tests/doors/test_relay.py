"""The two legs of a WebSocket on real sockets: who makes whom wait, who is given up, and that faults end it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from websockets.frames import Close, Frame, Opcode

from sidecar.doors.relay import CLOSE_WITHIN, Leg, StillAllowed, relay
from sidecar.net.limits import Limits, Patience

PONG = Frame(Opcode.PONG, b"")


async def never_asked() -> tuple[int, str] | None:
    raise AssertionError("not asked")


async def some(end: socket.socket, size: int) -> bytes:
    """What comes next at an end."""
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(end, size), 10)


class Ends:
    """The far ends of both legs: `client` and `upstream` are sockets, `running` the relay."""

    def __init__(self, client: socket.socket, upstream: socket.socket, legs: tuple[Leg, Leg]) -> None:
        self.client = client
        self.upstream = upstream
        self.legs = legs
        self.running: asyncio.Task[None]

    async def say(self, frame: Frame, *, client: bool = True) -> None:
        """Send a frame from one of the ends."""
        await asyncio.get_running_loop().sock_sendall(
            self.client if client else self.upstream, frame.serialize(mask=client)
        )

    async def heard(self, end: socket.socket, seconds: float = 10) -> bytes:
        """What comes at an end until it is closed."""
        data, loop = b"", asyncio.get_running_loop()
        with suppress(ConnectionResetError):
            async with asyncio.timeout(seconds):
                while part := await loop.sock_recv(end, 65536):
                    data += part
        return data


@asynccontextmanager
async def relayed(
    *, tail: bytes = b"", ends_in: float | None = None, recheck: float = 0, ask: StillAllowed = never_asked,
    ping_every: float = 60,
) -> AsyncIterator[Ends]:  # fmt: skip
    loop = asyncio.get_running_loop()
    legs: list[Leg] = []
    far: list[socket.socket] = []
    for server in (True, False):
        near, end = socket.socketpair()
        for each in (near, end):
            each.setblocking(False)
        transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, near)
        transport.pause_reading()
        legs.append(Leg(transport, server=server, max_message=2**20, loop=loop))
        far.append(end)
    client, upstream = legs
    client.other, upstream.other = upstream, client
    for leg in legs:
        leg.transport.set_protocol(leg)
    client.begin(tail)
    upstream.begin(b"")
    ends = Ends(far[0], far[1], (client, upstream))
    ends.running = loop.create_task(
        relay(client, upstream, ends_in=ends_in, recheck=recheck, still_allowed=ask, ping_every=ping_every)
    )
    try:
        yield ends
    finally:
        for end in far:
            end.close()
        async with asyncio.timeout(CLOSE_WITHIN + 10):
            await ends.running


def closing(data: bytes) -> Close:
    """The close frame that stands alone in what an unmasked side said."""
    assert data[0] == 0x88, data[:40]
    return Close.parse(data[2:])


async def test_a_recheck_that_fails_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    """A gate that cannot even refuse, or a log that cannot be written, leaves nothing open."""

    async def broken() -> tuple[int, str] | None:
        raise OSError("no space left on device")

    async with relayed(recheck=0.05, ask=broken) as ends:
        data = await some(ends.client, 65536)
        assert closing(data) == Close(1011, "internal_error")
        assert await some(ends.upstream, 65536)
    assert "no space left on device" in caplog.text


async def test_nothing_is_relayed_after_the_end_was_told() -> None:
    async with relayed(ends_in=0.05) as ends:
        data = await some(ends.client, 65536)
        assert closing(data) == Close(4401, "token_expired")
        await ends.say(Frame(Opcode.TEXT, b"too late"))
        await ends.say(Frame(Opcode.CLOSE, data[2:]))
        said = await some(ends.upstream, 65536)
        assert len(said) == 2 + 4 + 2 + len("token_expired"), "the masked close frame, and nothing else"


async def test_a_side_that_waits_for_a_slow_reader_hears_the_end_at_once() -> None:
    """It closes in order, although the other side takes nothing any more."""
    async with relayed(ends_in=0.3) as ends:
        await ends.say(Frame(Opcode.BINARY, b"x" * 1_000_000), client=False)
        assert not ends.legs[1].closed.done()
        said = await some(ends.upstream, 100)
        assert said[0] == 0x88
        await ends.say(Frame(Opcode.CLOSE, Close(4401, "").serialize()), client=False)
        ends.upstream.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(CLOSE_WITHIN / 2):
            await ends.legs[1].closed


async def test_a_side_that_says_nothing_is_given_up() -> None:
    async with relayed(ping_every=0.1) as ends:
        heard = await ends.heard(ends.client)
        assert heard.startswith(b"\x89\x00"), "it was asked first"


async def test_a_side_that_answers_pings_is_not() -> None:
    async with relayed(ping_every=0.1) as ends:
        for _ in range(8):
            assert await some(ends.client, 100) == b"\x89\x00"
            assert await some(ends.upstream, 100)
            await ends.say(PONG)
            await ends.say(PONG, client=False)
        assert not ends.running.done()


async def test_one_that_waits_for_a_slow_reader_is_not_given_up_with_it() -> None:
    """The client takes a little in each round: the upstream, which is not read meanwhile, cannot be heard."""
    async with relayed(ping_every=0.3) as ends:
        loop = asyncio.get_running_loop()
        # all that the first message leaves over waits in the sockets and in the upstream
        shouting = loop.create_task(ends.say(Frame(Opcode.BINARY, b"x" * 1_000_000), client=False))
        heard = 0
        while heard < 900_000:
            await asyncio.sleep(0.1)
            part = await some(ends.client, 60_000)
            assert part, "given up"
            heard += len(part)
        await shouting
        assert not ends.legs[1].transport.is_closing()


async def test_one_that_takes_nothing_is_given_up_even_if_it_speaks() -> None:
    async with relayed(ping_every=0.1) as ends:
        await ends.say(Frame(Opcode.BINARY, b"x" * 1_000_000), client=False)
        with suppress(ConnectionError):
            for _ in range(40):
                await ends.say(PONG)
                await asyncio.sleep(0.05)
        assert ends.legs[0].closed.done()


async def test_one_that_takes_too_little_is_given_up_too() -> None:
    async with relayed(ping_every=0.1) as ends:
        ends.legs[0]._patience = Patience(Limits(stall=0.3, answer_rate=10**9, tick=0.01))
        await ends.say(Frame(Opcode.BINARY, b"x" * 1_000_000), client=False)
        heard = 0
        with suppress(ConnectionError):
            while heard < 900_000 and (part := await some(ends.client, 2_000)):
                heard += len(part)
                await asyncio.sleep(0.05)
        assert ends.legs[0].closed.done()
        assert heard < 900_000


async def test_a_slow_reader_is_told_of_and_so_is_its_recovery() -> None:
    async with relayed() as ends:
        told: list[bool] = []
        ends.legs[0]._slow = told.append
        await ends.say(Frame(Opcode.BINARY, b"x" * 1_000_000), client=False)
        async with asyncio.timeout(10):
            while not told:
                await asyncio.sleep(0.01)
        assert told == [True]
        heard = 0
        while heard < 1_000_000:
            heard += len(await some(ends.client, 65_536))
        async with asyncio.timeout(10):
            while told[-1]:
                await asyncio.sleep(0.01)


async def test_pings_of_one_that_takes_no_pongs_are_counted_without_end() -> None:
    """However slowly it asks: what it does not take would stay in our memory."""
    async with relayed() as ends:
        client = ends.legs[0]
        client.pause_writing()
        for _ in range(3):
            for _ in range(40):
                await ends.say(Frame(Opcode.PING, b"x" * 125))
            await asyncio.sleep(1.05)
        assert client.protocol.close_sent == Close(1008, "too many control frames")
        client.resume_writing()
        said = await some(ends.client, 2**20)
        assert 100 < said.count(b"x" * 125) < 120


async def test_frames_in_one_packet_are_relayed_in_turns_and_in_order() -> None:
    """Ten thousand small messages: other tasks get their turn between, and none is lost or changed."""
    frames = b"".join(Frame(Opcode.TEXT, b"%d" % number).serialize(mask=True) for number in range(10_000))
    async with relayed(tail=frames) as ends:
        loop = asyncio.get_running_loop()
        data, ticks = b"", 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticking = loop.create_task(tick())
        await ends.say(Frame(Opcode.TEXT, b"end"))
        while len(data) < len(frames) + len("end") + 6:
            data += await some(ends.upstream, 65536)
        ticking.cancel()
    assert ticks >= 20, "a turn is some hundred frames"
    texts, at = [], 0
    while at < len(data):
        size, mask = data[at + 1] & 0x7F, data[at + 2 : at + 6]
        payload = data[at + 6 : at + 6 + size]
        texts.append(bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))
        at += 6 + size
    assert texts == [b"%d" % number for number in range(10_000)] + [b"end"]


async def test_a_side_that_ended_before_the_relay_began_ends_it() -> None:
    loop = asyncio.get_running_loop()
    near, end = socket.socketpair()
    other_near, other_end = socket.socketpair()
    with end, other_end:
        gone, _ = await loop.connect_accepted_socket(asyncio.Protocol, near)
        there, _ = await loop.connect_accepted_socket(asyncio.Protocol, other_near)
        gone.abort()
        await asyncio.sleep(0.05)
        upstream = Leg(gone, server=False, max_message=100, loop=loop)
        client = Leg(there, server=True, max_message=100, loop=loop)
        client.other, upstream.other = upstream, client
        there.set_protocol(client)
        client.begin(b"")
        upstream.begin(b"")
        other_end.settimeout(1)
        await asyncio.sleep(0.05)
        assert closing(other_end.recv(100)).code == 1014
        other_end.close()
        async with asyncio.timeout(2):
            await relay(client, upstream, ends_in=None, recheck=0, still_allowed=never_asked)
