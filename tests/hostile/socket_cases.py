"""The websocket cases: the same gate before the upgrade, an end when the token ends, and floods that are cut off."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.hostile.attempts import Case
from tests.hostile.wire import Client, Reply
from tests.hostile.world import World
from tests.stack import Sidecar, wait_for

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def handshake(port: int, path: str, token: str, *headers: str) -> Reply:
    """The answer to a handshake."""
    lines = [
        f"GET {path} HTTP/1.1", "Host: app.test", f"Authorization: Bearer {token}", "Connection: Upgrade",
        "Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13", *headers, "", "",
    ]  # fmt: skip
    client = Client(port)
    with client.socket:
        client.send("\r\n".join(lines).encode("latin-1"))
        return client.reply()


def not_allowed(world: World, case: Case) -> None:
    """w02: the policy is asked for a handshake as for any other request."""
    assert case["send"]["bearer"] == "alice"
    for headers in ((), ("Origin: https://evil.test",), ("X-Auth-Roles: admin",)):
        reply = handshake(world.sidecar.port, case["send"]["handshake"], world.token("alice"), *headers)
        assert reply.status == case["expect"]["status"]
    assert world.upstream.received == b""


def ambiguous(world: World, case: Case) -> None:
    """w04: the same reading of the path before the upgrade."""
    for path in (case["send"]["handshake"], *case["send"]["variants"]):
        for user in ("alice", "root"):
            assert handshake(world.sidecar.port, path, world.token(user)).status == case["expect"]["status"], path
    assert world.upstream.received == b""


def _first(_: ServerConnection, offers: Sequence[Subprotocol]) -> Subprotocol | None:
    return offers[0] if offers else None


class Echo:
    """An upstream that says back what it hears. `handshakes` are their headers, `heard` is in how many messages,
    `closed_first` says of each connection that has ended whether it was this side that closed it."""

    def __init__(self) -> None:
        self.closed_first: list[bool] = []
        self.handshakes: list[dict[str, str]] = []
        self.heard = 0
        self._server = serve(self._handle, "127.0.0.1", 0, max_size=None, select_subprotocol=_first)
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.handshakes.append({name.lower(): value for name, value in connection.request.headers.raw_items()})
        with contextlib.suppress(ConnectionClosed):
            for message in connection:
                self.heard += 1
                connection.send(message)
        self.closed_first.append(connection.protocol.close_rcvd_then_sent is not True)

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()


@contextmanager
def before_echo(world: World, name: str) -> Iterator[tuple[Sidecar, Echo]]:
    """A sidecar of its own before an upstream that speaks WebSocket."""
    echo = Echo()
    try:
        with world.another(name, upstream=echo.port) as sidecar:
            yield sidecar, echo
    finally:
        echo.close()


def opened(sidecar: Sidecar, token: str, *protocols: str) -> ClientConnection:
    """An open WebSocket of alice's document."""
    return connect(
        "ws://app.test/ws/1",
        sock=socket.create_connection(("127.0.0.1", sidecar.port), 5),
        additional_headers={"Authorization": f"Bearer {token}"},
        subprotocols=[Subprotocol(name) for name in protocols] or None,
        proxy=None,
        max_size=None,
    )


def close_code(connection: ClientConnection, seconds: float) -> int:
    """With which code the other side closes, within so many seconds."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        try:
            connection.recv(0.2)
        except TimeoutError:
            continue
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 1006
    raise AssertionError(f"open after {seconds} s")


NOT_ALLOWED = 4403
"""Where the case has one code for both ends, the sidecar tells a permission that is gone from a token that ended."""


def ends(world: World, case: Case) -> None:
    """w05: a WebSocket ends with its token, and when asked again the policy says no."""
    with before_echo(world, "w05") as (sidecar, _):
        with opened(sidecar, world.mint.token(exp=int(time.time()) + 3)) as connection:
            connection.send("hello")
            assert connection.recv(5) == "hello"
            assert close_code(connection, case["expect"]["within_s"]) == case["expect"]["close"]
        with opened(sidecar, world.mint.token()) as connection:
            connection.send("hello")
            assert connection.recv(5) == "hello"
            world.hook.owners["1"] = "b-1"
            assert close_code(connection, case["expect"]["within_s"]) == NOT_ALLOWED
        with contextlib.suppress(InvalidStatus), opened(sidecar, world.mint.token()):
            raise AssertionError("a new handshake was let through")


def token_in_subprotocol(world: World, case: Case) -> None:
    """w06: a token among the subprotocols is neither logged nor passed on."""
    token = world.mint.token()
    with before_echo(world, "w06") as (sidecar, echo):
        with opened(sidecar, world.token("alice"), "bearer", token) as connection:
            connection.send("hello")
            assert connection.recv(5) == "hello"
            assert connection.subprotocol == "bearer"
        assert echo.handshakes[0]["sec-websocket-protocol"] == "bearer"
        # and it is no credential there
        assert handshake(sidecar.port, "/ws/1", "", f"Sec-WebSocket-Protocol: bearer, {token}").status == 401
        written = (sidecar.folder / "decisions.jsonl").read_text() + sidecar.log()
        assert (token in written) is case["expect"]["logged"]
        assert token.split(".")[2] not in written


Flood = Callable[[ClientConnection], None]


def _raw(connection: ClientConnection, data: bytes) -> None:
    with contextlib.suppress(OSError):
        connection.socket.sendall(data)


def _frame(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def _compressed(frame: bytes) -> bytes:
    """The frame with RSV1, which says that it is compressed (RFC 7692 section 6.1)."""
    return bytes([frame[0] | 0x40]) + frame[1:]


def _bomb(connection: ClientConnection) -> None:
    """Sixteen million bytes which a server that inflates would make sixteen thousand million of."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = deflate.compress(bytes(1_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    data = piece * (16_000_000 // len(piece))
    _raw(connection, _compressed(_frame(Opcode.BINARY, data)))


def _fragments(connection: ClientConnection) -> None:
    data = _frame(Opcode.TEXT, b"a", fin=False) + _frame(Opcode.CONT, b"a", fin=False) * 20_000
    _raw(connection, data)


def _pings(connection: ClientConnection) -> None:
    for _ in range(100):
        _raw(connection, _frame(Opcode.PING, os.urandom(4)) * 1000)


def _large(connection: ClientConnection) -> None:
    _raw(connection, _frame(Opcode.BINARY, bytes(1024 * 1024 + 1)))


FLOODS: dict[str, Flood] = {
    "permessage-deflate bomb 16 MB->16 GB": _bomb,
    "1 byte fragments": _fragments,
    "100k pings": _pings,
    "frame > 1 MiB": _large,
}


def floods(world: World, case: Case) -> None:
    """w07: floods are cut off with their code, no message of them reaches the upstream, and others are still served."""
    assert [word.strip() for word in case["send"]["frames"].split(";")] == list(FLOODS)
    with before_echo(world, "w07") as (sidecar, echo):
        for name, flood in FLOODS.items():
            with opened(sidecar, world.token("alice")) as connection:
                flood(connection)
                assert close_code(connection, 10) in case["expect"]["close"], name
        wait_for(lambda: len(echo.closed_first) == len(FLOODS))
        assert echo.heard == 0
        assert not any(echo.closed_first)
        with opened(sidecar, world.token("alice")) as connection:
            connection.send("still here")
            assert connection.recv(5) == "still here"


RUNS = {"w02": not_allowed, "w04": ambiguous, "w05": ends, "w06": token_in_subprotocol, "w07": floods}
