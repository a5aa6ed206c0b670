"""The injection webhook as a TLS server: what Kubernetes' API server asks before it creates a pod."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sidecar.inject import review
from sidecar.inject.patch import InjectionTemplate
from sidecar.inject.settings import InjectSettings
from sidecar.net.certificate import Certificate
from sidecar.record import logs

log = logging.getLogger("sidecar.inject")

wall_clock = time.time  # noqa: TID251 - here the clock enters

MAX_BODY = 8 * 1024 * 1024
"""Bytes. An object has 1.5 MiB at most (etcd's `--max-request-bytes`), and an update brings two."""
WATCH_EVERY = 1.0
"""Seconds between two looks at the certificate."""


class InjectError(Exception):
    """The webhook cannot start; the message says why."""


def template_of(
    images: Mapping[str, str], mirrors: tuple[str, ...] = (), before: tuple[str, ...] = ()
) -> InjectionTemplate:  # fmt: skip
    """Return the template with these images (container name -> image) in place of the template's."""
    text = (files("sidecar.inject") / "template.yaml").read_text(encoding="utf-8")
    return InjectionTemplate.of(yaml.safe_load(text), images, mirrors, before)


def webhook(template: InjectionTemplate, policy: review.AdmissionPolicy) -> Starlette:
    """The ASGI app: `POST /inject`, `POST /validate`, `GET /livez`."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def judged(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return PlainTextResponse("expected application/json\n", 415)
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY:
                return PlainTextResponse(f"expected {MAX_BODY} bytes at most\n", 413, {"connection": "close"})
        path = review.Path(request.scope["path"])
        try:
            outcome = review.judge(path, bytes(body), template, policy)
        except review.BadReview as error:
            log.warning("%s: a review that cannot be judged: %s", path.value, error)
            return PlainTextResponse(f"{error}\n", 400)
        said = {"pod": outcome.pod, "allowed": outcome.allowed, "operations": outcome.operations}
        log.info("%s: %s", path.value, outcome.reason or "as wanted", extra={"fields": said})
        return JSONResponse(outcome.answer)

    posts = [Route(path.value, judged, methods=["POST"]) for path in review.Path]
    app = Starlette(routes=[*posts, Route("/livez", livez, methods=["GET"])])
    app.router.redirect_slashes = False
    return app


class _Server(uvicorn.Server):
    """uvicorn's server, with signals left to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


def serve(settings: InjectSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises InjectError."""
    logs.configure(settings.log_level)
    try:
        certificate = Certificate(settings.certificate, settings.key, wall_clock)
    except ValueError as error:
        raise InjectError(f"cannot use the certificate: {error}") from None
    app = webhook(template_of(settings.images, settings.mirrors, settings.before), settings.policy)
    asyncio.run(_serve(app, settings, certificate))


async def _watch(certificate: Certificate) -> None:
    while True:
        await asyncio.sleep(WATCH_EVERY)
        certificate.look()


async def _serve(app: Starlette, settings: InjectSettings, certificate: Certificate) -> None:
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, http="httptools", ws="none", lifespan="off", log_config=None,
        access_log=False, server_header=False, proxy_headers=False, timeout_graceful_shutdown=10,
        ssl_context_factory=lambda *_: certificate.context,
    )  # fmt: skip
    server = _Server(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: setattr(server, "should_exit", True))
    watching = loop.create_task(_watch(certificate))
    log.info("injecting on %s:%d", settings.host, settings.port)
    try:
        await server.serve()
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
