"""The strict HTTP/1.1 server: uvicorn, with every setting pinned that safety rests on, and our own protocol in it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import uvicorn

from sidecar.net.exchange import App
from sidecar.net.http_connection import RecordRefusal, StrictProtocol
from sidecar.net.limits import Crowd, Drain, Limits


def config(
    app: App,
    *,
    limits: Limits | None = None,
    refused: RecordRefusal = lambda *_: "",
    drain: Drain | None = None,
    owner_of: Callable[[str], str] = lambda _: "",
    **listen: Any,
) -> uvicorn.Config:
    """The server for `app` with every setting pinned that safety rests on; `refused` hears what the app does not, and
    `drain` says when the end is near. `owner_of` tells by a client's address in whose name its connections are, "" for
    nobody's: one owner gets a share of them.

    `listen` says where: host and port, uds, or fd, and `timeout_graceful_shutdown` or TLS files where they are wanted.
    """
    limits = limits or Limits()
    return uvicorn.Config(
        app,
        http=functools.partial(  # type: ignore[arg-type]  # any callable serves
            StrictProtocol, limits=limits, refused=refused, drain=drain or Drain(), crowd=Crowd(limits, owner_of)
        ),
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
