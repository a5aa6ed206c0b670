"""The endpoints of a user pool's domain: OAuth 2.0 as Cognito's managed login has it."""

from __future__ import annotations

from urllib.parse import urlencode

from sidecar.clients.provider import AppClient, Asker, Grant, text_of
from sidecar.gate.verdict import Code, Refused

SCOPES = "openid email profile aws.cognito.signin.user.admin"
"""What is asked for: the id token and its claims, and leave to sign out everywhere."""


def domain_url(domain: str, region: str) -> str:
    """The URL of a pool's domain, given its prefix or the whole (AWS, "Configuring a user pool domain")."""
    if "://" in domain:
        return domain
    host = "auth-fips" if region.startswith("us-gov-") else "auth"
    return f"https://{domain}.{host}.{region}.amazoncognito.com"


class HostedUI:
    """Asks the domain at `url` for an app client."""

    def __init__(self, url: str, client: AppClient, asker: Asker, scopes: str = SCOPES) -> None:
        self._url = url
        self._client = client
        self._asker = asker
        self._scopes = scopes

    def authorize_url(
        self, state: str, nonce: str, challenge: str, redirect_uri: str, *, identity_provider: str = "",
        idp_identifier: str = "", lang: str = "",
    ) -> str:  # fmt: skip
        """Where a browser signs in (authorization endpoint; RFC 7636 section 4.3). `challenge` is an S256 one."""
        query = {
            "response_type": "code", "client_id": self._client.id, "redirect_uri": redirect_uri, "state": state,
            "scope": self._scopes, "nonce": nonce, "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        more = {"identity_provider": identity_provider, "idp_identifier": idp_identifier, "lang": lang}
        return f"{self._url}/oauth2/authorize?{urlencode({**query, **{n: v for n, v in more.items() if v}})}"

    def logout_url(self, logout_uri: str) -> str:
        """Where a browser ends Cognito's own session (logout endpoint)."""
        return f"{self._url}/logout?{urlencode({'client_id': self._client.id, 'logout_uri': logout_uri})}"

    async def exchange(self, code: str, verifier: str, redirect_uri: str) -> Grant:
        """A code for tokens. Raises Refused: SIGN_IN_INVALID for a code that is none of ours, IDP_*."""
        form = {
            "grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": redirect_uri,
        }  # fmt: skip
        return await self._token(form, Code.SIGN_IN_INVALID)

    async def refresh(self, refresh_token: str) -> Grant:
        """New tokens. Raises Refused: SESSION_EXPIRED where Cognito renews no more, IDP_*."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return await self._token(form, Code.SESSION_EXPIRED)

    async def revoke(self, refresh_token: str) -> None:
        """End a refresh token and what was made of it (revocation endpoint, RFC 7009). Raises Refused: IDP_*."""
        status, document = await self._post("/oauth2/revoke", {"token": refresh_token})
        if status != 200:
            raise Refused(Code.IDP_BAD_ANSWER, f"revoke: {_error(document)}")

    async def _token(self, form: dict[str, str], invalid_grant: Code) -> Grant:
        status, document = await self._post("/oauth2/token", form)
        if status == 200:
            return Grant(
                text_of(document, "access_token"), text_of(document, "id_token", optional=True),
                text_of(document, "refresh_token", optional=True),
            )  # fmt: skip
        if status == 429:
            raise Refused(Code.IDP_UNAVAILABLE, "too many requests")
        error = _error(document)
        raise Refused(invalid_grant if error == "invalid_grant" else Code.IDP_BAD_ANSWER, f"token: {error}")

    async def _post(self, path: str, form: dict[str, str]) -> tuple[int, dict[str, object]]:
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        if self._client.secret:
            headers["authorization"] = self._client.basic()
        else:
            form = {**form, "client_id": self._client.id}
        return await self._asker.ask(self._url + path, headers, urlencode(form).encode("ascii"))


_ERRORS = (
    "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
    "unsupported_token_type", "invalid_scope",
)  # fmt: skip


def _error(document: dict[str, object]) -> str:
    """The error of RFC 6749 section 5.2, as far as it is one of those; what else an answer says is not repeated."""
    error = document.get("error")
    return error if isinstance(error, str) and error in _ERRORS else "an unknown error"
