"""Browser sessions, in cookies and in a real Redis: how long they live, who renews them, and that they end."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from sidecar.bounded import Expiring
from sidecar.gate.claims import Claim
from sidecar.gate.codes import Code
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens, keep_claims
from sidecar.gate.session import Presented, Session, TokenSource
from sidecar.gate.verdict import Refused
from sidecar.sessions import sessions as sessions_module
from sidecar.sessions.cookie import CookieStore
from sidecar.sessions.redis import RedisStore
from sidecar.sessions.seal import Seal
from sidecar.sessions.sessions import AGAIN_AFTER, GRACE, MARGIN, USED_EVERY, Renewed, Sessions
from sidecar.sessions.store import Kept, LoadedSession, Renew, Store
from tests.fakes import refusal, until
from tests.redis_server import PATIENT, RedisServer
from tests.sign_in.browser import (
    NOW,
    SECRETS,
    TOKENS,
    Browser,
    TokenEndpoint,
    jwt,
    no_key,
    request_with,
    signed_in,
    unreported,
)
from tests.tokens import ISSUER

IDLE, LIFETIME = 8 * 3600, 24 * 3600
SOON = NOW + 3600 - 10
"""A moment in which the first token of a session is about to end."""
LATER = NOW + 3600 + 100
"""A moment in which it has ended."""


@dataclass
class World:
    """One kind of store, as many replicas as a test wants, and Cognito."""

    make_store: Callable[[], Store]
    cognito: TokenEndpoint
    replicas: list[Sessions]

    def replica(self, *, idle: float = IDLE, lifetime: float = LIFETIME) -> Sessions:
        sessions = Sessions(self.make_store(), self.cognito, idle=idle, lifetime=lifetime)
        self.replicas.append(sessions)
        return sessions

    async def close(self) -> None:
        self.cognito.gate.set()
        for sessions in self.replicas:
            await sessions.aclose()


@pytest.fixture
async def in_cookies() -> AsyncIterator[World]:
    world = World(lambda: CookieStore(Seal(SECRETS), unreported), TokenEndpoint(), [])
    yield world
    await world.close()


@pytest.fixture
async def in_redis(redis_server: RedisServer) -> AsyncIterator[World]:
    world = World(
        lambda: RedisStore(redis_server.url, Seal(SECRETS), unreported, deadline=PATIENT), TokenEndpoint(), []
    )
    yield world
    await world.close()


@pytest.fixture(params=["cookies", pytest.param("redis", marks=pytest.mark.process)])
def world(request: pytest.FixtureRequest) -> World:
    made: World = request.getfixturevalue(f"in_{request.param}")
    return made


async def visit(sessions: Sessions, browser: Browser, now: float, *, websocket: bool = False) -> Presented:
    """One request, whose answer reaches the browser."""
    presented = await sessions.present(browser.request(websocket=websocket), now, TOKENS)
    browser.take(presented.cookies)
    return presented


# --- who has a session ---


async def test_sessions_are_a_source_of_tokens(world: World) -> None:
    source: TokenSource = world.replica()
    for cookie, held in [
        ("", False), ("a=1", False), ("x__Host-session=1", False), ("__Host-sessionx=1", False), ("__Host-login=1", False),
        ("__Host-session.12345=1", False), ("__Host-session.9=1", True), ("__Host-session=", True), ("a=1; __Host-session=x", True), ("__Host-session.1=x", True),
    ]:  # fmt: skip
        assert source.holds(request_with(cookie)) is held, cookie


async def test_a_sign_in_gives_its_token_from_then_on(world: World) -> None:
    sessions, session = world.replica(), signed_in()
    browser = Browser(await sessions.open(session))
    assert sessions.holds(browser.request())
    for websocket in (False, True):
        assert await visit(sessions, browser, NOW + 1, websocket=websocket) == (session.token.encode(), session, ())
    assert await sessions.current(browser.request(), NOW + 1) == session
    assert await world.replica().current(browser.request(), NOW + 1) == session
    assert world.cognito.asked == []


async def test_what_is_no_session_is_refused(world: World) -> None:
    sessions = world.replica()
    assert await refusal(sessions.current(request_with(""), NOW)) is Code.TOKEN_MISSING
    for cookie in ("__Host-session=x", "__Host-session=", "__Host-session.1=x", '__Host-session="1.x"'):
        assert await refusal(sessions.present(request_with(cookie), NOW, TOKENS)) is Code.SESSION_INVALID
        assert await sessions.close(request_with(cookie), NOW) == (None, (cookie.partition("=")[0].encode() + b"=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0",))  # fmt: skip
    assert await sessions.close(request_with("a=1"), NOW) == (None, ())


async def test_a_session_of_one_host_is_none_on_another(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()._replace(host="crm.test")))
    ours = Browser(await sessions.open(signed_in()))
    for browsing, good, others in ((browser, "crm.test", ("wiki.test", "")), (ours, "", ("crm.test",))):
        asked = browsing.request()._replace(site=good)
        assert (await sessions.present(asked, NOW, TOKENS)).session is not None
        assert (await sessions.current(asked, NOW)).host == good
        for other in others:
            for look in (
                sessions.current(asked._replace(site=other), NOW),
                sessions.present(asked._replace(site=other), NOW, TOKENS),
            ):
                assert await refusal(look) is Code.SESSION_INVALID


async def test_a_session_keeps_its_host_when_it_is_renewed(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()._replace(host="crm.test")))
    presented = await sessions.present(browser.request()._replace(site="crm.test"), SOON, TOKENS)
    browser.take(presented.cookies)
    assert presented.session is not None
    assert (presented.session.host, len(world.cognito.asked)) == ("crm.test", 1)
    assert (await world.replica().current(browser.request()._replace(site="crm.test"), SOON)).host == "crm.test"


# --- how long ---


async def test_an_idle_session_ends(world: World) -> None:
    sessions, browser = world.replica(), Browser()
    browser.take(await sessions.open(signed_in(life=LIFETIME)))
    await visit(sessions, browser.copy(), NOW + IDLE - 1)
    assert await refusal(world.replica().present(browser.request(), NOW + 2 * IDLE, TOKENS)) is Code.SESSION_EXPIRED
    never = Browser(await sessions.open(signed_in(life=LIFETIME, id="0" * 32)))
    assert await refusal(sessions.present(never.request(), NOW + IDLE, TOKENS)) is Code.SESSION_EXPIRED
    assert await refusal(sessions.current(never.request(), NOW + IDLE)) is Code.SESSION_EXPIRED


async def test_a_session_in_use_goes_on_until_its_lifetime_and_no_longer(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in(life=2 * LIFETIME)))
    for hours in range(7, 24, 7):
        await visit(sessions, browser, NOW + hours * 3600)
    await visit(sessions, browser, NOW + LIFETIME - 1)
    assert await refusal(sessions.present(browser.request(), NOW + LIFETIME, TOKENS)) is Code.SESSION_EXPIRED


async def test_use_is_written_once_a_minute(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    await visit(sessions, browser, NOW + USED_EVERY - 1)
    assert (await sessions.current(browser.request(), NOW + 60)).used == NOW
    old = browser.copy()
    many = await asyncio.gather(*(sessions.present(old.request(), NOW + USED_EVERY, TOKENS) for _ in range(20)))
    for presented in many:
        browser.take(presented.cookies)
    assert sum(bool(presented.cookies) for presented in many) == (1 if old.cookies != browser.cookies else 0)
    assert (await sessions.current(browser.request(), NOW + 60)).used == NOW + 60
    await visit(sessions, browser, NOW + 119)
    assert (await world.replica().current(browser.request(), NOW + 119)).used == NOW + 60
    await visit(sessions, browser, NOW + 120)
    assert (await world.replica().current(browser.request(), NOW + 120)).used == NOW + 120


async def test_a_short_idle_time_is_not_missed_by_writing_too_seldom(world: World) -> None:
    sessions = world.replica(idle=20)
    browser = Browser(await sessions.open(signed_in()))
    for seconds in range(0, 200, 9):
        await visit(sessions, browser, NOW + seconds)


async def test_a_websocket_writes_nothing(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    assert (await visit(sessions, browser, NOW + 600, websocket=True)).cookies == ()
    assert (await sessions.current(browser.request(), NOW + 600)).used == NOW


# --- new tokens ---


async def test_a_token_is_renewed_shortly_before_its_end(world: World) -> None:
    sessions, session = world.replica(), signed_in()
    browser = Browser(await sessions.open(session))
    assert (await visit(sessions, browser, NOW + 3600 - MARGIN)).token == session.token.encode()
    assert world.cognito.asked == []
    world.cognito.now = SOON
    presented = await visit(sessions, browser, SOON)
    assert presented.token != session.token.encode()
    assert presented.session is not None
    assert presented.session == session._replace(
        token=presented.token.decode(), refresh_token="r1",
        expires=SOON + 3600, used=SOON,
    )  # fmt: skip
    assert await visit(sessions, browser, SOON) == presented._replace(cookies=())
    assert await world.replica().current(browser.request(), SOON) == presented.session
    assert world.cognito.asked == ["r0"]


async def test_the_new_refresh_token_is_the_one_of_the_next_renewal(world: World) -> None:
    browser = Browser(await world.replica().open(signed_in()))
    for hour in range(1, 20):
        # each time another process, which remembers nothing
        world.cognito.now = NOW + hour * 3500
        await visit(world.replica(), browser, NOW + hour * 3500 + 60)
        await visit(world.replica(), browser, NOW + (hour + 1) * 3500 - 60)
    assert world.cognito.asked == [f"r{number}" for number in range(19)]


async def test_without_rotation_the_refresh_token_stays(world: World) -> None:
    world.cognito = TokenEndpoint(rotates=False)
    browser = Browser(await world.replica().open(signed_in()))
    for number in (1, 2):
        world.cognito.now = NOW + number * 3600
        presented = await visit(world.replica(), browser, NOW + number * 3600)
        assert presented.session is not None
        assert presented.session.refresh_token == "r0"
    assert world.cognito.asked == ["r0", "r0"]


async def test_sessions_that_began_together_are_not_renewed_together(in_cookies: World) -> None:
    in_cookies.cognito = TokenEndpoint(rotates=False)
    sessions = in_cookies.replica()
    begun: list[int] = []
    for number in range(0, 65536, 1111):
        browser = Browser(await sessions.open(signed_in(id=f"{number:04x}" + "0" * 28)))
        for left in range(70, 0, -1):
            in_cookies.cognito.now = NOW + 3600 - left
            await sessions.present(browser.request(), NOW + 3600 - left, TOKENS)
            if len(in_cookies.cognito.asked) > len(begun):
                begun.append(left)
                break
    assert len(begun) == 59
    assert min(begun) in range(28, 33)
    assert max(begun) in range(57, 60)
    assert len(set(begun)) > 20


@pytest.mark.parametrize("moment", [SOON, LATER])
async def test_a_pages_many_requests_cause_one_renewal(world: World, moment: int) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    world.cognito.now = moment
    world.cognito.gate.clear()
    requests = [asyncio.ensure_future(sessions.present(browser.request(), moment, TOKENS)) for _ in range(20)]
    await until(lambda: world.cognito.asked)
    await asyncio.sleep(0.05)
    world.cognito.gate.set()
    presented = await asyncio.gather(*requests)
    assert world.cognito.asked == ["r0"]
    assert len({one.token for one in presented}) == 1
    for one in presented:
        browser.take(one.cookies)
    assert await visit(sessions, browser, moment + 1) == presented[0]._replace(cookies=())


async def test_a_browser_that_left_during_the_renewal_gets_the_new_tokens_with_its_next_request(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    world.cognito.now = LATER
    world.cognito.gate.clear()
    request = asyncio.ensure_future(sessions.present(browser.request(), LATER, TOKENS))
    await until(lambda: world.cognito.asked)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    world.cognito.gate.set()
    await asyncio.sleep(0.05)
    for later in (0, GRACE - 1):
        presented = await sessions.present(browser.request(), LATER + later, TOKENS)
        assert presented.session is not None
        assert presented.session.refresh_token == "r1"
    assert world.cognito.asked == ["r0"]


async def test_who_still_has_the_old_cookie_gets_the_new_tokens_for_a_while(in_cookies: World) -> None:
    sessions = in_cookies.replica()
    old = Browser(await sessions.open(signed_in()))
    new = old.copy()
    in_cookies.cognito.now = SOON
    await visit(sessions, new, SOON)
    for moment in (SOON, SOON + 60, SOON + GRACE - 1):
        late = old.copy()
        presented = await visit(sessions, late, moment)
        assert presented.cookies
        assert presented.token == (await visit(sessions, new, moment)).token
        assert (await sessions.current(old.request(), moment)).token.encode() == presented.token
        assert (await in_cookies.replica().current(late.request(), moment)).refresh_token == "r1"
    assert in_cookies.cognito.asked == ["r0"]
    # after it the old refresh token is asked about, and Cognito has the last word
    assert await refusal(sessions.present(old.request(), SOON + GRACE, TOKENS)) is Code.SESSION_EXPIRED
    assert in_cookies.cognito.asked == ["r0", "r0"]


@pytest.mark.parametrize("fault", [Refused(Code.SESSION_EXPIRED), Refused(Code.IDP_UNAVAILABLE), Refused(Code.IDP_BAD_ANSWER), RuntimeError("x")])  # fmt: skip
async def test_a_renewal_that_fails_costs_nothing_while_the_token_is_good(world: World, fault: Exception) -> None:
    sessions, session = world.replica(), signed_in()
    browser = Browser(await sessions.open(session))
    world.cognito.fault = fault
    before = dict(browser.cookies)
    for moment in (SOON - 11, SOON - 10, SOON - 2):
        assert await visit(sessions, browser, moment) == (session.token.encode(), session, ())
    assert browser.cookies == before
    assert len(world.cognito.asked) == 1
    await visit(sessions, browser, SOON - 11 + AGAIN_AFTER)
    assert len(world.cognito.asked) == 2
    # nothing was extended by it
    assert (await world.replica().current(browser.request(), SOON)).used == NOW
    world.cognito.fault, world.cognito.now = None, SOON + 10
    assert (await visit(sessions, browser, SOON + 9.5)).token != session.token.encode()


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Refused(Code.SESSION_EXPIRED), Code.SESSION_EXPIRED),
        (Refused(Code.IDP_UNAVAILABLE), Code.IDP_UNAVAILABLE),
        (Refused(Code.IDP_BAD_ANSWER), Code.IDP_BAD_ANSWER),
        (TimeoutError(), Code.IDP_UNAVAILABLE),
        (KeyError("access_token"), Code.IDP_BAD_ANSWER),
        (RecursionError(), Code.IDP_BAD_ANSWER),
    ],
)
async def test_a_renewal_that_fails_after_the_tokens_end_is_a_refusal(
    world: World, fault: Exception, code: Code
) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    world.cognito.fault = fault
    for websocket in (False, True):
        assert await refusal(visit(sessions, browser, LATER, websocket=websocket)) is code
    # what Cognito has said is not asked again at once; what it could not say is
    assert len(world.cognito.asked) == (1 if code is Code.SESSION_EXPIRED else 2)
    world.cognito.fault, world.cognito.now = None, LATER
    assert (await visit(sessions, browser, LATER + AGAIN_AFTER)).session is not None


async def test_a_renewal_has_a_deadline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "RENEW_WITHIN", 0.1)
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    world.cognito.gate.clear()
    assert await refusal(sessions.present(browser.request(), LATER, TOKENS)) is Code.IDP_UNAVAILABLE


@pytest.mark.parametrize("moment", [SOON, LATER])
@pytest.mark.parametrize("whose", ["sub", "id_sub"])
async def test_tokens_of_somebody_else_end_the_session(
    world: World, whose: str, moment: int, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    world.cognito.now = moment
    setattr(world.cognito, whose, "b-2")
    assert await refusal(sessions.present(browser.request(), moment, TOKENS)) is Code.SESSION_INVALID
    assert "another subject" in caplog.text
    setattr(world.cognito, whose, "a-1")
    for websocket in (False, True):
        work = sessions.present(browser.request(websocket=websocket), moment, TOKENS)
        assert await refusal(work) in (Code.SESSION_INVALID, Code.SESSION_EXPIRED)
    assert len(world.cognito.asked) == 1


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "a..c", jwt() + ".x", "a.bnVsbA.c"])
async def test_tokens_that_are_none_are_a_bad_answer(in_cookies: World, token: str) -> None:
    async def renew(session: Session, tokens: Tokens) -> Renewed:
        return Renewed(token, "", "r1", LATER + 3600)

    sessions = Sessions(CookieStore(Seal(SECRETS), unreported), renew, idle=IDLE, lifetime=LIFETIME)
    browser = Browser(await sessions.open(signed_in()))
    assert await refusal(sessions.present(browser.request(), LATER, TOKENS)) is Code.IDP_BAD_ANSWER


async def test_new_tokens_that_have_ended_are_a_bad_answer(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    world.cognito.now = LATER - 3600
    assert await refusal(sessions.present(browser.request(), LATER, TOKENS)) is Code.IDP_BAD_ANSWER


async def test_without_a_refresh_token_a_session_ends_with_its_token(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in(refresh_token="")))
    await visit(sessions, browser, NOW + 3600 - 1)
    assert await refusal(sessions.present(browser.request(), NOW + 3600, TOKENS)) is Code.SESSION_EXPIRED
    assert world.cognito.asked == []


async def test_no_new_tokens_for_a_session_that_ends_before_its_token(world: World) -> None:
    sessions = world.replica(lifetime=3600)
    browser = Browser(await sessions.open(signed_in()))
    await visit(sessions, browser, SOON)
    assert await refusal(sessions.present(browser.request(), LATER, TOKENS)) is Code.SESSION_EXPIRED
    assert world.cognito.asked == []


@pytest.mark.parametrize(("life", "before"), [(60, 12), (300, 60), (3600, 60)])
async def test_a_short_token_is_renewed_in_the_last_fifth_of_its_life(world: World, life: int, before: int) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in(life=life)))
    await visit(sessions, browser, NOW + life - before)
    assert world.cognito.asked == []
    world.cognito.now = NOW + life - before // 2 + 1
    await visit(sessions, browser, world.cognito.now)
    assert world.cognito.asked == ["r0"]


async def test_a_websocket_renews_only_a_token_that_has_ended(world: World) -> None:
    sessions, session = world.replica(), signed_in()
    browser = Browser(await sessions.open(session))
    assert await visit(sessions, browser, NOW + 3599, websocket=True) == (session.token.encode(), session, ())
    assert world.cognito.asked == []
    world.cognito.now = LATER
    presented = await visit(sessions, browser, LATER, websocket=True)
    assert presented.token != session.token.encode()
    assert (await world.replica().current(browser.request(), LATER)).token.encode() == presented.token


# --- the end ---


async def test_a_signed_out_session_is_over(world: World) -> None:
    sessions, session = world.replica(), signed_in()
    browser = Browser(await sessions.open(session))
    stolen = browser.copy()
    ended, cookies = await sessions.close(browser.request(), NOW + 10)
    assert ended == session
    browser.take(cookies)
    assert browser.cookies == {}
    for moment in (NOW + 10, SOON, LATER, NOW + LIFETIME - 1):
        for work in (sessions.present(stolen.request(), moment, TOKENS), sessions.current(stolen.request(), moment)):
            assert await refusal(work) in (Code.SESSION_INVALID, Code.SESSION_EXPIRED)
    assert (await sessions.close(stolen.request(), NOW + 11))[0] is None
    assert world.cognito.asked == []


async def test_another_session_of_the_same_person_goes_on(world: World) -> None:
    sessions = world.replica()
    one, two = [Browser(await sessions.open(signed_in(id=letter * 32))) for letter in "12"]
    await sessions.close(one.request(), NOW)
    assert (await visit(sessions, two, NOW)).session is not None


async def test_a_sign_out_tells_the_newest_refresh_token(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    old = browser.copy()
    world.cognito.now = SOON
    await visit(sessions, browser, SOON)
    ended, _ = await sessions.close(old.request(), SOON + 1)
    assert ended is not None
    assert ended.refresh_token == "r1"
    assert await refusal(sessions.present(browser.request(), SOON + 2, TOKENS)) in (
        Code.SESSION_INVALID,
        Code.SESSION_EXPIRED,
    )


async def test_a_sign_out_during_a_renewal_ends_both(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    world.cognito.now = SOON
    world.cognito.gate.clear()
    request = asyncio.ensure_future(sessions.present(browser.request(), SOON, TOKENS))
    await until(lambda: world.cognito.asked)
    closing = asyncio.ensure_future(sessions.close(browser.request(), SOON))
    await asyncio.sleep(0.05)
    assert not closing.done()
    world.cognito.gate.set()
    ended, cookies = await closing
    assert ended is not None
    assert ended.refresh_token == "r1"
    assert await refusal(request) is Code.SESSION_INVALID
    assert await refusal(sessions.present(browser.request(), SOON, TOKENS)) in (
        Code.SESSION_INVALID,
        Code.SESSION_EXPIRED,
    )
    browser.take(cookies)
    assert browser.cookies == {}


async def test_closing_waits_for_what_is_under_way(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    world.cognito.now = LATER
    world.cognito.gate.clear()
    request = asyncio.ensure_future(sessions.present(browser.request(), LATER, TOKENS))
    await until(lambda: world.cognito.asked)
    closing = asyncio.ensure_future(sessions.aclose())
    await asyncio.sleep(0.05)
    assert not closing.done()
    world.cognito.gate.set()
    await closing
    assert (await request).session is not None


async def test_what_is_remembered_is_bounded(in_cookies: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDED", "RENEWED", "TOUCHED", "FAILED"):
        monkeypatch.setattr(sessions_module, name, 4000)
    in_cookies.cognito = TokenEndpoint(rotates=False)
    in_cookies.cognito.now = SOON
    sessions = in_cookies.replica()
    for number in range(20):
        browser = Browser(await sessions.open(signed_in(id=f"{number:032x}")))
        await visit(sessions, browser, NOW + 100)
        await visit(sessions, browser, SOON)
        await sessions.close(browser.request(), SOON)
    memos = [memo for memo in vars(sessions).values() if isinstance(memo, Expiring)]
    assert len(memos) == 4
    assert all(memo.weight <= 4000 for memo in memos)
    # of twenty sessions
    assert 5 <= len(sessions._ended) <= 10
    assert sessions._flights == {}


async def test_in_cookies_another_process_does_not_know_of_a_sign_out(in_cookies: World) -> None:
    # the limit of sessions without a store, which the documentation states
    sessions = in_cookies.replica()
    browser = Browser(await sessions.open(signed_in()))
    await sessions.close(browser.request(), NOW)
    assert (await visit(in_cookies.replica(), browser, NOW)).session is not None


# --- replicas on one Redis ---


@pytest.mark.parametrize("moment", [SOON, LATER])
async def test_two_replicas_cause_one_renewal(in_redis: World, moment: int) -> None:
    replicas = [in_redis.replica(), in_redis.replica()]
    session = signed_in()
    browser = Browser(await replicas[0].open(session))
    in_redis.cognito.now = moment
    in_redis.cognito.gate.clear()
    requests = [
        asyncio.ensure_future(replicas[number % 2].present(browser.request(), moment, TOKENS)) for number in range(20)
    ]
    await until(lambda: in_redis.cognito.asked)
    await asyncio.sleep(0.2)
    waiting = [request for request in requests if not request.done()]
    # one replica asks; on the other a good token is served, and where there is none the new one is waited for
    assert len(waiting) == (10 if moment == SOON else 20)
    in_redis.cognito.gate.set()
    presented = await asyncio.gather(*requests)
    assert in_redis.cognito.asked == ["r0"]
    assert len({one.token for one in await asyncio.gather(*waiting)}) == 1
    assert {one.token for one in presented} - {one.result().token for one in waiting} <= {session.token.encode()}
    for replica in replicas:
        assert (await visit(replica, browser, moment + 1)).token == waiting[0].result().token
    assert in_redis.cognito.asked == ["r0"]


async def test_many_replicas_and_many_sessions_cause_one_renewal_each(in_redis: World) -> None:
    in_redis.cognito = TokenEndpoint(rotates=False)
    in_redis.cognito.now = LATER
    replicas = [in_redis.replica() for _ in range(4)]
    browsers = [Browser(await replicas[0].open(signed_in(id=f"{number:032x}"))) for number in range(10)]
    work = [
        replica.present(browser.request(), LATER, TOKENS)
        for browser in browsers
        for replica in replicas
        for _ in range(3)
    ]
    presented = await asyncio.gather(*work)
    assert len({one.token for one in presented}) == 10
    assert len(in_redis.cognito.asked) == 10


async def test_where_the_one_that_asks_fails_the_other_asks(in_redis: World) -> None:
    replicas = [in_redis.replica(), in_redis.replica()]
    browser = Browser(await replicas[0].open(signed_in()))
    in_redis.cognito.gate.clear()
    in_redis.cognito.fault = Refused(Code.IDP_UNAVAILABLE)
    first = asyncio.ensure_future(replicas[0].present(browser.request(), LATER, TOKENS))
    await until(lambda: in_redis.cognito.asked)
    second = asyncio.ensure_future(replicas[1].present(browser.request(), LATER, TOKENS))
    await asyncio.sleep(0.1)
    in_redis.cognito.gate.set()
    assert await refusal(first) is Code.IDP_UNAVAILABLE
    in_redis.cognito.fault, in_redis.cognito.now = None, LATER
    assert (await second).session is not None
    assert in_redis.cognito.asked == ["r0", "r0"]


async def test_who_comes_to_the_lock_second_asks_no_more(in_redis: World, redis_server: RedisServer) -> None:
    one = in_redis.replica()
    browser = Browser(await one.open(signed_in()))
    in_redis.cognito.now = SOON

    class Late(RedisStore):
        async def renew(self, held: LoadedSession, ask: Renew, left: float, wait: float) -> Kept:
            await one.present(browser.request(), SOON, TOKENS)
            return await super().renew(held, ask, left, wait)

    two = Sessions(Late(redis_server.url, Seal(SECRETS), unreported), in_redis.cognito, idle=IDLE, lifetime=LIFETIME)
    presented = await two.present(browser.request(), SOON, TOKENS)
    assert presented.session == await one.current(browser.request(), SOON)
    assert in_redis.cognito.asked == ["r0"]
    await two.aclose()


async def test_tokens_of_somebody_else_end_the_session_on_all_replicas(
    in_redis: World, redis_server: RedisServer
) -> None:
    browser = Browser(await in_redis.replica().open(signed_in()))
    in_redis.cognito.sub = "b-2"
    assert await refusal(in_redis.replica().present(browser.request(), SOON, TOKENS)) is Code.SESSION_INVALID
    assert redis_server.command("KEYS", "*") == []


async def test_a_sign_out_on_one_replica_is_one_on_all(in_redis: World) -> None:
    one, two = in_redis.replica(), in_redis.replica()
    browser = Browser(await one.open(signed_in()))
    await two.present(browser.request(), NOW, TOKENS)
    await one.close(browser.request(), NOW)
    assert await refusal(two.present(browser.request(), NOW, TOKENS)) is Code.SESSION_EXPIRED
    assert await refusal(two.current(browser.request(), NOW)) is Code.SESSION_EXPIRED


async def test_a_sign_out_during_another_replicas_renewal_ends_it(in_redis: World, redis_server: RedisServer) -> None:
    one, two = in_redis.replica(), in_redis.replica()
    browser = Browser(await one.open(signed_in()))
    in_redis.cognito.now = SOON
    in_redis.cognito.gate.clear()
    request = asyncio.ensure_future(two.present(browser.request(), SOON, TOKENS))
    await until(lambda: in_redis.cognito.asked)
    await one.close(browser.request(), SOON)
    in_redis.cognito.gate.set()
    assert await refusal(request) is Code.SESSION_INVALID
    assert redis_server.command("KEYS", "*") == []


async def test_a_sign_out_that_cannot_be_written_is_none(in_redis: World, redis_server: RedisServer) -> None:
    sessions = in_redis.replica()
    browser = Browser(await sessions.open(signed_in()))
    redis_server.pause()
    assert await refusal(sessions.close(browser.request(), NOW)) is Code.SESSION_STORE_UNAVAILABLE
    redis_server.resume()
    redis_server.command("REPLICAOF", "127.0.0.1", "1")
    # the first try may have been carried out after all
    assert await refusal(sessions.close(browser.request(), NOW)) is Code.SESSION_STORE_ERROR


async def test_without_redis_no_session_is_examined_and_none_is_cleared(
    in_redis: World, redis_server: RedisServer
) -> None:
    sessions = in_redis.replica()
    browser = Browser(await sessions.open(signed_in()))
    redis_server.kill()
    for work in (
        sessions.present(browser.request(), NOW, TOKENS),
        sessions.current(browser.request(), NOW),
        sessions.open(signed_in()),
    ):
        assert await refusal(work) is Code.SESSION_STORE_UNAVAILABLE


async def test_new_tokens_that_cannot_be_written_serve_and_are_written_later(
    in_redis: World, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = in_redis.replica()
    browser = Browser(await sessions.open(signed_in()))
    in_redis.cognito.now = LATER
    in_redis.cognito.gate.clear()
    request = asyncio.ensure_future(sessions.present(browser.request(), LATER, TOKENS))
    await until(lambda: in_redis.cognito.asked)
    redis_server.command("REPLICAOF", "127.0.0.1", "1")
    with caplog.at_level(logging.ERROR):
        in_redis.cognito.gate.set()
        presented = await request
    assert presented.session is not None
    assert presented.session.refresh_token == "r1"
    assert "session_write_failed" in caplog.text
    assert (await in_redis.replica().current(browser.request(), LATER)).refresh_token == "r0"
    redis_server.command("REPLICAOF", "NO", "ONE")
    # the lock could not be released either: until it runs out, the tokens are served as they were
    started = time.monotonic()
    assert (await sessions.present(browser.request(), LATER + 30, TOKENS)).token == presented.token
    assert time.monotonic() - started < 4
    for key in redis_server.command("KEYS", "*:renewal"):
        redis_server.command("DEL", key)
    again = await sessions.present(browser.request(), LATER + 30 + AGAIN_AFTER, TOKENS)
    assert again.token == presented.token
    assert (await in_redis.replica().current(browser.request(), LATER + 60)).refresh_token == "r1"
    assert in_redis.cognito.asked == ["r0"]


async def test_a_lock_that_cannot_be_had_costs_nothing_while_the_token_is_good(
    in_redis: World, redis_server: RedisServer
) -> None:
    sessions, session = in_redis.replica(), signed_in()
    browser = Browser(await sessions.open(session))
    redis_server.command("REPLICAOF", "127.0.0.1", "1")
    assert (await sessions.present(browser.request(), SOON, TOKENS)).token == session.token.encode()
    assert await refusal(sessions.present(browser.request(), LATER, TOKENS)) is Code.SESSION_STORE_ERROR
    assert in_redis.cognito.asked == []


async def test_new_tokens_that_do_not_fit_into_cookies_serve_for_a_while(in_cookies: World) -> None:
    sessions = in_cookies.replica()
    browser = Browser(await sessions.open(signed_in()))
    large = base64.urlsafe_b64encode(os.urandom(16000)).decode()

    async def renew(session: Session, tokens: Tokens) -> Renewed:
        return Renewed(jwt(issued=SOON), "", large, SOON + 3600)

    sessions._renew = renew
    first = await visit(sessions, browser, SOON)
    assert first.session is not None
    assert first.session.refresh_token == large
    assert (await visit(sessions, browser, SOON + 100)).token == first.token


# --- claims of the id token ---

EMAIL = PrincipalRules(attributes={"email": Claim("email", from_id=True)})
WANTING = Tokens({ISSUER: Issuer(ISSUER, frozenset())}, EMAIL, no_key)
KEPT = keep_claims({"email": "a@example.com"}, ["email"])


@pytest.mark.parametrize("identity", ["", jwt(), "{}", '{"name":"A"}', "[]", "x"])
async def test_a_session_that_began_before_a_claim_was_named_is_renewed_at_once(world: World, identity: str) -> None:
    """An earlier version kept the whole id token there."""
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in(identity=identity)))
    world.cognito.now, world.cognito.identity = NOW + 5, KEPT
    old = browser.copy()
    many = await asyncio.gather(*(sessions.present(old.request(), NOW + 5, WANTING) for _ in range(5)))
    for presented in many:
        assert presented.session is not None
        assert presented.session.identity == KEPT
        browser.take(presented.cookies)
    again = await world.replica().present(browser.request(), NOW + 6, WANTING)
    assert (again.session and again.session.identity, world.cognito.asked) == (KEPT, ["r0"])


async def test_a_session_that_has_no_value_for_it_is_complete(world: World) -> None:
    session = signed_in(identity=keep_claims({}, ["email"]))
    browser = Browser(await world.replica().open(session))
    assert (await world.replica().present(browser.request(), NOW, WANTING)).session == session
    assert world.cognito.asked == []


async def test_claims_that_a_renewal_does_not_bring_go_on(world: World) -> None:
    browser = Browser(await world.replica().open(signed_in(identity=KEPT)))
    world.cognito.now = SOON
    presented = await world.replica().present(browser.request(), SOON, WANTING)
    assert presented.session is not None
    assert (presented.session.identity, presented.session.refresh_token) == (KEPT, "r1")


@pytest.mark.parametrize("code", [Code.IDP_UNAVAILABLE, Code.SESSION_EXPIRED])
async def test_without_them_a_good_token_alone_is_no_session(world: World, code: Code) -> None:
    """A 403 would say of the person what is true of the session."""
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in()))
    world.cognito.fault = Refused(code)
    for seconds in (1, 2):
        assert await refusal(sessions.present(browser.request(), NOW + seconds, WANTING)) is code
    assert (await sessions.present(browser.request(), NOW + 3, TOKENS)).token


async def test_one_without_a_refresh_token_has_to_sign_in_again(world: World) -> None:
    sessions = world.replica()
    browser = Browser(await sessions.open(signed_in(refresh_token="")))
    assert await refusal(sessions.present(browser.request(), NOW + 1, WANTING)) is Code.SESSION_EXPIRED
