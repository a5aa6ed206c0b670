"""Sessions that stand in for a bearer token. It only gives a token, which is verified as any other."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from sidecar.gate.identity import Tokens
from sidecar.gate.own import SESSION_COOKIE_NAME
from sidecar.gate.request import Request


class Session(NamedTuple):
    """One sign-in of one browser. Times are Unix seconds.

    `id` is 32 hexadecimal digits, new at each sign-in (R19). `token` is the JWT that the gate verifies, of the use that
    the issuer's `token_use` names; `expires` is its end. `identity` are claims of the id token, as
    `gate.identity.keep_claims` writes them. `refresh_token` is "" where there is none. `username` is what Cognito calls
    the user. `hosted` tells a sign-in by the hosted UI. `host` is the one where it was, without its port, where a
    session is of one host alone; else "".
    """

    id: str
    token: str
    identity: str
    refresh_token: str
    username: str
    expires: int
    created: int
    used: int
    hosted: bool
    host: str = ""

    def __repr__(self) -> str:
        # a token in a log is a session for whoever reads it
        return f"Session({self.id!r}, ...)"


class Presented(NamedTuple):
    """Result of a request's session: the token to verify, the session with what it keeps of the id token, and values of
    Set-Cookie for the answer."""

    token: bytes
    session: Session | None = None
    cookies: tuple[bytes, ...] = ()


class TokenSource(Protocol):
    """Port: where else than in Authorization a request may have its token. A browser sends it without being asked,
    so that an unsafe request with it must come from our own origin (R21)."""

    vary: bytes
    """The headers that it reads, as a value of Vary."""

    def holds(self, request: Request) -> bool:
        """Return whether the request has what this source reads."""
        ...

    async def present(self, request: Request, now: float, tokens: Tokens) -> Presented:
        """The token; `tokens` verifies those of this request. Raises Refused: SESSION_* or TOKEN_*."""
        ...


def session_cookies(cookie: bytes) -> dict[str, str]:
    """The session's own cookies of a Cookie header, by name (RFC 6265 section 4.2.1)."""
    found: dict[str, str] = {}
    for pair in cookie.split(b";"):
        name, _, value = pair.strip().partition(b"=")
        if SESSION_COOKIE_NAME.fullmatch(name):
            found[name.decode("ascii")] = value.decode("latin-1")
    return found
