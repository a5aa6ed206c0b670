"""The health of a gRPC server (github.com/grpc/grpc, doc/health-checking.md), for whoever asks it by that protocol."""

from __future__ import annotations

from collections.abc import Callable

from sidecar.net.grpc_client import CallFailed, Status

CHECK = b"/grpc.health.v1.Health/Check"

_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"  # field 1, an enum


class Health:
    """Answers for the server as a whole and for each of its services; `ready` is asked each time."""

    def __init__(self, services: tuple[str, ...], ready: Callable[[], bool]) -> None:
        self._questions = {_question(service) for service in ("", *services)}
        self._ready = ready

    async def check(self, message: bytes) -> bytes:
        """A HealthCheckRequest -> a HealthCheckResponse. Raises CallFailed(NOT_FOUND) for a service of nobody."""
        if message not in self._questions:
            raise CallFailed(Status.NOT_FOUND, "no such service")
        return _SERVING if self._ready() else _NOT_SERVING


def _question(service: str) -> bytes:
    """A HealthCheckRequest: field 1, a string; the empty one is left out (proto3)."""
    name = service.encode("ascii")
    return b"\x0a" + bytes((len(name),)) + name if name else b""
