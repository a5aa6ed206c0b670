"""Composition root: settings -> objects -> the traffic app, with what a reload changes of them."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.config.routes.file import RoutesError, RoutesFile, read_routes
from sidecar.config.settings import SETTINGS, Address, Settings
from sidecar.doors.dialects import DIALECTS
from sidecar.doors.forward_auth import ForwardAuth
from sidecar.doors.proxy import Proxy, Receive, Scope, Send
from sidecar.doors.refusal import Refusals
from sidecar.doors.websocket import WebSocketDoor
from sidecar.gate.codes import Code
from sidecar.gate.gate import PDP, Gate, Rules
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Tokens
from sidecar.gate.request import Reading
from sidecar.gate.routing import Access
from sidecar.gate.session import TokenSource
from sidecar.gate.trace import BeginTrace
from sidecar.gate.verdict import Forward
from sidecar.lookups.asking import Lookups
from sidecar.lookups.http import HttpSource
from sidecar.net import grpc_health
from sidecar.net import http_server as server
from sidecar.net.breaker import Breaker
from sidecar.net.connection import Timeouts
from sidecar.net.grpc_client import tls_context
from sidecar.net.grpc_health import Health
from sidecar.net.grpc_server import GrpcServer
from sidecar.net.owners import Owners, Places
from sidecar.net.pool import Origin, Pool
from sidecar.net.upstream import Upstream
from sidecar.pages.console import Console
from sidecar.pages.permissions import Permissions
from sidecar.pages.router import OwnPaths, assertion_paths
from sidecar.pages.templates import Pages, TemplateError
from sidecar.pdp.authzen import AuthZen
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.embedded import ADMIN, EmbeddedCerbos, find_binary, problems_of
from sidecar.pdp.policy_reload import Compile, FollowedPolicies, PolicyReload, PolicyState
from sidecar.record.journal import Journal, open_stream
from sidecar.record.metrics import Gauge, Metrics
from sidecar.record.workers import WorkerFile
from sidecar.trust.alb import AlbKeys, AlbSessions
from sidecar.trust.assertion import Assertions, load_key
from sidecar.trust.issuers import Trust, trust_from
from sidecar.trust.jwks import KeyStore

if TYPE_CHECKING:
    from sidecar.record.tracing import Tracer
    from sidecar.run.browser import Browser

log = logging.getLogger("sidecar")

wall_clock = time.time  # noqa: TID251 - here the clock enters; everything below takes it as an argument
WATCH_EVERY = 1.0
"""Seconds between two looks at the route file."""
RETIRED_FOR = 10.0
"""Seconds after which key sets that a reload has replaced are given up: requests that began before may ask them."""
POLICIES = "_AUTHORIZATION_SIDECAR_POLICIES"
"""Set by the parent for its workers: the file that tells which policies are in force. No setting of a user."""
SHARE = "_AUTHORIZATION_SIDECAR_METRICS"
"""Set by the parent for each worker: the file through which it counts as one with the others. No setting of a user."""


Stamp = tuple[int, int, int, int] | None
"""Of a file: time of its last change in ns, size, inode, device."""


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
        else:
            await self._own(scope, receive, send)

    def direct(self, target: bytes) -> Proxy | ForwardAuth | None:
        """Who takes a request that is no WebSocket; None for the own paths."""
        if not target.startswith(self._own.prefixes):
            return self._proxy
        if self._authorize is not None and self._authorize.has(target):
            return self._authorize
        return None if self._own.has(target) else self._proxy


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
    hooks: Lookups
    upstream: Upstream
    metrics: Metrics
    journal: Journal
    traffic: Traffic
    browser: Browser | None
    alb_keys: AlbKeys
    tracer: Tracer | None
    policy_reload: PolicyReload | FollowedPolicies | None = None
    stamp: Stamp = None
    ext_authz: GrpcServer | None = None
    generation: int = 1
    loaded_at: float = field(default_factory=wall_clock)
    reload_fault: str = ""
    """Why the last reload left the routes as they were, "" where it did not."""
    draining: bool = False
    pdp_serving: bool = False
    connections: Callable[[], int] = lambda: 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    reloading: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        if self.policies is not None:
            self.journal.policies = self.policies
            self.policies.changed = self.forget_decisions

    def forget_decisions(self) -> None:
        """Forget decisions that other policies made; one that is under way is kept where nobody finds it."""
        rules = self.gate.rules
        self.gate.rules = Rules(rules.table, rules.lookups, rules.tokens, rules.reading, self.routes.decisions())

    def readiness(self) -> dict[str, bool]:
        """Return the state for `/readyz`: ready only when keys, the PDP and routes are, and until the sidecar begins to
        stop."""
        return {
            "pdp" if self.settings.pdp else "cerbos": self.pdp_serving, "keys": self.keys.ready, "routes": True,
            "serving": not self.draining,
        }  # fmt: skip

    def reload_state(self) -> str:
        """Return what `/readyz` tells besides: `ok`, or where the fault of a route file is that could not be used."""
        # no more than the place: what stands there is for the log
        return f"failed: {self.reload_fault.splitlines()[0].partition(': ')[0]}" if self.reload_fault else "ok"

    @property
    def policies(self) -> PolicyState | None:
        """Which policies are in force, None where we do not put them into force."""
        return self.policy_reload.state if self.policy_reload is not None else None

    def policy_state(self) -> str:
        """Return what `/readyz` tells of the policies: `ok`, or where their fault is; "" where we do not know."""
        return self.policies.told() if self.policies is not None else ""

    def gauges(self) -> Iterator[Gauge]:
        """Return what of this process stands in the metrics beside its counts."""
        yield "sidecar_workers", (), 1
        yield "sidecar_connections", (), self.connections()
        yield "sidecar_upstream_connections", ("idle",), self.upstream.idle
        yield "sidecar_upstream_connections", ("busy",), self.upstream.busy
        yield "sidecar_breaker_open", ("upstream", ""), self.upstream.is_open
        yield "sidecar_breaker_open", ("pdp", ""), self.pdp.is_open
        for name, is_open in self.hooks.breakers().items():
            yield "sidecar_breaker_open", ("lookup", name), is_open
        for cache, size in self._remembered():
            yield "sidecar_remembered_bytes", (cache,), size
        lookups = [("lookup", name, shares) for name, shares in self.hooks.shares.items()]
        for dep, name, shares in (("pdp", "", self.pdp.shares), *lookups):
            yield "sidecar_questions", (dep, name, "under_way"), shares.under_way
            yield "sidecar_questions", (dep, name, "waiting"), shares.waiting
        for part, ready in self.readiness().items():
            yield "sidecar_ready", (part,), ready
        for issuer, age in self.keys.ages().items():
            yield "sidecar_key_age_seconds", (issuer,), age
        yield "sidecar_config_generation", (), self.generation
        yield "sidecar_config_reload_success", (), not self.reload_fault
        yield "sidecar_config_loaded_timestamp_seconds", (), self.loaded_at
        yield "sidecar_config_agreed", (), self.routes.checksum
        if self.policies is not None:
            yield "sidecar_policies_generation", (), self.policies.generation
            yield "sidecar_policies_reload_success", (), not self.policies.fault
            yield "sidecar_policies_loaded_timestamp_seconds", (), self.policies.loaded_at
        if self.embedded is not None:
            yield "sidecar_cerbos_restarts", (), self.embedded.restarts

    def _remembered(self) -> Iterator[tuple[str, int]]:
        rules = self.gate.rules
        yield "token", rules.tokens.remembered
        yield "lookup", self.hooks.remembered
        if rules.decisions is not None:
            yield "decision", rules.decisions.remembered

    def serves(self) -> bool:
        """Return whether a new question would be answered: what gRPC's health service tells."""
        return all(self.readiness().values())

    def config(self) -> dict[str, Any]:
        """Return the answer of `/config`: settings without secrets, and the routes in force."""
        shown = {
            setting.variable: "(set)"
            if setting.secret and getattr(self.settings, setting.field)
            else _shown(setting.field, self.settings)
            for setting in SETTINGS
        }
        routes = [{"path": r.name, "access": r.access, "actions": dict(r.actions)} for r in self.routes.table.routes]
        return {
            "settings": shown, "generation": self.generation, "reload": self.reload_state(), "routes": routes,
            "issuers": list(self.trust.issuers),
            "policies": self.policies.shown() if self.policies is not None else {},
        }  # fmt: skip

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
        async with self.reloading:
            # before it is read: what is written later is another change
            self.stamp = stamp_of(self.settings.routes)
            try:
                # in a thread: a large file takes longer to read than requests may wait
                routes = await asyncio.to_thread(load_routes, self.settings, self.environ)
                trust = load_trust(self.settings, routes)
            except StartError as error:
                self.reload_fault = str(error)
                self.metrics.reloaded("failed")
                log.error("routes not reloaded, the running ones stay in force:\n%s", error)  # noqa: TRY400 - a user's fault
                return
            keys, tokens = self.keys, self.gate.rules.tokens
            if trust != self.trust:
                keys = _key_store(trust, self.metrics)
                keys.adopt(self.keys)
                # nothing of it is in force before it can be used, or is known to be late
                await keys.warm()
            if keys is not self.keys or routes.principal != self.routes.principal:
                tokens = _tokens(trust, routes, keys, self.metrics)
            self._put_in_force(routes, trust, keys, tokens)

    def _put_in_force(self, routes: RoutesFile, trust: Trust, keys: KeyStore, tokens: Tokens) -> None:
        """All of it at once: no request sees the one of the old and the other of the new."""
        if keys is not self.keys:
            self.spawn(_retire(self.keys))
        self.gate.rules = Rules(routes.table, routes.lookups, tokens, self.gate.rules.reading, routes.decisions())
        self.routes, self.trust, self.keys, self.generation = routes, trust, keys, self.generation + 1
        self.loaded_at, self.reload_fault = wall_clock(), ""
        self.metrics.reloaded("ok")
        log.info("routes reloaded, generation %d", self.generation)

    async def watch(self) -> None:
        """Reload whenever the route file changes: in place, replaced, or behind a link that leads elsewhere now."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            if stamp_of(self.settings.routes) != self.stamp:
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
        if self.policy_reload is not None:
            await self.policy_reload.aclose()
        await self.alb_keys.aclose()
        if self.browser is not None:
            await self.browser.aclose()
        if self.embedded is not None:
            await self.embedded.stop()
        if self.tracer is not None:
            # it waits for a collector, which may be slow
            await asyncio.to_thread(self.tracer.close)


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


def stamp_of(path: str) -> Stamp:
    """Return a mark that differs once the file that `path` leads to was changed or replaced; None where it leads to
    none."""
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev


def _key_store(trust: Trust, metrics: Metrics) -> KeyStore:
    return KeyStore(trust.key_urls, trust.groups, now=time.monotonic, report=metrics.dependency)


def _tokens(trust: Trust, routes: RoutesFile, keys: KeyStore, metrics: Metrics) -> Tokens:
    tokens = Tokens(trust.issuers, routes.principal, keys.find, count=metrics.remembered)
    keys.on_change = tokens.forget
    return tokens


async def _retire(keys: KeyStore) -> None:
    try:
        await asyncio.sleep(RETIRED_FOR)
    finally:
        await keys.aclose()


def build(settings: Settings, environ: dict[str, str]) -> Sidecar:
    """Make all objects of one process from its settings; nothing is asked and no port opened yet. Raises StartError."""
    stamp = stamp_of(settings.routes)
    tracer = _tracer(settings)
    routes = load_routes(settings, environ)
    trust = load_trust(settings, routes)
    metrics = Metrics(WorkerFile(Path(environ[SHARE])) if SHARE in environ else None)
    keys = _key_store(trust, metrics)
    tokens = _tokens(trust, routes, keys, metrics)
    embedded = embedded_cerbos(settings, environ)
    pdp = _pdp(settings, embedded)
    hooks = Lookups({Hook: HttpSource()}, now=time.monotonic, count=metrics.remembered)
    try:
        assertions = (
            None if settings.assertion == "off" else Assertions(load_key(settings.assertion), settings.upstream)
        )
        journal = Journal(
            open_stream(settings.decision_log), metrics, wall_clock, _later, tracer.end if tracer else None,
            shadow=settings.mode == "shadow",
        )  # fmt: skip
        upstream = _upstream(settings)
        pages = Pages(settings.templates)
        pages.check()
    except (OSError, ValueError, TemplateError) as error:
        raise StartError(str(error)) from None
    reading = Reading(settings.hosts, settings.trusted_proxies, bool(settings.alb_signers))
    browser = _browser(settings, metrics)
    alb_keys = AlbKeys(now=time.monotonic, report=metrics.dependency)
    gate = Gate(
        Rules(routes.table, routes.lookups, tokens, reading, routes.decisions()),
        hooks, pdp, now=wall_clock, timer=time.perf_counter,
        sign=assertions.sign if assertions is not None else None, shadow=settings.mode == "shadow",
        sources=_sources(browser, settings, alb_keys),
    )  # fmt: skip
    begin_trace = tracer.begin if tracer else None
    refusals = Refusals(login=browser is not None, page=pages.error)
    proxy = Proxy(gate, upstream, journal, time.perf_counter, new_id, refusals, begin_trace)
    websockets = WebSocketDoor(
        gate, upstream, journal, now=wall_clock, timer=time.perf_counter, new_id=new_id,
        refusals=refusals, places=Places(settings.max_connections, Owners(settings.trusted_proxies).of_permit),
        max_message=settings.ws_max_message, begin_trace=begin_trace,
    )  # fmt: skip
    paths = dict(Permissions(gate, hooks, pdp, now=wall_clock, timer=time.perf_counter).paths())
    if assertions is not None:
        paths.update(assertion_paths(assertions))
    if browser is not None:
        paths.update(browser.login(pages, journal).paths())
        if settings.console == "on":
            paths.update(_console(settings, gate, hooks, pdp, pages, journal, browser).paths())
    own = OwnPaths(paths, gate, refusals, now=wall_clock, new_id=new_id)
    traffic = Traffic(proxy, websockets, own, _forward_auth(settings, gate, journal, refusals, begin_trace))
    sidecar = Sidecar(
        settings, environ, gate, keys, trust, routes, pdp, embedded, hooks, upstream, metrics, journal, traffic,
        browser, alb_keys, tracer, _policy_reload(settings, embedded, environ), stamp,
    )  # fmt: skip
    metrics.read = sidecar.gauges
    if settings.ext_authz_listen is not None:
        sidecar.ext_authz = _ext_authz(sidecar, refusals)
    return sidecar


def _ext_authz(sidecar: Sidecar, refusals: Refusals) -> GrpcServer:
    try:
        from sidecar.doors import ext_authz
    except ImportError:
        raise StartError(
            "SIDECAR_EXT_AUTHZ_LISTEN: xds-protos is not installed: pip install 'authorization-sidecar[envoy]'"
        ) from None
    begin_trace = sidecar.tracer.begin if sidecar.tracer else None
    door = ext_authz.ExtAuthz(sidecar.gate, sidecar.journal, time.perf_counter, new_id, refusals, begin_trace)
    health = Health((ext_authz.SERVICE,), sidecar.serves)
    return GrpcServer({ext_authz.CHECK: door.check, grpc_health.CHECK: health.check})


def _forward_auth(
    settings: Settings, gate: Gate, journal: Journal, refusals: Refusals, begin_trace: BeginTrace | None
) -> ForwardAuth | None:
    if settings.forward_auth == "off":
        return None
    dialect = DIALECTS[settings.forward_auth]
    return ForwardAuth(
        gate, dialect, journal, refusals, timer=time.perf_counter, new_id=new_id, begin_trace=begin_trace
    )


def _later(seconds: float, what: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_later(seconds, what)


def _pdp(settings: Settings, embedded: EmbeddedCerbos | None) -> Cerbos | AuthZen:
    if not settings.pdp:
        target = settings.cerbos if embedded is None else embedded.target
        return Cerbos(target, timeout=settings.cerbos_timeout, now=time.monotonic, tls=_cerbos_tls(settings))
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


def _cerbos_tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.cerbos_by_tls:
        return None
    try:
        return tls_context(settings.cerbos_ca, settings.cerbos_certificate, settings.cerbos_key)
    except (OSError, ValueError) as error:
        raise StartError(
            "SIDECAR_CERBOS_CA, SIDECAR_CERBOS_CERTIFICATE, SIDECAR_CERBOS_KEY: expected PEM files of the CAs, and a "
            f"certificate with its key: {error}"
        ) from None


def embedded_cerbos(settings: Settings, environ: Mapping[str, str]) -> EmbeddedCerbos | None:
    """The Cerbos that we run ourselves, not yet started, or None. Raises StartError."""
    if settings.pdp or settings.cerbos != "embedded":
        return None
    try:
        return EmbeddedCerbos(
            Path(settings.policies), binary=settings.cerbos_binary or None, told=_told_of_traces(settings, environ),
            strict=settings.cerbos_strict == "on",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise StartError(f"SIDECAR_CERBOS: {error}") from None


def _tracer(settings: Settings) -> Tracer | None:
    if settings.traces == "off":
        return None
    try:
        from sidecar.record.tracing import Tracer
    except ImportError as error:
        raise StartError(
            f"SIDECAR_TRACES: found otlp, expected OpenTelemetry: pip install 'authorization-sidecar[otel]' ({error})"
        ) from None
    return Tracer()


def _told_of_traces(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for the embedded Cerbos, so that its spans come to where ours do."""
    if settings.traces == "off":
        return {}
    told = {name: value for name, value in environ.items() if name.startswith("OTEL_")}
    return told | {"OTEL_SERVICE_NAME": "cerbos", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


def embedded_reload(
    embedded: EmbeddedCerbos, publish: Callable[[PolicyState], None] = lambda state: None
) -> PolicyReload:
    """Make what puts changed policies into force in the Cerbos that we run ourselves."""
    return PolicyReload(
        embedded.target, ADMIN, embedded.snapshot.source, now=wall_clock, snapshot=embedded.snapshot,
        compile_all=embedded.compile, publish=publish,
    )  # fmt: skip


def _policy_reload(
    settings: Settings, embedded: EmbeddedCerbos | None, environ: Mapping[str, str]
) -> PolicyReload | FollowedPolicies | None:
    if embedded is not None:
        return embedded_reload(embedded)
    if POLICIES in environ:
        return FollowedPolicies(Path(environ[POLICIES]))
    if not settings.cerbos_admin or settings.pdp:
        return None
    return PolicyReload(
        settings.cerbos, settings.cerbos_admin, Path(settings.policies), now=wall_clock,
        compile_all=_compiler(settings), tls=_cerbos_tls(settings),
    )  # fmt: skip


def _compiler(settings: Settings) -> Compile | None:
    """Make what compiles policies for a Cerbos that we do not run, where a binary is here, too. Raises StartError."""
    folder = Path(settings.policies)
    try:
        binary = find_binary(settings.cerbos_binary or None)
    except OSError as error:
        if settings.cerbos_binary:
            raise StartError(f"SIDECAR_CERBOS_BINARY: {error}") from None
        return None
    return lambda policies: problems_of(binary, folder, policies)


def _browser(settings: Settings, metrics: Metrics) -> Browser | None:
    if not settings.login_modes:
        return None
    from sidecar.run.browser import Browser

    try:
        return Browser(settings, metrics.dependency, wall_clock)
    except ValueError as error:
        raise StartError(f"SIDECAR_LOGIN: {error}") from None


def _sources(browser: Browser | None, settings: Settings, keys: AlbKeys) -> tuple[TokenSource, ...]:
    """Where a request's token may be but for Authorization: our own session before the load balancer's."""
    sources: list[TokenSource] = [browser.sessions] if browser is not None else []
    if settings.alb_signers:
        sources.append(AlbSessions(settings.alb_signers, keys))
    return tuple(sources)


def _console(
    settings: Settings, gate: Gate, hooks: Lookups, pdp: PDP, pages: Pages, journal: Journal, browser: Browser
) -> Console:
    return Console(
        gate, hooks, pdp, pages, journal, now=wall_clock, timer=time.perf_counter, admin=settings.console_admin,
        lifetime=settings.session_lifetime, idle=settings.session_idle, forms=browser.signs_out_at,
    )  # fmt: skip


def _upstream(settings: Settings) -> Upstream:
    origin = Origin.parse(settings.upstream)
    tls = None
    if origin.scheme == "https":
        tls = ssl.create_default_context(cafile=settings.upstream_ca or None)
    timeouts = Timeouts(
        settings.upstream_connect_timeout, settings.upstream_head_timeout, settings.upstream_idle_timeout
    )  # fmt: skip
    owners = Owners(settings.trusted_proxies).of_permit
    pool: Pool[Forward] = Pool(origin, timeouts=timeouts, tls=tls, breaker=Breaker(time.monotonic))
    return Upstream(pool, owners)
