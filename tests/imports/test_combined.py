"""Lines of nginx and Apache."""

from __future__ import annotations

import pytest

from sidecar.imports.combined import is_line, read_line
from sidecar.imports.sighting import Broken
from sidecar.imports.targets import LoggedRequest, Skipped

TIME = b"[29/Nov/2026:10:00:00 +0000]"


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        (b'10.0.0.1 - alice %b "GET /a?b=1 HTTP/1.1" 200 12 "-" "curl"', LoggedRequest(b"GET", b"/a?b=1", 200)),
        (
            b'app.example.com:443 10.0.0.1 - - %b "PUT /a HTTP/2.0" 204 - "-" "-" 0.01',
            LoggedRequest(b"PUT", b"/a", 204),
        ),
        (rb'::1 - - %b "GET /a\x22b HTTP/1.1" 200 1', LoggedRequest(b"GET", b'/a"b', 200)),
        (b'h - "the user" %b "GET / HTTP/1.0" 302 0', LoggedRequest(b"GET", b"/", 302)),
        (b'h - - %b "GET /old" 200 5', LoggedRequest(b"GET", b"/old", 200)),
        (b'h - - %b "GET /ws HTTP/1.1" 101 5', LoggedRequest(b"GET", b"/ws", 101, True)),
        (b'h - - %b "GET /short HTTP/1.1" 200', LoggedRequest(b"GET", b"/short", 200)),
        (b'h - - %b "GET http://x:80/a HTTP/1.1" 200 4', LoggedRequest(b"GET", b"http://x:80/a", 200)),
    ],
)
def test_a_line_tells_method_target_and_status(line: bytes, seen: LoggedRequest) -> None:
    made = line.replace(b"%b", TIME)
    assert is_line(made)
    assert read_line(made) == seen


@pytest.mark.parametrize("request_line", [b"-", rb"\x16\x03\x01\x02", b"", b"get /a HTTP/1.1", b"GET /a b HTTP/1.1"])
def test_a_client_that_sent_no_request_is_no_evidence(request_line: bytes) -> None:
    with pytest.raises(Skipped):
        read_line(b"h - - " + TIME + b' "' + request_line + b'" 400 0 "-" "-"')


@pytest.mark.parametrize(
    "line", [b"garbage", b'"GET /a HTTP/1.1" 200', b"h - - " + TIME + b' "GET /a HTTP/1.1', b'{"a": 1}']
)
def test_a_broken_line_says_what_it_should_be(line: bytes) -> None:
    assert not is_line(line)
    with pytest.raises(Broken, match="found no time, request line in quotes and status, expected CLIENT - USER"):
        read_line(line)
