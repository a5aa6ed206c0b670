"""Composition root: settings -> objects -> the traffic app and the admin app, started, reloaded and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import secrets
import signal
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn

from sidecar.admin import admin_app
from sidecar.browser import Browser
from sidecar.clients.alb import AlbKeys, AlbSessions
from sidecar.clients.authzen import AuthZen
from sidecar.clients.breaker import Breaker
from sidecar.clients.cerbos import Cerbos
from sidecar.clients.cognito import KeyStore
from sidecar.clients.embedded import EmbeddedCerbos
from sidecar.clients.hook import HookClient
from sidecar.clients.pool import Origin, Pool, Timeouts
from sidecar.enforce import grpc_health, server
from sidecar.enforce.assertion import Assertions, load_key
from sidecar.enforce.console import Console
from sidecar.enforce.dialects import DIALECTS
from sidecar.enforce.forward_auth import ForwardAuth
from sidecar.enforce.grpc_health import Health
from sidecar.enforce.limits import Limits
from sidecar.enforce.own import PREFIX, OwnPaths, assertion_paths
from sidecar.enforce.pages import Pages, TemplateError
from sidecar.enforce.permissions import Permissions
from sidecar.enforce.proxy import Proxy, Receive, Scope, Send
from sidecar.enforce.refusal import Refusals
from sidecar.enforce.unary_server import Server as UnaryServer
from sidecar.enforce.websocket import WebSocketDoor
from sidecar.gate.gate import PDP, Gate, Rules
from sidecar.gate.identity import Tokens
from sidecar.gate.request import Reading
from sidecar.gate.routing import Access
from sidecar.gate.session import TokenSource
from sidecar.gate.verdict import Code
from sidecar.journal import Journal, Metrics, open_stream
from sidecar.routes_file import RoutesError, RoutesFile, read_routes
from sidecar.settings import SETTINGS, Address, Settings
from sidecar.trust import Trust, trust_from

log = logging.getLogger("sidecar")

wall_clock = time.time  # noqa: TID251 - here the clock enters; everything below takes it as an argument
BACKLOG = 2048
WATCH_EVERY = 1.0
"""Seconds between two looks at the route file."""


class StartError(Exception):
    """The sidecar cannot start; the message says why, a line for each reason."""


class Traffic:
    """The ASGI app of the traffic port: the sidecar's own paths, and the proxy for all others (R27). `authorize`
    answers the questions of another proxy, where there is one."""

    def __init__(
        self, proxy: Proxy, websockets: WebSocketDoor, own: OwnPaths, authorize: ForwardAuth | None = None
    ) -> None:
        self._proxy = proxy
        self._websockets = websockets
        self._own = own
        self._authorize = authorize

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI scope; anything that is not http is refused by not being answered."""
        if scope["type"] != "http":
            raise RuntimeError(f"an ASGI scope of type {scope['type']!r}")
        if server.UPGRADE in scope.get("extensions", ()):
            await self._websockets(scope, receive, send)
        elif self._authorize is not None and self._authorize.has(scope["raw_target"]):
            await self._authorize(scope, receive, send)
        else:
            await self._own(scope, receive, send)

    def direct(self, target: bytes) -> Proxy | None:
        """The proxy, for all but the own paths."""
        if not target.startswith(PREFIX):
            return self._proxy
        ours = self._own.has(target) or (self._authorize is not None and self._authorize.has(target))
        return None if ours else self._proxy


def load_routes(settings: Settings, environ: dict[str, str]) -> RoutesFile:
    """Read and check the route file. Raises StartError with every problem."""
    try:
        text = Path(settings.routes).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"SIDECAR_ROUTES: cannot read {settings.routes}: {error}") from None
    try:
        return read_routes(text, settings.routes, environ)
    except RoutesError as error:
        raise StartError(str(error)) from None


def load_trust(settings: Settings, routes: RoutesFile) -> Trust:
    """The trusted issuers. Raises StartError where a route needs a principal and nobody is trusted."""
    trust = trust_from(settings, routes.identities)
    if not trust.issuers and any(route.access is not Access.PUBLIC for route in routes.table.routes):
        raise StartError(
            "no issuer of tokens: set AWS_REGION, AWS_COGNITO_POOL_ID and AWS_COGNITO_CLIENT_ID, "
            f"or give `identity` in {settings.routes}"
        )
    return trust


@dataclass
class Sidecar:
    """Everything that one process runs. Made by `build`; `run` starts and stops it."""

    settings: Settings
    environ: dict[str, str]
    gate: Gate
    keys: KeyStore
    trust: Trust
    routes: RoutesFile
    pdp: Cerbos | AuthZen
    embedded: EmbeddedCerbos | None
    hooks: HookClient
    upstream: Pool
    metrics: Metrics
    journal: Journal
    traffic: Traffic
    browser: Browser | None
    alb_keys: AlbKeys
    ext_authz: UnaryServer | None = None
    generation: int = 1
    pdp_serving: bool = False
    stopping: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def readiness(self) -> dict[str, bool]:
        """What `/readyz` tells: ready only when keys, the PDP and routes are."""
        return {"pdp" if self.settings.pdp else "cerbos": self.pdp_serving, "keys": self.keys.ready, "routes": True}

    def serves(self) -> bool:
        """Whether a new question would be answered: what gRPC's health service tells."""
        return not self.stopping and all(self.readiness().values())

    def config(self) -> dict[str, Any]:
        """What `/config` shows: settings without secrets, and the routes in force."""
        shown = {
            setting.variable: "(set)"
            if setting.secret and getattr(self.settings, setting.field)
            else _shown(setting.field, self.settings)
            for setting in SETTINGS
        }
        routes = [{"path": r.name, "access": r.access, "actions": dict(r.actions)} for r in self.routes.table.routes]
        return {"settings": shown, "generation": self.generation, "routes": routes, "issuers": list(self.trust.issuers)}

    def refused(self, status: int, code: Code, peer: str) -> str:
        """Journal a refusal of the server's own, and give it a request id."""
        request_id = new_id()
        self.journal.refused_unread(status, code, peer, request_id)
        return request_id

    def spawn(self, work: Any) -> None:
        """Run a coroutine beside the servers, held until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def reload(self) -> None:
        """Put the route file as it is now in force; a file that cannot be used leaves the running routes in force."""
        try:
            routes = load_routes(self.settings, self.environ)
            trust = load_trust(self.settings, routes)
        except StartError as error:
            log.error("routes not reloaded, the running ones stay in force:\n%s", error)  # noqa: TRY400 - a user's fault
            return
        tokens = self.gate.rules.tokens
        if trust != self.trust or routes.principal != self.routes.principal:
            old, self.keys = self.keys, self._key_store(trust)
            await self.keys.warm()
            tokens = Tokens(trust.issuers, routes.principal, self.keys.find)
            self.keys.on_change = tokens.forget
            await old.aclose()
        self.gate.rules = Rules(routes.table, routes.lookups, tokens, self.gate.rules.reading, routes.decisions())
        self.routes, self.trust, self.generation = routes, trust, self.generation + 1
        log.info("routes reloaded, generation %d", self.generation)

    def _key_store(self, trust: Trust) -> KeyStore:
        return KeyStore(trust.key_urls, trust.groups, now=time.monotonic, report=self.metrics.dependency)

    async def watch(self) -> None:
        """Reload whenever the route file changes."""
        seen = _stamp(self.settings.routes)
        while True:
            await asyncio.sleep(WATCH_EVERY)
            stamp = _stamp(self.settings.routes)
            if stamp is not None and stamp != seen:
                seen = stamp
                await self.reload()

    async def watch_pdp(self) -> None:
        """Keep `pdp_serving` true to what the PDP says of itself."""
        while True:
            self.pdp_serving = await self.pdp.serving()
            await asyncio.sleep(1.0 if self.pdp_serving else self.pdp.probe_every)

    async def close(self) -> None:
        """Give back everything that was opened, and write what was recorded."""
        try:
            await self._close()
        finally:
            self.metrics.publish()
            self.journal.flush()

    async def _close(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.upstream.aclose()
        await self.hooks.aclose()
        await self.keys.aclose()
        await self.pdp.aclose()
        await self.alb_keys.aclose()
        if self.browser is not None:
            await self.browser.aclose()
        if self.embedded is not None:
            await self.embedded.stop()


_drawn: list[str] = []


def new_id() -> str:
    """A request id: 32 hexadecimal digits. Many are drawn at once: asking the kernel costs more than all the rest."""
    if not _drawn:
        drawn = secrets.token_hex(16 * 64)
        _drawn.extend([drawn[at : at + 32] for at in range(0, len(drawn), 32)])
    return _drawn.pop()


os.register_at_fork(after_in_child=_drawn.clear)


def _shown(name: str, settings: Settings) -> Any:
    value = getattr(settings, name)
    if isinstance(value, frozenset | tuple) and not isinstance(value, Address):
        return sorted(map(str, value))
    return value if isinstance(value, int | float) else str(value)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def build(settings: Settings, environ: dict[str, str]) -> Sidecar:
    """Make all objects of one process from its settings; nothing is asked and no port opened yet. Raises StartError."""
    routes = load_routes(settings, environ)
    trust = load_trust(settings, routes)
    metrics = Metrics(environ.get("PROMETHEUS_MULTIPROC_DIR", ""))
    keys = KeyStore(trust.key_urls, trust.groups, now=time.monotonic, report=metrics.dependency)
    tokens = Tokens(trust.issuers, routes.principal, keys.find)
    keys.on_change = tokens.forget
    embedded = embedded_cerbos(settings)
    pdp = _pdp(settings, embedded)
    hooks = HookClient(now=time.monotonic, count=metrics.remembered)
    try:
        assertions = (
            None if settings.assertion == "off" else Assertions(load_key(settings.assertion), settings.upstream)
        )
        journal = Journal(open_stream(settings.decision_log), metrics, wall_clock, _later)
        upstream = _upstream(settings)
        pages = Pages(settings.templates)
        pages.check()
    except (OSError, ValueError, TemplateError) as error:
        raise StartError(str(error)) from None
    reading = Reading(settings.hosts, settings.trusted_proxies, bool(settings.alb_signers))
    browser = _browser(settings, lambda: gate.rules.tokens, metrics)
    alb_keys = AlbKeys(now=time.monotonic, report=metrics.dependency)
    gate = Gate(
        Rules(routes.table, routes.lookups, tokens, reading, routes.decisions()),
        hooks, pdp, now=wall_clock, timer=time.perf_counter,
        sign=assertions.sign if assertions is not None else None, shadow=settings.mode == "shadow",
        sources=_sources(browser, settings, lambda: gate.rules.tokens, alb_keys),
    )  # fmt: skip
    refusals = Refusals(login=browser is not None, page=pages.error)
    proxy = Proxy(gate, upstream, journal, time.perf_counter, new_id, refusals)
    websockets = WebSocketDoor(
        gate, upstream, journal, now=wall_clock, timer=time.perf_counter, new_id=new_id,
        refusals=refusals, max_message=settings.ws_max_message,
    )  # fmt: skip
    paths = dict(Permissions(gate, hooks, pdp, now=wall_clock, timer=time.perf_counter).paths())
    if assertions is not None:
        paths.update(assertion_paths(assertions))
    if browser is not None:
        paths.update(browser.login(pages, journal).paths())
        if settings.console == "on":
            paths.update(_console(settings, gate, hooks, pdp, pages, journal, browser).paths())
    own = OwnPaths(paths, reading, refusals, now=wall_clock, new_id=new_id)
    traffic = Traffic(proxy, websockets, own, _forward_auth(settings, gate, journal, refusals))
    sidecar = Sidecar(
        settings, environ, gate, keys, trust, routes, pdp, embedded, hooks, upstream, metrics, journal, traffic,
        browser, alb_keys,
    )  # fmt: skip
    if settings.ext_authz_listen is not None:
        sidecar.ext_authz = _ext_authz(sidecar, refusals)
    return sidecar


def _ext_authz(sidecar: Sidecar, refusals: Refusals) -> UnaryServer:
    try:
        from sidecar.enforce import ext_authz
    except ImportError:
        raise StartError(
            "SIDECAR_EXT_AUTHZ_LISTEN: xds-protos is not installed: pip install 'authorization-sidecar[envoy]'"
        ) from None
    door = ext_authz.ExtAuthz(sidecar.gate, sidecar.journal, time.perf_counter, new_id, refusals)
    health = Health((ext_authz.SERVICE,), sidecar.serves)
    return UnaryServer({ext_authz.CHECK: door.check, grpc_health.CHECK: health.check})


def _forward_auth(settings: Settings, gate: Gate, journal: Journal, refusals: Refusals) -> ForwardAuth | None:
    if settings.forward_auth == "off":
        return None
    dialect = DIALECTS[settings.forward_auth]
    return ForwardAuth(gate, dialect, journal, refusals, timer=time.perf_counter, new_id=new_id)


def _later(seconds: float, what: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, what)


def _pdp(settings: Settings, embedded: EmbeddedCerbos | None) -> Cerbos | AuthZen:
    if not settings.pdp:
        target = settings.cerbos if embedded is None else embedded.target
        return Cerbos(target, timeout=settings.cerbos_timeout, now=time.monotonic)
    try:
        tls = None
        if settings.pdp.startswith("authzen+https:"):
            tls = ssl.create_default_context(cafile=settings.pdp_ca or None)
        return AuthZen(
            settings.pdp, timeout=settings.cerbos_timeout, now=time.monotonic, token=settings.pdp_token,
            roles=settings.pdp_roles, tls=tls,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise StartError(f"SIDECAR_PDP: {error}") from None


def embedded_cerbos(settings: Settings) -> EmbeddedCerbos | None:
    """The Cerbos that we run ourselves, not yet started, or None. Raises StartError."""
    if settings.pdp or settings.cerbos != "embedded":
        return None
    try:
        return EmbeddedCerbos(Path(settings.policies), binary=settings.cerbos_binary or None)
    except (OSError, ValueError) as error:
        raise StartError(f"SIDECAR_CERBOS: {error}") from None


def _browser(settings: Settings, tokens: Callable[[], Tokens], metrics: Metrics) -> Browser | None:
    if not settings.login_modes:
        return None
    try:
        return Browser(settings, tokens, metrics.dependency, wall_clock)
    except ValueError as error:
        raise StartError(f"SIDECAR_LOGIN: {error}") from None


def _sources(
    browser: Browser | None, settings: Settings, tokens: Callable[[], Tokens], keys: AlbKeys
) -> tuple[TokenSource, ...]:
    """Where a request's token may be but for Authorization: our own session before the load balancer's."""
    sources: list[TokenSource] = [browser.sessions] if browser is not None else []
    if settings.alb_signers:
        sources.append(AlbSessions(settings.alb_signers, tokens, keys))
    return tuple(sources)


def _console(
    settings: Settings, gate: Gate, hooks: HookClient, pdp: PDP, pages: Pages, journal: Journal, browser: Browser
) -> Console:
    return Console(
        gate, hooks, pdp, pages, journal, now=wall_clock, timer=time.perf_counter, admin=settings.console_admin,
        lifetime=settings.session_lifetime, idle=settings.session_idle, forms=browser.signs_out_at,
    )  # fmt: skip


def _upstream(settings: Settings) -> Pool:
    origin = Origin.parse(settings.upstream)
    tls = None
    if origin.scheme == "https":
        tls = ssl.create_default_context(cafile=settings.upstream_ca or None)
    timeouts = Timeouts(
        settings.upstream_connect_timeout, settings.upstream_head_timeout, settings.upstream_idle_timeout
    )  # fmt: skip
    return Pool(origin, timeouts=timeouts, tls=tls, breaker=Breaker(time.monotonic))


# --- running ---


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
    """Serve until SIGTERM or SIGINT: then no new connections, running requests finish, and everything is given back."""
    settings = sidecar.settings
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: sidecar.spawn(sidecar.reload()))
    admin_server = _Server(server.config(admin_app(sidecar.readiness, sidecar.metrics.exposition, sidecar.config)))
    traffic_server = _Server(
        server.config(
            sidecar.traffic,
            limits=Limits(connections=settings.max_connections),
            refused=sidecar.refused,
            timeout_graceful_shutdown=math.ceil(settings.shutdown_timeout),
        )
    )
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
        log.info("stopping: no new connections, running requests have %g s", settings.shutdown_timeout)
        traffic_server.should_exit = sidecar.stopping = True
        if sidecar.ext_authz is not None:
            await sidecar.ext_authz.stop(settings.shutdown_timeout)
        await serving
        admin_server.should_exit = True
    finally:
        await sidecar.close()


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
