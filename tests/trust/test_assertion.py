"""X-Auth-Assertion, checked as an upstream would check it."""

import base64
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.types import Options

from sidecar.gate.identity import Principal
from sidecar.trust.assertion import ISSUER, LIFE, Assertions, load_key
from tests.tokens import private_key

NOW = 1_700_000_000.0
ALICE = Principal("alice", ("user", "ops"), {}, "https://issuer", NOW + 3600, {})


def decoded(assertions: Assertions, token: bytes) -> dict[str, object]:
    key = jwt.PyJWKSet.from_dict(assertions.jwks)[jwt.get_unverified_header(token)["kid"]]
    options: Options = {"verify_exp": False, "verify_iat": False}
    claims: dict[str, object] = jwt.decode(token, key, ["ES256"], audience="http://app", issuer=ISSUER, options=options)
    return claims


def test_an_upstream_can_check_it_by_the_published_keys() -> None:
    assertions = Assertions(load_key("ephemeral"), "http://app")
    claims = decoded(assertions, assertions.sign(ALICE, NOW))
    assert claims == {
        "iss": ISSUER, "aud": "http://app", "sub": "alice", "roles": ["user", "ops"], "idp": "https://issuer",
        "iat": int(NOW), "exp": int(NOW) + LIFE,
    }  # fmt: skip
    assert "d" not in assertions.jwks["keys"][0]


def test_a_principal_gets_the_same_one_for_half_its_life_and_no_other_ever() -> None:
    assertions = Assertions(load_key("ephemeral"), "http://app")
    first = assertions.sign(ALICE, NOW)
    assert assertions.sign(ALICE, NOW + LIFE / 2 - 1) == first
    assert assertions.sign(ALICE, NOW + LIFE / 2) != first
    for other in (ALICE._replace(id="bob"), ALICE._replace(roles=("admin",)), ALICE._replace(issuer="https://other")):
        claims = decoded(assertions, assertions.sign(other, NOW))
        assert (claims["sub"], claims["roles"], claims["idp"]) == (other.id, list(other.roles), other.issuer)


def test_one_for_an_app_is_for_no_other() -> None:
    assertions = Assertions(load_key("ephemeral"), "http://app")
    tokens = [assertions.sign(ALICE, NOW, app) for app in ("", "http://crm", "http://wiki", "http://crm")]
    assert [jwt.decode(token, options={"verify_signature": False})["aud"] for token in tokens] == [
        "http://app", "http://crm", "http://wiki", "http://crm",
    ]  # fmt: skip
    assert tokens[1] == tokens[3]
    filtered = assertions.sign_filter(ALICE, b"{}", NOW, "http://crm")
    assert jwt.decode(filtered, options={"verify_signature": False})["aud"] == "http://crm"


def test_it_never_outlives_the_token() -> None:
    assertions = Assertions(load_key("ephemeral"), "http://app")
    short = ALICE._replace(expires=NOW + 10)
    assert decoded(assertions, assertions.sign(short, NOW))["exp"] == int(NOW) + 10


def test_one_that_was_made_for_a_longer_token_is_not_used_for_a_shorter_one() -> None:
    assertions = Assertions(load_key("ephemeral"), "http://app")
    long = assertions.sign(ALICE, NOW)
    short = ALICE._replace(expires=NOW + 4)
    made = assertions.sign(short, NOW)
    assert decoded(assertions, made)["exp"] == int(NOW) + 4
    # and the shorter one does for both, so that two tokens in turn are not signed for each time
    assert assertions.sign(short, NOW + 1) == assertions.sign(ALICE, NOW + 1) == made != long


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    kinds = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*kinds)


def test_the_key_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    assert Assertions(load_key(str(path)), "a").jwks == Assertions(load_key(str(path)), "b").jwks


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), private_key()])
def test_another_kind_of_key_is_refused(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(key))
    with pytest.raises(ValueError, match="expected a P-256 private key"):
        load_key(str(path))


def test_a_key_with_a_pass_phrase_or_of_an_unknown_curve_is_told(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    sealed = serialization.BestAvailableEncryption(b"secret")
    (tmp_path / "sealed.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)
    )
    with pytest.raises(ValueError, match=r"found a key with a pass phrase in .*sealed\.pem, expected one without"):
        load_key(str(tmp_path / "sealed.pem"))
    known, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")
    encoded = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    text = base64.b64encode(encoded.replace(known, unknown)).decode()
    (tmp_path / "odd.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ValueError, match=r"found another key in .*, expected a P-256 private key"):
        load_key(str(tmp_path / "odd.pem"))


def test_a_filter_is_signed_for_one_principal() -> None:
    assertions = Assertions(load_key("ephemeral"), "http://app")
    token = assertions.sign_filter(ALICE._replace(expires=NOW + 10), b'{"field":"owner","is":"eq","value":"a"}', NOW)
    assert decoded(assertions, token) == {
        "iss": ISSUER, "aud": "http://app", "sub": "alice", "filter": {"field": "owner", "is": "eq", "value": "a"},
        "iat": int(NOW), "exp": int(NOW) + 10,
    }  # fmt: skip
