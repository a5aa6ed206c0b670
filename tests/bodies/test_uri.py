"""URIs in their one form, held against a parser that SDKs use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AnyUrl, ValidationError

from sidecar.bodies.uri import is_normal


@pytest.mark.parametrize(
    "uri",
    ["file:///a/b.txt", "crm://contacts/7", "crm://contacts/7?full=1#x", "urn:isbn:1", "https://example.com:8443/a%20b", "config://app", "a+b://h/%2Eg".replace("%2E", "."), "data:text/plain,x", "file:///a/...", "x://h/%25", "http://h/", "http://h:81/a", "https://h:80/a", "crm://h:80", "file:///a/", "x:/a/b", "http://127.0.0.1/", "http://[::1]:81/", "file://h/a", "file:///C:/a", "crm://a?b'c"],
)  # fmt: skip
def test_a_uri_in_its_normal_form_is_taken(uri: str) -> None:
    assert is_normal(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///public/../secret", "file:///public/./a", "file:///public/..", "crm:..", "file:///a/%2e%2e/b", "file:///a/%2E%2E/b",
        "file:///a%2Fb", "file:///a%2fb", "file:///a%5Cb", "file:///a\\b", "FILE:///a", "File:///a", "https://Example.com/a",
        "https://user@example.com/a", "file:///%61", "file:///a b", "file:///a\n", "file:///\u00e9", "a", "/a", "", "file:///a%", "file:///a%0", "file:///a%00",
        "crm://contacts/../../x?y", "x:/a/../b",
        # the file /private/a
        "file:////private/a", "file:///private//a", "file://localhost/private/a", "crm://contacts//7", "x:/a//b", "x:a//b",
        # what parsers of URLs, and so SDKs, take away or put in
        "http://h:80/a", "https://h:443/a", "ws://h:80/a", "wss://h:443/a", "ftp://h:21/a", "http://h:/a", "crm://h:/a", "http://h:0080/a",
        "http://h", "https://h:8443", "http://h?a", "crm://a?", "crm://a#", "crm://a?b#",
        # file:///secret and http://h/a to pydantic and to JavaScript's URL
        "file:/secret", "file:secret", "file://", "http:/h/a", "https:h/a", "ws:///h", "ftp:a", "http://h/?a'b", "file:///a?b'c",
        # 127.0.0.1, ::1 and h
        "http://127.1/", "http://0x7f000001/", "http://2130706433/", "http://127.0.0.01/", "http://[0::1]/", "crm://[0::1]/a", "crm://127.1/a",
        "http://%68/", "crm://%C3%A9/a", "file://h/c:/x",
    ],
)  # fmt: skip
def test_a_uri_that_a_server_may_read_as_another_is_not(uri: str) -> None:
    assert not is_normal(uri)


_BEGINNINGS = ("file:///", "file://", "file:", "http://h/", "http://", "https:", "ws://", "x://", "x:", "crm://h")
_PIECES = ("/", "h", "A", ".", "..", ":80", ":443", ":0", ":8080", "?", "#", "%20", "%27", "'", "[::1]", "[0::1]", "127.1", "127.0.0.1", "0x7f.1", "@", "localhost", "C:", "c:", "%68", "xn--a", "h.")  # fmt: skip


@given(st.sampled_from(_BEGINNINGS), st.lists(st.sampled_from(_PIECES), min_size=1, max_size=5))
def test_a_uri_that_is_taken_is_the_one_that_an_sdk_looks_for(beginning: str, pieces: list[str]) -> None:
    uri = beginning + "".join(pieces)
    if not is_normal(uri):
        return
    try:
        read = str(AnyUrl(uri))
    except ValidationError:
        return
    assert read == uri
