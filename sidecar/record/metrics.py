"""The sidecar's Prometheus metrics: plain numbers that cost a request next to nothing.

Every label's value is one of ours (a stage, a code, an outcome) or one of the configuration's (a route, an issuer, a
lookup): nothing that a client sends becomes one.
"""

from __future__ import annotations

import http
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, Protocol

Labels = tuple[str, ...]
Values = dict[str, dict[Labels, list[float]]]
"""Family -> label values -> its numbers: one, or for a histogram the count of each bucket and the sum of all."""
Gauge = tuple[str, Labels, float]
"""One reading: (family, label values, value)."""

AT_ONCE = 256
"""Requests whose times are held before they are sorted into buckets."""
BOUNDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
UPSTREAM = "upstream"
"""The stage after the gate's: until the head of the app's answer."""


class Family(NamedTuple):
    """One metric. `aggregate` says what it is over several workers: the `sum`, the `max` or `min` of theirs, or whether all
    have the `same`. `first` are label values that are there from the beginning, so that the first event is a rise."""

    kind: str
    labels: Labels
    doc: str
    aggregate: str = "sum"
    first: tuple[Labels, ...] = ()


_CACHES = tuple((cache, outcome) for cache in ("token", "lookup", "decision") for outcome in ("hit", "miss"))

CANDIDATE_RESULTS = ("same", "allow_to_deny", "deny_to_allow", "failed", "dropped")
"""Results of a decision that the candidate policies are asked about."""

FAMILIES: dict[str, Family] = {
    "sidecar_requests": Family(
        "counter", ("route", "outcome", "code", "status"),
        "Requests by route, outcome, code and status; a status that HTTP does not name is counted by its class, as 2xx",
    ),
    "sidecar_stage_seconds": Family(
        "histogram", ("stage",),
        "Seconds in each stage: request, routing, identity, lookup, decision, and upstream until the head of its answer",
    ),
    "sidecar_request_seconds": Family("histogram", ("outcome",), "Seconds until the head of the answer was there"),
    "sidecar_dep_errors": Family("counter", ("dep", "fault"), "Faults of what the sidecar depends on"),
    "sidecar_dep_fault_reasons": Family(
        "counter", ("dep", "reason"),
        "Faults of the app, of lookups and of the PDP by reason; the guide on a 502 lists the reasons",
    ),
    "sidecar_items": Family(
        "counter", ("route", "result"),
        "Items of lists that were kept and dropped, and answers or items of which fields were hidden (masked), by route; "
        "in shadow what enforcing would have done (shadow_kept, shadow_dropped, shadow_masked), and answers of which that is not known (shadow_unjudged)",
    ),
    "sidecar_cache": Family(
        "counter", ("cache", "outcome"), "Looks into what is remembered: verified tokens, lookups and decisions",
    ),
    "sidecar_remembered_bytes": Family(
        "gauge", ("cache",), "Bytes that are remembered of verified tokens, lookups and decisions, as they are estimated",
    ),
    "sidecar_held_bytes": Family(
        "gauge", ("place",), "Bytes that bodies and answers take which are held until they are decided: memory as it is estimated, and disk",
    ),
    "sidecar_held_limit_bytes": Family("gauge", ("place",), "Bytes that they may take together: `SIDECAR_HELD_MEMORY` and `SIDECAR_HELD_DISK` of all workers"),
    "sidecar_questions": Family(
        "gauge", ("dep", "name", "state"),
        "Calls to the PDP and to lookups that are under way, and questions that wait for a place; of a lookup with its name. Calls of a lookup's function that go on though their time is over are overdue",
    ),
    "sidecar_pdp_questions": Family("counter", (), "Questions to the PDP: one for each decision that is not remembered"),
    "sidecar_pdp_calls": Family("counter", (), "Calls in which the PDP was asked; questions of one principal may share one"),
    "sidecar_breaker_open": Family(
        "gauge", ("dep", "name"), "1 where calls are turned away after several failures in a row; of a lookup, and of one of several apps, with its name",
        "max",
    ),
    "sidecar_connections": Family("gauge", (), "Open connections of clients"),
    "sidecar_upstream_connections": Family(
        "gauge", ("upstream", "state"),
        "Connections to the app, busy and idle; of one of several apps with its name in `upstreams`",
    ),
    "sidecar_ready": Family("gauge", ("part",), "1 where this part is ready, as /readyz tells", "min"),
    "sidecar_key_age_seconds": Family("gauge", ("issuer",), "Seconds since the issuer's key set was fetched", "max"),
    "sidecar_config_generation": Family("gauge", (), "1 at the start, and one more for each reload of the routes", "max"),
    "sidecar_config_reloads": Family(
        "counter", ("outcome",), "Reloads of the routes, ok and failed", "sum", (("ok",), ("failed",))
    ),
    "sidecar_config_reload_success": Family("gauge", (), "0 where the route file could not be used at the last look", "min"),
    "sidecar_config_loaded_timestamp_seconds": Family("gauge", (), "When the routes in force were loaded, Unix time", "min"),
    "sidecar_policies_generation": Family(
        "gauge", (), "1 for the policies of the start, and one more for each change that is proven to be in force", "max"
    ),
    "sidecar_policies_reload_success": Family(
        "gauge", (), "0 where the policies could not be put into force at the last look", "min"
    ),
    "sidecar_policies_loaded_timestamp_seconds": Family(
        "gauge", (), "When the policies in force were loaded, Unix time", "min"
    ),
    "sidecar_config_agreed": Family("gauge", (), "1 where all workers have the same routes in force", "same"),
    "sidecar_mode": Family("gauge", ("mode",), "1 for the mode that SIDECAR_MODE names, 0 for the others", "max"),
    "sidecar_route_mode": Family(
        "gauge", ("route", "method", "mode"),
        "Part of the principals that is in this mode, of a route or method with a mode of its own; `*` is each method", "max",
    ),
    "sidecar_budget_spent": Family(
        "gauge", ("route", "method"), "1 where refusals have spent the budget, so that nothing is enforced any more", "max"
    ),
    "sidecar_decision_log_waiting_bytes": Family("gauge", (), "Bytes of the decision log's lines that nobody has taken yet"),
    "sidecar_decision_log_lost": Family(
        "counter", (), "Requests that left no line in the decision log: refused with log_unavailable, or dropped", "sum", ((),)
    ),
    "sidecar_question_log_stopped": Family(
        "gauge", (), "1 where the question log cannot be written, so that nothing is recorded; 0 where it can, or is off", "max"
    ),
    "sidecar_question_log_lost": Family(
        "counter", (), "Requests that the question log lost: they are in the weight of none of its lines", "sum", ((),)
    ),
    "sidecar_candidate": Family(
        "counter", ("result",),
        "Decisions on resources by what the candidate policies say of them: same, allow_to_deny, deny_to_allow, failed (they gave no answer), dropped (too many at once)",
        "sum", tuple((result,) for result in CANDIDATE_RESULTS),
    ),
    "sidecar_candidate_failed": Family(
        "gauge", (), "1 where the candidate policies give no answer; 0 where they do, or there are none", "max"
    ),
    "sidecar_workers": Family("gauge", (), "Processes that serve"),
    "sidecar_worker_restarts": Family("counter", (), "Workers that ended and were replaced", "sum", ((),)),
    "sidecar_cerbos_restarts": Family("counter", (), "Times that the embedded Cerbos ended and was started again", "sum", ((),)),
}  # fmt: skip

_KNOWN = {status: str(int(status)) for status in http.HTTPStatus} | {499: "499"}


class Others(Protocol):
    """Port: what other processes count, and where they find what this one does."""

    def publish(self, values: Values) -> None:
        """Let the others know."""

    def gather(self) -> Iterable[Values]:
        """Return the counts of each of the others."""


class Metrics:
    """Counts for one process, and shows what all of them count. `read` gives the gauges of this one when they are
    wanted; whoever composes sets it."""

    def __init__(self, others: Others | None = None) -> None:
        self.read: Callable[[], Iterable[Gauge]] = lambda: ()
        self._others = others
        self._requests: dict[tuple[str, str, str, int], int] = {}
        self._counts: dict[tuple[str, Labels], float] = {
            (name, labels): 0 for name, family in FAMILIES.items() for labels in family.first
        }
        self._looks = dict.fromkeys(_CACHES, 0)
        self._times: dict[tuple[str, Labels], list[float]] = {}
        self._held: list[tuple[Mapping[str, float], float, str, bool]] = []

    def request(
        self, route: str, outcome: str, code: str, status: int, seconds: float, stages: Mapping[str, float],
        forwarded: bool,
    ) -> None:  # fmt: skip
        """Count a request, with the seconds of each stage and of the whole. `stages` may not be changed any more."""
        key = (route, outcome, code, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        self._held.append((stages, seconds, outcome, forwarded))
        if len(self._held) == AT_ONCE:
            self._sort()

    def refused_unread(self, code: str, status: int) -> None:
        """Count what could not be read as a request, and so has no times."""
        key = ("-", "refuse", code, status)
        self._requests[key] = self._requests.get(key, 0) + 1

    def dependency(self, dep: str, fault: str) -> None:
        """Count a fault of what the sidecar depends on."""
        self._count("sidecar_dep_errors", (dep, fault))

    def reason(self, dep: str, reason: str) -> None:
        """Count a fault by why it happened."""
        self._count("sidecar_dep_fault_reasons", (dep, reason))

    def remembered(self, cache: str, outcome: str) -> None:
        """Count a look into a cache, `token`, `lookup` or `decision`: `hit` or `miss`."""
        self._looks[cache, outcome] += 1

    def reduced(self, route: str, counts: Mapping[str, int | str], *, enforced: bool = True) -> None:
        """Count what was done to an answer of the app, by the numbers of its decision; where it is not `enforced`, what
        would have been done."""
        if "unjudged" in counts:
            self._count("sidecar_items", (route, "shadow_unjudged"))
            return
        seen, kept, masked = (int(counts.get(name, 0)) for name in ("seen", "kept", "masked"))
        for result, number in (("kept", kept), ("dropped", seen - kept), ("masked", masked)):
            self._count("sidecar_items", (route, result if enforced else f"shadow_{result}"), number)

    def reloaded(self, outcome: str) -> None:
        """Count a reload of the routes, `ok` or `failed`."""
        self._count("sidecar_config_reloads", (outcome,))

    def line_lost(self) -> None:
        """Count what leaves no line in the decision log."""
        self._count("sidecar_decision_log_lost", ())

    def candidate(self, result: str, resources: int) -> None:
        """Count decisions by what the candidate policies say of them."""
        self._count("sidecar_candidate", (result,), resources)

    def question_lost(self, requests: int) -> None:
        """Count requests that no line of the question log stands for."""
        self._count("sidecar_question_log_lost", (), requests)

    def _count(self, name: str, labels: Labels, by: int = 1) -> None:
        self._counts[name, labels] = self._counts.get((name, labels), 0) + by

    def _sort(self) -> None:
        """Put the times that are held into buckets, all together: one by one they would cost more than they measure."""
        held, self._held = self._held, []
        columns: dict[tuple[str, Labels], list[float]] = {}
        for stages, seconds, outcome, forwarded in held:
            for stage, spent in stages.items():
                columns.setdefault(("sidecar_stage_seconds", (stage,)), []).append(spent)
            if forwarded:
                spent = max(seconds - sum(stages.values()), 0.0)
                columns.setdefault(("sidecar_stage_seconds", (UPSTREAM,)), []).append(spent)
            columns.setdefault(("sidecar_request_seconds", (outcome,)), []).append(seconds)
        for key, times in columns.items():
            numbers = self._times.setdefault(key, [0.0] * (len(BOUNDS) + 2))
            times.sort()
            below = 0
            for at, bound in enumerate(BOUNDS):
                reached = bisect_right(times, bound)
                numbers[at] += reached - below
                below = reached
            numbers[-2] += len(times) - below
            numbers[-1] += sum(times)

    def values(self) -> Values:
        """Return the counts of this process."""
        self._sort()
        values: Values = {name: {} for name in FAMILIES}
        requests = values["sidecar_requests"]
        for (route, outcome, code, status), count in self._requests.items():
            key = (route, outcome, code, _KNOWN.get(status) or f"{status // 100}xx")
            requests[key] = [requests.get(key, [0.0])[0] + count]
        values["sidecar_cache"] = {labels: [count] for labels, count in self._looks.items()}
        for (name, labels), total in self._counts.items():
            values[name][labels] = [total]
        for (name, labels), numbers in self._times.items():
            values[name][labels] = list(numbers)
        for name, labels, reading in self.read():
            values[name][labels] = [reading]
        return values

    def publish(self) -> None:
        """Let the other processes know."""
        if self._others is not None:
            self._others.publish(self.values())

    def of_all(self) -> Values:
        """Return the counts of all processes as one."""
        return merged([self.values(), *(self._others.gather() if self._others is not None else ())])


_OVER: Mapping[str, Callable[[tuple[float, ...]], float]] = {
    "sum": sum, "max": max, "min": min, "same": lambda column: float(len(set(column)) == 1),
}  # fmt: skip


def merged(everybody: Iterable[Values]) -> Values:
    """Merge the counts of several processes."""
    found: dict[str, dict[Labels, list[list[float]]]] = {name: {} for name in FAMILIES}
    for values in everybody:
        for name, samples in values.items():
            for labels, numbers in samples.items():
                found[name].setdefault(labels, []).append(numbers)
    return {
        name: {labels: _aggregate(FAMILIES[name].aggregate, numbers) for labels, numbers in samples.items()}
        for name, samples in found.items()
    }


def _aggregate(how: str, numbers: list[list[float]]) -> list[float]:
    return [_OVER[how](column) for column in zip(*numbers, strict=True)]
