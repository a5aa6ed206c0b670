"""Serving process: starts, drains and stops its ports and its Cerbos in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import uvicorn

from sidecar.config.setting_table import Settings
from sidecar.doors.door import Door
from sidecar.net import http_server as server
from sidecar.net.limits import Drain, Limits
from sidecar.net.owners import Owners
from sidecar.record import logs
from sidecar.record.journal import Journal
from sidecar.record.workers import PUBLISH_EVERY
from sidecar.run.admin import admin_app
from sidecar.run.deciding import wall_clock
from sidecar.run.listening import listen, listeners
from sidecar.run.parts import Prepared, open_log, question_log
from sidecar.run.pdp import starting_cerbos
from sidecar.run.reload import Reload, Stamp
from sidecar.run.status import ProcessStatus
from sidecar.run.tasks import Tasks
from sidecar.run.traffic import door_of, traffic

if TYPE_CHECKING:
    from sidecar.net.grpc_server import GrpcServer
    from sidecar.net.grpc_server_connection import Handler

log = logging.getLogger("sidecar")


class _Server(uvicorn.Server):
    """uvicorn's server, with signals left to us: one signal stops two servers in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


class Sockets(NamedTuple):
    """The listening sockets of a process; those of Envoy's doors where its setting is set."""

    traffic: socket.socket
    admin: socket.socket
    ext_authz: socket.socket | None = None
    ext_proc: socket.socket | None = None

    @classmethod
    def open(cls, settings: Settings) -> Sockets:
        """Listen where the settings say. Raises StartError."""
        return cls._of({variable: listen(address, variable, settings) for variable, address in listeners(settings)})

    @classmethod
    def inherit(cls, settings: Settings, numbers: Iterable[int]) -> Sockets:
        """Take over those of another process with the same settings, by their `numbers`."""
        places = zip(listeners(settings), numbers, strict=True)
        return cls._of({variable: socket.socket(fileno=number) for (variable, _), number in places})

    @classmethod
    def _of(cls, found: Mapping[str, socket.socket]) -> Sockets:
        return cls(
            found["SIDECAR_LISTEN"], found["SIDECAR_ADMIN_LISTEN"], found.get("SIDECAR_EXT_AUTHZ_LISTEN"),
            found.get("SIDECAR_EXT_PROC_LISTEN"),
        )  # fmt: skip

    def numbers(self) -> list[int]:
        """Their file descriptors, for a process that inherits them."""
        return [sock.fileno() for sock in self if sock is not None]


class Sidecar:
    """One process that serves. `stamp` is that of the route file from before it was read. Raises StartError where the
    decision log cannot be opened."""

    def __init__(self, prepared: Prepared, stamp: Stamp) -> None:
        deciding, parts = prepared
        self._deciding = deciding
        self._parts = parts
        self._tracer = parts.tracer() if parts.tracer is not None else None
        tell, begin = (self._tracer.end, self._tracer.begin) if self._tracer is not None else (None, None)
        self.metrics = deciding.metrics
        settings = deciding.settings
        self.journal = Journal(
            open_log(settings), self.metrics, wall_clock, _later, tell,
            mode=settings.mode, drops=settings.decision_log_full == "drop",
            questions=question_log(settings, self.metrics),
        )  # fmt: skip
        if deciding.policies is not None:
            self.journal.policies = deciding.policies.state
        if self.journal.questions is not None:
            self.journal.questions.revision = self._revision
        self.gate = deciding.gate(parts.assertions)
        door = door_of(deciding, self.gate, parts, self.journal, begin)
        self.traffic = traffic(deciding, parts, door)
        self.ext_authz = self._ext_authz(parts.ext_authz, door) if parts.ext_authz is not None else None
        self.ext_proc = self._ext_proc(parts.ext_proc, door) if parts.ext_proc is not None else None
        self._tasks = Tasks()
        self.reload = Reload(deciding, self.gate, parts.upstream, stamp, self._tasks)
        self.status = ProcessStatus(deciding, self.gate, self.reload, parts, self.journal)
        self.traffic.health.draining = lambda: self.status.draining
        self.metrics.read = self.status.gauges

    def _ext_authz(self, ext_authz: ModuleType, door: Door) -> GrpcServer:
        # only where Envoy asks
        from sidecar.net.grpc_server import GrpcServer

        check = ext_authz.ExtAuthz(door, self._parts.rooms.memory).check
        return GrpcServer({ext_authz.CHECK: check, **self._health(ext_authz.SERVICE)})

    def _ext_proc(self, ext_proc: ModuleType, door: Door) -> GrpcServer:
        from sidecar.net.grpc_server import GrpcServer

        talks = {ext_proc.PROCESS: ext_proc.ExtProc(door, self._parts.rooms.memory).process}
        return GrpcServer(self._health(ext_proc.SERVICE), ext_proc.LIMITS, talks)

    def _health(self, service: str) -> dict[bytes, Handler]:
        from sidecar.net import grpc_health

        return {grpc_health.CHECK: grpc_health.Health((service,), lambda: self.status.serves()).check}

    async def run(self, sockets: Sockets, started: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGTERM or SIGINT: then readiness ends, new connections are taken until the drain delay is over,
        and running requests finish. Raises StartError."""
        settings = self._deciding.settings
        loop = asyncio.get_running_loop()
        stop, drain = asyncio.Event(), Drain()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        admin_server = _Server(server.config(admin_app(self.status, self.metrics.of_all)))
        traffic_server = self._traffic_server(drain)
        self.status.connections = lambda: len(traffic_server.server_state.connections)
        try:
            # the admin port first: an orchestrator may ask about readiness while the rest still starts
            self._tasks.spawn(admin_server.serve([sockets.admin]))
            await self._start()
            serving = loop.create_task(traffic_server.serve([sockets.traffic]))
            for answers, sock in ((self.ext_authz, sockets.ext_authz), (self.ext_proc, sockets.ext_proc)):
                if answers is not None and sock is not None:
                    await answers.start(sock)
            # what was made at the start lives as long as the process: the collector, which was off, never looks at it
            gc.freeze()
            gc.enable()
            started()
            await stop.wait()
            await self._drain(stop, drain)
            traffic_server.should_exit = True
            asked = [answers for answers in (self.ext_authz, self.ext_proc) if answers is not None]
            await asyncio.gather(*(answers.stop(settings.shutdown_timeout) for answers in asked))
            await serving
            log.info("stopped")
            admin_server.should_exit = True
        finally:
            await self.aclose()

    def _hang_up(self) -> None:
        self.journal.follow()
        self._tasks.spawn(self.reload.reload_routes())

    def _traffic_server(self, drain: Drain) -> _Server:
        settings = self._deciding.settings
        return _Server(
            server.config(
                self.traffic,
                limits=Limits(connections=settings.max_connections, keep_alive=settings.keep_alive),
                refused=self.traffic.refused,
                drain=drain,
                owner_of=Owners(settings.trusted_proxies).of_peer,
                tls=self._parts.tls.context if self._parts.tls is not None else None,
                timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
            )
        )

    async def _start(self) -> None:
        deciding = self._deciding
        warming = deciding.configured.keys.warm()
        if deciding.embedded is not None:
            with starting_cerbos():
                await asyncio.gather(deciding.embedded.start(), warming)
        else:
            await warming
        self._tasks.spawn(self.status.watch_pdp())
        self._tasks.spawn(self.reload.watch())
        if deciding.policies is not None:
            self._tasks.spawn(deciding.policies.watch())
        self._tasks.spawn(self._publish())
        if self._parts.candidate is not None:
            # after the rest: nothing waits for it
            self._parts.candidate.begin(self.journal, self._revision, self._tasks)

    def _revision(self) -> str:
        """Revision of the policies in force, "" where it is not known."""
        policies = self._deciding.policies
        return policies.state.revision if policies is not None else ""

    async def _publish(self) -> None:
        """Let other workers know what this one counts, and keep up with the files of logs and of TLS."""
        while True:
            self.metrics.publish()
            self.journal.follow()
            if self.journal.questions is not None:
                self.journal.questions.tick(wall_clock())
            logs.flush()
            if self._parts.tls is not None:
                self._parts.tls.look()
            await asyncio.sleep(PUBLISH_EVERY)

    async def _drain(self, stop: asyncio.Event, drain: Drain) -> None:
        """Say that we are going, and wait until load balancers have noticed; a second signal ends the wait."""
        settings = self._deciding.settings
        self.status.draining = drain.begun = True
        log.info(
            "stopping: not ready any more, in %g s no new connections, running requests have %g s",
            settings.drain_delay, settings.shutdown_timeout,
        )  # fmt: skip
        stop.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), settings.drain_delay)

    async def aclose(self) -> None:
        """Give back everything that was opened, and write what was recorded."""
        try:
            await self._tasks.aclose()
            await self.traffic.aclose()
            await self._parts.upstream.aclose()
            if self._parts.candidate is not None:
                await self._parts.candidate.aclose()
            await self._deciding.aclose()
            if self._tracer is not None:
                # it waits for a collector, which may be slow
                await asyncio.to_thread(self._tracer.close)
        finally:
            self.metrics.publish()
            await self.journal.aclose()


def _later(seconds: float, what: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, what)
