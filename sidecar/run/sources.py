"""Composes the sources of lookups: settings and routes → who is asked. Nothing is opened."""

from __future__ import annotations

from sidecar.config.routes.file import RoutesFile
from sidecar.config.setting_table import Settings
from sidecar.config.shapes import Problem
from sidecar.gate.function import Function
from sidecar.gate.lookup import Lookup
from sidecar.gate.statement import Statement
from sidecar.lookups.function import find
from sidecar.run.errors import StartError


def require_sources(settings: Settings, routes: RoutesFile) -> None:
    """Import the functions that lookups name, and the drivers of their databases. Raises StartError with the place of
    each that cannot be asked."""
    problems = []
    for name, lookup in routes.lookups.items():
        mark = routes.lookup_marks[name]
        try:
            _require(lookup)
        except ValueError as error:
            problems.append(str(Problem(settings.routes, mark.line, mark.column, f"{mark.path}: {error}")))
    if problems:
        raise StartError(*problems)


def _require(lookup: Lookup) -> None:
    match lookup.inquiry:
        case Function() as function:
            find(function.name)
        case Statement() as statement:
            # it loads SQLAlchemy, for those who have such a lookup
            from sidecar.lookups.drivers import driver_of

            try:
                driver_of(statement.database, lookup.timeout)
            except ValueError as error:
                raise ValueError(f"the variable {statement.database.variable}: {error}") from None
        case _:
            pass
