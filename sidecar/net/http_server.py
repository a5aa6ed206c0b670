"""The strict HTTP/1.1 server: uvicorn, with every setting pinned that safety rests on, and our own protocol in it."""

from __future__ import annotations

import functools
import math
import ssl
from collections.abc import Callable
from typing import Any

import uvicorn

from sidecar.net.exchange import App
from sidecar.net.handshakes import Handshakes
from sidecar.net.http_connection import RecordRefusal, StrictProtocol
from sidecar.net.limits import Crowd, Drain, Limits


def config(
    app: App,
    *,
    limits: Limits | None = None,
    refused: RecordRefusal = lambda *_: "",
    drain: Drain | None = None,
    owner_of: Callable[[str], str] = lambda _: "",
    tls: ssl.SSLContext | None = None,
    **listen: Any,
) -> uvicorn.Config:
    """The server for `app` with every setting pinned that safety rests on; `refused` hears what the app does not, and
    `drain` says when the end is near. `owner_of` tells by a client's address in whose name its connections are, "" for
    nobody's: one owner gets a share of them. With `tls`, clients are spoken to by it alone.

    `listen` says where: host and port, uds, or fd, and `timeout_graceful_shutdown` where it is wanted.
    """
    limits = limits or Limits()
    protocol: Callable[..., Any] = functools.partial(
        StrictProtocol, limits=limits, refused=refused, drain=drain or Drain(), crowd=Crowd(limits, owner_of)
    )
    if tls is not None:
        protocol = Handshakes(tls, protocol, owner_of)
    return uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]  # any callable serves
        ws="none",
        loop="uvloop",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        date_header=True,
        access_log=False,
        timeout_keep_alive=math.ceil(limits.keep_alive),
        log_config=None,
        **listen,
    )
