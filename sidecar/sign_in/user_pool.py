"""Client of a user pool's API for the sidecar's own form: passwords and challenges, unsigned as in browsers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import httpx

from sidecar.config.aws import domain_of
from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.sign_in import challenges
from sidecar.sign_in.challenges import ApiError
from sidecar.sign_in.provider import (
    ASK_WITHIN,
    Challenge,
    ClientSecrets,
    Provider,
    ServerError,
    SignInError,
    SignInFailed,
    TokenSet,
)
from sidecar.sign_in.srp import Srp, mathematics

T = TypeVar("T")
PayloadOf = Callable[[str], Mapping[str, Any]]
"""Payload of an operation, made with one secret of the app client."""

_TARGET = "AWSCognitoIdentityProviderService"
_NOT_IMPLEMENTED = (500, 501)


def api_endpoint(region: str, endpoint: str) -> str:
    """Where the API of a region is; `endpoint` stands in place of it (AWS_ENDPOINT_URL_COGNITO_IDENTITY_PROVIDER).

    In GovCloud it is the FIPS endpoint (AWS GovCloud user guide, "Amazon Cognito").
    """
    if endpoint:
        return endpoint.rstrip("/") + "/"
    name = "cognito-idp-fips" if region.startswith("us-gov-") else "cognito-idp"
    return f"https://{name}.{region}.{domain_of(region)}/"


class UserPool:
    """One app client of a pool. A public one has no `client_secrets`; `now` gives Unix seconds.

    With `srp` a password is proved and not sent. Raises ValueError where the library for it is not installed.
    """

    def __init__(
        self, endpoint: str, pool_id: str, client_id: str, client_secrets: Iterable[str], provider: Provider, *,
        srp: bool, now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._endpoint = endpoint
        self._pool_id = pool_id
        self._client_id = client_id
        self._secrets = ClientSecrets(client_secrets)
        self._provider = provider
        self._srp = srp
        self._now = now
        if srp:
            mathematics()
        # a power of 3072 bits holds the interpreter: one at a time, and requests are served between two of them
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="srp")

    async def sign_in(self, username: str, password: str) -> TokenSet | Challenge:
        """The tokens of a person, or what else the pool asks for. Raises SignInFailed, Refused: IDP_*."""
        if not challenges.is_username(username) or not challenges.is_password(password):
            raise SignInFailed(SignInError.WRONG_PASSWORD)
        try:
            if self._srp:
                return await self._by_srp(username, password)
            answer = await self._initiate(username, "USER_PASSWORD_AUTH", {"USERNAME": username, "PASSWORD": password})
            return self._outcome(answer, username)
        except ApiError as error:
            raise self._reported(challenges.failure_of(error, challenges.AT_PASSWORD)) from None

    async def respond(self, challenge: Challenge, answers: Mapping[str, str]) -> TokenSet | Challenge:
        """Answer a challenge: `code`, or the new `password` with a value for each name in `required`.

        Raises SignInFailed (after WRONG_CODE and PASSWORD_POLICY the same challenge may be answered again), Refused:
        IDP_*.
        """
        responses = challenges.responses_to(challenge, answers)
        reasons = challenges.AT_NEW_PASSWORD if challenge.name == challenges.NEW_PASSWORD else challenges.AT_CODE
        try:
            answer = await self._respond(challenge.username, challenge.name, challenge.session, responses)
            return self._outcome(answer, challenge.username)
        except ApiError as error:
            raise self._reported(challenges.failure_of(error, reasons)) from None

    async def refresh(self, refresh_token: str, username: str) -> TokenSet:
        """New tokens. Raises Refused: SESSION_EXPIRED for a refresh token that has ended or was revoked, IDP_*."""
        try:
            # not by InitiateAuth, which refuses it to an app client that rotates its refresh tokens
            answer = await self._if_known(
                "GetTokensFromRefreshToken", self._with_client({"RefreshToken": refresh_token})
            )
            if answer is None:
                answer = await self._initiate(username, "REFRESH_TOKEN_AUTH", {"REFRESH_TOKEN": refresh_token})
            outcome = self._outcome(answer, username)
        except ApiError as error:
            raise self._reported(challenges.session_failure(error)) from None
        except SignInFailed as failed:
            raise self._reported(challenges.bad(f"{failed.message} to a refresh token")) from None
        if isinstance(outcome, Challenge):
            raise self._reported(challenges.bad(f"{outcome.name} to a refresh token"))
        return outcome

    async def revoke(self, refresh_token: str) -> None:
        """End a refresh token and its access tokens at Cognito. Raises Refused: SESSION_EXPIRED, IDP_*."""
        await self._end("RevokeToken", self._with_client({"Token": refresh_token}))

    async def sign_out_everywhere(self, access_token: str) -> None:
        """End all sessions of the token's user at Cognito. Raises Refused: SESSION_EXPIRED for a token that has ended,
        IDP_BAD_ANSWER for one without the scope `aws.cognito.signin.user.admin`, IDP_*."""
        await self._end("GlobalSignOut", lambda _: {"AccessToken": access_token})

    async def aclose(self) -> None:
        """Stop computing."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _by_srp(self, username: str, password: str) -> TokenSet | Challenge:
        srp = await self._compute(lambda: Srp(self._pool_id, password))
        answer = await self._initiate(username, "USER_SRP_AUTH", {"USERNAME": username, "SRP_A": srp.public})
        asked = answer.get("ChallengeParameters")
        if answer.get("ChallengeName") != "PASSWORD_VERIFIER" or not isinstance(asked, dict):
            raise self._reported(challenges.bad("expected the challenge PASSWORD_VERIFIER"))
        try:
            proof = await self._compute(lambda: srp.proof(asked, self._now()))
        except ValueError as error:
            raise self._reported(challenges.bad(f"PASSWORD_VERIFIER: {error}")) from None
        # the pool's own name of the user, where a person came with an alias
        internal = challenges.text(asked, "USERNAME") or username
        session = challenges.text(answer, "Session")
        return self._outcome(await self._respond(internal, "PASSWORD_VERIFIER", session, proof), internal)

    async def _compute(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(ASK_WITHIN):
                return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except TimeoutError:
            raise SignInFailed(SignInError.THROTTLED) from None

    async def _initiate(self, username: str, flow: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        return await self._call(
            "InitiateAuth",
            lambda secret: {
                "AuthFlow": flow,
                "ClientId": self._client_id,
                "AuthParameters": {**parameters, **self._hash(secret, username)},
            },
        )

    async def _respond(self, username: str, name: str, session: str, responses: Mapping[str, str]) -> dict[str, Any]:
        return await self._call(
            "RespondToAuthChallenge",
            lambda secret: {
                "ChallengeName": name,
                "ClientId": self._client_id,
                **({"Session": session} if session else {}),
                "ChallengeResponses": {"USERNAME": username, **responses, **self._hash(secret, username)},
            },
        )

    async def _end(self, operation: str, payload_of: PayloadOf) -> None:
        try:
            await self._call(operation, payload_of, read=False)
        except ApiError as error:
            raise self._reported(challenges.session_failure(error)) from None

    def _hash(self, secret: str, username: str) -> dict[str, str]:
        """SECRET_HASH of a client with a secret (AWS, "Computing secret hash values")."""
        if not secret:
            return {}
        digest = hmac.new(secret.encode(), f"{username}{self._client_id}".encode(), hashlib.sha256).digest()
        return {"SECRET_HASH": base64.standard_b64encode(digest).decode("ascii")}

    def _with_client(self, payload: Mapping[str, Any]) -> PayloadOf:
        """The payload of an operation that takes the app client's secret itself."""
        client = {**payload, "ClientId": self._client_id}
        return lambda secret: {**client, "ClientSecret": secret} if secret else client

    async def _if_known(self, operation: str, payload_of: PayloadOf) -> dict[str, Any] | None:
        """The answer; None where the endpoint does not know the operation, as one that stands in for Cognito may."""
        try:
            return await self._call(operation, payload_of)
        except ApiError as error:
            if error.kind != "UnknownOperationException":
                raise
        except ServerError as error:
            if error.known or error.status not in _NOT_IMPLEMENTED:
                raise
        return None

    async def _call(self, operation: str, payload_of: PayloadOf, *, read: bool = True) -> dict[str, Any]:
        """Raises ApiError, Refused: IDP_*. Without `read` nothing is taken from a good answer."""
        answer = await self._secrets.ask(
            lambda secret: self._answer(operation, payload_of(secret), read=read), challenges.is_about_secret
        )
        if isinstance(answer, ApiError):
            raise answer
        return answer

    async def _answer(
        self, operation: str, payload: Mapping[str, Any], *, read: bool
    ) -> dict[str, Any] | ApiError:  # fmt: skip
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": f"{_TARGET}.{operation}"}
        reply = await self._provider.post(self._endpoint, headers, json.dumps(payload).encode("utf-8"))
        if reply.status != httpx.codes.OK:
            return challenges.error_in(reply, self._provider.read(reply))
        return self._provider.read(reply) if read else {}

    def _outcome(self, answer: Mapping[str, Any], username: str) -> TokenSet | Challenge:
        try:
            return challenges.outcome(answer, username)
        except Refused as refused:
            raise self._reported(refused) from None

    def _reported(self, failure: SignInFailed | Refused) -> SignInFailed | Refused:
        """Return the failure, after logging and counting it unless the user caused it."""
        if isinstance(failure, Refused):
            if failure.code != Code.SESSION_EXPIRED:
                self._provider.failed("bad_answer" if failure.code == Code.IDP_BAD_ANSWER else "throttled", failure)
        elif failure.reason == SignInError.FLOW_NOT_ALLOWED:
            flow = "ALLOW_USER_SRP_AUTH" if self._srp else "ALLOW_USER_PASSWORD_AUTH"
            self._provider.failed("flow_not_allowed", challenges.bad(f"the app client does not have {flow}"))
        return failure
