"""Tokens of every kind, the forged ones too: each part is given as bytes or as what is to be JSON."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_TEST"
CLIENT_ID = "c1"
USERS: dict[str, tuple[str, list[str]]] = {
    "alice": ("a-1", ["user"]),
    "bob": ("b-1", ["user"]),
    "root": ("r-1", ["admin"]),
}
"""Name -> (sub, cognito:groups)."""

ABSENT = object()
"""As a claim or header parameter: leave it out."""

Sign = Callable[[bytes], bytes]


def base64url(data: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def encoded(part: Any) -> str:
    """One segment of a token: bytes as they are, anything else as JSON."""
    return base64url(part if isinstance(part, bytes) else json.dumps(part).encode())


class SigningKey:
    """One RSA key of a user pool."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self.private = rsa.generate_private_key(65537, 2048)
        numbers = self.private.public_key().public_numbers()
        self.n = base64url(numbers.n.to_bytes(256, "big"))
        self.jwk = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid, "n": self.n, "e": "AQAB"}

    def sign(self, data: bytes) -> bytes:
        """RS256."""
        return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())

    def public(self, encoding: serialization.Encoding) -> bytes:
        """The public key as PEM or DER."""
        return self.private.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)

    def forms(self) -> dict[str, bytes]:
        """The public key in each form that a confused verifier may take for an HMAC secret."""
        return {
            "PEM": self.public(serialization.Encoding.PEM),
            "DER": self.public(serialization.Encoding.DER),
            "JWK JSON": json.dumps(self.jwk).encode(),
            "base64url n": self.n.encode(),
            "kid": self.kid.encode(),
        }


def hs256(secret: bytes) -> Sign:
    """Signs with HMAC."""
    return lambda data: hmac.digest(secret, data, hashlib.sha256)


class Mint:
    """Makes tokens of one pool: good ones by default, with what is given put in place of the good."""

    def __init__(self, key: SigningKey, issuer: str = ISSUER) -> None:
        self.key = key
        self.issuer = issuer

    def claims(self, user: str = "alice", **changed: Any) -> dict[str, Any]:
        """The claims of an access token, as Cognito makes them."""
        now = int(time.time())
        sub, groups = USERS[user]
        claims: dict[str, Any] = {
            "sub": sub, "cognito:groups": groups, "iss": self.issuer, "client_id": CLIENT_ID, "token_use": "access",
            "origin_jti": "0", "jti": "1", "scope": "aws.cognito.signin.user.admin", "username": user,
            "auth_time": now, "iat": now, "exp": now + 3600,
        }  # fmt: skip
        claims.update(changed)
        return {name: value for name, value in claims.items() if value is not ABSENT}

    def header(self, **changed: Any) -> dict[str, Any]:
        """The header of an access token."""
        header = {"kid": self.key.kid, "alg": "RS256", **changed}
        return {name: value for name, value in header.items() if value is not ABSENT}

    def token(self, user: str = "alice", **claims: Any) -> str:
        """A token of `user` that is good but for these claims."""
        return self.compact(self.header(), self.claims(user, **claims))

    def with_header(self, **parameters: Any) -> str:
        """A token of alice that is good but for these header parameters."""
        return self.compact(self.header(**parameters), self.claims())

    def compact(self, header: Any, payload: Any, sign: Sign | None = None) -> str:
        """The compact form of any header and payload, signed by the pool's key unless `sign` is given."""
        signed = f"{encoded(header)}.{encoded(payload)}"
        return f"{signed}.{base64url((sign or self.key.sign)(signed.encode()))}"
