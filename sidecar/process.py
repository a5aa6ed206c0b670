"""How the sidecar runs as processes: one that serves, or a parent that shares its ports among workers."""

from __future__ import annotations

import asyncio
import logging
import re
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import uvloop

from sidecar import app, explain, logs
from sidecar.app import StartError
from sidecar.gate.gate import Gate
from sidecar.gate.request import Raw
from sidecar.gate.routing import WEBSOCKET
from sidecar.gate.verdict import Forward
from sidecar.settings import Settings
from sidecar.tether import tethered

log = logging.getLogger("sidecar")

INHERITED = "_AUTHORIZATION_SIDECAR_SOCKETS"
"""Set by the parent for its workers: the numbers of its listening sockets. No setting of a user."""
RESPAWN_AFTER = 1.0
"""Seconds before a worker that died is replaced."""


def serve(settings: Settings, environ: dict[str, str], flags: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartError."""
    logs.configure(settings.log_level)
    _allow_files(settings.max_connections)
    inherited = environ.pop(INHERITED, "")
    if inherited:
        sockets = app.Sockets(*(socket.socket(fileno=int(number)) for number in inherited.split(",")))
        uvloop.run(_serve_here(settings, environ, sockets))
        return
    sockets = app.Sockets.open(settings)
    if settings.workers == 1:
        uvloop.run(_serve_here(settings, environ, sockets))
    else:
        with tempfile.TemporaryDirectory(prefix="sidecar-metrics-") as folder:
            workers = _Workers(settings, {**environ, "PROMETHEUS_MULTIPROC_DIR": folder}, flags, sockets)
            uvloop.run(workers.run())


def _allow_files(connections: int) -> None:
    """Let this process open what so many clients need: a socket each, one to the upstream for each, and some."""
    wanted = 2 * connections + 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < wanted:
            log.warning("%d open files are allowed, %d clients may need %d", most, connections, wanted)


async def _serve_here(settings: Settings, environ: dict[str, str], sockets: app.Sockets) -> None:
    sidecar = app.build(settings, environ)
    await app.run(
        sidecar, sockets, lambda: log.info("serving on %s, admin on %s", settings.listen, settings.admin_listen)
    )  # fmt: skip


class _Workers:
    """The parent: runs the embedded Cerbos and the workers, replaces one that dies, and stops them all."""

    def __init__(
        self, settings: Settings, environ: dict[str, str], flags: Mapping[str, str], sockets: app.Sockets
    ) -> None:
        self._settings = settings
        self._sockets = sockets
        self._stop = asyncio.Event()
        numbers = ",".join(map(str, sockets.numbers()))
        self._environ = {**environ, **flags, INHERITED: numbers, "SIDECAR_WORKERS": "1"}
        self._running: set[asyncio.subprocess.Process] = set()

    async def run(self) -> None:
        """Start everything, wait for the signal to stop, stop everything."""
        await app.build(self._settings, self._environ).close()  # a fault is told once, before any worker starts
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._signal(signal.SIGHUP))
        embedded = app.embedded_cerbos(self._settings)
        try:
            if embedded is not None:
                await embedded.start()
                self._environ["SIDECAR_CERBOS"] = embedded.target
            async with asyncio.TaskGroup() as group:
                for _ in range(self._settings.workers):
                    group.create_task(self._keep_one())
        except OSError as error:
            raise StartError(f"SIDECAR_CERBOS: {error}") from None
        finally:
            if embedded is not None:
                await embedded.stop()

    def _signal(self, number: int) -> None:
        for process in self._running:
            if process.returncode is None:
                process.send_signal(number)

    async def _keep_one(self) -> None:
        stopped = asyncio.ensure_future(self._stop.wait())
        while not self._stop.is_set():
            process = await asyncio.create_subprocess_exec(
                *tethered([sys.executable, "-m", "sidecar.cli", "run"]),
                env=self._environ, pass_fds=self._sockets.numbers(),
            )  # fmt: skip
            self._running.add(process)
            ended = asyncio.ensure_future(process.wait())
            await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set() and process.returncode is None:
                process.terminate()
            await ended
            self._running.discard(process)
            if not self._stop.is_set():
                log.error("worker %d ended with %s, starting another", process.pid, process.returncode)
                await asyncio.wait([stopped], timeout=RESPAWN_AFTER)


class Asked(NamedTuple):
    """What `sidecar explain` was asked: a request as a person writes it. `claims` stand in place of a token."""

    method: str
    target: str
    headers: list[str]
    body: str
    token: str
    claims: Mapping[str, Any] | None


async def explain_one(settings: Settings, environ: dict[str, str], asked: Asked) -> tuple[bool, list[str]]:
    """Explain one request with the real hook and the real PDP. Raises StartError, ValueError for a bad header."""
    logs.configure("error")
    sidecar = app.build(settings, environ)
    pdp = explain.RecordingPDP(sidecar.pdp)
    tokens = sidecar.gate.rules.tokens
    if asked.claims is not None:
        tokens = explain.GivenClaims(asked.claims, sidecar.routes.principal)
    rules = sidecar.gate.rules.by(tokens)
    gate = Gate(rules, sidecar.hooks, pdp, now=app.wall_clock, timer=time.perf_counter)
    try:
        if sidecar.embedded is not None:
            await sidecar.embedded.start()
        verdict, lines = await explain.explain(gate, pdp, _raw(asked, settings), asked.body.encode("utf-8"))
    except OSError as error:
        raise StartError(f"SIDECAR_CERBOS: {error}") from None
    finally:
        await sidecar.close()
    return isinstance(verdict, Forward), lines


_HEADER = re.compile(r"([A-Za-z0-9-]+):[ \t]*(.*)")


def _raw(asked: Asked, settings: Settings) -> Raw:
    headers = [(b"host", sorted(settings.hosts)[0].encode("ascii") if settings.hosts else b"localhost")]
    for text in asked.headers:
        match = _HEADER.fullmatch(text)
        if match is None:
            raise ValueError(f"found {text!r}, expected 'NAME: VALUE'")
        headers.append((match[1].lower().encode("ascii"), match[2].strip().encode("utf-8")))
    if asked.token:
        headers.append((b"authorization", b"Bearer " + asked.token.encode("ascii")))
    if asked.body:
        headers += [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(asked.body.encode("utf-8"))).encode("ascii")),
        ]
    if asked.method == WEBSOCKET:
        # what `actions` names for a handshake, which is a GET
        return Raw("GET", asked.target.encode("latin-1"), headers, "", "http", "explain", websocket=True)
    return Raw(asked.method, asked.target.encode("latin-1"), headers, "", "http", "explain")
