"""The skeleton of all doors: one record for each visit, and an obligation that a door cannot do is refused at it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse

from sidecar.doors.dialects import AUTHORIZE, DIALECTS
from sidecar.doors.door import Door, Visit, refuse
from sidecar.doors.ext_authz import ExtAuthz
from sidecar.doors.forward_auth import ForwardAuth
from sidecar.doors.holding import TINY
from sidecar.doors.proxy import ReverseProxy
from sidecar.doors.refusal import Refusals
from sidecar.doors.websocket import WebSocketDoor
from sidecar.gate.body import no_body
from sidecar.gate.codes import Code
from sidecar.gate.decision import DENY
from sidecar.gate.obligation import HeldAnswer
from sidecar.gate.request import Raw, Reading
from sidecar.gate.trace import Trace
from sidecar.gate.verdict import Facts, Forward, Preflight, Refuse, Refused
from sidecar.net.owners import Places
from sidecar.net.pool import Origin, Pool
from sidecar.net.room import rooms
from sidecar.net.upstream import Upstream
from sidecar.record.journal import Journal
from sidecar.record.metrics import Metrics
from sidecar.wire.http1_request import Head
from tests.doors.test_ext_authz import BEARER, question
from tests.doors.test_forward_auth import PROXY, TRUSTED
from tests.gate.test_gate import World
from tests.gate.test_obligation import Whole
from tests.log import Kept
from tests.permits import changed

ROOMS = rooms(1024**3, 1024**3)
MAX_HELD = Whole().max_size
OWN = [(b"host", b"app.test"), BEARER]


class Made:
    """The tools of one door, on a gate of `tests/gate`; `lines` are those of the decision log."""

    def __init__(self, **more: Any) -> None:
        self.world = World()
        self._log = Kept()
        gate = self.world.gate()
        gate.rules = replace(gate.rules, reading=Reading(None, TRUSTED))
        self.door = Door(
            gate, Journal(self._log, Metrics(), lambda: 0.0), Refusals(), lambda: 0.0, self.world.timer,
            lambda: "r1", **more,
        )  # fmt: skip

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.getvalue().splitlines()]


class Sent:
    """What a door sends to its client."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


async def nothing() -> Any:
    raise AssertionError("nobody reads the body of a GET")


def head(target: bytes, *headers: tuple[bytes, bytes]) -> Head:
    return Head("GET", target, "1.1", [*OWN, *headers], 0, True, False, False)


@asynccontextmanager
async def app(
    body: bytes, *, missing: int = 0, waits: bool = False, status: int = 200, kind: bytes = b"text/plain"
) -> AsyncIterator[tuple[Upstream, list[bytes]]]:
    """Connections to an app whose answer has this body and lacks so many bytes, and the requests that came to it."""
    came: list[bytes] = []
    serving: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        came.append(await reader.readuntil(b"\r\n\r\n"))
        length = len(body) + missing
        writer.write(b"HTTP/1.1 %d OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (status, kind, length))
        writer.write(b"x-app: 1\r\n\r\n" + body)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            if waits:
                await reader.read()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    pool = Upstream(Pool(Origin("http", "127.0.0.1", server.sockets[0].getsockname()[1])))
    try:
        yield pool, came
    finally:
        await pool.aclose()
        server.close()
        await asyncio.gather(*filter(None, serving))


async def by_proxy(door: Door, pool: Upstream, target: bytes) -> int:
    sent = Sent()
    await ReverseProxy(door, pool, ROOMS)(head(target), "10.0.0.9", "http", nothing, sent.send)
    return sent.status


async def by_websocket(door: Door, pool: Upstream, target: bytes) -> int:
    scope = {
        "method": "GET", "raw_target": target, "client": ("10.0.0.9", 1), "scheme": "http",
        "headers": [*OWN, (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA==")],
    }  # fmt: skip
    sent = Sent()
    await WebSocketDoor(door, pool, Places(1), max_message=1024)(scope, nothing, sent.send)
    return sent.status


async def by_forward_auth(door: Door, pool: Upstream, target: bytes) -> int:
    sent = Sent()
    asked = [(b"x-original-method", b"GET"), (b"x-original-uri", target), (b"x-forwarded-for", b"192.0.2.7")]
    request = head(AUTHORIZE, *asked, (b"x-forwarded-proto", b"https"))
    await ForwardAuth(door, DIALECTS["nginx"])(request, PROXY, "http", nothing, sent.send)
    return sent.status


async def by_ext_authz(door: Door, pool: Upstream, target: bytes) -> int:
    said = CheckResponse.FromString(await ExtAuthz(door, ROOMS.memory).check(question(BEARER, path=target.decode())))
    return said.denied_response.status.code or 200


By = Callable[[Door, Upstream, bytes], Awaitable[int]]
UNABLE: list[By] = [by_websocket, by_forward_auth, by_ext_authz]


@pytest.mark.parametrize("by", UNABLE)
async def test_a_route_whose_whole_answer_is_needed_is_refused_at_a_door_that_cannot_hold_it(by: By) -> None:
    made = Made()
    async with app(b"secret") as (pool, came):
        assert await by(made.door, pool, b"/whole") == 501
    assert came == []
    assert made.world.asked == []
    (line,) = made.lines
    assert (line["outcome"], line["code"], line["status"]) == ("refuse", Code.PROXY_UNABLE, 501)
    assert "whole answer" in line["detail"]


@pytest.mark.parametrize("by", [by_forward_auth, by_ext_authz, by_proxy])
async def test_a_head_can_be_marked_at_every_door(by: By) -> None:
    async with app(b"") as (pool, _):
        assert await by(Made().door, pool, b"/docs/7") == 200


async def through_the_proxy(made: Made, target: bytes, body: bytes, **more: Any) -> tuple[Sent, list[bytes]]:
    sent = Sent()
    async with app(body, **more) as (pool, came):
        await ReverseProxy(made.door, pool, ROOMS)(head(target), "10.0.0.9", "http", nothing, sent.send)
    return sent, came


@pytest.mark.parametrize("size", [0, 5, TINY, TINY + 1, MAX_HELD])
async def test_the_proxy_holds_an_answer_until_its_obligations_are_done(size: int) -> None:
    made = Made()
    sent, came = await through_the_proxy(made, b"/whole", b"x" * size)
    assert (sent.status, len(sent.body), len(came)) == (200, size, 1)
    # what is not tiny goes out as fast as its client takes it
    assert sent.messages[0]["type"].endswith("whole" if size <= TINY else "start")
    headers = dict(sent.messages[0]["headers"])
    assert ROOMS.memory.used == 0
    assert (headers[b"content-length"], headers[b"x-app"]) == (str(size).encode(), b"1")
    assert (headers[b"cache-control"], headers[b"vary"]) == (b"private, no-store", b"Authorization")
    (line,) = made.lines
    assert (line["outcome"], line["code"], line["status"]) == ("allow", "allowed", 200)


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_was_held_and_has_no_body_says_nothing_of_its_length(status: int) -> None:
    sent, _ = await through_the_proxy(Made(), b"/whole", b"", status=status)
    (message,) = sent.messages
    assert (message["status"], message["body"]) == (status, b"")
    assert b"content-length" not in dict(message["headers"])


async def test_head_is_answered_as_get_would_be() -> None:
    made, sent = Made(), Sent()
    async with app(b"secret") as (pool, came):
        request = head(b"/whole")._replace(method="HEAD")
        await ReverseProxy(made.door, pool, ROOMS)(request, "10.0.0.9", "http", nothing, sent.send)
    assert came[0].startswith(b"GET /whole ")
    (message,) = sent.messages
    assert dict(message["headers"])[b"content-length"] == b"6"


async def test_a_handshake_that_the_app_refuses_still_renews_the_session() -> None:
    made: Any = Made()
    decided = await made.door.gate.decide(made.door.enter(head(b"/docs/7"), "", "http").raw, no_body)
    permit = changed(decided, cookies=(b"a=1",))

    async def decide(raw: Raw, read_body: object) -> Any:
        return permit

    made.door = replace(made.door, gate=SimpleNamespace(decide=decide))
    scope = {
        "method": "GET", "raw_target": b"/docs/7", "client": ("10.0.0.9", 1), "scheme": "http",
        "headers": [*OWN, (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA==")],
    }  # fmt: skip
    sent = Sent()
    async with app(b"", status=403) as (pool, _):
        await WebSocketDoor(made.door, pool, Places(1), max_message=1024)(scope, nothing, sent.send)
    assert sent.status == 403
    assert (b"set-cookie", b"a=1") in sent.messages[0]["headers"]


async def test_a_handshake_whose_answer_cannot_be_settled_is_recorded_as_it_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Made()
    scope = {
        "method": "GET", "raw_target": b"/docs/7", "client": ("10.0.0.9", 1), "scheme": "http",
        "headers": [*OWN, (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA==")],
    }  # fmt: skip

    def broken(*_: object) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr("sidecar.gate.settle.keep_private", broken)
    sent = Sent()
    async with app(b"", status=403) as (pool, _):
        await WebSocketDoor(made.door, pool, Places(1), max_message=1024)(scope, nothing, sent.send)
    (line,) = made.lines
    assert (sent.status, line["status"], line["code"]) == (500, 500, Code.INTERNAL_ERROR)
    assert line["detail"] == "RuntimeError: a bug"


async def test_what_is_too_large_to_be_held_is_not_released() -> None:
    made = Made()
    sent, _ = await through_the_proxy(made, b"/whole", b"secret" * MAX_HELD)
    assert sent.status == 502
    assert b"secret" not in sent.body
    (line,) = made.lines
    assert (line["outcome"], line["code"], line["status"]) == ("allow", Code.ITEMS_TOO_MANY, 502)
    assert "more than" in line["detail"]


async def test_what_breaks_off_while_it_is_held_is_not_released() -> None:
    made = Made()
    sent, _ = await through_the_proxy(made, b"/whole", b"secret", missing=1)
    assert sent.status == 502
    assert b"secret" not in sent.body
    assert [(line["code"], line["status"]) for line in made.lines] == [(Code.UPSTREAM_PARTIAL, 502)]


async def test_an_answer_that_is_known_is_given_without_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    made, sent = Made(), Sent()
    raw = made.door.enter(head(b"/whole"), "", "http", holds_answer=True).raw
    permit: Any = await made.door.gate.decide(raw, no_body)
    given = changed(
        permit, given=HeldAnswer(200, [(b"content-type", b"application/json")], b"[]"), cookies=(b"a=1",),
        reply_headers=((b"access-control-allow-origin", b"https://a.test"),),
    )  # fmt: skip

    async def decide(raw: Raw, read_body: object) -> Any:
        return given

    made.door = replace(made.door, gate=cast(Any, SimpleNamespace(decide=decide)))
    async with app(b"secret") as (pool, came):
        await ReverseProxy(made.door, pool, ROOMS)(head(b"/whole"), "10.0.0.9", "http", nothing, sent.send)
    (message,) = sent.messages
    assert (message["status"], message["body"], came) == (200, b"[]", [])
    headers = dict(message["headers"])
    assert (headers[b"content-length"], headers[b"set-cookie"]) == (b"2", b"a=1")
    assert headers[b"access-control-allow-origin"] == b"https://a.test"
    assert headers[b"cache-control"] == b"private, no-store"
    assert [(line["code"], line["status"]) for line in made.lines] == [("allowed", 200)]


async def test_a_client_that_leaves_while_an_answer_is_held_frees_its_connection() -> None:
    made = Made()
    sent = Sent()
    async with app(b"secret", missing=1, waits=True) as (pool, came):
        work = asyncio.create_task(
            ReverseProxy(made.door, pool, ROOMS)(head(b"/whole"), "10.0.0.9", "http", nothing, sent.send)
        )
        while not came:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert (sent.messages, next(pool.states()).busy) == ([], 0)
    assert [line["status"] for line in made.lines] == [499]


# --- the steps ---


async def test_a_visit_begins_with_a_clock_an_id_and_a_trace() -> None:
    trace = Trace("t" * 32, "s" * 16, "l" * 16, "d" * 16, "u" * 16, True)
    made = Made(begin_trace=lambda headers: trace)
    request = head(b"/docs/7")
    visit = made.door.enter(request, "10.0.0.9", "https", holds_answer=True, delegated=True)
    assert visit == Visit(
        Raw("GET", b"/docs/7", request.headers, "10.0.0.9", "https", "r1", False, trace, True), 1.0, True
    )
    assert made.door.traced(visit.raw._replace(trace=None)) == visit.raw
    untraced = Made().door.enter(request, "", "http").raw
    assert (untraced.trace, untraced.holds_answer) == (None, False)
    assert Made().door.traced(untraced) is untraced


async def test_an_admitted_request_is_recorded_by_whoever_forwards_it() -> None:
    made = Made()
    visit = made.door.enter(head(b"/docs/7"), "10.0.0.9", "http")
    permit = await made.door.admit(visit, no_body)
    assert isinstance(permit, Forward)
    assert made.lines == []
    made.door.record(visit, permit, 502, Code.UPSTREAM_PARTIAL)
    (line,) = made.lines
    assert (line["outcome"], line["code"], line["status"]) == ("allow", "upstream_partial", 502)
    assert line["total_ms"] > 0


async def test_a_refused_request_is_recorded_and_answered() -> None:
    made = Made()
    made.world.effect = DENY
    refused = await made.door.admit(made.door.enter(head(b"/docs/7"), "10.0.0.9", "http"), no_body)
    assert not isinstance(refused, Forward)
    assert refused.status == 403
    assert [(line["outcome"], line["code"], line["status"]) for line in made.lines] == [
        ("refuse", "denied_by_policy", 403)
    ]


async def test_a_preflight_is_answered_with_nothing() -> None:
    made = Made()
    visit = made.door.enter(head(b"/cors"), "10.0.0.9", "http")
    told = made.door.answer(visit, Preflight(((b"a", b"1"),), Facts("r1", "OPTIONS", "/cors")))
    assert told == (204, [(b"a", b"1")], b"")
    assert [(line["code"], line["status"]) for line in made.lines] == [("preflight", 204)]


def test_a_request_that_cannot_be_read_is_refused_with_what_is_known_of_it() -> None:
    raw = Raw("PUT", b"/a", [], "10.0.0.9", "http", "r1")
    refused = refuse(raw, Refused(Code.METHOD_UNMAPPED, "why", ("GET",)), "/a")
    assert refused == Refuse(
        Code.METHOD_UNMAPPED, Facts("r1", "PUT", "/a", "10.0.0.9"), "why", ("GET",)
    )  # fmt: skip
