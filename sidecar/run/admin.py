"""The admin port: health, metrics and a view of the configuration. Never reachable through the traffic port (R23)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sidecar.record.metrics import Values


class StatusReport(Protocol):
    """Port: what a process tells of itself."""

    def readiness(self) -> Mapping[str, bool]:
        """Return what must be true to serve: name of the part -> whether it is ready."""
        ...

    def remarks(self) -> Mapping[str, str]:
        """Return the mode, and how the last reload of the routes, and of the policies, went. One that failed leaves the
        sidecar ready, since what was in force still is."""
        ...

    def config(self) -> dict[str, Any]:
        """Return the configuration in force, without secrets."""
        ...


def admin_app(status: StatusReport, counts: Callable[[], Values]) -> Starlette:
    """Make the ASGI app of the admin port: `/livez`, `/readyz`, `/metrics`, `/config`. `counts` gives the metrics."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        parts = status.readiness()
        ready = all(parts.values())
        return JSONResponse({"ready": ready, **parts, **status.remarks()}, 200 if ready else 503)

    async def metrics(_: Request) -> Response:
        # when it is first asked for: to load the library takes 20 ms of a start
        from sidecar.record.exposition import MEDIA_TYPE, exposition

        return Response(exposition(counts()), media_type=MEDIA_TYPE)

    async def view(_: Request) -> Response:
        return JSONResponse(status.config())

    paths = {"/livez": livez, "/readyz": readyz, "/metrics": metrics, "/config": view}
    app = Starlette(routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in paths.items()])
    app.router.redirect_slashes = False
    return app
