"""One CheckResources call, with the questions of one principal that go in it: each gets its own answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, DENY, PdpAnswer, Question, Resource, Result
from sidecar.gate.verdict import Refused
from sidecar.net.grpc_client_connection import GrpcMethod, UnaryCall
from sidecar.pdp.cerbos_messages import MAX_NAMED, message_of, read_answer
from sidecar.wire.grpc import CallFailed, Status

Key = tuple[str, bytes]
"""All that makes two principals equal: whose word they are, and all that Cerbos is told of them."""

FAULTS = {
    Status.UNAVAILABLE: Code.PDP_UNAVAILABLE,
    Status.DEADLINE_EXCEEDED: Code.PDP_TIMEOUT,
    Status.CANCELLED: Code.PDP_PARTIAL,
    Status.INTERNAL: Code.PDP_BAD_ANSWER,
    Status.UNKNOWN: Code.PDP_BAD_ANSWER,
    Status.DATA_LOSS: Code.PDP_PARTIAL,
}
"""gRPC status -> code; every other status says that Cerbos answered, and would not decide."""
_EFFECTS = (ALLOW, DENY)


class PendingQuestion:
    """A question that waits for its `answer`, until its own `deadline`. `turn` is its wait for a place."""

    __slots__ = ("answer", "call", "deadline", "entries", "place", "question", "turn")

    turn: asyncio.Future[bool]

    def __init__(
        self, question: Question, entries: list[bytes], answer: asyncio.Future[PdpAnswer], deadline: float
    ) -> None:
        self.question = question
        self.entries = entries
        self.answer = answer
        self.deadline = deadline
        self.call: CheckCall | None = None
        self.place = 0

    @property
    def alone(self) -> bool:
        """Return whether it wants a call of its own."""
        return self.question.alone or len(self.entries) > 1

    def refuse(self, code: Code, detail: str) -> None:
        """End without an answer, unless it has ended."""
        if not self.answer.done():
            # one of its own for each: whoever raises it adds to its traceback
            self.answer.set_exception(Refused(code, detail))

    def leave(self) -> None:
        """Wait no more."""
        if not self.answer.cancel() and not self.answer.cancelled():
            self.answer.exception()  # nobody else takes note of it
        if self.call is not None:
            self.call.leave()


class CheckCall(UnaryCall):
    """A call, which others of the same principal may join until it goes out, with `most` resources together.

    `failed` is asked about an end without an answer, and says True where it goes on in another way; `ended` is told
    when nobody waits for it any more. Then `answered` and `fault` say how it ended: neither, where all have left.
    """

    __slots__ = (
        "_ended", "_entries", "_failed", "_most", "_places", "_weight", "again", "answered", "asked", "fault", "key",
        "open", "waited",
    )  # fmt: skip

    def __init__(
        self, method: GrpcMethod, key: Key, asked: PendingQuestion, *, most: int, waited: bool,
        failed: Callable[[CheckCall, CallFailed], bool], ended: Callable[[CheckCall], None],
    ) -> None:  # fmt: skip
        super().__init__(method, asked.deadline, asked.question.trace)
        self.key = key
        self.asked = [asked]
        asked.call = self
        self.waited = waited
        self.again = False
        self.open = most > 1 and not asked.alone
        self.answered = False
        self.fault: Code | None = None
        self._most = most
        self._entries = asked.entries
        self._places: dict[bytes, int] = {}
        self._weight = len(asked.entries[0])
        self._failed = failed
        self._ended = ended

    @property
    def resources(self) -> int:
        """Resources in the call."""
        return len(self._entries)

    def takes(self, asked: PendingQuestion) -> bool:
        """Return whether one more question of the principal joins; then it has."""
        if not self.open or asked.alone:
            return False
        entry, places = asked.entries[0], self._places
        if not places:
            # the list is that of the first question, which may be asked alone later
            self._entries = self._entries.copy()
            places[self._entries[0]] = 0
        place = places.get(entry)
        if place is None:
            # the names alone may be this much, and come back in an answer
            self._weight += len(entry)
            if len(places) >= self._most or self._weight > MAX_NAMED:
                self.open = False
                return False
            place = places[entry] = len(places)
            self._entries.append(entry)
        asked.place, asked.call = place, self
        self.asked.append(asked)
        if asked.deadline < self.deadline:
            self.deadline = asked.deadline
        return True

    def message(self) -> bytes:
        self.open = False
        return message_of(self.asked[0].question.request_id, self.key[1], self._entries)

    # --- the end ---

    def succeed(self, message: bytes) -> None:
        if self.over:
            return
        try:
            answer = read_answer(message)
            if len(self.asked) == 1:
                answers = [answer]
            else:
                self._require_all(answer)
                answers = [
                    PdpAnswer(asked.question.request_id, answer.call_id, (answer.results[asked.place],))
                    for asked in self.asked
                ]
        except Refused as refused:
            self._refuse(refused.code, refused.detail)
            return
        except Exception as error:  # noqa: BLE001 - whatever a broken answer does to the library is no decision
            self._refuse(Code.PDP_BAD_ANSWER, type(error).__name__)
            return
        self.over = self.answered = True
        for asked, own in zip(self.asked, answers, strict=True):
            if not asked.answer.done():
                asked.answer.set_result(own)
        self._ended(self)

    def _require_all(self, answer: PdpAnswer) -> None:
        """Raise Refused(PDP_MISMATCH) unless this is an answer to exactly this call: a place alone tells two equal
        resources apart, so what is odd anywhere makes all of it doubtful."""
        results = answer.results
        if answer.request_id != self.asked[0].question.request_id:
            raise Refused(Code.PDP_MISMATCH, "an answer to another request")
        if len(results) != len(self._entries):
            raise Refused(Code.PDP_MISMATCH, f"{len(results)} results for {len(self._entries)} resources")
        for asked in self.asked:
            _require_about(asked.question.resources[0], results[asked.place])

    def fail(self, error: CallFailed) -> None:
        if not self.over and not self._failed(self, error):
            self._refuse(FAULTS.get(error.status, Code.PDP_STATUS), f"{error.status.name}: {error.detail}")

    def _refuse(self, code: Code, detail: str) -> None:
        self.over, self.fault = True, code
        for asked in self.asked:
            asked.refuse(code, detail)
        self._ended(self)

    def goes_on(self, now: float) -> bool:
        """Refuse the questions whose time is over; return whether there are others."""
        for asked in self.asked:
            if asked.deadline <= now:
                asked.refuse(Code.PDP_TIMEOUT, "no answer in time")
        left = [asked.deadline for asked in self.asked if not asked.answer.done()]
        if left:
            self.deadline = min(left)
        return bool(left)

    def leave(self) -> None:
        """End where nobody waits any more."""
        if not self.over and all(asked.answer.done() for asked in self.asked):
            self.over = True
            self.give_up()
            self._ended(self)

    def split(self) -> list[PendingQuestion]:
        """End without an end for those who wait, and return them, the one with the least time first."""
        self.over = True
        return sorted((one for one in self.asked if not one.answer.done()), key=lambda one: one.deadline)


def _require_about(resource: Resource, result: Result) -> None:
    effects = result.effects
    if (result.kind, result.id) != (resource.kind, resource.id):
        raise Refused(Code.PDP_MISMATCH, "an answer about another resource")
    if len(effects) != 1 + len(resource.more_actions) or effects.get(resource.action) not in _EFFECTS:
        raise Refused(Code.PDP_MISMATCH, f"effects {dict(effects)}, expected an allow or a deny of {resource.action}")
