"""Lines of Caddy and of Envoy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.imports.json_lines import caddy, envoy, is_caddy, is_envoy
from sidecar.imports.sighting import Broken
from sidecar.imports.targets import LoggedRequest, Skipped


def of_caddy(**fields: Any) -> bytes:
    request = {"method": "GET", "host": "app.example.com:8443", "uri": "/a?b=1", "headers": {"Cookie": ["x"]}}
    line = {"level": "info", "logger": "http.log.access", "msg": "handled request", "request": request, "status": 200}
    return json.dumps({**line, **fields}).encode()


def test_a_line_of_caddy() -> None:
    assert is_caddy(of_caddy())
    assert not is_envoy(of_caddy())
    assert caddy(of_caddy()) == LoggedRequest(b"GET", b"/a?b=1", 200, False, "app.example.com")
    assert caddy(of_caddy(status=101)).websocket


def test_a_line_of_caddy_that_is_of_no_request() -> None:
    with pytest.raises(Skipped):
        caddy(b'{"level": "info", "msg": "serving initial configuration"}')


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ({"method": "PUT", "path": "/a", "response_code": 204, "authority": "h:80"}, LoggedRequest(b"PUT", b"/a", 204, False, "h")),
        ({":METHOD": "GET", ":PATH": "/b?c=d", "status": "200"}, LoggedRequest(b"GET", b"/b?c=d", 200)),
        ({"method": "GET", "path": None, "x-envoy-original-path": "/o", "response_code": 101}, LoggedRequest(b"GET", b"/o", 101, True)),
        ({"method": "GET", "path": "/late", "response_code": 0}, LoggedRequest(b"GET", b"/late", 0)),
    ],
)  # fmt: skip
def test_a_line_of_envoy(line: dict[str, Any], seen: LoggedRequest) -> None:
    text = json.dumps(line).encode()
    assert is_envoy(text)
    assert not is_caddy(text)
    assert envoy(text) == seen


def test_a_line_of_envoy_without_a_request() -> None:
    with pytest.raises(Skipped):
        envoy(b'{"method": null, "path": null, "response_code": 0}')


@pytest.mark.parametrize(
    "line",
    [
        b"", b"x", b"[]", b"{}", b"[" * 100_000, b'{"request": 1}', b'{"method": "GET", "path": "/a"}', b"\xff", b'{"request": {"method": 1}}',
        b'{"method": "GET", "path": "/a", "response_code": true}', b'{"method": "GET", "path": "/a", "response_code": "\\u00b2"}',
    ],
)  # fmt: skip
def test_a_broken_line_says_what_it_should_be(line: bytes) -> None:
    for read, is_line in ((caddy, is_caddy), (envoy, is_envoy)):
        assert not is_line(line)
        with pytest.raises(Broken, match=r"found .*, expected \{"):
            read(line)
