"""Composes the connections to the protected apps: that of the settings, and those that `routes.yaml` names."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from functools import partial

from sidecar.config.routes.file import RoutesFile
from sidecar.config.setting_table import Settings
from sidecar.gate.verdict import Destination, Forward
from sidecar.net.breaker import Breaker
from sidecar.net.connection import Permit, Timeouts
from sidecar.net.owners import Owners
from sidecar.net.pool import Origin, Pool
from sidecar.net.tls import tls_context
from sidecar.net.upstream import Upstream
from sidecar.run.errors import Errors, StartError, blaming, require_readable


def upstream(settings: Settings) -> Upstream:
    """Make what leads to the apps; none of those that routes name is in force yet. Raises StartError."""
    owners = Owners(settings.trusted_proxies).of_permit
    pool: Pool[Forward] | None = pool_of(settings, None) if settings.upstream else None
    return Upstream(pool, owners, partial(pool_of, settings))


def pool_of(settings: Settings, named: Destination | None) -> Pool[Permit]:
    """Make connections to one app, None being that of the settings, of whoever is to have them alone. Raises
    StartError."""
    return _pool_of_settings(settings) if named is None else _pool_of(settings, named)


def make_named(
    upstream: Upstream, routes: RoutesFile, stand_in: str = ""
) -> Callable[[], tuple[Destination, ...]]:  # fmt: skip
    """Make the connections of the apps that routes name. -> what puts them into force. Raises StartError with every
    problem. The URL `stand_in` is asked in place of all."""
    errors = Errors()
    made: dict[Destination, Pool[Forward]] = {}
    for each in routes.table.upstreams:
        pool = errors.tried(upstream.made, Destination(each.name, stand_in) if stand_in else each)
        if pool is not None:
            made[each] = pool
    if errors.problems:
        raise StartError(*errors.problems)
    return partial(upstream.put_in_force, made)


def _pool_of_settings(settings: Settings) -> Pool[Permit]:
    with blaming("SIDECAR_UPSTREAM"):
        origin = Origin.parse(settings.upstream)
    tls = None
    if origin.scheme == "https":
        names = ("SIDECAR_UPSTREAM_CA", "SIDECAR_UPSTREAM_CERTIFICATE", "SIDECAR_UPSTREAM_KEY")
        tls = _tls(names, settings.upstream_ca, settings.upstream_certificate, settings.upstream_key)
    timeouts = Timeouts(
        settings.upstream_connect_timeout, settings.upstream_head_timeout, settings.upstream_idle_timeout
    )  # fmt: skip
    return _pool(origin, timeouts, tls, settings.upstream_server_name)


def _pool_of(settings: Settings, named: Destination) -> Pool[Permit]:
    place = f"{settings.routes}: upstreams.{named.name}"
    with blaming(f"{place}.url"):
        origin = Origin.parse(named.url)
    tls = None
    if origin.scheme == "https":
        names = (f"{place}.ca", f"{place}.certificate", f"{place}.key")
        tls = _tls(names, named.ca, named.certificate, named.key)
    timeouts = Timeouts(
        settings.upstream_connect_timeout if named.connect_timeout is None else named.connect_timeout,
        settings.upstream_head_timeout if named.head_timeout is None else named.head_timeout,
        settings.upstream_idle_timeout if named.idle_timeout is None else named.idle_timeout,
    )
    return _pool(origin, timeouts, tls, named.server_name)


def _pool(origin: Origin, timeouts: Timeouts, tls: ssl.SSLContext | None, server_name: str) -> Pool[Permit]:
    return Pool(
        origin, timeouts=timeouts, tls=tls, server_name=server_name, breaker=lambda: Breaker(time.monotonic)
    )  # fmt: skip


def _tls(names: tuple[str, str, str], ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """Make the context of an https app. `names` are those of its CAs, and of our own certificate and its key."""
    errors = Errors()
    context = errors.tried(_context, names[0], "a PEM file of CAs", ca, "", "")
    if certificate and key:
        if context is not None:
            expected = "PEM files of a certificate and its key"
            context = errors.tried(_context, f"{names[1]}, {names[2]}", expected, ca, certificate, key)
    else:
        # that one is without the other is told of the settings
        errors.tried(require_readable, names[1], certificate)
        errors.tried(require_readable, names[2], key)
    if context is None or errors.problems:
        raise StartError(*errors.problems)
    return context


def _context(names: str, expected: str, ca: str, certificate: str, key: str) -> ssl.SSLContext:
    with blaming(names, expected):
        return tls_context(ca, certificate, key)
