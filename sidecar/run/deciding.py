"""Composes a gate from settings: opens no connection, writes no file, starts no process.

`sidecar check` and `sidecar explain` go no further, and so find what `sidecar run` refuses.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sidecar.config.routes.file import RoutesFile
from sidecar.config.setting_table import Settings
from sidecar.config.settings import Understood
from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.asking import PDP
from sidecar.gate.evaluation import Rules
from sidecar.gate.function import Function
from sidecar.gate.gate import Gate
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Principal, Tokens
from sidecar.gate.lookup import Inquiry
from sidecar.gate.mcp_session import McpSessions
from sidecar.gate.narrowing import Plans
from sidecar.gate.request import Reading
from sidecar.gate.session import TokenSource
from sidecar.gate.statement import Statement
from sidecar.lookups.asking import Lookups, Source
from sidecar.lookups.function import FunctionSource
from sidecar.lookups.http import HttpSource
from sidecar.lookups.sql import SqlSource
from sidecar.lookups.upstream import UpstreamSource
from sidecar.net.app_reader import AppReader
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.embedded import EmbeddedCerbos
from sidecar.pdp.policy_reload import FollowedPolicies, PolicyReload
from sidecar.record.faults import FaultLog
from sidecar.record.metrics import Metrics
from sidecar.run.errors import Errors, StartError
from sidecar.run.pdp import decision_point, embedded_cerbos, policy_reload
from sidecar.run.plans import narrowing
from sidecar.run.route_file import RouteFile, load_trust, read_route_file, require_callback
from sidecar.run.sources import app_reader, require_sources
from sidecar.trust.alb import AlbKeys, AlbSessions
from sidecar.trust.download import Proxy
from sidecar.trust.issuers import Trust
from sidecar.trust.jwks import KeyStore

if TYPE_CHECKING:
    from sidecar.pdp.authzen import AuthZen
    from sidecar.run.sign_in import Browser
    from sidecar.trust.assertion import Assertions

TREE_KEY = "_AUTHORIZATION_SIDECAR_KEY"
"""Set by the process that was started first for itself and its workers: what stands in for SIDECAR_SESSION_SECRET where
that is not set. No setting of a user."""
wall_clock = time.time  # noqa: TID251 - here the clock enters; everything below takes it as an argument


class Configured(NamedTuple):
    """The route file as it was read, and the keys of those whom it trusts: a reload replaces all of it at once."""

    routes: RoutesFile
    trust: Trust
    keys: KeyStore
    tokens: Tokens

    def rules(self, reading: Reading) -> Rules:
        """Make the rules for the gate; of decisions, nothing is remembered yet."""
        routes = self.routes
        table = routes.table
        hosts = reading.hosts or table.hosts
        # where any host may be named, a session of one would be nobody's
        several = table.hosts is not None or any(each.hosts for each in routes.identities)
        reading = reading._replace(reserved=table.reserved, hosts=hosts, by_host=several and hosts is not None)
        return Rules(table, routes.lookups, self.tokens, reading, routes.decisions(), routes.clients)


@dataclass
class Deciding:
    """Everything that a gate is made of. A reload puts another `configured` in its place."""

    settings: Settings
    environ: Mapping[str, str]
    metrics: Metrics
    configured: Configured
    reading: Reading
    pdp: Cerbos | AuthZen
    embedded: EmbeddedCerbos | None
    policies: PolicyReload | FollowedPolicies | None
    hooks: Lookups
    functions: FunctionSource
    app_reader: AppReader
    browser: Browser | None
    alb_keys: AlbKeys
    faults: FaultLog

    def gate(self, assertions: Assertions | None = None, pdp: PDP | None = None) -> Gate:
        """Make the gate, in the mode of the settings. `assertions` signs what its permits tell the app. With `pdp` that
        is asked, which asks ours."""
        sign = assertions.sign if assertions is not None else None
        return Gate(
            self.configured.rules(self.reading), self.hooks, pdp or self.pdp, now=wall_clock, timer=time.perf_counter,
            sign=sign, mode=self.settings.mode, sources=self._sources(), plans=self.plans(assertions),
            sessions=self._mcp_sessions(),
        )  # fmt: skip

    def _mcp_sessions(self) -> McpSessions:
        # one that serves nobody else has a key of its own
        key = self.environ.get(TREE_KEY) or secrets.token_hex(32)
        return McpSessions(self.settings.session_secrets or (key,))

    def with_lookups(self, hooks: Lookups) -> Deciding:
        """Return the same with other lookups."""
        return Deciding(**{**vars(self), "hooks": hooks})

    def plans(self, assertions: Assertions | None = None) -> Plans | None:
        """Make what asks for plans; None where the PDP has none. `assertions` signs a filter that goes in a header."""
        if not isinstance(self.pdp, Cerbos):
            return None
        state = self.policies.state if self.policies is not None else None
        strict = self.embedded is None or self.settings.cerbos_strict == "on"

        def sign(principal: Principal, text: bytes, app: str) -> bytes:
            return assertions.sign_filter(principal, text, wall_clock(), app) if assertions is not None else text

        return narrowing(self.pdp, self.embedded, state, Path(self.settings.policies), strict=strict, sign=sign)

    def _sources(self) -> tuple[TokenSource, ...]:
        """Where a request's token may be but for Authorization: our own session before the load balancer's."""
        sources: list[TokenSource] = [self.browser.sessions] if self.browser is not None else []
        if self.settings.alb_signers:
            sources.append(AlbSessions(self.settings.alb_signers, self.alb_keys))
        return tuple(sources)

    async def aclose(self) -> None:
        """Close what deciding has opened since, and stop the Cerbos of our own."""
        await self.hooks.aclose()
        await self.configured.keys.aclose()
        await self.pdp.aclose()
        if self.policies is not None:
            await self.policies.aclose()
        await self.alb_keys.aclose()
        if self.browser is not None:
            await self.browser.aclose()
        if self.embedded is not None:
            await self.embedded.stop()


_OF_TRUST = (
    "AWS_REGION", "AWS_COGNITO_POOL_ID", "AWS_COGNITO_CLIENT_ID", "AWS_COGNITO_DOMAIN", "SIDECAR_ISSUER",
    "SIDECAR_JWKS_URL",
)  # fmt: skip
_OF_LOGIN = (
    "AWS_REGION", "AWS_COGNITO_POOL_ID", "AWS_COGNITO_CLIENT_ID", "AWS_COGNITO_DOMAIN", "SIDECAR_ISSUER",
    "SIDECAR_LOGIN", "SIDECAR_SESSION_SECRET",
)  # fmt: skip
_OF_CALLBACK = ("AWS_COGNITO_DOMAIN", "AWS_COGNITO_HOSTED_UI_CALLBACK_URL", "SIDECAR_HOSTS", "SIDECAR_LOGIN")


def deciding(
    read: Understood, environ: Mapping[str, str], metrics: Metrics | None = None, file: RouteFile | None = None
) -> Deciding:
    """Make all that a gate needs, with the route file of the settings unless it was read as `file`. Raises StartError
    with every problem, those of `read` and of the file included."""
    settings, metrics = read.settings, metrics or Metrics()
    faults = FaultLog(metrics, time.monotonic)
    file = file or read_route_file(settings, environ)
    routes = file.routes
    errors = Errors((*read.problems, *file.problems))
    embedded = errors.tried(embedded_cerbos, settings, environ)
    pdp = errors.tried(decision_point, settings, embedded, faults.report)
    policies = errors.tried(policy_reload, settings, embedded, environ, wall_clock)
    trust, browser = errors.tried(_trust, read, file), None
    if routes is not None and file.whole and read.sure(*_OF_CALLBACK):
        errors.tried(require_callback, settings, routes)
    # of settings that contradict themselves it cannot be said who may sign in
    if read.sure(*_OF_LOGIN):
        browser = errors.tried(_browser, settings, metrics)
    if routes is not None:
        errors.tried(require_sources, settings, routes, functions=may_run_code(read, file))
    if errors.problems or routes is None or trust is None or pdp is None:
        raise StartError(*read.once(errors.problems))
    keys, functions, reader = key_store(settings, trust, metrics), FunctionSource(), app_reader(settings)
    sources: dict[type[Inquiry], Source] = {
        Hook: HttpSource(), AppInquiry: UpstreamSource(reader), Function: functions,
        Statement: SqlSource(settings.sql_connections),
    }  # fmt: skip
    return Deciding(
        settings, environ, metrics, Configured(routes, trust, keys, tokens_of(routes, trust, keys, metrics)),
        Reading(settings.hosts, settings.trusted_proxies, bool(settings.alb_signers)), pdp, embedded, policies,
        Lookups(sources, now=time.monotonic, count=metrics.remembered, report=faults.report), functions, reader,
        browser, AlbKeys(now=time.monotonic, report=metrics.dependency, proxy=_proxy(settings)), faults,
    )  # fmt: skip


def may_run_code(read: Understood, file: RouteFile) -> bool:
    """Return whether the functions of a route file may be imported: those of one that has a fault by itself or beside
    the settings are not."""
    errors = Errors()
    errors.tried(_trust, read, file)
    return file.in_force and not errors.problems


def _trust(read: Understood, file: RouteFile) -> Trust | None:
    """Return the trusted issuers, None where settings or the file contradict themselves about them. Raises StartError
    with every problem."""
    if file.routes is None or not file.sure("identity") or not read.sure(*_OF_TRUST):
        return None
    return load_trust(read.settings, file.routes)


def key_store(settings: Settings, trust: Trust, metrics: Metrics) -> KeyStore:
    """Make the keys of the trusted issuers, none of them fetched yet."""
    return KeyStore(
        trust.key_urls, trust.groups, now=time.monotonic, report=metrics.dependency, proxy=_proxy(settings)
    )  # fmt: skip


def _proxy(settings: Settings) -> Proxy:
    return Proxy(settings.https_proxy, settings.no_proxy)


def tokens_of(routes: RoutesFile, trust: Trust, keys: KeyStore, metrics: Metrics) -> Tokens:
    """Make what verifies tokens, with nothing remembered yet; the key store tells it from now on of other keys."""
    tokens = Tokens(
        trust.everywhere, routes.principal, keys.find, count=metrics.remembered, by_host=trust.by_host
    )  # fmt: skip
    keys.on_change = tokens.forget
    return tokens


def _browser(settings: Settings, metrics: Metrics) -> Browser | None:
    if not settings.login_modes:
        return None
    from sidecar.run.sign_in import Browser

    return Browser(settings, metrics.dependency, wall_clock)
