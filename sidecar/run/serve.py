"""One process that serves: the traffic port and the admin port, started, drained and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from sidecar.config.settings import Address, Settings
from sidecar.net import http_server as server
from sidecar.net.limits import Drain, Limits
from sidecar.net.owners import Owners
from sidecar.record.workers import PUBLISH_EVERY
from sidecar.run.admin import admin_app
from sidecar.run.app import Sidecar, StartError

log = logging.getLogger("sidecar")

BACKLOG = 2048
UNSENT = 64 * 1024
"""Bytes of answers that the kernel holds for a client besides those that are on their way."""


def listen(address: Address, variable: str) -> socket.socket:
    """Open a listening socket. Raises StartError that names the setting and the address."""
    try:
        if address.path:
            Path(address.path).unlink(missing_ok=True)
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.bind(address.path)
        else:
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # a client that takes nothing holds little of the kernel's memory, and its pace is seen
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
            sock.bind((address.host, address.port))
    except OSError as error:
        raise StartError(f"{variable}: cannot listen on {address}: {error.strerror}") from None
    # whoever comes while the rest still starts waits, and is not turned away
    sock.listen(BACKLOG)
    sock.setblocking(False)
    return sock


class _Server(uvicorn.Server):
    """uvicorn's server, with signals left to us: one signal stops two servers in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


class Sockets(NamedTuple):
    """The listening sockets of a process; `ext_authz` where `SIDECAR_EXT_AUTHZ_LISTEN` is set."""

    traffic: socket.socket
    admin: socket.socket
    ext_authz: socket.socket | None = None

    @classmethod
    def open(cls, settings: Settings) -> Sockets:
        """Listen where the settings say. Raises StartError."""
        ext_authz = settings.ext_authz_listen
        return cls(
            listen(settings.listen, "SIDECAR_LISTEN"),
            listen(settings.admin_listen, "SIDECAR_ADMIN_LISTEN"),
            listen(ext_authz, "SIDECAR_EXT_AUTHZ_LISTEN") if ext_authz is not None else None,
        )

    def numbers(self) -> list[int]:
        """Their file descriptors, for a process that inherits them."""
        return [sock.fileno() for sock in self if sock is not None]


async def run(sidecar: Sidecar, sockets: Sockets, started: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT: then readiness ends, new connections are taken until the drain delay is over, and
    running requests finish."""
    settings = sidecar.settings
    loop = asyncio.get_running_loop()
    stop, drain = asyncio.Event(), Drain()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: sidecar.spawn(sidecar.reload()))
    admin_server = _Server(
        server.config(
            admin_app(
                sidecar.readiness,
                sidecar.reload_state,
                sidecar.metrics.exposition,
                sidecar.config,
                sidecar.policy_state,
            )
        )
    )
    traffic_server = _Server(
        server.config(
            sidecar.traffic,
            limits=Limits(connections=settings.max_connections),
            refused=sidecar.refused,
            drain=drain,
            owner_of=Owners(settings.trusted_proxies).of_peer,
            timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
        )
    )
    sidecar.connections = lambda: len(traffic_server.server_state.connections)
    try:
        # the admin port first: an orchestrator may ask about readiness while the rest still starts
        sidecar.spawn(admin_server.serve([sockets.admin]))
        await _start(sidecar)
        serving = loop.create_task(traffic_server.serve([sockets.traffic]))
        if sidecar.ext_authz is not None and sockets.ext_authz is not None:
            await sidecar.ext_authz.start(sockets.ext_authz)
        # what was loaded at start lives as long as the process: the collector need not look at it again
        gc.collect()
        gc.freeze()
        started()
        await stop.wait()
        await _drain(sidecar, stop, drain)
        traffic_server.should_exit = True
        if sidecar.ext_authz is not None:
            await sidecar.ext_authz.stop(settings.shutdown_timeout)
        await serving
        log.info("stopped")
        admin_server.should_exit = True
    finally:
        await sidecar.close()
        sidecar.metrics.publish()


async def _drain(sidecar: Sidecar, stop: asyncio.Event, drain: Drain) -> None:
    """Say that we are going, and wait until load balancers have noticed; a second signal ends the wait."""
    settings = sidecar.settings
    sidecar.draining = drain.begun = True
    log.info(
        "stopping: not ready any more, in %g s no new connections, running requests have %g s",
        settings.drain_delay, settings.shutdown_timeout,
    )  # fmt: skip
    stop.clear()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), settings.drain_delay)


async def _start(sidecar: Sidecar) -> None:
    if sidecar.embedded is not None:
        try:
            await asyncio.gather(sidecar.embedded.start(), sidecar.keys.warm())
        except OSError as error:
            raise StartError(f"SIDECAR_CERBOS: {error}") from None
    else:
        await sidecar.keys.warm()
    sidecar.spawn(sidecar.watch_pdp())
    sidecar.spawn(sidecar.watch())
    if sidecar.policy_reload is not None:
        sidecar.spawn(sidecar.policy_reload.watch())
    sidecar.spawn(_publish(sidecar))


async def _publish(sidecar: Sidecar) -> None:
    """Let other workers know what this one counts."""
    while True:
        sidecar.metrics.publish()
        await asyncio.sleep(PUBLISH_EVERY)
