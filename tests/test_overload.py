"""Clients that want to be in the way: the others are served all the same, and memory stays where it was."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import Stack, policies
from tests.stack import Sidecar, reply, running_sidecar, wait_for

pytestmark = pytest.mark.alone

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


@pytest.mark.usefixtures("files")
def test_silent_and_dripping_clients_are_in_nobodys_way(stack: Stack, tmp_path: Path) -> None:
    stack.upstream.reset(reply())
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path, stack.routes, policies(), upstream, stack.environ) as sidecar:
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


def test_endless_heads_cost_no_memory_and_nobody_waits_for_them(stack: Stack, tmp_path: Path) -> None:
    stack.upstream.reset(reply())
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path, stack.routes, policies(), upstream, stack.environ) as sidecar:
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
    environ = {**stack.environ, "SIDECAR_MAX_CONNECTIONS": "4"}
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    stack.upstream.reset(lambda *_: time.sleep(1.5))
    with (
        running_sidecar(tmp_path, stack.routes, policies(), upstream, environ) as sidecar,
        contextlib.ExitStack() as clients,
    ):
        for _ in range(4):
            client = clients.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", sidecar.port), 5)))
            client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: len(stack.upstream.seen) == 4)
        got = sidecar.get("/public")
        assert (got.status, got.code) == (503, "overloaded")
