"""Memory of the stand-in of the hosted UI: who signed in, and what was granted to which client. No I/O."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

SESSION_SECONDS = 3600
"""Life of the hosted UI's own cookie, whatever the life of tokens is."""
CODE_SECONDS = 300.0
REFRESH_SECONDS = 30 * 24 * 3600.0

Clock = Callable[[], float]
"""Unix seconds."""


class OAuthError(Exception):
    """A refusal by the name that RFC 6749 (sections 4.1.2.1 and 5.2) gives it; the description is for developers."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error, description)
        self.error = error
        self.description = description


class AuthorizationRequest(NamedTuple):
    """Request of a client at the authorization endpoint, once it was found to be in order."""

    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    code_challenge: str
    state: str | None = None
    nonce: str | None = None
    resource: str | None = None


class BrowserSession(NamedTuple):
    """A browser that has signed in. `pool_token` is the user pool's refresh token; `auth_time` is in Unix seconds."""

    pool_token: str
    auth_time: int


@dataclass(eq=False)
class AuthorizationGrant:
    """Permission that a user gave a client: all tokens that come of one code. `id` is their claim `origin_jti`.

    `pool_access` is the pool's own access token, by which it tells whether the user is still there.
    """

    client_id: str
    scopes: tuple[str, ...]
    session: BrowserSession
    nonce: str | None
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    resource: str | None = None
    """The resource that access tokens are made for (RFC 8707)."""
    pool_access: str = ""
    revoked: bool = False


class _Code(NamedTuple):
    request: AuthorizationRequest
    session: BrowserSession
    ends: float


@dataclass(eq=False)
class _RefreshToken:
    grant: AuthorizationGrant
    ends: float
    # with rotation only: when it was first used
    spent: float | None = None


class Grants:
    """Sessions, codes and refresh tokens of one authorization server.

    With `rotation_grace` each refresh gives a new refresh token, and the old one is good for so many seconds more.
    """

    def __init__(self, now: Clock, *, code_seconds: float = CODE_SECONDS, rotation_grace: float | None = None) -> None:
        self._now = now
        self._code_seconds = code_seconds
        self._rotation_grace = rotation_grace
        self._sessions: dict[str, tuple[BrowserSession, float]] = {}
        self._codes: dict[str, _Code] = {}
        self._refresh_tokens: dict[str, _RefreshToken] = {}
        self._grants: dict[str, AuthorizationGrant] = {}

    def sign_in(self, pool_token: str) -> tuple[str, BrowserSession]:
        """A session that begins now, and the value of its cookie."""
        session = BrowserSession(pool_token, int(self._now()))
        cookie = secrets.token_urlsafe(32)
        self._sessions[cookie] = (session, self._now() + SESSION_SECONDS)
        return cookie, session

    def session(self, cookie: str) -> BrowserSession | None:
        """The session of a cookie, while it lasts."""
        session, ends = self._sessions.get(cookie, (None, 0.0))
        return session if self._now() < ends else None

    def sign_out(self, cookie: str) -> None:
        """End a session. What was granted before stays granted."""
        self._sessions.pop(cookie, None)

    def authorize(self, request: AuthorizationRequest, session: BrowserSession) -> str:
        """A code for this request."""
        code = str(uuid.uuid4())
        self._codes[code] = _Code(request, session, self._now() + self._code_seconds)
        return code

    def redeem(self, client_id: str, code: str, redirect_uri: str, verifier: str) -> AuthorizationGrant:
        """The grant of a code, which is spent whatever comes of it. Raises OAuthError(invalid_grant)."""
        held = self._codes.pop(code, None)
        if held is None:
            raise OAuthError("invalid_grant", "code: unknown, or used before")
        if held.request.client_id != client_id:
            raise OAuthError("invalid_grant", "code: issued to another client")
        if self._now() >= held.ends:
            raise OAuthError("invalid_grant", "code: expired")
        if held.request.redirect_uri != redirect_uri:
            raise OAuthError("invalid_grant", "redirect_uri: not that of the authorization request")
        if not _proves(verifier, held.request.code_challenge):
            raise OAuthError("invalid_grant", "code_verifier: does not fit the code_challenge")
        asked = held.request
        grant = AuthorizationGrant(client_id, asked.scopes, held.session, asked.nonce, resource=asked.resource)
        self._grants[grant.id] = grant
        return grant

    def refresh_token(self, grant: AuthorizationGrant) -> str:
        """A new refresh token."""
        token = secrets.token_urlsafe(48)
        self._refresh_tokens[token] = _RefreshToken(grant, self._now() + REFRESH_SECONDS)
        return token

    def refresh(self, client_id: str, token: str) -> tuple[AuthorizationGrant, str | None]:
        """The grant of a refresh token and, with rotation, the next one. Raises OAuthError(invalid_grant)."""
        held = self._refresh_tokens.get(token)
        now = self._now()
        if held is None or held.grant.revoked or now >= held.ends:
            raise OAuthError("invalid_grant", "refresh_token: unknown, expired or revoked")
        if held.grant.client_id != client_id:
            raise OAuthError("invalid_grant", "refresh_token: issued to another client")
        if self._rotation_grace is None:
            return held.grant, None
        if held.spent is not None and now >= held.spent + self._rotation_grace:
            raise OAuthError("invalid_grant", "refresh_token: rotated, this one was used before")
        held.spent = now if held.spent is None else held.spent
        return held.grant, self.refresh_token(held.grant)

    def revoke(self, client_id: str, token: str) -> bool:
        """End the grant of a refresh token, and all that came of it; False for anything that is no refresh token.

        Raises OAuthError(invalid_grant) for a token of another client, which stays as it is (RFC 7009 section 2.1).
        """
        held = self._refresh_tokens.get(token)
        if held is None:
            return False
        if held.grant.client_id != client_id:
            raise OAuthError("invalid_grant", "token: issued to another client")
        held.grant.revoked = True
        return True

    def find(self, grant_id: str) -> AuthorizationGrant | None:
        """The grant with this id, unless it was revoked."""
        grant = self._grants.get(grant_id)
        return None if grant is None or grant.revoked else grant


# RFC 7636 section 4.1: code-verifier = 43*128unreserved
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")


def _proves(verifier: str, challenge: str) -> bool:
    """RFC 7636 section 4.6: BASE64URL-ENCODE(SHA256(ASCII(code_verifier))) == code_challenge"""
    if not _VERIFIER.fullmatch(verifier):
        return False
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"="), challenge.encode())
