"""`trust/jwks.py` against a key server with a switch; time is the test's, so that a day takes no time."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sidecar.gate.codes import Code
from sidecar.trust.jwks import MAX_SET, REFRESH_EVERY, STALE_AFTER, KeyStore
from tests.fakes import (
    Behave,
    Clock,
    Reports,
    Web,
    answer,
    cut,
    drip,
    environment,
    held,
    json_answer,
    raw,
    refusal,
    until,
)
from tests.tokens import ISSUER, jwk, key_set

OTHER = "https://issuer-cognito-idp.eu-west-1.amazonaws.com/eu-west-1_TEST"
HOUR = 3600.0
GOOD = json_answer(key_set("k1"))
DOWN = answer(500)


@asynccontextmanager
async def store_of(
    urls: Mapping[str, str], clock: Clock, report: Reports | None = None, groups: Sequence[Sequence[str]] | None = None
) -> AsyncIterator[KeyStore]:
    keys = KeyStore(urls, groups or [list(urls)], now=clock, report=report or Reports(), sleep=clock.sleep)
    try:
        yield keys
    finally:
        await keys.aclose()


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """A key server, with one good key."""
    async with Web(GOOD) as web:
        yield web


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def keys(web: Web, clock: Clock, reports: Reports) -> AsyncIterator[KeyStore]:
    """A store with that key, asked for once."""
    async with store_of({ISSUER: web.origin}, clock, reports) as keys:
        await keys.warm()
        yield keys


async def find(keys: KeyStore, kid: str, issuer: str = ISSUER) -> str | Code:
    """The id of the key that is found, or the code of the refusal."""
    work = asyncio.ensure_future(keys.find(issuer, kid))
    await asyncio.wait([work])
    return await refusal(work) if work.exception() else str(work.result().key_id)


# --- a key that is there ---


async def test_a_key_is_found_and_verifies(web: Web, keys: KeyStore) -> None:
    key = await keys.find(ISSUER, "k1")
    assert (key.key_id, key.algorithm_name, key.key.key_size) == ("k1", "RS256", 2048)
    assert len(web.asked) == 1


async def test_without_warming_the_first_token_fetches(web: Web, clock: Clock) -> None:
    async with store_of({ISSUER: web.origin}, clock) as keys:
        assert not keys.ready
        assert await asyncio.gather(*(find(keys, "k1") for _ in range(50))) == ["k1"] * 50
        assert keys.ready
    assert len(web.asked) == 1


async def test_a_known_key_never_waits(web: Web, clock: Clock, keys: KeyStore) -> None:
    web.behave = held(asyncio.Event(), GOOD)
    clock.advance(REFRESH_EVERY)
    await until(lambda: len(web.asked) == 2)
    async with asyncio.timeout(5):
        assert await find(keys, "k1") == "k1"


async def test_the_set_is_refreshed_each_quarter_of_an_hour(web: Web, clock: Clock, keys: KeyStore) -> None:
    changes: list[float] = []
    keys.on_change = lambda: changes.append(clock())
    for fetches in range(2, 6):
        await until(lambda: len(clock.slept) == len(web.asked))
        clock.advance(REFRESH_EVERY)
        await until(lambda: len(web.asked) == fetches)  # noqa: B023 - awaited before it changes
    await until(lambda: set(keys.ages().values()) == {0})
    assert clock.slept[:4] == [REFRESH_EVERY] * 4
    assert changes == []


async def test_a_store_takes_over_what_another_knows_of_the_same_issuer_at_the_same_place(
    web: Web, clock: Clock, keys: KeyStore
) -> None:
    clock.advance(60)
    web.behave = json_answer({}, 500)
    async with store_of({ISSUER: web.origin}, clock) as same, store_of({ISSUER: web.origin + "/new"}, clock) as moved:
        same.adopt(keys)
        moved.adopt(keys)
        await same.warm()
        await moved.warm()
        assert (same.ready, same.ages(), await find(same, "k1")) == (True, {ISSUER: 60}, "k1")
        assert (moved.ready, moved.ages(), await find(moved, "k1")) == (False, {}, Code.KEYS_UNAVAILABLE)


async def test_a_key_that_left_the_set_is_not_found_and_the_change_is_told(
    web: Web, clock: Clock, keys: KeyStore
) -> None:
    changes: list[float] = []
    keys.on_change = lambda: changes.append(clock())
    web.behave = json_answer(key_set("k2"))
    clock.advance(REFRESH_EVERY)
    await until(lambda: changes)
    assert await find(keys, "k2") == "k2"
    assert await find(keys, "k1") == Code.TOKEN_INVALID
    assert len(changes) == 1


async def test_each_set_has_its_age_once_it_is_there(web: Web, clock: Clock) -> None:
    async with store_of({ISSUER: web.origin, OTHER: web.origin}, clock) as keys:
        assert keys.ages() == {}
        await find(keys, "k1", ISSUER)
        clock.advance(30)
        await find(keys, "k1", OTHER)
        clock.advance(5)
        assert keys.ages() == {ISSUER: 35, OTHER: 5}


# --- a key that is not there ---


async def test_a_flood_of_made_up_keys_costs_two_fetches_a_minute(web: Web, clock: Clock, keys: KeyStore) -> None:
    """k01 of the corpus: 10,000 in 60 s."""
    codes = set()
    for _ in range(10_000):
        clock.now += 0.0059
        codes.add(await find(keys, f"{random.getrandbits(64):x}"))
    assert codes == {Code.TOKEN_INVALID}
    assert len(web.asked) <= 2


@pytest.mark.parametrize("warm", [True, False])
async def test_failures_count_as_fetches(web: Web, clock: Clock, warm: bool) -> None:
    async with store_of({ISSUER: web.origin}, clock) as keys:
        if warm:
            await keys.warm()
        before, web.behave = len(web.asked), DOWN
        clock.now += 60
        for _ in range(10_000):
            clock.now += 0.018
            await find(keys, f"{random.getrandbits(64):x}")
        assert len(web.asked) - before <= 2 * 3 + 1
        assert len(web.asked) > before
        # whether the key exists could not be seen: that is no fault of the token
        assert await find(keys, "new") == Code.KEYS_UNAVAILABLE
        assert await find(keys, "k1") == ("k1" if warm else Code.KEYS_UNAVAILABLE)


async def test_two_fetches_are_ten_seconds_apart(web: Web, clock: Clock, keys: KeyStore) -> None:
    for second in range(60):
        await find(keys, f"made-up-{second}")
        if second < 10:
            assert len(web.asked) == 1, second
        clock.now += 1
    assert len(web.asked) == 2


async def test_a_thousand_tokens_with_a_new_key_share_one_fetch(web: Web, clock: Clock, keys: KeyStore) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, json_answer(key_set("k1", "k2")))
    clock.now += 60
    finds = [asyncio.ensure_future(find(keys, "k2")) for _ in range(1000)]
    await until(lambda: len(web.asked) == 2)
    gate.set()
    assert await asyncio.gather(*finds) == ["k2"] * 1000
    assert len(web.asked) == 2


async def test_a_rotated_key_is_found_at_once(web: Web, clock: Clock, keys: KeyStore) -> None:
    """k02 of the corpus: one forced fetch for a kid that is not known."""
    changes: list[float] = []
    keys.on_change = lambda: changes.append(clock())
    web.behave = json_answer(key_set("k1", "k2"))
    clock.now += 30
    assert [await find(keys, "k2"), await find(keys, "k1")] == ["k2", "k1"]
    assert len(changes) == 1


async def test_a_clock_that_was_set_back_does_not_stop_fetching(web: Web, clock: Clock, keys: KeyStore) -> None:
    web.behave = json_answer(key_set("k1", "k2"))
    clock.now -= 12 * HOUR
    assert await find(keys, "k2") == "k2"


async def test_one_who_leaves_does_not_take_the_fetch_from_the_others(web: Web, clock: Clock) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, GOOD)
    async with store_of({ISSUER: web.origin}, clock) as keys:
        first, second = (asyncio.ensure_future(keys.find(ISSUER, "k1")) for _ in range(2))
        await until(lambda: web.asked)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.set()
        assert (await second).key_id == "k1"
    assert len(web.asked) == 1


async def test_a_store_that_is_closed_refuses_and_cancels_nobody(web: Web, clock: Clock) -> None:
    """A reload closes the old store while requests may still wait for it."""
    web.behave = held(asyncio.Event(), GOOD)
    async with store_of({ISSUER: web.origin}, clock) as keys:
        waiting = asyncio.ensure_future(find(keys, "k1"))
        await until(lambda: web.asked)
        await keys.aclose()
        assert await waiting == Code.KEYS_UNAVAILABLE
        clock.now += 60
        assert await find(keys, "k1") == Code.KEYS_UNAVAILABLE


# --- a key server that is away ---


async def test_a_known_key_outlives_its_server_for_a_day(
    web: Web, clock: Clock, keys: KeyStore, reports: Reports
) -> None:
    """k03 of the corpus, and its end: after a day without a good set nothing is known any more."""
    web.behave = DOWN
    for _ in range(24):
        fetched = len(web.asked)
        clock.advance(HOUR - 1)
        await until(lambda: len(web.asked) > fetched and len(clock.slept) == len(web.asked))  # noqa: B023
        assert await find(keys, "k1") == "k1"
    assert ("jwks", "stale") in reports.all
    assert keys.ready
    clock.now += 24 + 1
    assert clock.now - 1_000_000 > STALE_AFTER
    assert not keys.ready
    assert await find(keys, "k1") == Code.KEYS_UNAVAILABLE


async def test_a_server_that_is_down_from_the_start_is_unavailable_until_it_is_up(
    web: Web, clock: Clock, reports: Reports
) -> None:
    """k04 of the corpus: 503, since the token was not examined; then ready without any request."""
    web.behave = DOWN
    async with store_of({ISSUER: web.origin}, clock, reports) as keys:
        await keys.warm()
        assert not keys.ready
        assert await find(keys, "k1") == Code.KEYS_UNAVAILABLE
        assert reports.all == [("jwks", "status")]
        web.behave = GOOD
        await until(lambda: clock.slept)
        clock.advance(1.0)
        await until(lambda: keys.ready)
        assert await find(keys, "k1") == "k1"


async def test_the_pauses_after_failures_grow_to_a_minute_with_jitter(web: Web, clock: Clock) -> None:
    web.behave = DOWN
    async with store_of({ISSUER: web.origin}, clock) as keys:
        await keys.warm()
        for pauses in range(1, 11):
            await until(lambda: len(clock.slept) == pauses)  # noqa: B023 - awaited before it changes
            clock.advance(clock.slept[-1])
        await until(lambda: len(clock.slept) == 11)
    for pause, most in zip(clock.slept, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60], strict=True):
        assert most / 2 <= pause <= most
    assert len({pause / most for pause, most in zip(clock.slept[6:], [60] * 5, strict=True)}) > 1


async def test_nobody_listening_is_unavailable(clock: Clock, reports: Reports) -> None:
    async with Web(GOOD) as gone:
        pass
    async with store_of({ISSUER: gone.origin}, clock, reports) as keys:
        assert await find(keys, "k1") == Code.KEYS_UNAVAILABLE
    assert reports.all == [("jwks", "unavailable")]


async def test_a_set_that_drips_costs_three_seconds(web: Web, clock: Clock, reports: Reports) -> None:
    body = json.dumps(key_set("k1")).encode()
    web.behave = drip(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body, 0.02)
    started = time.monotonic()
    async with store_of({ISSUER: web.origin}, clock, reports) as keys:
        assert await find(keys, "k1") == Code.KEYS_UNAVAILABLE
    assert 2.5 < time.monotonic() - started < 4.5
    assert reports.all == [("jwks", "timeout")]


# --- sets that cannot be used ---


def text(value: str) -> Behave:
    return answer(200, value.encode("utf-8", "surrogatepass"))


ENTRY = json.dumps(jwk("k2"))
BAD_SETS: dict[str, tuple[Behave, str]] = {
    "no JSON": (text("{"), "bad_set"),
    "nothing": (text(""), "bad_set"),
    "a page": (answer(200, b"<html>", kind="text/html"), "bad_set"),
    "a list": (json_answer([jwk("k2")]), "bad_set"),
    "no keys": (json_answer({}), "bad_set"),
    "keys as an object": (json_answer({"keys": {"k2": jwk("k2")}}), "bad_set"),
    "an empty set": (json_answer({"keys": []}), "bad_set"),
    "no usable key": (json_answer({"keys": [jwk("k2", use="enc"), 5, None]}), "bad_set"),
    "a kid twice": (json_answer({"keys": [jwk("k2"), jwk("k3"), {**jwk("k3"), "kid": "k2"}]}), "bad_set"),
    "a name twice": (text(f'{{"keys": [], "keys": [{ENTRY}]}}'), "bad_set"),
    "a name twice in a key": (text(f'{{"keys": [{{"kid": "x", {ENTRY[1:]}]}}'), "bad_set"),
    "NaN": (text(f'{{"keys": [{ENTRY}], "x": NaN}}'), "bad_set"),
    "a byte order mark": (text("\ufeff" + json.dumps(key_set("k2"))), "bad_set"),
    "UTF-16": (answer(200, json.dumps(key_set("k2")).encode("utf-16")), "bad_set"),
    "nested without end": (text("[" * 30_000), "bad_set"),
    "too large": (json_answer({**key_set("k2"), "x": "x" * MAX_SET}), "bad_set"),
    "encoded": (json_answer(key_set("k2"), 200, "Content-Encoding: gzip"), "bad_set"),
    "too large without a length": (cut(b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (2 * MAX_SET)), "bad_set"),
    "204": (raw(b"HTTP/1.1 204 X\r\n\r\n"), "status"),
    "203": (json_answer(key_set("k2"), 203), "status"),
    "403": (json_answer(key_set("k2"), 403), "status"),
    "500": (json_answer(key_set("k2"), 500), "status"),
    "not modified": (raw(b"HTTP/1.1 304 X\r\n\r\n"), "redirect"),
    "cut": (
        cut(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + json.dumps(key_set("k2")).encode()),
        "unavailable",
    ),
    "closed at once": (cut(), "unavailable"),
    "not HTTP": (cut(b"SSH-2.0-x\r\n"), "unavailable"),
}


@pytest.mark.parametrize("name", BAD_SETS)
async def test_a_bad_set_leaves_the_good_one(
    web: Web, clock: Clock, keys: KeyStore, reports: Reports, name: str
) -> None:
    """The key k2 stands in most of them, and must not come in by any."""
    web.behave, fault = BAD_SETS[name]
    clock.now += 60
    assert await find(keys, "k2") == Code.KEYS_UNAVAILABLE
    assert await find(keys, "k1") == "k1"
    assert len(web.asked) == 2
    assert [report for report in reports.all if report[1] != "key_rejected"] == [("jwks", fault), ("jwks", "stale")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    web: Web, clock: Clock, keys: KeyStore, reports: Reports, status: int
) -> None:
    """k06 of the corpus."""
    async with Web(json_answer(key_set("k2"))) as elsewhere:
        web.behave = answer(status, b"", f"Location: {elsewhere.origin}/jwks")
        clock.now += 60
        assert await find(keys, "k2") == Code.KEYS_UNAVAILABLE
    assert (elsewhere.connections, len(web.asked)) == (0, 2)
    assert reports.all == [("jwks", "redirect"), ("jwks", "stale")]


BAD_KEYS: dict[str, Any] = {
    "no object": "k2",
    "symmetric": {"kty": "oct", "k": "c2VjcmV0", "use": "sig", "alg": "HS256", "kid": "k2"},
    "elliptic": {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "use": "sig", "alg": "ES256", "kid": "k2"},
    "for encryption": jwk("k2", use="enc"),
    "without use": {name: value for name, value in jwk("k2").items() if name != "use"},
    "without alg": {name: value for name, value in jwk("k2").items() if name != "alg"},
    "another alg": jwk("k2", alg="RS512"),
    "no signature": jwk("k2", alg="none"),
    "weak": {**jwk("weak", bits=1024), "kid": "k2"},
    "without kid": {name: value for name, value in jwk("k2").items() if name != "kid"},
    "kid a number": jwk("k2", kid=2),
    "kid empty": jwk("k2", kid=""),
    "kid with a space": jwk("k2", kid="k 2"),
    "kid with a line": jwk("k2", kid="k2\n"),
    "kid too long": jwk("k2", kid="k" * 129),
    "private": jwk("k2", d="AQAB"),
    "no modulus": {name: value for name, value in jwk("k2").items() if name != "n"},
    "modulus a number": jwk("k2", n=5),
    "modulus zero": jwk("k2", n="AA"),
    "modulus of a megabit": jwk("k2", n="_" * 20_000),
    "exponent one": jwk("k2", e="AQ"),
    "exponent a list": jwk("k2", e=[1]),
    "modulus not base64url": jwk("k2", n="\u00e9"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
async def test_a_key_that_is_not_for_rs256_signatures_is_dropped_and_the_others_stay(
    web: Web, clock: Clock, reports: Reports, name: str
) -> None:
    web.behave = json_answer({"keys": [BAD_KEYS[name], jwk("k1")]})
    async with store_of({ISSUER: web.origin}, clock, reports) as keys:
        assert await find(keys, "k1") == "k1"
        kid = BAD_KEYS[name].get("kid", "k2") if isinstance(BAD_KEYS[name], dict) else "k2"
        assert await find(keys, kid if isinstance(kid, str) else "2") == Code.TOKEN_INVALID
    assert reports.all == [("jwks", "key_rejected")]


# --- several issuers ---


async def test_a_key_is_found_in_its_own_issuer_only(web: Web, clock: Clock) -> None:
    """k08 of the corpus: a kid of pool A with the issuer of pool B."""
    async with Web(json_answer(key_set("k2"))) as second:
        urls = {ISSUER: web.origin, OTHER: second.origin}
        async with store_of(urls, clock, groups=[[ISSUER], [OTHER]]) as keys:
            await keys.warm()
            assert keys.ready
            assert [await find(keys, "k1", ISSUER), await find(keys, "k2", OTHER)] == ["k1", "k2"]
            assert await find(keys, "k1", OTHER) == Code.TOKEN_INVALID
            assert await find(keys, "k2", ISSUER) == Code.TOKEN_INVALID


async def test_a_pools_second_name_is_asked_only_when_a_token_has_it(web: Web, clock: Clock) -> None:
    async with Web(GOOD) as second, store_of({ISSUER: web.origin, OTHER: second.origin}, clock) as keys:
        await keys.warm()
        assert (keys.ready, len(second.asked)) == (True, 0)
        assert await find(keys, "k1", OTHER) == "k1"
        assert len(second.asked) == 1


async def test_a_second_name_that_has_no_keys_is_asked_on_demand_only(web: Web, clock: Clock) -> None:
    """Anybody can name an issuer in a token: that must start nothing which goes on by itself."""
    async with Web(answer(403)) as second, store_of({ISSUER: web.origin, OTHER: second.origin}, clock) as keys:
        await keys.warm()
        assert await find(keys, "k1", OTHER) == Code.KEYS_UNAVAILABLE
        await until(lambda: clock.slept)
        clock.advance(10 * REFRESH_EVERY)
        await until(lambda: len(web.asked) == 2)
        assert len(second.asked) == 1
        assert keys.ready


async def test_every_pool_must_have_keys_to_be_ready(web: Web, clock: Clock) -> None:
    async with Web(DOWN) as second:
        urls = {ISSUER: web.origin, OTHER: second.origin}
        async with store_of(urls, clock, groups=[[ISSUER], [OTHER]]) as keys:
            await keys.warm()
            assert not keys.ready
            assert await find(keys, "k1") == "k1"


# --- what is sent, and where ---


async def test_no_proxy_cookie_or_credential_takes_part(web: Web, clock: Clock, keys: KeyStore) -> None:
    async with Web(GOOD) as proxy:
        names = ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "HTTPS_PROXY")
        web.behave = json_answer(key_set("k1"), 200, "Set-Cookie: a=b; Path=/")
        with environment(**dict.fromkeys(names, proxy.origin)):
            async with store_of({ISSUER: web.origin}, clock) as fresh:
                for kid in ("k1", "x", "y"):
                    await find(fresh, kid)
                    clock.now += 60
    assert proxy.connections == 0
    assert len(web.asked) == 4
    for line, headers in web.asked:
        assert line == "GET / HTTP/1.1"
        assert headers.keys() <= {"host", "accept", "accept-encoding", "connection"}
        assert headers["accept-encoding"] == "identity"


async def test_each_fetch_has_a_connection_of_its_own(web: Web, clock: Clock, keys: KeyStore) -> None:
    """What is left over from one answer is never taken for the next."""
    evil = json.dumps(key_set("evil")).encode()
    good = json.dumps(key_set("k1")).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    web.behave = raw(head % len(good) + good + head % len(evil) + evil)
    for kid in ("x", "evil"):
        clock.now += 60
        assert await find(keys, kid) == Code.TOKEN_INVALID
    assert web.connections == len(web.asked) == 3


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example/jwks", "http://127.evil.example/jwks", "http://localhost.example/", "http://10.0.0.1/",
        "http://[::2]/", "ftp://localhost/", "file:///etc/keys", "//localhost/", "https:///jwks", "", "jwks",
    ],
)  # fmt: skip
def test_a_url_that_is_neither_https_nor_loopback_is_refused(clock: Clock, url: str) -> None:
    with pytest.raises(ValueError, match="expected https, or http on loopback"):
        KeyStore({ISSUER: url}, [[ISSUER]], now=clock, report=Reports())


@pytest.mark.parametrize(
    "url",
    ["https://x.example/jwks", "http://127.0.0.1:1/", "http://127.8.9.1/", "http://[::1]:1/", "http://localhost/"],
)
def test_a_url_of_https_or_loopback_is_taken(clock: Clock, url: str) -> None:
    KeyStore({ISSUER: url}, [[ISSUER]], now=clock, report=Reports())


async def test_a_look_at_the_sets_asks_each_url_once_and_keeps_nothing(
    web: Web, clock: Clock, reports: Reports
) -> None:
    urls = {ISSUER: f"{web.origin}/keys", OTHER: f"{web.origin}/keys"}
    async with store_of(urls, clock, reports) as keys:
        assert await keys.troubles() == [{f"{web.origin}/keys": ""}]
        assert len(web.asked) == 1
        assert not keys.ready
        web.behave = DOWN
        assert await keys.troubles() == [{f"{web.origin}/keys": "status 500"}]
        assert reports.all == []
