"""Sessions over both stores: how long they live, that each is renewed once, and what a failed renewal leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from sidecar.clients.seal import Seal
from sidecar.clients.session_cookie import CookieStore
from sidecar.clients.session_redis import RedisStore
from sidecar.clients.sessions import GRACE, Renewed, Sessions, Store
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.session import Session
from sidecar.gate.verdict import Code, Refused
from tests.clients.redis_server import NEEDS_REDIS, RedisServer
from tests.tokens import claims, mint

NOW = 1_700_000_000.0
IDLE, LIFETIME, TOKEN_LIFE = 3600, 10_000, 600
SECRET = "0123456789abcdef0123456789abcdef"


def token(at: float = NOW, sub: str = "a-1") -> str:
    return mint(claims(at, sub=sub, exp=int(at) + TOKEN_LIFE)).decode()


def session(**more: Any) -> Session:
    made = Session("0" * 32, token(), "id-token", "refresh-1", "alice", int(NOW) + TOKEN_LIFE, int(NOW), int(NOW), True)
    return made._replace(**more)


class Browser:
    """Keeps cookies as a browser does."""

    def __init__(self) -> None:
        self.cookies: dict[bytes, bytes] = {}

    def take(self, values: tuple[bytes, ...]) -> None:
        for value in values:
            name, _, content = value.partition(b";")[0].partition(b"=")
            if b"Max-Age=0" in value:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = content

    def request(self, websocket: bool = False) -> Request:
        cookie = b"; ".join(b"%s=%s" % pair for pair in self.cookies.items())
        headers = [(b"host", b"app.test"), *([(b"cookie", cookie)] if cookie else [])]
        return read(Raw("GET", b"/", headers, "", "http", "r", websocket), Reading())


class Cognito:
    """Renews; each refresh token once, as with rotation."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fault: Refused | None = None
        self.at = NOW + TOKEN_LIFE - 10
        self.sub = "a-1"
        self.slow = 0.0

    async def renew(self, old: Session) -> Renewed:
        self.asked.append(old.refresh_token)
        await asyncio.sleep(self.slow)
        if self.fault is not None:
            raise self.fault
        if self.asked.count(old.refresh_token) > 1:
            raise Refused(Code.SESSION_EXPIRED, "a refresh token that was used")
        return Renewed(token(self.at, self.sub), "id-2", f"refresh-{len(self.asked) + 1}", int(self.at) + TOKEN_LIFE)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["cookie", pytest.param("redis", marks=NEEDS_REDIS)])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "cookie":
        yield CookieStore(Seal((SECRET,)))
        return
    made = RedisStore(request.getfixturevalue("redis").url, Seal((SECRET,)))
    yield made
    await made.aclose()


def sessions(store: Store, cognito: Cognito, faults: list[tuple[str, str]] | None = None) -> Sessions:
    told = faults if faults is not None else []
    return Sessions(
        store, idle=IDLE, lifetime=LIFETIME, renew=cognito.renew, report=lambda dep, fault: told.append((dep, fault))
    )


async def opened(of: Sessions, made: Session | None = None) -> Browser:
    browser = Browser()
    browser.take(await of.open(made or session()))
    return browser


async def refusal(of: Sessions, browser: Browser, now: float) -> Code:
    with pytest.raises(Refused) as caught:
        await of.present(browser.request(), now)
    return caught.value.code


async def test_a_session_gives_its_token_and_costs_nothing_at_once(store: Store) -> None:
    of = sessions(store, Cognito())
    browser = await opened(of)
    assert of.holds(browser.request())
    presented = await of.present(browser.request(), NOW + 10)
    assert (presented.token.decode(), presented.session, presented.cookies) == (session().token, session(), ())


async def test_no_cookie_and_a_cookie_of_the_app_are_no_session(store: Store) -> None:
    of, browser = sessions(store, Cognito()), Browser()
    assert not of.holds(browser.request())
    browser.cookies[b"__Host-session_id"] = b"x"
    assert not of.holds(browser.request())


async def test_a_session_ends_when_it_is_idle_and_use_keeps_it(store: Store) -> None:
    of = sessions(store, Cognito())
    browser = await opened(of, session(expires=int(NOW) + LIFETIME * 2))
    now = NOW
    for _ in range(2):
        now += IDLE - 1
        browser.take((await of.present(browser.request(), now)).cookies)
    assert await refusal(of, browser, now + IDLE) is Code.SESSION_EXPIRED


async def test_a_session_ends_with_its_lifetime_however_it_is_used(store: Store) -> None:
    of = sessions(store, Cognito())
    browser = await opened(of, session(expires=int(NOW) + LIFETIME * 2))
    now = NOW
    while now < NOW + LIFETIME - 1:
        now = min(now + IDLE / 2, NOW + LIFETIME - 1)
        browser.take((await of.present(browser.request(), now)).cookies)
    assert await refusal(of, browser, NOW + LIFETIME) is Code.SESSION_EXPIRED


async def test_a_token_is_renewed_before_its_end_and_nobody_notices(store: Store) -> None:
    cognito = Cognito()
    of = sessions(store, cognito)
    browser = await opened(of)
    presented = await of.present(browser.request(), NOW + TOKEN_LIFE - 30)
    assert presented.token.decode() == token(cognito.at)
    browser.take(presented.cookies)
    again = await of.present(browser.request(), NOW + TOKEN_LIFE + 1)
    assert again.session is not None
    assert (again.token.decode(), again.session.refresh_token, again.session.id) == (
        token(cognito.at), "refresh-2", "0" * 32,
    )  # fmt: skip
    assert cognito.asked == ["refresh-1"]


async def test_many_requests_at_once_renew_once_and_all_get_the_new_token(store: Store) -> None:
    cognito = Cognito()
    cognito.slow = 0.05
    of = sessions(store, cognito)
    browser = await opened(of)
    now = NOW + TOKEN_LIFE - 5
    found = await asyncio.gather(*(of.present(browser.request(), now) for _ in range(50)))
    assert cognito.asked == ["refresh-1"]
    assert {presented.token.decode() for presented in found} == {token(cognito.at)}
    # one that was sent before the renewal, and comes after it
    late = await of.present(browser.request(), now + GRACE - 1)
    assert late.token.decode() == token(cognito.at)
    assert cognito.asked == ["refresh-1"]


async def test_whoever_leaves_does_not_stop_a_renewal(store: Store) -> None:
    cognito = Cognito()
    cognito.slow = 0.1
    of = sessions(store, cognito)
    browser = await opened(of)
    now = NOW + TOKEN_LIFE - 5
    leaving = asyncio.ensure_future(of.present(browser.request(), now))
    staying = asyncio.ensure_future(of.present(browser.request(), now))
    await asyncio.sleep(0.05)
    leaving.cancel()
    assert (await staying).token.decode() == token(cognito.at)
    assert cognito.asked == ["refresh-1"]


@pytest.mark.parametrize("code", [Code.IDP_UNAVAILABLE, Code.IDP_BAD_ANSWER, Code.SESSION_EXPIRED])
async def test_a_failed_renewal_extends_nothing(store: Store, code: Code) -> None:
    cognito = Cognito()
    cognito.fault = Refused(code)
    of = sessions(store, cognito)
    browser = await opened(of)
    presented = await of.present(browser.request(), NOW + TOKEN_LIFE - 5)
    assert presented.token.decode() == session().token
    browser.take(presented.cookies)
    assert await refusal(of, browser, NOW + TOKEN_LIFE) is code


async def test_a_session_without_a_refresh_token_ends_with_its_token(store: Store) -> None:
    of = sessions(store, Cognito())
    browser = await opened(of, session(refresh_token=""))
    assert (await of.present(browser.request(), NOW + TOKEN_LIFE - 1)).token.decode() == session().token
    assert await refusal(of, browser, NOW + TOKEN_LIFE) is Code.SESSION_EXPIRED


async def test_a_renewed_token_of_another_user_or_of_the_past_is_none(store: Store) -> None:
    cognito = Cognito()
    of = sessions(store, cognito)
    browser = await opened(of)
    cognito.sub = "b-2"
    assert await refusal(of, browser, NOW + TOKEN_LIFE) is Code.SESSION_INVALID
    cognito.sub, cognito.at, cognito.asked = "a-1", NOW - TOKEN_LIFE, []
    assert await refusal(of, browser, NOW + TOKEN_LIFE) is Code.SESSION_EXPIRED


async def test_a_handshake_renews_only_what_has_ended(store: Store) -> None:
    cognito = Cognito()
    of = sessions(store, cognito)
    browser = await opened(of)
    assert (await of.present(browser.request(websocket=True), NOW + TOKEN_LIFE - 1)).token.decode() == session().token
    assert cognito.asked == []
    assert (await of.present(browser.request(websocket=True), NOW + TOKEN_LIFE)).token.decode() == token(cognito.at)


async def test_a_session_that_was_closed_is_none_and_its_copy_neither(store: Store) -> None:
    of = sessions(store, Cognito())
    browser, thief = await opened(of), Browser()
    thief.cookies = dict(browser.cookies)
    ended, cookies = await of.close(browser.request(), NOW + 1)
    assert ended == session()
    browser.take(cookies)
    assert browser.cookies == {}
    assert await refusal(of, thief, NOW + 2) is Code.SESSION_INVALID
    assert await of.close(browser.request(), NOW + 3) == (None, ())


async def test_a_bad_cookie_is_taken_away_by_a_sign_out_too(store: Store) -> None:
    browser = Browser()
    browser.cookies[b"__Host-session"] = b"x"
    ended, cookies = await sessions(store, Cognito()).close(browser.request(), NOW)
    assert ended is None
    assert len(cookies) == 1
    assert b"Max-Age=0" in cookies[0]


async def test_the_session_as_it_is_can_be_read_without_renewing_it(store: Store) -> None:
    cognito = Cognito()
    of = sessions(store, cognito)
    browser = await opened(of)
    assert await of.current(browser.request(), NOW + TOKEN_LIFE - 1) == session()
    assert cognito.asked == []


@NEEDS_REDIS
async def test_two_replicas_renew_once(redis: RedisServer) -> None:
    cognito = Cognito()
    cognito.slow = 0.2
    stores = [RedisStore(redis.url, Seal((SECRET,))) for _ in range(4)]
    replicas = [sessions(store, cognito) for store in stores]
    browser = await opened(replicas[0])
    now = NOW + TOKEN_LIFE + 1
    found = await asyncio.gather(*(of.present(browser.request(), now) for of in replicas for _ in range(5)))
    assert cognito.asked == ["refresh-1"]
    assert {presented.token.decode() for presented in found} == {token(cognito.at)}
    for store in stores:
        await store.aclose()


@NEEDS_REDIS
async def test_a_renewal_is_not_undone_by_a_replica_that_notes_a_use(redis: RedisServer) -> None:
    cognito = Cognito()
    one, two = (RedisStore(redis.url, Seal((SECRET,))) for _ in range(2))
    of = sessions(one, cognito)
    browser = await opened(of)
    before = await two.read({k.decode(): v.decode() for k, v in browser.cookies.items()})
    await of.present(browser.request(), NOW + TOKEN_LIFE - 5)
    await two.touch(before, before.session._replace(used=int(NOW) + 600), 100, {})
    after = await two.read({k.decode(): v.decode() for k, v in browser.cookies.items()})
    assert after.session.refresh_token == "refresh-2"
    await one.aclose()
    await two.aclose()


@NEEDS_REDIS
async def test_a_session_that_was_ended_during_its_renewal_stays_ended(redis: RedisServer) -> None:
    cognito = Cognito()
    cognito.slow = 0.2
    store = RedisStore(redis.url, Seal((SECRET,)))
    of = sessions(store, cognito)
    browser = await opened(of)
    renewing = asyncio.ensure_future(of.present(browser.request(), NOW + TOKEN_LIFE - 5))
    await asyncio.sleep(0.1)
    await of.close(browser.request(), NOW + TOKEN_LIFE - 5)
    await renewing
    assert await refusal(of, browser, NOW + TOKEN_LIFE - 4) is Code.SESSION_INVALID
    await store.aclose()


@NEEDS_REDIS
async def test_tokens_that_cannot_be_written_serve_this_request_and_are_written_later(redis: RedisServer) -> None:
    cognito, faults = Cognito(), []
    store = RedisStore(redis.url, Seal((SECRET,)))
    of = sessions(store, cognito, faults)
    browser = await opened(of)
    cognito.slow = 0.2
    presenting = asyncio.ensure_future(of.present(browser.request(), NOW + TOKEN_LIFE - 5))
    await asyncio.sleep(0.1)
    redis.pause()
    try:
        presented = await presenting
    finally:
        redis.resume()
    assert presented.token.decode() == token(cognito.at)
    assert ("sessions", "write_failed") in faults
    await asyncio.sleep(0.1)
    again = await of.present(browser.request(), NOW + TOKEN_LIFE - 4)
    assert again.token.decode() == token(cognito.at)
    other = await sessions(store, Cognito()).present(browser.request(), NOW + TOKEN_LIFE + 1)
    assert other.session is not None
    assert other.session.refresh_token == "refresh-2"
    assert cognito.asked == ["refresh-1"]
    await store.aclose()
