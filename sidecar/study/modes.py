"""Notes and warnings about modes: which routes refuse what, and what passes beside those that enforce."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.config.routes.file import RoutesFile
from sidecar.gate.mode import Mode, RouteMode, strictest
from sidecar.gate.routing import Rest, Route, RouteTable


def notes(table: RouteTable, mode: Mode) -> list[str]:
    """List what is in which mode, where it is not the enforcing one. `mode` is that of the settings."""
    found = [f"SIDECAR_MODE: {mode}, where a route has no mode of its own"] if mode != "enforce" else []
    places: dict[RouteMode, list[str]] = {}
    for route in table.routes:
        for own, methods in _modes(route).items():
            places.setdefault(own, []).append(f"{route.name} ({methods})" if methods else route.name)
    return found + [
        f"mode {own}: {', '.join(routes)}" for own, routes in places.items() if own.of("") != mode or own.varies
    ]


def _modes(route: Route) -> dict[RouteMode, str]:
    """Each mode of a route, with its methods, "" for all of them."""
    methods: dict[RouteMode | None, list[str]] = {}
    for method in route.actions:
        methods.setdefault(route.asks[method].mode, []).append(method)
    return {
        own: "" if own == route.mode and len(methods) == 1 else ", ".join(sorted(names))
        for own, names in methods.items()
        if own is not None
    }


def warnings(routes: RoutesFile, file: str, mode: Mode) -> Iterator[str]:
    """Yield what lets more through than its author is likely to mean, with the places in `file`."""
    table = routes.table
    for route in table.routes:
        for own, methods in _modes(route).items():
            if own.budget is not None:
                place = f"{methods} {route.name}" if methods else route.name
                text = (
                    f"{place}: found a budget, which puts it into {own.otherwise} for everybody after more than "
                    f"{own.budget}, expected none, unless you would sooner let too much through than refuse too much"
                )
                yield routes.told_at(file, route, text, f"{methods.partition(', ')[0]}.mode", "mode")
    yield from _of_wildcards(routes, file, mode)
    if mode == "shadow" and table.modes and strictest(*table.modes) != "shadow":
        enforcing = next(route.name for route in table.routes if any(own.modes - {"shadow"} for own in _modes(route)))
        yield (
            f"SIDECAR_MODE: found shadow, and {enforcing} is stricter, expected enforce or shadow-policy, and `mode: "
            f"shadow` on other routes: in shadow a path that no route names is forwarded, and the app may read one as "
            f"{enforcing}"
        )


def _of_wildcards(routes: RoutesFile, file: str, mode: Mode) -> Iterator[str]:
    """Yield the wildcards in shadow that take other spellings of what is enforced below them."""
    table = routes.table
    for route in table.routes:
        prefix = route.segments[:-1]
        if not isinstance(route.segments[-1], Rest) or "shadow" not in _modes_of(route, mode):
            continue
        for other in table.routes:
            if other is not route and other.segments[: len(prefix)] == prefix and _modes_of(other, mode) - {"shadow"}:
                text = (
                    f"{route.name}: found shadow on a wildcard, and {other.name} below it is stricter, expected "
                    f"shadow-policy or enforce: the app may read as {other.name} what only the wildcard takes"
                )
                yield routes.told_at(file, route, text, "mode")
                break


def _modes_of(route: Route, mode: Mode) -> frozenset[Mode]:
    """The modes in which somebody may be on a route."""
    found = [ask.mode.modes if ask.mode is not None else frozenset((mode,)) for ask in route.asks.values()]
    return frozenset().union(*found)
