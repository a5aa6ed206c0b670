"""Clients that want to be in the way: the others are served all the same, and memory stays where it was."""

from __future__ import annotations

import contextlib
import http.client
import json
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from hpack import Encoder

from sidecar.wire.http2 import HEADERS, PREFACE, SETTINGS, frame
from tests.conftest import Stack, policies
from tests.stack import Recorder, Seen, Sidecar, Web, free_port, reply, running_sidecar, wait_for

SILENT = 1000


def rss(sidecar: Sidecar) -> float:
    status = Path(f"/proc/{sidecar.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def p99(sidecar: Sidecar, count: int = 200) -> float:
    """Milliseconds: the 99th of a hundred requests on one kept connection."""
    times = []
    with contextlib.closing(socket.create_connection(("127.0.0.1", sidecar.port), 5)) as client:
        for _ in range(count):
            started = time.perf_counter()
            client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\n\r\n")
            data = client.recv(65536)
            while not data.endswith(b"ok"):
                data += client.recv(65536)
            times.append(time.perf_counter() - started)
    return sorted(times)[int(count * 0.99) - 1] * 1000


@pytest.fixture
def files() -> None:
    """Enough file descriptors for a thousand clients on our side."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4096:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))


@pytest.mark.alone
@pytest.mark.usefixtures("files")
def test_silent_and_dripping_clients_are_in_nobodys_way(stack: Stack, tmp_path: Path) -> None:
    stack.upstream.reset(reply())
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path, stack.routes, policies(), upstream, stack.environ, shared=True) as sidecar:
        alone = p99(sidecar)
        before = rss(sidecar)
        with contextlib.ExitStack() as clients:
            slow = [
                clients.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", sidecar.port), 5)))
                for _ in range(SILENT)
            ]
            for client in slow[::3]:
                client.sendall(b"GET /public HTT")
            for client in slow[1::3]:
                client.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
            crowded = p99(sidecar)
            assert rss(sidecar) - before < 5
        # the machine is shared: what counts is that the crowd adds little to what there was without it
        assert crowded < max(50, alone * 3)
        assert sidecar.get("/public").status == 200


GREEDY = 600


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("what", "proxied", "most"), [("answers", False, 35), ("refusals", False, 23), ("answers", True, 35)],
    ids=["answers of the app", "refusals", "answers of the app, behind a trusted proxy"],
)  # fmt: skip
def test_clients_that_read_nothing_leave_the_others_their_places(
    stack: Stack, tmp_path: Path, what: str, proxied: bool, most: int
) -> None:
    """512 of them stopped everybody, and took 394 MiB. What they may take is a connection's own for each, and the buffers of
    as many answers as they have connections to the app."""
    large = reply(200, bytes(8 * 1024 * 1024))

    def answer(own: Recorder, to: socket.socket, seen: Seen) -> None:
        # what waits in the kernel for a client that reads nothing says nothing of the sidecar
        to.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        (large if seen.target == "/static/large" else small)(own, to, seen)

    small = reply()
    stack.upstream.reset(answer)
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    environ = {**stack.environ, **({"SIDECAR_TRUSTED_PROXIES": "127.0.0.0/8"} if proxied else {})}
    said = b"GET /static/large HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n"
    if what == "refusals":
        # pages, as they are longer: what counts is what is not read, and not how much is asked
        said = b"GET /nowhere HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n" * 400
    with running_sidecar(tmp_path, stack.routes, policies(), upstream, environ, shared=True) as sidecar:
        assert asks(sidecar, 20) == [200] * 20
        before = rss(sidecar)
        with contextlib.ExitStack() as clients:

            def take(count: int) -> None:
                for _ in range(count):
                    client = clients.enter_context(contextlib.closing(socket.socket()))
                    # with a small window, so that little of it waits in the kernel
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    client.settimeout(10)
                    client.connect(("127.0.0.1", sidecar.port))
                    with contextlib.suppress(OSError):
                        client.sendall(said)

            def taken() -> bool:
                """Whether they have all that they can have. The app may have refused some of so many at once."""
                if sidecar.metric("sidecar_upstream_connections") >= 250:
                    return True
                take(5)
                return False

            take(GREEDY)
            assert asks(sidecar, 200) == [200] * 200
            assert rss(sidecar) - before < most
            if what == "answers":
                # as many as they leave to others
                wait_for(taken)
        assert asks(sidecar, 20) == [200] * 20


def asks(sidecar: Sidecar, count: int) -> list[int]:
    """The statuses of a client with another address than the others', each on a connection of its own."""
    statuses = []
    for _ in range(count):
        client = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=30, source_address=("127.0.0.2", 0))
        with contextlib.closing(client):
            client.request("GET", "/public", headers={"X-Forwarded-For": "192.0.2.2"})
            answer = client.getresponse()
            answer.read()
            statuses.append(answer.status)
    return statuses


@pytest.mark.usefixtures("files")
def test_a_client_that_takes_all_the_connections_that_it_may_leaves_half_of_them(stack: Stack, tmp_path: Path) -> None:
    stack.upstream.reset(reply())
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    environ = {**stack.environ, "SIDECAR_MAX_CONNECTIONS": "200"}
    with (
        running_sidecar(tmp_path, stack.routes, policies(), upstream, environ, shared=True) as sidecar,
        contextlib.ExitStack() as clients,
    ):
        for _ in range(400):
            client = clients.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", sidecar.port), 5)))
            with contextlib.suppress(OSError):
                client.sendall(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        # it looks for the idle ones twice a second
        wait_for(lambda: sidecar.metric("sidecar_connections") <= 200)
        assert asks(sidecar, 50) == [200] * 50


@pytest.mark.alone
def test_endless_heads_cost_no_memory_and_nobody_waits_for_them(stack: Stack, tmp_path: Path) -> None:
    stack.upstream.reset(reply())
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path, stack.routes, policies(), upstream, stack.environ, shared=True) as sidecar:
        alone, before, stop = p99(sidecar), rss(sidecar), threading.Event()
        sent: list[int] = []

        def flood() -> None:
            while not stop.is_set():
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", sidecar.port), 5) as client:
                    client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\nX-A: ")
                    for _ in range(256):
                        sent.append(client.send(b"a" * 65536))
                time.sleep(0.01)

        flooder = threading.Thread(target=flood)
        flooder.start()
        crowded = p99(sidecar)
        stop.set()
        flooder.join()
        assert sum(sent) > 1_000_000
        assert rss(sidecar) - before < 5
        assert crowded < max(50, alone * 3)


def test_beyond_the_limit_of_connections_a_busy_server_says_503(stack: Stack, tmp_path: Path) -> None:
    # one client alone may not take all of them, and a trusted proxy may
    environ = {**stack.environ, "SIDECAR_MAX_CONNECTIONS": "4", "SIDECAR_TRUSTED_PROXIES": "127.0.0.0/8"}
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    stack.upstream.reset(lambda *_: time.sleep(1.5))
    with (
        running_sidecar(tmp_path, stack.routes, policies(), upstream, environ, shared=True) as sidecar,
        contextlib.ExitStack() as clients,
    ):
        for _ in range(4):
            client = clients.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", sidecar.port), 5)))
            client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: len(stack.upstream.seen) == 4)
        got = sidecar.get("/public")
        assert (got.status, got.code) == (503, "overloaded")


@pytest.mark.usefixtures("files")
def test_silent_connections_do_not_lock_envoy_out(stack: Stack, tmp_path: Path) -> None:
    """1,024 of them did, and a call with no end was waited for without end."""
    upstream, asks = f"http://127.0.0.1:{stack.upstream.port}", free_port()
    environ = {**stack.environ, "SIDECAR_EXT_AUTHZ_LISTEN": f"127.0.0.1:{asks}"}
    with (
        running_sidecar(tmp_path, stack.routes, policies(), upstream, environ, shared=True) as sidecar,
        contextlib.ExitStack() as clients,
    ):
        before = rss(sidecar)
        for number in range(1500):
            client = clients.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", asks), 5)))
            # silent, greeted and no more, or with a question that does not end
            with contextlib.suppress(OSError):
                client.sendall((b"", HELLO, HELLO + UNFINISHED)[number % 3])
        statuses = []
        for _ in range(20):
            # as Envoy does, it asks again where its connection made room for another
            with grpc.insecure_channel(f"127.0.0.1:{asks}", [("grpc.initial_reconnect_backoff_ms", 100)]) as channel:
                ask = channel.unary_unary("/grpc.health.v1.Health/Check")
                statuses.append(ask(b"", timeout=20, wait_for_ready=True))
        assert statuses == [b"\x08\x01"] * 20
        assert rss(sidecar) - before < 20


HELLO = PREFACE + frame(SETTINGS, 0, 0, b"")
UNFINISHED = frame(HEADERS, 4, 1, Encoder().encode(
    [(":method", "POST"), (":scheme", "http"), (":path", "/grpc.health.v1.Health/Check"), (":authority", "a"),
     ("content-type", "application/grpc")]
))  # fmt: skip


class Held(dict[str, Any]):
    """Pages of a hook, which holds those of ids of four digits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    def get(self, path: str, default: Any = None) -> Any:
        if len(path.rpartition("/")[2]) == 4:
            self.go.wait(60)
        return super().get(path, default)


def permissions(sidecar: Sidecar, token: str, ids: range) -> list[str]:
    """The codes of these contacts, in one call."""
    body = json.dumps([{"method": "GET", "path": f"/contacts/{number}"} for number in ids]).encode()
    got = sidecar.request("POST", "/_sidecar/permissions", token, body, content_type="application/json")
    assert got.status == 200, got
    return [entry["code"] for entry in json.loads(got.body)]


def test_one_users_permissions_calls_leave_the_lookup_to_others(stack: Stack, tmp_path: Path) -> None:
    pages, hook = Held(), Web()
    hook.pages = pages
    hook.json("/contacts/2", {"id": "2", "owner_id": "bob"})
    routes = stack.routes.replace("timeout: 2s", "timeout: 60s").replace(f":{stack.hook.port}/", f":{hook.port}/")
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    stack.upstream.reset(reply())
    with (
        running_sidecar(tmp_path, routes, policies(), upstream, stack.environ, shared=True) as sidecar,
        ThreadPoolExecutor(10) as pool,
    ):
        calls = [
            pool.submit(permissions, sidecar, stack.tokens["alice"], range(at, at + 500))
            for at in range(1000, 6000, 500)
        ]
        try:
            # half of the 256 places are hers, and her other questions wait
            wait_for(lambda: len(hook.asked) == 128)
            wait_for(lambda: sidecar.metric("sidecar_questions", dep="lookup", state="waiting") == 192)
            for _ in range(20):
                assert sidecar.get("/contacts/2", stack.tokens["bob"]).status == 200
                assert permissions(sidecar, stack.tokens["bob"], range(2, 3)) == ["allowed"]
            assert len(hook.asked) == 128 + 40
        finally:
            pages.go.set()
        # none of hers was turned away: she waited, and is told of what is not there as of what is not hers
        assert {code for call in calls for code in call.result()} == {"denied_by_policy"}
        assert sidecar.metric("sidecar_questions", dep="lookup") == 0
    hook.close()
