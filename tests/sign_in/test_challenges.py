"""`sign_in/challenges.py`: what a user pool's API says, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.sign_in.challenges import (
    AT_CODE,
    AT_NEW_PASSWORD,
    AT_PASSWORD,
    MAX_MESSAGE,
    ApiError,
    error_in,
    failure_of,
    is_password,
    is_username,
    one_line,
    outcome,
    responses_to,
    session_failure,
)
from sidecar.sign_in.provider import Challenge, ProviderResponse, SignInError, SignInFailed, TokenSet

RESULT = {"AccessToken": "a.a.a", "IdToken": "i.i.i", "RefreshToken": "r.r.r", "TokenType": "Bearer", "ExpiresIn": 3600}


def granted(**changed: Any) -> dict[str, Any]:
    """An answer with tokens; None takes one away."""
    result = {name: value for name, value in {**RESULT, **changed}.items() if value is not None}
    return {"AuthenticationResult": result, "ChallengeParameters": {}}


def asking(name: str = "SMS_MFA", session: Any = "s-1", **parameters: Any) -> dict[str, Any]:
    """An answer with a challenge."""
    return {"ChallengeName": name, "Session": session, "ChallengeParameters": parameters}


def code_of(answer: Mapping[str, Any]) -> Code:
    with pytest.raises(Refused) as refused:
        outcome(answer, "alice")
    return refused.value.code


# --- answers ---


@pytest.mark.parametrize(
    ("answer", "grant"),
    [
        (granted(), TokenSet("a.a.a", "i.i.i", "r.r.r")),
        (granted(RefreshToken=None), TokenSet("a.a.a", "i.i.i", "")),
        ({**granted(), "ChallengeName": None}, TokenSet("a.a.a", "i.i.i", "r.r.r")),
        (granted(TokenType="bearer", Other=1), TokenSet("a.a.a", "i.i.i", "r.r.r")),
    ],
)
def test_tokens_are_taken(answer: Mapping[str, Any], grant: TokenSet) -> None:
    assert outcome(answer, "alice") == grant


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"AuthenticationResult": None},
        {"AuthenticationResult": []},
        granted(AccessToken=None),
        granted(AccessToken=""),
        granted(AccessToken=5),
        granted(AccessToken="a b"),
        granted(AccessToken="a\n"),
        granted(AccessToken="ä"),
        granted(AccessToken="a" * 16385),
        granted(IdToken=None),
        granted(IdToken={"a": 1}),
        granted(RefreshToken=["r"]),
        granted(RefreshToken="r\x00"),
        granted(TokenType=None),
        granted(TokenType="mac"),
        granted(TokenType=1),
    ],
)
def test_an_answer_without_all_its_tokens_is_no_sign_in(answer: Mapping[str, Any]) -> None:
    assert code_of(answer) == Code.IDP_BAD_ANSWER


@pytest.mark.parametrize(
    ("answer", "challenge"),
    [
        (
            asking(CODE_DELIVERY_DESTINATION="+*******1234", CODE_DELIVERY_DELIVERY_MEDIUM="SMS"),
            Challenge("SMS_MFA", "s-1", "alice", {"destination": "+*******1234", "medium": "SMS"}),
        ),
        (
            asking("SOFTWARE_TOKEN_MFA", FRIENDLY_DEVICE_NAME="my\nphone\x1b[1m " + "x" * 500, OTHER="x"),
            Challenge("SOFTWARE_TOKEN_MFA", "s-1", "alice", {"device": ("my phone [1m " + "x" * 500)[:MAX_MESSAGE]}),
        ),
        (asking("EMAIL_OTP", USERNAME="u-1", USER_ID_FOR_SRP="u-2"), Challenge("EMAIL_OTP", "s-1", "u-1", {})),
        (asking(USER_ID_FOR_SRP="u-2"), Challenge("SMS_MFA", "s-1", "u-2", {})),
        (
            asking("NEW_PASSWORD_REQUIRED", requiredAttributes='["userAttributes.email","name"]', userAttributes="{}"),
            Challenge("NEW_PASSWORD_REQUIRED", "s-1", "alice", {"required": "email name"}),
        ),
        (asking("NEW_PASSWORD_REQUIRED", requiredAttributes="[]"), Challenge("NEW_PASSWORD_REQUIRED", "s-1", "alice", {})),
        ({**asking(), **granted()} | asking(), Challenge("SMS_MFA", "s-1", "alice", {})),
    ],
)  # fmt: skip
def test_a_challenge_tells_what_a_person_must_know(answer: Mapping[str, Any], challenge: Challenge) -> None:
    assert outcome(answer, "alice") == challenge


@pytest.mark.parametrize(
    "name",
    ["SELECT_MFA_TYPE", "MFA_SETUP", "DEVICE_SRP_AUTH", "DEVICE_PASSWORD_VERIFIER", "CUSTOM_CHALLENGE", "WEB_AUTHN"],
)
def test_a_challenge_that_the_form_cannot_answer_is_named(name: str) -> None:
    with pytest.raises(SignInFailed) as failed:
        outcome(asking(name, MFAS_CAN_SETUP=["SOFTWARE_TOKEN_MFA"]), "alice")
    assert (failed.value.reason, failed.value.message) == (SignInError.UNSUPPORTED_CHALLENGE, name)


@pytest.mark.parametrize(
    "answer",
    [
        asking(""), asking("A B"), asking("<b>"), asking("X" * 65), {**asking(), "ChallengeName": 5},
        {**asking(), "ChallengeParameters": None}, {**asking(), "ChallengeParameters": "x"},
        asking(session=None), asking(session=""), asking(session="a b"), asking(session="s\r\n"), asking(session="s" * 4097),
        asking("NEW_PASSWORD_REQUIRED", requiredAttributes="x"),
        asking("NEW_PASSWORD_REQUIRED", requiredAttributes='{"a": 1}'),
        asking("NEW_PASSWORD_REQUIRED", requiredAttributes="[1]"),
        asking("NEW_PASSWORD_REQUIRED", requiredAttributes='["a b"]'),
    ],
)  # fmt: skip
def test_a_challenge_that_cannot_be_read_is_none(answer: Mapping[str, Any]) -> None:
    assert code_of(answer) == Code.IDP_BAD_ANSWER


def test_a_printed_challenge_or_grant_does_not_sign_in() -> None:
    challenge = Challenge("SMS_MFA", "secret-session", "alice@example.com", {"destination": "+*1234"})
    response = ProviderResponse(200, "x/y", b"secret")
    printed = f"{challenge} {challenge!r} {TokenSet('secret-a', 'secret-i', 'secret-r')!r} {response!r}"
    assert printed == (
        "Challenge(name='SMS_MFA', ...) Challenge(name='SMS_MFA', ...) TokenSet(...) "
        "ProviderResponse(status=200, kind='x/y', 6 bytes)"
    )


# --- what a person enters ---


@pytest.mark.parametrize("name", ["alice", "alice@example.com", "+491701234567", "Zoë", "x" * 128, "李"])
def test_a_name_that_a_user_can_have(name: str) -> None:
    assert is_username(name)


@pytest.mark.parametrize("name", ["", "a b", " a", "a\n", "a\x00", "a\u00a0b", "\ud800", "x" * 129, "a\u2028"])
def test_a_name_that_no_user_has(name: str) -> None:
    assert not is_username(name)


@pytest.mark.parametrize(
    ("password", "fine"),
    [
        ("Alice-1234", True), ("a b", True), ("ab", True), ("x" * 256, True), ("a\nb", True), ("ä€", True),
        ("", False), ("a", False), (" ab", False), ("ab ", False), ("x" * 257, False), ("ab\n", False),
    ],
)  # fmt: skip
def test_which_passwords_need_not_be_asked_about(password: str, fine: bool) -> None:
    assert is_password(password) is fine


NEW = Challenge("NEW_PASSWORD_REQUIRED", "s", "alice", {"required": "email custom:team"})


@pytest.mark.parametrize(
    ("challenge", "answers", "responses"),
    [
        (Challenge("SMS_MFA", "s", "u", {}), {"code": "123456"}, {"SMS_MFA_CODE": "123456"}),
        (Challenge("SOFTWARE_TOKEN_MFA", "s", "u", {}), {"code": " 123 456 "}, {"SOFTWARE_TOKEN_MFA_CODE": "123456"}),
        (Challenge("EMAIL_OTP", "s", "u", {}), {"code": "12345678", "x": "y"}, {"EMAIL_OTP_CODE": "12345678"}),
        (
            NEW,
            {"password": "New-1234", "email": " a@b.c ", "custom:team": "red", "custom:admin": "true", "code": "1"},
            {"NEW_PASSWORD": "New-1234", "userAttributes.email": "a@b.c", "userAttributes.custom:team": "red"},
        ),
        (NEW._replace(parameters={}), {"password": "New-1234", "email": "a@b.c"}, {"NEW_PASSWORD": "New-1234"}),
    ],
)  # fmt: skip
def test_an_answer_is_put_in_cognitos_words_and_sets_nothing_that_was_not_asked_for(
    challenge: Challenge, answers: Mapping[str, str], responses: Mapping[str, str]
) -> None:
    assert responses_to(challenge, answers) == responses


@pytest.mark.parametrize(
    ("challenge", "answers", "reason", "message"),
    [
        (Challenge("SMS_MFA", "s", "u", {}), {}, SignInError.WRONG_CODE, ""),
        (Challenge("SMS_MFA", "s", "u", {}), {"code": "12a"}, SignInError.WRONG_CODE, ""),
        (Challenge("SMS_MFA", "s", "u", {}), {"code": "١٢٣"}, SignInError.WRONG_CODE, ""),
        (Challenge("SMS_MFA", "s", "u", {}), {"code": "1" * 17}, SignInError.WRONG_CODE, ""),
        (NEW, {"email": "a@b.c", "custom:team": "x"}, SignInError.PASSWORD_POLICY, ""),
        (NEW, {"password": " x", "email": "a@b.c", "custom:team": "x"}, SignInError.PASSWORD_POLICY, ""),
        (NEW, {"password": "New-1234", "custom:team": "x"}, SignInError.PASSWORD_POLICY, "email is required"),
        (NEW, {"password": "New-1234", "email": " ", "custom:team": "x"}, SignInError.PASSWORD_POLICY, "email is required"),
        (Challenge("MFA_SETUP", "s", "u", {}), {"code": "1"}, SignInError.UNSUPPORTED_CHALLENGE, "MFA_SETUP"),
    ],
)  # fmt: skip
def test_an_answer_that_need_not_be_sent(
    challenge: Challenge, answers: Mapping[str, str], reason: SignInError, message: str
) -> None:
    with pytest.raises(SignInFailed) as failed:
        responses_to(challenge, answers)
    assert (failed.value.reason, failed.value.message, str(failed.value)) == (reason, message, str(reason))


# --- errors ---


def test_an_error_is_known_by_its_name() -> None:
    def kind(answer: Mapping[str, Any]) -> str:
        return error_in(ProviderResponse(400, "application/json", b""), answer).kind

    assert kind({"__type": "CodeMismatchException", "message": "x"}) == "CodeMismatchException"
    assert kind({"__type": "com.amazonaws.cognito#CodeMismatchException"}) == "CodeMismatchException"
    for unnamed in ({}, {"__type": 5}, {"__type": ""}, {"__type": "a b"}, {"__type": "x\nfake line"}):
        assert kind(unnamed) == "status 400"


AT = {"password": AT_PASSWORD, "code": AT_CODE, "new": AT_NEW_PASSWORD}


@pytest.mark.parametrize(
    ("step", "kind", "message", "reason"),
    [
        ("password", "NotAuthorizedException", "Incorrect username or password.", SignInError.WRONG_PASSWORD),
        ("password", "NotAuthorizedException", "You are not enabled for this.", SignInError.WRONG_PASSWORD),
        ("password", "UserNotFoundException", "User does not exist.", SignInError.WRONG_PASSWORD),
        ("password", "NotAuthorizedException", "Password attempts exceeded", SignInError.THROTTLED),
        ("password", "TooManyRequestsException", "Rate exceeded", SignInError.THROTTLED),
        ("password", "LimitExceededException", "", SignInError.THROTTLED),
        ("password", "TooManyFailedAttemptsException", "", SignInError.THROTTLED),
        ("password", "NotAuthorizedException", "User is disabled.", SignInError.DISABLED),
        ("password", "UserNotConfirmedException", "User is not confirmed.", SignInError.UNCONFIRMED),
        ("password", "PasswordResetRequiredException", "Password reset required", SignInError.RESET_REQUIRED),
        ("password", "InvalidParameterException", "USER_SRP_AUTH is not enabled for the client.", SignInError.FLOW_NOT_ALLOWED),
        ("password", "InvalidParameterException", "USER_PASSWORD_AUTH flow not enabled for this client", SignInError.FLOW_NOT_ALLOWED),
        ("password", "UserLambdaValidationException", "PreAuthentication failed: not\ntoday", SignInError.REFUSED),
        ("password", "ForbiddenException", "Request not allowed due to WAF block.", SignInError.REFUSED),
        ("code", "CodeMismatchException", "Invalid code received for user", SignInError.WRONG_CODE),
        ("code", "InvalidParameterException", "1 validation error", SignInError.WRONG_CODE),
        ("code", "ExpiredCodeException", "", SignInError.EXPIRED),
        ("code", "NotAuthorizedException", "Invalid session for the user, session is expired.", SignInError.EXPIRED),
        ("code", "ResourceNotFoundException", "", SignInError.EXPIRED),
        ("code", "NotAuthorizedException", "User is disabled.", SignInError.DISABLED),
        ("code", "TooManyRequestsException", "", SignInError.THROTTLED),
        ("new", "InvalidPasswordException", "Password did not conform with policy: Password not long enough", SignInError.PASSWORD_POLICY),
        ("new", "PasswordHistoryPolicyViolationException", "used before", SignInError.PASSWORD_POLICY),
        ("new", "InvalidParameterException", "Invalid attributes given, email is missing", SignInError.PASSWORD_POLICY),
        ("new", "NotAuthorizedException", "Invalid session for the user.", SignInError.EXPIRED),
    ],
)  # fmt: skip
def test_what_an_error_is_to_a_person(step: str, kind: str, message: str, reason: SignInError) -> None:
    failure = failure_of(ApiError(kind, message), AT[step])
    assert isinstance(failure, SignInFailed)
    told = one_line(message) if reason in (SignInError.PASSWORD_POLICY, SignInError.REFUSED) else ""
    assert (failure.reason, failure.message) == (reason, told)


@pytest.mark.parametrize(
    ("step", "kind", "message"),
    [
        ("password", "NotAuthorizedException", "Unable to verify secret hash for client c1"),
        ("password", "NotAuthorizedException", "Client c1 is configured with secret but SECRET_HASH was not received"),
        ("new", "NotAuthorizedException", "Client c1 is configured for secret but secret was not received"),
        ("password", "InvalidParameterException", "Missing required parameter USERNAME"),
        ("password", "CodeMismatchException", ""),
        ("password", "ResourceNotFoundException", "User pool client c1 does not exist."),
        ("code", "InvalidPasswordException", ""),
        ("code", "InvalidUserPoolConfigurationException", ""),
        ("new", "status 400", ""),
    ],
)  # fmt: skip
def test_an_error_that_is_not_the_persons_is_the_providers(step: str, kind: str, message: str) -> None:
    failure = failure_of(ApiError(kind, message), AT[step])
    assert isinstance(failure, Refused)
    assert failure.code == Code.IDP_BAD_ANSWER
    assert failure.detail.startswith(kind)
    assert ("AWS_COGNITO_CLIENT_SECRET" in failure.detail) is ("ecret" in message)
    assert "c1" not in failure.detail


@pytest.mark.parametrize(
    ("kind", "message", "code"),
    [
        ("NotAuthorizedException", "Refresh Token has been revoked", Code.SESSION_EXPIRED),
        ("UserNotFoundException", "", Code.SESSION_EXPIRED),
        ("UserNotConfirmedException", "", Code.SESSION_EXPIRED),
        ("PasswordResetRequiredException", "", Code.SESSION_EXPIRED),
        ("RefreshTokenReuseException", "", Code.SESSION_EXPIRED),
        ("TooManyRequestsException", "", Code.IDP_UNAVAILABLE),
        ("LimitExceededException", "", Code.IDP_UNAVAILABLE),
        ("NotAuthorizedException", "Unable to verify secret hash for client c1", Code.IDP_BAD_ANSWER),
        ("InvalidParameterException", "", Code.IDP_BAD_ANSWER),
        ("UserLambdaValidationException", "", Code.IDP_BAD_ANSWER),
    ],
)
def test_what_an_error_is_to_a_session(kind: str, message: str, code: Code) -> None:
    assert session_failure(ApiError(kind, message)).code == code


def test_the_message_of_an_error_is_not_in_its_text() -> None:
    error = ApiError("NotAuthorizedException", "secret-token")
    assert "secret-token" not in f"{error} {error!r}"


def test_the_pools_words_are_one_short_line() -> None:
    assert one_line("  a\r\n\tb\x1b\u2028c  ") == "a b c"
    assert len(one_line("x" * 1000)) == MAX_MESSAGE
