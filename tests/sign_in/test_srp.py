"""`sign_in/srp.py` against the server's half of the exchange, computed here from RFC 5054 and RFC 5869 alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import subprocess
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sidecar.sign_in.srp import Srp, mathematics
from tests.fakes import without

POOL = "eu-west-1_AbCdEf"
NOW = 1788599005.7
WHEN = "Sat Sep 5 09:03:25 UTC 2026"


def prime() -> int:
    """RFC 3526 section 4: 2^3072 - 2^3008 - 1 + 2^64 * ([2^2942 pi] + 1690314)."""
    pi = 4 * (4 * arccot(5) - arccot(239))
    return 2**3072 - 2**3008 - 1 + 2**64 * ((pi >> 3000 - 2942) + 1690314)


def arccot(number: int) -> int:
    """arccot, times 2^3000."""
    power = total = 2**3000 // number
    count = 1
    while power:
        power //= -(number**2)
        count += 2
        total += power // count
    return total


N, G = prime(), 2


def padded(number: int) -> bytes:
    """As Java's BigInteger writes a positive number."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def digest(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"".join(parts)).digest(), "big")


class Server:
    """What the pool knows of a user: salt and verifier, and not the password."""

    def __init__(self, user: str, password: str, salt: int) -> None:
        self.user, self.salt = user, salt
        inner = hashlib.sha256(f"AbCdEf{user}:{password}".encode()).digest()
        self.verifier = pow(G, digest(padded(salt), inner), N)
        # as long as RFC 5054 section 2.5.3 asks for; one of 3072 bits takes twelve times as long to raise to
        self.secret = secrets.randbits(256)
        self.public = (digest(padded(N), padded(G)) * self.verifier + pow(G, self.secret, N)) % N
        self.block = secrets.token_bytes(64)

    def challenge(self) -> dict[str, Any]:
        block = base64.b64encode(self.block).decode()
        return {
            "USER_ID_FOR_SRP": self.user,
            "SRP_B": f"{self.public:x}",
            "SALT": f"{self.salt:x}",
            "SECRET_BLOCK": block,
        }

    def signature(self, public: str, timestamp: str) -> str:
        """What the client must send, if it knows the password."""
        client = int(public, 16)
        scramble = digest(padded(client), padded(self.public))
        shared = pow(client * pow(self.verifier, scramble, N), self.secret, N)
        kdf = HKDF(SHA256(), 16, padded(scramble), b"Caldera Derived Key")
        signed = b"AbCdEf" + self.user.encode() + self.block + timestamp.encode()
        return base64.b64encode(hmac.digest(kdf.derive(padded(shared)), signed, "sha256")).decode()


@pytest.mark.parametrize("salt", [0xA5F3 << 112, 0x1234 << 112, 0x123 << 112, 7])
def test_the_proof_is_the_one_that_the_server_computes(salt: int) -> None:
    srp, server = Srp(POOL, "Pässwörd 1!"), Server("u-1", "Pässwörd 1!", salt)
    proof = srp.proof(server.challenge(), NOW)
    assert proof == {
        "TIMESTAMP": WHEN,
        "PASSWORD_CLAIM_SECRET_BLOCK": base64.b64encode(server.block).decode(),
        "PASSWORD_CLAIM_SIGNATURE": server.signature(srp.public, WHEN),
    }


def test_another_password_proves_nothing() -> None:
    srp, server = Srp(POOL, "Alice-1234"), Server("u-1", "Alice-1235", 0xABC)
    assert srp.proof(server.challenge(), NOW)["PASSWORD_CLAIM_SIGNATURE"] != server.signature(srp.public, WHEN)


def test_the_public_number_is_new_each_time_and_in_the_group() -> None:
    numbers = {int(Srp(POOL, "x").public, 16) for _ in range(3)}
    assert len(numbers) == 3
    assert all(1 < number < N for number in numbers)


GOOD = Server("u-1", "x", 0xABC).challenge()


@pytest.fixture(scope="module")
def client() -> Srp:
    """One for all challenges that it refuses: to draw its number takes longer than the rest, and a proof changes nothing."""
    return Srp(POOL, "x")


@pytest.mark.parametrize(
    "changed",
    [
        {"SRP_B": "0"}, {"SRP_B": f"{N:x}"}, {"SRP_B": f"{2 * N:x}"}, {"SRP_B": "-1"}, {"SRP_B": "0x2"}, {"SRP_B": ""},
        {"SRP_B": "1" * 1025}, {"SRP_B": 5}, {"SRP_B": None}, {"SALT": "zz"}, {"SALT": " ab"}, {"SALT": None},
        {"SALT": 5}, {"SECRET_BLOCK": None}, {"SECRET_BLOCK": "a"}, {"USER_ID_FOR_SRP": None}, {"USER_ID_FOR_SRP": 5},
    ],
)  # fmt: skip
def test_a_challenge_that_is_none_is_refused(client: Srp, changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"SRP|SALT|SECRET_BLOCK|base64"):
        client.proof({**GOOD, **changed}, NOW)


def test_without_the_library_it_says_which_extra_has_it() -> None:
    with (
        without("pycognito"),
        pytest.raises(ValueError, match=r"SIDECAR_PASSWORD_FLOW: .*pip install '\.\[srp\]'"),
    ):
        mathematics()


def test_the_library_is_not_imported_before_it_is_needed() -> None:
    code = "import sidecar.sign_in.user_pool, sys; print('pycognito' in sys.modules, 'boto3' in sys.modules)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.split() == ["False", "False"]
