"""A body of 1 GiB passes each way, and the sidecar's memory stays where it was."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

import pytest

from tests.conftest import Stack, policies
from tests.faults.fakes import Scripted, more
from tests.stack import Recorder, Seen, Sidecar, reply, running_sidecar

GIB = 1024**3
PIECE = b"x" * (1024 * 1024)


class Peak:
    """The most memory that a process had since this was made, as the kernel counts it, in MiB."""

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")
        (self._process / "clear_refs").write_text("5")  # forget the peak so far (proc_pid_clear_refs(5))
        self.before = self.now()

    def now(self) -> float:
        """MiB of this moment."""
        return self._read("VmRSS")

    @property
    def grown(self) -> float:
        """MiB from then to the peak."""
        return self._read("VmHWM") - self.before

    def _read(self, name: str) -> float:
        return int((self._process / "status").read_text().partition(f"{name}:")[2].split()[0]) / 1024


def connected(sidecar: Sidecar) -> contextlib.closing[socket.socket]:
    return contextlib.closing(socket.create_connection(("127.0.0.1", sidecar.port), 30))


@pytest.mark.parametrize("framing", ["Content-Length: 1073741824", "Transfer-Encoding: chunked"])
def test_a_download_of_1_gib(stack: Stack, framing: str) -> None:
    def big(__: Recorder, connection: socket.socket, ___: Seen) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
        piece = PIECE if "Length" in framing else b"100000\r\n" + PIECE + b"\r\n"
        for _ in range(1024):
            connection.sendall(piece)
        connection.sendall(b"" if "Length" in framing else b"0\r\n\r\n")

    stack.upstream.reset(big)
    count, buffer = 0, bytearray(1024 * 1024)
    with connected(stack.sidecar) as client:
        peak = Peak(stack.sidecar.pid)
        client.sendall(b"GET /public HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while got := client.recv_into(buffer):
            count += got
    assert count > GIB
    assert peak.grown < 30


def test_an_upload_of_1_gib(stack: Stack, tmp_path: Path) -> None:
    arrived: list[int] = []

    def swallow(connection: socket.socket) -> None:
        buffer = bytearray(1024 * 1024)
        head = b""
        while b"\r\n\r\n" not in head:
            head += more(connection)
        total = len(head.partition(b"\r\n\r\n")[2])
        while total < GIB and (got := connection.recv_into(buffer)):
            total += got
        arrived.append(total)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    upstream = Scripted(swallow)
    head = "POST /upload HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {stack.tokens['alice']}\r\nContent-Length: {GIB}\r\n\r\n"
    url = f"http://127.0.0.1:{upstream.port}"
    with (
        running_sidecar(tmp_path, stack.routes, policies(), url, stack.environ, shared=True) as sidecar,
        connected(sidecar) as client,
    ):
        peak = Peak(sidecar.pid)
        client.sendall(head.encode())
        for _ in range(1024):
            client.sendall(PIECE)
        answer = client.recv(65536)
        assert peak.grown < 30
    upstream.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert arrived == [GIB]


LIST = """\
version: 1
routes:
  - {path: /list, resource: contact, actions: {GET: list}, items: {at: "@", id: id, attributes: {owner: owner_id}}}
"""


def test_a_list_of_10_mib_takes_40_and_gives_it_back(stack: Stack, tmp_path: Path) -> None:
    rows = [{"id": at, "owner_id": "somebody", "notes": "x" * 10_400} for at in range(1000)]
    body, token = json.dumps(rows).encode(), stack.tokens["admin"]
    assert 10_000_000 < len(body) < 10 * 1024 * 1024
    upstream = f"http://127.0.0.1:{stack.upstream.port}"
    with running_sidecar(tmp_path / "list", LIST, policies(), upstream, stack.environ, shared=True) as sidecar:
        stack.upstream.answer = reply(200, b"[]", "Content-Type: application/json")
        assert sidecar.get("/list", token).status == 200
        stack.upstream.answer = reply(200, body, "Content-Type: application/json")
        peak = Peak(sidecar.pid)
        assert sidecar.get("/list", token).body == body
        assert peak.grown < 40
        assert peak.now() - peak.before < 15
