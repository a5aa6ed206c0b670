"""TLS towards servers: how its context is made."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from sidecar.net.tls import tls_context
from tests.certificates import certificates


def test_names_are_checked_and_nothing_older_than_1_2_is_spoken(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    context = tls_context(str(files.ca), str(files.certificate), str(files.key))
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1


def test_without_a_file_the_systems_authorities_are_trusted() -> None:
    assert tls_context("").get_ca_certs()


def test_a_file_that_is_none_is_an_error(tmp_path: Path) -> None:
    files = certificates(tmp_path)
    with pytest.raises(OSError, match="No such file"):
        tls_context(str(tmp_path / "nothing"))
    with pytest.raises(ssl.SSLError):
        tls_context(str(files.ca), str(files.certificate), str(files.ca))
