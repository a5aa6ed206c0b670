"""Sign-in at Cognito: its results and errors, the HTTP client of the provider, and the check of the tokens.

`hosted.py` asks the domain of the hosted UI (OAuth 2.0), `user_pool.py` the API that takes passwords and challenges.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

import httpx

from sidecar.gate.codes import Code
from sidecar.gate.identity import FindKey, Issuer, verified_claims
from sidecar.gate.verdict import Refused
from sidecar.net.breaker import Report
from sidecar.net.faults import reason_of
from sidecar.trust.download import NO_PROXY, Downloads, Proxy, Unusable
from sidecar.wire import strict_json

T = TypeVar("T")

log = logging.getLogger("sidecar.provider")

ASK_WITHIN = 3.0
"""Seconds for one question to the provider, from the connection to the last byte of its answer."""
MAX_ANSWER = 64 * 1024
MAX_CONNECTIONS = 32
_SERVER_ERROR = 500


class TokenSet(NamedTuple):
    """The tokens of one sign-in or refresh. `refresh_token` "" is none, or to keep the one that there is; `id_token` ""
    is one that a refresh did not give."""

    access_token: str
    id_token: str
    refresh_token: str

    def __repr__(self) -> str:
        # a token in a log is a session for whoever reads it
        return "TokenSet(...)"


class Challenge(NamedTuple):
    """Question of the pool beside the password; `UserPool.respond` answers it.

    `name` is Cognito's: NEW_PASSWORD_REQUIRED, SOFTWARE_TOKEN_MFA, SMS_MFA or EMAIL_OTP. `session` is the pool's, and
    good for some minutes. `parameters` are for the page, as the pool says them: `destination` (masked) and `medium` of
    a code that was sent, `device` that makes codes, `required` (names with spaces between) that a new password needs.
    """

    name: str
    session: str
    username: str
    parameters: Mapping[str, str]

    def __repr__(self) -> str:
        # with the session, whoever knows a code is signed in
        return f"Challenge(name={self.name!r}, ...)"


class SignInError(StrEnum):
    """Why a person is not signed in, for the page to say."""

    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - a reason; it stands for an unknown user, too
    THROTTLED = "throttled"
    UNCONFIRMED = "unconfirmed"
    RESET_REQUIRED = "reset_required"
    WRONG_CODE = "wrong_code"
    EXPIRED = "expired"
    PASSWORD_POLICY = "password_policy"  # noqa: S105 - a reason
    DISABLED = "disabled"
    REFUSED = "refused"
    UNSUPPORTED_CHALLENGE = "unsupported_challenge"
    FLOW_NOT_ALLOWED = "flow_not_allowed"


class SignInFailed(Exception):
    """The provider answered, and the person is not signed in.

    `message` goes with PASSWORD_POLICY and REFUSED (what the pool says, one short line, to be escaped by the page) and
    UNSUPPORTED_CHALLENGE (the challenge's name); "" with all others.
    """

    def __init__(self, reason: SignInError, message: str = "") -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.message = message


class ClientSecrets:
    """Secrets of an app client, more than one while it is being changed. "" is that of a client without one."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = list(secrets) or [""]

    async def ask(self, ask: Callable[[str], Awaitable[T]], is_refusal: Callable[[T], bool]) -> T:
        """The answer by the first secret that is not refused, else the last refusal. The next call begins with it."""
        first, *others = self._secrets
        answer = await ask(first)
        for secret in others:
            if not is_refusal(answer):
                break
            answer = await ask(secret)
            if not is_refusal(answer):
                self._prefer(secret)
        return answer

    def _prefer(self, secret: str) -> None:
        if secret != self._secrets[0]:
            log.warning(
                "AWS_COGNITO_CLIENT_SECRET: the app client refuses one of its secrets and takes another: remove the one"
                " that it refuses from the setting"
            )
        self._secrets.remove(secret)
        self._secrets.insert(0, secret)


class ProviderResponse(NamedTuple):
    """A whole answer of the provider, no redirect and no server's error. `kind` is its media type."""

    status: int
    kind: str
    body: bytes

    def __repr__(self) -> str:
        return f"ProviderResponse(status={self.status}, kind={self.kind!r}, {len(self.body)} bytes)"


class ServerError(Refused):
    """A status from 500 on: IDP_UNAVAILABLE. `known` tells whether it came in the form of the API's own errors."""

    def __init__(self, status: int, kind: str) -> None:
        super().__init__(Code.IDP_UNAVAILABLE, f"status {status}")
        self.status = status
        self.known = kind in _JSON


_JSON = ("application/json", "application/x-amz-json-1.1")


class Provider:
    """Asks the provider's endpoints, each time on a connection of its own. `report` gets each fault."""

    def __init__(self, report: Report, proxy: Proxy = NO_PROXY) -> None:
        self._report = report
        self._downloads = Downloads(
            timeout=ASK_WITHIN, limit=MAX_ANSWER, max_connections=MAX_CONNECTIONS, proxy=proxy
        )  # fmt: skip

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> ProviderResponse:
        """POST to one of the provider's endpoints. Raises Refused: IDP_UNAVAILABLE, IDP_BAD_ANSWER."""
        request = httpx.Request("POST", url, headers={"accept": "application/json", **headers}, content=body)
        try:
            async with asyncio.timeout(ASK_WITHIN):
                reply = await self._send(request)
        except (TimeoutError, httpx.TimeoutException):
            raise self.failed("timeout", Refused(Code.IDP_UNAVAILABLE, "no answer in time")) from None
        except httpx.ProtocolError:
            raise self.failed("bad_answer", Refused(Code.IDP_BAD_ANSWER, "no whole answer of HTTP")) from None
        except httpx.HTTPError as error:
            # its reason and not its text, which may have what was sent
            raise self.failed("unavailable", Refused(Code.IDP_UNAVAILABLE, str(reason_of(error)))) from None
        except Refused as refused:
            raise self.failed("status" if refused.code == Code.IDP_UNAVAILABLE else "bad_answer", refused) from None
        return reply

    def failed(self, fault: str, refused: Refused) -> Refused:
        """Return the refusal, after logging and counting it."""
        log.warning("the identity provider: %s: %s", fault, refused.detail)
        self._report("idp", fault)
        return refused

    def read(self, reply: ProviderResponse) -> dict[str, Any]:
        """The JSON object of an answer. Raises Refused(IDP_BAD_ANSWER)."""
        try:
            value = strict_json.loads(reply.body) if reply.kind in _JSON else None
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise self.bad("expected a JSON object")
        return value

    def bad(self, detail: str) -> Refused:
        """The refusal for an answer that cannot be used."""
        return self.failed("bad_answer", Refused(Code.IDP_BAD_ANSWER, detail))

    async def _send(self, request: httpx.Request) -> ProviderResponse:
        try:
            status, headers, body = await self._downloads.ask(request, _judge)
        except Unusable as error:
            raise Refused(Code.IDP_BAD_ANSWER, str(error)) from None
        return ProviderResponse(status, _kind(headers), body)

    async def aclose(self) -> None:
        """Close; questions that are open end as unavailable."""
        await self._downloads.aclose()


def _kind(headers: httpx.Headers) -> str:
    """The media type, without parameters."""
    value: str = headers.get("content-type", "")
    return value.partition(";")[0].strip().lower()


def _judge(response: httpx.Response) -> None:
    status = response.status_code
    if status >= _SERVER_ERROR:
        raise ServerError(status, _kind(response.headers))
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise Refused(Code.IDP_UNAVAILABLE, "status 429")
    if not (status == httpx.codes.OK or httpx.codes.is_client_error(status)):
        raise Refused(Code.IDP_BAD_ANSWER, f"status {status}")


_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")


def token_in(answer: Mapping[str, Any], name: str) -> str | None:
    """Return a token of an answer: "" if it is absent, None if it is malformed."""
    value = answer.get(name, "")
    if value == "":
        return ""
    return value if isinstance(value, str) and _TOKEN.fullmatch(value) else None


class VerifiedTokens(NamedTuple):
    """The verified claims of a sign-in's two tokens, which are of one user."""

    access: Mapping[str, Any]
    identity: Mapping[str, Any]


async def verify_id_token(
    grant: TokenSet, issuers: Mapping[str, Issuer], client_id: str, find_key: FindKey, now: float, nonce: str | None
) -> VerifiedTokens:
    """Verify both tokens of a sign-in as the gate would (R13), and that they belong together (R19).

    `issuers` are those of the pool, `client_id` is the app client that asked. `nonce` is what the browser was sent to
    the hosted UI with (OpenID Connect Core, section 3.1.3.7); None for a sign-in with a password, which has none.
    Without an access token, the id token stands alone, and there are no claims of the other.
    Raises Refused: SIGN_IN_INVALID for tokens that are not of this sign-in, KEYS_UNAVAILABLE.
    """
    try:
        access = None
        if grant.access_token:
            access = await _claims(grant.access_token, "access", issuers, client_id, find_key, now)
        identity = await _claims(grant.id_token, "id", issuers, client_id, find_key, now)
    except Refused as refused:
        if refused.code == Code.KEYS_UNAVAILABLE:
            raise
        raise _not_of_this_sign_in(refused.detail or str(refused.code)) from None
    if nonce is not None and not _is_same(identity.get("nonce"), nonce):
        raise _not_of_this_sign_in("nonce: of another sign-in")
    if access is None:
        return VerifiedTokens({}, identity)
    if not _is_same(access.get("sub"), identity.get("sub")) or access["iss"] != identity["iss"]:
        raise _not_of_this_sign_in("sub: an access token of another user")
    return VerifiedTokens(access, identity)


async def _claims(
    token: str, use: str, issuers: Mapping[str, Issuer], client_id: str, find_key: FindKey, now: float
) -> dict[str, Any]:
    only = {
        name: issuer._replace(token_use=frozenset([use]), client_ids=frozenset([client_id]))
        for name, issuer in issuers.items()
    }
    claims, _ = await verified_claims(token.encode("ascii"), only, find_key, now)
    return claims


def _is_same(found: object, expected: object) -> bool:
    if not isinstance(found, str) or not isinstance(expected, str) or not expected:
        return False
    return hmac.compare_digest(found.encode(), expected.encode())


def _not_of_this_sign_in(detail: str) -> Refused:
    log.warning("tokens that are not of this sign-in: %s", detail)
    return Refused(Code.SIGN_IN_INVALID, detail)
