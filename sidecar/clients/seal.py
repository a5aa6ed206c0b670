"""Authenticated encryption of what a browser keeps for us (R20): AES-256-GCM, a key for each purpose."""

from __future__ import annotations

import base64
import hashlib
import os
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_NONCE = 12
"""Bytes of a nonce (NIST SP 800-38D section 5.2.1.1); random, so a key seals 2^32 values at most."""
_SEALED = re.compile(r"([A-Za-z0-9_-]{8})\.([A-Za-z0-9_-]{38,16384})")


class Seal:
    """Seals with the first secret, and opens what any of them sealed: a new secret is put before the old one."""

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = {_key_id(secret): secret.encode("utf-8") for secret in reversed(secrets)}
        self._first = _key_id(secrets[0])
        self._ciphers: dict[tuple[str, str], AESGCM] = {}

    def seal(self, purpose: str, data: bytes, bound: str = "") -> str:
        """`<key id>.<nonce and ciphertext>`, of characters that a cookie's value may have; opens with `bound` alone."""
        nonce = os.urandom(_NONCE)
        sealed = self._cipher(self._first, purpose).encrypt(nonce, data, bound.encode("utf-8"))
        return f"{self._first}.{_encoded(nonce + sealed)}"

    def unseal(self, purpose: str, text: str, bound: str = "") -> bytes:
        """What was sealed. Raises ValueError for anything else, one byte of difference included."""
        match = _SEALED.fullmatch(text)
        if match is None or match[1] not in self._secrets:
            raise ValueError("not sealed with one of our secrets")
        sealed = base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))
        if _encoded(sealed) != match[2]:
            raise ValueError("not base64url in its one form")
        try:
            return self._cipher(match[1], purpose).decrypt(sealed[:_NONCE], sealed[_NONCE:], bound.encode("utf-8"))
        except InvalidTag:
            raise ValueError("not sealed for this purpose, or changed since") from None

    def _cipher(self, key_id: str, purpose: str) -> AESGCM:
        cipher = self._ciphers.get((key_id, purpose))
        if cipher is None:
            derive = HKDF(hashes.SHA256(), 32, salt=None, info=b"authorization-sidecar " + purpose.encode("utf-8"))
            cipher = self._ciphers[key_id, purpose] = AESGCM(derive.derive(self._secrets[key_id]))
        return cipher


def _key_id(secret: str) -> str:
    """Which secret sealed; tells nothing of it."""
    digest = hashlib.sha256(b"authorization-sidecar key id " + secret.encode("utf-8")).digest()
    return _encoded(digest[:6])


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
