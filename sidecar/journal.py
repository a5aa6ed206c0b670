"""One record per verdict: a line of the decision log and the metrics. Never a token, a cookie or a query."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess

from sidecar.gate.verdict import Code, Facts, Forward, Preflight, Refuse, Verdict


class Outcome(NamedTuple):
    """What became of one request: its verdict, the status that the client got, and what failed after the permit."""

    verdict: Verdict
    status: int
    seconds: float
    fault: Code | None = None
    detail: str = ""


class Metrics:
    """The sidecar's Prometheus metrics. `shared` is the folder through which several workers count as one."""

    def __init__(self, shared: str = "") -> None:
        self._shared = shared
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sidecar_requests", "Requests by route, outcome, code and status", ["route", "outcome", "code", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.faults = Counter(
            "sidecar_dep_errors", "Faults of what the sidecar depends on", ["dep", "fault"], registry=self.registry
        )  # fmt: skip
        self.stages = Histogram(
            "sidecar_stage_seconds", "Seconds in each stage of a decision", ["stage"], registry=self.registry,
            buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
        )  # fmt: skip

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format, of all workers."""
        registry = self.registry
        if self._shared:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, self._shared)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def dependency(self, dep: str, fault: str) -> None:
        """Count a fault of what the sidecar depends on."""
        self.faults.labels(dep, fault).inc()


class Journal:
    """Writes one JSON line per verdict to stdout or a file, and counts it. `now` gives Unix seconds."""

    def __init__(self, stream: IO[str], metrics: Metrics, now: Callable[[], float]) -> None:
        self._stream = stream
        self.metrics = metrics
        self._now = now

    def record(self, outcome: Outcome) -> None:
        """Write one verdict and what became of it."""
        facts, code = outcome.verdict.facts, code_of(outcome)
        effect = _effect(outcome.verdict)
        self.metrics.requests.labels(facts.route or "-", effect, code, outcome.status).inc()
        dep, fault = _dependency_of(code)
        if dep and dep != JWKS:
            # the key store counts for itself: its faults come without requests, and requests without its faults
            self.metrics.dependency(dep, fault)
        for stage, seconds in facts.stages.items():
            self.metrics.stages.labels(stage).observe(seconds)
        self._stream.write(_line(outcome, facts, effect, code, self._now()))
        self._stream.flush()

    def refused_unread(self, status: int, code: Code, peer: str, request_id: str) -> None:
        """Write a refusal of what could not be read as a request, so that no gate saw it."""
        self.metrics.requests.labels("-", "refuse", code, status).inc()
        entry = {
            "time": _time(self._now()),
            "event": "decision",
            "request_id": request_id,
            "outcome": "refuse",
            "code": code,
            "status": status,
            "peer": peer,
        }
        self._stream.write(json.dumps(entry) + "\n")
        self._stream.flush()

    def note(self, event: str, **fields: str) -> None:
        """Write what somebody did at one of the sidecar's own pages: signed_in, sign_in_failed, signed_out."""
        self._stream.write(json.dumps({"time": _time(self._now()), "event": event, **fields}) + "\n")
        self._stream.flush()

    def broken_off(self, facts: Facts, code: Code) -> None:
        """Note that an answer broke off after its head had been sent to the client."""
        self.metrics.dependency(*_dependency_of(code))
        entry = {"time": _time(self._now()), "event": "broken_off", "request_id": facts.request_id, "code": code}
        self._stream.write(json.dumps({**entry, "route": facts.route}) + "\n")
        self._stream.flush()


JWKS = "jwks"
_DEPENDENCIES = {
    "keys": JWKS, "pdp": "pdp", "lookup": "lookup", "upstream": "upstream", "session": "sessions", "idp": "idp",
}  # fmt: skip
_OF_CLIENTS = (Code.SESSION_INVALID, Code.SESSION_EXPIRED)


def _dependency_of(code: str) -> tuple[str, str]:
    """What a code says of a dependency: ("pdp", "timeout") for pdp_timeout, ("", "") where it says nothing."""
    dep, _, fault = code.partition("_")
    if code in _OF_CLIENTS:
        return "", ""
    return (_DEPENDENCIES[dep], fault) if dep in _DEPENDENCIES else ("", "")


def _time(now: float) -> str:
    return datetime.datetime.fromtimestamp(now, datetime.UTC).isoformat(timespec="milliseconds")


def open_stream(target: str) -> IO[str]:
    """The decision log's stream: `stdout`, or a file to append to. Raises OSError."""
    return sys.stdout if target == "stdout" else Path(target).open("a", encoding="utf-8")


def code_of(outcome: Outcome) -> str:
    """What failed after the permit, why it was refused, or on what ground it was let through."""
    if outcome.fault is not None:
        return outcome.fault
    match outcome.verdict:
        case Refuse(code=code):
            return code
        case Forward(would_refuse=code) if code is not None:
            return code
        case Forward(ground=ground):
            return ground
        case Preflight():
            return "preflight"


def _effect(verdict: Verdict) -> str:
    match verdict:
        case Refuse():
            return "refuse"
        case Forward(would_refuse=code) if code is not None:
            return "shadow_refuse"
        case Forward() | Preflight():
            return "allow"


def _line(outcome: Outcome, facts: Facts, effect: str, code: str, now: float) -> str:
    entry: dict[str, object] = {
        "time": _time(now),
        "event": "decision",
        "request_id": facts.request_id,
        "outcome": effect,
        "code": code,
        "status": outcome.status,
        "method": facts.method,
        "path": facts.path,
        "route": facts.route,
        "principal": facts.principal,
        "kind": facts.kind,
        "id": facts.resource_id,
        "action": facts.action,
        "peer": facts.peer,
        "ms": {stage: round(seconds * 1000, 3) for stage, seconds in facts.stages.items()},
        "total_ms": round(outcome.seconds * 1000, 3),
    }
    dep, fault = _dependency_of(code)
    if dep:
        entry |= {"dep": dep, "fault": fault}
    if facts.call_id:
        entry |= {"call_id": facts.call_id, "policy": facts.policy}
    detail = outcome.detail or (outcome.verdict.detail if isinstance(outcome.verdict, Refuse) else "")
    if detail:
        entry["detail"] = detail[:256]
    # ASCII with escapes: no line separator of Unicode can end a line early (R22)
    return json.dumps(entry, ensure_ascii=True) + "\n"
