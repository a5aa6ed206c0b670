"""Sessions in a real Redis: what it holds, and what each of its faults becomes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from sidecar.clients.seal import Seal
from sidecar.clients.session_redis import WITHIN, RedisStore
from sidecar.gate.session import Session
from sidecar.gate.verdict import Code, Refused
from tests.clients.redis_server import NEEDS_REDIS, RedisServer
from tests.stack import free_port

pytestmark = NEEDS_REDIS
SEAL = Seal(("0123456789abcdef0123456789abcdef",))
SESSION = Session("1" * 32, "secret-token", "i", "secret-refresh", "alice", 2000, 1000, 1000, True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    server.say("FLUSHALL")
    made = RedisStore(server.url, SEAL)
    yield made
    await made.aclose()


async def opened(store: RedisStore, lives: int = 100) -> dict[str, str]:
    (value,) = await store.write(None, SESSION, lives)
    return {"__Host-session": value.decode().partition(";")[0].partition("=")[2]}


async def refusal(store: RedisStore, crumbs: dict[str, str]) -> Code:
    with pytest.raises(Refused) as caught:
        await store.read(crumbs)
    return caught.value.code


async def test_the_cookie_is_a_handle_and_redis_holds_nothing_that_can_be_used(
    store: RedisStore, server: RedisServer
) -> None:
    crumbs = await opened(store)
    handle = crumbs["__Host-session"]
    assert len(handle) == 43
    assert (await store.read(crumbs)).session == SESSION
    keys = server.say("KEYS", "*")
    assert handle.encode() not in keys
    key = next(line for line in keys.decode().split("\r\n") if line.startswith("sidecar:session:"))
    record = server.say("GET", key)
    assert b"secret" not in record
    assert 0 < int(server.say("TTL", key)[1:]) <= 100


async def test_a_record_under_another_handle_or_changed_is_bad(store: RedisStore, server: RedisServer) -> None:
    one, two = await opened(store), await opened(store)
    key_one, key_two = (store._key(crumbs["__Host-session"]) for crumbs in (one, two))
    server.say("RENAME", key_two, key_one)
    assert await refusal(store, one) is Code.SESSION_BAD_RECORD
    assert await refusal(store, two) is Code.SESSION_INVALID
    server.say("SET", key_one, "garbage")
    assert await refusal(store, one) is Code.SESSION_BAD_RECORD
    server.say("SET", key_one, "\u00ff")
    assert await refusal(store, one) is Code.SESSION_BAD_RECORD
    server.say("DEL", key_one)
    server.say("LPUSH", key_one, "x")
    assert await refusal(store, one) is Code.SESSION_STORE_ERROR


@pytest.mark.parametrize(
    "crumbs",
    [
        {"__Host-session": "x"}, {"__Host-session": ""}, {"__Host-session": "A" * 43}, {"__Host-session": "A" * 44},
        {"__Host-session.1": "A" * 43}, {"__Host-session": "*" * 43},
    ],
)  # fmt: skip
async def test_what_is_no_handle_of_ours_is_no_session(store: RedisStore, crumbs: dict[str, str]) -> None:
    assert await refusal(store, crumbs) is Code.SESSION_INVALID


async def test_one_has_the_lock_and_only_its_owner_gives_it_back(store: RedisStore, server: RedisServer) -> None:
    found = await store.read(await opened(store))
    release = await store.lock(found)
    assert release is not None
    assert await store.lock(found) is None
    await release()
    second = await store.lock(found)
    assert second is not None
    await release()
    assert await store.lock(found) is None


async def test_a_redis_that_is_away_or_late_is_unavailable(store: RedisStore, server: RedisServer) -> None:
    crumbs = await opened(store)
    server.pause()
    try:
        assert await refusal(store, crumbs) is Code.SESSION_STORE_UNAVAILABLE
    finally:
        server.resume()
    # the answer that came too late is not taken for that of the next question
    for _ in range(3):
        assert (await store.read(crumbs)).session == SESSION
    away = RedisStore(f"redis://127.0.0.1:{free_port()}/0", SEAL)
    assert await refusal(away, crumbs) is Code.SESSION_STORE_UNAVAILABLE
    assert WITHIN == 0.2


async def test_a_sign_out_that_cannot_be_written_is_an_error(store: RedisStore, server: RedisServer) -> None:
    found = await store.read(await opened(store))
    server.pause()
    try:
        with pytest.raises(Refused) as caught:
            await store.end(found)
    finally:
        server.resume()
    assert caught.value.code is Code.SESSION_STORE_UNAVAILABLE


async def test_a_redis_that_wants_a_password_or_takes_no_writes_refuses(tmp_path: object, server: RedisServer) -> None:
    store = RedisStore(server.url, SEAL)
    crumbs = await opened(store)
    server.say("CONFIG", "SET", "min-replicas-to-write", "3")
    try:
        with pytest.raises(Refused) as caught:
            await store.write(None, SESSION, 100)
    finally:
        server.say("CONFIG", "SET", "min-replicas-to-write", "0")
    assert caught.value.code is Code.SESSION_STORE_ERROR
    assert (await store.read(crumbs)).session == SESSION
    await store.aclose()


async def test_a_redis_with_a_password_refuses_whoever_has_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    with RedisServer(tmp_path_factory.mktemp("redis"), "--requirepass", "x") as locked:
        store = RedisStore(locked.url, SEAL)
        assert await refusal(store, {"__Host-session": "A" * 43}) in (
            Code.SESSION_STORE_ERROR, Code.SESSION_STORE_UNAVAILABLE,
        )  # fmt: skip
        await store.aclose()
        store = RedisStore(locked.url.replace("redis://", "redis://:x@"), SEAL)
        assert await refusal(store, {"__Host-session": "A" * 43}) is Code.SESSION_INVALID
        await store.aclose()
