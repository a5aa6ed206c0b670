"""Signing in at Cognito's hosted UI: OAuth's authorization code with PKCE (RFC 6749, RFC 7636) at the pool's domain."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from sidecar.gate.codes import Code
from sidecar.gate.verdict import Refused
from sidecar.sign_in.provider import ClientSecrets, Provider, ProviderResponse, TokenSet, token_in
from sidecar.wire import base64url

_ERROR = re.compile(r"[a-z_]{1,64}")


def domain_origin(domain: str, region: str) -> str:
    """The URL of the hosted UI: `domain` is its prefix or its whole URL (AWS, "Configuring a user pool domain").

    GovCloud has its own form (AWS GovCloud user guide, "Amazon Cognito").
    """
    if "://" in domain:
        return domain.rstrip("/")
    auth = "auth-fips" if region.startswith("us-gov-") else "auth"
    return f"https://{domain}.{auth}.{region}.amazoncognito.com"


def s256(verifier: str) -> str:
    """The code challenge of a verifier (RFC 7636 section 4.2)."""
    return base64url.encode(hashlib.sha256(verifier.encode("ascii")).digest()).decode("ascii")


class Hosted:
    """The endpoints of a pool's domain, for one app client. A public one has no `client_secrets`; `scopes` are what a
    sign-in asks for."""

    def __init__(
        self, origin: str, client_id: str, client_secrets: Iterable[str], provider: Provider, *,
        scopes: Iterable[str] = ("openid",),
    ) -> None:  # fmt: skip
        self._origin = origin
        self._client_id = client_id
        self._secrets = ClientSecrets(client_secrets)
        self._provider = provider
        self._scope = " ".join(scopes)

    def authorize_url(
        self, state: str, nonce: str, challenge: str, redirect_uri: str, *,
        identity_provider: str = "", idp_identifier: str = "", lang: str = "", prompt: str = "",
    ) -> str:  # fmt: skip
        """Where a browser goes to sign in. `challenge` is `s256` of the verifier that `exchange` will show."""
        fields = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "state": state,
            "nonce": nonce,
            "scope": self._scope,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "identity_provider": identity_provider,
            "idp_identifier": idp_identifier,
            "lang": lang,
            "prompt": prompt,
        }
        return f"{self._origin}/oauth2/authorize?{_encoded(fields)}"

    def logout_url(self, logout_uri: str) -> str:
        """Where a browser goes to end Cognito's own session, and then to `logout_uri` as registered."""
        return f"{self._origin}/logout?{_encoded({'client_id': self._client_id, 'logout_uri': logout_uri})}"

    async def exchange(self, code: str, verifier: str, redirect_uri: str) -> TokenSet:
        """The tokens for a code. Raises Refused: SIGN_IN_INVALID for an invalid code, IDP_*."""
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": verifier,
            "redirect_uri": redirect_uri,
        }
        grant = self._grant(await self._granted(fields, Code.SIGN_IN_INVALID))
        if not grant.id_token:
            raise self._provider.bad("no id token: the app client must allow the scope openid")
        return grant

    async def refresh(self, refresh_token: str) -> TokenSet:
        """New tokens. Raises Refused: SESSION_EXPIRED for a refresh token that has ended or was revoked, IDP_*."""
        fields = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return self._grant(await self._granted(fields, Code.SESSION_EXPIRED))

    async def revoke(self, refresh_token: str) -> None:
        """End a refresh token and its access tokens at Cognito (RFC 7009). Raises Refused: IDP_*."""
        reply = await self._post("/oauth2/revoke", {"token": refresh_token})
        if reply.status != httpx.codes.OK:
            raise self._refusal(reply)

    async def _granted(self, fields: Mapping[str, str], if_invalid: Code) -> dict[str, Any]:
        reply = await self._post("/oauth2/token", fields)
        if reply.status == httpx.codes.OK:
            return self._provider.read(reply)
        raise self._refusal(reply, if_invalid)

    def _refusal(self, reply: ProviderResponse, if_invalid: Code = Code.IDP_BAD_ANSWER) -> Refused:
        """Translate an error of OAuth (RFC 6749 section 5.2)."""
        error = self._provider.read(reply).get("error")
        if error == "invalid_grant" and if_invalid != Code.IDP_BAD_ANSWER:
            return Refused(if_invalid, "invalid_grant")
        named = error if isinstance(error, str) and _ERROR.fullmatch(error) else f"status {reply.status}"
        hint = ": AWS_COGNITO_CLIENT_ID or AWS_COGNITO_CLIENT_SECRET" if error == "invalid_client" else ""
        return self._provider.bad(f"{named}{hint}")

    async def _post(self, path: str, fields: Mapping[str, str]) -> ProviderResponse:
        return await self._secrets.ask(lambda secret: self._post_with(secret, path, fields), self._is_refusal)

    def _is_refusal(self, reply: ProviderResponse) -> bool:
        """Return whether the client's secret is refused."""
        return reply.status != httpx.codes.OK and self._provider.read(reply).get("error") == "invalid_client"

    async def _post_with(self, secret: str, path: str, fields: Mapping[str, str]) -> ProviderResponse:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if secret:
            pair = base64.b64encode(f"{self._client_id}:{secret}".encode()).decode("ascii")
            headers["authorization"] = f"Basic {pair}"
        form = urlencode({"client_id": self._client_id, **fields})
        return await self._provider.post(self._origin + path, headers, form.encode("ascii"))

    def _grant(self, answer: Mapping[str, Any]) -> TokenSet:
        """RFC 6749 section 5.1."""
        access, identity, refresh = (token_in(answer, name) for name in ("access_token", "id_token", "refresh_token"))
        kind = answer.get("token_type")
        if not access or identity is None or refresh is None or not isinstance(kind, str) or kind.lower() != "bearer":
            raise self._provider.bad("expected bearer tokens")
        return TokenSet(access, identity, refresh)


def _encoded(fields: Mapping[str, str]) -> str:
    """The fields that have a value, as a query with "%20" for a space."""
    return urlencode({name: value for name, value in fields.items() if value}, quote_via=quote, safe="")
