"""Candidate policies beside those in force: a second Cerbos is asked what was decided, and each difference is told.

Nobody waits for it. A question is queued when its request has been recorded; some of them are asked together, so that
those of one principal share a call. Of more than wait already, the newest are dropped and counted: under load the
candidate sees a part of the requests, and takes from them no more than a fixed part of a processor.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from sidecar.gate.asking import PDP
from sidecar.gate.codes import Code, Ground
from sidecar.gate.decision import Question, Resource, Result, judge
from sidecar.gate.verdict import Facts, Forward, Refuse, Refused, Verdict
from sidecar.pdp.policy_reload import PolicyState
from sidecar.record.metrics import CANDIDATE_RESULTS

log = logging.getLogger("sidecar.candidate")

MAX_WAITING = 500
"""Requests whose questions may wait."""
TOGETHER, EVERY = 25, 0.05
"""Requests whose questions are asked together, and seconds before each time: 500 requests a second at most."""
TOLD_A_SECOND = 10
"""Differences that are told in a second; the next one says how many were not."""
SILENT = 60.0
"""Seconds between two lines about an answer that does not come."""

SAME, ALLOW_TO_DENY, DENY_TO_ALLOW, FAILED, DROPPED = CANDIDATE_RESULTS


_GONE = frozenset((Code.PDP_UNAVAILABLE, Code.PDP_TIMEOUT, Code.PDP_PARTIAL, Code.PDP_OPEN, Code.PDP_BUSY))
"""Codes by which it is not there; by others it says nothing about one question."""


class DecisionDifference(NamedTuple):
    """A decision on one resource that the candidate policies make otherwise. `ours` is the one that was made."""

    facts: Facts
    resource: Resource
    ours: bool
    policy: str
    revision: str
    candidate_policy: str
    candidate_revision: str
    untold: int = 0
    """Differences before it that were not told."""


class _Waiting(NamedTuple):
    facts: Facts
    question: Question
    ours: tuple[bool, ...]
    revision: str


def decided(verdict: Verdict) -> tuple[bool, ...]:
    """Return what the policies in force said of each resource of a request's question; nothing where they said
    nothing."""
    facts = verdict.facts
    if facts.each is not None:
        return facts.each.allowed
    code: str = ""
    if isinstance(verdict, Forward):
        code = verdict.would_refuse or facts.would_refuse or verdict.ground
    elif isinstance(verdict, Refuse):
        code = verdict.code
    return _OURS.get(code, ())


_OURS: Mapping[str, tuple[bool, ...]] = {Ground.ALLOWED: (True,), Code.DENIED_BY_POLICY: (False,)}


class Candidate:
    """Compares decisions. `state` says which candidate policies are in force, `revision` which of ours. `count` is told
    of each result with a number of resources, `tell` of each difference."""

    def __init__(
        self, pdp: PDP, state: PolicyState, revision: Callable[[], str], count: Callable[[str, int], None],
        tell: Callable[[DecisionDifference], None],
    ) -> None:  # fmt: skip
        self.fault = ""
        """Why the candidate gave no answer when it was last asked, "" where it did."""
        self._pdp = pdp
        self._state = state
        self._revision = revision
        self._count = count
        self._tell = tell
        self._queue: deque[_Waiting] = deque()
        self._warned = -SILENT
        self._second, self._reported, self._unreported = 0, 0, 0
        self._wake = asyncio.Event()

    def put(self, verdict: Verdict) -> None:
        """Queue what was decided about a request, if the policies were asked."""
        ours, facts = decided(verdict), verdict.facts
        if not ours or not isinstance(facts.asked, Question):
            return
        if len(self._queue) >= MAX_WAITING:
            self._count(DROPPED, len(ours))
            return
        # no trace: a span of the candidate's would look like one of the request
        question = Question(facts.request_id, facts.asked.principal, facts.asked.resources)
        self._queue.append(_Waiting(facts, question, ours, self._revision()))
        self._wake.set()

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await asyncio.sleep(EVERY)
                some = [self._queue.popleft() for _ in range(min(TOGETHER, len(self._queue)))]
                await asyncio.gather(*map(self._compare, some))

    async def _compare(self, waiting: _Waiting) -> None:
        question, revision = waiting.question, self._state.revision
        if not self._state.generation:
            self._count(FAILED, len(waiting.ours))
            self._failed("not started")
            return
        try:
            answer = await self._pdp.check(question)
            theirs = judge(question, answer)
        except Refused as refused:
            self._count(FAILED, len(waiting.ours))
            if refused.code in _GONE:
                self._failed(f"{refused.code}: {refused.detail}")
            return
        except Exception as error:  # noqa: BLE001 - a bug of ours ends this comparison, and not all that come after it
            self._count(FAILED, len(waiting.ours))
            self._failed(f"{type(error).__name__}: {error}")
            return
        self.fault = ""
        for resource, ours, allowed, result in zip(
            question.resources, waiting.ours, theirs, answer.results, strict=True
        ):
            self._judged(waiting, resource, ours, allowed, result, revision)

    def _judged(
        self, waiting: _Waiting, resource: Resource, ours: bool, theirs: bool, result: Result, revision: str
    ) -> None:  # fmt: skip
        if ours == theirs:
            self._count(SAME, 1)
            return
        self._count(ALLOW_TO_DENY if ours else DENY_TO_ALLOW, 1)
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._reported = second, 0
        if self._reported == TOLD_A_SECOND:
            self._unreported += 1
            return
        # of many, the facts have the policy of one
        policy = waiting.facts.policy if waiting.facts.each is None else ""
        theirs_by = result.policies.get(resource.action, "")
        self._tell(
            DecisionDifference(
                waiting.facts, resource, ours, policy, waiting.revision, theirs_by, revision, self._unreported
            )
        )
        self._reported, self._unreported = self._reported + 1, 0

    def _failed(self, fault: str) -> None:
        self.fault = fault
        now = asyncio.get_running_loop().time()
        if now - self._warned >= SILENT:
            self._warned = now
            log.warning("the candidate policies give no answer (%s): requests go on, and are not compared", fault)
