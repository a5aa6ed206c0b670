"""The health of a gRPC server (github.com/grpc/grpc, doc/health-checking.md), for whoever asks it by that protocol."""

from __future__ import annotations

from collections.abc import Callable

from sidecar.wire.grpc import CallFailed, Status
from sidecar.wire.protobuf import number_tag, sized, sized_tag, varint

CHECK = b"/grpc.health.v1.Health/Check"

SERVING, NOT_SERVING = (number_tag(1) + varint(status) for status in (1, 2))
"""HealthCheckResponse: field 1, an enum."""


class Health:
    """Answers for the server as a whole and for each of its services; `ready` is asked each time."""

    def __init__(self, services: tuple[str, ...], ready: Callable[[], bool]) -> None:
        self._requests = {_request(service) for service in ("", *services)}
        self._ready = ready

    async def check(self, message: bytes) -> bytes:
        """A HealthCheckRequest -> a HealthCheckResponse. Raises CallFailed(NOT_FOUND) for a service of nobody."""
        if message not in self._requests:
            raise CallFailed(Status.NOT_FOUND, "no such service")
        return SERVING if self._ready() else NOT_SERVING


def _request(service: str) -> bytes:
    """A HealthCheckRequest: field 1, a string; the empty one is left out (proto3)."""
    name = service.encode("ascii")
    return sized(sized_tag(1), name) if name else b""
