"""`trust/alb.py`: data signed by a real P-256 key, and a key server with a switch."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt import PyJWK

from sidecar.gate.codes import Code
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.session import Presented
from sidecar.gate.verdict import Refused
from sidecar.trust.alb import (
    AGAIN_AFTER,
    FETCH_WITHIN,
    KEY_LIFE,
    MAX_DATA,
    MAX_KEYS,
    MAX_PEM,
    PER_WINDOW,
    WINDOW,
    AlbKeys,
    AlbSessions,
    key_base,
)
from tests.fakes import Behave, Clock, Reports, Web, answer, cut, drip, environment, held, raw, refusal, silence
from tests.stack import free_port
from tests.tokens import CLIENT, ISSUER, claims, mint, private_key, public_key

NOW = 1_700_000_000.0
SIGNER = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188"
KID = "6f1c9d2e-4b7a-4f0e-9c39-0d2a5b7e8f10"
OTHER_KID = "0a1c9d2e-4b7a-4f0e-9c39-0d2a5b7e8f10"
OTHER_ISSUER = "https://issuer-cognito-idp.eu-west-1.amazonaws.com/eu-west-1_TEST"
KEY = ec.generate_private_key(ec.SECP256R1())
HEADER = {"alg": "ES256", "kid": KID, "signer": SIGNER, "iss": ISSUER, "client": CLIENT, "exp": int(NOW) + 120}
ACCESS = mint(claims(NOW))


def pem(key: Any = KEY) -> bytes:
    made: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return made


def segment(value: Any, pad: bool = True) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    encoded = base64.urlsafe_b64encode(data)
    return encoded if pad else encoded.rstrip(b"=")


def signature(signed: bytes, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def data(payload: Any = None, pad: bool = True, key: ec.EllipticCurvePrivateKey = KEY, **header: Any) -> bytes:
    """What a load balancer says of alice; `header` changes its header, None takes a parameter out."""
    whole = {name: value for name, value in {**HEADER, **header}.items() if value is not None}
    said = {"sub": "a-1", "email": "a@b.c", "username": "alice"} if payload is None else payload
    signed = segment(whole, pad) + b"." + segment(said, pad)
    return signed + b"." + segment(signature(signed, key), pad)


def request(*headers: tuple[bytes, bytes]) -> Request:
    return read(Raw("GET", b"/", [(b"host", b"x"), *headers], "", "http", "r"), Reading(alb=True))


def asked(access: bytes | None = ACCESS, said: bytes | None = None) -> Request:
    """A request as it comes from a load balancer."""
    pairs = [(b"x-amzn-oidc-accesstoken", access), (b"x-amzn-oidc-data", data() if said is None else said)]
    return request(*[(name, value) for name, value in pairs if value])


async def find_key(_: str, kid: str) -> PyJWK:
    if kid == "away":
        raise Refused(Code.KEYS_UNAVAILABLE, "")
    return public_key(kid)


def tokens() -> Tokens:
    issuers = {ISSUER: Issuer(ISSUER, frozenset([CLIENT, "c2"])), OTHER_ISSUER: Issuer(OTHER_ISSUER, frozenset())}
    return Tokens(issuers, PrincipalRules(), find_key)


TOKENS = tokens()


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Web(answer(200, pem(), kind="binary/octet-stream")) as web:
        yield web


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def keys(web: Web, clock: Clock, reports: Reports) -> AsyncIterator[AlbKeys]:
    keys = AlbKeys(now=clock, report=reports, base=lambda _: web.origin)
    yield keys
    await keys.aclose()


@pytest.fixture
def sessions(keys: AlbKeys) -> AlbSessions:
    return AlbSessions((SIGNER,), keys)


# --- where the keys are ---


@pytest.mark.parametrize(
    ("signer", "base"),
    [
        (SIGNER, "https://public-keys.auth.elb.eu-west-1.amazonaws.com"),
        (
            "arn:aws-us-gov:elasticloadbalancing:us-gov-west-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188",
            "https://s3-us-gov-west-1.amazonaws.com/aws-elb-public-keys-prod-us-gov-west-1",
        ),
        (
            "arn:aws-us-gov:elasticloadbalancing:us-gov-east-1:123456789012:loadbalancer/app/web/50dc6c495c0c9188",
            "https://s3-us-gov-east-1.amazonaws.com/aws-elb-public-keys-prod-us-gov-east-1",
        ),
    ],
)
def test_where_the_keys_of_a_load_balancer_are(signer: str, base: str) -> None:
    assert key_base(signer) == base


# --- the source ---


@pytest.mark.parametrize("pad", [True, False])
async def test_a_session_of_the_load_balancer_gives_its_access_token(
    web: Web, sessions: AlbSessions, reports: Reports, pad: bool
) -> None:
    assert await sessions.present(asked(said=data(pad=pad)), NOW, TOKENS) == Presented(ACCESS)
    assert await sessions.present(asked(said=data(pad=pad, typ="JWT")), NOW, TOKENS) == Presented(ACCESS)
    assert [line for line, _ in web.asked] == [f"GET /{KID} HTTP/1.1"]
    assert reports.all == []


async def test_the_issuers_other_form_is_taken(sessions: AlbSessions) -> None:
    assert (await sessions.present(asked(said=data(iss=OTHER_ISSUER)), NOW, TOKENS)).token == ACCESS


def test_which_requests_it_reads(sessions: AlbSessions) -> None:
    assert sessions.holds(asked())
    assert sessions.holds(request((b"x-amzn-oidc-accesstoken", b"x")))
    assert sessions.holds(request((b"x-amzn-oidc-data", b"x")))
    assert not sessions.holds(request((b"x-amzn-oidc-identity", b"a-1")))


@pytest.mark.parametrize("headers", [{"x-amzn-oidc-accesstoken": ACCESS}, {"x-amzn-oidc-data": data()}])
async def test_one_of_the_two_headers_is_no_session(web: Web, sessions: AlbSessions, headers: dict[str, bytes]) -> None:
    made = request(*((name.encode(), value) for name, value in headers.items()))
    assert await refusal(sessions.present(made, NOW, TOKENS)) == Code.TOKEN_INVALID
    assert web.asked == []


OTHER_ALB = SIGNER.replace("50dc6c495c0c9188", "50dc6c495c0c9189")


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "HS256"}, {"alg": "none"}, {"alg": "RS256"}, {"alg": None}, {"typ": "at+jwt"}, {"typ": 5},
        {"signer": OTHER_ALB}, {"signer": SIGNER + "/"}, {"signer": None}, {"signer": [SIGNER]}, {"signer": SIGNER.upper()},
        {"iss": "https://evil.example"}, {"iss": None}, {"iss": [ISSUER]},
        {"client": "c2"}, {"client": "x"}, {"client": None}, {"client": [CLIENT]},
        {"exp": None}, {"exp": str(int(NOW) + 120)}, {"exp": NOW + 120.5}, {"exp": True},
        {"kid": None}, {"kid": "x"}, {"kid": KID + "\n"}, {"kid": "../" + KID}, {"kid": KID + "?x"}, {"kid": 5},
        {"kid": KID.replace("-", "")}, {"kid": KID.upper()}, {"kid": "\u0661" + KID[1:]},
        {"crit": ["exp"]}, {"jku": "https://evil.example"}, {"jwk": {}}, {"b64": False},
    ],
)  # fmt: skip
async def test_a_header_that_our_load_balancer_would_not_set_is_refused_before_a_key_is_asked_for(
    web: Web, sessions: AlbSessions, header: dict[str, Any]
) -> None:
    assert await refusal(sessions.present(asked(said=data(**header)), NOW, TOKENS)) == Code.TOKEN_INVALID
    assert web.asked == []


async def test_data_that_has_ended_is_refused(web: Web, sessions: AlbSessions) -> None:
    assert await refusal(sessions.present(asked(said=data(exp=int(NOW))), NOW, TOKENS)) == Code.TOKEN_EXPIRED
    assert web.asked == []
    assert (await sessions.present(asked(said=data(exp=int(NOW) + 1)), NOW, TOKENS)).token == ACCESS


@pytest.mark.parametrize("payload", [{"sub": "b-2"}, {"sub": None}, {}, {"sub": ["a-1"]}, {"sub": "A-1"}])
async def test_data_of_another_user_than_the_access_token_is_refused(
    sessions: AlbSessions, payload: dict[str, Any]
) -> None:
    assert await refusal(sessions.present(asked(said=data(payload)), NOW, TOKENS)) == Code.TOKEN_INVALID


async def test_data_of_another_key_is_refused(sessions: AlbSessions) -> None:
    forged = data(key=ec.generate_private_key(ec.SECP256R1()))
    assert await refusal(sessions.present(asked(said=forged), NOW, TOKENS)) == Code.TOKEN_INVALID


GOOD = data(pad=False)
SIGNED, _, SIGNATURE = GOOD.rpartition(b".")
RAW_SIGNATURE = signature(SIGNED)


@pytest.mark.parametrize(
    "said",
    [
        SIGNED + b"." + segment(RAW_SIGNATURE[:-1], False),
        SIGNED + b"." + segment(RAW_SIGNATURE + b"\0", False),
        SIGNED + b"." + segment(b"\0" * 64, False),
        SIGNED + b"." + segment(b"\xff" * 64, False),
        SIGNED + b"." + segment(KEY.sign(SIGNED, ec.ECDSA(SHA256())), False),
        SIGNED + b".",
        SIGNED,
        GOOD + b".x",
        b"x" + GOOD,
        GOOD + b"===",
        GOOD.replace(b".", b" ."),
        GOOD + b"\xff",
        b"",
        b"..",
        segment(b"[1]", False) + b"." + GOOD.partition(b".")[2],
        segment(b"{", False) + b"." + GOOD.partition(b".")[2],
        segment(b'{"alg": "ES256", "alg": "ES256"}', False) + b"." + GOOD.partition(b".")[2],
        segment(HEADER, False) + b"." + segment(b"null", False) + b"." + SIGNATURE,
        b"A" * MAX_DATA + GOOD,
    ],
)  # fmt: skip
async def test_data_that_is_not_one_signed_jwt_is_refused(sessions: AlbSessions, said: bytes) -> None:
    made = asked()
    made.seen[b"x-amzn-oidc-data"] = said
    assert await refusal(sessions.present(made, NOW, TOKENS)) == Code.TOKEN_INVALID


PAYLOAD = segment({"sub": "a-1"}, False)


def next_in_alphabet(encoded: bytes) -> bytes:
    """The same bytes to a lenient reader: the last character has another of its spare bits."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return encoded[:-1] + bytes([alphabet[alphabet.index(encoded[-1]) + 1]])


# of lengths that leave spare bits, too
HEADERS = [segment(json.dumps(HEADER).encode() + b" " * spaces, False) for spaces in range(3)]


@pytest.mark.parametrize("header", [header for header in HEADERS if len(header) % 4])
@pytest.mark.parametrize("change", [next_in_alphabet, lambda part: part + b"=" * (3 - -len(part) % 4)])
async def test_a_segment_in_another_form_is_refused_though_it_is_signed(
    sessions: AlbSessions, header: bytes, change: Any
) -> None:
    def said(first: bytes) -> Request:
        signed = first + b"." + PAYLOAD
        return asked(said=signed + b"." + segment(signature(signed), False))

    assert (await sessions.present(said(header), NOW, TOKENS)).token == ACCESS
    assert await refusal(sessions.present(said(change(header)), NOW, TOKENS)) == Code.TOKEN_INVALID


async def test_what_is_too_large_or_no_object_is_refused_though_it_is_signed(sessions: AlbSessions) -> None:
    for payload in (b"null", b'["sub"]', b'"sub"'):
        assert await refusal(sessions.present(asked(said=data(payload)), NOW, TOKENS)) == Code.TOKEN_INVALID
    rest = MAX_DATA - len(data({"sub": "a-1", "x": ""})) - 8
    for size, fits in ((rest * 3 // 4, True), (rest * 3 // 4 + 32, False)):
        made = asked(said=data({"sub": "a-1", "x": "x" * size}))
        assert (len(made.seen[b"x-amzn-oidc-data"]) <= MAX_DATA) is fits
        if fits:
            assert (await sessions.present(made, NOW, TOKENS)).token == ACCESS
        else:
            assert await refusal(sessions.present(made, NOW, TOKENS)) == Code.TOKEN_INVALID


async def test_the_signature_has_one_length(sessions: AlbSessions) -> None:
    longer = RAW_SIGNATURE[:32] + b"\0" + RAW_SIGNATURE[32:]
    made = asked(said=SIGNED + b"." + segment(longer, False))
    assert await refusal(sessions.present(made, NOW, TOKENS)) == Code.TOKEN_INVALID


async def test_the_signature_has_one_form(sessions: AlbSessions) -> None:
    assert await refusal(sessions.present(asked(said=next_in_alphabet(GOOD)), NOW, TOKENS)) == Code.TOKEN_INVALID
    assert await refusal(sessions.present(asked(said=GOOD + b"="), NOW, TOKENS)) == Code.TOKEN_INVALID
    assert (await sessions.present(asked(said=GOOD + b"=="), NOW, TOKENS)).token == ACCESS


async def test_the_standard_alphabet_is_refused_though_it_is_signed(sessions: AlbSessions) -> None:
    payload = segment({"sub": "a-1", "x": "?" * 9 + ">" * 9}, False)
    assert b"_" in payload or b"-" in payload
    signed = segment(HEADER, False) + b"." + payload.replace(b"_", b"/").replace(b"-", b"+")
    work = sessions.present(asked(said=signed + b"." + segment(signature(signed), False)), NOW, TOKENS)
    assert await refusal(work) == Code.TOKEN_INVALID


@pytest.mark.parametrize(
    ("access", "code"),
    [
        (mint(claims(NOW), kid="k2"), Code.TOKEN_INVALID),
        (mint(claims(NOW, exp=int(NOW))), Code.TOKEN_EXPIRED),
        (mint(claims(NOW, client_id="c9")), Code.TOKEN_INVALID),
        (mint(claims(NOW, token_use="id", aud=CLIENT)), Code.TOKEN_INVALID),
        (mint(claims(NOW, iss="https://evil.example")), Code.TOKEN_INVALID),
        (mint(claims(NOW), kid="away"), Code.KEYS_UNAVAILABLE),
        (b"Bearer " + ACCESS, Code.TOKEN_INVALID),
        (b"a.b.c", Code.TOKEN_INVALID),
    ],
)
async def test_only_a_user_of_the_pool_makes_us_ask_for_a_key(
    web: Web, sessions: AlbSessions, access: bytes, code: Code
) -> None:
    assert await refusal(sessions.present(asked(access), NOW, TOKENS)) == code
    assert web.asked == []


async def test_the_tokens_of_the_request_decide(sessions: AlbSessions) -> None:
    """A reload puts others in their place for the next one."""
    assert (await sessions.present(asked(), NOW, TOKENS)).token == ACCESS
    assert await refusal(sessions.present(asked(), NOW, Tokens({}, PrincipalRules(), find_key))) == Code.TOKEN_INVALID


async def test_without_its_key_nothing_is_said_of_a_session(web: Web, sessions: AlbSessions) -> None:
    web.behave = answer(500)
    assert await refusal(sessions.present(asked(), NOW, TOKENS)) == Code.KEYS_UNAVAILABLE


# --- the keys ---


async def test_a_key_is_asked_for_once_by_all_who_wait(web: Web, keys: AlbKeys) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, web.behave)
    waiting = [asyncio.ensure_future(keys.find(SIGNER, KID)) for _ in range(50)]
    await asyncio.sleep(0.05)
    waiting[0].cancel()
    gate.set()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert {key.public_numbers() for key in found[1:] if not isinstance(key, BaseException)} == {
        KEY.public_key().public_numbers()
    }
    assert len(found) - 1 == sum(not isinstance(key, BaseException) for key in found)
    assert len(web.asked) == 1


async def test_a_key_is_taken_for_a_day(web: Web, clock: Clock, keys: AlbKeys) -> None:
    await keys.find(SIGNER, KID)
    web.behave = answer(404)
    clock.advance(KEY_LIFE - 1)
    await keys.find(SIGNER, KID)
    assert len(web.asked) == 1
    clock.advance(1)
    assert await refusal(keys.find(SIGNER, KID)) == Code.TOKEN_INVALID
    assert len(web.asked) == 2


P384 = ec.generate_private_key(ec.SECP384R1())
RSA = private_key()
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
K256 = ec.generate_private_key(ec.SECP256K1())


@pytest.mark.parametrize(
    ("behave", "code", "fault"),
    [
        (answer(404), Code.TOKEN_INVALID, "unknown"),
        (answer(403, b"<Error>"), Code.TOKEN_INVALID, "unknown"),
        (answer(500), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(429), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(302, b"", "Location: /other"), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(201, pem()), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(200, pem(), "Content-Encoding: gzip"), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(200, pem() + b" " * MAX_PEM), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(200, b""), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(200, b"<html>"), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(200, pem(P384)), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(200, pem(K256)), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(200, pem(RSA)), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(200, PRIVATE), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(200, pem() + pem(P384)), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(200, b"x" + pem()), Code.KEYS_UNAVAILABLE, "unavailable"),
        (answer(200, pem().replace(b"M", b"A", 1)), Code.KEYS_UNAVAILABLE, "unavailable"),
        (cut(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + pem()), Code.KEYS_UNAVAILABLE, "unavailable"),
        (raw(b"nonsense\r\n\r\n"), Code.KEYS_UNAVAILABLE, "unavailable"),
        (cut(), Code.KEYS_UNAVAILABLE, "unavailable"),
    ],
)  # fmt: skip
async def test_a_key_that_is_not_had_is_not_asked_for_again_for_a_while(
    web: Web, clock: Clock, keys: AlbKeys, reports: Reports, behave: Behave, code: Code, fault: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    good, web.behave = web.behave, behave
    with caplog.at_level(logging.WARNING, "sidecar"):
        for _ in range(3):
            assert await refusal(keys.find(SIGNER, KID)) == code
    assert len(web.asked) == len(caplog.records) == 1
    assert reports.all == [("alb_keys", fault)]
    web.behave = good
    clock.advance(AGAIN_AFTER - 1)
    assert await refusal(keys.find(SIGNER, KID)) == code
    clock.advance(1)
    assert (await keys.find(SIGNER, KID)).curve.name == "secp256r1"


async def test_a_key_server_that_is_away_or_slow_costs_three_seconds(clock: Clock, reports: Reports) -> None:
    started = time.monotonic()
    slow = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n" + pem(), 0.1)
    async with Web(silence) as silent, Web(slow) as dripping:
        bases = [f"http://127.0.0.1:{free_port()}", silent.origin, dripping.origin]
        left = [AlbKeys(now=clock, report=reports, base=lambda _, base=base: base) for base in bases]  # type: ignore[misc]
        codes = await asyncio.gather(*(refusal(keys.find(SIGNER, KID)) for keys in left))
        await asyncio.gather(*(keys.aclose() for keys in left))
    assert codes == [Code.KEYS_UNAVAILABLE] * 3
    assert time.monotonic() - started < FETCH_WITHIN + 10


def kid(number: int) -> str:
    return f"{number:08x}{KID[8:]}"


async def test_a_flood_of_made_up_keys_costs_ten_fetches_a_minute(web: Web, clock: Clock, keys: AlbKeys) -> None:
    await keys.find(SIGNER, KID)
    web.behave = answer(404)
    codes = [await refusal(keys.find(SIGNER, kid(number))) for number in range(50)]
    assert codes == [Code.TOKEN_INVALID] * (PER_WINDOW - 1) + [Code.KEYS_UNAVAILABLE] * (51 - PER_WINDOW)
    assert len(web.asked) == PER_WINDOW
    # a known key is none of it
    await keys.find(SIGNER, KID)
    clock.advance(WINDOW)
    assert await refusal(keys.find(SIGNER, kid(99))) == Code.TOKEN_INVALID
    assert len(web.asked) == PER_WINDOW + 1


async def test_who_waits_for_a_key_that_is_on_its_way_is_none_of_the_flood(web: Web, keys: AlbKeys) -> None:
    gate = asyncio.Event()
    web.behave = held(gate, web.behave)
    flights = [asyncio.ensure_future(keys.find(SIGNER, kid(number))) for number in range(PER_WINDOW)]
    await asyncio.sleep(0.05)
    late = asyncio.ensure_future(keys.find(SIGNER, kid(0)))
    await asyncio.sleep(0.05)
    gate.set()
    assert len(await asyncio.gather(*flights, late)) == PER_WINDOW + 1
    assert len(web.asked) == PER_WINDOW


async def test_so_many_keys_are_kept(web: Web, clock: Clock, keys: AlbKeys) -> None:
    for number in range(MAX_KEYS + 1):
        await keys.find(SIGNER, kid(number))
        clock.advance(WINDOW / PER_WINDOW)
    assert len(web.asked) == MAX_KEYS + 1
    await keys.find(SIGNER, kid(1))
    await keys.find(SIGNER, kid(MAX_KEYS))
    assert len(web.asked) == MAX_KEYS + 1
    await keys.find(SIGNER, kid(0))
    assert len(web.asked) == MAX_KEYS + 2


async def test_the_keys_of_two_load_balancers_are_not_mixed(clock: Clock, reports: Reports) -> None:
    async with Web(answer(200, pem())) as here, Web(answer(404)) as there:
        keys = AlbKeys(now=clock, report=reports, base=lambda signer: (here if signer == SIGNER else there).origin)
        await keys.find(SIGNER, KID)
        assert await refusal(keys.find(OTHER_ALB, KID)) == Code.TOKEN_INVALID
        await keys.aclose()


async def test_no_proxy_of_the_environment_is_asked_and_no_cookie_kept(web: Web, clock: Clock, keys: AlbKeys) -> None:
    web.behave = answer(200, pem(), "Set-Cookie: a=b; Path=/")
    async with Web(answer(200, pem())) as proxy:
        with environment(HTTP_PROXY=proxy.origin, ALL_PROXY=proxy.origin, NO_PROXY=""):
            for number in range(3):
                await keys.find(SIGNER, kid(number))
        assert (len(proxy.asked), len(web.asked), web.connections) == (0, 3, 3)
    assert all("cookie" not in headers for _, headers in web.asked)


async def test_closing_ends_what_is_on_its_way(clock: Clock, reports: Reports) -> None:
    async with Web(silence) as web:
        keys = AlbKeys(now=clock, report=reports, base=lambda _: web.origin)
        waiting = asyncio.ensure_future(refusal(keys.find(SIGNER, KID)))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await keys.aclose()
        assert await waiting == Code.KEYS_UNAVAILABLE
        assert time.monotonic() - started < FETCH_WITHIN
