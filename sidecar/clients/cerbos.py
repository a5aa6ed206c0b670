"""PDP: asks Cerbos by gRPC, with a deadline on every call, and gives its answer unjudged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from cerbos.effect.v1 import effect_pb2
from cerbos.engine.v1 import engine_pb2
from cerbos.request.v1 import request_pb2
from cerbos.response.v1.response_pb2 import CheckResourcesResponse
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

from sidecar.clients.breaker import Breaker
from sidecar.clients.unary import CallFailed, Channel, Method, Status
from sidecar.gate.decision import Answer, Question, Resource, Result
from sidecar.gate.identity import Principal
from sidecar.gate.strict_json import EXACT_INTEGER
from sidecar.gate.verdict import Code, Refused

BATCH = 50
"""Resources in one call, as many as Cerbos takes by default (its `requestLimits`)."""
_MAX_DEPTH = 32

_FAULTS = {
    Status.UNAVAILABLE: Code.PDP_UNAVAILABLE,
    Status.DEADLINE_EXCEEDED: Code.PDP_TIMEOUT,
    Status.CANCELLED: Code.PDP_PARTIAL,
    Status.INTERNAL: Code.PDP_BAD_ANSWER,
    Status.UNKNOWN: Code.PDP_BAD_ANSWER,
    Status.DATA_LOSS: Code.PDP_PARTIAL,
}
"""gRPC status -> code; every other status says that Cerbos answered, and would not decide."""
_COUNTS = frozenset((Code.PDP_UNAVAILABLE, Code.PDP_TIMEOUT, Code.PDP_BAD_ANSWER, Code.PDP_PARTIAL))
"""What opens the breaker: Cerbos does not answer. One that refuses a question is there, and closes it."""


class Cerbos:
    """A PDP at `host:port` or `unix:/path`. `timeout` in seconds, `now` monotonic seconds, `limit` calls at once."""

    def __init__(self, target: str, *, timeout: float, now: Callable[[], float], limit: int = 256) -> None:
        self._timeout = timeout
        self._limit = limit
        self._breaker = Breaker(now)
        self._running = 0
        # RFC 9113 section 8.3.1 wants an authority; a unix socket has none, and Cerbos asks for none
        authority = "localhost" if target.startswith("unix:") else target
        self._check = Method("/cerbos.svc.v1.CerbosService/CheckResources", authority, timeout)
        self._health = Method("/grpc.health.v1.Health/Check", authority, timeout)
        self._channel = Channel(target, self._check)

    async def check(self, question: Question) -> Answer:
        """Ask. Raises Refused: PDP_* when there is no answer, REFERENCE_INVALID for an attribute that Cerbos cannot
        be told exactly."""
        if len(question.resources) <= BATCH:
            return await self._ask(question)
        answers = [
            await self._ask(question._replace(resources=question.resources[at : at + BATCH]))
            for at in range(0, len(question.resources), BATCH)
        ]
        results = tuple(result for answer in answers for result in answer.results)
        # one call that was answered for another request makes the whole an answer to another request
        strange = [answer.request_id for answer in answers if answer.request_id != question.request_id]
        return answers[0]._replace(request_id=(strange or [question.request_id])[0], results=results)

    async def _ask(self, question: Question) -> Answer:
        message = request_of(question).SerializeToString()
        if self._running >= self._limit:
            raise Refused(Code.PDP_BUSY)
        if not self._breaker.allows():
            raise Refused(Code.PDP_OPEN)
        self._running += 1
        try:
            answer = await self._call(message)
        except Refused as refused:
            if refused.code in _COUNTS:
                self._breaker.failed()
            else:
                self._breaker.succeeded()
            raise
        finally:
            self._running -= 1
        self._breaker.succeeded()
        return answer

    async def _call(self, message: bytes) -> Answer:
        try:
            return answer_of(CheckResourcesResponse.FromString(await self._once_or_twice(message)))
        except CallFailed as error:
            code = _FAULTS.get(error.status, Code.PDP_STATUS)
            raise Refused(code, f"{error.status.name}: {error.detail}") from None
        except Exception as error:  # noqa: BLE001 - whatever a broken answer does to the library is no decision
            raise Refused(Code.PDP_BAD_ANSWER, type(error).__name__) from None

    async def _once_or_twice(self, message: bytes) -> bytes:
        """Ask, and once more within the same deadline if nobody was there: a check changes nothing."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            return await self._channel.call(self._check, message, deadline)
        except CallFailed as error:
            if error.status is not Status.UNAVAILABLE:
                raise
        return await self._channel.call(self._check, message, deadline)

    async def serving(self) -> bool:
        """Whether Cerbos says that it can answer (gRPC health checking protocol)."""
        deadline = asyncio.get_running_loop().time() + self._timeout
        # the messages of grpc.health.v1, whose only field each is needed: service "", status 1 for SERVING
        try:
            return await self._channel.call(self._health, b"", deadline) == b"\x08\x01"
        except CallFailed:
            return False

    async def aclose(self) -> None:
        """Close the connection."""
        await self._channel.aclose()


# --- messages ---


def request_of(question: Question) -> request_pb2.CheckResourcesRequest:
    """The question as Cerbos' message. Raises Refused(REFERENCE_INVALID) for a value that has no exact form in it."""
    try:
        return request_pb2.CheckResourcesRequest(
            request_id=question.request_id,
            include_meta=True,
            principal=_principal(question.principal),
            resources=[_entry(resource) for resource in question.resources],
        )
    except (ValueError, TypeError) as error:
        raise Refused(Code.REFERENCE_INVALID, f"a value that Cerbos cannot be told: {error}") from None


def _principal(principal: Principal) -> engine_pb2.Principal:
    return engine_pb2.Principal(id=principal.id, roles=principal.roles, attr=_attributes(principal.attributes))


def _entry(resource: Resource) -> request_pb2.CheckResourcesRequest.ResourceEntry:
    return request_pb2.CheckResourcesRequest.ResourceEntry(
        actions=[resource.action],
        resource=engine_pb2.Resource(kind=resource.kind, id=resource.id, attr=_attributes(resource.attributes)),
    )


def _attributes(attributes: Mapping[str, Any]) -> dict[str, Value]:
    return {name: value_of(value) for name, value in attributes.items()}


def value_of(value: Any, depth: int = 0) -> Value:
    """A JSON value as protobuf's. Raises ValueError for what a double or a protobuf string cannot hold exactly."""
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, int | float):
        return Value(number_value=_exact(value))
    if depth >= _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return Value(list_value=ListValue(values=[value_of(item, depth + 1) for item in value]))
    if isinstance(value, dict):
        return Value(struct_value=Struct(fields={name: value_of(item, depth + 1) for name, item in value.items()}))
    if value is None:
        return Value(null_value=NULL_VALUE)
    raise ValueError(f"a {type(value).__name__}")


def _exact(number: float) -> float:
    if isinstance(number, int) and abs(number) >= EXACT_INTEGER:
        raise ValueError("an integer beyond 2^53")
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("a number that is not finite")
    return float(number)


_EFFECTS = {number: name for name, number in effect_pb2.Effect.items()}


def answer_of(message: CheckResourcesResponse) -> Answer:
    """Cerbos' message as an answer."""
    return Answer(message.request_id, message.cerbos_call_id, tuple(map(_result, message.results)))


def _result(entry: CheckResourcesResponse.ResultEntry) -> Result:
    meta = next(iter(entry.meta.actions.values()), None)
    return Result(
        entry.resource.kind,
        entry.resource.id,
        {action: _EFFECTS.get(effect, "?") for action, effect in entry.actions.items()},
        len(entry.validation_errors) > 0,
        meta.matched_policy if meta is not None else "",
        tuple(entry.meta.effective_derived_roles),
    )
