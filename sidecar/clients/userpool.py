"""The user pool's own API: signing in with a password, and what Cognito may ask for after it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from sidecar.clients.provider import AppClient, Asker, Challenge, Grant, Reason, SignInFailed, text_of
from sidecar.gate.verdict import Code, Refused

_TARGET = "AWSCognitoIdentityProviderService."
_REASONS = {
    "NotAuthorizedException": Reason.WRONG_PASSWORD,
    "UserNotFoundException": Reason.WRONG_PASSWORD,  # the same to a person: nobody learns who has an account
    "CodeMismatchException": Reason.WRONG_CODE,
    "TooManyRequestsException": Reason.THROTTLED,
    "LimitExceededException": Reason.THROTTLED,
    "TooManyFailedAttemptsException": Reason.THROTTLED,
    "InvalidParameterException": Reason.FLOW_NOT_ALLOWED,
    "UserNotConfirmedException": Reason.UNCONFIRMED,
    "PasswordResetRequiredException": Reason.RESET_REQUIRED,
    "ExpiredCodeException": Reason.EXPIRED,
    "InvalidPasswordException": Reason.PASSWORD_POLICY,
    "PasswordHistoryPolicyViolationException": Reason.PASSWORD_POLICY,
    "MFAMethodNotFoundException": Reason.UNSUPPORTED_CHALLENGE,
    "SoftwareTokenMFANotFoundException": Reason.UNSUPPORTED_CHALLENGE,
}
"""Errors of InitiateAuth and RespondToAuthChallenge (API reference) -> why a person cannot sign in."""
# one exception of Cognito's has several meanings, told by the beginning of its message alone
_MESSAGES = {
    "Password attempts exceeded": Reason.THROTTLED,
    "User is disabled": Reason.DISABLED,
    "Invalid session": Reason.EXPIRED,
    "USER_SRP_AUTH is not enabled": Reason.FLOW_NOT_ALLOWED,
    "USER_PASSWORD_AUTH flow not enabled": Reason.FLOW_NOT_ALLOWED,
    "Auth flow not enabled": Reason.FLOW_NOT_ALLOWED,
}
_ANSWERS = {
    "NEW_PASSWORD_REQUIRED": ("password", "NEW_PASSWORD"),
    "SOFTWARE_TOKEN_MFA": ("code", "SOFTWARE_TOKEN_MFA_CODE"),
    "SMS_MFA": ("code", "SMS_MFA_CODE"),
}
"""Challenge -> the field of our form, and the parameter that Cognito wants."""
_MAX_MESSAGE = 200
SRP, PASSWORD, REFRESH = "USER_SRP_AUTH", "USER_PASSWORD_AUTH", "REFRESH_TOKEN_AUTH"


def endpoint_url(region: str) -> str:
    """The API's endpoint of a region (AWS general reference, "Amazon Cognito endpoints and quotas")."""
    if region.startswith("us-gov-"):
        return f"https://cognito-idp-fips.{region}.amazonaws.com/"
    return f"https://cognito-idp.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}/"


class UserPool:
    """Asks the API at `endpoint` for an app client of a pool. `flow` is SRP or PASSWORD."""

    def __init__(self, endpoint: str, pool_id: str, client: AppClient, asker: Asker, flow: str = SRP) -> None:
        self._endpoint = endpoint
        self._pool_id = pool_id
        self._client = client
        self._asker = asker
        self._flow = flow
        self._rotates = False

    async def sign_in(self, username: str, password: str) -> Grant | Challenge:
        """Sign in. Raises SignInFailed, and Refused: IDP_*."""
        if self._flow == SRP:
            return await self._sign_in_by_srp(username, password)
        parameters = {"USERNAME": username, "PASSWORD": password}
        return self._outcome(await self._initiate(PASSWORD, username, parameters), username)

    async def _sign_in_by_srp(self, username: str, password: str) -> Grant | Challenge:
        # here and not above: it brings boto3, which only this flow needs
        from pycognito.aws_srp import AWSSRP

        # the library wants a client for its own requests; only its arithmetic is used, in a thread, as it takes long
        srp = await asyncio.to_thread(AWSSRP, username, password, self._pool_id, self._client.id, client=object())
        answer = await self._initiate(SRP, username, srp.get_auth_params())
        if answer.get("ChallengeName") != "PASSWORD_VERIFIER":
            return self._outcome(answer, username)
        given = answer.get("ChallengeParameters")
        if not isinstance(given, dict):
            raise Refused(Code.IDP_BAD_ANSWER, "ChallengeParameters: expected an object")
        for name in ("USER_ID_FOR_SRP", "SALT", "SRP_B", "SECRET_BLOCK"):
            text_of(given, name)
        try:
            # RFC 5054 section 2.5.4: the client must abort if B is a multiple of N
            if int(given["SRP_B"], 16) % srp.big_n == 0:
                raise Refused(Code.IDP_BAD_ANSWER, "SRP_B: a multiple of N")
            proof = await asyncio.to_thread(srp.process_challenge, given, {"USERNAME": username})
        except ValueError:
            raise Refused(Code.IDP_BAD_ANSWER, "the password verifier's parameters") from None
        return await self._respond("PASSWORD_VERIFIER", answer.get("Session"), proof["USERNAME"], proof)

    async def respond(self, challenge: Challenge, answers: dict[str, str]) -> Grant | Challenge:
        """Answer what Cognito asked for, with the fields of our form. Raises SignInFailed, and Refused: IDP_*."""
        field, parameter = _ANSWERS[challenge.name]
        value = answers.get(field, "")
        if not value:
            raise SignInFailed(Reason.WRONG_CODE if field == "code" else Reason.PASSWORD_POLICY)
        parameters = {"USERNAME": challenge.username, parameter: value}
        return await self._respond(challenge.name, challenge.session, challenge.username, parameters)

    async def refresh(self, refresh_token: str, username: str) -> Grant:
        """New tokens. Raises Refused: SESSION_EXPIRED where Cognito renews no more, IDP_*.

        An app client that rotates refresh tokens takes GetTokensFromRefreshToken alone; which it is, is found out once.
        """
        for rotates in (self._rotates, not self._rotates):
            try:
                outcome = self._outcome(await self._renew(rotates, refresh_token, username), username)
            except SignInFailed as failed:
                if failed.reason is Reason.THROTTLED:
                    raise Refused(Code.IDP_UNAVAILABLE, "too many requests") from None
                continue
            if isinstance(outcome, Challenge):
                raise Refused(Code.IDP_BAD_ANSWER, "a challenge for a refresh token")
            self._rotates = rotates
            return outcome
        raise Refused(Code.SESSION_EXPIRED, "the refresh token is not taken")

    async def _renew(self, rotates: bool, refresh_token: str, username: str) -> dict[str, Any]:
        if not rotates:
            return await self._initiate(REFRESH, username, {"REFRESH_TOKEN": refresh_token})
        body: dict[str, Any] = {"RefreshToken": refresh_token, "ClientId": self._client.id}
        if self._client.secret:
            body["ClientSecret"] = self._client.secret
        try:
            return await self._call("GetTokensFromRefreshToken", body)
        except Refused as refused:
            if self._rotates:
                raise
            # the other way was refused, and an endpoint that has not this one says so in its own way
            raise SignInFailed(Reason.EXPIRED) from refused

    async def revoke(self, refresh_token: str) -> None:
        """End a refresh token (RevokeToken). Raises Refused: IDP_*."""
        body = {"Token": refresh_token, "ClientId": self._client.id}
        if self._client.secret:
            body["ClientSecret"] = self._client.secret
        await self._end("RevokeToken", body)

    async def sign_out_everywhere(self, access_token: str) -> None:
        """End every refresh token of the user (GlobalSignOut). Raises Refused: IDP_*."""
        await self._end("GlobalSignOut", {"AccessToken": access_token})

    async def _end(self, operation: str, body: dict[str, Any]) -> None:
        try:
            await self._call(operation, body)
        except SignInFailed as failed:
            raise Refused(Code.IDP_BAD_ANSWER, f"{operation}: {failed.reason}") from None

    async def _initiate(self, flow: str, username: str, parameters: dict[str, str]) -> dict[str, Any]:
        body = {
            "AuthFlow": flow,
            "ClientId": self._client.id,
            "AuthParameters": self._with_hash(username, parameters),
        }
        return await self._call("InitiateAuth", body)

    async def _respond(self, name: str, session: Any, username: str, parameters: dict[str, str]) -> Grant | Challenge:
        body: dict[str, Any] = {
            "ChallengeName": name,
            "ClientId": self._client.id,
            "ChallengeResponses": self._with_hash(username, parameters),
        }
        if session is not None:
            body["Session"] = session
        return self._outcome(await self._call("RespondToAuthChallenge", body), username)

    def _with_hash(self, username: str, parameters: dict[str, str]) -> dict[str, str]:
        if not self._client.secret:
            return parameters
        return {**parameters, "SECRET_HASH": self._client.secret_hash(username)}

    def _outcome(self, answer: dict[str, Any], username: str) -> Grant | Challenge:
        result = answer.get("AuthenticationResult")
        if isinstance(result, dict):
            return Grant(
                text_of(result, "AccessToken"), text_of(result, "IdToken", optional=True),
                text_of(result, "RefreshToken", optional=True),
            )  # fmt: skip
        name = text_of(answer, "ChallengeName")
        if name not in _ANSWERS:
            raise SignInFailed(Reason.UNSUPPORTED_CHALLENGE)
        given = answer.get("ChallengeParameters")
        parameters = given if isinstance(given, dict) else {}
        user = parameters.get("USER_ID_FOR_SRP", username)
        told = {key: parameters[key] for key in ("CODE_DELIVERY_DESTINATION",) if isinstance(parameters.get(key), str)}
        return Challenge(name, text_of(answer, "Session"), user if isinstance(user, str) else username, told)

    async def _call(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": _TARGET + operation}
        status, document = await self._asker.ask(self._endpoint, headers, json.dumps(body).encode("utf-8"))
        if status == 200:
            return document
        raise _failure(document)


def _failure(document: dict[str, Any]) -> Exception:
    """What an error of the API means: for the person, or, where it is ours or AWS's, for the log."""
    kind, message = document.get("__type"), document.get("message", document.get("Message", ""))
    # the type may come with its namespace (AWS JSON 1.1 protocol)
    name = kind.rpartition("#")[2] if isinstance(kind, str) else ""
    text = message if isinstance(message, str) else ""
    reason = next((reason for start, reason in _MESSAGES.items() if text.startswith(start)), _REASONS.get(name))
    if reason is None:
        return Refused(Code.IDP_BAD_ANSWER, f"{name if name.isalnum() else 'an unknown error'}"[:64])
    return SignInFailed(reason, text[:_MAX_MESSAGE] if reason is Reason.PASSWORD_POLICY else "")
