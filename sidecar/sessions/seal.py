"""Sealed texts: what a browser or a store keeps for us, and can neither read nor change."""

from __future__ import annotations

import os
import re

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sidecar.bounded import remembered
from sidecar.wire import base64url

NONCE = 12
"""Bytes of a nonce (NIST SP 800-38D section 5.2.1.1), random for each sealing: a key is good for 2**32 of them."""
TAG = 16
_KEYS = 512 * 1024
"""Bytes of keys that are derived once: about 1,000, one for each session of a store."""

# key id, then nonce, ciphertext and tag: of characters that a cookie's value may have (RFC 6265 section 4.1.1)
_SEALED = re.compile(r"([A-Za-z0-9_-]{8})\.([A-Za-z0-9_-]{38,})")


class UnknownKey(ValueError):
    """A text that was sealed by a secret which is not, or no longer, ours."""


class Seal:
    """Seals bytes for a purpose with AES-256-GCM: the first secret seals, all open, so that secrets can be replaced.

    The key is HKDF-SHA256 (RFC 5869) of the secret, with the purpose as `info`. A purpose may hold a secret of its own:
    then only whoever has both can open. Raises ValueError without a secret.
    """

    def __init__(self, secrets: tuple[str, ...]) -> None:
        if not secrets:
            raise ValueError("expected a secret to seal with")
        self._secrets = {_key_id(secret): secret.encode("utf-8") for secret in reversed(secrets)}
        self._first = _key_id(secrets[0])
        # by key id and purpose; a purpose of its own for each session makes many keys
        self._cipher = remembered(_KEYS)(self._made_cipher)

    def seal(self, purpose: str, data: bytes) -> str:
        """Data -> `<key id>.<nonce and ciphertext>`, unpadded base64url: another text each time."""
        nonce = os.urandom(NONCE)
        sealed = nonce + self._cipher((self._first, purpose)).encrypt(nonce, data, purpose.encode("utf-8"))
        return f"{self._first}.{base64url.encode(sealed).decode('ascii')}"

    def unseal(self, purpose: str, text: str) -> bytes:
        """Open what was sealed for this purpose. Raises ValueError for all else, UnknownKey where the secret is not
        ours."""
        match = _SEALED.fullmatch(text)
        if match is None:
            raise ValueError("not a sealed text")
        key_id, sealed = match[1], base64url.decode(match[2].encode("ascii"))
        if key_id not in self._secrets:
            raise UnknownKey("sealed by a secret that is not ours")
        try:
            return self._cipher((key_id, purpose)).decrypt(sealed[:NONCE], sealed[NONCE:], purpose.encode("utf-8"))
        except InvalidTag:
            raise ValueError("not sealed for this purpose, or changed since") from None

    def _made_cipher(self, asked: tuple[str, str]) -> AESGCM:
        key_id, purpose = asked
        return AESGCM(_derived(self._secrets[key_id], f"sidecar seal: {purpose}", 32))


def _key_id(secret: str) -> str:
    """The name of a secret, which tells nothing of it: derived as a key is, for a purpose that no key has."""
    return base64url.encode(_derived(secret.encode("utf-8"), "sidecar seal id", 6)).decode("ascii")


def _derived(secret: bytes, info: str, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=info.encode("utf-8")).derive(secret)
