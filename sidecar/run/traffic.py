"""Traffic port: composes its doors and pages, and dispatches each request to one of them."""

from __future__ import annotations

import os
import secrets
import time
from typing import TYPE_CHECKING

from sidecar.config.setting_table import Settings
from sidecar.doors import answer, asgi
from sidecar.doors.dialects import DIALECTS
from sidecar.doors.door import Door, Receive, Scope
from sidecar.doors.forward_auth import ForwardAuth
from sidecar.doors.health_check import HealthCheck
from sidecar.doors.proxy import ReverseProxy
from sidecar.doors.refusal import Refusals, Send, send_whole
from sidecar.doors.websocket import WebSocketDoor
from sidecar.gate.codes import Code
from sidecar.gate.gate import Gate
from sidecar.gate.trace import BeginTrace
from sidecar.gate.verdict import Refused
from sidecar.net import http_connection as server
from sidecar.net.owners import Owners, Places
from sidecar.net.upgrade import UPGRADE
from sidecar.pages.oauth import OAuthPaths, PoolEndpoints
from sidecar.pages.permissions import Permissions
from sidecar.pages.router import OwnPaths, Paths, assertion_paths
from sidecar.record.journal import Journal
from sidecar.run.deciding import Deciding, wall_clock
from sidecar.run.parts import Parts
from sidecar.trust.issuers import cognito_issuers

if TYPE_CHECKING:
    from sidecar.pages.console import Console


class Traffic:
    """The ASGI app of the traffic port: the sidecar's own paths, and the proxy for all others (R27). `authorize`
    answers the questions of another proxy, where there is one, and `health` the checks of a balancer. `refused` is told
    of what cannot be read as a request.

    Any ASGI server can call it. Ours gives it WebSockets too, and goes around ASGI by `direct`.
    """

    def __init__(
        self, proxy: ReverseProxy, websockets: WebSocketDoor, own: OwnPaths, authorize: ForwardAuth | None,
        health: HealthCheck, refused: server.RecordRefusal,
    ) -> None:  # fmt: skip
        self._proxy = proxy
        self._websockets = websockets
        self._own = own
        self._authorize = authorize
        self.health = health
        self._prefixes = (*own.prefixes, *health.targets)
        self.refused = refused

    async def aclose(self) -> None:
        """Record what is not recorded yet."""
        await self._proxy.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI scope; anything that is not http is refused by not being answered."""
        if scope["type"] != "http":
            raise RuntimeError(f"an ASGI scope of type {scope['type']!r}")
        if UPGRADE in (scope.get("extensions") or ()):
            await self._websockets(scope, receive, send)
        elif "raw_target" in scope:
            # of our own server, which asks `direct` first
            await self._own(scope, receive, send)
        else:
            await self._of_any_server(scope, receive, asgi.answering(send))

    async def _of_any_server(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = asgi.peer_of(scope)
        try:
            head = asgi.head_of(scope)
        except Refused as refused:
            status = answer.status_of(refused.code)
            await send_whole(answer.of(refused.code, self.refused(status, refused.code, peer)), send)
            return
        receive, scheme = asgi.body_of(head, receive), scope.get("scheme", "http")
        serve = self.direct(head.target)
        if serve is not None:
            await serve(head, peer, scheme, receive, send)
        else:
            read = {"client": scope.get("client"), "scheme": scheme, "headers": head.headers, "method": head.method}
            await self._own({**read, "type": "http", "raw_target": head.target}, receive, send)

    def direct(self, target: bytes) -> ReverseProxy | ForwardAuth | HealthCheck | None:
        """Return who takes a request that is no WebSocket, None for the own paths. The one place that goes around ASGI,
        for speed: through ASGI a forwarded request costs 1.2 times the CPU (538 µs for 444), a refused one 1.5 times
        (385 for 259; docs/performance.md)."""
        if not target.startswith(self._prefixes):
            return self._proxy
        if target in self.health.targets:
            return self.health
        if self._authorize is not None and self._authorize.has(target):
            return self._authorize
        return None if self._own.has(target) else self._proxy


def door_of(deciding: Deciding, gate: Gate, parts: Parts, journal: Journal, begin_trace: BeginTrace | None) -> Door:
    """Make what all doors use. `begin_trace` is None where no traces are told."""
    refusals = Refusals(login=deciding.browser is not None, page=parts.pages.error)
    return Door(gate, journal, refusals, wall_clock, time.perf_counter, new_id, begin_trace, deciding.faults.report)


def traffic(deciding: Deciding, parts: Parts, door: Door) -> Traffic:
    """Make the doors of the traffic port, and the pages beside them."""
    settings = deciding.settings
    websockets = WebSocketDoor(
        door, parts.upstream, Places(settings.max_connections, Owners(settings.trusted_proxies).of_permit),
        max_message=settings.ws_max_message,
    )  # fmt: skip
    authorize = None if settings.forward_auth == "off" else ForwardAuth(door, DIALECTS[settings.forward_auth])

    def refused(status: int, code: Code, peer: str) -> str:
        request_id = door.new_id()
        door.journal.refused_unread(status, code, peer, request_id)
        return request_id

    oauth = OAuthPaths(_pool_endpoints(deciding.settings))
    own = OwnPaths(door, parts.rooms, _paths(deciding, parts, door), oauth.paths)
    health = HealthCheck(settings.health_paths)
    return Traffic(ReverseProxy(door, parts.upstream, parts.rooms), websockets, own, authorize, health, refused)


def _paths(deciding: Deciding, parts: Parts, door: Door) -> Paths:
    browser = deciding.browser
    paths = dict(Permissions(door, deciding.hooks, deciding.pdp).paths())
    if parts.assertions is not None:
        paths.update(assertion_paths(parts.assertions))
    if browser is not None:
        paths.update(browser.login(parts.pages, door.journal).paths())
        if deciding.settings.console == "on":
            paths.update(_console(deciding, parts, door, browser.signs_out_at).paths())
    return paths


def _pool_endpoints(settings: Settings) -> PoolEndpoints | None:
    """The endpoints that OAuth clients ask of the user pool."""
    if not settings.domain:
        return None
    # only where there is a domain
    from sidecar.sign_in.hosted import domain_origin

    keys = f"{cognito_issuers(settings.region, settings.pool_id)[0]}/.well-known/jwks.json" if settings.pool_id else ""
    return PoolEndpoints(domain_origin(settings.domain, settings.region), keys)


def _console(deciding: Deciding, parts: Parts, door: Door, signs_out_at: str) -> Console:
    # only where there is a console
    from sidecar.pages.console import Console

    settings = deciding.settings
    return Console(
        door, deciding.hooks, deciding.pdp, parts.pages, admin=settings.console_admin,
        lifetime=settings.session_lifetime, idle=settings.session_idle, forms=signs_out_at,
    )  # fmt: skip


_drawn: list[str] = []


def new_id() -> str:
    """Return a request id: 32 hexadecimal digits. Many are drawn at once, since to ask the kernel costs the most."""
    if not _drawn:
        drawn = secrets.token_hex(16 * 64)
        _drawn.extend([drawn[at : at + 32] for at in range(0, len(drawn), 32)])
    return _drawn.pop()


os.register_at_fork(after_in_child=_drawn.clear)
