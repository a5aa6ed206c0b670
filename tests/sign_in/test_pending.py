"""A sign-in on its way: of one browser, once, for ten minutes, and back to a path of this host."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.verdict import Refused
from sidecar.sessions.seal import Seal
from sidecar.sign_in.ledger import LocalLedger
from sidecar.sign_in.pending import LASTS, PendingSignIns, begin, safe_target
from sidecar.sign_in.provider import Challenge

NOW = 1_700_000_000.0
SEAL = Seal(("0123456789abcdef0123456789abcdef",))


def asked(*cookies: bytes) -> Request:
    headers = [(b"host", b"app.test"), *([(b"cookie", b"; ".join(cookies))] if cookies else [])]
    return read(Raw("GET", b"/", headers, "", "http", "r"), Reading())


def kept(values: tuple[bytes, ...]) -> list[bytes]:
    """What a browser keeps of Set-Cookie values."""
    return [value.partition(b";")[0] for value in values if b"Max-Age=0" not in value]


def new_signs() -> PendingSignIns:
    return PendingSignIns(SEAL, LocalLedger())


async def refusal(state: str, request: Request, now: float = NOW, signs: PendingSignIns | None = None) -> Code:
    with pytest.raises(Refused) as caught:
        await (signs or new_signs()).find(state, request, now)
    return caught.value.code


async def test_the_browser_that_began_it_finds_it_again() -> None:
    signs, pending = new_signs(), begin("/docs/1?a=b", NOW)
    values = signs.cookies(pending, asked())
    assert await signs.find(pending.state, asked(*kept(values)), NOW + LASTS - 1) == pending
    for attribute in (b"Secure", b"HttpOnly", b"SameSite=Lax", b"Path=/"):
        assert attribute in values[0]
    assert values[0].startswith(b"__Host-login.")
    assert len(values[0]) <= 4096


async def test_a_challenge_comes_along() -> None:
    signs = new_signs()
    pending = begin("/", NOW)._replace(challenge=Challenge("SMS_MFA", "s" * 2048, "alice", {"to": "+*9"}))
    values = signs.cookies(pending, asked())
    assert len(values[0]) <= 4096
    assert await signs.find(pending.state, asked(*kept(values)), NOW) == pending


async def test_another_browser_another_state_another_time_and_a_second_time_are_refused() -> None:
    signs, pending = new_signs(), begin("/", NOW)
    cookies = kept(signs.cookies(pending, asked()))
    assert await refusal(pending.state, asked(), signs=signs) is Code.SIGN_IN_INVALID
    assert await refusal("", asked(*cookies), signs=signs) is Code.SIGN_IN_INVALID
    assert await refusal(begin("/", NOW).state, asked(*cookies), signs=signs) is Code.SIGN_IN_INVALID
    assert await refusal(pending.state, asked(*cookies), NOW + LASTS, signs) is Code.SIGN_IN_INVALID
    assert await refusal(pending.state, asked(*cookies), NOW - 1, signs) is Code.SIGN_IN_INVALID
    name = cookies[0].partition(b"=")[0]
    assert await signs.end(pending, NOW) == (name + b"=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0",)
    assert await refusal(pending.state, asked(*cookies), signs=signs) is Code.SIGN_IN_INVALID


async def test_of_many_that_end_it_at_once_one_does() -> None:
    signs, pending = new_signs(), begin("/", NOW)
    ends = await asyncio.gather(*(signs.end(pending, NOW) for _ in range(400)), return_exceptions=True)
    refused = [end for end in ends if isinstance(end, Refused)]
    assert (len(refused), {each.code for each in refused}) == (399, {Code.SIGN_IN_INVALID})


async def test_an_ended_one_is_remembered_as_long_as_its_cookie_opens() -> None:
    ledger, pending = LocalLedger(), begin("/", NOW)
    signs = PendingSignIns(SEAL, ledger)
    cookies = kept(signs.cookies(pending, asked()))
    await signs.end(pending, NOW + 1)
    assert await refusal(pending.state, asked(*cookies), NOW + LASTS - 1, signs) is Code.SIGN_IN_INVALID
    assert not await ledger.is_spent(f"state:{pending.state}", NOW + LASTS)


@pytest.mark.parametrize(
    "record",
    [b"", b"[]", b"{}", b"x", json.dumps([1, "s", "n", "v", "/", 0, None, ""]).encode(), json.dumps([2, "s"]).encode()],
)
async def test_a_record_of_another_version_is_refused(record: bytes) -> None:
    pending = begin("/", NOW)
    name = kept(new_signs().cookies(pending, asked()))[0].partition(b"=")[0]
    forged = name + b"=" + SEAL.seal("login", record).encode()
    assert await refusal(pending.state, asked(forged)) is Code.SIGN_IN_INVALID


async def test_a_cookie_for_another_purpose_or_of_another_sign_in_is_none() -> None:
    signs, one, two = new_signs(), begin("/", NOW), begin("/", NOW)
    name = kept(signs.cookies(one, asked()))[0].partition(b"=")[0]
    other = kept(signs.cookies(two, asked()))[0].partition(b"=")[2]
    record = json.dumps([2, *one]).encode()
    assert await refusal(one.state, asked(name + b"=" + other)) is Code.SIGN_IN_INVALID
    assert await refusal(one.state, asked(name + b"=" + SEAL.seal("session", record).encode())) is Code.SIGN_IN_INVALID


async def test_tabs_do_not_disturb_each_other_and_of_too_many_the_first_ends() -> None:
    signs, cookies, begun = new_signs(), list[bytes](), []
    for at in range(9):
        pending = begin("/", NOW + at)
        values = signs.cookies(pending, asked(*cookies))
        assert len(values) == 1
        cookies += kept(values)
        begun.append(pending)
    for pending in begun:
        assert await signs.find(pending.state, asked(*cookies), NOW + 9) == pending
    values = signs.cookies(begin("/", NOW + 9), asked(*cookies))
    assert [value.partition(b"=")[0] for value in values[1:]] == [cookies[0].partition(b"=")[0]]
    assert b"Max-Age=0" in values[1]
    assert sum(len(cookie) + 2 for cookie in cookies) < 4096


def test_what_nobody_can_go_on_with_is_cleared_and_large_ones_take_no_more_room() -> None:
    signs = new_signs()
    old, *large = [
        kept(signs.cookies(begin("/" + "x" * size, NOW + at), asked()))[0] for at, size in enumerate((9, 2000, 2000))
    ]
    stray = b"__Host-login.0badc0de=stray"
    values = signs.cookies(begin("/", NOW + LASTS), asked(old, *large, stray))
    assert {value.partition(b"=")[0] for value in values[1:]} == {
        cookie.partition(b"=")[0] for cookie in (old, large[0], stray)
    }


@pytest.mark.parametrize(
    ("to", "fits"),
    [
        ("/docs?" + "a" * 2000, "/docs?" + "a" * 2000), ("/docs?" + "a" * 2900, "/docs"), ("/docs?" + "a" * 8000, "/docs"),
        ("/" + "d" * 3000 + "?a=b", "/"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("challenge", [None, Challenge("SMS_MFA", "s" * 2048, "alice", {"to": "+*9"})])
async def test_a_way_back_that_no_cookie_holds_is_cut(to: str, fits: str, challenge: Challenge | None) -> None:
    signs = new_signs()
    pending = begin(to, NOW)._replace(challenge=challenge)
    values = signs.cookies(pending, asked())
    assert len(values[0]) <= 4096
    found = await signs.find(pending.state, asked(*kept(values)), NOW)
    assert found == signs.fitted(pending)
    assert found.to == (fits if challenge is None else fits.partition("?")[0])


def test_state_nonce_and_verifier_are_new_and_long_enough() -> None:
    one, two = begin("/", NOW), begin("/", NOW)
    assert len({*one[:3], *two[:3]}) == 6
    # RFC 7636 section 4.1: 43 to 128 characters
    assert all(43 <= len(value) <= 128 for value in one[:3])


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("/", "/"), ("/docs/1?a=b&c=%20", "/docs/1?a=b&c=%20"), ("/%64ocs", "/docs"), ("/_sidecar/console", "/_sidecar/console"),
        ("/_sidecar/console?path=/x", "/_sidecar/console?path=/x"),
    ],
)  # fmt: skip
def test_a_path_of_this_host_is_gone_back_to(text: str, target: str) -> None:
    assert safe_target(text) == target


_HOSTS = (
    "evil.test",
    "evil.test/x",
    "evil.test:80",
    "user@evil.test",
    "[::1]",
    "evil%2etest",
    "evil。test",
    "\u2025evil.test",
)
_BEFORE = (
    "//", "///", "////", "/\\", "\\\\", "\\/", "/\\/", "/%5c", "/%2f", "/%2F/", "/\t/", "/\n/", "/\r/", "/%09/", "/%0a/", "/%0d/", " //",
    "\t//", "http://", "https://", "HTTPS:", "http:", "//http://", "javascript://", "javascript:alert(1)//", "data:text/html,", "ftp://",
    "/.//", "/..//", "/;/", "/;//", "/%2e%2e//", "/.%2e//", "/x//", "/%00//", "/\x00//", "%2f%2f", "%5c%5c", "https:/", "https:\\\\", "/%252f",
    "/%255c", "//%5c", "/\u2028/", "/\u00a0/", "/\ufeff/", "blob:", "view-source:", "?//", "#//", "/#//", "/x#//", "@", "/_sidecar/callback?x=",
    "/_sidecar/login?return_to=//", "/_sidecar/logout#", "/%5fsidecar/logout?", "mailto:", "tel:", ".", "..//", "~//", "/%e3%80%82//", "/%ff//",
    "/%//", "/%2//",
)  # fmt: skip
REDIRECTS = [before + host for before in _BEFORE for host in _HOSTS]


def test_more_than_500_strings_stay_home() -> None:
    assert len(set(REDIRECTS)) >= 500
    for text in REDIRECTS:
        target = safe_target(text)
        assert stays_home(target), (text, target)
        assert not target.startswith("/_sidecar/"), text


def stays_home(target: str) -> bool:
    """Whether any reading of a Location gives a path of the same host (RFC 3986 section 4.2, WHATWG URL)."""
    return (
        target.startswith("/")
        and not target.startswith(("//", "/\\"))
        and target.isascii()
        and target.isprintable()
        and "\\" not in target
        and " " not in target
    )


@given(st.text(max_size=40))
def test_whatever_is_asked_for_stays_home(text: str) -> None:
    assert stays_home(safe_target(text))
    assert stays_home(safe_target("/" + text))
