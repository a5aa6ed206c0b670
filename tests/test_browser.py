"""What a sign-in proves: tokens of one user, of our app client, and of this sign-in."""

from __future__ import annotations

from typing import Any

import pytest
from jwt import PyJWK

from sidecar.browser import Browser
from sidecar.clients.provider import Grant
from sidecar.gate.identity import Issuer, PrincipalRules, Tokens
from sidecar.gate.verdict import Code, Refused
from sidecar.settings import read_settings
from tests.tokens import CLIENT, ISSUER, claims, mint, public_key

NOW = 1_700_000_000.0
NONCE = "the-nonce-of-this-sign-in"
SETTINGS = read_settings(
    {
        "SIDECAR_UPSTREAM": "http://127.0.0.1:9", "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_AbC",
        "AWS_COGNITO_CLIENT_ID": CLIENT, "AWS_COGNITO_DOMAIN": "contacts", "SIDECAR_HOSTS": "app.test",
        "SIDECAR_SESSION_SECRET": "0123456789abcdef0123456789abcdef",
    },
    {},
)  # fmt: skip


async def find(issuer: str, kid: str) -> PyJWK:
    return public_key("k1")


def browser(use: str = "access", issuers: dict[str, Issuer] | None = None) -> Browser:
    trusted = issuers or {ISSUER: Issuer(ISSUER, frozenset([CLIENT, "other"]), frozenset([use]))}
    tokens = Tokens(trusted, PrincipalRules(), find)
    return Browser(SETTINGS, lambda: tokens, lambda dep, fault: None, lambda: NOW)


def access(**more: Any) -> str:
    return mint(claims(NOW, username="alice", **more)).decode()


def identity(**more: Any) -> str:
    made = {key: value for key, value in claims(NOW).items() if key not in ("client_id", "scope")}
    return mint(
        {**made, "token_use": "id", "aud": CLIENT, "nonce": NONCE, "cognito:username": "alice", **more}
    ).decode()


async def test_tokens_that_belong_together_sign_in() -> None:
    signed_in = await browser().verify(Grant(access(), identity(), "r"), NONCE, NOW)
    assert (signed_in.principal, signed_in.username) == ("a-1", "alice")
    assert signed_in.expires == int(NOW) + 3600


async def test_an_issuer_of_id_tokens_alone_gives_the_session_one() -> None:
    token = identity()
    signed_in = await browser("id").verify(Grant("opaque", token, "r"), NONCE, NOW)
    assert (signed_in.token, signed_in.username) == (token, "alice")


@pytest.mark.parametrize(
    ("id_token", "nonce"),
    [
        ("", NONCE),
        (identity(nonce="of another"), NONCE),
        (identity(nonce=None), NONCE),
        (identity(nonce=[NONCE]), NONCE),
        (identity(sub="b-2"), NONCE),
        (identity(aud="other"), NONCE),
        (identity(token_use="access"), NONCE),
        (identity(iss="https://evil.test"), NONCE),
        (identity(exp=int(NOW) - 1), NONCE),
        (identity()[:-4] + "AAAA", NONCE),
        ("eyJhbGciOiJub25lIn0." + identity().split(".")[1] + ".", NONCE),
        (identity(sub="b-2"), None),
    ],
)
async def test_tokens_that_do_not_belong_to_this_sign_in_are_none(id_token: str, nonce: str | None) -> None:
    with pytest.raises(Refused) as caught:
        await browser().verify(Grant(access(), id_token, "r"), nonce, NOW)
    assert caught.value.code is Code.SIGN_IN_INVALID


@pytest.mark.parametrize(
    "token", [access(client_id="stranger"), access(exp=int(NOW)), access(iss="https://evil.test"), "x"]
)
async def test_an_access_token_that_the_gate_would_refuse_opens_no_session(token: str) -> None:
    with pytest.raises(Refused) as caught:
        await browser().verify(Grant(token, identity(), "r"), NONCE, NOW)
    assert caught.value.code is Code.SIGN_IN_INVALID


async def test_tokens_of_two_pools_do_not_belong_together() -> None:
    two = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Two"
    issuers = {name: Issuer(name, frozenset([CLIENT])) for name in (ISSUER, two)}
    with pytest.raises(Refused) as caught:
        await browser(issuers=issuers).verify(Grant(access(), identity(iss=two), "r"), NONCE, NOW)
    assert caught.value.code is Code.SIGN_IN_INVALID


async def test_keys_that_cannot_be_had_are_no_fault_of_the_persons() -> None:
    async def none(issuer: str, kid: str) -> PyJWK:
        raise Refused(Code.KEYS_UNAVAILABLE)

    tokens = Tokens({ISSUER: Issuer(ISSUER, frozenset([CLIENT]))}, PrincipalRules(), none)
    with pytest.raises(Refused) as caught:
        await Browser(SETTINGS, lambda: tokens, lambda dep, fault: None, lambda: NOW).verify(
            Grant(access(), identity(), ""), NONCE, NOW
        )
    assert caught.value.code is Code.KEYS_UNAVAILABLE
