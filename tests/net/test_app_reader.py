"""The app, asked for lookups: a GET as its warrant says, by connections of its own, and nothing that it answers has an
effect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.app_question import AppQuestion
from sidecar.gate.lookup import Call, Lookup
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.verdict import Destination
from sidecar.net.app_reader import AppReader
from sidecar.net.connection import Fault
from sidecar.net.pool import Origin, Pool
from sidecar.record.reasons import Reason
from tests.fakes import Web, answer, json_answer, silence, until

GOOD = json_answer({"owner": "alice"})


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Web(GOOD) as web:
        yield web


@pytest.fixture
async def app(web: Web) -> AsyncIterator[AppReader]:
    reader = AppReader(lambda _: Pool(Origin.parse(web.origin)))
    yield reader
    await reader.aclose()


def warrant(bearer: str = "", upstream: Destination | None = None) -> AppQuestion:
    inquiry = AppInquiry(("/orders/7",), bearer=bearer)
    request = read(Raw("DELETE", b"/", [(b"host", b"shop.test")], "", "https", "r1"), Reading())
    return inquiry.warrant(Call(Lookup("order", inquiry, {}), "/orders/7", "7"), request, (), upstream)


async def test_exactly_this_is_sent(web: Web, app: AppReader) -> None:
    for _ in range(3):
        got = await app.get(warrant("s3cret"), max_body=100, deadline=5)
        assert (got.status, got.body) == (200, b'{"owner": "alice"}')
    assert web.connections == 1
    line, headers = web.asked[0]
    assert line == "GET /orders/7 HTTP/1.1"
    assert headers == {
        "host": "shop.test", "x-forwarded-proto": "https", "x-forwarded-host": "shop.test", "x-request-id": "r1",
        "authorization": "Bearer s3cret", "x-auth-lookup": "order", "accept": "application/json", "accept-encoding": "identity",
    }  # fmt: skip


async def test_nothing_is_opened_before_the_first_question(web: Web) -> None:
    reader = AppReader(lambda _: Pool(Origin.parse(web.origin)))
    await reader.aclose()
    assert web.connections == 0


async def test_a_redirect_is_not_followed_and_a_cookie_not_sent_back(web: Web, app: AppReader) -> None:
    async with Web(GOOD) as elsewhere:
        web.behave = answer(302, b"", f"Location: {elsewhere.origin}/", "Set-Cookie: session=evil")
        assert (await app.get(warrant(), max_body=100, deadline=5)).status == 302
        assert elsewhere.connections == 0
    web.behave = GOOD
    await app.get(warrant(), max_body=100, deadline=5)
    assert "cookie" not in web.asked[1][1]


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (silence, Reason.HTTP_RESPONSE_TIMEOUT), (answer(200, b"x" * 101), Reason.HTTP_RESPONSE_BODY_SIZE),
        (answer(200, b"x", "Content-Encoding: gzip"), Reason.HTTP_RESPONSE_CONTENT_CODING),
    ],
)  # fmt: skip
async def test_an_answer_that_is_none(web: Web, app: AppReader, behave: Any, reason: Reason) -> None:
    web.behave = behave
    with pytest.raises(Fault) as fault:
        await app.get(warrant(), max_body=100, deadline=0.1 if behave is silence else 5)
    assert fault.value.reason is reason


async def test_an_app_that_is_gone_loses_its_connections_when_what_runs_has_ended() -> None:
    may_answer = asyncio.Event()

    async def held(writer: asyncio.StreamWriter) -> None:
        await may_answer.wait()
        await GOOD(writer)

    async with Web(held) as web:
        crm, wiki = Destination("crm", web.origin), Destination("wiki", web.origin)
        reader = AppReader(lambda _: Pool(Origin.parse(web.origin)))
        asking = asyncio.create_task(reader.get(warrant(upstream=crm), max_body=100, deadline=20))
        await until(lambda: web.asked)
        retiring = asyncio.create_task(reader.retire([crm, wiki]))
        await asyncio.sleep(0)
        assert not retiring.done()
        may_answer.set()
        assert (await asking).status == 200
        await asyncio.wait_for(retiring, 20)
        await until(lambda: web.open == 0)
        # one that is named again later has connections of its own
        assert (await reader.get(warrant(upstream=crm), max_body=100, deadline=20)).status == 200
        assert (web.connections, web.open) == (2, 1)
        await reader.aclose()
        await until(lambda: web.open == 0)


async def test_the_end_of_the_process_waits_for_no_app_that_is_gone() -> None:
    async with Web(silence) as web:
        crm = Destination("crm", web.origin)
        reader = AppReader(lambda _: Pool(Origin.parse(web.origin)))
        asking = asyncio.create_task(reader.get(warrant(upstream=crm), max_body=100, deadline=20))
        await until(lambda: web.asked)
        retiring = asyncio.create_task(reader.retire([crm]))
        await asyncio.sleep(0)
        await reader.aclose()
        with pytest.raises(Fault):
            await asking
        retiring.cancel()


async def test_anything_but_a_warrant_is_refused(web: Web, app: AppReader) -> None:
    """To the type checker, a value of type Any is everything."""
    with pytest.raises(TypeError, match="expected the warrant of a lookup"):
        await app.get(cast("Any", b"/orders/7"), max_body=100, deadline=5)
    assert web.connections == 0
