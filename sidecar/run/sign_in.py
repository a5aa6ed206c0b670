"""Composes sign-in: settings -> sessions, the login, and the pages under `/_sidecar/`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sidecar.config.setting_table import Settings
from sidecar.gate.codes import Code
from sidecar.gate.identity import Tokens, keep_claims
from sidecar.gate.session import Session
from sidecar.gate.verdict import Refused
from sidecar.net.breaker import Report
from sidecar.pages.login import Login, VerifiedSignIn, Ways
from sidecar.pages.templates import Pages
from sidecar.record.journal import Journal
from sidecar.run.errors import StartError
from sidecar.sessions.cookie import CookieStore
from sidecar.sessions.seal import Seal
from sidecar.sessions.sessions import Renewed, Sessions, claims_of, lacks_claims
from sidecar.sessions.store import Store
from sidecar.sign_in.hosted import Hosted, domain_origin
from sidecar.sign_in.ledger import Ledger, LocalLedger
from sidecar.sign_in.provider import Provider, TokenSet, verify_id_token
from sidecar.sign_in.user_pool import UserPool, api_endpoint
from sidecar.trust.download import Proxy


class Browser:
    """Everything that sign-in is made of. `now` gives Unix seconds. Raises StartError."""

    def __init__(self, settings: Settings, report: Report, now: Callable[[], float]) -> None:
        self._settings = settings
        self._now = now
        self._seal = Seal(settings.session_secrets)
        # connections of their own: no flood of sign-ins keeps a session from being renewed
        proxy = Proxy(settings.https_proxy, settings.no_proxy)
        self._sign_in = self._endpoints(Provider(report, proxy), srp=settings.password_flow == "srp")  # noqa: S105 - a flow
        self._renewal = self._endpoints(Provider(report, proxy), srp=False)
        self._ledger, store = self._stores(report)
        self.sessions = Sessions(
            store, self.renew, idle=settings.session_idle, lifetime=settings.session_lifetime
        )  # fmt: skip

    def _stores(self, report: Report) -> tuple[Ledger, Store]:
        url = self._settings.redis_url
        if not url:
            return LocalLedger(), CookieStore(self._seal, report)
        # a fifth of the time to start, for those who have a Redis
        from sidecar.sessions.redis import RedisStore
        from sidecar.sign_in.ledger_redis import RedisLedger

        try:
            return RedisLedger(url), RedisStore(url, self._seal, report)
        except Exception:  # noqa: BLE001 - the library raises what it likes, and none of it may be shown
            # the reason may have a part of the password in it
            expected = "redis://host:port/database, with no option that Redis does not know"
            raise StartError(f"SIDECAR_REDIS_URL: expected {expected}") from None

    def _endpoints(self, provider: Provider, *, srp: bool) -> _Endpoints:
        settings = self._settings
        hosted = self._hosted_ui(provider) if "hosted" in settings.login_modes else None
        srp = srp and "password" in settings.login_modes
        return _Endpoints(provider, hosted, self._user_pool(provider, srp=srp) if settings.pool_id else None)

    def _hosted_ui(self, provider: Provider) -> Hosted:
        settings = self._settings
        origin = domain_origin(settings.domain, settings.region)
        return Hosted(origin, settings.client_ids[0], settings.client_secrets, provider, scopes=settings.scopes)

    def _user_pool(self, provider: Provider, *, srp: bool) -> UserPool:
        settings = self._settings
        try:
            return UserPool(
                api_endpoint(settings.region, settings.cognito_endpoint), settings.pool_id, settings.client_ids[0],
                settings.client_secrets, provider, srp=srp, now=self._now,
            )  # fmt: skip
        except ValueError as error:
            raise StartError(str(error)) from None

    @property
    def signs_out_at(self) -> str:
        """The origin that a sign-out leads to, "" where it stays here."""
        settings = self._settings
        ends = self._sign_in.hosted is not None and settings.logout == "cognito"
        return domain_origin(settings.domain, settings.region) if ends else ""

    def login(self, pages: Pages, journal: Journal) -> Login:
        """The door that signs people in and out."""
        settings = self._settings
        ways = Ways(
            self._sign_in.hosted, self._sign_in.pool if "password" in settings.login_modes else None,
            settings.callback_urls or tuple(filter(None, [settings.callback])), settings.logout_urls,
            settings.logout == "cognito",
        )  # fmt: skip
        return Login(
            ways, self.sessions, self._seal, self._ledger, pages, journal, verify=self.verify, revoke=self.revoke,
            revoke_all=self.revoke_all, name_of=name_of, trusted=settings.trusted_proxies,
            logout_paths=settings.logout_paths,
        )  # fmt: skip

    async def verify(self, grant: TokenSet, nonce: str | None, now: float, tokens: Tokens) -> VerifiedSignIn:
        """Return what a sign-in proves (R19). Raises Refused: SIGN_IN_INVALID, KEYS_UNAVAILABLE, PRINCIPAL_MISSING.

        Do not open a session whose token the gate would refuse: its browser would come back here again and again.
        """
        client = self._settings.client_ids[0]
        if not _takes_access(tokens):
            # an issuer that gives no access token of its own form has nothing that the id token could belong to
            grant = grant._replace(access_token="")
        proved = await verify_id_token(grant, tokens.issuers, client, tokens.find_key, now, nonce)
        token = grant.access_token or grant.id_token
        claims = proved.access or proved.identity
        try:
            principal = await tokens.principal_of_token(token.encode("utf-8"), now)
        except Refused as refused:
            if refused.code not in _UNUSABLE:
                raise
            raise Refused(Code.SIGN_IN_INVALID, f"the gate refuses its token: {refused.detail}") from None
        username = claims.get("username", claims.get("cognito:username", claims["sub"]))
        kept = keep_claims(proved.identity, tokens.session_claims)
        return VerifiedSignIn(principal.id, str(username), token, int(claims["exp"]), kept)

    async def renew(self, session: Session, tokens: Tokens) -> Renewed:
        """New tokens of a session, of the use that `tokens` takes. Raises Refused: SESSION_EXPIRED, IDP_*."""
        grant = await self._refreshed(session)
        token = grant.access_token if _takes_access(tokens) else grant.id_token
        kept = await self._kept(session, grant.id_token, tokens)
        return Renewed(token, grant.id_token, grant.refresh_token, _expires(token), kept)

    async def _kept(self, session: Session, id_token: str, tokens: Tokens) -> str | None:
        """Return what a session keeps of its new id token, None for what it has. Raises Refused: SESSION_EXPIRED where
        it has not what is wanted and gets no id token, IDP_BAD_ANSWER, KEYS_UNAVAILABLE."""
        if not tokens.session_claims:
            return ""
        if not id_token:
            if lacks_claims(session, tokens):
                raise Refused(Code.SESSION_EXPIRED, "it began before `from: id` named its claims, and gets no id token")
            return None
        try:
            proved = await verify_id_token(
                TokenSet("", id_token, ""),
                tokens.issuers,
                self._settings.client_ids[0],
                tokens.find_key,
                self._now(),
                None,
            )
        except Refused as refused:
            if refused.code is not Code.SIGN_IN_INVALID:
                raise
            raise Refused(Code.IDP_BAD_ANSWER, f"an invalid id token: {refused.detail}") from None
        return keep_claims(proved.identity, tokens.session_claims)

    async def _refreshed(self, session: Session) -> TokenSet:
        if session.hosted and self._renewal.hosted is not None:
            return await self._renewal.hosted.refresh(session.refresh_token)
        if self._renewal.pool is not None:
            return await self._renewal.pool.refresh(session.refresh_token, session.username)
        raise Refused(Code.SESSION_EXPIRED, "the way of this sign-in is switched off")

    async def revoke(self, session: Session) -> None:
        """End the refresh token of a session. Raises Refused: IDP_*."""
        if session.hosted and self._renewal.hosted is not None:
            await self._renewal.hosted.revoke(session.refresh_token)
        elif self._renewal.pool is not None:
            await self._renewal.pool.revoke(session.refresh_token)

    async def revoke_all(self, session: Session) -> None:
        """End every refresh token of the session's user. Raises Refused: IDP_*, SESSION_EXPIRED."""
        if self._renewal.pool is None:
            raise Refused(Code.IDP_UNAVAILABLE, "AWS_COGNITO_POOL_ID: not set, expected the user pool to ask")
        await self._renewal.pool.sign_out_everywhere(await self._access_token(session))

    async def _access_token(self, session: Session) -> str:
        """An access token of the session that has not ended: its own, or a new one."""
        if session.expires > self._now() and claims_of(session.token).get("token_use") == "access":
            return session.token
        if not session.refresh_token:
            raise Refused(Code.SESSION_EXPIRED, "its access token has ended, and there is no refresh token")
        return (await self._refreshed(session)).access_token

    async def aclose(self) -> None:
        """Close the connections."""
        # first: a renewal that is under way still asks the provider
        await self.sessions.aclose()
        for endpoints in (self._sign_in, self._renewal):
            await endpoints.aclose()
        await self._ledger.aclose()


def name_of(session: Session, tokens: Tokens) -> str:
    """Return the id of the session's principal, as decisions log it, whether its token has ended or not."""
    name = claims_of(session.token).get(tokens.rules.id)
    return name if isinstance(name, str) else session.username


def _takes_access(tokens: Tokens) -> bool:
    return any("access" in issuer.token_use for issuer in tokens.issuers.values())


_UNUSABLE = frozenset([Code.TOKEN_INVALID, Code.TOKEN_EXPIRED])


class _Endpoints(NamedTuple):
    """The provider's endpoints, asked on connections that nothing else has."""

    provider: Provider
    hosted: Hosted | None
    pool: UserPool | None

    async def aclose(self) -> None:
        await self.provider.aclose()
        if self.pool is not None:
            await self.pool.aclose()


def _expires(token: str) -> int:
    """The `exp` of a token that the gate is going to verify."""
    expires = claims_of(token).get("exp")
    if type(expires) is not int:
        raise Refused(Code.IDP_BAD_ANSWER, "a token without an end")
    return expires
