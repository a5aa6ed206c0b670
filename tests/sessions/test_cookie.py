"""Sessions in cookies: only whole ones of ours open."""

from __future__ import annotations

import base64
import itertools
import logging
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.own import SESSION_COOKIES as NAMES
from sidecar.gate.session import Session
from sidecar.sessions.cookie import CookieStore
from sidecar.sessions.seal import Seal
from sidecar.sessions.store import encode
from tests.fakes import refusal
from tests.sign_in.browser import ID, SECRETS, Browser, signed_in, unreported

STORE = CookieStore(Seal(SECRETS), unreported)
LEFT = 3600.0


SEALED = Seal(SECRETS).seal("session", encode(signed_in()))


def wide(pieces: int, **fields: Any) -> Session:
    """A session that needs so many cookies."""
    size = {1: 500, 2: 5000, 3: 8000, 4: 12000, 5: 18000}[pieces]
    return signed_in(refresh_token=base64.urlsafe_b64encode(os.urandom(size * 3 // 4)).decode(), **fields)


@pytest.mark.parametrize("pieces", [1, 2, 3, 4])
async def test_a_session_comes_back_from_its_cookies(pieces: int) -> None:
    session = wide(pieces)
    browser = Browser(await STORE.open(session, LEFT))
    assert len(browser.cookies) == pieces
    assert (await STORE.load(browser.cookies)).session == session


async def test_one_that_is_too_large_is_not_opened() -> None:
    assert await refusal(STORE.open(wide(5), LEFT)) is Code.SESSION_STORE_ERROR


async def test_new_tokens_that_do_not_fit_serve_once(caplog: pytest.LogCaptureFixture) -> None:
    held = await STORE.load(Browser(await STORE.open(wide(1), LEFT)).cookies)
    large = wide(5)

    async def ask(session: Session) -> Session:
        return large

    with caplog.at_level(logging.ERROR):
        kept = await STORE.renew(held, ask, LEFT, 0)
    assert kept == (large, ())
    assert "session_write_failed" in caplog.text
    assert await STORE.touch(held, large, LEFT) == ()


async def test_a_new_sign_in_takes_the_pieces_of_an_earlier_one_away() -> None:
    browser = Browser(await STORE.open(wide(4), LEFT))
    session = wide(2, id="0" * 32)
    browser.take(await STORE.open(session, LEFT))
    assert list(browser.cookies) == list(NAMES[:2])
    assert (await STORE.load(browser.cookies)).session == session


async def test_new_tokens_take_fewer_pieces() -> None:
    browser = Browser(await STORE.open(wide(3), LEFT))
    held = await STORE.load(browser.cookies)
    browser.take(await STORE.touch(held, wide(1), LEFT))
    assert len(browser.cookies) == 1


@pytest.mark.parametrize("pieces", [2, 3, 4])
async def test_no_mixture_of_two_sessions_opens(pieces: int) -> None:
    first = Browser(await STORE.open(wide(pieces), LEFT)).cookies
    second = Browser(await STORE.open(wide(pieces, id="0" * 32), LEFT)).cookies
    for choice in itertools.product((first, second), repeat=pieces):
        mixed = {name: chosen[name] for name, chosen in zip(NAMES, choice, strict=False)}
        if mixed in (first, second):
            assert (await STORE.load(mixed)).session.id in (ID, "0" * 32)
        else:
            assert await refusal(STORE.load(mixed)) is Code.SESSION_INVALID


async def test_no_two_writings_of_one_session_mix() -> None:
    session = wide(2)
    first, second = [Browser(await STORE.open(session, LEFT)).cookies for _ in range(2)]
    assert await refusal(STORE.load({**first, NAMES[1]: second[NAMES[1]]})) is Code.SESSION_INVALID


@pytest.mark.parametrize("pieces", [2, 3])
async def test_no_other_order_or_number_of_pieces_opens(pieces: int) -> None:
    cookies = Browser(await STORE.open(wide(pieces), LEFT)).cookies
    count, _, first = cookies[NAMES[0]].partition(".")
    rest = [cookies[name] for name in NAMES[1:pieces]]
    for number in "1234":
        for order in itertools.permutations([first, *rest]):
            if (number, order) == (count, (first, *rest)):
                continue
            cookie_pairs = dict(zip(NAMES, (f"{number}.{order[0]}", *order[1:]), strict=False))
            assert await refusal(STORE.load(cookie_pairs)) is Code.SESSION_INVALID


@given(st.data())
async def test_a_changed_or_cut_cookie_does_not_open(data: st.DataObject) -> None:
    cookies = {NAMES[0]: "2." + SEALED[:500], NAMES[1]: SEALED[500:]}
    assert (await STORE.load(cookies)).session.id == ID
    name = data.draw(st.sampled_from(NAMES[:2]))
    value = cookies[name]
    at = data.draw(st.integers(0, 501)) % len(value)
    other = chr((ord(value[at]) + data.draw(st.integers(1, 255))) % 256)
    for changed in (value[:at] + other + value[at + 1 :], value[:at], value[at + 1 :], value + "A", ""):
        assert await refusal(STORE.load({**cookies, name: changed})) is Code.SESSION_INVALID


async def test_a_cookie_of_another_secret_or_purpose_does_not_open() -> None:
    for store in (CookieStore(Seal(("x" * 32,)), unreported),):
        cookies = Browser(await store.open(signed_in(), LEFT)).cookies
        assert await refusal(STORE.load(cookies)) is Code.SESSION_INVALID
    for purpose in ("login", "session handle"):
        sealed = {NAMES[0]: "1." + Seal(SECRETS).seal(purpose, b"\x01")}
        assert await refusal(STORE.load(sealed)) is Code.SESSION_INVALID


async def test_a_sealed_text_that_is_no_record_does_not_open() -> None:
    sealed = {NAMES[0]: "1." + Seal(SECRETS).seal("session", b"anything")}
    assert await refusal(STORE.load(sealed)) is Code.SESSION_INVALID


async def test_secrets_are_replaced_without_signing_anybody_out() -> None:
    browser = Browser(await STORE.open(signed_in(), LEFT))
    both, new = CookieStore(Seal(("n" * 32, *SECRETS)), unreported), CookieStore(Seal(("n" * 32,)), unreported)
    held = await both.load(browser.cookies)
    browser.take(await both.touch(held, held.session, LEFT))
    assert (await new.load(browser.cookies)).session == held.session
    assert await refusal(STORE.load(browser.cookies)) is Code.SESSION_INVALID


async def test_the_end_tells_what_ended() -> None:
    session = signed_in()
    assert await STORE.end(Browser(await STORE.open(session, LEFT)).cookies) == session
    assert await STORE.end({NAMES[0]: "1.x"}) is None
    await STORE.aclose()
