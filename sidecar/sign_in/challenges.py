"""Answers of the API of a user pool: tokens, a challenge, or an error; and the answers to its challenges. No I/O.

Of an error the log gets the name alone: the API's messages may have what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.sign_in.provider import Challenge, ProviderResponse, SignInError, SignInFailed, TokenSet, token_in
from sidecar.wire import strict_json

NEW_PASSWORD = "NEW_PASSWORD_REQUIRED"  # noqa: S105 - a challenge's name
CODES = {"SOFTWARE_TOKEN_MFA": "SOFTWARE_TOKEN_MFA_CODE", "SMS_MFA": "SMS_MFA_CODE", "EMAIL_OTP": "EMAIL_OTP_CODE"}
"""The challenges that a code answers, and what Cognito calls the answer."""
USER_ADMIN = "aws.cognito.signin.user.admin"
"""The scope of access tokens that the API takes; a sign-in by the API itself always gives it."""
LACKS_SCOPE = (
    f"the access token lacks the scope {USER_ADMIN}: allow it on the app client, and name it in AWS_COGNITO_SCOPES"
)
MAX_MESSAGE = 200
"""Characters that a person is told of the pool's own words."""

PoolReply = Mapping[str, Any]
Reasons = Mapping[str, SignInError]
"""Errors of the API at one step -> reasons shown to the user; any other error is an unusable answer."""


# --- answers ---

_NAME = re.compile(r"[A-Za-z_]{1,64}")
_SESSION = re.compile(r"[\x21-\x7e]{1,4096}")
_ATTRIBUTES = "userAttributes."
_ATTRIBUTE = re.compile(r"(?:userAttributes\.)?[A-Za-z0-9_:-]{1,64}")
_TOLD = {
    "destination": "CODE_DELIVERY_DESTINATION",
    "medium": "CODE_DELIVERY_DELIVERY_MEDIUM",
    "device": "FRIENDLY_DEVICE_NAME",
}


def outcome(answer: PoolReply, username: str) -> TokenSet | Challenge:
    """Read the answer of InitiateAuth or RespondToAuthChallenge for `username`. Raises
    SignInFailed(UNSUPPORTED_CHALLENGE), Refused(IDP_BAD_ANSWER)."""
    if answer.get("ChallengeName") is not None:
        return _challenge(answer, username)
    result = answer.get("AuthenticationResult")
    if not isinstance(result, dict) or text(result, "TokenType").lower() != "bearer":
        raise bad("expected bearer tokens")
    access, identity, refresh = (token_in(result, name) for name in ("AccessToken", "IdToken", "RefreshToken"))
    if not access or not identity or refresh is None:
        raise bad("expected an access token and an id token")
    return TokenSet(access, identity, refresh)


def _challenge(answer: PoolReply, username: str) -> Challenge:
    name, session, asked = text(answer, "ChallengeName"), text(answer, "Session"), answer.get("ChallengeParameters")
    if not _NAME.fullmatch(name) or not isinstance(asked, dict):
        raise bad("a challenge that cannot be read")
    if name != NEW_PASSWORD and name not in CODES:
        raise SignInFailed(SignInError.UNSUPPORTED_CHALLENGE, name)
    if not _SESSION.fullmatch(session):
        raise bad(f"{name}: expected a session")
    told = {ours: one_line(text(asked, theirs)) for ours, theirs in _TOLD.items() if text(asked, theirs)}
    required = _required(asked)
    if required:
        told["required"] = " ".join(required)
    # AWS, RespondToAuthChallenge: the user's own name, where a person came with an alias
    internal = text(asked, "USERNAME") or text(asked, "USER_ID_FOR_SRP") or username
    return Challenge(name, session, internal, told)


def _required(asked: PoolReply) -> list[str]:
    """The attributes that a new password must come with: a list, as JSON in a string."""
    try:
        names = strict_json.loads(text(asked, "requiredAttributes").encode() or b"[]")
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) and _ATTRIBUTE.fullmatch(name) for name in names):
        raise bad("requiredAttributes: expected a list of names")
    return [name.removeprefix(_ATTRIBUTES) for name in names]


def bad(detail: str) -> Refused:
    """The refusal for an answer that cannot be used."""
    return Refused(Code.IDP_BAD_ANSWER, detail)


def text(answer: PoolReply, name: str) -> str:
    """A string of an answer, "" where there is none."""
    value = answer.get(name)
    return value if isinstance(value, str) else ""


def one_line(words: str, most: int = MAX_MESSAGE) -> str:
    """The pool's own words as one short line."""
    return " ".join("".join(char if char.isprintable() else " " for char in words[: 2 * MAX_MESSAGE]).split())[:most]


# --- what a person enters; outside of the API's own patterns it need not be asked ---

_PASSWORD = re.compile(r"\S.{0,254}\S", re.DOTALL)
_CODE = re.compile(r"[0-9]{1,16}")


def is_username(username: str) -> bool:
    """Return whether a user can have this name or alias."""
    return 1 <= len(username) <= 128 and username.isprintable() and " " not in username


def is_password(password: str) -> bool:
    """Return whether a user can have this password."""
    return _PASSWORD.fullmatch(password) is not None


def responses_to(challenge: Challenge, answers: Mapping[str, str]) -> dict[str, str]:
    """The answer in Cognito's words. Raises SignInFailed for one that need not be sent, or of no challenge of ours."""
    if challenge.name == NEW_PASSWORD:
        return _new_password(challenge, answers)
    if challenge.name not in CODES:
        raise SignInFailed(SignInError.UNSUPPORTED_CHALLENGE, one_line(challenge.name))
    code = answers.get("code", "").replace(" ", "")
    if not _CODE.fullmatch(code):
        raise SignInFailed(SignInError.WRONG_CODE)
    return {CODES[challenge.name]: code}


def _new_password(challenge: Challenge, answers: Mapping[str, str]) -> dict[str, str]:
    """The new password and the attributes that the pool asked for: a form can set no others."""
    password = answers.get("password", "")
    if not is_password(password):
        raise SignInFailed(SignInError.PASSWORD_POLICY)
    responses = {"NEW_PASSWORD": password}
    for name in challenge.parameters.get("required", "").split():
        value = answers.get(name, "").strip()
        if not value:
            raise SignInFailed(SignInError.PASSWORD_POLICY, f"{name} is required")
        responses[_ATTRIBUTES + name] = value
    return responses


# --- errors ---


class ApiError(Exception):
    """An error of the API by its name. The message is for `failure_of` alone."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind)
        self.kind = kind
        self.message = message


def error_in(reply: ProviderResponse, answer: PoolReply) -> ApiError:
    """The error that an answer is: `__type` is its name, or has a namespace before it (Smithy, AWS JSON 1.1)."""
    kind = text(answer, "__type").rpartition("#")[2]
    return ApiError(kind if _NAME.fullmatch(kind) else f"status {reply.status}", text(answer, "message"))


_THROTTLING = dict.fromkeys(
    ["TooManyRequestsException", "LimitExceededException", "TooManyFailedAttemptsException"], SignInError.THROTTLED
)
_ANY_STEP = {
    **_THROTTLING,
    # whether there is such a user is nobody's business
    "UserNotFoundException": SignInError.WRONG_PASSWORD,
    "UserNotConfirmedException": SignInError.UNCONFIRMED,
    "PasswordResetRequiredException": SignInError.RESET_REQUIRED,
    # a Lambda trigger or a web ACL of the pool
    "UserLambdaValidationException": SignInError.REFUSED,
    "ForbiddenException": SignInError.REFUSED,
}
AT_PASSWORD: Reasons = {**_ANY_STEP, "NotAuthorizedException": SignInError.WRONG_PASSWORD}
_AT_CHALLENGE = {
    **_ANY_STEP,
    # the session is over, or was used
    "NotAuthorizedException": SignInError.EXPIRED,
    "ResourceNotFoundException": SignInError.EXPIRED,
    "ExpiredCodeException": SignInError.EXPIRED,
    "CodeMismatchException": SignInError.WRONG_CODE,
}
AT_CODE: Reasons = {**_AT_CHALLENGE, "InvalidParameterException": SignInError.WRONG_CODE}
AT_NEW_PASSWORD: Reasons = {
    **_AT_CHALLENGE,
    "InvalidPasswordException": SignInError.PASSWORD_POLICY,
    "PasswordHistoryPolicyViolationException": SignInError.PASSWORD_POLICY,
    # an attribute that the pool does not take
    "InvalidParameterException": SignInError.PASSWORD_POLICY,
}
_SAID = {"attempts exceeded": SignInError.THROTTLED, "user is disabled": SignInError.DISABLED}
"""Cases of NotAuthorizedException that only its message distinguishes."""
_UNAUTHORIZED = ("NotAuthorizedException", "UnauthorizedException")
_SECRET = re.compile(r"secret[ _]hash|with secret|for secret|client secret")
_SCOPE = re.compile(r"\bscopes?\b")
_TELLING = (SignInError.PASSWORD_POLICY, SignInError.REFUSED)
_ENDED = (
    "NotAuthorizedException", "UserNotFoundException", "UserNotConfirmedException", "PasswordResetRequiredException",
    "RefreshTokenReuseException",
)  # fmt: skip


def failure_of(error: ApiError, reasons: Reasons) -> SignInFailed | Refused:
    """Translate an error of the API for a person who signs in."""
    message = error.message.lower()
    if is_about_secret(error):
        return _unexpected(error)
    if error.kind == "NotAuthorizedException":
        for said, reason in _SAID.items():
            if said in message:
                return SignInFailed(reason)
    if error.kind == "InvalidParameterException" and "not enabled for" in message:
        return SignInFailed(SignInError.FLOW_NOT_ALLOWED)
    found = reasons.get(error.kind)
    if found is None:
        return _unexpected(error)
    return SignInFailed(found, one_line(error.message) if found in _TELLING else "")


def session_failure(error: ApiError) -> Refused:
    """Translate an error of the API for a session that there was."""
    if error.kind in _THROTTLING:
        return Refused(Code.IDP_UNAVAILABLE, error.kind)
    if error.kind in _UNAUTHORIZED and _SCOPE.search(error.message.lower()):
        return bad(f"{error.kind}: {LACKS_SCOPE}")
    if error.kind in _ENDED and not is_about_secret(error):
        return Refused(Code.SESSION_EXPIRED, error.kind)
    return _unexpected(error)


def is_about_secret(error: object) -> bool:
    """Return whether it is an error that says that the app client's secret does not fit; so nothing of the person."""
    if not isinstance(error, ApiError):
        return False
    return error.kind in _UNAUTHORIZED and _SECRET.search(error.message.lower()) is not None


def _unexpected(error: ApiError) -> Refused:
    return bad(f"{error.kind}{': AWS_COGNITO_CLIENT_SECRET does not fit' if is_about_secret(error) else ''}")
