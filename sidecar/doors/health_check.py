"""Health checks of a balancer at the traffic port, answered before anything else of a request is judged."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from sidecar.doors.answer import Answer
from sidecar.doors.door import Receive
from sidecar.doors.refusal import Send, send_whole
from sidecar.wire.http1_request import Head


class HealthCheck:
    """Answers `paths`: 200 while the process serves, 503 once it is `draining`. A check by the target's address names a
    host that the sidecar does not serve, and one in HTTP/1.0 names no host. A check leaves no line in the decision log.
    """

    def __init__(self, paths: tuple[str, ...]) -> None:
        self.targets = frozenset(path.encode("ascii") for path in paths)
        self.draining: Callable[[], bool] = lambda: False

    async def __call__(self, head: Head, peer: str, scheme: str, receive: Receive, send: Send) -> None:
        """Answer one request whose target is one of `targets`."""
        if head.method not in ("GET", "HEAD"):
            await send_whole(_answer(HTTPStatus.METHOD_NOT_ALLOWED, (b"allow", b"GET, HEAD")), send)
        elif self.draining():
            await send_whole(_answer(HTTPStatus.SERVICE_UNAVAILABLE), send)
        else:
            await send_whole(_answer(HTTPStatus.OK), send)


def _answer(status: HTTPStatus, *more: tuple[bytes, bytes]) -> Answer:
    body = b"ok\n" if status == HTTPStatus.OK else status.phrase.lower().encode("ascii") + b"\n"
    headers = [
        (b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"), *more,
    ]  # fmt: skip
    return Answer(status, headers, body)
