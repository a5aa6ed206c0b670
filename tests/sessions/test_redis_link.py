"""Connections to Redis: one deadline for all of an operation, and a code for each fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sidecar.gate.codes import Code
from sidecar.sessions.redis_link import RedisLink, milliseconds
from tests.fakes import refusal
from tests.redis_server import PATIENT, RedisServer


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[RedisLink]:
    made = RedisLink(redis_server.url, deadline=PATIENT, connections=2)
    yield made
    await made.aclose()


async def test_an_answer_comes_back(link: RedisLink) -> None:
    await link.within(lambda: link.redis.set("key", "value"))
    assert await link.within(lambda: link.redis.get("key")) == b"value"


async def test_a_command_that_redis_refuses_is_an_error_of_the_store(link: RedisLink) -> None:
    await link.within(lambda: link.redis.set("key", "value"))
    assert await refusal(link.within(lambda: link.redis.lpush("key", "x"))) is Code.SESSION_STORE_ERROR


async def test_a_redis_that_does_not_answer_is_unavailable(redis_server: RedisServer) -> None:
    link = RedisLink(redis_server.url, deadline=0.1)
    redis_server.pause()
    try:
        assert await refusal(link.within(link.redis.ping)) is Code.SESSION_STORE_UNAVAILABLE
    finally:
        redis_server.resume()
        await link.aclose()


async def test_who_waits_for_a_connection_waits_no_longer_than_the_deadline(redis_server: RedisServer) -> None:
    link, never = RedisLink(redis_server.url, deadline=0.1, connections=1), asyncio.Event()
    # no other question has it, as that might give it back as late as the deadline of this one
    async with link._free:
        assert await refusal(link.within(link.redis.ping)) is Code.SESSION_STORE_UNAVAILABLE
    assert await refusal(link.within(never.wait)) is Code.SESSION_STORE_UNAVAILABLE
    await link.aclose()


def test_a_time_to_live_is_never_none() -> None:
    assert [milliseconds(seconds) for seconds in (-5.0, 0.0, 0.0004, 1.5)] == [1, 1, 1, 1500]
