"""PDP: asks Cerbos over gRPC, with a deadline on every call, and gives its answer unjudged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from cerbos.effect.v1 import effect_pb2
from cerbos.engine.v1 import engine_pb2
from cerbos.request.v1 import request_pb2
from cerbos.response.v1 import response_pb2
from cerbos.svc.v1.svc_pb2_grpc import CerbosServiceStub
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

from sidecar.clients.breaker import Breaker
from sidecar.gate.decision import Answer, Question, Resource, Result
from sidecar.gate.identity import Principal
from sidecar.gate.strict_json import EXACT_INTEGER
from sidecar.gate.verdict import Code, Refused

BATCH = 50
"""Resources in one call, as many as Cerbos takes by default (its `requestLimits`)."""
_MAX_DEPTH = 32

# a Cerbos that was restarted is to be used again at once, not after gRPC's minutes
_CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1000),  # in spite of its name also what one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.max_receive_message_length", 1024 * 1024),
]

_FAULTS = {
    grpc.StatusCode.UNAVAILABLE: Code.PDP_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Code.PDP_TIMEOUT,
    grpc.StatusCode.CANCELLED: Code.PDP_PARTIAL,
    grpc.StatusCode.INTERNAL: Code.PDP_BAD_ANSWER,
    grpc.StatusCode.UNKNOWN: Code.PDP_BAD_ANSWER,
    grpc.StatusCode.DATA_LOSS: Code.PDP_PARTIAL,
}
"""gRPC status -> code; every other status says that Cerbos answered, and would not decide."""
_COUNTS = frozenset((Code.PDP_UNAVAILABLE, Code.PDP_TIMEOUT, Code.PDP_BAD_ANSWER, Code.PDP_PARTIAL))
"""What opens the breaker: Cerbos does not answer. One that refuses a question is there, and closes it."""


class Cerbos:
    """A PDP at `host:port` or `unix:/path`. `timeout` in seconds, `now` monotonic seconds, `limit` calls at once."""

    def __init__(
        self,
        target: str,
        *,
        timeout: float,
        now: Callable[[], float],
        limit: int = 256,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._target = target
        self._timeout = timeout
        self._now = now
        self._limit = limit
        self._credentials = credentials
        self._breaker = Breaker(now)
        self._running = 0
        self._channel: grpc.aio.Channel | None = None
        self._check: Any = None

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
        message = request_of(question)
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

    async def _call(self, message: request_pb2.CheckResourcesRequest) -> Answer:
        try:
            # what cannot be parsed comes out of the stub as None, and has no request id
            return answer_of(await self._once_or_twice(message))
        except grpc.aio.AioRpcError as error:
            code = _FAULTS.get(error.code(), Code.PDP_STATUS)
            raise Refused(code, f"{error.code().name}: {error.details()}") from None
        except Exception as error:  # noqa: BLE001 - whatever a broken answer does to the library is no decision
            raise Refused(Code.PDP_BAD_ANSWER, type(error).__name__) from None

    async def _once_or_twice(self, message: request_pb2.CheckResourcesRequest) -> Any:
        """Ask, and once more within the same deadline if nobody was there: a check changes nothing."""
        deadline = self._now() + self._timeout
        try:
            return await self._stub()(message, timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        return await self._stub()(message, timeout=max(deadline - self._now(), 0.0))

    def _stub(self) -> Any:
        if self._check is None:
            self._channel = self._open()
            self._check = CerbosServiceStub(self._channel).CheckResources  # type: ignore[no-untyped-call]  # generated
        return self._check

    def _open(self) -> grpc.aio.Channel:
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options=_CHANNEL_OPTIONS)
        return grpc.aio.secure_channel(self._target, self._credentials, options=_CHANNEL_OPTIONS)

    async def serving(self) -> bool:
        """Whether Cerbos says that it can answer (gRPC health checking protocol)."""
        self._stub()
        assert self._channel is not None  # noqa: S101 - for the type checker
        # the messages of grpc.health.v1, whose only field each is needed: service "", status 1 for SERVING
        health = self._channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            return bool(await health(b"", timeout=self._timeout, wait_for_ready=False) == b"\x08\x01")
        except Exception:  # noqa: BLE001 - whoever cannot say that it serves does not
            return False

    async def aclose(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()


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


def answer_of(message: response_pb2.CheckResourcesResponse) -> Answer:
    """Cerbos' message as an answer."""
    return Answer(message.request_id, message.cerbos_call_id, tuple(map(_result, message.results)))


def _result(entry: response_pb2.CheckResourcesResponse.ResultEntry) -> Result:
    meta = next(iter(entry.meta.actions.values()), None)
    return Result(
        entry.resource.kind,
        entry.resource.id,
        {action: _EFFECTS.get(effect, "?") for action, effect in entry.actions.items()},
        len(entry.validation_errors) > 0,
        meta.matched_policy if meta is not None else "",
        tuple(entry.meta.effective_derived_roles),
    )
