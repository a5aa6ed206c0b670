"""Batch decisions for one principal: the gate decides each request, with one call to Cerbos for all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sidecar.gate.asking import PDP, Clock, Lookups
from sidecar.gate.body import no_body
from sidecar.gate.codes import Code
from sidecar.gate.decision import PdpAnswer, Question, Resource
from sidecar.gate.decision_cache import Key, key_of
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.identity import Principal, Tokens
from sidecar.gate.lookup import Call, Reply
from sidecar.gate.request import Raw, Request
from sidecar.gate.verdict import Refused, Verdict, unheld

MAX_ACTIONS = 50
"""Actions of one resource in a call, as many as Cerbos takes by default (its `requestLimits`)."""


AT_ONCE = 32
"""Lookups of one batch under way at once."""


class GivenPrincipal(Tokens):
    """In place of a token: a principal that is known already."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    async def principal_of(self, request: Request, now: float) -> Principal:
        """The principal."""
        return self._principal


class BatchingPDP:
    """A PDP that waits until each of `count` requests has asked it or needs no answer; then it asks for all in one."""

    def __init__(self, pdp: PDP, request_id: str, count: int) -> None:
        self._pdp = pdp
        self._request_id = request_id
        self._open = count
        self._waiting: list[tuple[Question, asyncio.Future[PdpAnswer]]] = []
        self._asking: asyncio.Task[None] | None = None

    async def check(self, question: Question) -> PdpAnswer:
        """The part of the common answer that is about this question. Raises what the PDP raises."""
        future: asyncio.Future[PdpAnswer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        self._ask_if_all_are_there()
        return await future

    def done(self) -> None:
        """One request needs nothing any more."""
        self._open -= 1
        self._ask_if_all_are_there()

    def _ask_if_all_are_there(self) -> None:
        if self._waiting and len(self._waiting) == self._open:
            waiting, self._waiting = self._waiting, []
            self._asking = asyncio.get_running_loop().create_task(self._ask(waiting))

    async def _ask(self, waiting: list[tuple[Question, asyncio.Future[PdpAnswer]]]) -> None:
        try:
            answers = await self._answers([question for question, _ in waiting])
        except Exception as error:  # noqa: BLE001 - whatever it was, each of those who wait is refused with it
            if isinstance(error, Refused) and error.code is Code.REFERENCE_INVALID and len(waiting) > 1:
                # one of them cannot be asked about, and the others can
                for one in waiting:
                    await self._ask([one])
                return
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(waiting, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def _answers(self, questions: list[Question]) -> list[PdpAnswer]:
        entries, places = _merged(questions)
        answer = await self._pdp.check(Question(self._request_id, questions[0].principal, tuple(entries)))
        if answer.request_id != self._request_id or len(answer.results) != len(entries):
            raise Refused(Code.PDP_MISMATCH, "an answer to another question")
        # each is judged by the gate once more, against the resource and the action that it is about
        return [
            PdpAnswer(question.request_id, answer.call_id, tuple([answer.results[place] for place in of_one]))
            for question, of_one in zip(questions, places, strict=True)
        ]


def _merged(questions: list[Question]) -> tuple[list[Resource], list[list[int]]]:
    """Entries with all actions that are asked of a resource, and in which of them each question's resources are."""
    entries: list[Resource] = []
    known: dict[Key, int] = {}

    def place_of(principal: Principal, resource: Resource) -> int:
        key = key_of(principal, resource._replace(action=""))
        place = known.get(key)
        if place is None or len(entries[place].more_actions) + 1 >= MAX_ACTIONS:
            place = known[key] = len(entries)
            entries.append(resource)
        elif resource.action != entries[place].action and resource.action not in entries[place].more_actions:
            entries[place] = entries[place]._replace(more_actions=(*entries[place].more_actions, resource.action))
        return place

    places = [[place_of(question.principal, one) for one in question.resources] for question in questions]
    return entries, places


class _Bounded:
    """Hooks that so many requests of one batch ask at once: the others of the sidecar come in between."""

    def __init__(self, hooks: Lookups) -> None:
        self._hooks = hooks
        self._room = asyncio.Semaphore(AT_ONCE)

    async def ask(self, call: Call) -> Reply:
        """Ask, when there is room."""
        async with self._room:
            return await self._hooks.ask(call)

    async def ask_all(self, calls: Sequence[Call]) -> Sequence[Reply]:
        """Ask about many, when there is room."""
        async with self._room:
            return await self._hooks.ask_all(calls)


async def decide_all(
    raws: Sequence[Raw], principal: Principal, rules: Rules, hooks: Lookups, pdp: PDP, *, now: Clock, timer: Clock,
    request_id: str,
) -> list[Verdict]:  # fmt: skip
    """Return what the gate would say to each request if this principal sent it now, without a body. Nothing is
    forwarded."""
    batch = BatchingPDP(pdp, request_id, len(raws))
    gate = Gate(rules.by(GivenPrincipal(principal)), _Bounded(hooks), batch, now=now, timer=timer)

    async def one(raw: Raw) -> Verdict:
        try:
            return unheld(await gate.decide(raw, no_body))
        finally:
            batch.done()

    return list(await asyncio.gather(*map(one, raws)))
