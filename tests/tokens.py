"""Tokens in Cognito's shape, signed by keys of our own, and every way to spoil one."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from jwt import PyJWK
from jwt.algorithms import RSAAlgorithm

from sidecar.run.case_tokens import CaseKey

POOL = "eu-west-1_TEST"
ISSUER = f"https://cognito-idp.eu-west-1.amazonaws.com/{POOL}"
CLIENT = "c1"
SESSION_SECRET = "Zk3vQ9xW7bK4mZ8cV1pR6hJ5tN0yLs2d"
"""As good as one of `openssl rand`, for tests that need the same one twice."""


def private_key(name: str = "k1", bits: int = 2048) -> rsa.RSAPrivateKey:
    """A key of this name and size, made once."""
    return _made(name, bits)


@cache
def _made(name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def share_case_key(patch: pytest.MonkeyPatch) -> None:
    """Let all runs of cases in this process have one key: to draw one takes longer than a run."""
    patch.setattr("sidecar.run.casing.CaseKey", _case_key)


@cache
def _case_key() -> CaseKey:
    return CaseKey()


def jwk(name: str = "k1", bits: int = 2048, **more: Any) -> dict[str, Any]:
    """The public key as an entry of a key set."""
    public = RSAAlgorithm.to_jwk(private_key(name, bits).public_key(), as_dict=True)
    kept = {key: public[key] for key in ("kty", "n", "e")}
    return {**kept, "use": "sig", "alg": "RS256", "kid": name, **more}


def key_set(*names: str) -> dict[str, Any]:
    """A whole key set."""
    return {"keys": [jwk(name) for name in names or ("k1",)]}


def public_key(name: str = "k1") -> PyJWK:
    """The key as the gate gets it."""
    return PyJWK(jwk(name))


def b64(data: bytes) -> bytes:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def claims(now: float, **more: Any) -> dict[str, Any]:
    """What an access token of alice says; a value of None leaves the claim out."""
    whole = {
        "sub": "a-1", "iss": ISSUER, "client_id": CLIENT, "token_use": "access", "scope": "aws.cognito.signin.user.admin",
        "auth_time": int(now), "iat": int(now), "exp": int(now) + 3600, "jti": "j", "username": "alice",
        "cognito:groups": ["user"], **more,
    }  # fmt: skip
    return {name: value for name, value in whole.items() if value is not None}


def sign(header: bytes, payload: bytes, key: str = "k1") -> bytes:
    """A token of exactly these bytes, with a good signature."""
    signed = b64(header) + b"." + b64(payload)
    return signed + b"." + b64(private_key(key).sign(signed, padding.PKCS1v15(), SHA256()))


def mint(payload: dict[str, Any], key: str = "k1", **header: Any) -> bytes:
    """A token that says `payload`; `header` changes the header, None leaves a parameter out."""
    whole = {"kid": key, "alg": "RS256", **header}
    made = {name: value for name, value in whole.items() if value is not None}
    return sign(json.dumps(made).encode(), json.dumps(payload).encode(), key)
