"""What signing in gives, and how Cognito is asked for it: one question, one strict answer, one deadline (R26)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from enum import StrEnum
from typing import Any, NamedTuple

import httpx

from sidecar.gate import strict_json
from sidecar.gate.verdict import Code, Refused

WITHIN = 3.0
"""Seconds for one question, whatever it takes."""
MAX_ANSWER = 64 * 1024
MAX_TOKEN = 8192
"""Characters of one token; AWS tells no limit, and a session has to carry three."""


class Grant(NamedTuple):
    """The tokens of a sign-in or a renewal; `refresh_token` is "" where there is none, or where the old one goes on."""

    access_token: str
    id_token: str
    refresh_token: str

    def __repr__(self) -> str:
        return "Grant(...)"


class Challenge(NamedTuple):
    """What Cognito asks for after the password: its name, its session, the user's name and what a person is told."""

    name: str
    session: str
    username: str
    parameters: dict[str, str]


class Reason(StrEnum):
    """Why a sign-in failed; stable, in the log."""

    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - a reason, not a password
    WRONG_CODE = "wrong_code"
    THROTTLED = "throttled"
    UNCONFIRMED = "unconfirmed"
    RESET_REQUIRED = "reset_required"
    EXPIRED = "expired"
    PASSWORD_POLICY = "password_policy"  # noqa: S105 - a reason, not a password
    DISABLED = "disabled"
    UNSUPPORTED_CHALLENGE = "unsupported_challenge"
    FLOW_NOT_ALLOWED = "flow_not_allowed"


class SignInFailed(Exception):
    """Nobody is signed in like this. `message` is for the person, where Cognito says more than the reason does."""

    def __init__(self, reason: Reason, message: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.message = message


class AppClient(NamedTuple):
    """The app client that people sign in to; `secret` is "" for a public one."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"AppClient({self.id!r})"

    def basic(self) -> str:
        """The Authorization of a confidential client (RFC 6749 section 2.3.1)."""
        return "Basic " + base64.b64encode(f"{self.id}:{self.secret}".encode()).decode("ascii")

    def secret_hash(self, username: str) -> str:
        """SECRET_HASH (AWS, "Computing secret hash values"): HMAC-SHA256 of user name and client id."""
        digest = hmac.digest(self.secret.encode(), (username + self.id).encode(), hashlib.sha256)
        return base64.b64encode(digest).decode("ascii")


class Asker:
    """Asks the identity provider. No cookie, no redirect and no proxy of the environment has a say in it."""

    def __init__(self, within: float = WITHIN) -> None:
        self._within = within
        self._http: httpx.AsyncClient | None = None

    async def ask(self, url: str, headers: dict[str, str], content: bytes) -> tuple[int, dict[str, Any]]:
        """POST -> (status, JSON object; {} for an empty body). Raises Refused: IDP_UNAVAILABLE, IDP_BAD_ANSWER."""
        try:
            async with asyncio.timeout(self._within):
                status, kind, body = await self._post(url, headers, content)
        except (TimeoutError, httpx.TransportError) as error:
            raise Refused(Code.IDP_UNAVAILABLE, type(error).__name__) from None
        if status >= 500:
            raise Refused(Code.IDP_UNAVAILABLE, f"status {status}")
        if not body and status == 200:
            return status, {}
        return status, _document(status, kind, body)

    async def _post(self, url: str, headers: dict[str, str], content: bytes) -> tuple[int, str, bytes]:
        if self._http is None:
            # a connection for each question: nothing that is left over on one can answer for another person
            limits = httpx.Limits(max_connections=32, max_keepalive_connections=0)
            self._http = httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=self._within, limits=limits)
        # built by hand: no cookie of an earlier answer comes along
        request = httpx.Request("POST", url, headers={**headers, "accept-encoding": "identity"}, content=content)
        response = await self._http.send(request, stream=True)
        try:
            if "content-encoding" in response.headers:
                raise Refused(Code.IDP_BAD_ANSWER, "a content encoding that was not asked for")
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MAX_ANSWER:
                    raise Refused(Code.IDP_BAD_ANSWER, f"more than {MAX_ANSWER} bytes")
        finally:
            await response.aclose()
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        return response.status_code, kind, bytes(body)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()


def _document(status: int, kind: str, body: bytes) -> dict[str, Any]:
    if status not in (200, 400, 401, 403, 429):
        raise Refused(Code.IDP_BAD_ANSWER, f"status {status}")
    if kind not in ("application/json", "application/x-amz-json-1.1"):
        raise Refused(Code.IDP_BAD_ANSWER, f"found {kind[:64]!r}, expected JSON")
    try:
        document = strict_json.loads(body)
    except ValueError as error:
        raise Refused(Code.IDP_BAD_ANSWER, str(error)) from None
    if not isinstance(document, dict):
        raise Refused(Code.IDP_BAD_ANSWER, "no JSON object")
    return document


def text_of(document: dict[str, Any], name: str, *, optional: bool = False) -> str:
    """A text of an answer. Raises Refused(IDP_BAD_ANSWER) where it is missing, of another type or endless."""
    value = document.get(name)
    if value is None and optional:
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TOKEN or not value.isascii() or not value.isprintable():
        raise Refused(Code.IDP_BAD_ANSWER, f"{name}: expected a text of 1 to {MAX_TOKEN} visible characters")
    return value
