"""The record of a session, and the cookies that a sealed text is cut into."""

from __future__ import annotations

import base64
import json
import os
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.own import SESSION_COOKIES as NAMES
from sidecar.gate.session import Session
from sidecar.gate.verdict import Refused
from sidecar.sessions.store import MAX_PIECES, decode, encode, from_cookies, to_cookies
from tests.sign_in.browser import ID, NOW, Browser, signed_in

TIMES = st.integers(0, 2**53 - 1)


@given(
    st.builds(
        Session, st.binary(min_size=16, max_size=16).map(bytes.hex), st.text(max_size=4000), st.text(), st.text(),
        st.text(), TIMES, TIMES, TIMES, st.booleans(),
    )
)  # fmt: skip
def test_a_record_is_read_as_it_was_written(session: Session) -> None:
    assert decode(encode(session)) == session


def test_a_record_of_cognitos_usual_tokens_is_smaller_than_they_are() -> None:
    session = signed_in()._replace(refresh_token=base64.urlsafe_b64encode(os.urandom(1300)).decode())
    length = sum(len(token) for token in (session.token, session.refresh_token))
    assert len(encode(session)) < 0.85 * length


def record(fields: Any) -> bytes:
    return b"\x01" + zlib.compress(fields if isinstance(fields, bytes) else json.dumps(fields).encode())


GOOD = [ID, "t", "i", "r", "u", NOW, NOW, NOW, True]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\x02" + record(GOOD)[1:],
        b"\x01" + json.dumps(GOOD).encode(),
        record(GOOD)[:-1],
        record(GOOD) + b"x",
        record(b"x" * 70_000),
        record([*GOOD[:1], "t" * 70_000, *GOOD[2:]]),
        record(b"\xff"),
        record(b"[" * 100_000),
        record({"id": ID}),
        record(None),
        record([]),
        record(GOOD[:-1]),
        record([*GOOD, 1]),
        record([*GOOD[:-1], 1]),
        record([*GOOD[:5], True, *GOOD[6:]]),
        record([*GOOD[:5], 1.0, *GOOD[6:]]),
        record([*GOOD[:5], -1, *GOOD[6:]]),
        record([*GOOD[:5], 2**53, *GOOD[6:]]),
        record([*GOOD[:7], 10**400, True]),
        record([None, *GOOD[1:]]),
        record(["AB" * 16, *GOOD[1:]]),
        record([ID + "\n", *GOOD[1:]]),
        record([ID[1:], *GOOD[1:]]),
        record([ID, "\ud800", *GOOD[2:]]),
    ],
)
def test_anything_else_is_a_value_error(data: bytes) -> None:
    assert decode(record(GOOD)).id == ID
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_a_value_error(data: bytes) -> None:
    for text in (data, b"\x01" + data, record(data)):
        with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
            decode(text)


PIECE = max(length for length in range(3800, 4096) if len(to_cookies("x" * length, ())) == 1)


@pytest.mark.parametrize(
    ("length", "count"),
    [(1, 1), (PIECE, 1), (PIECE + 1, 2), (2 * PIECE, 2), (2 * PIECE + 1, 3), (3 * PIECE + 1, 4), (4 * PIECE, 4)],
)
def test_a_text_comes_back_from_as_many_cookies_as_it_needs(length: int, count: int) -> None:
    text = "".join("0123456789-_"[at % 12] for at in range(length))
    browser = Browser(to_cookies(text, ()))
    assert list(browser.cookies) == list(NAMES[:count])
    assert from_cookies(browser.cookies) == text
    # a full piece is as large as a cookie may be, but for the room of the longest name
    assert 4096 - 4 <= len(f"__Host-session=1.{'x' * PIECE}; Path=/; Secure; HttpOnly; SameSite=Lax") <= 4096


def test_what_needs_more_pieces_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        to_cookies("x" * (MAX_PIECES * PIECE + 1), ())
    assert caught.value.code is Code.SESSION_STORE_ERROR


def test_pieces_that_are_left_over_are_taken_away() -> None:
    browser = Browser(to_cookies("x" * (3 * PIECE), ()))
    browser.cookies["__Host-session.9"] = "from another time"
    cookies = to_cookies("y" * 10, browser.cookies)
    assert len(cookies) == 4
    browser.take(cookies)
    assert browser.cookies == {NAMES[0]: "1." + "y" * 10}
    assert len(to_cookies("y" * 10, browser.cookies)) == 1


def test_a_piece_that_is_left_over_all_the_same_is_not_read() -> None:
    assert from_cookies({NAMES[0]: "1.abc", NAMES[1]: "old"}) == "abc"


@pytest.mark.parametrize(
    "cookie_pairs",
    [
        {},
        {NAMES[0]: ""},
        {NAMES[0]: "abc"},
        {NAMES[0]: "1."},
        {NAMES[0]: "0.abc"},
        {NAMES[0]: "5.abc"},
        {NAMES[0]: "01.abc"},
        {NAMES[0]: "\u0661.abc"},
        {NAMES[0]: "-1.abc"},
        {NAMES[0]: "2.abc"},
        {NAMES[0]: "2.abc", NAMES[1]: ""},
        {NAMES[0]: "3.abc", NAMES[2]: "x"},
        {NAMES[1]: "abc"},
    ],
)
def test_cookies_that_are_no_whole_are_a_value_error(cookie_pairs: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="session cookie"):
        from_cookies(cookie_pairs)


def test_a_record_without_a_host_is_what_it_was_before_there_was_one() -> None:
    session = signed_in()
    fields = json.loads(zlib.decompress(encode(session)[1:]))
    assert fields == list(session)[:-1]
    assert decode(encode(session._replace(host="crm.test"))).host == "crm.test"
    for more in (["crm.test", "x"], [1], [None]):
        with pytest.raises(ValueError, match="other fields"):
            decode(b"\x01" + zlib.compress(json.dumps([*fields, *more]).encode()))
