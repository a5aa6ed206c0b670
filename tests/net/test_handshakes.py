"""TLS of the server's own, asked by real clients."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar.net import handshakes
from sidecar.net.certificate import Certificate
from sidecar.net.upgrade import UPGRADE
from tests.certificates import Files, certificates
from tests.net.raw_http import Running, reply, running, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def app(scope: Any, _: Any, send: Any) -> None:
    await reply(send, 200, str(scope["scheme"]).encode())


class Served:
    def __init__(self, files: Files, certificate: Certificate, server: Running) -> None:
        self.files, self.certificate, self.server = files, certificate, server

    def client(self, ca: Path | None = None) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=ca or self.files.ca)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context.wrap_socket(self.plain(), server_hostname="127.0.0.1")

    def plain(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), 20)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    files = certificates(tmp_path)
    certificate = Certificate(str(files.certificate), str(files.key), time.time)
    with running(app, host="127.0.0.1", port=0, tls=certificate.context) as server:
        yield Served(files, certificate, server)


def answered(client: ssl.SSLSocket) -> bool:
    client.sendall(GET)
    data = b""
    while not data.endswith(b"https"):
        part = client.recv(65536)
        assert part, data
        data += part
    return data.startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_request_over_tls(served: Served) -> None:
    with served.client() as client:
        assert (client.version(), client.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
        for _ in range(2):
            assert answered(client)


def test_what_comes_with_the_end_of_the_handshake_is_read(served: Served) -> None:
    """A client of TLS 1.3 sends its request with its last message."""
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=served.files.ca).wrap_bio(theirs, ours, server_hostname="127.0.0.1")
    with served.plain() as client:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                client.sendall(ours.read())
                theirs.write(client.recv(65536))
        tls.write(GET)
        client.sendall(ours.read())
        data = b""
        while not data.endswith(b"https"):
            try:
                data += tls.read(65536)
            except ssl.SSLWantReadError:
                theirs.write(client.recv(65536))
        assert data.startswith(b"HTTP/1.1 200 OK")


def test_another_protocol_or_an_old_one_is_cut_off(served: Served) -> None:
    with served.plain() as client:
        client.sendall(GET)
        with contextlib.suppress(ConnectionResetError):
            # an alert of TLS, or nothing
            assert not client.recv(65536).startswith(b"HTTP")
    old = ssl.create_default_context(cafile=served.files.ca)
    with warnings.catch_warnings(action="ignore"):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("DEFAULT@SECLEVEL=0")
    with served.plain() as client, pytest.raises((ssl.SSLError, ConnectionResetError)):
        old.wrap_socket(client, server_hostname="127.0.0.1")
    assert served.server.seen == []
    with served.client() as good:
        assert answered(good)


def test_a_handshake_has_little_time_and_many_at_once_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "HANDSHAKE", 0.5)
    monkeypatch.setattr(handshakes, "AT_ONCE", 2)
    files = certificates(tmp_path)
    certificate = Certificate(str(files.certificate), str(files.key), time.time)
    with running(app, host="127.0.0.1", port=0, tls=certificate.context) as server:
        served = Served(files, certificate, server)
        with served.plain() as first, served.plain() as second:
            time.sleep(0.1)
            with served.plain() as third, contextlib.suppress(ConnectionResetError):
                assert third.recv(1) == b""
            for slow in (first, second):
                with contextlib.suppress(ConnectionResetError):
                    assert slow.recv(1) == b""

        def has_place() -> bool:
            try:
                with served.client() as good:
                    return answered(good)
            except OSError:
                return False

        until(has_place)


def test_a_client_for_whom_no_file_can_be_opened_is_cut_off_and_keeps_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dup(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(handshakes, "AT_ONCE", 2)
    files = certificates(tmp_path)
    certificate = Certificate(str(files.certificate), str(files.key), time.time)
    with running(app, host="127.0.0.1", port=0, tls=certificate.context) as server:
        served = Served(files, certificate, server)
        with monkeypatch.context() as patched:
            patched.setattr("sidecar.net.handshakes.os.dup", dup)
            for _ in range(2):
                with served.plain() as client, contextlib.suppress(ConnectionResetError):
                    client.settimeout(5)
                    assert client.recv(1) == b""
        with served.client() as good:
            assert answered(good)


def test_a_new_certificate_is_for_new_clients_and_ends_no_connection(served: Served, tmp_path: Path) -> None:
    with served.client() as before:
        assert answered(before)
        (tmp_path / "new").mkdir()
        new = certificates(tmp_path / "new")
        served.files.certificate.write_bytes(new.certificate.read_bytes())
        served.files.key.write_bytes(new.key.read_bytes())
        served.certificate.look()
        with served.client(new.ca) as after:
            assert answered(after)
        assert answered(before)
    until(lambda: not served.server.server.server_state.connections)


class Echo(asyncio.Protocol):
    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def tunnel(scope: Any, _: Any, __: Any) -> None:
    upgrade = scope["extensions"][UPGRADE]
    transport = upgrade.take()
    transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    upgrade.set_protocol(Echo(transport))
    transport.resume_reading()
    await asyncio.sleep(60)


def test_a_websocket_gets_the_connection_with_its_tls(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    certificate = Certificate(str(files.certificate), str(files.key), time.time)
    with (
        running(tunnel, host="127.0.0.1", port=0, tls=certificate.context) as server,
        Served(files, certificate, server).client() as client,
    ):
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert client.recv(65536).startswith(b"HTTP/1.1 101")
        client.sendall(b"hello")
        assert client.recv(65536) == b"hello"
