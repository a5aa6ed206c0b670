"""Composes the sources of lookups: settings and routes → who is asked. Nothing is opened."""

from __future__ import annotations

from sidecar.config.routes.file import RoutesFile
from sidecar.config.setting_table import Settings
from sidecar.config.shapes import Problem
from sidecar.gate.function import Function
from sidecar.lookups.function import find
from sidecar.run.errors import StartError


def require_functions(settings: Settings, routes: RoutesFile) -> None:
    """Import the functions that lookups name. Raises StartError with the place of each that cannot be called."""
    problems = []
    for name, lookup in routes.lookups.items():
        if isinstance(lookup.inquiry, Function):
            mark = routes.lookup_marks[name]
            try:
                find(lookup.inquiry.name)
            except ValueError as error:
                problems.append(str(Problem(settings.routes, mark.line, mark.column, f"{mark.path}: {error}")))
    if problems:
        raise StartError(*problems)
