"""A browser's cookie jar, and a token endpoint with a switch for each fault, for the tests of sessions."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable
from typing import Any, Self

from jwt import PyJWK

from sidecar.gate.codes import Code
from sidecar.gate.identity import PrincipalRules, Tokens
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.session import Session
from sidecar.gate.verdict import Refused
from sidecar.sessions.sessions import Renewed
from tests.tokens import b64

NOW = 1_800_000_000
SECRETS = ("first secret of thirty-two characters",)
ID = "abcd" * 8
ATTRIBUTES = "; Path=/; Secure; HttpOnly; SameSite=Lax"


def unreported(dep: str, fault: str) -> None:
    """Nobody counts."""


def jwt(sub: str = "a-1", issued: int = NOW, life: int = 3600) -> str:
    """A token in shape; no signature, as sessions verify none."""
    payload = json.dumps({"sub": sub, "iat": issued, "exp": issued + life}).encode()
    return b".".join([b64(b'{"alg":"RS256","kid":"k"}'), b64(payload), b64(os.urandom(256))]).decode()


def signed_in(now: int = NOW, *, life: int = 3600, **fields: Any) -> Session:
    """A session as it is at the sign-in."""
    token = jwt(issued=now, life=life)
    session = Session(ID, token, "", "r0", "alice", now + life, now, now, hosted=True)
    return session._replace(**fields)


def request_with(cookie: str, *, websocket: bool = False) -> Request:
    """A request as the gate reads it, with this Cookie header."""
    headers = [(b"host", b"app.test"), *([(b"cookie", cookie.encode("latin-1"))] if cookie else [])]
    return read(Raw("GET", b"/", headers, "127.0.0.1", "https", "r-1", websocket), Reading())


class Browser:
    """Keeps cookies as a browser does, and holds each that is set against what all of ours must be."""

    def __init__(self, cookies: Iterable[bytes] = ()) -> None:
        self.cookies: dict[str, str] = {}
        self.take(cookies)

    def take(self, cookies: Iterable[bytes]) -> None:
        """Values of Set-Cookie."""
        for cookie in cookies:
            assert len(cookie) <= 4096
            text = cookie.decode("ascii")
            cookie_pair, _, attributes = text.partition(";")
            name, _, value = cookie_pair.partition("=")
            assert name.startswith("__Host-session")
            assert ";" + attributes in (ATTRIBUTES, ATTRIBUTES + "; Max-Age=0")
            if attributes.endswith("Max-Age=0"):
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value

    def request(self, *, websocket: bool = False) -> Request:
        """A request with all of them."""
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return request_with(cookie, websocket=websocket)

    def copy(self) -> Self:
        """Another one that has the same cookies."""
        other = type(self)()
        other.cookies = dict(self.cookies)
        return other


async def no_key(issuer: str, kid: str) -> PyJWK:
    raise Refused(Code.KEYS_UNAVAILABLE)


TOKENS = Tokens({}, PrincipalRules(), no_key)
"""For sessions, which verify nothing themselves."""


class TokenEndpoint:
    """What Cognito says to a refresh token. With `rotates` each is good for one answer. `asked` is what it was asked."""

    def __init__(self, *, rotates: bool = True) -> None:
        self.asked: list[str] = []
        self.now = NOW
        self.life = 3600
        self.sub = self.id_sub = "a-1"
        self.identity: str | None = None
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self._rotates = rotates
        self._live = "r0"

    async def __call__(self, session: Session, tokens: Tokens) -> Renewed:
        self.asked.append(session.refresh_token)
        good = session.refresh_token == self._live
        if good and self._rotates and self.fault is None:
            self._live = f"r{len(self.asked)}"
        live, now = self._live, self.now
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        if not good:
            raise Refused(Code.SESSION_EXPIRED, "invalid_grant")
        token, id_token = jwt(self.sub, now, self.life), jwt(self.id_sub, now, self.life)
        return Renewed(token, id_token, live if self._rotates else "", now + self.life, self.identity)
