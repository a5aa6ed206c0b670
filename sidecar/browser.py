"""What a browser needs, composed: settings -> sessions, the sign-in, and the pages under `/_sidecar/`."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from sidecar.clients.breaker import Report
from sidecar.clients.hosted import HostedUI, domain_url
from sidecar.clients.provider import AppClient, Asker, Grant
from sidecar.clients.seal import Seal
from sidecar.clients.session_cookie import CookieStore
from sidecar.clients.session_redis import RedisStore
from sidecar.clients.sessions import Renewed, Sessions, claims_of
from sidecar.clients.userpool import PASSWORD, SRP, UserPool, endpoint_url
from sidecar.enforce.login import Login, SignedIn, Ways
from sidecar.enforce.pages import Pages
from sidecar.enforce.pending import PendingSignIns
from sidecar.gate.identity import PrincipalRules, Tokens
from sidecar.gate.session import Session
from sidecar.gate.verdict import Code, Refused
from sidecar.journal import Journal
from sidecar.settings import Settings


class Browser:
    """Everything that sign-in is made of. `tokens` gives what verifies tokens by the rules in force."""

    def __init__(self, settings: Settings, tokens: Callable[[], Tokens], report: Report) -> None:
        self._settings = settings
        self._tokens = tokens
        self._asker = Asker()
        client = AppClient(settings.client_ids[0], settings.client_secret)
        modes = settings.login_modes
        self._hosted = (
            HostedUI(domain_url(settings.domain, settings.region), client, self._asker) if "hosted" in modes else None
        )
        self._pool = self._user_pool(client) if settings.pool_id else None
        self._seal = Seal(settings.session_secrets)
        self._store = RedisStore(settings.redis_url, self._seal) if settings.redis_url else CookieStore(self._seal)
        self.sessions = Sessions(
            self._store, idle=int(settings.session_idle), lifetime=int(settings.session_lifetime), renew=self.renew,
            report=report,
        )  # fmt: skip

    def _user_pool(self, client: AppClient) -> UserPool:
        settings = self._settings
        endpoint = f"{settings.cognito_endpoint.rstrip('/')}/" if settings.cognito_endpoint else ""
        flow = {"srp": SRP, "password": PASSWORD}[settings.password_flow]
        return UserPool(endpoint or endpoint_url(settings.region), settings.pool_id, client, self._asker, flow)

    def login(self, pages: Pages, journal: Journal) -> Login:
        """The door that signs people in and out."""
        settings = self._settings
        ways = Ways(
            self._hosted, self._pool if "password" in settings.login_modes else None, settings.callback,
            settings.logout_url or _root_of(settings.callback), settings.logout == "cognito",
        )  # fmt: skip
        return Login(
            ways, self.sessions, PendingSignIns(self._seal), pages, journal, verify=self.verify, revoke=self.revoke,
            trusted=settings.trusted_proxies,
        )  # fmt: skip

    async def verify(self, grant: Grant, nonce: str | None, now: float) -> SignedIn:
        """What a sign-in proves: its id token is verified like any other, and belongs to its access token (R19).

        Raises Refused(SIGN_IN_INVALID) for what does not belong together, KEYS_UNAVAILABLE.
        """
        try:
            token, expires, claims = await self._token_of(grant, now)
            if grant.id_token or nonce is not None:
                await self._check_id_token(grant.id_token, nonce, claims, now)
        except Refused as refused:
            if refused.code in (Code.TOKEN_INVALID, Code.TOKEN_EXPIRED):
                raise Refused(Code.SIGN_IN_INVALID, refused.detail or refused.code) from None
            raise
        username = claims.get("username", claims.get("cognito:username", claims["sub"]))
        return SignedIn(str(claims["sub"]), str(username), token, expires)

    async def _token_of(self, grant: Grant, now: float) -> tuple[str, int, Any]:
        """The token that the gate is going to see: an access token, unless the issuer's `token_use` is `id` alone."""
        token = grant.access_token if self._takes_access() else grant.id_token
        principal = await self._tokens().principal_of_token(token.encode("ascii"), now)
        return token, int(principal.expires), principal.claims

    def _takes_access(self) -> bool:
        return any("access" in issuer.token_use for issuer in self._tokens().issuers.values())

    async def _check_id_token(self, token: str, nonce: str | None, access: Any, now: float) -> None:
        known = self._tokens()
        issuers = {
            name: issuer._replace(token_use=frozenset(["id"]), client_ids=frozenset([self._settings.client_ids[0]]))
            for name, issuer in known.issuers.items()
        }
        tokens = Tokens(issuers, PrincipalRules(), known.find_key, remembered=1)
        claims = (await tokens.principal_of_token(token.encode("ascii"), now)).claims
        if claims["sub"] != access["sub"] or claims["iss"] != access["iss"]:
            raise Refused(Code.SIGN_IN_INVALID, "the id token is of another user")
        said = claims.get("nonce")
        if nonce is not None and not (isinstance(said, str) and hmac.compare_digest(said.encode(), nonce.encode())):
            raise Refused(Code.SIGN_IN_INVALID, "the id token is of another sign-in")

    async def renew(self, session: Session) -> Renewed:
        """New tokens of a session. Raises Refused: SESSION_EXPIRED, IDP_*."""
        if session.hosted and self._hosted is not None:
            grant = await self._hosted.refresh(session.refresh_token)
        elif self._pool is not None:
            grant = await self._pool.refresh(session.refresh_token, session.username)
        else:
            raise Refused(Code.SESSION_EXPIRED, "the way of this sign-in is switched off")
        token = grant.access_token if self._takes_access() else grant.id_token
        return Renewed(token, grant.id_token, grant.refresh_token, _expires(token))

    async def revoke(self, session: Session) -> None:
        """End the refresh token of a session. Raises Refused: IDP_*."""
        if session.hosted and self._hosted is not None:
            await self._hosted.revoke(session.refresh_token)
        elif self._pool is not None:
            await self._pool.revoke(session.refresh_token)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._asker.aclose()
        if isinstance(self._store, RedisStore):
            await self._store.aclose()


def _expires(token: str) -> int:
    """The `exp` of a token that the gate is going to verify."""
    expires = claims_of(token).get("exp")
    if type(expires) is not int:
        raise Refused(Code.IDP_BAD_ANSWER, "a token without an end")
    return expires


def _root_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"
