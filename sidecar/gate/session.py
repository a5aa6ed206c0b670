"""What stands in for a bearer token: a browser's session. It only gives a token, which is verified as any other."""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

from sidecar.gate.identity import Tokens
from sidecar.gate.request import Request

SESSION_COOKIE = b"__Host-session"
SESSION_COOKIES = ("__Host-session", "__Host-session.1", "__Host-session.2", "__Host-session.3")
"""The session's cookies: what does not fit into one goes on in the next."""


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

    def __repr__(self) -> str:
        # a token in a log is a session for whoever reads it
        return f"Session({self.id!r}, ...)"


class Presented(NamedTuple):
    """What a request's session gave: the token to verify, the session, and values of Set-Cookie for the answer."""

    token: bytes
    session: Session | None = None
    cookies: tuple[bytes, ...] = ()


class TokenSource(Protocol):
    """Port: where else than in Authorization a request may have its token. A browser sends it without being asked,
    so that an unsafe request with it must come from our own origin (R21)."""

    vary: bytes
    """The headers that it reads, as a value of Vary."""

    def holds(self, request: Request) -> bool:
        """Whether the request has what this source reads."""
        ...

    async def present(self, request: Request, now: float, tokens: Tokens) -> Presented:
        """The token; `tokens` verifies those of this request. Raises Refused: SESSION_* or TOKEN_*."""
        ...


def session_crumbs(cookie: bytes) -> dict[str, str]:
    """The session's own cookies of a Cookie header, by name (RFC 6265 section 4.2.1)."""
    crumbs: dict[str, str] = {}
    for crumb in cookie.split(b";"):
        name, _, value = crumb.strip().partition(b"=")
        if _NAME.fullmatch(name):
            crumbs[name.decode("ascii")] = value.decode("latin-1")
    return crumbs


_NAME = re.compile(rb"__Host-session(?:\.[0-9]{1,4})?")


def set_cookie(name: str, value: str) -> bytes:
    """The Set-Cookie of a cookie of ours (R20). Without a Max-Age, it goes when the browser is closed."""
    return f"{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax".encode("ascii")


def expired(name: str) -> bytes:
    """The Set-Cookie that takes a cookie of ours from the browser (RFC 6265 section 3.1)."""
    return set_cookie(name, "") + b"; Max-Age=0"
