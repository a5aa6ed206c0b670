"""One record per verdict: a line of the decision log and the metrics. Never a token, a cookie or a query."""

from __future__ import annotations

import datetime
import json
import logging
import sys
from collections.abc import Callable
from json.encoder import encode_basestring_ascii as _quoted
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from sidecar.gate.codes import Code, Dependency
from sidecar.gate.verdict import Facts, Forward, Refuse, Verdict
from sidecar.record.metrics import Metrics

log = logging.getLogger("sidecar.journal")

Later = Callable[[float, Callable[[], None]], object]
"""Calls something once, so many seconds later: with 0 after what is under way."""


Tell = Callable[[Facts, str, str, int, float, float, bool], None]
"""Told of each verdict for its trace: (facts, outcome, code, status, seconds, Unix time, whether we forwarded it)."""


def at_once(_: float, what: Callable[[], None]) -> None:
    """A Later that does not wait."""
    what()


class Outcome(NamedTuple):
    """Outcome of one request: its verdict, the status that the client got, and what failed after the permit. With
    `told` the verdict was another proxy's to do, and the status that of our answer to it."""

    verdict: Verdict
    status: int
    seconds: float
    fault: Code | None = None
    detail: str = ""
    delegated: bool = False


class Generation(Protocol):
    """Port: which policies are in force, 0 where that is not known."""

    generation: int


class _NoPolicies:
    generation = 0


class Journal:
    """Writes one JSON line per verdict to stdout or a file, counts it, and tells its trace. `now` gives Unix seconds.

    `policies` tells the generation that a decision of Cerbos is logged with.

    The lines of one turn of the loop are written together, at its end; `flush` must be called before the process ends.
    """

    def __init__(
        self, stream: IO[str], metrics: Metrics, now: Callable[[], float], later: Later = at_once,
        tell: Tell | None = None,
    ) -> None:  # fmt: skip
        self._stream = stream
        self.metrics = metrics
        self._now = now
        self._later = later
        self._tell = tell
        self.policies: Generation = _NoPolicies()
        self._lines: list[str] = []
        self._failed = False

    def record(self, outcome: Outcome) -> None:
        """Write one verdict and what became of it. Raises OSError where the lines before could not be written."""
        facts = outcome.verdict.facts
        effect, code = _said(outcome)
        forwarded = not outcome.delegated and isinstance(outcome.verdict, Forward)
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
        if self._tell is not None:
            self._tell(facts, effect, code, outcome.status, outcome.seconds, now, forwarded)
        self._write(_line(outcome, facts, effect, code, now, self.policies.generation))

    def refused_unread(self, status: int, code: Code, peer: str, request_id: str) -> None:
        """Write a refusal of what could not be read as a request, so that no gate saw it."""
        self.metrics.refused_unread(code, status)
        entry = {
            "time": _time(self._now()),
            "event": "decision",
            "request_id": request_id,
            "outcome": "refuse",
            "code": code,
            "status": status,
            "peer": peer,
        }
        self._write(json.dumps(entry) + "\n")

    def note(self, event: str, **fields: str) -> None:
        """Write what somebody did at one of the sidecar's own pages: signed_in, sign_in_failed, signed_out."""
        self._write(json.dumps({"time": _time(self._now()), "event": event, **fields}) + "\n")

    def broken_off(self, facts: Facts, code: Code) -> None:
        """Note that an answer broke off after its head had been sent to the client."""
        if code.dependency is not None:
            self.metrics.dependency(code.dependency, code.fault)
        entry = {"time": _time(self._now()), "event": "broken_off", "request_id": facts.request_id, "code": code}
        self._write(json.dumps({**entry, "route": facts.route}) + "\n")

    def _write(self, line: str) -> None:
        self._lines.append(line)
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

_second: tuple[int, str] = (-1, "")
"""The last second that was written, and how."""


def _time(now: float) -> str:
    global _second
    whole = int(now)
    if whole != _second[0]:
        _second = (whole, datetime.datetime.fromtimestamp(whole, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    return f"{_second[1]}.{int((now - whole) * 1000):03d}+00:00"


def open_stream(target: str) -> IO[str]:
    """The decision log's stream: `stdout`, or a file to append to. Raises OSError."""
    return sys.stdout if target == "stdout" else Path(target).open("a", encoding="utf-8")


def code_of(outcome: Outcome) -> str:
    """Return what failed after the permit, why it was refused, or on what ground it was let through."""
    return _said(outcome)[1]


def _said(outcome: Outcome) -> tuple[str, str]:
    """-> (the effect of the verdict, its code)."""
    verdict, fault = outcome.verdict, outcome.fault
    if isinstance(verdict, Forward):
        shadowed = verdict.would_refuse
        return ("allow", fault or verdict.ground) if shadowed is None else ("shadow_refuse", fault or shadowed)
    if isinstance(verdict, Refuse):
        return "refuse", fault or verdict.code
    return "allow", fault or "preflight"


_LINE = (
    '{"time": "%s", "event": "decision", "request_id": %s, "outcome": "%s", "code": %s, "status": %d, "method": %s, '
    '"path": %s, "route": %s, "principal": %s, "kind": %s, "id": %s, "action": %s, "peer": %s, "ms": {%s}, '
    '"total_ms": %.3f%s}\n'
)


def _line(outcome: Outcome, facts: Facts, effect: str, code: str, now: float, generation: int) -> str:
    # ASCII with escapes: no line separator of Unicode can end a line early (R22)
    return _LINE % (
        _time(now), _quoted(facts.request_id), effect, _quoted(code), outcome.status, _quoted(facts.method),
        _quoted(facts.path), _quoted(facts.route), _quoted(facts.principal), _quoted(facts.kind),
        _quoted(facts.resource_id), _quoted(facts.action), _quoted(facts.peer),
        ", ".join([f'"{stage}": {seconds * 1000:.3f}' for stage, seconds in facts.stages.items()]),
        outcome.seconds * 1000, _more(outcome, facts, code, generation),
    )  # fmt: skip


def _more(outcome: Outcome, facts: Facts, code: str, generation: int) -> str:
    """Write the fields that only some lines have."""
    more = ""
    failed = _FAULTS.get(code)
    if failed is not None:
        more = f', "dep": "{failed[0]}", "fault": {_quoted(failed[1])}'
    if facts.trace is not None:
        more += f', "trace_id": "{facts.trace.trace_id}"'
    if facts.cache:
        more += f', "cache": {_quoted(facts.cache)}'
    if facts.call_id:
        more += f', "call_id": {_quoted(facts.call_id)}, "policy": {_quoted(facts.policy)}'
        if generation:
            more += f', "policies": {generation}'
    detail = outcome.detail
    if isinstance(outcome.verdict, Refuse):
        detail = detail or outcome.verdict.detail
        if outcome.verdict.told_as is not None:
            more += f', "told": {_quoted(outcome.verdict.told_as)}'
    if detail:
        more += f', "detail": {_quoted(detail[:256])}'
    return more
