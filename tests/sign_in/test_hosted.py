"""`sign_in/hosted.py` against the stand-in of the hosted UI; against a scripted one for its faults."""

from __future__ import annotations

import base64
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from sidecar.demo.cognito import LocalCognito
from sidecar.demo.hosted_ui import HostedUIServer
from sidecar.gate.codes import Code
from sidecar.gate.identity import Issuer
from sidecar.sign_in.hosted import Hosted, domain_origin, s256
from sidecar.sign_in.provider import Provider, TokenSet, verify_id_token
from sidecar.trust.jwks import KeyStore
from tests.fakes import Reports, Web, answer, json_answer, refusal
from tests.signing_in import VERIFIER, Browser, parameters_of
from tests.stack import free_port

CALLBACK = "https://app.example/_sidecar/callback"
TOKENS = {
    "access_token": "a.a.a",
    "id_token": "i.i.i",
    "refresh_token": "r.r.r",
    "token_type": "Bearer",
    "expires_in": 1,
}


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with Web(json_answer(TOKENS)) as web:
        yield web


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def provider(reports: Reports) -> AsyncIterator[Provider]:
    provider = Provider(reports)
    yield provider
    await provider.aclose()


@pytest.fixture
def public(web: Web, provider: Provider) -> Hosted:
    return Hosted(web.origin, "c1", (), provider)


@pytest.fixture
def confidential(web: Web, provider: Provider) -> Hosted:
    return Hosted(web.origin, "c1", ("canary+secret/",), provider)


def form(web: Web) -> dict[str, str]:
    """The one form that was sent, each field once."""
    assert len(web.bodies) == 1
    pairs = parse_qsl(web.bodies[0].decode(), keep_blank_values=True, strict_parsing=True)
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


@pytest.mark.parametrize(
    ("domain", "region", "origin"),
    [
        ("shop", "eu-west-1", "https://shop.auth.eu-west-1.amazoncognito.com"),
        ("shop", "us-gov-west-1", "https://shop.auth-fips.us-gov-west-1.amazoncognito.com"),
        ("https://login.shop.example", "eu-west-1", "https://login.shop.example"),
        ("https://login.shop.example/", "us-gov-west-1", "https://login.shop.example"),
        ("http://127.0.0.1:9000", "eu-west-1", "http://127.0.0.1:9000"),
    ],
)
def test_where_the_hosted_ui_is(domain: str, region: str, origin: str) -> None:
    assert domain_origin(domain, region) == origin


def test_the_challenge_of_a_verifier() -> None:
    """RFC 7636, appendix B."""
    assert s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_a_browser_is_sent_to_sign_in(provider: Provider) -> None:
    hosted = Hosted("https://shop.example", "c1", ("canary",), provider)
    url = hosted.authorize_url("s&1", "n 1", "ch", CALLBACK)
    assert url.startswith("https://shop.example/oauth2/authorize?")
    assert "+" not in url
    assert "canary" not in url
    assert parse_qs(urlsplit(url).query, keep_blank_values=True) == {
        "response_type": ["code"], "client_id": ["c1"], "redirect_uri": [CALLBACK], "state": ["s&1"], "nonce": ["n 1"],
        "scope": ["openid"], "code_challenge": ["ch"], "code_challenge_method": ["S256"],
    }  # fmt: skip


def test_a_browser_may_be_sent_straight_to_an_identity_provider(provider: Provider) -> None:
    hosted = Hosted("https://shop.example", "c1", (), provider, scopes=("openid", "email"))
    url = hosted.authorize_url(
        "s", "n", "ch", CALLBACK, identity_provider="Corp&state=x#", idp_identifier="corp.example", lang="de",
    )  # fmt: skip
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    assert (query["identity_provider"], query["idp_identifier"]) == (["Corp&state=x#"], ["corp.example"])
    assert (query["lang"], query["scope"], query["state"]) == (["de"], ["openid email"], ["s"])
    assert urlsplit(url).fragment == ""


def test_a_browser_is_sent_to_sign_out(provider: Provider) -> None:
    url = Hosted("https://shop.example", "c1", (), provider).logout_url("https://app.example/bye?a=b")
    assert url.startswith("https://shop.example/logout?")
    assert parse_qs(urlsplit(url).query) == {"client_id": ["c1"], "logout_uri": ["https://app.example/bye?a=b"]}


async def test_a_code_is_exchanged_by_a_public_client(web: Web, public: Hosted) -> None:
    assert await public.exchange("c&d", "ver", CALLBACK) == TokenSet("a.a.a", "i.i.i", "r.r.r")
    line, headers = web.asked[0]
    assert line == "POST /oauth2/token HTTP/1.1"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert "authorization" not in headers
    assert form(web) == {
        "grant_type": "authorization_code", "client_id": "c1", "code": "c&d", "code_verifier": "ver",
        "redirect_uri": CALLBACK,
    }  # fmt: skip


async def test_a_confidential_client_says_who_it_is(web: Web, confidential: Hosted) -> None:
    await confidential.exchange("c", "ver", CALLBACK)
    scheme, _, pair = web.asked[0][1]["authorization"].partition(" ")
    assert (scheme, base64.b64decode(pair)) == ("Basic", b"c1:canary+secret/")
    assert b"canary" not in web.bodies[0]


async def test_a_refresh_keeps_the_refresh_token_or_gives_a_new_one(web: Web, public: Hosted) -> None:
    web.behave = json_answer({name: TOKENS[name] for name in ("access_token", "id_token", "token_type")})
    assert await public.refresh("old+1") == TokenSet("a.a.a", "i.i.i", "")
    assert form(web) == {"grant_type": "refresh_token", "client_id": "c1", "refresh_token": "old+1"}
    web.behave = json_answer(TOKENS)
    assert (await public.refresh("old")).refresh_token == "r.r.r"


async def test_a_refresh_may_come_without_an_id_token(web: Web, public: Hosted) -> None:
    web.behave = json_answer({"access_token": "a.a.a", "token_type": "bearer"})
    assert await public.refresh("old") == TokenSet("a.a.a", "", "")


async def test_a_sign_in_without_an_id_token_is_none(web: Web, public: Hosted, reports: Reports) -> None:
    web.behave = json_answer({"access_token": "a.a.a", "token_type": "Bearer"})
    assert await refusal(public.exchange("c", "v", CALLBACK)) == Code.IDP_BAD_ANSWER
    assert reports.all == [("idp", "bad_answer")]


@pytest.mark.parametrize("behave", [answer(200, b""), answer(200, b"", kind="text/plain"), json_answer({})])
async def test_a_refresh_token_is_revoked(web: Web, confidential: Hosted, behave: Any) -> None:
    web.behave = behave
    await confidential.revoke("r.r.r")
    assert web.asked[0][0] == "POST /oauth2/revoke HTTP/1.1"
    assert web.asked[0][1]["authorization"].startswith("Basic ")
    assert form(web) == {"token": "r.r.r", "client_id": "c1"}


async def test_a_revocation_that_failed_is_told(web: Web, public: Hosted, reports: Reports) -> None:
    for error in ("unsupported_token_type", "invalid_grant", "invalid_client"):
        web.behave = json_answer({"error": error}, 400)
        assert await refusal(public.revoke("r")) == Code.IDP_BAD_ANSWER
    assert reports.all == [("idp", "bad_answer")] * 3
    web.behave = answer(500)
    assert await refusal(public.revoke("r")) == Code.IDP_UNAVAILABLE


Ask = Callable[[Hosted], Awaitable[object]]
EXCHANGE: Ask = lambda hosted: hosted.exchange("canary-code", "canary-verifier", CALLBACK)  # noqa: E731
REFRESH: Ask = lambda hosted: hosted.refresh("canary-refresh")  # noqa: E731


@pytest.mark.parametrize(
    ("ask", "behave", "code"),
    [
        (EXCHANGE, json_answer({"error": "invalid_grant"}, 400), Code.SIGN_IN_INVALID),
        (REFRESH, json_answer({"error": "invalid_grant", "error_description": "x"}, 400), Code.SESSION_EXPIRED),
        (EXCHANGE, json_answer({"error": "invalid_client"}, 400), Code.IDP_BAD_ANSWER),
        (REFRESH, json_answer({"error": "invalid_client"}, 401), Code.IDP_BAD_ANSWER),
        (EXCHANGE, json_answer({"error": "unauthorized_client"}, 400), Code.IDP_BAD_ANSWER),
        (REFRESH, json_answer({"error": "invalid_request"}, 400), Code.IDP_BAD_ANSWER),
        (REFRESH, json_answer({"error": ["invalid_grant"]}, 400), Code.IDP_BAD_ANSWER),
        (REFRESH, json_answer({"error": "x\ncanary line"}, 400), Code.IDP_BAD_ANSWER),
        (REFRESH, json_answer({}, 400), Code.IDP_BAD_ANSWER),
        (REFRESH, answer(400, b"invalid_grant", kind="text/plain"), Code.IDP_BAD_ANSWER),
        (REFRESH, json_answer({"error": "invalid_grant"}, 200), Code.IDP_BAD_ANSWER),
        (REFRESH, json_answer({"error": "invalid_grant"}, 500), Code.IDP_UNAVAILABLE),
        (REFRESH, json_answer({"error": "invalid_grant"}, 429), Code.IDP_UNAVAILABLE),
        (EXCHANGE, answer(302, b"", "Location: /login"), Code.IDP_BAD_ANSWER),
        (EXCHANGE, json_answer({**TOKENS, "token_type": "mac"}), Code.IDP_BAD_ANSWER),
        (EXCHANGE, json_answer({**TOKENS, "token_type": None}), Code.IDP_BAD_ANSWER),
        (EXCHANGE, json_answer({**TOKENS, "access_token": ""}), Code.IDP_BAD_ANSWER),
        (EXCHANGE, json_answer({**TOKENS, "access_token": 5}), Code.IDP_BAD_ANSWER),
        (EXCHANGE, json_answer({**TOKENS, "id_token": "canary\r\n"}), Code.IDP_BAD_ANSWER),
        (REFRESH, json_answer({**TOKENS, "refresh_token": ["canary"]}), Code.IDP_BAD_ANSWER),
    ],
)  # fmt: skip
async def test_what_a_failure_is(
    web: Web, provider: Provider, ask: Ask, behave: Any, code: Code, caplog: pytest.LogCaptureFixture
) -> None:
    web.behave = behave
    hosted = Hosted(web.origin, "c1", ("canary-secret",), provider)
    with caplog.at_level(logging.DEBUG, "sidecar"):
        assert await refusal(ask(hosted)) == code
    # what is a person's is no fault of the provider
    assert len(caplog.records) == (code in (Code.IDP_BAD_ANSWER, Code.IDP_UNAVAILABLE))
    assert "canary" not in caplog.text


async def test_a_secret_that_does_not_fit_is_told_to_the_operator(
    web: Web, public: Hosted, caplog: pytest.LogCaptureFixture
) -> None:
    web.behave = json_answer({"error": "invalid_client"}, 400)
    assert await refusal(public.refresh("r")) == Code.IDP_BAD_ANSWER
    assert "AWS_COGNITO_CLIENT_SECRET" in caplog.text


# --- the stand-in of the hosted UI ---


@pytest.fixture(scope="module")
def ui(cognito: LocalCognito, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostedUIServer]:
    """It rotates refresh tokens."""
    with HostedUIServer(
        cognito, free_port(), tmp_path_factory.mktemp("ui"), os.environ, redirect_uris=[CALLBACK],
        logout_uris=["https://app.example/"], rotation_grace=0.0,
    ) as running:  # fmt: skip
        yield running


@pytest.mark.parametrize("is_public", [True, False])
async def test_a_person_signs_in_goes_on_and_out(
    cognito: LocalCognito, ui: HostedUIServer, provider: Provider, is_public: bool
) -> None:
    confidential = (cognito.confidential_client_id, cognito.confidential_client_secret)
    client, secret = (cognito.client_id, "") if is_public else confidential
    origin, secrets = domain_origin(ui.domain, cognito.region), [secret] if secret else []
    hosted = Hosted(origin, client, secrets, provider, scopes=("openid", "email"))
    url = hosted.authorize_url("state-1", "nonce-1", s256(VERIFIER), CALLBACK)
    browser = Browser()
    back = browser.sign_in(url, "alice", "Alice-1234")
    assert back.headers["location"].startswith(f"{CALLBACK}?")
    query = parameters_of(back)
    assert query["state"] == "state-1"
    assert await refusal(hosted.exchange("made-up", VERIFIER, CALLBACK)) == Code.SIGN_IN_INVALID
    grant = await hosted.exchange(query["code"], VERIFIER, CALLBACK)
    assert await refusal(hosted.exchange(query["code"], VERIFIER, CALLBACK)) == Code.SIGN_IN_INVALID
    keys = KeyStore(
        {cognito.issuer: f"{cognito.endpoint}/{cognito.pool_id}/.well-known/jwks.json"}, [[cognito.issuer]],
        now=time.monotonic, report=Reports(),
    )  # fmt: skip
    issuers = {cognito.issuer: Issuer(cognito.issuer, frozenset([client]))}
    try:
        said = await verify_id_token(grant, issuers, client, keys.find, time.time(), "nonce-1")
        assert said.identity["cognito:username"] == "alice"
        other = verify_id_token(grant, issuers, client, keys.find, time.time(), "nonce-2")
        assert await refusal(other) == Code.SIGN_IN_INVALID
    finally:
        await keys.aclose()


async def test_a_rotated_refresh_token_is_new_and_a_revoked_one_ends_the_session(
    cognito: LocalCognito, ui: HostedUIServer, provider: Provider
) -> None:
    hosted = Hosted(ui.domain, cognito.client_id, (), provider)
    url = hosted.authorize_url("s", "n", s256(VERIFIER), CALLBACK)
    code = parameters_of(Browser().sign_in(url, "alice", "Alice-1234"))["code"]
    first = await hosted.exchange(code, VERIFIER, CALLBACK)
    second = await hosted.refresh(first.refresh_token)
    assert second.refresh_token not in ("", first.refresh_token)
    await hosted.revoke(second.refresh_token)
    assert await refusal(hosted.refresh(second.refresh_token)) == Code.SESSION_EXPIRED


async def test_of_two_secrets_the_one_that_fits_is_found_and_kept(
    cognito: LocalCognito, ui: HostedUIServer, provider: Provider, reports: Reports, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = ("canary-retired", cognito.confidential_client_secret)
    hosted = Hosted(ui.domain, cognito.confidential_client_id, secrets, provider)
    url = hosted.authorize_url("s", "n", s256(VERIFIER), CALLBACK)
    code = parameters_of(Browser().sign_in(url, "alice", "Alice-1234"))["code"]
    grant = await hosted.exchange(code, VERIFIER, CALLBACK)
    grant = await hosted.refresh(grant.refresh_token)
    await hosted.revoke(grant.refresh_token)
    assert (len(caplog.records), reports.all) == (1, [])
    assert "AWS_COGNITO_CLIENT_SECRET" in caplog.text
    assert "canary" not in caplog.text


async def test_a_browser_comes_back_from_the_sign_out(
    cognito: LocalCognito, ui: HostedUIServer, provider: Provider
) -> None:
    hosted = Hosted(ui.domain, cognito.client_id, (), provider)
    back = Browser().open(hosted.logout_url("https://app.example/"))
    assert (back.status_code, back.headers["location"]) == (302, "https://app.example/")
