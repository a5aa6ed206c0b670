"""`sidecar replay`: recorded questions, asked of an embedded Cerbos that has other policies."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sidecar.adoption.replay import Replay, ReplayCase, SkipReason, Unreplayed, batch_key, case_of, principal_of, recall
from sidecar.adoption.rerouting import Rerouting, Settled
from sidecar.bounded import size_of
from sidecar.gate.asking import PDP
from sidecar.gate.codes import Code
from sidecar.gate.decision import Question, Resource, judge
from sidecar.gate.verdict import Refused
from sidecar.pdp.cerbos import Cerbos
from sidecar.pdp.cerbos_version import STRICT_SINCE, version_of
from sidecar.pdp.compiling import problems_of
from sidecar.pdp.embedded import EmbeddedCerbos
from sidecar.pdp.policy_files import PolicySnapshot, read_policies, write_files
from sidecar.pdp.policy_tests import Moment, decide_at
from sidecar.record import line
from sidecar.run.errors import StartError, blaming
from sidecar.study.policies import parse_policies
from sidecar.study.readings import AttributeUses

BATCH = 50
"""Resources of a call, as many as Cerbos takes."""
AT_ONCE = 8
"""Calls under way."""
MOST_WAITING = 24 * 1024 * 1024
"""Bytes of requests that wait for others of their principal, so that they share a call: most of what a replay holds."""
MOMENTS = 2000
"""Questions about a time of one run of `cerbos compile`."""
TIMEOUT = 30.0
"""Seconds that an answer may take: a replay has no client that waits."""


class ReplayCandidate(NamedTuple):
    """New policies, and routes where they are new, too. `strict`: a condition in error denies, where Cerbos can."""

    folder: Path
    binary: Path
    strict: bool
    rerouting: Rerouting | None = None


async def replay(questions: Iterable[line.QuestionLine], candidate: ReplayCandidate) -> tuple[Replay, str]:
    """Ask all recorded questions of the new policies -> what comes of it, and the new policies' revision. Raises
    StartError for policies that cannot be used, and OSError."""
    problems = await asyncio.to_thread(problems_of, candidate.binary, candidate.folder)
    if problems:
        raise StartError(*problems)
    embedded = EmbeddedCerbos(candidate.folder, binary=str(candidate.binary), strict=candidate.strict)
    pdp = Cerbos(embedded.target, timeout=TIMEOUT, now=time.monotonic)
    try:
        with blaming("--policies"):
            await embedded.start()
        policies = await asyncio.to_thread(read_policies, candidate.folder)
        run = _Run(candidate, policies, pdp)
        for question in questions:
            await run.add(question)
        await run.finish()
        return run.replay, policies.digest
    finally:
        await pdp.aclose()
        await embedded.stop()


class _Run:
    """One replay under way: gathers questions of one principal, and asks them in one call."""

    def __init__(self, candidate: ReplayCandidate, policies: PolicySnapshot, pdp: PDP) -> None:
        self.replay = Replay()
        self._candidate = candidate
        self._policies = policies
        self._pdp = pdp
        self._readings = AttributeUses(parse_policies(candidate.folder))
        self._waiting: dict[str, list[ReplayCase]] = {}
        self._weight = 0
        self._timed: list[ReplayCase] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    async def add(self, question: line.QuestionLine) -> None:
        """Take one recorded question."""
        found = self._found(question)
        if isinstance(found, Unreplayed):
            self.replay.skip(found)
        elif isinstance(found, Settled):
            self.replay.compare(_routed(found), found.allowed, self._readings)
        elif found.timed:
            self._timed.append(found)
            if len(self._timed) >= MOMENTS:
                await self._ask_timed()
        else:
            await self._gather(found)

    def _found(self, question: line.QuestionLine) -> ReplayCase | Settled | Unreplayed:
        rerouting = self._candidate.rerouting
        found = recall(question) if rerouting is None else rerouting.route(question)
        return found if isinstance(found, Settled | Unreplayed) else case_of(found, self._readings)

    async def _gather(self, case: ReplayCase) -> None:
        key = batch_key(case.principal)
        cases = self._waiting.setdefault(key, [])
        cases.append(case)
        self._weight += size_of(case)
        if sum(len(one.resources) for one in cases) >= BATCH:
            await self._send(key)
        elif self._weight >= MOST_WAITING:
            await self._send_most()

    async def _send_most(self) -> None:
        """Send the half that shares calls best."""
        for key in sorted(self._waiting, key=lambda key: -len(self._waiting[key])):
            await self._send(key)
            if self._weight <= MOST_WAITING // 2:
                return

    async def _send(self, key: str) -> None:
        cases = self._waiting.pop(key)
        self._weight -= sum(map(size_of, cases))
        if len(self._calls) >= AT_ONCE:
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
        call = asyncio.get_running_loop().create_task(self._ask(cases))
        self._calls.add(call)
        call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        if not call.cancelled() and (error := call.exception()) is not None:
            self._error = error

    async def _ask(self, cases: Sequence[ReplayCase]) -> None:
        resources = tuple(resource for case in cases for resource in case.resources)
        question = Question("replay", cases[0].principal, resources)
        try:
            allowed = iter(judge(question, await self._pdp.check(question)))
        except Refused as refused:
            if len(cases) > 1:
                # one that cannot be asked, or answered, is no fault of the others
                for case in cases:
                    await self._ask([case])
            elif refused.code is Code.PDP_MISMATCH:
                # attributes that do not fit the new policy's schema, which the gate refuses
                self.replay.compare(cases[0], False, self._readings)
            else:
                self.replay.skip(Unreplayed(cases[0].line, _reason(refused), refused.detail))
            return
        for case in cases:
            self.replay.compare(case, all([next(allowed) for _ in case.resources]), self._readings)

    async def _ask_timed(self) -> None:
        cases, self._timed = self._timed, []
        moments = [Moment(case.line.time, case.principal, resource) for case in cases for resource in case.resources]
        allowed = iter(await asyncio.to_thread(self._decide_at, moments))
        for case in cases:
            self.replay.compare(case, all([next(allowed) for _ in case.resources]), self._readings)

    def _decide_at(self, moments: Sequence[Moment]) -> list[bool]:
        binary = self._candidate.binary
        strict = self._candidate.strict and version_of(binary) >= STRICT_SINCE
        with tempfile.TemporaryDirectory(prefix="sidecar-replay-") as copy:
            write_files(Path(copy), self._policies.files)
            return decide_at(binary, Path(copy), moments, strict=strict)

    async def finish(self) -> None:
        """Ask what waits, and wait for all answers."""
        for key in list(self._waiting):
            await self._send(key)
        if self._timed:
            await self._ask_timed()
        while self._calls:
            await asyncio.wait(self._calls)
        if self._error is not None:
            # what it was about is in no number
            raise self._error


def _routed(settled: Settled) -> ReplayCase:
    question = settled.line
    resource = Resource(question.kind, question.id, question.action, {})
    return ReplayCase(question, principal_of(question), (resource,), settled.before, routed=True)


def _reason(refused: Refused) -> SkipReason:
    return SkipReason.UNASKABLE if refused.code is Code.REFERENCE_INVALID else SkipReason.UNANSWERED
