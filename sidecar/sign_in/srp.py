"""Cognito's form of Secure Remote Password (RFC 5054 with 3072 bits): a password is proved and never sent.

The mathematics are pycognito's, which the extra `srp` brings. They take tens of milliseconds without a pause.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_HEX = re.compile(r"[0-9A-Fa-f]{1,1024}")


def mathematics() -> Any:
    """The class of the library that computes. Raises ValueError where it is not installed."""
    try:
        from pycognito.aws_srp import AWSSRP
    except ImportError:
        raise ValueError("SIDECAR_PASSWORD_FLOW: found srp, expected pycognito: pip install '.[srp]'") from None
    return AWSSRP


class Srp:
    """One sign-in's part of the exchange: `public` is SRP_A, made anew each time."""

    def __init__(self, pool_id: str, password: str) -> None:
        # its own client of the API is never used: any object keeps it from making one
        self._srp = mathematics()("", password, pool_id, "", client=object())
        self._pool = pool_id.partition("_")[2]
        self.public = f"{self._srp.large_a_value:x}"

    def proof(self, challenge: Mapping[str, Any], now: float) -> dict[str, str]:
        """The answer to PASSWORD_VERIFIER at this Unix time. Raises ValueError for an invalid challenge."""
        user = challenge.get("USER_ID_FOR_SRP")
        server, salt, block = (challenge.get(name) for name in ("SRP_B", "SALT", "SECRET_BLOCK"))
        if not isinstance(user, str) or not isinstance(block, str):
            raise ValueError("expected USER_ID_FOR_SRP and SECRET_BLOCK")  # noqa: TRY004 - the value of an answer
        if not all(isinstance(number, str) and _HEX.fullmatch(number) for number in (server, salt)):
            raise ValueError("SRP_B and SALT: expected hexadecimal numbers")
        big_b = int(str(server), 16)
        # RFC 5054 section 2.5.3: with such a number anybody could answer
        if big_b % self._srp.big_n == 0:
            raise ValueError("SRP_B: found a multiple of N")
        key = self._srp.get_password_authentication_key(user, self._srp.password, big_b, salt)
        timestamp = self._srp.get_cognito_formatted_timestamp(datetime.fromtimestamp(now, UTC))
        signed = self._pool.encode() + user.encode() + base64.standard_b64decode(block) + timestamp.encode("ascii")
        signature = hmac.new(key, signed, hashlib.sha256).digest()
        return {
            "TIMESTAMP": timestamp,
            "PASSWORD_CLAIM_SECRET_BLOCK": block,
            "PASSWORD_CLAIM_SIGNATURE": base64.standard_b64encode(signature).decode("ascii"),
        }
