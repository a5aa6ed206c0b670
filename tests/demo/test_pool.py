"""The pool checks passwords and says who a user is now; what is signed with its key passes for its own."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest

from sidecar.demo.cognito import LocalCognito
from sidecar.demo.grants import AuthorizationGrant, BrowserSession
from sidecar.demo.pool import NewPasswordRequired, PoolError, PoolTokens, Signer, UserPoolClient, pool_key, userinfo
from tests.signing_in import principal_of

ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x"
IDENTITY = {
    "sub": "u-1", "iss": ISSUER, "token_use": "id", "cognito:username": "alice", "aud": "pool-client", "auth_time": 1,
    "email": "alice@example.com", "email_verified": "true", "phone_number": "+1", "phone_number_verified": "false",
}  # fmt: skip
ACCESS = {"sub": "u-1", "iss": ISSUER, "token_use": "access", "client_id": "pool-client", "scope": "x", "jti": "old"}
TOKENS = PoolTokens("pool-token", ACCESS, IDENTITY)


@pytest.fixture
async def pool(cognito: LocalCognito) -> AsyncIterator[UserPoolClient]:
    async with httpx.AsyncClient(trust_env=False) as http:
        yield UserPoolClient(http, cognito.endpoint, cognito.client_id)


def administer(cognito: LocalCognito, operation: str, **body: str) -> None:
    """One operation of an administrator; the server takes the region from the signature, and checks nothing else."""
    credential = f"Credential=local/20260101/{cognito.region}/cognito-idp/aws4_request"
    headers = {
        "Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=none",
        "X-Amz-Target": f"AWSCognitoIdentityProviderService.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
    }
    content = json.dumps({"UserPoolId": cognito.pool_id, **body})
    assert httpx.post(cognito.endpoint, content=content, headers=headers, trust_env=False).status_code == 200


async def test_a_password_opens_the_pool(pool: UserPoolClient) -> None:
    tokens = await pool.refresh(str(await pool.sign_in("alice", "Alice-1234")))
    assert (tokens.access["username"], tokens.identity["cognito:username"]) == ("alice", "alice")
    assert tokens.identity["email"] == "alice@example.com"
    attributes = await pool.attributes(tokens.access_token)
    assert (attributes["username"], attributes["sub"]) == ("alice", tokens.access["sub"])


@pytest.mark.parametrize(
    ("username", "password", "kind"),
    [("alice", "Bobby-1234", "NotAuthorizedException"), ("nobody", "Alice-1234", "UserNotFoundException")],
)
async def test_a_wrong_name_or_password_is_refused(
    pool: UserPoolClient, username: str, password: str, kind: str
) -> None:
    with pytest.raises(PoolError) as caught:
        await pool.sign_in(username, password)
    assert caught.value.kind == kind


async def test_a_new_password_that_the_pool_will_not_have_is_refused(
    pool: UserPoolClient, cognito: LocalCognito
) -> None:
    administer(cognito, "AdminCreateUser", Username="dora", TemporaryPassword="Dora-12345", MessageAction="SUPPRESS")
    challenge = await pool.sign_in("dora", "Dora-12345")
    assert isinstance(challenge, NewPasswordRequired)
    with pytest.raises(PoolError) as caught:
        await pool.change_password(challenge, "short")
    assert caught.value.kind == "InvalidPasswordException"
    assert await pool.change_password(challenge, "Longer-12345")


async def test_groups_are_those_of_the_moment(pool: UserPoolClient, cognito: LocalCognito) -> None:
    token = str(await pool.sign_in("bob", "Bobby-1234"))
    administer(cognito, "AdminAddUserToGroup", Username="bob", GroupName="admin")
    assert set((await pool.refresh(token)).access["cognito:groups"]) == {"user", "admin"}
    administer(cognito, "AdminRemoveUserFromGroup", Username="bob", GroupName="admin")
    assert (await pool.refresh(token)).access["cognito:groups"] == ["user"]


async def test_a_disabled_user_gets_no_more_claims(pool: UserPoolClient, cognito: LocalCognito) -> None:
    token = str(await pool.sign_in("bob", "Bobby-1234"))
    administer(cognito, "AdminDisableUser", Username="bob")
    try:
        with pytest.raises(PoolError, match="NotAuthorizedException"):
            await pool.refresh(token)
    finally:
        administer(cognito, "AdminEnableUser", Username="bob")
    assert await pool.refresh(token)


async def test_a_pool_that_fails_is_told_apart_from_one_that_refuses() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500, text="oops")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        with pytest.raises(httpx.HTTPStatusError):
            await UserPoolClient(http, "http://pool", "c").sign_in("alice", "x")


async def test_a_challenge_that_is_not_known_is_a_refusal() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"ChallengeName": "SMS_MFA", "Session": "s"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        with pytest.raises(PoolError, match="SMS_MFA"):
            await UserPoolClient(http, "http://pool", "c").sign_in("alice", "x")


def signed(grant: AuthorizationGrant, nonce: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The claims of an access token and of an id token, which may be none."""
    signer = Signer(pool_key(), ISSUER, 60)
    answer = signer.tokens(grant, TOKENS, 1000.9, nonce)
    access = signer.read(answer["access_token"], ended=True)
    return access, signer.read(answer["id_token"], ended=True) if "id_token" in answer else {}


def granted(*scopes: str) -> AuthorizationGrant:
    return AuthorizationGrant("app", scopes, BrowserSession("pool", 900), None)


def test_what_only_the_hosted_ui_knows_replaces_the_pools_word() -> None:
    grant = granted("openid", "email")
    access, identity = signed(grant, "n-1")
    own = {"auth_time": 900, "iat": 1000, "exp": 1060, "origin_jti": grant.id}
    assert access["jti"] not in ("old", identity.pop("jti"))
    replaced = {"client_id": "app", "scope": "openid email", "version": 2, "jti": access["jti"]}
    assert access == {**ACCESS, **own, **replaced}
    assert identity.pop("at_hash")
    assert identity == {
        "sub": "u-1", "iss": ISSUER, "token_use": "id", "cognito:username": "alice", "aud": "app", "nonce": "n-1",
        "email": "alice@example.com", "email_verified": True, **own,
    }  # fmt: skip


def test_an_access_token_is_made_for_the_resource_that_was_asked_for() -> None:
    grant = granted("openid")
    grant.resource = "https://crm.example/mcp"
    access, identity = signed(grant)
    assert (access["aud"], identity["aud"]) == ("https://crm.example/mcp", "app")
    assert "aud" not in signed(granted("openid"))[0]


def test_an_attribute_needs_its_scope() -> None:
    assert {"email", "phone_number"} & set(signed(granted("openid"))[1]) == set()
    identity = signed(granted("openid", "phone"))[1]
    assert (identity["phone_number"], identity["phone_number_verified"]) == ("+1", False)
    assert "email" not in identity
    attributes = {"sub": "u-1", "email": "a@b", "email_verified": "true", "phone_number": "+1"}
    assert userinfo(attributes, ("openid", "email")) == {"sub": "u-1", "email": "a@b", "email_verified": "true"}


def test_without_openid_there_is_no_id_token() -> None:
    assert signed(granted("aws.cognito.signin.user.admin"))[1] == {}


def test_the_id_token_names_its_access_token() -> None:
    """OpenID Connect Core 1.0 section 3.1.3.6: "the left-most half of the hash", base64url encoded."""
    signer = Signer(pool_key(), ISSUER, 60)
    answer = signer.tokens(granted("openid"), TOKENS, 1000)
    half = hashlib.sha256(answer["access_token"].encode()).digest()[:16]
    at_hash = signer.read(answer["id_token"], ended=True)["at_hash"]
    assert base64.urlsafe_b64decode(at_hash + "==") == half


def test_a_token_is_read_while_it_lives_and_only_if_it_is_ours() -> None:
    signer = Signer(pool_key(), ISSUER, 60)
    ended = signer.tokens(granted("openid"), TOKENS, 1000)["access_token"]
    with pytest.raises(jwt.ExpiredSignatureError):
        signer.read(ended)
    with pytest.raises(jwt.InvalidSignatureError):
        signer.read(f"{ended.rpartition('.')[0]}.{'A' * 342}", ended=True)
    with pytest.raises(jwt.InvalidIssuerError):
        Signer(pool_key(), ISSUER + "y", 60).read(ended, ended=True)


async def test_the_pools_key_set_vouches_for_our_signature(pool: UserPoolClient, cognito: LocalCognito) -> None:
    """The sidecar's own way of verifying takes it, for the client that it was granted to."""
    tokens = await pool.refresh(str(await pool.sign_in("alice", "Alice-1234")))
    answer = Signer(pool_key(), cognito.issuer, 60).tokens(granted("openid"), tokens, time.time())
    assert (await principal_of(cognito, answer["access_token"], "access", "app")).id == "alice"
