"""What stands in for a bearer token: a browser's session. It only gives a token, which is verified as any other."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from sidecar.gate.request import Request

SESSION_COOKIE = b"__Host-session"
"""The session's cookie; what does not fit into one goes on in `__Host-session.1`, `.2`, ..."""

COOKIE_ATTRIBUTES = "; Path=/; Secure; HttpOnly; SameSite=Lax"
"""Of every cookie of ours (R20). `__Host-` wants the first two, and no Domain (RFC 6265bis section 4.1.3.2)."""


class Session(NamedTuple):
    """One sign-in of one browser. Times are Unix seconds.

    `id` is 32 hexadecimal digits, new at each sign-in (R19). `token` is the JWT that the gate verifies, of the use that
    the issuer's `token_use` names; `expires` is its end. `id_token` is for the console alone, `refresh_token` "" where
    there is none. `username` is what Cognito calls the user. `hosted` tells a sign-in by the hosted UI.
    """

    id: str
    token: str
    id_token: str
    refresh_token: str
    username: str
    expires: int
    created: int
    used: int
    hosted: bool


class Presented(NamedTuple):
    """What a request's session gave: the token to verify, the session, and values of Set-Cookie for the answer."""

    token: bytes
    session: Session | None = None
    cookies: tuple[bytes, ...] = ()


class TokenSource(Protocol):
    """Port: where else than in Authorization a request may have its token. A browser sends it without being asked,
    so that an unsafe request with it must come from our own origin (R21)."""

    def holds(self, request: Request) -> bool:
        """Whether the request has what this source reads."""
        ...

    async def present(self, request: Request, now: float) -> Presented:
        """The token. Raises Refused: SESSION_* or TOKEN_*."""
        ...


def session_crumbs(cookie: bytes) -> dict[str, str]:
    """The session's own cookies of a Cookie header, by name (RFC 6265 section 4.2.1)."""
    crumbs: dict[str, str] = {}
    for crumb in cookie.split(b";"):
        name, _, value = crumb.strip().partition(b"=")
        if name.startswith(SESSION_COOKIE):
            crumbs[name.decode("latin-1")] = value.decode("latin-1")
    return crumbs


def expired(name: str) -> bytes:
    """The Set-Cookie that takes a cookie of ours away (RFC 6265 section 3.1)."""
    return f"{name}={COOKIE_ATTRIBUTES}; Max-Age=0".encode("ascii")
