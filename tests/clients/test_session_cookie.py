"""The session in the cookie itself: cut into pieces that belong together, and of our making alone."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from sidecar.clients.seal import Seal
from sidecar.clients.session_cookie import MAX_COOKIE, CookieStore, decoded, encoded
from sidecar.gate.session import Session
from sidecar.gate.verdict import Code, Refused

SEAL = Seal(("0123456789abcdef0123456789abcdef",))


def session(size: int = 100, name: str = "1") -> Session:
    # what is sealed is packed before: text that repeats takes no room
    noise = "".join(Seal(("k" * 32,)).seal("n", bytes(48)) for _ in range(size // 80 + 1))[:size]
    return Session(name * 32, noise, "i", "r", "alice", 2000, 1000, 1000, True)


def crumbs(values: tuple[bytes, ...]) -> dict[str, str]:
    return dict(value.decode().partition(";")[0].split("=", 1) for value in values)


async def refusal(store: CookieStore, kept: dict[str, str]) -> Code:
    with pytest.raises(Refused) as caught:
        await store.read(kept)
    return caught.value.code


@pytest.mark.parametrize(("size", "pieces"), [(100, 1), (3000, 1), (6000, 2), (10_000, 3)])
async def test_a_session_is_cut_into_cookies_that_each_browser_keeps(size: int, pieces: int) -> None:
    store = CookieStore(SEAL)
    values = await store.write(None, session(size), 100)
    assert len(values) == pieces
    for value in values:
        assert len(value) <= MAX_COOKIE
        assert value.startswith(b"__Host-session")
        assert value.endswith(b"; Path=/; Secure; HttpOnly; SameSite=Lax")
    found = await store.read(crumbs(values))
    assert found.session == session(size)._replace(token=found.session.token)
    assert len(found.session.token) == size


async def test_what_does_not_fit_is_an_error_and_no_cut_session() -> None:
    with pytest.raises(Refused) as caught:
        await CookieStore(SEAL).write(None, session(30_000), 100)
    assert caught.value.code is Code.SESSION_STORE_ERROR
    assert "SIDECAR_REDIS_URL" in caught.value.detail


async def test_pieces_of_two_sessions_or_one_too_few_or_too_many_are_no_session() -> None:
    store = CookieStore(SEAL)
    one, two = crumbs(await store.write(None, session(6000), 1)), crumbs(await store.write(None, session(6000, "2"), 1))
    assert await refusal(store, {**one, "__Host-session.1": two["__Host-session.1"]}) is Code.SESSION_INVALID
    assert await refusal(store, {"__Host-session": one["__Host-session"]}) is Code.SESSION_INVALID
    assert await refusal(store, {"__Host-session.1": one["__Host-session.1"]}) is Code.SESSION_INVALID
    assert await refusal(store, {**one, "__Host-session.2": ""}) is Code.SESSION_INVALID
    assert await refusal(store, {**one, "__Host-session.7": "x"}) is Code.SESSION_INVALID


async def test_a_smaller_session_takes_the_pieces_away_that_it_needs_no_more() -> None:
    store = CookieStore(SEAL)
    kept = crumbs(await store.write(None, session(6000), 100))
    values = await store.touch(await store.read(kept), session(100), 100, kept)
    assert [value.partition(b"=")[0] for value in values] == [b"__Host-session", b"__Host-session.1"]
    assert values[1].endswith(b"Max-Age=0")
    assert b"Max-Age" not in values[0]


@pytest.mark.parametrize(
    "record",
    [
        b"", b"x", b"[]", json.dumps([2, *session()]).encode(), json.dumps([1, *session()][:-1]).encode(),
        json.dumps([1, *session()._replace(expires="2000")]).encode(),  # type: ignore[arg-type]
        json.dumps([1, *session()._replace(hosted=1)]).encode(),  # type: ignore[arg-type]
    ],
)  # fmt: skip
async def test_a_record_of_another_version_is_no_session(record: bytes) -> None:
    with pytest.raises(ValueError, match=r"version|Expecting"):
        decoded(record)
    for packed in (record, zlib.compress(record), zlib.compress(record)[:-1]):
        assert (
            await refusal(CookieStore(SEAL), {"__Host-session": SEAL.seal("session", packed)}) is Code.SESSION_INVALID
        )


async def test_a_record_that_unpacks_to_too_much_or_goes_on_is_no_session() -> None:
    for packed in (zlib.compress(b" " * 10**7 + encoded(session())), zlib.compress(encoded(session())) + b"x"):
        assert (
            await refusal(CookieStore(SEAL), {"__Host-session": SEAL.seal("session", packed)}) is Code.SESSION_INVALID
        )


def test_a_record_holds_all_of_a_session() -> None:
    made: Any = session()
    assert decoded(encoded(made)) == made
