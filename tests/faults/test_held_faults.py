"""The row of the fault matrix for bodies and answers that are held: whatever ends a request, their room comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import pytest

from sidecar.doors.held_body import VALUE
from sidecar.doors.holding import TINY
from sidecar.doors.proxy import ReverseProxy
from sidecar.gate.codes import Code
from sidecar.gate.decision import DENY
from sidecar.gate.expressions import searcher
from sidecar.gate.routing import RouteTable
from sidecar.net.exchange import IncompleteAnswer
from sidecar.net.pool import Origin, Pool
from sidecar.net.room import Rooms, rooms
from sidecar.net.upstream import Upstream
from sidecar.pages.router import MAX_BODY, OwnPaths, PageRequest, page
from sidecar.release.items import ItemsRule
from sidecar.release.lines import LinesRule
from sidecar.wire.http1_request import Head
from tests.doors.test_door import OWN, Made, Sent, app, head
from tests.fakes import until
from tests.gate.test_gate import policy

BODY = b'{"owner": "a-1"}'
JSON = (b"content-type", b"application/json")


def posted(target: bytes = b"/new", length: int = len(BODY)) -> Head:
    headers = [*OWN, JSON, (b"content-length", b"%d" % length)]
    return Head("POST", target, "1.1", headers, length, True, False, False)


class Client:
    """A client that sends pieces of its body, and then waits, or leaves."""

    def __init__(self, *pieces: bytes, leaves: bool = False, waits: bool = False) -> None:
        self._pieces = [*pieces]
        self._leaves = leaves
        self._waits = waits
        self.sent = asyncio.Event()

    async def receive(self) -> Any:
        if not self._pieces:
            self.sent.set()
            if self._waits:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}
        return {
            "type": "http.request", "body": self._pieces.pop(0),
            "more_body": bool(self._pieces) or self._leaves or self._waits,
        }  # fmt: skip


def used(held: Rooms) -> tuple[int, int]:
    return held.memory.used, held.disk.used


@contextlib.asynccontextmanager
async def no_app() -> AsyncIterator[Upstream]:
    """Connections to an app that is not there."""
    pool = Upstream(Pool(Origin("http", "127.0.0.1", 1)))
    try:
        yield pool
    finally:
        await pool.aclose()


async def test_a_body_that_is_refused_or_that_goes_on_leaves_its_room() -> None:
    made, held, sent = Made(), rooms(10_000, 0), Sent()
    async with app(b"ok") as (pool, _):
        await ReverseProxy(made.door, pool, held)(posted(), "", "http", Client(BODY).receive, sent.send)
    assert (sent.status, used(held)) == (200, (0, 0))
    made.world.effect, refused = DENY, Sent()
    async with app(b"ok") as (pool, came):
        await ReverseProxy(made.door, pool, held)(posted(), "", "http", Client(BODY).receive, refused.send)
    assert (refused.status, came, used(held)) == (403, [], (0, 0))


async def test_a_client_that_leaves_and_one_that_is_cut_off_leave_their_room() -> None:
    made, held, sent = Made(), rooms(10_000, 0), Sent()
    async with app(b"ok") as (pool, came):
        proxy = ReverseProxy(made.door, pool, held)
        await proxy(posted(), "", "http", Client(BODY[:5], leaves=True).receive, sent.send)
        assert (sent.status, used(held)) == (400, (0, 0))
        client = Client(BODY[:5], waits=True)
        # as when its time is over, or the process stops
        work = asyncio.create_task(proxy(posted(), "", "http", client.receive, sent.send))
        await client.sent.wait()
        assert used(held) != (0, 0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert (came, used(held)) == ([], (0, 0))


async def test_an_app_that_fails_or_says_nothing_leaves_the_room() -> None:
    made, held, sent = Made(), rooms(10_000, 0), Sent()
    async with no_app() as pool:
        await ReverseProxy(made.door, pool, held)(posted(), "", "http", Client(BODY).receive, sent.send)
    assert (sent.status, used(held)) == (502, (0, 0))


async def test_a_principal_has_a_share_and_loses_nothing_that_it_has() -> None:
    made, held = Made(), rooms(1000, 0)
    async with app(b"ok") as (pool, came):
        proxy = ReverseProxy(made.door, pool, held)
        waiting, first, second, third = Client(BODY[:-1], waits=True), Sent(), Sent(), Sent()
        work = asyncio.create_task(proxy(posted(), "", "http", waiting.receive, first.send))
        await waiting.sent.wait()
        assert held.memory.used == 2 * len(BODY[:-1]) + VALUE
        # of one with many values the room runs out sooner
        many = b'{"owner": "a-1", "l": [0,0,0]}'
        await proxy(posted(length=len(many)), "", "http", Client(many).receive, second.send)
        assert (second.status, came) == (503, [])
        assert b"body_no_room" in second.body
        assert dict(second.messages[0]["headers"])[b"retry-after"] == b"2"
        held.memory.take("principal https://issuer another", 20)
        held.memory.give_back("principal https://issuer another", 20)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await proxy(posted(), "", "http", Client(BODY).receive, third.send)
    assert (third.status, used(held)) == (200, (0, 0))
    assert [line["code"] for line in made.lines] == [Code.BODY_NO_ROOM, "allowed"]
    assert "SIDECAR_HELD_MEMORY: a share of 1000 bytes" in made.lines[0]["detail"]


async def test_a_request_whose_route_reads_no_body_takes_no_room() -> None:
    made, held, sent = Made(), rooms(0, 0), Sent()
    async with app(b"ok") as (pool, _):
        await ReverseProxy(made.door, pool, held)(posted(b"/docs"), "", "http", Client(BODY).receive, sent.send)
    assert sent.status == 200


@pytest.mark.parametrize("leaves", [True, False])
async def test_an_answer_that_is_held_leaves_its_room_whatever_its_client_does(*, leaves: bool) -> None:
    made, held, sent = Made(), rooms(100 * TINY, 0), Sent()
    size = 2 * TINY

    async def send(message: Any) -> None:
        if leaves and message["type"] == "http.response.body":
            raise IncompleteAnswer("the client left")
        assert held.memory.used == size
        await sent.send(message)

    async with app(b"x" * size) as (pool, _):
        work = ReverseProxy(made.door, pool, held)(head(b"/whole"), "", "http", Client().receive, send)
        with contextlib.suppress(IncompleteAnswer):
            await work
    assert (len(sent.body), used(held)) == (0 if leaves else size, (0, 0))


async def test_an_answer_that_breaks_off_or_is_left_while_it_is_held_leaves_its_room() -> None:
    made, held, sent = Made(), rooms(100 * TINY, 0), Sent()
    async with app(b"x" * TINY, missing=1) as (pool, _):
        await ReverseProxy(made.door, pool, held)(head(b"/whole"), "", "http", Client().receive, sent.send)
    assert (sent.status, used(held)) == (502, (0, 0))
    async with app(b"x" * TINY, missing=1, waits=True) as (pool, _):
        work = asyncio.create_task(
            ReverseProxy(made.door, pool, held)(head(b"/whole"), "", "http", Client().receive, sent.send)
        )
        await until(lambda: held.memory.used)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
    assert used(held) == (0, 0)


async def test_answers_beyond_the_share_of_a_principal_are_503_and_nothing_of_them_goes_out() -> None:
    made, held, sent = Made(), rooms(TINY, 0), Sent()
    async with app(b"secret" * 10_000) as (pool, _):
        await ReverseProxy(made.door, pool, held)(head(b"/whole"), "", "http", Client().receive, sent.send)
    assert (sent.status, used(held)) == (503, (0, 0))
    assert b"secret" not in sent.body
    assert b"upstream_busy" in sent.body
    assert "SIDECAR_HELD_MEMORY" in made.lines[0]["detail"]


@pytest.mark.parametrize(
    ("most", "leaves", "codes"),
    [(64, False, ["allowed"]), (64, True, ["allowed"]), (3, False, ["allowed", "upstream_busy"])],
)
async def test_lines_have_room_until_their_client_has_taken_them(most: int, leaves: bool, codes: list[str]) -> None:
    made, held, sent = Made(), rooms(most * TINY, 0), Sent()
    rule = LinesRule(ItemsRule((), searcher("id"), "doc", "read", {}))
    made.door.gate.rules = replace(
        made.door.gate.rules, table=RouteTable([policy("/lines", {"GET": "list"}, answer=rule)])
    )
    few, many = b'{"id": 1}\n', b'{"id": 2, "text": "%b"}\n' % (b"a" * 2 * TINY)
    seen = []

    async def send(message: Any) -> None:
        seen.append(held.memory.used)
        await sent.send(message)
        if leaves and len(sent.body) > TINY:
            raise IncompleteAnswer("the client is gone")

    async with app(few + 9 * many, kind=b"application/x-ndjson") as (pool, _):
        with contextlib.suppress(IncompleteAnswer):
            await ReverseProxy(made.door, pool, held)(head(b"/lines"), "", "http", Client().receive, send)
    if codes == ["allowed"]:
        assert max(seen) > 2 * TINY
        assert leaves or sent.body == few + 9 * many
    assert sent.status == 200
    assert [line["code"] for line in made.lines] == codes
    assert used(held) == (0, 0)


def pages(made: Made, held: Rooms) -> OwnPaths:
    async def show(_: PageRequest) -> Any:
        assert held.memory.used
        return page("shown")

    return OwnPaths(made.door, held, {"/_sidecar/show": {"POST": show}})


async def by_form(own: OwnPaths, client: str, *pieces: bytes, more: Iterable[bytes] = ()) -> int:
    sent = Sent()
    scope = {
        "method": "POST", "raw_target": b"/_sidecar/show", "client": (client, 1), "scheme": "http",
        "headers": [(b"host", b"app.test"), (b"content-length", b"%d" % len(b"".join(pieces)))],
    }  # fmt: skip
    await own(scope, Client(*pieces).receive, sent.send)
    return sent.status


async def test_whoever_is_not_signed_in_has_the_share_of_an_address() -> None:
    made = Made()
    held = rooms(4 * MAX_BODY, 0)
    own = pages(made, held)
    held.memory.take("client 10.0.0.9", 2 * MAX_BODY - 100)
    assert await by_form(own, "10.0.0.9", b"a" * 60) == 503
    assert await by_form(own, "10.0.0.8", b"a" * 60) == 200
    assert held.memory.used == 2 * MAX_BODY - 100
