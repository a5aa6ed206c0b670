"""Answers that are whole up to a bound, each on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from sidecar.trust.download import Downloads, Proxy, Unusable
from tests.net.hostile_upstream import Play, Request, Upstream, Wire, answer, chunked, says, upstream


@contextlib.asynccontextmanager
async def asked(play: Play) -> AsyncIterator[tuple[Upstream, Downloads, str]]:
    async with upstream(play) as server:
        downloads = Downloads(timeout=2.0, limit=3)
        try:
            yield server, downloads, f"http://127.0.0.1:{server.origin.port}/set"
        finally:
            await downloads.aclose()


def any_head(response: httpx.Response) -> None:
    pass


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (answer(200, b"abc"), b"abc"),
        (answer(404, b"no"), b"no"),
        (chunked(b"a", b"bc"), b"abc"),
        (answer(200, b"abc", b"Content-Encoding: identity"), b"abc"),
        (answer(200, b"abcd"), "over 3 bytes"),
        (chunked(b"ab", b"cd"), "over 3 bytes"),
        (answer(200, b"abc", b"Content-Encoding: gzip"), "an encoded body"),
        (answer(200, b"", b"Content-Encoding: br"), "an encoded body"),
    ],
)
async def test_a_body_is_taken_up_to_the_bound_and_as_it_is(wire: bytes, expected: bytes | str) -> None:
    async with asked(says(wire)) as (server, downloads, url):
        asking = downloads.ask(httpx.Request("GET", url), any_head)
        if isinstance(expected, bytes):
            assert (await asking).body == expected
        else:
            with pytest.raises(Unusable, match=expected):
                await asking
        assert server.requests[0].header("accept-encoding") == ["identity"]


async def test_an_endless_body_is_cut_at_the_bound() -> None:
    ended: list[int] = []

    async def play(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for sent in range(100_000):
            ended[:] = [sent]
            await wire.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")

    async with asked(play) as (_, downloads, url):
        with pytest.raises(Unusable):
            await downloads.ask(httpx.Request("GET", url), any_head)
    assert ended[0] < 99_999


async def test_a_head_is_judged_before_the_body_is_read() -> None:
    class Not(Exception):
        pass

    def judge(response: httpx.Response) -> None:
        raise Not(response.status_code)

    async with asked(says(b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\n")) as (_, downloads, url):
        with pytest.raises(Not, match="500"):
            await downloads.ask(httpx.Request("GET", url), judge)


async def test_a_redirect_is_an_answer_and_no_cookie_comes_back() -> None:
    wire = answer(302, b"", b"Location: http://127.0.0.1:1/", b"Set-Cookie: a=b")
    async with asked(says(wire)) as (server, downloads, url):
        for _ in range(2):
            answered = await downloads.ask(httpx.Request("GET", url), any_head)
            assert (answered.status, answered.headers["location"]) == (302, "http://127.0.0.1:1/")
        assert [request.header("cookie") for request in server.requests] == [[], []]


async def test_each_question_has_a_connection_of_its_own() -> None:
    """What a server sends too much is read by nobody."""
    async with asked(says(answer(200, b"abc") + answer(200, b"bad"))) as (server, downloads, url):
        for _ in range(3):
            assert (await downloads.ask(httpx.Request("GET", url), any_head)).body == b"abc"
        assert server.connections == 3


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with asked(says(answer(200, b"abc"))) as (_, downloads, url):
        assert (await downloads.ask(httpx.Request("GET", url), any_head)).status == 200


@pytest.mark.parametrize(
    ("exceptions", "host", "is_for"),
    [
        ((), "idp.example", True),
        (("*",), "idp.example", False),
        (("example",), "idp.example", False),
        ((".Example",), "IDP.example", False),
        (("*.example:443",), "idp.example", False),
        (("ample",), "idp.example", True),
        (("10.0.0.0/8", "::1"), "10.1.2.3", False),
        (("10.0.0.0/8", "::1"), "::1", False),
        (("10.0.0.0/8", "example"), "192.0.2.1", True),
    ],
)
def test_which_hosts_are_asked_through_a_proxy(exceptions: tuple[str, ...], host: str, is_for: bool) -> None:
    assert Proxy("http://proxy:3128", exceptions).is_for(host) is is_for
    assert not Proxy("", exceptions).is_for(host)


async def test_https_is_asked_through_the_proxy_and_nothing_else_is() -> None:
    asked_for: list[bytes] = []

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked_for.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    url = f"http://user:pass@127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, asked(says(answer(200, b"abc"))) as (_, _plain, plain_url):
        proxied = Downloads(timeout=2.0, limit=3, proxy=Proxy(url, ("direct.test",)))
        with pytest.raises(httpx.ProxyError):
            await proxied.ask(httpx.Request("GET", "https://idp.test/keys"), any_head)
        assert (await proxied.ask(httpx.Request("GET", plain_url), any_head)).body == b"abc"
        with pytest.raises(httpx.ConnectError):
            await proxied.ask(httpx.Request("GET", "https://direct.test/keys"), any_head)
        await proxied.aclose()
    (head,) = asked_for
    assert head.startswith(b"CONNECT idp.test:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in head
