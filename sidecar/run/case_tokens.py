"""Tokens of cases: made of given claims, signed by a key of this process alone, and verified as all others are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from jwt import PyJWK
from jwt.algorithms import RSAAlgorithm

from sidecar.bounded import Bounded
from sidecar.gate.identity import MAX_TOKEN, Issuer, Principal, PrincipalRules, Tokens, principal_from
from sidecar.gate.request import Request
from sidecar.wire import base64url

KID = "cases"
LIFETIME = 3600
REMEMBERED = 4 * 1024 * 1024
"""Bytes of the tokens of the last cases: to sign one takes longer than all else that a case does."""


class CaseKey:
    """The key that every trusted issuer has while cases run. It is drawn anew for each run, and never written."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        public = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self._public = PyJWK({**public, "use": "sig", "alg": "RS256", "kid": KID})
        self._made: Bounded[bytes, bytes] = Bounded(REMEMBERED, longest=MAX_TOKEN)

    async def find(self, issuer: str, kid: str) -> PyJWK:
        """Return the public key, whoever is asked for it."""
        return self._public

    def token(self, claims: Mapping[str, Any], issuers: Mapping[str, Issuer], now: float) -> bytes:
        """Return a compact JWS of these claims, and of what an issuer puts beside them where they do not say it."""
        signed = _HEADER + b"." + _encoded({**_usual(claims, issuers, now), **claims})
        made = self._made.get(signed)
        if made is None:
            made = signed + b"." + base64url.encode(self._key.sign(signed, padding.PKCS1v15(), SHA256()))
            self._made.put(signed, made)
        return made


def _usual(claims: Mapping[str, Any], issuers: Mapping[str, Issuer], now: float) -> dict[str, Any]:
    """Claims that say nothing of a person: who issued the token, for whom, and when."""
    named = claims.get("iss")
    issuer = issuers.get(named) if isinstance(named, str) else next(iter(issuers.values()), None)
    usual = {"iat": int(now), "exp": int(now) + LIFETIME}
    if issuer is None:
        return usual
    use = claims.get("token_use", "access" if "access" in issuer.token_use else "id")
    client = min(issuer.client_ids, default="")
    return {**usual, "iss": issuer.issuer, "token_use": use, "aud" if use == "id" else "client_id": client}


def _encoded(part: Mapping[str, Any]) -> bytes:
    return base64url.encode(json.dumps(part).encode("utf-8"))


_HEADER = _encoded({"alg": "RS256", "kid": KID, "typ": "JWT"})


class CaseTokens(Tokens):
    """Verifies the tokens of cases. Their claims are those of an id token too, as if a session had brought both."""

    def __init__(
        self, issuers: Mapping[str, Issuer], rules: PrincipalRules, key: CaseKey,
        by_host: Mapping[str, Mapping[str, Issuer]] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        super().__init__(issuers, rules, key.find, by_host=by_host)

    async def principal_of(self, request: Request, now: float) -> Principal:
        """The principal of the request's bearer token. Raises Refused."""
        principal = await super().principal_of(request, now)
        if not self.rules.of_id_token:
            return principal
        return principal_from(principal.claims, principal.issuer, self.rules, principal.claims)
