"""`sign_in/user_pool.py` against moto's Cognito; against a scripted one for what moto cannot show."""

from __future__ import annotations

import asyncio
import base64
import calendar
import hashlib
import hmac
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import jwt
import pytest

from sidecar.demo.cognito import LocalCognito
from sidecar.gate.codes import Code
from sidecar.gate.identity import Issuer
from sidecar.gate.verdict import Refused
from sidecar.sign_in.challenges import MAX_MESSAGE
from sidecar.sign_in.provider import (
    ASK_WITHIN,
    Challenge,
    Provider,
    SignInError,
    SignInFailed,
    TokenSet,
    verify_id_token,
)
from sidecar.sign_in.user_pool import UserPool, api_endpoint
from sidecar.trust.jwks import KeyStore
from tests.fakes import Behave, Reports, Web, answer, json_answer, refusal, without

PASSWORD = "Canary-1234"


@dataclass
class Pool:
    """A pool of moto's with a public and a confidential app client. `api` is boto3's, with rights."""

    api: Any
    endpoint: str
    pool_id: str
    public: str
    confidential: str
    secret: str

    def user(self, name: str, permanent: bool = True) -> None:
        """Make a user with PASSWORD, which without `permanent` must be changed."""
        self.api.admin_create_user(UserPoolId=self.pool_id, Username=name, MessageAction="SUPPRESS")
        self.api.admin_set_user_password(
            UserPoolId=self.pool_id, Username=name, Password=PASSWORD, Permanent=permanent
        )  # fmt: skip

    @asynccontextmanager
    async def client(self, *, srp: bool = True, confidential: bool = False) -> AsyncIterator[UserPool]:
        """One of its app clients, as the sidecar has it."""
        client, secret = (self.confidential, self.secret) if confidential else (self.public, "")
        async with user_pool(self.endpoint, self.pool_id, client, secret, srp=srp) as pool:
            yield pool


@asynccontextmanager
async def user_pool(
    endpoint: str, pool_id: str = "eu-west-1_X", client: str = "c1", secret: str = "", *, srp: bool = False
) -> AsyncIterator[UserPool]:
    provider = Provider(Reports())
    secrets = secret.split(",") if secret else []
    pool = UserPool(api_endpoint("eu-west-1", endpoint), pool_id, client, secrets, provider, srp=srp, now=time.time)
    try:
        yield pool
    finally:
        await pool.aclose()
        await provider.aclose()


@pytest.fixture(scope="module")
def moto(cognito: LocalCognito) -> Iterator[Pool]:
    api = boto3.client(
        "cognito-idp", region_name=cognito.region, endpoint_url=cognito.endpoint, aws_access_key_id="x",
        aws_secret_access_key="x",
    )  # fmt: skip
    pool_id = api.create_user_pool(PoolName="form")["UserPool"]["Id"]
    made = [
        api.create_user_pool_client(UserPoolId=pool_id, ClientName=str(secret), GenerateSecret=secret)["UserPoolClient"]
        for secret in (False, True)
    ]
    pool = Pool(api, cognito.endpoint, pool_id, made[0]["ClientId"], made[1]["ClientId"], made[1]["ClientSecret"])
    pool.user("alice")
    yield pool
    api.close()


def claims(token: str) -> dict[str, Any]:
    said: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return said


async def failure(work: Any) -> SignInError:
    with pytest.raises(SignInFailed) as failed:
        await work
    return failed.value.reason


# --- moto ---


@pytest.mark.parametrize("confidential", [False, True])
@pytest.mark.parametrize("srp", [False, True])
async def test_a_person_signs_in(moto: Pool, srp: bool, confidential: bool) -> None:
    async with moto.client(srp=srp, confidential=confidential) as pool:
        grant = await pool.sign_in("alice", PASSWORD)
        assert isinstance(grant, TokenSet)
        assert claims(grant.access_token)["username"] == "alice"
        assert claims(grant.id_token)["cognito:username"] == "alice"
        assert grant.refresh_token


async def test_the_tokens_of_a_sign_in_are_verified(moto: Pool) -> None:
    issuer = f"https://cognito-idp.eu-west-1.amazonaws.com/{moto.pool_id}"
    url = f"{moto.endpoint}/{moto.pool_id}/.well-known/jwks.json"
    keys = KeyStore({issuer: url}, [[issuer]], now=time.monotonic, report=Reports())
    try:
        async with moto.client() as pool:
            grant = await pool.sign_in("alice", PASSWORD)
        assert isinstance(grant, TokenSet)
        issuers = {issuer: Issuer(issuer, frozenset([moto.public]))}
        signed_in = await verify_id_token(grant, issuers, moto.public, keys.find, time.time(), None)
        assert signed_in.access["sub"] == signed_in.identity["sub"]
        work = verify_id_token(grant, issuers, moto.confidential, keys.find, time.time(), None)
        assert await refusal(work) == Code.SIGN_IN_INVALID
    finally:
        await keys.aclose()


async def test_a_wrong_password_and_an_unknown_user_are_one_and_the_same(moto: Pool) -> None:
    async with moto.client(srp=False) as pool:
        assert await failure(pool.sign_in("alice", "Wrong-1234")) == SignInError.WRONG_PASSWORD
        assert await failure(pool.sign_in("nobody", PASSWORD)) == SignInError.WRONG_PASSWORD
    async with moto.client() as pool:
        assert await failure(pool.sign_in("nobody", PASSWORD)) == SignInError.WRONG_PASSWORD


@pytest.mark.parametrize("srp", [False, True])
async def test_a_disabled_and_an_unconfirmed_user(moto: Pool, srp: bool) -> None:
    moto.user(f"dora-{srp}")
    moto.api.admin_disable_user(UserPoolId=moto.pool_id, Username=f"dora-{srp}")
    moto.api.sign_up(ClientId=moto.public, Username=f"ulla-{srp}", Password=PASSWORD)
    async with moto.client(srp=srp) as pool:
        assert await failure(pool.sign_in(f"dora-{srp}", PASSWORD)) == SignInError.DISABLED
        assert await failure(pool.sign_in(f"ulla-{srp}", PASSWORD)) == SignInError.UNCONFIRMED


@pytest.mark.parametrize("confidential", [False, True])
@pytest.mark.parametrize("srp", [False, True])
async def test_a_new_user_must_choose_a_password(moto: Pool, srp: bool, confidential: bool) -> None:
    name = f"nora-{srp}-{confidential}"
    moto.user(name, permanent=False)
    async with moto.client(srp=srp, confidential=confidential) as pool:
        challenge = await pool.sign_in(name, PASSWORD)
        assert isinstance(challenge, Challenge)
        assert (challenge.name, challenge.username) == ("NEW_PASSWORD_REQUIRED", name)
        assert await failure(pool.respond(challenge, {"password": "short"})) == SignInError.PASSWORD_POLICY
        assert isinstance(await pool.respond(challenge, {"password": "Other-1234"}), TokenSet)
        # the session was used
        assert await failure(pool.respond(challenge, {"password": "Other-1234"})) == SignInError.EXPIRED
        assert isinstance(await pool.sign_in(name, "Other-1234"), TokenSet)


@pytest.mark.parametrize("confidential", [False, True])
async def test_a_code_is_asked_for_and_taken(moto: Pool, confidential: bool) -> None:
    name = f"mona-{confidential}"
    moto.user(name)
    setting = {"Enabled": True, "PreferredMfa": True}
    moto.api.admin_set_user_mfa_preference(UserPoolId=moto.pool_id, Username=name, SMSMfaSettings=setting)
    for srp in (False, True):
        async with moto.client(srp=srp, confidential=confidential) as pool:
            challenge = await pool.sign_in(name, PASSWORD)
            assert isinstance(challenge, Challenge)
            assert challenge.name == "SMS_MFA"
            assert await failure(pool.respond(challenge, {"code": "x"})) == SignInError.WRONG_CODE
            assert isinstance(await pool.respond(challenge, {"code": "123456"}), TokenSet)


async def test_a_client_with_another_secret_signs_nobody_in(moto: Pool) -> None:
    """moto does not say why, as the real one does (test_challenges)."""
    async with user_pool(moto.endpoint, moto.pool_id, moto.confidential, "wrong", srp=True) as pool:
        assert await failure(pool.sign_in("alice", PASSWORD)) == SignInError.WRONG_PASSWORD


async def test_an_unknown_app_client_is_the_operators_fault(moto: Pool) -> None:
    for srp in (False, True):
        async with user_pool(moto.endpoint, moto.pool_id, "gone", srp=srp) as pool:
            assert await refusal(pool.sign_in("alice", PASSWORD)) == Code.IDP_BAD_ANSWER


@pytest.mark.parametrize("confidential", [False, True])
async def test_a_session_is_refreshed(moto: Pool, confidential: bool) -> None:
    async with moto.client(confidential=confidential, srp=False) as pool:
        first = await pool.sign_in("alice", PASSWORD)
        assert isinstance(first, TokenSet)
        second = await pool.refresh(first.refresh_token, "alice")
        assert claims(second.access_token)["username"] == "alice"
        assert claims(second.access_token)["jti"] != claims(first.access_token)["jti"]
        assert second.refresh_token == ""
        assert await refusal(pool.refresh("gone", "alice")) == Code.SESSION_EXPIRED


async def test_a_token_that_is_none_signs_nobody_out(moto: Pool) -> None:
    async with moto.client(srp=False) as pool:
        assert await refusal(pool.sign_out_everywhere("canary")) == Code.SESSION_EXPIRED


# --- a script ---

RESULT = {"AccessToken": "a.a.a", "IdToken": "i.i.i", "RefreshToken": "r.r.r", "TokenType": "Bearer"}
GRANTED = json_answer({"AuthenticationResult": RESULT, "ChallengeParameters": {}})


def fails(kind: str, message: str = "", status: int = 400) -> Behave:
    return json_answer({"__type": kind, "message": message}, status)


def in_turn(*behaviours: Behave) -> Behave:
    """One after the other."""
    left = iter(behaviours)

    async def behave(writer: asyncio.StreamWriter) -> None:
        await next(left)(writer)

    return behave


def asked(web: Web) -> list[tuple[str, dict[str, Any]]]:
    """(operation, what was said) of each question."""
    targets = [headers["x-amz-target"].partition(".")[2] for _, headers in web.asked]
    return list(zip(targets, map(json.loads, web.bodies), strict=True))


def secret_hash(username: str) -> str:
    digest = hmac.digest(b"canary-secret", f"{username}c1".encode(), "sha256")
    return base64.b64encode(digest).decode()


@pytest.mark.parametrize(
    ("region", "endpoint", "url"),
    [
        ("eu-west-1", "", "https://cognito-idp.eu-west-1.amazonaws.com/"),
        ("us-gov-west-1", "", "https://cognito-idp-fips.us-gov-west-1.amazonaws.com/"),
        ("cn-north-1", "", "https://cognito-idp.cn-north-1.amazonaws.com.cn/"),
        ("eu-west-1", "http://127.0.0.1:5000", "http://127.0.0.1:5000/"),
        ("us-gov-west-1", "http://127.0.0.1:5000/", "http://127.0.0.1:5000/"),
    ],
)
def test_where_the_api_is(region: str, endpoint: str, url: str) -> None:
    assert api_endpoint(region, endpoint) == url


async def test_a_password_is_sent_where_that_is_chosen() -> None:
    async with Web(GRANTED) as web, user_pool(web.origin, secret="canary-secret") as pool:
        assert await pool.sign_in("alice", PASSWORD) == TokenSet("a.a.a", "i.i.i", "r.r.r")
    parameters = {"USERNAME": "alice", "PASSWORD": PASSWORD, "SECRET_HASH": secret_hash("alice")}
    said = {"AuthFlow": "USER_PASSWORD_AUTH", "ClientId": "c1", "AuthParameters": parameters}
    assert asked(web) == [("InitiateAuth", said)]
    line, headers = web.asked[0]
    assert line == "POST / HTTP/1.1"
    assert headers["x-amz-target"] == "AWSCognitoIdentityProviderService.InitiateAuth"
    assert headers["content-type"] == "application/x-amz-json-1.1"
    assert "authorization" not in headers


VERIFIER = {
    "ChallengeName": "PASSWORD_VERIFIER", "Session": "s-1",
    "ChallengeParameters": {
        "SALT": "ab12", "SRP_B": "ab" * 300, "USERNAME": "u-1", "USER_ID_FOR_SRP": "u-2", "SECRET_BLOCK": "YWJj"
    },
}  # fmt: skip


async def test_with_srp_no_password_is_sent_and_the_pools_own_name_is_used() -> None:
    turns = in_turn(json_answer(VERIFIER), GRANTED)
    async with Web(turns) as web, user_pool(web.origin, secret="canary-secret", srp=True) as pool:
        assert isinstance(await pool.sign_in("alice@example.com", PASSWORD), TokenSet)
    (first, started), (second, proved) = asked(web)
    assert (first, second) == ("InitiateAuth", "RespondToAuthChallenge")
    assert started["AuthFlow"] == "USER_SRP_AUTH"
    assert started["AuthParameters"].keys() == {"USERNAME", "SRP_A", "SECRET_HASH"}
    assert started["AuthParameters"]["SECRET_HASH"] == secret_hash("alice@example.com")
    assert (proved["ChallengeName"], proved["Session"], proved["ClientId"]) == ("PASSWORD_VERIFIER", "s-1", "c1")
    responses = proved["ChallengeResponses"]
    assert (responses["USERNAME"], responses["SECRET_HASH"]) == ("u-1", secret_hash("u-1"))
    sent = calendar.timegm(time.strptime(responses["TIMESTAMP"], "%a %b %d %H:%M:%S UTC %Y"))
    assert abs(time.time() - sent) < 60
    assert responses["PASSWORD_CLAIM_SECRET_BLOCK"] == "YWJj"
    assert len(base64.b64decode(responses["PASSWORD_CLAIM_SIGNATURE"])) == hashlib.sha256().digest_size
    assert PASSWORD.encode() not in b"".join(web.bodies)


async def test_a_challenge_after_the_proof_is_of_the_pools_own_name() -> None:
    mfa = json_answer({"ChallengeName": "SMS_MFA", "Session": "s-2", "ChallengeParameters": {}})
    async with Web(in_turn(json_answer(VERIFIER), mfa, GRANTED)) as web, user_pool(web.origin, srp=True) as pool:
        challenge = await pool.sign_in("alice@example.com", PASSWORD)
        assert challenge == Challenge("SMS_MFA", "s-2", "u-1", {})
        await pool.respond(challenge, {"code": "123456"})
    said = {"ChallengeName": "SMS_MFA", "ClientId": "c1", "Session": "s-2"}
    assert asked(web)[2] == (
        "RespondToAuthChallenge", {**said, "ChallengeResponses": {"USERNAME": "u-1", "SMS_MFA_CODE": "123456"}}
    )  # fmt: skip


@pytest.mark.parametrize(
    "first",
    [
        GRANTED,
        json_answer({"ChallengeName": "SMS_MFA", "Session": "s", "ChallengeParameters": {}}),
        json_answer({**VERIFIER, "ChallengeName": "SMS_MFA"}),
        json_answer({**VERIFIER, "ChallengeParameters": None}),
        json_answer({**VERIFIER, "ChallengeParameters": {**VERIFIER["ChallengeParameters"], "SRP_B": "0"}}),  # type: ignore[dict-item]
        json_answer({**VERIFIER, "ChallengeParameters": {**VERIFIER["ChallengeParameters"], "SALT": "x"}}),  # type: ignore[dict-item]
    ],
)
async def test_nothing_is_had_without_a_proof(first: Behave) -> None:
    async with Web(in_turn(first, GRANTED)) as web, user_pool(web.origin, srp=True) as pool:
        assert await refusal(pool.sign_in("alice", PASSWORD)) == Code.IDP_BAD_ANSWER
        assert len(web.asked) == 1


async def test_a_wrong_password_shows_at_the_proof() -> None:
    turns = in_turn(json_answer(VERIFIER), fails("NotAuthorizedException", "Incorrect username or password."))
    async with Web(turns) as web, user_pool(web.origin, srp=True) as pool:
        assert await failure(pool.sign_in("alice", PASSWORD)) == SignInError.WRONG_PASSWORD


@pytest.mark.parametrize(("name", "password"), [("", PASSWORD), ("a b", PASSWORD), ("alice", ""), ("alice", " x ")])
async def test_what_no_user_can_have_is_not_asked_about(name: str, password: str) -> None:
    async with Web(GRANTED) as web, user_pool(web.origin) as pool:
        assert await failure(pool.sign_in(name, password)) == SignInError.WRONG_PASSWORD
        assert web.asked == []


async def test_a_flow_that_the_app_client_does_not_allow_is_told_to_the_operator(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Web(fails("InvalidParameterException", "X is not enabled for the client.")) as web:
        for srp, flow in ((True, "ALLOW_USER_SRP_AUTH"), (False, "ALLOW_USER_PASSWORD_AUTH")):
            async with user_pool(web.origin, srp=srp) as pool:
                assert await failure(pool.sign_in("alice", PASSWORD)) == SignInError.FLOW_NOT_ALLOWED
            assert flow in caplog.text


async def test_a_policy_that_a_new_password_breaks_is_told_in_one_line() -> None:
    said = "Password did not conform with policy:\n" + "x" * 1000
    challenge = Challenge("NEW_PASSWORD_REQUIRED", "s", "alice", {})
    async with Web(fails("InvalidPasswordException", said)) as web, user_pool(web.origin) as pool:
        with pytest.raises(SignInFailed) as failed:
            await pool.respond(challenge, {"password": "Other-1234"})
    assert failed.value.reason == SignInError.PASSWORD_POLICY
    assert failed.value.message.startswith("Password did not conform with policy: xxx")
    assert len(failed.value.message) == MAX_MESSAGE


async def test_a_wrong_code_is_told() -> None:
    async with Web(fails("CodeMismatchException")) as web, user_pool(web.origin) as pool:
        challenge = Challenge("SOFTWARE_TOKEN_MFA", "s", "alice", {})
        assert await failure(pool.respond(challenge, {"code": "123456"})) == SignInError.WRONG_CODE


async def test_a_challenge_that_is_not_ours_is_not_answered() -> None:
    async with Web(GRANTED) as web, user_pool(web.origin) as pool:
        challenge = Challenge("DEVICE_SRP_AUTH", "s", "alice", {})
        assert await failure(pool.respond(challenge, {"code": "1"})) == SignInError.UNSUPPORTED_CHALLENGE
        assert web.asked == []


async def test_a_refresh_token_that_is_rotated_is_kept() -> None:
    async with Web(GRANTED) as web, user_pool(web.origin, secret="canary-secret") as pool:
        assert await pool.refresh("old", "alice") == TokenSet("a.a.a", "i.i.i", "r.r.r")
    said = {"RefreshToken": "old", "ClientId": "c1", "ClientSecret": "canary-secret"}
    assert asked(web) == [("GetTokensFromRefreshToken", said)]


async def test_a_public_client_has_no_secret_to_show() -> None:
    async with Web(GRANTED) as web, user_pool(web.origin) as pool:
        await pool.refresh("old", "alice")
        await pool.revoke("old")
        await pool.sign_in("alice", PASSWORD)
    assert b"secret" not in b"".join(web.bodies).lower()


@pytest.mark.parametrize(
    "unknown",
    [
        fails("UnknownOperationException"),
        fails("com.amazon.coral.service#UnknownOperationException"),
        answer(500, b"<html>", kind="text/html"),
        answer(501, b"", kind="text/plain"),
    ],
)
async def test_a_stand_in_without_the_operation_is_asked_the_old_way(unknown: Behave) -> None:
    async with Web(in_turn(unknown, GRANTED)) as web, user_pool(web.origin, secret="canary-secret") as pool:
        assert (await pool.refresh("old", "alice")).access_token == "a.a.a"
    parameters = {"REFRESH_TOKEN": "old", "SECRET_HASH": secret_hash("alice")}
    said = {"AuthFlow": "REFRESH_TOKEN_AUTH", "ClientId": "c1", "AuthParameters": parameters}
    assert asked(web)[1] == ("InitiateAuth", said)


@pytest.mark.parametrize(
    ("behave", "code"),
    [
        (fails("NotAuthorizedException", "Refresh Token has expired"), Code.SESSION_EXPIRED),
        (fails("RefreshTokenReuseException"), Code.SESSION_EXPIRED),
        (fails("TooManyRequestsException"), Code.IDP_UNAVAILABLE),
        (fails("InternalErrorException", status=500), Code.IDP_UNAVAILABLE),
        (answer(503, b"<html>", kind="text/html"), Code.IDP_UNAVAILABLE),
        (answer(502, b"<html>", kind="text/html"), Code.IDP_UNAVAILABLE),
        (fails("InvalidParameterException"), Code.IDP_BAD_ANSWER),
        (answer(404, b"<html>", kind="text/html"), Code.IDP_BAD_ANSWER),
        (json_answer({"ChallengeName": "SMS_MFA", "Session": "s", "ChallengeParameters": {}}), Code.IDP_BAD_ANSWER),
        (json_answer({"ChallengeName": "MFA_SETUP", "Session": "s", "ChallengeParameters": {}}), Code.IDP_BAD_ANSWER),
        (json_answer({}), Code.IDP_BAD_ANSWER),
    ],
)
async def test_a_session_that_is_not_refreshed(behave: Behave, code: Code, caplog: pytest.LogCaptureFixture) -> None:
    async with Web(behave) as web, user_pool(web.origin) as pool:
        assert await refusal(pool.refresh("old", "alice")) == code
        assert len(web.asked) == 1
    # that a session ended is no fault of the provider
    assert len(caplog.records) == (code != Code.SESSION_EXPIRED)


async def test_a_refresh_token_is_revoked() -> None:
    async with Web(answer(200, b"")) as web, user_pool(web.origin, secret="canary-secret") as pool:
        await pool.revoke("old")
        web.behave = fails("UnsupportedTokenTypeException")
        assert await refusal(pool.revoke("old")) == Code.IDP_BAD_ANSWER
    said = {"Token": "old", "ClientId": "c1", "ClientSecret": "canary-secret"}
    assert asked(web)[0] == ("RevokeToken", said)


async def test_of_two_secrets_the_one_that_fits_is_found_and_kept(caplog: pytest.LogCaptureFixture) -> None:
    refused = fails("NotAuthorizedException", "Unable to verify secret hash for client c1")
    async with Web(GRANTED) as web, user_pool(web.origin, secret="canary-retired,canary-secret") as pool:

        async def as_cognito_does(writer: asyncio.StreamWriter) -> None:
            said = json.loads(web.bodies[-1])
            given = said.get("AuthParameters", {}).get("SECRET_HASH", said.get("ClientSecret"))
            await (GRANTED if given in (secret_hash("alice"), "canary-secret") else refused)(writer)

        web.behave = as_cognito_does
        assert isinstance(await pool.sign_in("alice", PASSWORD), TokenSet)
        assert isinstance(await pool.refresh("old", "alice"), TokenSet)
        await pool.revoke("old")
    operations = [operation for operation, _ in asked(web)]
    assert operations == ["InitiateAuth", "InitiateAuth", "GetTokensFromRefreshToken", "RevokeToken"]
    assert len(caplog.records) == 1
    assert "AWS_COGNITO_CLIENT_SECRET" in caplog.text
    assert "canary" not in caplog.text


async def test_where_no_secret_fits_that_is_told(caplog: pytest.LogCaptureFixture) -> None:
    refused = fails("NotAuthorizedException", "Unable to verify secret hash for client c1")
    async with Web(refused) as web, user_pool(web.origin, secret="canary-one,canary-two") as pool:
        assert await refusal(pool.sign_in("alice", PASSWORD)) == Code.IDP_BAD_ANSWER
        assert len(web.asked) == 2
    assert "AWS_COGNITO_CLIENT_SECRET does not fit" in caplog.text


async def test_a_token_without_the_scope_signs_nobody_out_and_the_log_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused = fails("NotAuthorizedException", "Access Token does not have required scopes")
    async with Web(refused) as web, user_pool(web.origin) as pool:
        assert await refusal(pool.sign_out_everywhere("a.a.a")) == Code.IDP_BAD_ANSWER
    assert "lacks the scope aws.cognito.signin.user.admin: allow it on the app client" in caplog.text


async def test_a_person_is_signed_out_everywhere() -> None:
    async with Web(json_answer({})) as web, user_pool(web.origin, secret="canary-secret") as pool:
        await pool.sign_out_everywhere("a.a.a")
    assert asked(web) == [("GlobalSignOut", {"AccessToken": "a.a.a"})]


@pytest.mark.parametrize(
    "behave",
    [
        fails("NotAuthorizedException", "canary"), fails("ResourceNotFoundException", "canary"),
        fails("InvalidParameterException", "canary not enabled for canary"), fails("canary exception", "canary"),
        json_answer({"AuthenticationResult": {"AccessToken": "canary", "TokenType": "Bearer"}}),
        json_answer({"ChallengeName": "SMS_MFA", "Session": "", "ChallengeParameters": {"USERNAME": "canary"}}),
        answer(500, b"canary"), answer(200, b"canary"), answer(302, b"canary", "Location: /canary"),
    ],
)  # fmt: skip
async def test_no_secret_is_told_of_a_failure(behave: Behave, caplog: pytest.LogCaptureFixture) -> None:
    async with Web(behave) as web, user_pool(web.origin, client="c1", secret="canary-secret") as pool:
        challenge = Challenge("SMS_MFA", "canary-session", "canary-user", {})
        with caplog.at_level(logging.DEBUG, "sidecar"):
            for work in (
                pool.sign_in("canary-user", "canary-password"), pool.respond(challenge, {"code": "4711"}),
                pool.refresh("canary-refresh", "canary-user"), pool.revoke("canary-refresh"),
                pool.sign_out_everywhere("canary-access"),
            ):  # fmt: skip
                told = ""
                try:
                    await work
                except (SignInFailed, Refused) as error:
                    told = f"{error} {error!r}"
                assert "canary" not in told
    assert "canary" not in caplog.text
    assert "4711" not in caplog.text


async def test_one_sign_in_computes_at_a_time() -> None:
    async with Web(json_answer(VERIFIER)) as web, user_pool(web.origin, srp=True) as pool:
        await asyncio.gather(*(failure_or_refusal(pool) for _ in range(5)))
        assert len([thread for thread in threading.enumerate() if thread.name.startswith("srp")]) == 1


async def failure_or_refusal(pool: UserPool) -> None:
    with pytest.raises(SignInFailed):
        await pool.sign_in("alice", PASSWORD)


async def test_a_sign_in_that_waits_too_long_for_its_turn_is_turned_away() -> None:
    hold = threading.Event()
    async with Web(GRANTED) as web, user_pool(web.origin, srp=True) as pool:
        pool._thread.submit(hold.wait)
        started = time.monotonic()
        try:
            assert await failure(pool.sign_in("alice", PASSWORD)) == SignInError.THROTTLED
        finally:
            hold.set()
        assert time.monotonic() - started < ASK_WITHIN + 10
        assert web.asked == []


async def test_without_its_library_srp_is_refused_at_the_start() -> None:
    with without("pycognito"), pytest.raises(ValueError, match="SIDECAR_PASSWORD_FLOW"):
        async with user_pool("http://127.0.0.1:1", srp=True):
            pass
