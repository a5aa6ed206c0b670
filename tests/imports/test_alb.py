"""Lines of AWS application load balancers, in the form of AWS's documentation, with values of our own."""

from __future__ import annotations

import pytest

from sidecar.imports.alb import is_line, read_line
from sidecar.imports.sighting import Broken
from sidecar.imports.targets import LoggedRequest, Skipped

LINE = (
    '{kind} 2026-11-29T22:23:00.186641Z app/my-balancer/50dc6c495c0c9188 192.0.2.39:2817 {target} 0.000 0.001 0.000 '
    '{elb} {status} 34 366 "{request}" "curl/8.0" ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:elasticloadbalancing:'
    'eu-west-1:123456789012:targetgroup/x/y "Root=1-58337262-36d228ad5d99923122bbe354" "-" "-" 0 '
    '2026-11-29T22:22:48.364000Z "forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_x'
)  # fmt: skip


def line(request: str, kind: str = "https", elb: str = "200", status: str = "200") -> bytes:
    target = "-" if status == "-" else "10.0.0.1:80"
    return LINE.format(kind=kind, request=request, elb=elb, status=status, target=target).encode()


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (
            line("GET https://app.example.com:443/a?b=1 HTTP/1.1"),
            LoggedRequest(b"GET", b"https://app.example.com:443/a?b=1", 200),
        ),
        (line("POST http://h:80/x HTTP/2.0", "h2", "201", "201"), LoggedRequest(b"POST", b"http://h:80/x", 201)),
        (line("GET wss://h:443/ws HTTP/1.1", "wss", "101", "101"), LoggedRequest(b"GET", b"wss://h:443/ws", 101, True)),
        (
            line(r"GET http://h:80/a\x22b HTTP/1.1", "http", "502", "500"),
            LoggedRequest(b"GET", b'http://h:80/a"b', 500),
        ),
    ],
)
def test_a_line_tells_method_url_and_the_app_s_status(text: bytes, seen: LoggedRequest) -> None:
    assert is_line(text)
    assert read_line(text) == seen


def test_what_the_balancer_answered_by_itself_is_no_evidence() -> None:
    with pytest.raises(Skipped, match="by itself"):
        read_line(line("GET https://h:443/a HTTP/1.1", elb="403", status="-"))


@pytest.mark.parametrize("text", [b"", b"https 2026", line("- http://h:80- -").replace(b'"', b"'")])
def test_a_broken_line_says_what_it_should_be(text: bytes) -> None:
    assert not is_line(text)
    with pytest.raises(Broken, match="expected TYPE TIME ELB"):
        read_line(text)
