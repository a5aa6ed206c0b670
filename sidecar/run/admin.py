"""The admin port: health, metrics and a view of the configuration. Never reachable through the traffic port (R23)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


class Status(Protocol):
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


def admin_app(status: Status, exposition: Callable[[], bytes]) -> Starlette:
    """Make the ASGI app of the admin port: `/livez`, `/readyz`, `/metrics`, `/config`."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        parts = status.readiness()
        ready = all(parts.values())
        return JSONResponse({"ready": ready, **parts, **status.remarks()}, 200 if ready else 503)

    async def metrics(_: Request) -> Response:
        return Response(exposition(), media_type=CONTENT_TYPE_LATEST)

    async def view(_: Request) -> Response:
        return JSONResponse(status.config())

    paths = {"/livez": livez, "/readyz": readyz, "/metrics": metrics, "/config": view}
    app = Starlette(routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in paths.items()])
    app.router.redirect_slashes = False
    return app
