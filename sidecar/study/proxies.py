"""Warnings about proxies that ask the sidecar and forward by themselves: which routes they get no decision about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sidecar.config.routes.file import RoutesFile
from sidecar.gate.ask import Ask
from sidecar.gate.routing import WEBSOCKET, Route
from sidecar.wire.grammar import BODILESS_METHODS


class Asking(NamedTuple):
    """Ways by which proxies ask, as the settings have them: the proxy of forward-auth, "off" for none, and whether
    Envoy asks by ext_authz and by ext_proc."""

    forward_auth: str = "off"
    ext_authz: bool = False
    ext_proc: bool = False


class _Lack(NamedTuple):
    """Part of a method that a door does not get. `word` is what needs it in the route file, `key` where that stands."""

    why: str
    word: str
    key: str


def warnings(routes: RoutesFile, file: str, asking: Asking) -> Iterator[str]:
    """Yield the routes that are always refused with `proxy_unable` where a proxy asks, with their places in `file`."""
    doors = []
    if asking.forward_auth != "off":
        doors.append((f"SIDECAR_FORWARD_AUTH={asking.forward_auth}", asking.forward_auth, True))
    if asking.ext_authz:
        doors.append(("SIDECAR_EXT_AUTHZ_LISTEN", "envoy", False))
    for route in routes.table.routes:
        for setting, proxy, forward_auth in doors:
            for lack, methods in _lacks(route, forward_auth=forward_auth).items():
                text = (
                    f"found {lack.word} and {setting}, expected no such route where {proxy} asks: it "
                    f"shows the sidecar no {lack.why}, so that {', '.join(methods)} {route.name} is 501 proxy_unable "
                    "there: " + _next_step(lack, proxy, asking)
                )
                yield routes.told_at(file, route, text, lack.key)


def _next_step(lack: _Lack, proxy: str, asking: Asking) -> str:
    through = "send these requests through the sidecar's own port"
    if proxy != "envoy" or lack.key == "actions":
        return through
    by = "by the filter of SIDECAR_EXT_PROC_LISTEN" if asking.ext_proc else "by ext_proc (SIDECAR_EXT_PROC_LISTEN)"
    return f"{through}, or let Envoy ask {by}"


def _lacks(route: Route, *, forward_auth: bool) -> dict[_Lack, list[str]]:
    """Return what a door does not get, with the methods that need it."""
    found: dict[_Lack, list[str]] = {}
    for method in route.actions:
        lack = _lack(route, method, route.asks[method], forward_auth=forward_auth)
        if lack is not None:
            found.setdefault(lack, []).append(method)
    return found


def _lack(route: Route, method: str, ask: Ask, *, forward_auth: bool) -> _Lack | None:
    if method == WEBSOCKET:
        return _Lack("WebSocket to be one", "the action WS", "actions") if forward_auth else None
    if (word := _of_answer(route, ask)) is not None:
        return _Lack("answers of the app", *word)
    if not forward_auth or method in BODILESS_METHODS:
        return None
    if ask.operations is not None:
        return _Lack("bodies", "`graphql`", "graphql")
    return _Lack("bodies", "a reference to the body", "actions") if ask.needs_body or ask.form is not None else None


def _of_answer(route: Route, ask: Ask) -> tuple[str, str] | None:
    """Return what needs the app's answer, and where it stands; None where nothing does."""
    if route.binds_sessions or (ask.operations is not None and ask.needs_answer):
        return "`mcp`", "mcp"
    if ask.answer_lookup is not None:
        return "`lookup: {from: answer}`", "lookup"
    return ("`items` or `fields`", "items") if ask.needs_answer else None
