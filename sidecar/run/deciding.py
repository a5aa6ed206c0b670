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

from sidecar.config.routes.file import RoutesError, RoutesFile, read_routes
from sidecar.config.setting_table import Settings
from sidecar.config.settings import Understood
from sidecar.config.suggest import did_you_mean
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
from sidecar.gate.routing import Access, RouteTable
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
from sidecar.run.sources import app_reader, require_sources
from sidecar.trust.alb import AlbKeys, AlbSessions
from sidecar.trust.download import Proxy
from sidecar.trust.issuers import Trust, trust_from
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


def deciding(read: Understood, environ: Mapping[str, str], metrics: Metrics | None = None) -> Deciding:
    """Make all that a gate needs. Raises StartError with every problem, those of `read` included."""
    settings, metrics = read.settings, metrics or Metrics()
    faults = FaultLog(metrics, time.monotonic)
    errors = Errors(read.problems)
    routes = errors.tried(load_routes, settings, environ)
    embedded = errors.tried(embedded_cerbos, settings, environ)
    pdp = errors.tried(decision_point, settings, embedded, faults.report)
    policies = errors.tried(policy_reload, settings, embedded, environ, wall_clock)
    trust, browser = None, None
    if not read.problems:
        # of settings that contradict themselves it cannot be said who is trusted and who may sign in
        trust = errors.tried(load_trust, settings, routes) if routes is not None else None
        if routes is not None:
            errors.tried(require_callback, settings, routes)
        browser = errors.tried(_browser, settings, metrics)
    if routes is not None:
        errors.tried(require_sources, settings, routes)
    if errors.problems or routes is None or trust is None or pdp is None:
        raise StartError(*errors.problems)
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


def load_routes(settings: Settings, environ: Mapping[str, str]) -> RoutesFile:
    """Read and check the route file. Raises StartError with every problem."""
    without = [] if settings.upstream else [_NO_UPSTREAM]
    try:
        text = Path(settings.routes).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(*without, f"SIDECAR_ROUTES: cannot read {settings.routes}: {error}") from None
    try:
        routes = read_routes(text, settings.routes, environ)
    except RoutesError as error:
        raise StartError(*map(str, error.problems)) from None
    _require_upstream(settings, routes)
    _require_listed(settings, routes)
    pushing = [route.name for route in routes.table.routes if any(ask.push for ask in route.asks.values())]
    if settings.pdp and pushing:
        raise StartError(
            f"{settings.routes}: found `push` at {pushing[0]} and SIDECAR_PDP, expected one of the two: "
            "AuthZEN has no plans, so `push` needs Cerbos"
        )
    return routes


def _require_server(settings: Settings, table: RouteTable) -> None:
    """Raise StartError where clients are to be told of Cognito's endpoints, and nobody knows them."""
    untold = [one.resource for one in table.protected if one.metadata and not one.server]
    if not untold or (settings.domain and ("://" in settings.domain or settings.region)):
        return
    raise StartError(
        f"{settings.routes}: found the resource {untold[0]} and no AWS_COGNITO_DOMAIN (with AWS_REGION, where it is a "
        "prefix), expected it, so that clients are told where to sign in; or `authorization_server`, or `metadata: off`"
    )


_NO_UPSTREAM = "SIDECAR_UPSTREAM: not set, expected the protected app: `http(s)://host:port`, or `unix:/path`"


def without_upstream(settings: Settings, routes: RoutesFile) -> str:
    """Return why there has to be an app in the settings and there is none, or ""."""
    if settings.upstream:
        return ""
    table = routes.table
    alone = next((route.name for route in (*table.routes, *routes.drafts) if route.upstream is None), "")
    if alone:
        return f"{_NO_UPSTREAM}; or an `upstream` for each route of {settings.routes}: {alone} has none"
    if table.fallback is Access.AUTHENTICATED:
        return f"{_NO_UPSTREAM}: `defaults.access: authenticated` lets paths through that no route names"
    if settings.mode == "shadow":
        return f"{_NO_UPSTREAM}: the mode `shadow` forwards what no route names, too"
    return ""


def _require_upstream(settings: Settings, routes: RoutesFile) -> None:
    """Raise StartError where requests would lead to the app of the settings, and there is none."""
    if missing := without_upstream(settings, routes):
        raise StartError(missing)


def _require_listed(settings: Settings, routes: RoutesFile) -> None:
    """Raise StartError for hosts in the route file that SIDECAR_HOSTS turns away."""
    listed = settings.hosts
    if listed is None:
        return
    told = ", ".join(sorted(listed))
    unlisted = [
        (mark, host) for mark, host in ((each.mark, each.unlisted(listed)) for each in routes.placed_hosts) if host
    ]
    if unlisted:
        raise StartError(*(
            f"{settings.routes}:{mark.line}:{mark.column}: {mark.path}: found {host!r}, expected one of SIDECAR_HOSTS "
            f"({told}): requests for others are refused{did_you_mean(host, listed)}"
            for mark, host in unlisted
        ))  # fmt: skip


def require_callback(settings: Settings, routes: RoutesFile) -> None:
    """Raise StartError where nobody says to which URL the hosted UI sends a browser back."""
    if "hosted" in settings.login_modes and not settings.callback and routes.table.hosts is None:
        raise StartError(
            "AWS_COGNITO_HOSTED_UI_CALLBACK_URL: not set, expected the callback URL of the app client, or one host in "
            "SIDECAR_HOSTS, or routes with `hosts`"
        )


def require_in_force(settings: Settings, routes: RoutesFile) -> None:
    """Raise StartError where the whole route file is a draft."""
    if routes.draft_mark is not None:
        raise StartError(
            f"{settings.routes}:{routes.draft_mark.line}:{routes.draft_mark.column}: found `draft: true` of the whole "
            "file, expected a file that is in force: look through it and take that line out, then the one of each "
            "route that you want in force"
        )


def load_trust(settings: Settings, routes: RoutesFile) -> Trust:
    """Return the trusted issuers. Raises StartError where a route needs a principal and nobody is trusted."""
    table = routes.table
    trust = trust_from(settings, routes.identities, frozenset(one.resource for one in table.protected))
    _require_server(settings, table)
    if not trust.issuers and any(route.access is not Access.PUBLIC for route in table.routes):
        raise StartError(
            "no issuer of tokens: set AWS_REGION, AWS_COGNITO_POOL_ID and AWS_COGNITO_CLIENT_ID, "
            f"or give `identity` in {settings.routes}"
        )
    return trust


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
