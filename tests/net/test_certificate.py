"""Certificates of a server: what is wrong with a pair of files, and a pair that is taken over."""

from __future__ import annotations

import ipaddress
import ssl
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sidecar.net.certificate import Certificate
from tests.certificates import Files, certificates, signed

NOW = time.time()
ADDRESS = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def made(files: Files, now: float = NOW) -> Certificate:
    return Certificate(str(files.certificate), str(files.key), lambda: now)


def test_a_pair_is_used_with_what_is_safe_alone(tmp_path: Path) -> None:
    context = made(certificates(tmp_path)).context
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("no certificate", "cannot read CERT: No such file or directory"),
        ("no key", "cannot read KEY: No such file or directory"),
        ("a folder", "cannot read KEY: Is a directory"),
        ("not PEM", "found no PEM certificate in CERT, expected the server's, then those that signed it"),
        ("key for certificate", "found no PEM certificate in CERT, expected the server's, then those that signed it"),
        ("no PEM key", "found no PEM key in KEY, expected one without a pass phrase"),
        ("a pass phrase", "found no PEM key in KEY, expected one without a pass phrase"),
        ("another key", "found in KEY the key of another certificate than CERT"),
    ],
)
def test_what_is_wrong_with_a_pair_is_told_with_the_file(tmp_path: Path, spoil: str, said: str) -> None:
    files = certificates(tmp_path)
    match spoil:
        case "no certificate":
            files.certificate.unlink()
        case "no key":
            files.key.unlink()
        case "a folder":
            files.key.unlink()
            files.key.mkdir()
        case "not PEM":
            files.certificate.write_bytes(b"\x30\x82")
        case "key for certificate":
            files.certificate.write_bytes(files.key.read_bytes())
        case "no PEM key":
            files.key.write_bytes(files.certificate.read_bytes())
        case "a pass phrase":
            key = serialization.load_pem_private_key(files.key.read_bytes(), None)
            closed = serialization.BestAvailableEncryption(b"secret")
            pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
            files.key.write_bytes(key.private_bytes(pem, pkcs8, closed))
        case "another key":
            (tmp_path / "other").mkdir()
            files.key.write_bytes(certificates(tmp_path / "other").key.read_bytes())
    with pytest.raises(ValueError, match=r"^(?:cannot|found)") as caught:
        made(files)
    assert str(caught.value).replace(str(files.certificate), "CERT").replace(str(files.key), "KEY") == said


@pytest.mark.parametrize("later", [timedelta(hours=-3), timedelta(hours=3)])
def test_a_certificate_that_is_not_in_force_is_told_with_its_times(tmp_path: Path, later: timedelta) -> None:
    with pytest.raises(
        ValueError, match=r"a certificate for \d{4}-.* UTC to \d{4}-.* UTC, expected one that is in force now"
    ):
        made(certificates(tmp_path), NOW + later.total_seconds())


def test_a_changed_pair_is_taken_over_and_one_that_cannot_be_used_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = certificates(tmp_path)
    certificate = made(files)
    certificate.look()
    files.certificate.write_bytes(b"half of it")
    for _ in range(2):
        certificate.look()
    files.certificate.unlink()
    certificate.look()
    assert caplog.text.count("certificate not reloaded, the running one stays in force: found no PEM") == 1
    key = ec.generate_private_key(ec.SECP256R1())
    files.certificate.write_bytes(signed("server.test", key, "ca.test", key, ADDRESS))
    certificate.look()
    assert "the key of another certificate" in caplog.text


def test_a_pair_that_goes_while_it_is_read_leaves_the_old_one_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = certificates(tmp_path)
    certificate = made(files)
    in_force = x509.load_pem_x509_certificates

    def goes(pem: bytes) -> list[x509.Certificate]:
        files.key.unlink()
        return in_force(pem)

    monkeypatch.setattr("sidecar.net.certificate.x509.load_pem_x509_certificates", goes)
    files.certificate.write_bytes(files.certificate.read_bytes() + b"\n")
    certificate.look()
    assert "stays in force: cannot read" in caplog.text
