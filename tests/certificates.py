"""A certificate authority of the tests' own, and a certificate of 127.0.0.1 that it signed."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Files(NamedTuple):
    """PEM files."""

    ca: Path
    certificate: Path
    key: Path


def certificates(folder: Path) -> Files:
    """New ones in `folder`, good for an hour."""
    files = Files(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    files.ca.write_bytes(signed("ca.test", ca_key, "ca.test", ca_key, None))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    files.certificate.write_bytes(signed("server.test", key, "ca.test", ca_key, address))
    files.key.write_bytes(pem_of(key))
    return files


def pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as it stands in a file."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signed(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey,
    alternative: x509.GeneralName | None, good_for: timedelta = timedelta(hours=1),
    begins: timedelta = timedelta(hours=-1),
) -> bytes:  # fmt: skip
    """A certificate, as PEM, of `alternative`; without one, of an authority. From now on it is good for `good_for`,
    and it `begins` an hour ago, or so long after now."""

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + good_for)
        .add_extension(x509.BasicConstraints(ca=alternative is None, path_length=None), critical=True)
    )
    if alternative is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
