"""The ledger in a real Redis: one for all replicas, and closed where Redis does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sidecar.gate.codes import Code
from sidecar.sign_in.ledger import Count, Reservation
from sidecar.sign_in.ledger_redis import RedisLedger
from tests.fakes import refusal
from tests.redis_server import PATIENT, RedisServer

USER, CLIENT = Count("user:u", 10, 300.0), Count("client:c", 15, 300.0)
SHORT = Count("user:short", 1, 0.05)


@pytest.fixture
async def replicas(redis_server: RedisServer) -> AsyncIterator[tuple[RedisLedger, RedisLedger]]:
    one, two = (RedisLedger(redis_server.url, deadline=PATIENT) for _ in range(2))
    yield one, two
    await one.aclose()
    await two.aclose()


async def test_replicas_share_places_in_a_burst(replicas: tuple[RedisLedger, RedisLedger]) -> None:
    tries = [replicas[number % 2].take([USER, CLIENT], 0.0) for number in range(150)]
    places = [place for place in await asyncio.gather(*tries) if place is not None]
    assert len(places) == USER.limit
    # what was refused for the user took no place of the client's
    more = [await replicas[0].take([CLIENT], 0.0) for _ in range(6)]
    assert [place is not None for place in more] == [True] * 5 + [False]
    await replicas[1].give_back(places[0])
    await replicas[0].give_back(places[0])
    assert [isinstance(await each.take([USER, CLIENT], 0.0), Reservation) for each in replicas] == [True, False]


async def test_a_place_is_free_after_its_time(replicas: tuple[RedisLedger, RedisLedger]) -> None:
    assert await replicas[0].take([SHORT], 0.0)
    async with asyncio.timeout(5):
        while await replicas[1].take([SHORT], 0.0) is None:
            await asyncio.sleep(0.01)


async def test_one_of_all_replicas_spends_a_key(
    replicas: tuple[RedisLedger, RedisLedger], redis_server: RedisServer
) -> None:
    assert not await replicas[0].is_spent("state:s", 0.0)
    spent = await asyncio.gather(*(replicas[number % 2].spend("state:s", 600.0, 0.0) for number in range(100)))
    assert spent.count(True) == 1
    assert await replicas[1].is_spent("state:s", 0.0)
    assert 590_000 < redis_server.command("PTTL", "sidecar:sign-in:state:s") <= 600_000


async def test_one_knows_what_the_other_remembers(replicas: tuple[RedisLedger, RedisLedger]) -> None:
    await replicas[0].remember("pair:u:c", 600.0, 0.0)
    assert await replicas[1].knows("pair:u:c", 0.0)
    assert not await replicas[1].knows("pair:u:d", 0.0)


async def test_every_key_has_an_end(replicas: tuple[RedisLedger, RedisLedger], redis_server: RedisServer) -> None:
    await replicas[0].take([USER, CLIENT], 0.0)
    await replicas[0].spend("state:s", 600.0, 0.0)
    await replicas[0].remember("pair:u:c", 600.0, 0.0)
    keys = redis_server.command("KEYS", "*")
    assert len(keys) == 4
    assert all(redis_server.command("PTTL", key) > 0 for key in keys)


async def test_nothing_goes_uncounted_without_redis(redis_server: RedisServer) -> None:
    ledger = RedisLedger(redis_server.url, deadline=0.1)
    redis_server.pause()
    try:
        for asked in (
            ledger.take([USER], 0.0), ledger.spend("s", 1.0, 0.0), ledger.is_spent("s", 0.0), ledger.knows("k", 0.0),
        ):  # fmt: skip
            assert await refusal(asked) is Code.SESSION_STORE_UNAVAILABLE
    finally:
        redis_server.resume()
        await ledger.aclose()
