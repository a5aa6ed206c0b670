"""Status of a process: whether it is ready, its gauges, and the configuration in force."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from sidecar.config.parsers import Address
from sidecar.config.setting_table import SETTINGS, Settings
from sidecar.gate.gate import Gate
from sidecar.gate.mode import MODES, RouteMode
from sidecar.gate.routing import Route
from sidecar.pdp.policy_reload import PolicyState
from sidecar.record.journal import Journal
from sidecar.record.metrics import Gauge
from sidecar.run.deciding import Deciding
from sidecar.run.parts import Parts
from sidecar.run.reload import Reload


class ProcessStatus:
    """Of one process. Whoever serves says when it is `draining`, and how many `connections` there are."""

    def __init__(self, deciding: Deciding, gate: Gate, reload: Reload, parts: Parts, journal: Journal) -> None:
        self.draining = False
        self.connections: Callable[[], int] = lambda: 0
        self._deciding = deciding
        self._gate = gate
        self._reload = reload
        self._upstream = parts.upstream
        self._rooms = parts.rooms
        self._candidate = parts.candidate
        self._journal = journal
        self._pdp_serving = False

    def readiness(self) -> dict[str, bool]:
        """Return what `/readyz` tells: ready only when keys, the PDP and routes are, while the decision log takes
        lines, and until the sidecar begins to stop."""
        return {
            "pdp" if self._deciding.settings.pdp else "cerbos": self._pdp_serving,
            "keys": self._deciding.configured.keys.ready, "routes": True, "log": not self._journal.refuses,
            "serving": not self.draining,
        }  # fmt: skip

    def serves(self) -> bool:
        """Return whether a new question would be answered: what gRPC's health service tells."""
        return all(self.readiness().values())

    def remarks(self) -> dict[str, str]:
        """Return what `/readyz` tells besides: the mode, how the last reload of the routes went, that of policies that
        are ours to reload, which apps are not asked since they do not answer, and which routes are not enforced any
        more since their budget is spent."""
        policies = self._policies
        away = [app.name or "SIDECAR_UPSTREAM" for app in self._upstream.states() if app.is_open]
        spent = [route for route, _, mode in self._modes() if mode.budget is not None and mode.budget.spent]
        return (
            {"mode": self._deciding.settings.mode, "reload": self._reload.readiness()}
            | ({"policies": policies.readiness()} if policies is not None else {})
            | ({"upstreams_away": ", ".join(away)} if away else {})
            | ({"not_enforced": ", ".join(dict.fromkeys(spent))} if spent else {})
        )

    async def watch_pdp(self) -> None:
        """Keep up with what the PDP says of itself."""
        pdp = self._deciding.pdp
        while True:
            self._pdp_serving = await pdp.serving()
            await asyncio.sleep(1.0 if self._pdp_serving else pdp.probe_every)

    def gauges(self) -> Iterator[Gauge]:
        """Yield what of this process stands in the metrics beside its counts."""
        deciding, reload = self._deciding, self._reload
        yield "sidecar_workers", (), 1
        for mode in MODES:
            yield "sidecar_mode", (mode,), mode == deciding.settings.mode
        for route, method, own in self._modes():
            for mode, share in own.shares().items():
                yield "sidecar_route_mode", (route, method, mode), share
            if own.budget is not None:
                yield "sidecar_budget_spent", (route, method), own.budget.spent
        yield "sidecar_connections", (), self.connections()
        yield from self._apps()
        yield from self._asking()
        for cache, size in self._remembered():
            yield "sidecar_remembered_bytes", (cache,), size
        yield from self._held()
        yield "sidecar_decision_log_waiting_bytes", (), self._journal.waiting
        questions = self._journal.questions
        yield "sidecar_question_log_stopped", (), questions is not None and bool(questions.fault)
        yield "sidecar_candidate_failed", (), self._candidate is not None and self._candidate.failed
        for part, ready in self.readiness().items():
            yield "sidecar_ready", (part,), ready
        for issuer, age in deciding.configured.keys.ages().items():
            yield "sidecar_key_age_seconds", (issuer,), age
        yield "sidecar_config_generation", (), reload.generation
        yield "sidecar_config_reload_success", (), not reload.fault
        yield "sidecar_config_loaded_timestamp_seconds", (), reload.loaded_at
        yield "sidecar_config_agreed", (), deciding.configured.routes.checksum
        if self._policies is not None:
            yield "sidecar_policies_generation", (), self._policies.generation
            yield "sidecar_policies_reload_success", (), not self._policies.fault
            yield "sidecar_policies_loaded_timestamp_seconds", (), self._policies.loaded_at
        if deciding.embedded is not None:
            yield "sidecar_cerbos_restarts", (), deciding.embedded.restarts

    def _held(self) -> Iterator[Gauge]:
        """Yield what bodies and answers take that are held, and the room that there is for them."""
        for place, room in (("memory", self._rooms.memory), ("disk", self._rooms.disk)):
            yield "sidecar_held_bytes", (place,), room.used
            yield "sidecar_held_limit_bytes", (place,), room.most

    def _modes(self) -> Iterator[tuple[str, str, RouteMode]]:
        """Yield the modes that routes and methods have of their own, with the method, `*` for all of a route."""
        for route in self._deciding.configured.routes.table.routes:
            found = {method: route.asks[method].mode for method in route.actions}
            if len({id(mode) for mode in found.values()}) == 1:
                found = {"*": next(iter(found.values()))}
            yield from ((route.name, method, mode) for method, mode in found.items() if mode is not None)

    def _apps(self) -> Iterator[Gauge]:
        for app in self._upstream.states():
            yield "sidecar_upstream_connections", (app.name, "idle"), app.idle
            yield "sidecar_upstream_connections", (app.name, "busy"), app.busy
            yield "sidecar_breaker_open", ("upstream", app.name), app.is_open

    def _asking(self) -> Iterator[Gauge]:
        pdp, hooks = self._deciding.pdp, self._deciding.hooks
        yield "sidecar_breaker_open", ("pdp", ""), pdp.is_open
        for name, is_open in hooks.breakers().items():
            yield "sidecar_breaker_open", ("lookup", name), is_open
        lookups = [("lookup", name, shares) for name, shares in hooks.shares.items()]
        for dep, name, shares in (("pdp", "", pdp.shares), *lookups):
            yield "sidecar_questions", (dep, name, "under_way"), shares.under_way
            yield "sidecar_questions", (dep, name, "waiting"), shares.waiting
        for name, overdue in self._deciding.functions.overdue().items():
            yield "sidecar_questions", ("lookup", name, "overdue"), overdue
        yield "sidecar_pdp_questions", (), pdp.questions
        yield "sidecar_pdp_calls", (), pdp.calls

    def _remembered(self) -> Iterator[tuple[str, int]]:
        rules = self._gate.rules
        yield "token", rules.tokens.remembered
        yield "lookup", self._deciding.hooks.remembered
        if rules.decisions is not None:
            yield "decision", rules.decisions.remembered

    @property
    def _policies(self) -> PolicyState | None:
        """Which policies are in force, None where we do not put them into force."""
        return self._deciding.policies.state if self._deciding.policies is not None else None

    def config(self) -> dict[str, Any]:
        """Return what `/config` shows: settings without secrets, and the routes in force."""
        settings, configured = self._deciding.settings, self._deciding.configured
        shown = {
            setting.variable: "(set)"
            if setting.secret and getattr(settings, setting.field)
            else _shown(setting.field, settings)
            for setting in SETTINGS
        }
        table = configured.routes.table
        return {
            "settings": shown, "generation": self._reload.generation, "reload": self._reload.readiness(),
            "routes": [_shown_route(route) for route in table.routes],
            "issuers": list(configured.trust.issuers),
            "policies": self._policies.shown() if self._policies is not None else {},
            "candidate": self._candidate.shown() if self._candidate is not None else {},
            "question_log": questions.shown() if (questions := self._journal.questions) is not None else {},
        }  # fmt: skip


def _shown_route(route: Route) -> dict[str, Any]:
    """A route, with the mode of each method that has one of its own."""
    modes = {method: str(route.asks[method].mode) for method in route.actions if route.asks[method].mode is not None}
    shown: dict[str, Any] = {"path": route.path, "access": route.access, "actions": dict(route.actions)}
    if route.hosts:
        shown["hosts"] = list(route.hosts)
    if route.upstream is not None:
        shown["upstream"] = route.upstream.name
    return {**shown, "modes": modes} if modes else shown


def _shown(name: str, settings: Settings) -> Any:
    value = getattr(settings, name)
    if isinstance(value, frozenset | tuple) and not isinstance(value, Address):
        return sorted(map(str, value))
    return value if isinstance(value, int | float) else str(value)
