"""Tokens of cases: real ones of a trusted issuer, which the gate verifies as any other."""

from __future__ import annotations

from typing import Any

import jwt
import pytest

from sidecar.gate.claims import Claim
from sidecar.gate.codes import Code
from sidecar.gate.identity import Issuer, PrincipalRules
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.verdict import Refused
from sidecar.run.case_tokens import LIFETIME, CaseKey, CaseTokens

NOW = 1_796_000_000.0
ISSUERS = {
    "https://a": Issuer("https://a", frozenset(["web", "app"])),
    "https://b": Issuer("https://b", frozenset(["b"]), frozenset(["id"])),
}
KEY = CaseKey()


def request(token: bytes) -> Request:
    headers = [(b"host", b"x"), (b"authorization", b"Bearer " + token)]
    return read(Raw("GET", b"/", headers, "", "http", "r"), Reading())


def said(claims: dict[str, Any]) -> dict[str, Any]:
    return dict(jwt.decode(KEY.token(claims, ISSUERS, NOW), options={"verify_signature": False}))


def test_a_token_says_what_its_claims_say_and_what_its_issuer_adds() -> None:
    usual = {"iat": int(NOW), "exp": int(NOW) + LIFETIME}
    assert said({"sub": "a"}) == {"sub": "a", **usual, "iss": "https://a", "token_use": "access", "client_id": "app"}
    assert said({"iss": "https://b"}) == {**usual, "iss": "https://b", "token_use": "id", "aud": "b"}
    assert said({"iss": "https://c", "exp": 5}) == {"iss": "https://c", "iat": int(NOW), "exp": 5}
    assert said({"client_id": "other"})["client_id"] == "other"


async def test_it_is_verified_as_any_other() -> None:
    tokens = CaseTokens(ISSUERS, PrincipalRules(), KEY)
    principal = await tokens.principal_of(
        request(KEY.token({"sub": "a", "cognito:groups": ["user"]}, ISSUERS, NOW)), NOW
    )
    assert (principal.id, principal.roles, principal.issuer) == ("a", ("user",), "https://a")
    for claims, code in (
        ({"sub": "a", "exp": int(NOW)}, Code.TOKEN_EXPIRED), ({"sub": "a", "client_id": "x"}, Code.TOKEN_INVALID),
        ({"sub": "a", "iss": "https://c"}, Code.TOKEN_INVALID), ({}, Code.TOKEN_INVALID),
    ):  # fmt: skip
        with pytest.raises(Refused) as caught:
            await tokens.principal_of(request(KEY.token(claims, ISSUERS, NOW)), NOW)
        assert caught.value.code is code


async def test_a_token_of_another_key_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        await CaseTokens(ISSUERS, PrincipalRules(), KEY).principal_of(
            request(CaseKey().token({"sub": "a"}, ISSUERS, NOW)), NOW
        )
    assert caught.value.detail == "the signature"


async def test_claims_are_those_of_an_id_token_too() -> None:
    rules = PrincipalRules(attributes={"email": Claim("email", None, from_id=True)}, default_roles=("user",))
    token = KEY.token({"sub": "a", "email": "a@x"}, ISSUERS, NOW)
    principal = await CaseTokens(ISSUERS, rules, KEY).principal_of(request(token), NOW)
    assert (principal.attributes, principal.incomplete) == ({"email": "a@x"}, None)
