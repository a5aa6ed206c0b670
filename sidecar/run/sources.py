"""Composes the sources of lookups: settings and routes → who is asked. Nothing is opened."""

from __future__ import annotations

import ipaddress
from functools import partial

from sidecar.config.parsers import Address
from sidecar.config.routes.file import RoutesFile
from sidecar.config.setting_table import Settings
from sidecar.config.shapes import Problem
from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.function import Function
from sidecar.gate.lookup import Lookup
from sidecar.gate.statement import Statement
from sidecar.lookups.function import find
from sidecar.net.app_reader import AppReader
from sidecar.net.pool import Origin
from sidecar.run.errors import StartError
from sidecar.run.upstreams import pool_of


def app_reader(settings: Settings) -> AppReader:
    """Make what asks the protected apps for lookups, by connections of its own."""
    return AppReader(partial(pool_of, settings))


def require_sources(settings: Settings, routes: RoutesFile, *, functions: bool = True) -> None:
    """Look at whom lookups name, and import the drivers of their databases and, where `functions` says so, their
    functions. Raises StartError with the place of each that cannot be asked."""
    problems = []
    for name, lookup in routes.lookups.items():
        if isinstance(lookup.inquiry, Function) and not functions:
            continue
        mark = routes.lookup_marks[name]
        try:
            _require(settings, routes, lookup)
        except ValueError as error:
            problems.append(str(Problem(settings.routes, mark.line, mark.column, f"{mark.path}: {error}")))
    if problems:
        raise StartError(*problems)


def _require(settings: Settings, routes: RoutesFile, lookup: Lookup) -> None:
    match lookup.inquiry:
        case AppInquiry():
            _require_other(settings, routes)
        case Function() as function:
            find(function.name, many=function.batch)
        case Statement() as statement:
            # it loads SQLAlchemy, for those who have such a lookup
            from sidecar.lookups.drivers import driver_of

            try:
                driver_of(statement.database, lookup.timeout)
            except ValueError as error:
                raise ValueError(f"the variable {statement.database.variable}: {error}") from None
        case _:
            pass


def _require_other(settings: Settings, routes: RoutesFile) -> None:
    apps = [settings.upstream, *(each.url for each in routes.table.upstreams)]
    own = next((app for app in apps if app and _is_own(Origin.parse(app), settings.listen)), "")
    if own:
        raise ValueError(
            f"found the app {own}, which is SIDECAR_LISTEN {settings.listen}, expected another: the lookup would ask "
            "the sidecar itself, and so on"
        )


def _is_own(origin: Origin, listen: Address) -> bool:
    """Return whether an origin is, as far as its text tells, where the sidecar listens."""
    if origin.path or listen.path:
        return origin.path == listen.path
    here = origin.host == listen.host or (
        _is_loopback(origin.host) and (_is_loopback(listen.host) or _is_any(listen.host))
    )
    return origin.port == listen.port and here


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
