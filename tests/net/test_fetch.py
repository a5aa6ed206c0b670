"""Questions to a lookup hook, within limits of size and time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sidecar.net.fetch import Fetch
from sidecar.net.pool import Origin
from sidecar.record.reasons import FaultKind
from tests.net.exchanges import fault_of, on_both_loops, until
from tests.net.hostile_upstream import FAULTS, Play, Request, Wire, answer, chunked, drips, good, says, upstream
from tests.net.hostile_upstream import Upstream as Server
from tests.stack import free_port


@contextlib.asynccontextmanager
async def asked(play: Play | str = "none", unix: Path | None = None) -> AsyncIterator[tuple[Server, Fetch]]:
    async with upstream(play, unix=unix) as server:
        hook = Fetch(server.origin)
        try:
            yield server, hook
        finally:
            await hook.aclose()


@on_both_loops
async def test_a_hook_is_asked_within_its_limits() -> None:
    async with asked(says(answer(200, b"{}", b"Content-Type: application/json", b"Set-Cookie: a=b"))) as (server, hook):
        for _ in range(3):
            told = await hook.get(b"/contacts/7", [(b"accept", b"application/json")], max_body=2, deadline=2)
            assert (told.status, told.body) == (200, b"{}")
            assert (b"content-type", b"application/json") in told.headers
        port = server.origin.port
        assert server.requests[-1].head == (
            b"GET /contacts/7 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept: application/json\r\n\r\n" % port
        )
        assert server.connections == 1


@on_both_loops
async def test_a_body_is_posted_within_the_same_limits_and_never_twice() -> None:
    async with asked(good) as (server, hook):
        for _ in range(2):
            told = await hook.post(b"/mine", [(b"content-type", b"application/json")], b"{}", max_body=99, deadline=2)
            assert (told.status, told.body) == (200, b"POST /mine")
        port = server.origin.port
        assert server.requests[-1].head == (
            b"POST /mine HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
            b"content-length: 2\r\n\r\n" % port
        )
        assert server.connections == 1
        before = len(server.requests)
        server.play = closes_unanswered
        fault = await fault_of(hook.post(b"/mine", (), b"{}", max_body=99, deadline=2))
        assert (fault.kind, len(server.requests), hook._pool.retried) == (FaultKind.UNAVAILABLE, before + 1, 0)


async def closes_unanswered(wire: Wire, _: Request) -> None:
    wire.close()


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (answer(200, b"abc"), b"abc"),
        (answer(200, b"abcd"), None),
        (chunked(b"a", b"bc"), b"abc"),
        (chunked(b"ab", b"cd"), None),
        (answer(200, b"abc", b"Content-Encoding: identity"), b"abc"),
        (answer(200, b"abc", b"Content-Encoding: gzip"), None),
        (answer(200, b"", b"Content-Encoding: br"), None),
        (answer(200, b"a", b"Content-Encoding: identity", b"Content-Encoding: gzip"), None),
    ],
)
@on_both_loops
async def test_a_hooks_body_is_short_and_not_encoded(wire: bytes, expected: bytes | None) -> None:
    async with asked(says(wire)) as (_, hook):
        asking = hook.get(b"/", (), max_body=3, deadline=2)
        if expected is None:
            assert (await fault_of(asking)).kind is FaultKind.PROTOCOL
        else:
            assert (await asking).body == expected


@on_both_loops
async def test_a_hooks_endless_body_is_cut_at_the_limit() -> None:
    async def play(wire: Wire, request: Request) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await wire.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")

    async with asked(play) as (server, hook):
        assert (await fault_of(hook.get(b"/", (), max_body=65536, deadline=5))).kind is FaultKind.PROTOCOL
        await until(lambda: server.live == 0)


@pytest.mark.parametrize(
    "play",
    [
        FAULTS["silent"],
        FAULTS["drip_head"],
        FAULTS["stalled_body"],
        drips(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"x" * 500, 0.02),
    ],
    ids=["silent", "head drips", "stalled", "all drips"],
)
@on_both_loops
async def test_one_deadline_covers_the_whole_exchange_with_a_hook(play: Play) -> None:
    async with asked(play) as (server, hook):
        started = time.monotonic()
        assert (await fault_of(hook.get(b"/", (), max_body=999, deadline=0.3))).kind is FaultKind.TIMEOUT
        assert time.monotonic() - started < 6
        assert hook._pool.open == 0
        await until(lambda: server.live == 0)


@on_both_loops
async def test_a_hooks_redirect_is_an_answer_and_its_truncation_a_fault() -> None:
    async with asked(says(answer(302, b"", b"Location: http://127.0.0.1:1/"))) as (server, hook):
        assert (await hook.get(b"/", (), max_body=9, deadline=2)).status == 302
        assert len(server.requests) == 1
        server.play = FAULTS["truncated_length"]
        assert (await fault_of(hook.get(b"/", (), max_body=9, deadline=2))).kind is FaultKind.PARTIAL


@on_both_loops
async def test_a_hook_may_be_on_a_unix_socket(tmp_path: Path) -> None:
    async with asked(unix=tmp_path / "hook.sock") as (server, hook):
        answered = await hook.get(b"/hook", (), max_body=99, deadline=2)
        assert answered.body == b"GET /hook"
        assert server.requests[-1].header("host") == ["localhost"]


@on_both_loops
async def test_a_hook_that_cannot_be_connected_to_is_unavailable(tmp_path: Path) -> None:
    port = free_port()
    for origin in (
        Origin("http", "127.0.0.1", port),
        Origin("https", "127.0.0.1", port),
        Origin("http", "no..such..host", 80),
        Origin("unix", path=str(tmp_path / "none.sock")),
        Origin("unix", path=str(tmp_path / ("x" * 200))),
    ):
        hook = Fetch(origin)
        assert (await fault_of(hook.get(b"/", (), max_body=9, deadline=1))).kind is FaultKind.UNAVAILABLE
        await hook.aclose()


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://app", b"app"), ("http://app:443", b"app:443"), ("https://app", b"app"), ("https://app:80", b"app:80"),
        ("http://[::1]:8080", b"[::1]:8080"), ("unix:/run/app.sock", b"localhost"),
    ],
)  # fmt: skip
def test_an_origin_has_a_name_in_a_host_header(url: str, authority: bytes) -> None:
    assert Origin.parse(url).authority == authority
