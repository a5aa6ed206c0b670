"""X-Auth-Assertion: a short JWT by which the upstream can check that the sidecar was there, and its public keys."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from sidecar.bounded import Bounded
from sidecar.gate.identity import Principal

LIFE = 60
"""Seconds that an assertion is valid; one is used again for its first half."""
ISSUER = "authorization-sidecar"
_MADE = 8 * 1024 * 1024
"""Bytes of assertions that are used again: about 6,000 principals."""


class Assertions:
    """Signs who a principal is with ES256 (RFC 7518 section 3.4), at most once per principal and half life."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, audience: str) -> None:
        self._key = key
        self._audience = audience
        public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self._kid = hashlib.sha256(f"{public['x']}.{public['y']}".encode("ascii")).hexdigest()[:16]
        self.jwks: dict[str, Any] = {"keys": [{**public, "use": "sig", "alg": "ES256", "kid": self._kid}]}
        self._made: Bounded[tuple[str, str, tuple[str, ...], str], tuple[float, float, bytes]] = Bounded(_MADE)

    def sign(self, principal: Principal, now: float, app: str = "") -> bytes:
        """The assertion of a principal at `now` (Unix seconds) for the app at a URL, "" for that of the settings: `iss,
        aud, sub, roles, iat, exp` and the token's issuer as `idp`; never valid longer than the token."""
        key = (principal.issuer, principal.id, principal.roles, app)
        made = self._made.get(key)
        # a principal may have several tokens at once: the one that is presented bounds what is used again
        if made is not None and now < made[0] and made[1] <= principal.expires:
            return made[2]
        expires = min(now + LIFE, principal.expires)
        token = self._signed(principal, now, app, roles=list(principal.roles), idp=principal.issuer)
        self._made.put(key, (min(now + LIFE / 2, expires), int(expires), token))
        return token

    def sign_filter(self, principal: Principal, text: bytes, now: float, app: str = "") -> bytes:
        """A filter (JSON) for a list of a principal's at such an app, as `filter` beside `iss, aud, sub, iat, exp`."""
        return self._signed(principal, now, app, filter=json.loads(text))

    def _signed(self, principal: Principal, now: float, app: str, **more: Any) -> bytes:
        expires = min(now + LIFE, principal.expires)
        claims = {
            "iss": ISSUER,
            "aud": app or self._audience,
            "sub": principal.id,
            **more,
            "iat": int(now),
            "exp": int(expires),
        }
        return jwt.encode(claims, self._key, "ES256", {"kid": self._kid}).encode("ascii")


def load_key(source: str) -> ec.EllipticCurvePrivateKey:
    """The signing key: `ephemeral` makes one, else a PEM file with a P-256 key. Raises ValueError, OSError."""
    if source == "ephemeral":
        return ec.generate_private_key(ec.SECP256R1())
    with open(source, "rb") as file:
        text = file.read()
    try:
        key = serialization.load_pem_private_key(text, None)
    except TypeError:
        raise ValueError(f"found a key with a pass phrase in {source}, expected one without") from None
    except UnsupportedAlgorithm as error:
        raise ValueError(f"found another key in {source}, expected a P-256 private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError(f"found another key in {source}, expected a P-256 private key")  # noqa: TRY004 - the file's value
    return key
