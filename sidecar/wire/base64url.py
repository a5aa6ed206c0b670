"""Base64url without padding (RFC 7515 section 2) in its one form: no text but one stands for bytes."""

from __future__ import annotations

import base64
import binascii


def encode(data: bytes) -> bytes:
    """Encode without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def decode(text: bytes) -> bytes:
    """Decode, without padding. Raises ValueError, also for a last character with bits that stand for nothing."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64url") from None
    if encode(data) != text:
        raise ValueError("not base64url in its one form")
    return data
