"""One record per verdict: a line of the decision log and the metrics. Never a token, a cookie or a query."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from sidecar.gate.codes import Code, Dependency, Ground
from sidecar.gate.routing import WEBSOCKET
from sidecar.gate.verdict import Facts, Forward, Refuse, Verdict
from sidecar.record import line
from sidecar.record.line import MAX_HOST, MAX_ROLES, BrokenOff, Effect, Line, Mode, Unread
from sidecar.record.metrics import Metrics

log = logging.getLogger("sidecar.journal")

Later = Callable[[float, Callable[[], None]], object]
"""Calls a function once after a delay in seconds; 0 means after the current callbacks."""


EndTrace = Callable[[Facts, str, str, int, float, float, bool], None]
"""Ends the trace of a verdict: (facts, outcome, code, status, seconds, Unix time, whether the sidecar forwarded it)."""


def at_once(_: float, what: Callable[[], None]) -> None:
    """A Later that does not wait."""
    what()


class Outcome(NamedTuple):
    """Outcome of one request: its verdict, the status that the client got, and what failed after the permit. A
    `delegated` verdict was another proxy's to do, and the status that of our answer to it. `detail` says more of the
    fault, for the log only."""

    verdict: Verdict
    status: int
    seconds: float
    fault: Code | None = None
    delegated: bool = False
    detail: str = ""


class Generation(Protocol):
    """Port: which policies are in force, 0 where that is not known."""

    generation: int


class _NoPolicies:
    generation = 0


class Journal:
    """Writes one JSON line per verdict to stdout or a file, counts it, and ends its trace. `now` gives Unix seconds.

    `policies` tells the generation that a decision of Cerbos is logged with.

    The lines of one turn of the loop are written together, at its end; `flush` must be called before the process ends.
    """

    def __init__(
        self, stream: IO[str], metrics: Metrics, now: Callable[[], float], later: Later = at_once,
        end_trace: EndTrace | None = None, *, shadow: bool = False,
    ) -> None:  # fmt: skip
        self._stream = stream
        self.metrics = metrics
        self._now = now
        self._later = later
        self._end_trace = end_trace
        self._mode: Mode = "shadow" if shadow else "enforce"
        self.policies: Generation = _NoPolicies()
        self._lines: list[str] = []
        self._failed = False

    def record(self, outcome: Outcome) -> None:
        """Write one verdict and what became of it. Raises OSError where the lines before could not be written."""
        verdict = outcome.verdict
        facts = verdict.facts
        effect, code = _effect_and_code(verdict, outcome.fault)
        forwarded = not outcome.delegated and isinstance(verdict, Forward)
        self.metrics.request(
            facts.route or "-", effect, code, outcome.status, outcome.seconds, facts.stages, forwarded
        )  # fmt: skip
        failed = _FAULTS.get(code)
        if failed is not None and failed[0] not in _COUNTING:
            # these count for themselves: their faults come without requests, and requests without their faults
            self.metrics.dependency(*failed)
        if facts.cache:
            self.metrics.remembered("decision", facts.cache)
        now = self._now()
        if self._end_trace is not None:
            self._end_trace(facts, effect, code, outcome.status, outcome.seconds, now, forwarded)
        asked, roles = facts.call_id != "", facts.roles
        rare = _NOTHING_RARE if code is _ALLOWED and len(roles) <= MAX_ROLES else _rare(outcome, failed)
        self._add(
            line.decision_text(
                line.time_text(now), facts.request_id, self._mode, effect, code, outcome.status,
                WEBSOCKET if facts.websocket else facts.method, facts.host[:MAX_HOST], facts.path, facts.route,
                facts.principal, roles[:MAX_ROLES], facts.kind, facts.resource_id, facts.action, facts.peer,
                line.times_text(facts.stages, 1000.0), outcome.seconds * 1000, facts.call_id if asked else None,
                facts.policy if asked else None, (self.policies.generation or None) if asked else None,
                facts.cache or None, facts.trace.trace_id if facts.trace is not None else None, rare,
            )
        )  # fmt: skip

    def refused_unread(self, status: int, code: Code, peer: str, request_id: str) -> None:
        """Write a refusal of what could not be read as a request, so that no gate saw it."""
        self.metrics.refused_unread(code, status)
        self.write(Unread(self.time(), request_id, self._mode, "refuse", code, status, peer))

    def broken_off(self, facts: Facts, code: Code) -> None:
        """Write that an answer broke off after its head had been sent to the client."""
        if code.dependency is not None:
            self.metrics.dependency(code.dependency, code.fault)
        self.write(BrokenOff(self.time(), facts.request_id, code, facts.route))

    def time(self) -> str:
        """Return the time as a line has it."""
        return line.time_text(self._now())

    def write(self, record: Line) -> None:
        """Write a line. Raises OSError where the lines before could not be written."""
        self._add(line.write(record))

    def _add(self, text: str) -> None:
        self._lines.append(text)
        if self._failed:
            # a request that leaves no line must not look as if all were well
            self.flush()
        elif len(self._lines) == 1:
            self._later(0.0, self._flush)

    def flush(self) -> None:
        """Write what was recorded. Raises OSError."""
        lines, self._lines = self._lines, []
        if lines:
            self._failed = True
            self._stream.write("".join(lines))
            self._stream.flush()
            self._failed = False

    def _flush(self) -> None:
        try:
            self.flush()
        except OSError:
            log.exception("the decision log cannot be written")


_COUNTING = (Dependency.JWKS, Dependency.IDP)
_FAULTS: dict[str, tuple[Dependency, str]] = {
    code: (code.dependency, code.fault) for code in Code if code.dependency is not None
}
"""Codes that tell of a dependency, found by their text: a ground or a preflight is none of them."""

_ALLOWED = Ground.ALLOWED
_NOTHING_RARE: Mapping[str, str | int] = {}


def _rare(outcome: Outcome, failed: tuple[Dependency, str] | None) -> dict[str, str | int]:
    """The fields of a decision that the line of an allowed request does not have."""
    fields: dict[str, str | int] = {}
    verdict, detail = outcome.verdict, outcome.detail
    more_roles = len(verdict.facts.roles) - MAX_ROLES
    if more_roles > 0:
        fields["roles_cut"] = more_roles
    if failed is not None:
        fields |= {"dep": failed[0], "fault": failed[1]}
    if isinstance(verdict, Refuse):
        if verdict.masked_as is not None:
            fields["told"] = verdict.masked_as
        detail = detail or verdict.detail
    if detail:
        fields["detail"] = line.detail_text(detail)
    return fields


def open_stream(target: str) -> IO[str]:
    """The decision log's stream: `stdout`, or a file to append to. Raises OSError."""
    return sys.stdout if target == "stdout" else Path(target).open("a", encoding="utf-8")


def code_of(verdict: Verdict) -> str:
    """Return why a request was refused, or on what ground it was let through."""
    return _effect_and_code(verdict, None)[1]


def _effect_and_code(verdict: Verdict, fault: Code | None) -> tuple[Effect, str]:
    """-> (the effect of the verdict, its code)."""
    if isinstance(verdict, Forward):
        shadowed = verdict.would_refuse
        return ("allow", fault or verdict.ground) if shadowed is None else ("shadow_refuse", fault or shadowed)
    if isinstance(verdict, Refuse):
        return "refuse", fault or verdict.code
    return "allow", fault or "preflight"
