"""Health checks of balancers at the traffic port, by real bytes."""

from __future__ import annotations

import pytest

from sidecar.doors.door import Receive, Scope
from sidecar.doors.health_check import HealthCheck
from sidecar.doors.refusal import Send
from sidecar.wire.http1_request import Head
from tests.net.raw_http import Running, running


class App:
    """An app with nothing but health checks."""

    def __init__(self) -> None:
        self.health = HealthCheck(("/livez", "/healthz"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["raw_target"] in self.health.targets
        head = Head(scope["method"], scope["raw_target"], "1.1", scope["headers"], 0, False, False, False)
        await self.health(head, "", "http", receive, send)


def first_line(server: Running, request: bytes) -> bytes:
    with server.client() as client:
        client.send(request)
        return client.rest().partition(b"\r\n")[0]


@pytest.mark.parametrize(
    ("request_line", "host"),
    [
        (b"GET /livez HTTP/1.0", b""),
        (b"GET /healthz HTTP/1.0", b"Host: 10.0.3.4:8080\r\n"),
        (b"GET /livez HTTP/1.1", b"Host: 10.0.3.4:8080\r\nConnection: close\r\n"),
        (b"HEAD /livez HTTP/1.1", b"Host: anything\r\nConnection: close\r\n"),
    ],
)
def test_a_check_by_address_or_without_a_host_is_answered_until_the_end_begins(
    request_line: bytes, host: bytes
) -> None:
    app = App()
    with running(app) as server:
        asked = request_line + b"\r\n" + host + b"\r\n"
        assert first_line(server, asked) == b"HTTP/1.1 200 OK"
        app.health.draining = lambda: True
        assert first_line(server, asked) == b"HTTP/1.1 503 Service Unavailable"


def test_another_method_is_none() -> None:
    with running(App()) as server, server.client() as client:
        client.send(b"DELETE /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.header("allow")) == (405, ["GET, HEAD"])
