"""Reasons of faults, against servers that really are so; errors by hand where no server of a test can be."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.net.connection import _REASONS, Fault, Timeouts
from sidecar.net.faults import reason_of
from sidecar.net.pool import Origin
from sidecar.net.tls import tls_context
from sidecar.record.reasons import FaultKind, Reason
from sidecar.wire.http1_response import Flaw
from tests.certificates import Files, certificates, pem_of, signed
from tests.net.exchanges import NOT_CONNECTED, SHORT, Upload, fault_of, fetch, on_both_loops, permit, pool_of, send
from tests.net.hostile_upstream import answer, says, upstream
from tests.stack import free_port


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return certificates(tmp_path_factory.mktemp("pki"))


def server_tls(files: Files) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context


async def faults(origin: Origin, timeouts: Timeouts = SHORT, **options: object) -> Fault:
    async with pool_of(origin, timeouts, **options) as pool:
        return await fault_of(send(pool, permit(), None))


# --- no connection ---


@on_both_loops
async def test_nobody_listens() -> None:
    port = free_port()
    fault = await faults(Origin("http", "127.0.0.1", port))
    assert (fault.reason, fault.kind) == (Reason.CONNECTION_REFUSED, FaultKind.UNAVAILABLE)
    assert fault.detail == "127.0.0.1: Connection refused"
    assert str(fault).startswith("connection_refused: 127.0.0.1: ")


@on_both_loops
async def test_there_is_no_socket_or_nobody_at_it(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    assert (await faults(Origin("unix", path=str(path)))).reason is Reason.NO_SOCKET
    assert (await faults(Origin("unix", path=str(tmp_path / "x" / "app.sock")))).reason is Reason.NO_SOCKET
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    fault = await faults(Origin("unix", path=str(path)))
    assert (fault.reason, fault.detail.partition(":")[0]) == (Reason.CONNECTION_REFUSED, str(path))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), Reason.NAME_NOT_FOUND),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), Reason.DNS_ERROR),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), Reason.DNS_ERROR),
    ],
)  # fmt: skip
@on_both_loops
async def test_the_name_server_says_no_or_nothing(error: OSError, expected: Reason) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise error

    fault = await faults(Origin("http", "app.test", 80), resolve=resolve)
    assert (fault.reason, fault.detail) == (expected, f"app.test: {error}")


@on_both_loops
async def test_a_name_that_dns_cannot_have_is_not_found() -> None:
    assert (await faults(Origin("http", "no..such..host", 80))).reason is Reason.NAME_NOT_FOUND


@on_both_loops
async def test_a_name_server_that_does_not_answer_is_a_timeout_of_its_own() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    fault = await faults(Origin("http", "app.test", 80), NOT_CONNECTED, resolve=resolve)
    assert (fault.reason, fault.kind) == (Reason.DNS_TIMEOUT, FaultKind.TIMEOUT)
    assert fault.detail == "app.test: no address in time"


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EHOSTUNREACH, Reason.DESTINATION_IP_UNROUTABLE),
        (errno.ENETUNREACH, Reason.DESTINATION_IP_UNROUTABLE),
        (errno.EACCES, Reason.SOCKET_DENIED),
        (errno.ETIMEDOUT, Reason.CONNECTION_TIMEOUT),
        (errno.ECONNRESET, Reason.CONNECTION_TERMINATED),
        (errno.EMFILE, Reason.CONNECTION_FAILED),
    ],
)
def test_the_systems_errors_have_reasons(number: int, expected: Reason) -> None:
    assert reason_of(OSError(number, os.strerror(number))) is expected


def test_what_a_library_wraps_is_looked_into() -> None:
    error = OSError("All connection attempts failed")
    error.__cause__ = ExceptionGroup("all", [ConnectionRefusedError(errno.ECONNREFUSED, "refused"), OSError("other")])
    assert reason_of(error) is Reason.CONNECTION_REFUSED
    assert reason_of(OSError("nothing is known of it")) is Reason.CONNECTION_FAILED


async def test_the_library_that_asks_key_servers_is_looked_into(files: Files) -> None:
    port = free_port()
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError) as refused:
            await client.get(f"http://127.0.0.1:{port}")
        async with upstream(tls=server_tls(files)) as server:
            with pytest.raises(httpx.ConnectError) as unknown:
                await client.get(f"https://127.0.0.1:{server.origin.port}")
    assert reason_of(refused.value) is Reason.CONNECTION_REFUSED
    assert reason_of(unknown.value) is Reason.CERTIFICATE_UNKNOWN_CA


# --- TLS ---


@on_both_loops
async def test_a_certificate_of_an_unknown_ca_and_of_another_name(files: Files) -> None:
    async with upstream(tls=server_tls(files)) as server:
        assert (await faults(server.origin, tls=tls_context(""))).reason is Reason.CERTIFICATE_UNKNOWN_CA
        ours = tls_context(str(files.ca))
        for name in ("app.test", "127.0.0.2"):
            fault = await faults(server.origin, tls=ours, server_name=name)
            assert (fault.reason, fault.kind) == (Reason.CERTIFICATE_NAME, FaultKind.UNAVAILABLE)
        async with pool_of(server.origin, tls=ours) as pool:
            assert (await fetch(pool))[0] == 200


@pytest.mark.parametrize(
    ("begins", "good_for", "expected"),
    [
        (timedelta(hours=-1), timedelta(minutes=-1), Reason.CERTIFICATE_EXPIRED),
        (timedelta(hours=2), timedelta(hours=3), Reason.CERTIFICATE_NOT_YET_VALID),
    ],
)
@on_both_loops
async def test_a_certificate_out_of_its_time(
    tmp_path: Path, begins: timedelta, good_for: timedelta, expected: Reason
) -> None:
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    made = Files(tmp_path / "ca.pem", tmp_path / "server.pem", tmp_path / "server.key")
    made.ca.write_bytes(signed("ca.test", ca_key, "ca.test", ca_key, None))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made.certificate.write_bytes(signed("server.test", key, "ca.test", ca_key, address, good_for, begins))
    made.key.write_bytes(pem_of(key))
    async with upstream(tls=server_tls(made)) as server:
        assert (await faults(server.origin, tls=tls_context(str(made.ca)))).reason is expected


@contextlib.contextmanager
def blocking_server(context: ssl.SSLContext) -> Iterator[int]:
    """A TLS server that tells its client by an alert why it ends: the loop's own server only closes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    sock, _ = listening.accept()
                except OSError:
                    return
                sock.settimeout(5)
                with context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as tls:
                    try:
                        tls.do_handshake()
                        tls.recv(65536)
                        tls.sendall(answer(200, b"ok", b"Connection: close"))
                    except ssl.SSLError:
                        # closed before it is read, what the client sends would end its side before our alert is
                        os.read(tls.fileno(), 65536)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def asks_for_certificate(files: Files, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = server_tls(files)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    context.minimum_version = context.maximum_version = version
    return context


@on_both_loops
async def test_a_server_that_wants_a_certificate_says_so_and_takes_ours(files: Files, tmp_path: Path) -> None:
    with blocking_server(asks_for_certificate(files, ssl.TLSVersion.TLSv1_3)) as port:
        origin = Origin("https", "127.0.0.1", port)
        fault = await faults(origin, tls=tls_context(str(files.ca)))
        assert (fault.reason, fault.kind) == (Reason.CERTIFICATE_REQUIRED, FaultKind.UNAVAILABLE)
        other = certificates(tmp_path)
        strange = tls_context(str(files.ca), str(other.certificate), str(other.key))
        assert (await faults(origin, tls=strange)).reason is Reason.CERTIFICATE_REFUSED
        # who only looks whether it is there is told, too
        async with pool_of(origin, tls=tls_context(str(files.ca))) as pool:
            assert (await fault_of(pool.reach())).reason is Reason.CERTIFICATE_REQUIRED
        own = tls_context(str(files.ca), str(files.certificate), str(files.key))
        async with pool_of(origin, tls=own) as pool:
            assert await fetch(pool) == (200, b"ok")


@on_both_loops
async def test_an_older_tls_has_no_word_for_a_missing_certificate(files: Files) -> None:
    with blocking_server(asks_for_certificate(files, ssl.TLSVersion.TLSv1_2)) as port:
        fault = await faults(Origin("https", "127.0.0.1", port), tls=tls_context(str(files.ca)))
        assert (fault.reason, "handshake failure" in fault.detail) == (Reason.TLS_ALERT_RECEIVED, True)


@on_both_loops
async def test_a_server_of_asyncio_that_wants_a_certificate_closes_without_a_word(files: Files) -> None:
    """Python 3.11 and uvloop 0.23 send no alert; the remedy of this reason says so."""
    context = asks_for_certificate(files, ssl.TLSVersion.TLSv1_2)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context) as server:
        origin = Origin("https", "127.0.0.1", server.sockets[0].getsockname()[1])
        assert (await faults(origin, tls=tls_context(str(files.ca)))).reason is Reason.CONNECTION_TERMINATED
    assert "uvloop 0.23" in Reason.CONNECTION_TERMINATED.remedy


@on_both_loops
async def test_a_server_without_tls_is_told_from_one_with_it(files: Files) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(5)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        fault = await faults(Origin("https", "127.0.0.1", port), tls=tls_context(str(files.ca)))
        assert fault.reason is Reason.NOT_TLS
    # an alert, as a server of TLS answers what is none
    async with upstream(says(b"\x15\x03\x01\x00\x02\x02\x46", then_close=True)) as spoken:
        fault = await faults(spoken.origin)
        assert (fault.reason, fault.kind) == (Reason.TLS_EXPECTED, FaultKind.PROTOCOL)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("TLSV1_UNRECOGNIZED_NAME", Reason.TLS_ALERT_RECEIVED),
        ("TLSV1_ALERT_PROTOCOL_VERSION", Reason.TLS_ALERT_RECEIVED),
        ("UNSUPPORTED_PROTOCOL", Reason.TLS_PROTOCOL_ERROR),
    ],
)
def test_other_errors_of_tls(name: str, expected: Reason) -> None:
    error = ssl.SSLError(1, name)
    error.reason = name
    assert reason_of(error) is expected
    assert reason_of(ssl.SSLEOFError(8, "EOF")) is Reason.CONNECTION_TERMINATED


# --- no whole answer, or none that can be used ---


ANSWERS = {
    Reason.CONNECTION_TERMINATED: b"",
    Reason.HTTP_RESPONSE_INCOMPLETE: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n",
    Reason.NOT_HTTP: b"220 mail.test ESMTP\r\n",
    Reason.STATUS_LINE_INVALID: b"HTTP/1.1 999 X\r\n\r\n",
    Reason.HEADER_INVALID: b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
    Reason.HEADER_FOLDED: b"HTTP/1.1 200 OK\r\nX-Policy: a;\r\n b\r\nContent-Length: 0\r\n\r\n",
    Reason.HTTP_RESPONSE_HEADER_SECTION_SIZE: b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n",
    Reason.LENGTH_REPEATED: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    Reason.LENGTH_INVALID: b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    Reason.HTTP_RESPONSE_TRANSFER_CODING: b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    Reason.INTERIM_LIMIT_REACHED: b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17,
    Reason.UPGRADE_UNEXPECTED: b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
}
BODIES = {
    Reason.CHUNK_INVALID: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    Reason.HTTP_RESPONSE_INCOMPLETE: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
}


@pytest.mark.parametrize(("expected", "wire"), [*ANSWERS.items(), *BODIES.items()])
@on_both_loops
async def test_an_answer_that_cannot_be_used_is_told_apart(expected: Reason, wire: bytes) -> None:
    async with upstream(says(wire, then_close=True)) as server, pool_of(server.origin) as pool:
        assert (await fault_of(fetch(pool))).reason is expected


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"HTTP/1.1 200", Reason.HTTP_RESPONSE_TIMEOUT),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Reason.CONNECTION_READ_TIMEOUT),
    ],
)
@on_both_loops
async def test_two_waits_are_told_apart(wire: bytes, expected: Reason) -> None:
    async with upstream(says(wire)) as server, pool_of(server.origin, SHORT) as pool:
        assert (await fault_of(fetch(pool))).reason is expected


@on_both_loops
async def test_a_request_that_ends_early_is_no_fault_of_the_answer() -> None:
    async with upstream("silent") as server, pool_of(server.origin) as pool:
        fault = await fault_of(fetch(pool, permit("POST"), Upload(b"abc", length=9)))
        assert fault.reason is Reason.HTTP_REQUEST_INCOMPLETE


def test_every_flaw_of_an_answer_is_a_reason() -> None:
    assert _REASONS.keys() == set(Flaw)
    assert {reason.kind for reason in _REASONS.values()} == {FaultKind.PROTOCOL}


def test_a_fault_behind_the_error_of_a_library_is_its_reason() -> None:
    error = httpx.ConnectError("no connection")
    error.__cause__ = Fault(Reason.CERTIFICATE_NAME, "127.0.0.1: another name")
    assert reason_of(error) is Reason.CERTIFICATE_NAME
