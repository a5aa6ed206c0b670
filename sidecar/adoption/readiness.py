"""Rules that say whether it is time to enforce: for all routes, and for each of them.

The time is that of the last line: a report of the same logs is the same on any day.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from sidecar.adoption.causes import LabeledEnum
from sidecar.adoption.sighting import Relation, Where
from sidecar.adoption.tally import Group, Key, RouteCount, Tally, TrafficSpan

DAY = 86_400.0
HELD_BY = (Relation.WOULD_BREAK, Relation.APP_KNOWS_MORE)
"""Differences of which a new one says that more are to come."""


class Thresholds(NamedTuple):
    """Bounds of the rules. `undecided` and `routes` are shares, `days` and `quiet` days, `seen` is a number of
    requests."""

    days: float = 7.0
    quiet: float = 3.0
    routes: float = 0.9
    undecided: float = 0.001
    seen: int = 2


class ReadinessRule(NamedTuple):
    """A rule and what was found. `met` is None where the logs alone do not tell."""

    name: str
    met: bool | None
    found: str
    expected: str


class RouteState(LabeledEnum):
    """State of a route."""

    READY = "ready", "ready"
    NOT_READY = "not_ready", "not ready"
    ENFORCED = "enforced", "enforced"
    UNSEEN = "unseen", "not seen"


class RouteReadiness(NamedTuple):
    """State of a route, and the rules that it does not meet."""

    where: Where
    state: RouteState
    unmet: tuple[ReadinessRule, ...]
    counted: RouteCount | None = None


@dataclass(frozen=True)
class Readiness:
    """Answer to the question whether to enforce. `share` is that of the mapped routes that were seen, None where they
    are not known."""

    ready: bool
    sentence: str
    rules: tuple[ReadinessRule, ...]
    routes: tuple[RouteReadiness, ...]
    days: float
    newest: str
    share: float | None


def seconds_of(time: str) -> float:
    """Return the field `time` as Unix seconds."""
    return datetime.datetime.fromisoformat(time).timestamp()


def days_between(first: str, last: str) -> float:
    """Return the days from one time to another."""
    return (seconds_of(last) - seconds_of(first)) / DAY if first and last else 0.0


class Judge:
    """Applies the rules to counts. `intended` are the ids of groups that a person wants refused, or left to the app."""

    def __init__(self, tally: Tally, thresholds: Thresholds, intended: Collection[str]) -> None:
        self._tally = tally
        self._bounds = thresholds
        self.days = days_between(tally.span.first, tally.span.last)
        self._groups = [
            group for relation in HELD_BY for key, group in tally.groups[relation].items() if key.id not in intended
        ]  # fmt: skip
        self.newest = self._newest(self._groups, [tally.beyond[one].last for one in HELD_BY if one in tally.beyond])
        self._of_route: dict[Where, list[Group]] = {}
        for group in self._groups:
            self._of_route.setdefault(group.key.where, []).append(group)

    def judge(self, mapped: Collection[Where] | None) -> Readiness:
        """Return whether to enforce; `mapped` are the routes of routes.yaml, None where they are not known."""
        routes = tuple(self._of_routes(mapped))
        share = self._share(mapped) if mapped is not None else None
        beyond = self._tally.beyond.get(Relation.WOULD_BREAK, TrafficSpan())
        rules = (
            self._watched(), self._quiet(self.newest), self._breaks(self._groups, beyond),
            self._undecided(self._tally.span.requests, _requests(self._tally, Relation.UNDECIDED)),
            self._seen(share),
        )  # fmt: skip
        ready = all(rule.met for rule in rules)
        return Readiness(ready, _sentence(ready, rules, routes), rules, routes, self.days, self.newest, share)

    # --- rules ---

    def _watched(self) -> ReadinessRule:
        bound = self._bounds.days
        met = self.days >= bound
        return ReadinessRule(
            "watched", met, f"watched for {_days(self.days)}{'' if met else ' only'}", f"at least {_days(bound)}"
        )  # fmt: skip

    def _quiet(self, newest: str) -> ReadinessRule:
        ago = days_between(newest, self._tally.span.last)
        found = f"the last new difference came {_days(ago)} before the last request" if newest else "no difference"
        return ReadinessRule(
            "quiet", not newest or ago >= self._bounds.quiet, found, f"none new for {_days(self._bounds.quiet)}"
        )

    def _breaks(self, groups: Iterable[Group], beyond: TrafficSpan) -> ReadinessRule:
        late = [
            group for group in groups if group.key.relation is Relation.WOULD_BREAK and self._is_late(group.span.last)
        ]
        more = 1 if beyond.requests and self._is_late(beyond.last) else 0
        count = len(late) + more
        period = f"of the last {_days(self._bounds.quiet)}"
        kinds = f"{count}{'+' if more else ''} kind{'s' * (count > 1)}" if count else "none"
        found = f"{kinds} of the requests {period} would break"
        expected = f"no request {period} would break"
        return ReadinessRule("nothing_breaks", not count, found, expected)

    def _undecided(self, requests: int, undecided: int) -> ReadinessRule:
        share = undecided / requests if requests else 0.0
        bound = self._bounds.undecided
        return ReadinessRule(
            "decided", share <= bound, f"{_percent(share)} could not be decided", f"at most {_percent(bound)}"
        )

    def _seen(self, share: float | None) -> ReadinessRule:
        expected = f"at least {_percent(self._bounds.routes)} of the routes seen"
        if share is None:
            return ReadinessRule("routes_seen", None, "routes that nobody used are not known (give --routes)", expected)
        return ReadinessRule(
            "routes_seen", share >= self._bounds.routes, f"{_percent(share)} of the routes seen", expected
        )

    def _is_late(self, time: str) -> bool:
        return days_between(time, self._tally.span.last) < self._bounds.quiet

    # --- routes ---

    def _share(self, mapped: Collection[Where]) -> float:
        """The share of these routes that were seen often enough."""
        seen = [where in self._tally.routes and self._is_seen(self._tally.routes[where]) for where in mapped]
        return sum(seen) / len(seen) if seen else 0.0

    def _is_seen(self, count: RouteCount) -> bool:
        return count.span.requests >= self._bounds.seen

    def _of_routes(self, mapped: Collection[Where] | None) -> Iterable[RouteReadiness]:
        seen = self._tally.routes
        for where in sorted(set(seen) | set(mapped or ()), key=lambda where: (where.route, where.method)):
            count = seen.get(where)
            if count is None:
                yield RouteReadiness(where, RouteState.UNSEEN, ())
            elif count.enforced:
                yield RouteReadiness(where, RouteState.ENFORCED, (), count)
            else:
                unmet = tuple(rule for rule in self._rules_of(where, count) if not rule.met)
                yield RouteReadiness(where, RouteState.NOT_READY if unmet else RouteState.READY, unmet, count)

    def _rules_of(self, where: Where, count: RouteCount) -> Iterable[ReadinessRule]:
        groups = self._of_route.get(where, [])
        undecided = count.relations.get(Relation.UNDECIDED, TrafficSpan()).requests
        yield self._watched()
        yield ReadinessRule(
            "seen", self._is_seen(count), f"seen {_times(count.span.requests)}", f"at least {_times(self._bounds.seen)}"
        )
        yield self._quiet(self._newest(groups, []))
        yield self._breaks(groups, self._beyond_of(where))
        yield self._undecided(count.span.requests, undecided)

    def _beyond_of(self, where: Where) -> TrafficSpan:
        """Requests of the route that would break, where not all groups were told apart."""
        if Relation.WOULD_BREAK not in self._tally.beyond:
            return TrafficSpan()
        return self._tally.routes[where].relations.get(Relation.WOULD_BREAK, TrafficSpan())

    @staticmethod
    def _newest(groups: Iterable[Group], beyond: Iterable[str]) -> str:
        """The last time at which a difference was seen that no line before had: another route, cause or roles."""
        firsts: dict[tuple[Where, str, tuple[str, ...]], str] = {}
        for group in groups:
            key = _difference(group.key)
            firsts[key] = min(firsts.get(key, group.span.first), group.span.first)
        return max([*firsts.values(), *beyond], default="")


def _difference(key: Key) -> tuple[Where, str, tuple[str, ...]]:
    return key.where, key.code, key.roles


def _requests(tally: Tally, relation: Relation) -> int:
    return sum(count.get(relation, 0) for count in tally.days.values())


def _sentence(ready: bool, rules: Iterable[ReadinessRule], routes: Collection[RouteReadiness]) -> str:
    if ready:
        return "Enforce: every rule is met."
    unmet = "; ".join(rule.found for rule in rules if not rule.met)
    some = [route for route in routes if route.state is RouteState.READY]
    if not some:
        return f"Do not enforce yet: {unmet}."
    count = f"{len(some)} of {len(routes)} routes {'are' if len(some) > 1 else 'is'} ready"
    return f"Do not enforce everything yet: {unmet}. {count}: enforce those first, with `mode: enforce`."


def _days(days: float) -> str:
    # cut, not rounded: what falls short of a bound must not look as if it met it
    text = f"{math.floor(days * 10) / 10:.1f}".removesuffix(".0")
    return f"{text} day{'' if text == '1' else 's'}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
