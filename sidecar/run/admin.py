"""The admin port: health, metrics and a view of the configuration. Never reachable through the traffic port (R23)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Readiness = Callable[[], Mapping[str, bool]]
"""What must be true to serve: name of the part -> whether it is ready."""
ConfigView = Callable[[], dict[str, Any]]


def admin_app(
    readiness: Readiness, reload: Callable[[], str], exposition: Callable[[], bytes], config: ConfigView,
    policies: Callable[[], str] = lambda: "",
) -> Starlette:  # fmt: skip
    """The ASGI app of the admin port: `/livez`, `/readyz`, `/metrics`, `/config`. `reload` says how the last reload
    went: one that failed is told, and leaves the sidecar ready, since what was in force still is. `policies` says the
    same of the policies, "" where they are not ours to reload."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        parts = dict(readiness())
        ready = all(parts.values())
        told = {"reload": reload()} | ({"policies": state} if (state := policies()) else {})
        return JSONResponse({"ready": ready, **parts, **told}, 200 if ready else 503)

    async def metrics(_: Request) -> Response:
        return Response(exposition(), media_type=CONTENT_TYPE_LATEST)

    async def view(_: Request) -> Response:
        return JSONResponse(config())

    paths = {"/livez": livez, "/readyz": readyz, "/metrics": metrics, "/config": view}
    app = Starlette(routes=[Route(path, endpoint, methods=["GET"]) for path, endpoint in paths.items()])
    app.router.redirect_slashes = False
    return app
