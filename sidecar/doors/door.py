"""Skeleton of every door: clock, request id, trace, decision, log record and the sidecar's own answers.

A door adds what differs: how it reads the request that it is asked about, whether it can hold the app's answer, and
what it does with a permit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sidecar.doors import answer
from sidecar.doors.refusal import Refusals, status_of
from sidecar.gate.asking import Clock
from sidecar.gate.body import ReadBody
from sidecar.gate.codes import Code
from sidecar.gate.gate import Gate
from sidecar.gate.request import Raw
from sidecar.gate.trace import BeginTrace
from sidecar.gate.verdict import Facts, Forward, Preflight, Refuse, Refused, Verdict
from sidecar.record.journal import Journal, Outcome
from sidecar.record.reasons import ReportFault, report_nothing
from sidecar.wire.http1_request import Head

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Visit(NamedTuple):
    """One request at a door. `started` is when it came, by the door's `timer`. A `delegated` verdict is for another
    proxy to do, which holds the request."""

    raw: Raw
    started: float
    delegated: bool = False


@dataclass(frozen=True, slots=True)
class Door:
    """Shared parts of all doors, created once. `now` gives Unix seconds, `timer` monotonic ones. `report` is told
    of each fault of the app."""

    gate: Gate
    journal: Journal
    refusals: Refusals
    now: Clock
    timer: Clock
    new_id: Callable[[], str]
    begin_trace: BeginTrace | None = None
    report: ReportFault = report_nothing

    def enter(
        self, head: Head, peer: str, scheme: str, *, holds_answer: bool = False, delegated: bool = False
    ) -> Visit:
        """Begin with a request that is already parsed."""
        started = self.timer()
        trace = None if self.begin_trace is None else self.begin_trace(head.headers)
        raw = Raw(
            head.method, head.target, head.headers, peer, scheme, self.new_id(), False, trace, holds_answer
        )  # fmt: skip
        return Visit(raw, started, delegated)

    def traced(self, raw: Raw) -> Raw:
        """The same request with its trace, where requests are traced."""
        return raw if self.begin_trace is None else raw._replace(trace=self.begin_trace(raw.headers))

    def decide(self, raw: Raw, read_body: ReadBody | None) -> Awaitable[Verdict]:
        """Decide a request at the gate, and refuse it without asking anybody where it could leave no line."""
        # no coroutine around the gate's: each request would pay for it
        return _unlogged(raw) if self.journal.refuses else self.gate.decide(raw, read_body)

    async def admit(self, visit: Visit, read_body: ReadBody | None) -> Forward | answer.Answer:
        """Decide a request: the permit, or the answer of ours in place of the app's, which is recorded."""
        verdict = await self.decide(visit.raw, read_body)
        return verdict if isinstance(verdict, Forward) else self.answer(visit, verdict)

    def answer(self, visit: Visit, verdict: Refuse | Preflight) -> answer.Answer:
        """Record a verdict by which nothing goes to the app, and return its answer."""
        if isinstance(verdict, Preflight):
            self.record(visit, verdict, PREFLIGHT)
            return answer.Answer(PREFLIGHT, list(verdict.headers), b"")
        self.record(visit, verdict, status_of(verdict.facts, verdict.client_code))
        return self.refusals.whole(verdict, verdict.client_code, visit.raw)

    def record(
        self, visit: Visit, verdict: Verdict, status: int, fault: Code | None = None, detail: str = "",
        app_status: int | None = None,
    ) -> None:  # fmt: skip
        """Record a verdict with the status that its client gets and the app's own, and what failed after a permit, with
        its detail."""
        self.journal.record(self.outcome(visit, verdict, status, fault, detail, app_status))

    def outcome(
        self, visit: Visit, verdict: Verdict, status: int, fault: Code | None = None, detail: str = "",
        app_status: int | None = None,
    ) -> Outcome:  # fmt: skip
        """Return the same for who records it later."""
        seconds = self.timer() - visit.started
        return Outcome(verdict, status, seconds, fault, visit.delegated, detail, app_status)


PREFLIGHT = 204
"""The status of the answer to a preflight that the sidecar gives itself."""


def raw_of_scope(scope: Scope, request_id: str) -> Raw:
    """Return the request of an ASGI http scope that `net/http_connection.py` made."""
    client = scope["client"]
    peer = client[0] if client else ""
    return Raw(scope["method"], scope["raw_target"], scope["headers"], peer, scope["scheme"], request_id)


async def _unlogged(raw: Raw) -> Refuse:
    return refuse(raw, Refused(Code.LOG_UNAVAILABLE))


def refuse(raw: Raw, refused: Refused, path: str = "") -> Refuse:
    """The refusal of a request that a door could not read, so that no gate saw it."""
    facts = Facts(raw.request_id, raw.method, path, raw.peer, trace=raw.trace, websocket=raw.websocket)
    return Refuse(refused.code, facts, refused.detail, refused.methods)
