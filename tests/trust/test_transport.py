"""httpx over our connections: the same answers and the same errors as over its own."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import certifi
import httpx
import pytest

from sidecar.net.faults import reason_of
from sidecar.record.reasons import Reason
from sidecar.trust.transport import DirectTransport
from tests.certificates import certificates
from tests.net.hostile_upstream import Play, Request, Upstream, Wire, answer, chunked, says, upstream
from tests.stack import ROOT, free_port

SOON = 0.3


@contextlib.asynccontextmanager
async def asking(
    transport: httpx.AsyncBaseTransport, timeout: float | httpx.Timeout = 2.0
) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=transport, trust_env=False, timeout=timeout) as client:
        yield client


def url_of(server: Upstream, target: str = "/") -> str:
    return f"{server.origin}{target}"


async def test_a_request_is_sent_as_it_is_and_its_answer_comes_whole() -> None:
    bodies = []

    async def play(wire: Wire, request: Request) -> None:
        bodies.append(await wire.whole_body(request))
        await wire.send(chunked(b"ab", b"cd"))

    async with upstream(play) as server, asking(DirectTransport()) as client:
        request = httpx.Request("POST", url_of(server, "/a%2Fb?c=%20d"), headers={"X-Own": "1"}, content=b"body")
        response = await client.send(request)
        assert (response.status_code, response.content) == (200, b"abcd")
        (seen,) = server.requests
        assert (seen.method, seen.target, seen.header("x-own")) == ("POST", "/a%2Fb?c=%20d", ["1"])
        assert (seen.header("host"), seen.header("content-length")) == ([server.origin.authority.decode()], ["4"])
        assert bodies == [b"body"]


async def test_each_question_has_a_connection_which_ends_with_it() -> None:
    async with upstream(says(answer(200, b"abc"))) as server, asking(DirectTransport()) as client:
        for number in (1, 2, 3):
            assert (await client.get(url_of(server))).content == b"abc"
            assert server.connections == number
        async with client.stream("GET", url_of(server)):
            pass  # nobody read the body
        while server.live:
            await asyncio.sleep(0)


async def _silent(wire: Wire, request: Request) -> None:
    await wire.gone()


async def _closes(wire: Wire, request: Request) -> None:
    wire.close()


async def _stalls(wire: Wire, request: Request) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    await wire.gone()


@pytest.mark.parametrize(
    "play",
    [
        _silent, _closes, _stalls, says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", then_close=True),
        says(b"SSH-2.0-x\r\n\r\n"), says(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
    ],
)  # fmt: skip
async def test_what_goes_wrong_is_the_error_that_the_transport_of_httpx_raises(play: Play) -> None:
    async with upstream(play) as server:
        raised = []
        for transport in (DirectTransport(), httpx.AsyncHTTPTransport()):
            # a connection is made in its own time, on a busy machine too
            async with asking(transport, httpx.Timeout(20.0, read=SOON)) as client:
                with pytest.raises(httpx.TransportError) as error:
                    await client.get(url_of(server))
                raised.append(type(error.value))
        assert raised[0] is raised[1]


async def test_nobody_there_is_the_same_error_with_its_reason() -> None:
    for host, reason in (("127.0.0.1", Reason.CONNECTION_REFUSED), ("nobody.invalid", Reason.NAME_NOT_FOUND)):
        raised = []
        for transport in (DirectTransport(), httpx.AsyncHTTPTransport()):
            async with asking(transport) as client:
                with pytest.raises(httpx.TransportError) as error:
                    await client.get(f"http://{host}:{free_port()}/")
                raised.append(type(error.value))
                assert reason_of(error.value) in (reason, Reason.DNS_ERROR)
        assert raised[0] is raised[1]


async def test_only_http_is_spoken() -> None:
    async with asking(DirectTransport()) as client:
        with pytest.raises(httpx.UnsupportedProtocol, match="found ftp://, expected http:// or https://"):
            await client.get("ftp://127.0.0.1/")


async def test_a_server_is_who_its_certificate_says_by_the_cas_of_httpx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    async with upstream(says(answer(200, b"abc")), tls=tls) as server:
        async with asking(DirectTransport()) as client:
            with pytest.raises(httpx.ConnectError) as error:
                await client.get(url_of(server))
            assert reason_of(error.value) is Reason.CERTIFICATE_UNKNOWN_CA
        monkeypatch.setattr(certifi, "where", lambda: str(files.ca))
        async with asking(DirectTransport()) as client:
            assert (await client.get(url_of(server))).content == b"abc"
            with pytest.raises(httpx.ConnectError) as error:
                await client.get(f"https://localhost:{server.origin.port}/")
            assert reason_of(error.value) is Reason.CERTIFICATE_NAME
        assert len(server.requests) == 1


async def test_so_many_ask_at_once_and_the_others_wait_for_a_place() -> None:
    go_on = asyncio.Event()

    async def play(wire: Wire, request: Request) -> None:
        await go_on.wait()
        await wire.send(answer(200, b"abc"))

    async with upstream(play) as server, asking(DirectTransport(2)) as client:
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(client.get(url_of(server))) for _ in range(5)]
            while len(server.requests) < 2:
                await asyncio.sleep(0)
            with pytest.raises(httpx.PoolTimeout):
                await client.get(url_of(server), timeout=httpx.Timeout(2.0, pool=0.01))
            assert len(server.requests) == 2
            go_on.set()
        assert [task.result().content for task in asked] == [b"abc"] * 5


async def test_a_question_that_is_given_up_leaves_its_place_and_no_connection() -> None:
    async with upstream(_silent) as server, asking(DirectTransport(1)) as client:
        for _ in range(2):
            task = asyncio.ensure_future(client.get(url_of(server)))
            asked = len(server.requests) + 1
            while len(server.requests) < asked:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        while server.live:
            await asyncio.sleep(0)


async def test_closing_ends_what_is_open_as_a_fault() -> None:
    async with upstream(_silent) as server:
        transport = DirectTransport()
        async with asking(transport) as client:
            task = asyncio.ensure_future(client.get(url_of(server)))
            while not server.requests:
                await asyncio.sleep(0)
            await transport.aclose()
            with pytest.raises(httpx.TransportError):
                await task


def test_no_other_client_of_http_is_loaded() -> None:
    """It is what the transport is for."""
    code = (
        "import asyncio, sys\n"
        "from tests.trust.test_transport import DirectTransport, asking, answer, says, upstream, url_of\n"
        "async def main():\n"
        "    async with upstream(says(answer(200, b'abc'))) as server, asking(DirectTransport()) as client:\n"
        "        await client.get(url_of(server))\n"
        "asyncio.run(main())\n"
        "print(*{'httpcore', 'h11', 'h2'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []
