"""Targets of logs are read as the gate reads a request's, and nothing of a value is left."""

from __future__ import annotations

import pytest

from sidecar.imports.targets import Skipped, query_names, read_method, read_path, split_url, unescaped, without_port


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        (b"https://api.example.com:443/a?b=c", "api.example.com", b"/a?b=c"),
        (b"http://alice:secret@Example.com/x", "example.com", b"/x"),
        (b"wss://h", "h", b"/"),
        (b"http://h?a=1", "h", b"/?a=1"),
        (b"http://[::1]:80/a", "[::1]", b"/a"),
        (b"/plain?u=http://x/", "", b"/plain?u=http://x/"),
        (b"data:text/plain,x", "", b"data:text/plain,x"),
    ],
)
def test_a_url_is_a_host_and_a_target(url: bytes, host: str, target: bytes) -> None:
    assert split_url(url) == (host, target)


def test_a_host_is_without_its_port() -> None:
    assert [without_port(host) for host in ("A:80", "a", "[::1]:8", "a:")] == ["a", "a", "[::1]", "a"]


@pytest.mark.parametrize(
    ("text", "came"),
    [(rb"/a\x22b", b'/a"b'), (rb"/a\"b\\c", b'/a"b\\c'), (rb"\xC3\xA4", b"\xc3\xa4"), (rb"\q", rb"\q")],
)
def test_escapes_of_a_log_are_undone(text: bytes, came: bytes) -> None:
    assert unescaped(text) == came


def test_a_path_is_read_as_the_gate_reads_it() -> None:
    assert read_path(b"/%61/b%20c?x=1&y=2&x=3#z") == (("a", "b c"), ("x", "y"))


@pytest.mark.parametrize("target", [b"/a/../b", b"/a%00", b"/\xff", b"nothing", b"/" + b"x" * 9000, b"/a?\xff"])
def test_a_path_that_the_sidecar_refuses_is_no_evidence(target: bytes) -> None:
    with pytest.raises(Skipped, match="a path that the sidecar refuses"):
        read_path(target)


def test_names_of_a_query_are_those_with_a_value() -> None:
    assert query_names(b"a=1&secret&b%5Bc%5D=2&=3&a=4&1700000=5&" + b"&".join([b"q=1"] * 100)) == ("a", "b[c]", "q")


def test_methods_that_no_route_has_are_left_out() -> None:
    assert read_method(b"PROPFIND") == "PROPFIND"
    for method in (b"CONNECT", b"TRACE", b"get", b"SECRET", b"\xff"):
        with pytest.raises(Skipped):
            read_method(method)
