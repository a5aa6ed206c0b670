"""A WebSocket through the sidecar: decided at the handshake, relayed both ways, ended when it may not go on."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from cerbos.effect.v1 import effect_pb2
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

from sidecar.doors.websocket import accept_of, offered_protocols
from tests.conftest import policies
from tests.faults.fakes import FakeCerbos, Scripted, allow, changed, more
from tests.stack import Sidecar, Web, free_port, running_sidecar, wait_for
from tests.tokens import CLIENT, POOL, claims, key_set, mint

ROUTES = """\
version: 1
routes:
  - {path: /open, access: public, methods: [WS]}
  - {path: /page, access: public}
  - {path: "/ws/{id}", resource: contact, id: "{path.id}", actions: {WS: read}}
  - {path: "/checked/{id}", resource: contact, id: "{path.id}", actions: {WS: read}, recheck: 300ms}
"""


class Upstream:
    """A WebSocket server: what it says is `play`'s to say; `handshakes` are the headers that came."""

    def __init__(self) -> None:
        self.play: Callable[[ServerConnection], None] = echo
        self.handshakes: list[dict[str, str]] = []
        self.closed: list[tuple[int, str]] = []
        self._server = serve(self._handle, "127.0.0.1", 0, max_size=None, select_subprotocol=first)
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.handshakes.append({name.lower(): value for name, value in connection.request.headers.raw_items()})
        with contextlib.suppress(ConnectionClosed):
            self.play(connection)
        connection.close()
        self.closed.append((connection.close_code or 0, connection.close_reason or ""))

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()


def echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


def first(_: ServerConnection, offers: Sequence[Subprotocol]) -> Subprotocol | None:
    return offers[0] if offers else None


class World:
    """A sidecar before a WebSocket server, with a Cerbos whose answers the tests switch."""

    def __init__(self, sidecar: Sidecar, upstream: Upstream, cerbos: FakeCerbos) -> None:
        self.sidecar = sidecar
        self.upstream = upstream
        self.cerbos = cerbos

    def connect(
        self, path: str = "/ws/1", seconds: float = 3600, *, subprotocols: Sequence[Subprotocol] | None = None,
        max_queue: int = 16,
    ) -> ClientConnection:  # fmt: skip
        """An open WebSocket, with a token that lives so long."""
        token = mint(claims(time.time(), exp=int(time.time() + seconds))).decode()
        return connect(
            f"ws://127.0.0.1:{self.sidecar.port}{path}", additional_headers={"Authorization": f"Bearer {token}"}, proxy=None,
            max_size=None, subprotocols=subprotocols, max_queue=max_queue,
        )  # fmt: skip


@contextmanager
def behind(
    folder: Path, upstream_port: int, more: dict[str, str] | None = None
) -> Iterator[tuple[Sidecar, FakeCerbos]]:
    keys, cerbos = Web(), FakeCerbos()
    keys.json("/jwks", key_set())
    environ = {
        "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": POOL, "AWS_COGNITO_CLIENT_ID": CLIENT,
        "SIDECAR_JWKS_URL": f"http://127.0.0.1:{keys.port}/jwks", "SIDECAR_CERBOS": f"127.0.0.1:{cerbos.port}",
        **(more or {}),
    }  # fmt: skip
    try:
        with running_sidecar(folder, ROUTES, policies(), f"http://127.0.0.1:{upstream_port}", environ) as sidecar:
            yield sidecar, cerbos
    finally:
        keys.close()
        cerbos.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    upstream = Upstream()
    try:
        with behind(tmp_path_factory.mktemp("ws"), upstream.port) as (sidecar, cerbos):
            yield World(sidecar, upstream, cerbos)
    finally:
        upstream.close()


@pytest.fixture
def world(shared: World) -> World:
    shared.cerbos.check = allow
    shared.upstream.play = echo
    shared.upstream.handshakes.clear()
    shared.upstream.closed.clear()
    return shared


def ended(connection: ClientConnection, seconds: float = 5) -> tuple[int, str]:
    """The close code and reason with which the other side ends it."""
    with contextlib.suppress(ConnectionClosed):
        while connection.recv(seconds) is not None:
            pass
    return connection.close_code or 0, connection.close_reason or ""


def test_messages_of_both_types_pass_both_ways_and_so_does_the_close(world: World) -> None:
    with world.connect() as client:
        for message in ("text é", b"\0\xff binary", "", b"", "x" * 70_000, b"y" * 1_000_000):
            client.send(message)
            assert client.recv(5) == message
        client.send(["in ", "three ", "pieces"])
        assert client.recv(5) == "in three pieces"
        client.close(4321, "bye")
    wait_for(lambda: (4321, "bye") in world.upstream.closed)
    line = world.sidecar.decisions()[-1]
    assert (line["outcome"], line["status"], line["action"], line["principal"]) == ("allow", 101, "read", "a-1")
    assert line["method"] == "WS"


def test_the_close_of_the_upstream_passes_too(world: World) -> None:
    world.upstream.play = lambda connection: connection.close(4999, "enough")
    with world.connect() as client:
        assert ended(client) == (4999, "enough")


def test_the_upstream_gets_a_handshake_of_ours_with_the_identity(world: World) -> None:
    token = mint(claims(time.time())).decode()
    with world.connect(subprotocols=[Subprotocol("bearer"), Subprotocol(token), Subprotocol("chat")]) as client:
        assert client.subprotocol == "bearer"
        assert client.protocol.extensions == []
    wait_for(lambda: world.upstream.handshakes)
    (headers,) = world.upstream.handshakes
    assert (headers["x-auth-subject"], headers["x-auth-roles"]) == ("a-1", "user")
    assert headers["sec-websocket-protocol"] == "bearer, chat"
    assert "sec-websocket-extensions" not in headers
    assert token not in world.sidecar.log() + (world.sidecar.folder / "decisions.jsonl").read_text()


def test_pings_are_answered_here_and_floods_of_them_end(world: World) -> None:
    with world.connect() as client:
        assert client.ping().wait(5)
        for _ in range(500):
            with contextlib.suppress(ConnectionClosed):
                client.ping()
        assert ended(client)[0] == 1008


def test_a_message_over_the_limit_ends_it(world: World) -> None:
    with world.connect() as client:
        client.send(b"x" * (1024 * 1024 + 1))
        assert ended(client)[0] == 1009
    wait_for(lambda: world.upstream.closed)


def test_the_limit_of_a_message_is_a_setting(tmp_path: Path) -> None:
    upstream = Upstream()
    with (
        behind(tmp_path, upstream.port, {"SIDECAR_WS_MAX_MESSAGE": "64KiB"}) as (sidecar, cerbos),
        World(sidecar, upstream, cerbos).connect() as client,
    ):
        client.send(b"x" * 65_536)
        assert len(client.recv(5)) == 65_536
        client.send(b"x" * 65_537)
        assert ended(client)[0] == 1009
    upstream.close()


def test_a_flood_of_fragments_ends_it(world: World) -> None:
    with world.connect() as client:
        with contextlib.suppress(ConnectionClosed, OSError):
            client.send(b"x" for _ in range(5000))
        assert ended(client)[0] == 1008


@pytest.mark.parametrize(
    ("path", "status"),
    [("/ws/1", 403), ("/none", 403), ("/ws/..", 400), ("/ws//1", 400), ("/ws/a@b", 400), ("/ws/1%2f2", 400)],
)
def test_a_refused_handshake_is_an_answer_and_the_upstream_hears_nothing(world: World, path: str, status: int) -> None:
    world.cerbos.check = changed(lambda message: message.results[0].actions.update({"read": effect_pb2.EFFECT_DENY}))
    with pytest.raises(InvalidStatus) as caught:
        world.connect(path)
    assert caught.value.response.status_code == status
    assert world.upstream.handshakes == []


def test_without_a_token_a_handshake_is_401(world: World) -> None:
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://127.0.0.1:{world.sidecar.port}/ws/1", proxy=None)
    assert caught.value.response.status_code == 401
    with connect(f"ws://127.0.0.1:{world.sidecar.port}/open", proxy=None) as client:
        client.send("public")
        assert client.recv(5) == "public"


def test_it_ends_when_its_token_does(world: World) -> None:
    with world.connect(seconds=2) as client:
        started = time.time()
        assert ended(client) == (4401, "token_expired")
        assert time.time() - started < 10
    wait_for(lambda: (4401, "token_expired") in world.upstream.closed)


def test_a_recheck_ends_what_is_no_longer_allowed(world: World) -> None:
    with world.connect("/checked/1") as client, world.connect("/ws/1") as unchecked:
        time.sleep(0.7)
        client.send("still")
        assert client.recv(5) == "still"
        world.cerbos.check = changed(
            lambda message: message.results[0].actions.update({"read": effect_pb2.EFFECT_DENY})
        )
        assert ended(client) == (4403, "denied_by_policy")
        unchecked.send("decided once")
        assert unchecked.recv(5) == "decided once"


def rss(world: World) -> int:
    """KiB of memory of the sidecar."""
    status = Path(f"/proc/{world.sidecar.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def test_a_slow_reader_makes_the_other_side_wait(world: World) -> None:
    """20 MiB are said to a client that does not listen: neither does the sidecar keep them."""
    sent: list[int] = []

    def shout(connection: ServerConnection) -> None:
        for number in range(80):
            connection.send(b"x" * 262_144)
            sent.append(number)

    before = rss(world)
    world.upstream.play = shout
    with world.connect(max_queue=1) as client:
        time.sleep(1)
        assert len(sent) < 80
        assert rss(world) - before < 10 * 1024
        for _ in range(80):
            assert len(client.recv(5)) == 262_144


def test_who_leaves_takes_the_other_side_along(world: World) -> None:
    gone = threading.Event()

    def listen(connection: ServerConnection) -> None:
        try:
            echo(connection)
        finally:
            gone.set()

    world.upstream.play = listen
    with world.connect() as client:
        client.socket.shutdown(socket.SHUT_RDWR)
        assert gone.wait(5)
    world.upstream.play = lambda connection: connection.socket.shutdown(socket.SHUT_RDWR)
    with world.connect() as other:
        assert ended(other)[0] in (1006, 1014)


HANDSHAKE = (
    b"GET /open HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def raw_handshake(port: int, tail: bytes = b"") -> bytes:
    """What comes back for a handshake on /open with these bytes behind it, until the other side is silent."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), 5)) as client:
        client.sendall(HANDSHAKE + tail)
        client.settimeout(1)
        data = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while part := client.recv(65536):
                data += part
    return data


def flooded(
    world: World, frame: bytes, seconds: float, meanwhile: Callable[[], None], ended: Callable[[], bool] = lambda: False
) -> None:
    """Send a frame over and over on a connection that is never read, and do something else meanwhile, until it is
    `ended` or the time is over."""
    stop = threading.Event()
    frames = frame * (65_536 // len(frame))

    def flood(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set():
                client.sendall(frames)

    with contextlib.closing(socket.create_connection(("127.0.0.1", world.sidecar.port), 1)) as client:
        client.sendall(HANDSHAKE)
        assert client.recv(13) == b"HTTP/1.1 101 "
        thread = threading.Thread(target=flood, args=(client,))
        thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not ended():
            meanwhile()
        stop.set()
        thread.join()


def test_a_flood_of_pings_that_takes_no_pongs_costs_no_memory(world: World) -> None:
    before, most = rss(world), 0

    def watch() -> None:
        nonlocal most
        most = max(most, rss(world) - before)
        time.sleep(0.05)

    flooded(world, Frame(Opcode.PING, b"x" * 125).serialize(mask=True), 2, watch)
    assert most < 10 * 1024


@pytest.mark.alone
def test_a_flood_of_tiny_messages_leaves_others_their_turn(world: World) -> None:
    waits: list[float] = []

    def ask() -> None:
        started = time.monotonic()
        assert world.sidecar.get("/none").status == 403
        waits.append(time.monotonic() - started)

    flooded(world, Frame(Opcode.TEXT, b"").serialize(mask=True), 2, ask, lambda: len(waits) == 50)
    # whoever is starved waits as long as the flood goes on, and asks once; one slow answer says nothing of turns
    assert len(waits) >= 8
    assert sorted(waits)[len(waits) // 2] < 0.25


def test_a_handshake_on_a_route_without_websockets_is_405(world: World) -> None:
    with pytest.raises(InvalidStatus) as caught:
        world.connect("/page")
    assert caught.value.response.status_code == 405
    assert world.upstream.handshakes == []


def switching(request: bytes, *headers: bytes) -> bytes:
    """A 101 with the accept of the request's key."""
    key = request.partition(b"sec-websocket-key: ")[2].partition(b"\r\n")[0]
    lines = [b"HTTP/1.1 101 X", b"Upgrade: WebSocket", b"Sec-WebSocket-Accept: " + accept_of(key), *headers, b"", b""]
    return b"\r\n".join(lines)


UPGRADED = b"Connection: keep-alive, Upgrade"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([UPGRADED], 101),
        ([UPGRADED, b"Sec-WebSocket-Extensions: permessage-deflate"], 502),
        ([UPGRADED, b"Sec-WebSocket-Protocol: never-offered"], 502),
        ([UPGRADED, b"Sec-WebSocket-Protocol: "], 502),
        ([b"Connection: close"], 502),
    ],
)
def test_the_101_of_the_upstream_is_read_as_the_rfc_has_it(headers: list[bytes], status: int, tmp_path: Path) -> None:
    """RFC 6455 section 4.1. The upstream that switches says a message at once and leaves: the client hears both."""

    def play(connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += more(connection)
        connection.sendall(switching(request, *headers) + b"\x81\x05early")

    upstream = Scripted(play)
    with behind(tmp_path, upstream.port) as (sidecar, _):
        data = raw_handshake(sidecar.port)
        assert data.startswith(f"HTTP/1.1 {status} ".encode())
        assert (b"\x81\x05early" in data) is (status == 101)
        (line,) = sidecar.decisions()
        assert (line["status"], line.get("detail")) == (status, None if status == 101 else "http_upgrade_failed")
    upstream.close()


def test_frames_behind_the_handshake_are_not_lost(world: World) -> None:
    frame = Frame(Opcode.TEXT, b"early").serialize(mask=True)
    data = raw_handshake(world.sidecar.port, frame)
    assert data.startswith(b"HTTP/1.1 101 ")
    assert data.endswith(b"early")
    # RFC 6455 section 1.3 has this key and its answer
    assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in data


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", 403),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n", 502),
        (b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 502),
        (b"HTTP/1.1 101 X\r\n\r\n", 502),
        (b"nonsense\r\n\r\n", 502),
        (b"", 502),
    ],
)
def test_only_a_valid_101_of_the_upstream_opens_a_tunnel(answer: bytes, status: int, tmp_path: Path) -> None:
    def play(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(answer)

    upstream = Scripted(play)
    with behind(tmp_path, upstream.port) as (sidecar, _):
        data = raw_handshake(sidecar.port, b"GET /smuggled HTTP/1.1\r\n\r\n")
        assert data.startswith(f"HTTP/1.1 {status} ".encode())
        assert data.count(b"HTTP/1.1 ") == 1
        assert sidecar.decisions()[-1]["status"] == status
    upstream.close()


def test_an_upstream_that_is_down_is_502(tmp_path: Path) -> None:
    with behind(tmp_path, free_port()) as (sidecar, _):
        assert raw_handshake(sidecar.port).startswith(b"HTTP/1.1 502 ")
        line = sidecar.decisions()[-1]
        assert line["code"] == "upstream_unavailable"
        assert line["detail"] == "connection_refused: 127.0.0.1: Connection refused"
        assert "found connection_refused" in sidecar.log()


def test_a_sidecar_that_stops_says_that_it_goes_away(tmp_path: Path) -> None:
    upstream = Upstream()
    with behind(tmp_path, upstream.port) as (sidecar, cerbos):
        stopper = threading.Thread(target=sidecar.process.stop)
        with World(sidecar, upstream, cerbos).connect() as client:
            stopper.start()
            assert ended(client)[0] == 1001
        stopper.join()
    upstream.close()
    assert upstream.closed[0][0] == 1001


def test_the_accept_of_the_rfc() -> None:
    assert accept_of(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_a_token_among_the_subprotocols_is_left_out() -> None:
    token = mint(claims(0.0))
    encrypted = b".".join((b"a" * 20, b"", b"b" * 16, b"c" * 30, b"d" * 22))

    def offers(*values: bytes) -> list[bytes]:
        return offered_protocols([(b"sec-websocket-protocol", value) for value in values])

    assert offers(b"chat,  " + token + b", v1.2.3", b"graphql-transport-ws") == [
        b"chat",
        b"v1.2.3",
        b"graphql-transport-ws",
    ]
    assert offers(b"bearer." + token, encrypted, b"x" * 101) == []
