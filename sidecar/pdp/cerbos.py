"""PDP: asks Cerbos by gRPC, with a deadline on every question, and gives its answer unjudged.

Questions of one principal that arise in one turn of the loop go as one call. None waits for that: a call goes out when
the turn ends, as each write on the connection does. Where places are scarce, those that wait for one join the call of
the first who gets it.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from sidecar.gate.codes import Code
from sidecar.gate.decision import PdpAnswer, Question
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.net import grpc_health
from sidecar.net.grpc_client import Channel, Unreachable
from sidecar.net.grpc_client_connection import GrpcMethod
from sidecar.net.shares import Asker
from sidecar.pdp.cerbos_call import FAULTS, CheckCall, Key, PendingQuestion
from sidecar.pdp.cerbos_messages import BATCH, entries_of, parts_of, principal_of
from sidecar.pdp.client import AT_ONCE, COUNTS, MAX_QUESTION, Client
from sidecar.record.reasons import ReportFault, report_nothing
from sidecar.together import together
from sidecar.wire.grpc import CallFailed, Status
from sidecar.wire.hpack import Field

log = logging.getLogger("sidecar.pdp")

_SERVICE = "/cerbos.svc.v1.CerbosService/"
TOGETHER = frozenset((Status.INVALID_ARGUMENT, Status.RESOURCE_EXHAUSTED))
"""Statuses of a whole call for one question in it, or for their number: then each is asked alone."""

GONE = frozenset((Code.PDP_UNAVAILABLE, Code.PDP_TIMEOUT, Code.PDP_PARTIAL))
"""Faults by which Cerbos is not there, whatever it was asked."""


class Cerbos(Client):
    """A PDP at `host:port` or `unix:/path`. `timeout` in seconds, `now` monotonic seconds, `limit` calls at once."""

    probe_every = 0.05
    """Seconds between two looks at one that does not serve: it is near, and often started beside us."""

    def __init__(
        self, target: str, *, timeout: float, now: Callable[[], float], limit: int = 256,
        tls: ssl.SSLContext | None = None, report: ReportFault = report_nothing,
    ) -> None:  # fmt: skip
        super().__init__(
            timeout=timeout, now=now, limit=limit, tell=principal_of, place=f"SIDECAR_CERBOS: {target}", report=report
        )  # fmt: skip
        # RFC 9113 section 8.3.1 wants an authority; a unix socket has none, and Cerbos asks for none
        authority = "localhost" if target.startswith("unix:") else target
        self._method = partial(GrpcMethod, authority=authority, timeout=timeout, secure=tls is not None)
        self._check = self._method(_SERVICE + "CheckResources")
        self._health = self._method(grpc_health.CHECK.decode("ascii"))
        self._channel = Channel(target, self._check, tls)
        self._most = BATCH
        self._calls: dict[
            Key, CheckCall
        ] = {}  # the newest of each principal's, which others may join until it goes out
        self._gathered: list[CheckCall] = []  # what goes out when this turn ends
        self._waiting: dict[Key, dict[PendingQuestion, None]] = {}  # who waits for a place, in order
        self._later: set[asyncio.Task[None]] = set()

    def check(self, question: Question) -> Coroutine[Any, Any, PdpAnswer]:
        """Ask. Raises Refused: PDP_* when there is no answer, REFERENCE_INVALID for an attribute that Cerbos cannot
        be told exactly."""
        self.questions += 1
        return self._ask(question) if len(question.resources) == 1 else self._ask_in_parts(question)

    def method(self, name: str) -> GrpcMethod:
        """Another method of Cerbos, for `ask`."""
        return self._method(_SERVICE + name)

    async def ask(self, method: GrpcMethod, principal: Principal, message: bytes, trace: Sequence[Field] = ()) -> bytes:
        """Ask by another method of Cerbos, in a call of its own, which has a place of its principal's. Raises
        Refused(PDP_*)."""
        if len(message) > MAX_QUESTION:
            raise Refused(Code.REFERENCE_INVALID, f"a question of {len(message)} bytes, Cerbos takes {MAX_QUESTION}")
        asker, deadline = (principal.issuer, principal.id), asyncio.get_running_loop().time() + self._timeout
        waited = not self.shares.take(asker)
        if waited and not await self.shares.wait(asker, deadline):
            raise Refused(Code.PDP_BUSY)
        try:
            if not self._breaker.allows():
                raise Refused(Code.PDP_OPEN)
            self.calls += 1
            return await self._answered(method, message, deadline, trace, waited=waited)
        finally:
            self.shares.give_back(asker)

    async def _answered(
        self, method: GrpcMethod, message: bytes, deadline: float, trace: Sequence[Field], *, waited: bool
    ) -> bytes:
        try:
            answer = await self._once_or_twice(method, message, deadline, trace)
        except CallFailed as error:
            if isinstance(error, Unreachable):
                self._unreachable(error.reason, error.more)
            code = FAULTS.get(error.status, Code.PDP_STATUS)
            if code in GONE:
                self._failed(code, waited)
            else:
                # of a question that it cannot work out it says INTERNAL: it is there, and may answer all others
                self._breaker.succeeded()
            raise Refused(code, f"{error.status.name}: {error.detail}") from None
        self._breaker.succeeded()
        return answer

    async def _once_or_twice(
        self, method: GrpcMethod, message: bytes, deadline: float, trace: Sequence[Field]
    ) -> bytes:  # fmt: skip
        try:
            return await self._channel.call(method, message, deadline, trace)
        except CallFailed as error:
            if error.status is not Status.UNAVAILABLE:
                raise
            return await self._channel.call(method, message, deadline, trace)

    async def _ask_in_parts(self, question: Question) -> PdpAnswer:
        entries = entries_of(question.resources)
        calls = list(parts_of(question.resources, entries, len(self.encoded_principal(question.principal))))
        if len(calls) == 1:
            return await self._ask(question, entries)
        deadline = asyncio.get_running_loop().time() + self._timeout
        asks = [
            partial(self._ask, question._replace(resources=question.resources[part]), entries[part], deadline)
            for part in calls
        ]
        answers = await together(asks, AT_ONCE)
        results = tuple(result for answer in answers for result in answer.results)
        # one call that was answered for another request makes the whole an answer to another request
        strange = [answer.request_id for answer in answers if answer.request_id != question.request_id]
        return answers[0]._replace(request_id=(strange or [question.request_id])[0], results=results)

    async def _ask(
        self, question: Question, entries: list[bytes] | None = None, deadline: float | None = None
    ) -> PdpAnswer:
        principal = question.principal
        encoded = self.encoded_principal(principal)
        if entries is None:
            entries = entries_of(question.resources)
        size = len(encoded) + sum(map(len, entries))
        if size > MAX_QUESTION:
            raise Refused(Code.REFERENCE_INVALID, f"a question of {size} bytes, Cerbos takes {MAX_QUESTION}")
        loop = asyncio.get_running_loop()
        asked = PendingQuestion(question, entries, loop.create_future(), deadline or loop.time() + self._timeout)
        key = (principal.issuer, encoded)
        call = self._calls.get(key)
        try:
            if call is None or not call.takes(asked):
                if self.shares.take((principal.issuer, principal.id)):
                    self._begin(key, asked, waited=False)
                else:
                    await self._in_turn(key, asked)
            return await asked.answer
        except asyncio.CancelledError:
            asked.leave()
            raise

    async def _in_turn(self, key: Key, asked: PendingQuestion) -> None:
        """Wait for a place, or for one of the same principal who gets it and takes others along. Raises Refused."""
        asker = _asker_of(asked)
        asked.turn = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, {})
        waiting[asked] = None
        try:
            placed = await self.shares.wait(asker, asked.deadline, asked.turn)
        finally:
            waiting.pop(asked, None)
            if not waiting and self._waiting.get(key) is waiting:
                del self._waiting[key]
        if asked.call is not None:
            if placed:
                # its turn came in the same moment
                self.shares.give_back(asker)
            return
        if not placed:
            raise Refused(Code.PDP_BUSY)
        call = self._begin(key, asked, waited=True)
        for other in list(waiting):
            if not call.takes(other):
                break
            del waiting[other]
            self.shares.leave(asker, other.turn)

    # --- calls ---

    def _begin(self, key: Key, asked: PendingQuestion, *, waited: bool) -> CheckCall:
        """Begin a call, whose place is taken. Raises Refused."""
        if not self._breaker.allows():
            self.shares.give_back(_asker_of(asked))
            raise Refused(Code.PDP_OPEN)
        call = CheckCall(
            self._check, key, asked, most=self._most, waited=waited, failed=self._goes_on, ended=self._has_ended
        )
        if call.open:
            self._calls[key] = call
        self._gather(call)
        return call

    def _gather(self, call: CheckCall) -> None:
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._send)
        self._gathered.append(call)

    def _send(self) -> None:
        """Send the calls of this turn."""
        calls, self._gathered = [call for call in self._gathered if not call.over], []
        self.calls += len(calls)
        try:
            left = self._channel.start_together(calls)
        except Exception as error:  # noqa: BLE001 - fail closed: a bug of ours ends the calls, and no question waits for ever
            self._give_up(calls, error)
            return
        for call in left:
            self._send_later(call)

    def _give_up(self, calls: Iterable[CheckCall], error: Exception) -> None:
        log.error("a call to Cerbos was not made", exc_info=error)
        for call in calls:
            call.fail(CallFailed(Status.INTERNAL, type(error).__name__))

    def _send_later(self, call: CheckCall) -> None:
        task = asyncio.get_running_loop().create_task(self._send_when_ready(call))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _send_when_ready(self, call: CheckCall) -> None:
        while not call.over:
            try:
                return await self._channel.start_later(call)
            except CallFailed as error:
                if error.status is not Status.DEADLINE_EXCEEDED or not call.goes_on(call.deadline):
                    return call.fail(error)
            except Exception as error:  # noqa: BLE001 - as in `_send`
                return self._give_up([call], error)

    def _goes_on(self, call: CheckCall, error: CallFailed) -> bool:
        """Ask once more, within the same deadlines, where nobody was there: a check changes nothing. Ask one by one
        what was refused together."""
        if error.status is Status.UNAVAILABLE and not call.again:
            call.again = True
            self._send_later(call)
            return True
        if error.status in TOGETHER and len(call.asked) > 1:
            self._forget(call)
            self._breaker.succeeded()
            self._ask_alone(call)
            return True
        if isinstance(error, Unreachable):
            self._unreachable(error.reason, error.more)
        return False

    def _has_ended(self, call: CheckCall) -> None:
        self._forget(call)
        self._tell_breaker(call)
        self.shares.give_back(_asker_of(call.asked[0]))

    def _forget(self, call: CheckCall) -> None:
        if self._calls.get(call.key) is call:
            del self._calls[call.key]

    def _tell_breaker(self, call: CheckCall) -> None:
        if call.answered or (call.fault is not None and call.fault not in COUNTS):
            self._breaker.succeeded()
        elif call.fault is not None:
            self._failed(call.fault, call.waited)

    # --- one by one ---

    def _ask_alone(self, call: CheckCall) -> None:
        """Ask each question of a call that was refused by itself: one after the other in the call's place, and in such
        places beside it as are free."""
        refused = _Refused(call)
        self._ask_next(refused)
        while refused.left and self.shares.take(refused.asker):
            self._ask_next(refused)

    def _ask_next(self, refused: _Refused) -> None:
        while refused.left:
            asked = refused.left.popleft()
            if not asked.answer.done():
                refused.under_way += 1
                ended = partial(self._alone_has_ended, refused)
                self._gather(
                    CheckCall(self._check, refused.key, asked, most=1, waited=True, failed=self._goes_on, ended=ended)
                )
                return
        self.shares.give_back(refused.asker)

    def _alone_has_ended(self, refused: _Refused, call: CheckCall) -> None:
        self._tell_breaker(call)
        refused.under_way -= 1
        refused.all_answered &= call.answered
        if refused.all_answered and not refused.under_way and not refused.left:
            # none of them was at fault, so they were too many
            self._most = min(self._most, max(refused.resources // 2, 1))
        self._ask_next(refused)

    async def serving(self) -> bool:
        """Return whether Cerbos says that it can answer (gRPC health checking protocol)."""
        return not await self.trouble()

    async def trouble(self) -> str:
        """Return why Cerbos does not serve, "" where it does."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            health = await self._channel.call(self._health, b"", deadline)
        except CallFailed as error:
            return f"{error.status.name}: {error.detail}"
        return "" if health == grpc_health.SERVING else "its health is not SERVING"

    async def aclose(self) -> None:
        """Close the connection."""
        await self._channel.aclose()


class _Refused:
    """Questions that Cerbos refused together, as they are asked one by one."""

    def __init__(self, call: CheckCall) -> None:
        self.key = call.key
        self.asker = _asker_of(call.asked[0])
        self.resources = call.resources
        self.left = deque(call.split())
        self.under_way = 0
        self.all_answered = True


def _asker_of(asked: PendingQuestion) -> Asker:
    principal = asked.question.principal
    return principal.issuer, principal.id
