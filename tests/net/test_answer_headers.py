"""Headers of the app's answer: what the client gets, and what it never sees."""

from __future__ import annotations

import pytest

from sidecar.net.answer_headers import clean_headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"connection", b"close"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"keep-alive"),
        (b"proxy-authenticate", b"Basic"),
        (b"te", b"trailers"),
        (b"trailer", b"X-A"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"content-length", b"5"),
        (b"x-auth-subject", b"eve"),
        (b"x_auth_subject", b"eve"),
        (b"x.auth-roles", b"admin"),
        (b"X_Auth.Roles", b"admin"),
        (b"x-auth_assertion", b"e30"),
        (b"set-cookie", b"__Host-session=evil; Path=/; Secure"),
        (b"set-cookie", b"__Host-session.0=evil"),
        (b"set-cookie", b"__HOST-SESSION=evil"),
        (b"set-cookie", b"  __Host-session =evil"),
        (b"set-cookie", b"=__Host-session=evil"),
        (b"set-cookie", b" = __Host-login=evil"),
        (b"set-cookie", b"__Host-login=evil"),
        (b"set-cookie2", b"__Host-session=evil"),
    ],
)
def test_what_is_not_for_the_client_is_removed(name: bytes, value: bytes) -> None:
    kept = [(b"content-type", b"text/plain"), (b"set-cookie", b"a=b")]
    assert clean_headers([kept[0], (name, value), kept[1]]) == kept


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"set-cookie", b"session=mine"),
        (b"set-cookie", b"a=__Host-session=1"),
        (b"set-cookie", b"__Host-other=1"),
        (b"x-auth-subjects", b"a"),
        (b"x-authsubject", b"a"),
        (b"content-encoding", b"gzip"),
        (b"location", b"/__Host-session"),
        (b"www-authenticate", b"Basic"),
    ],
)
def test_what_is_for_the_client_stays(name: bytes, value: bytes) -> None:
    assert clean_headers([(name, value)]) == [(name, value)]


def test_headers_that_connection_names_are_removed_in_any_case() -> None:
    headers = [
        (b"x-a", b"1"), (b"connection", b"X-A,\tx-B , close"), (b"x-b", b"2"), (b"x-c", b"3"), (b"connection", b"x-d"),
        (b"x-d", b"4"),
    ]  # fmt: skip
    assert clean_headers(headers) == [(b"x-c", b"3")]
