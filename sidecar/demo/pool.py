"""The local user pool as the hosted UI uses it: passwords and claims by its public API, tokens signed with its key."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
import uuid
from collections.abc import Mapping
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jwt

from sidecar.demo.grants import AuthorizationGrant

SCOPES = ("openid", "email", "phone", "profile", "aws.cognito.signin.user.admin")
# AWS's guide, "Understanding the identity token": which scope lets which attribute into it
_ATTRIBUTES_OF = {"email": ("email", "email_verified"), "phone": ("phone_number", "phone_number_verified")}


class PoolError(Exception):
    """The pool refuses; `kind` is the API's name for it, as NotAuthorizedException."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message


class NewPasswordRequired(NamedTuple):
    """The challenge after a temporary password; `session` is the pool's handle of it."""

    username: str
    session: str


class PoolTokens(NamedTuple):
    """Tokens and claims that the pool gives a user now: claims of an access and an id token; `access_token` serves at
    its API."""

    access_token: str
    access: Mapping[str, Any]
    identity: Mapping[str, Any]


class UserPoolClient:
    """The pool's public API at `endpoint`, used as the app client `client_id`. Raises httpx.HTTPError, PoolError."""

    def __init__(self, http: httpx.AsyncClient, endpoint: str, client_id: str) -> None:
        self._http = http
        self._endpoint = endpoint
        self._client_id = client_id

    async def sign_in(self, username: str, password: str) -> str | NewPasswordRequired:
        """The pool's refresh token of a user."""
        parameters = {"USERNAME": username, "PASSWORD": password}
        answer = await self._initiate("USER_PASSWORD_AUTH", parameters)
        if answer.get("ChallengeName") == "NEW_PASSWORD_REQUIRED":
            return NewPasswordRequired(username, str(answer["Session"]))
        return _refresh_token(answer)

    async def change_password(self, challenge: NewPasswordRequired, password: str) -> str:
        """Answer the challenge. Returns the pool's refresh token of the user."""
        body = {
            "ClientId": self._client_id,
            "ChallengeName": "NEW_PASSWORD_REQUIRED",
            "Session": challenge.session,
            "ChallengeResponses": {"USERNAME": challenge.username, "NEW_PASSWORD": password},
        }
        return _refresh_token(await self._call("RespondToAuthChallenge", body))

    async def refresh(self, refresh_token: str) -> PoolTokens:
        """Fresh claims, with the groups and attributes of this moment. PoolError after a global sign-out."""
        result = (await self._initiate("REFRESH_TOKEN_AUTH", {"REFRESH_TOKEN": refresh_token}))["AuthenticationResult"]
        # moto refreshes for a disabled user too; what asks for the user does not answer for one
        await self.attributes(result["AccessToken"])
        return PoolTokens(result["AccessToken"], _claims(result["AccessToken"]), _claims(result["IdToken"]))

    async def attributes(self, access_token: str) -> dict[str, str]:
        """A user's attributes, with an access token of the pool's own. PoolError after a global sign-out."""
        answer = await self._call("GetUser", {"AccessToken": access_token})
        attributes = {str(item["Name"]): str(item["Value"]) for item in answer["UserAttributes"]}
        return {**attributes, "username": str(answer["Username"])}

    async def _initiate(self, flow: str, parameters: dict[str, str]) -> dict[str, Any]:
        body = {"ClientId": self._client_id, "AuthFlow": flow, "AuthParameters": parameters}
        return await self._call("InitiateAuth", body)

    async def _call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {
            "X-Amz-Target": f"AWSCognitoIdentityProviderService.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        }
        response = await self._http.post(self._endpoint, json=body, headers=headers)
        if response.is_server_error:
            response.raise_for_status()
        answer: dict[str, Any] = response.json()
        if response.is_client_error:
            raise PoolError(str(answer.get("__type")), str(answer.get("message", "")))
        return answer


def _refresh_token(answer: Mapping[str, Any]) -> str:
    result = answer.get("AuthenticationResult")
    if result is None:
        raise PoolError(str(answer.get("ChallengeName")), "a challenge that this stand-in does not know")
    return str(result["RefreshToken"])


def _claims(token: str) -> dict[str, Any]:
    # straight from the pool, over the loopback interface
    return jwt.decode(token, options={"verify_signature": False})


@functools.cache
def pool_key() -> jwt.PyJWK:
    """The private key of moto's pools, as moto ships it; the public half is in the key set that it serves."""
    # read and not asked of moto, as an import of any part of it takes half a second
    packed = distribution("moto").locate_file("moto/cognitoidp/resources/jwks-private.json.gz")
    return jwt.PyJWK(json.loads(gzip.decompress(Path(str(packed)).read_bytes())))


class Signer:
    """Signs as the pool does: its tokens pass for the pool's own at whoever has the pool's key set.

    `seconds` is the life of an access and an id token.
    """

    def __init__(self, key: jwt.PyJWK, issuer: str, seconds: int) -> None:
        self._key = key
        self._issuer = issuer
        self._seconds = seconds

    def tokens(
        self, grant: AuthorizationGrant, pool: PoolTokens, now: float, nonce: str | None = None
    ) -> dict[str, Any]:
        """`access_token`, `token_type`, `expires_in` and, for the scope openid, `id_token` of RFC 6749 section 5.1.

        Claims are the pool's, with what only the hosted UI knows: scope, nonce, the client and the time of the sign-in.
        """
        own = {
            "auth_time": grant.session.auth_time,
            "iat": int(now),
            "exp": int(now) + self._seconds,
            "origin_jti": grant.id,
        }
        scope = " ".join(grant.scopes)
        bound = {} if grant.resource is None else {"aud": grant.resource}
        access = self._sign({**pool.access, **own, **bound, "version": 2, "client_id": grant.client_id, "scope": scope})
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": self._seconds}
        if "openid" in grant.scopes:
            identity = {**_attributes(pool.identity, grant.scopes), **own, "aud": grant.client_id}
            asked = {} if nonce is None else {"nonce": nonce}
            answer["id_token"] = self._sign({**identity, **asked, "at_hash": _at_hash(access)})
        return answer

    def _sign(self, claims: Mapping[str, Any]) -> str:
        payload = {**claims, "jti": str(uuid.uuid4())}
        return jwt.encode(payload, self._key, algorithm="RS256", headers={"kid": self._key.key_id})

    def read(self, token: str, *, ended: bool = False) -> dict[str, Any]:
        """The claims of a token that we signed, with `ended` also of one that expired. Raises jwt.PyJWTError."""
        options: jwt.types.Options = {"verify_exp": not ended, "verify_aud": False}
        claims: dict[str, Any] = jwt.decode(
            token, self._key.key.public_key(), algorithms=["RS256"], issuer=self._issuer, options=options
        )
        return claims


def _attributes(claims: Mapping[str, Any], scopes: tuple[str, ...]) -> dict[str, Any]:
    """The claims without attributes that no scope asks for; flags are true or false there, and text in the API."""
    shown = {name: value for name, value in claims.items() if name not in _hidden(scopes)}
    return {name: value == "true" if name.endswith("_verified") else value for name, value in shown.items()}


def _hidden(scopes: tuple[str, ...]) -> set[str]:
    return {name for scope, names in _ATTRIBUTES_OF.items() if scope not in scopes for name in names}


def userinfo(attributes: Mapping[str, str], scopes: tuple[str, ...]) -> dict[str, str]:
    """The answer of the userInfo endpoint: attributes as text, as AWS's guide has them, by scope."""
    return {name: value for name, value in attributes.items() if name not in _hidden(scopes)}


def _at_hash(access_token: str) -> str:
    """OpenID Connect Core 1.0 section 3.1.3.6: the left half of the hash, base64url."""
    return base64.urlsafe_b64encode(hashlib.sha256(access_token.encode("ascii")).digest()[:16]).rstrip(b"=").decode()
