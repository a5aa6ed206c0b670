"""One record per verdict: a line of the decision log and the metrics. Never a token, a cookie or a query."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from sidecar.gate.budget import UNEXPECTED, Budget
from sidecar.gate.codes import Code, Dependency, Ground
from sidecar.gate.mode import Mode
from sidecar.gate.routing import WEBSOCKET
from sidecar.gate.verdict import Facts, Forward, Refuse, Verdict
from sidecar.record import line
from sidecar.record.line import MAX_HOST, MAX_ROLES, BrokenOff, Effect, Line, UnreadLine
from sidecar.record.metrics import Metrics
from sidecar.record.question_log import QuestionLog
from sidecar.record.questions import DecidedRequest

log = logging.getLogger("sidecar.journal")

Later = Callable[[float, Callable[[], None]], object]
"""Calls a function once after a delay in seconds; 0 means after the current callbacks."""


EndTrace = Callable[[Facts, str, str, int, float, float, bool], None]
"""Ends the trace of a verdict: (facts, outcome, code, status, seconds, Unix time, whether the sidecar forwarded it)."""


def at_once(_: float, what: Callable[[], None]) -> None:
    """A Later that does not wait."""
    what()


MAX_WAITING = 4 * 1024 * 1024
"""Bytes of lines that may wait for a reader; with more, no request is taken. Those under way still leave theirs."""
AGAIN_AFTER, SOON = 0.05, 0.001
"""Seconds until lines that were not taken are written again: where none was, and where some were."""
LAST_LINES_WITHIN = 2.0
"""Seconds that the reader has for the last lines before the process ends without them."""


class LineSink(Protocol):
    """Port: where lines go. `waiting` are the bytes that were put there and not taken yet."""

    waiting: int

    def put(self, lines: list[str]) -> None:
        """Take whole lines."""

    def send(self) -> bool:
        """Write what is taken at once; whether nothing is left. Raises OSError where nothing can be written."""

    def follow(self) -> None:
        """Open the file anew where its path leads to another one. Raises OSError."""

    def close(self) -> None:
        """Give the file back."""


class Outcome(NamedTuple):
    """Outcome of one request: its verdict, the status that the client got, and what failed after the permit. A
    `delegated` verdict was another proxy's to do, and the status that of our answer to it. `detail` says more of the
    fault, for the log only. `app_status` is that of the app's own answer, None where it gave none. `waited` are
    the seconds since the answer began, where the record waited for what came after."""

    verdict: Verdict
    status: int
    seconds: float
    fault: Code | None = None
    delegated: bool = False
    detail: str = ""
    app_status: int | None = None
    waited: float = 0.0


class Generation(Protocol):
    """Port: which policies are in force, 0 where that is not known."""

    generation: int


class _NoPolicies:
    generation = 0


class Journal:
    """Writes one JSON line per verdict, counts it, and ends its trace. `now` gives Unix seconds.

    `policies` tells the generation that a decision of Cerbos is logged with. `questions` takes each verdict, and
    `compare`, where whoever composes sets it, is told of each when it has been recorded.

    The lines of one turn of the loop are written together, at its end, as far as they are taken; the others are held.
    Where too many are, it `refuses` further requests, or, with `drops` and in the `mode` shadow, their lines are
    counted and dropped. `aclose` must be called before the process ends.
    """

    def __init__(
        self, lines: LineSink, metrics: Metrics, now: Callable[[], float], later: Later = at_once,
        end_trace: EndTrace | None = None, *, mode: Mode = "enforce", drops: bool = False,
        questions: QuestionLog | None = None,
    ) -> None:  # fmt: skip
        self.refuses = False
        self.questions = questions
        self._out = lines
        self.metrics = metrics
        self._now = now
        self._later = later
        self._end_trace = end_trace
        self._mode: Mode = mode
        self.policies: Generation = _NoPolicies()
        self.compare: Callable[[Verdict], None] | None = None
        self._lines: list[str] = []
        self._may_drop = drops or mode == "shadow"
        self._drops = False
        self._reported_state = _NOTHING
        self._tries_again = False
        self._closed = False

    def record(self, outcome: Outcome) -> None:
        """Write one verdict and what became of it."""
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
        if facts.items is not None:
            self.metrics.reduced(facts.route, facts.items, enforced=facts.mode == "enforce")
        now = self._now()
        if self._end_trace is not None:
            self._end_trace(facts, effect, code, outcome.status, outcome.seconds, now - outcome.waited, forwarded)
        if code is _UNLOGGED:
            self.metrics.line_lost()
            return
        if self.questions is not None:
            self.questions.record(
                DecidedRequest(
                    verdict, facts.mode or self._mode, effect, code, outcome.status, outcome.seconds, outcome.detail,
                    outcome.app_status,
                ), now,
            )  # fmt: skip
        asked, roles = facts.call_id != "", facts.roles
        plain = (
            code in _PLAIN and len(roles) <= MAX_ROLES and facts.items is None and facts.each is None
            and facts.upstream is None
        )  # fmt: skip
        rare = _NOTHING_RARE if plain else _rare(outcome, failed)
        if not plain and facts.budget is not None and code in UNEXPECTED and facts.mode == "enforce":
            self._spend(facts, facts.budget, now)
        self._add(
            line.decision_text(
                line.time_text(now), facts.request_id, facts.mode or self._mode, effect, code, outcome.status,
                WEBSOCKET if facts.websocket else facts.method, facts.host[:MAX_HOST], facts.path, facts.route,
                facts.principal, roles[:MAX_ROLES], facts.kind, facts.resource_id, facts.action, facts.peer,
                line.times_text(facts.stages, 1000.0), outcome.seconds * 1000, facts.call_id if asked else None,
                facts.policy if asked else None, (self.policies.generation or None) if asked else None,
                facts.cache or None, facts.trace.trace_id if facts.trace is not None else None, rare,
            )
        )  # fmt: skip
        if self.compare is not None:
            self.compare(verdict)

    def _spend(self, facts: Facts, budget: Budget, now: float) -> None:
        """Count a refusal that nobody expects, and say so where it puts the route back into shadow."""
        if budget.count(facts.principal, now):
            log.error(
                "%s %s is not enforced any more: more than %s; so it stays until the routes are read again",
                facts.route, facts.action, budget,
            )  # fmt: skip

    def refused_unread(self, status: int, code: Code, peer: str, request_id: str) -> None:
        """Write a refusal of what could not be read as a request, so that no gate saw it."""
        self.metrics.refused_unread(code, status)
        if self.refuses:
            # a client may send as many of these as it likes
            self.metrics.line_lost()
        else:
            self.write(UnreadLine(self.time(), request_id, self._mode, "refuse", code, status, peer))

    def broken_off(self, facts: Facts, code: Code, detail: str) -> None:
        """Write that an answer broke off after its head had been sent to the client, and why."""
        if code.dependency is not None:
            self.metrics.dependency(code.dependency, code.fault)
        self.write(BrokenOff(self.time(), facts.request_id, code, facts.route, line.detail_text(detail)))

    def time(self) -> str:
        """Return the time as a line has it."""
        return line.time_text(self._now())

    def write(self, record: Line) -> None:
        """Write a line."""
        self._add(line.write(record))

    def _add(self, text: str) -> None:
        if self._drops:
            self.metrics.line_lost()
            return
        self._lines.append(text)
        if len(self._lines) == 1:
            self._later(0.0, self.flush)

    @property
    def waiting(self) -> int:
        """Bytes of lines that nobody has taken yet."""
        return self._out.waiting

    def flush(self) -> None:
        """Write what was recorded, as far as it is taken."""
        if self._closed:
            # the number of a closed file may be another one's by now
            return
        done, pause = self._send()
        if not done and not self._tries_again:
            self._tries_again = True
            self._later(pause, self._again)

    def _send(self) -> tuple[bool, float]:
        """-> (whether nothing is left, seconds until the rest is worth another try)."""
        lines, self._lines = self._lines, []
        self._out.put(lines)
        before = self._out.waiting
        try:
            done, fault = self._out.send(), ""
        except OSError as error:
            done, fault = False, error.strerror or str(error)
        if not done or self._reported_state:
            self._look(done, fault)
        return done, SOON if self._out.waiting < before else AGAIN_AFTER

    def _again(self) -> None:
        self._tries_again = False
        self.flush()

    def _look(self, done: bool, fault: str) -> None:
        """Say once that the log cannot be written, once that requests suffer, and once that it is mended. A reader that
        is only slow is no fault."""
        full = self._out.waiting > MAX_WAITING
        self._drops = full and self._may_drop
        self.refuses = full and not self._may_drop
        if done:
            log.warning("the decision log is written again")
            self._reported_state = _NOTHING
            return
        state = _FULL if full else _HOLDING if fault else _NOTHING
        if state > self._reported_state:
            self._reported_state = state
            why = fault or "nobody reads it"
            log.error("the decision log cannot be written (%s): %s", why, self._consequence(full))

    def _consequence(self, full: bool) -> str:
        if not full:
            return f"up to {MAX_WAITING} bytes of lines wait"
        return "further lines are dropped" if self._may_drop else f"requests are refused with {_UNLOGGED}"

    def follow(self) -> None:
        """Open the log's file anew where it was renamed, replaced or removed."""
        try:
            self._out.follow()
        except OSError as error:
            self._look(False, error.strerror or str(error))

    async def aclose(self) -> None:
        """Write what is left, and give the logs' files back; a reader that does not take it in time goes without."""
        if self.questions is not None:
            await self.questions.aclose()
        loop = asyncio.get_running_loop()
        until = loop.time() + LAST_LINES_WITHIN
        while loop.time() < until:
            done, pause = self._send()
            if done:
                break
            await asyncio.sleep(pause)
        if self._out.waiting:
            log.error("the decision log cannot be written: its last %d bytes are lost", self._out.waiting)
        self._closed = True
        self._out.close()


_NOTHING, _HOLDING, _FULL = range(3)
"""States of a log that cannot be written, as far as they were told."""
_UNLOGGED = Code.LOG_UNAVAILABLE
_COUNTING = (Dependency.JWKS, Dependency.IDP)
_FAULTS: dict[str, tuple[Dependency, str]] = {
    code: (code.dependency, code.fault) for code in Code if code.dependency is not None
}
"""Codes that tell of a dependency, found by their text. Grounds and preflights are not among them."""

_PLAIN = frozenset((Ground.ALLOWED, Ground.AUTHENTICATED, Ground.PUBLIC))
"""Grounds of lines that have no rare field of their own."""
_NOTHING_RARE: Mapping[str, Any] = {}


def _rare(outcome: Outcome, failed: tuple[Dependency, str] | None) -> dict[str, Any]:
    """The fields of a decision that most lines of allowed requests do not have."""
    fields: dict[str, Any] = {}
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
    if verdict.facts.items:
        fields["items"] = verdict.facts.items
    if verdict.facts.each is not None:
        fields["each"] = line.each_of(verdict.facts.each.ids, verdict.facts.each.denied)
    if verdict.facts.upstream is not None:
        fields["upstream"] = verdict.facts.upstream.name
    return fields


def code_of(verdict: Verdict) -> str:
    """Return why a request was refused, or on what ground it was let through."""
    return _effect_and_code(verdict, None)[1]


def _effect_and_code(verdict: Verdict, fault: Code | None) -> tuple[Effect, str]:
    """-> (the effect of the verdict, its code)."""
    if isinstance(verdict, Forward):
        shadowed = verdict.would_refuse or verdict.facts.would_refuse
        return ("allow", fault or verdict.ground) if shadowed is None else ("shadow_refuse", fault or shadowed)
    if isinstance(verdict, Refuse):
        return "refuse", fault or verdict.code
    return "allow", fault or "preflight"
