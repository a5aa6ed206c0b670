"""PDP: asks Cerbos by gRPC, with a deadline on every call, and gives its answer unjudged."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

from cerbos.effect.v1 import effect_pb2
from cerbos.response.v1.response_pb2 import CheckResourcesResponse
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

from sidecar.bounded import Bounded, remembered
from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, PdpAnswer, Question, Resource, Result, deciding_policy
from sidecar.gate.identity import Principal
from sidecar.gate.reasons import ReportFault, report_nothing
from sidecar.gate.trace import Header
from sidecar.gate.verdict import Refused
from sidecar.net import grpc_health
from sidecar.net.grpc_client import Channel, Unreachable
from sidecar.net.grpc_client_connection import MAX_MESSAGE, Method
from sidecar.pdp.client import COUNTS, MAX_CALL, MAX_QUESTION, Client
from sidecar.wire.grpc import CallFailed, Status
from sidecar.wire.protobuf import number_tag, short_size, sized, sized_tag, varint
from sidecar.wire.strict_json import EXACT_INTEGER

BATCH = 50
"""Resources in one call, as many as Cerbos takes by default (its `requestLimits`)."""
MAX_NAMED = MAX_MESSAGE // 4
"""Bytes of kinds, ids and actions in one call: Cerbos says them again, some twice, in an answer of `MAX_MESSAGE`."""
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
        self._check = Method("/cerbos.svc.v1.CerbosService/CheckResources", authority, timeout, secure=tls is not None)
        self._health = Method(grpc_health.CHECK.decode("ascii"), authority, timeout, secure=tls is not None)
        self._channel = Channel(target, self._check, tls)

    def check(self, question: Question) -> Coroutine[Any, Any, PdpAnswer]:
        """Ask. Raises Refused: PDP_* when there is no answer, REFERENCE_INVALID for an attribute that Cerbos cannot
        be told exactly."""
        return self._ask(question) if len(question.resources) == 1 else self._ask_in_parts(question)

    async def _ask_in_parts(self, question: Question) -> PdpAnswer:
        entries = _entries(question.resources)
        calls = parts_of(question.resources, entries, len(self._told(question.principal)))
        answers = [
            await self._ask(question._replace(resources=question.resources[part]), entries[part]) for part in calls
        ]
        results = tuple(result for answer in answers for result in answer.results)
        # one call that was answered for another request makes the whole an answer to another request
        strange = [answer.request_id for answer in answers if answer.request_id != question.request_id]
        return answers[0]._replace(request_id=(strange or [question.request_id])[0], results=results)

    async def _ask(self, question: Question, entries: list[bytes] | None = None) -> PdpAnswer:
        message = message_of(question, self._told(question.principal), entries)
        if len(message) > MAX_QUESTION:
            raise Refused(Code.REFERENCE_INVALID, f"a question of {len(message)} bytes, Cerbos takes {MAX_QUESTION}")
        deadline = asyncio.get_running_loop().time() + self._timeout
        asker = (question.principal.issuer, question.principal.id)
        waits = not self.shares.take(asker)
        if waits and not await self.shares.wait(asker, deadline):
            raise Refused(Code.PDP_BUSY)
        try:
            if not self._breaker.allows():
                raise Refused(Code.PDP_OPEN)
            return await self._call(message, question.trace, deadline, waits)
        finally:
            self.shares.give_back(asker)

    async def _call(self, message: bytes, headers: tuple[Header, ...], deadline: float, waited: bool) -> PdpAnswer:
        """Ask, and tell the breaker how it ended."""
        try:
            answer = await self._once_or_twice(message, headers, deadline)
        except Refused as refused:
            if refused.code in COUNTS:
                self._failed(refused.code, waited)
            else:
                self._breaker.succeeded()
            raise
        self._breaker.succeeded()
        return answer

    async def _once_or_twice(self, message: bytes, headers: tuple[Header, ...], deadline: float) -> PdpAnswer:
        """Ask, and once more within the same deadline if nobody was there: a check changes nothing."""
        try:
            try:
                data = await self._channel.call(self._check, message, deadline, headers)
            except CallFailed as error:
                if error.status is not Status.UNAVAILABLE:
                    raise
                data = await self._channel.call(self._check, message, deadline, headers)
            return read_answer(data)
        except CallFailed as error:
            if isinstance(error, Unreachable):
                self._unreachable(error.reason, error.more)
            code = _FAULTS.get(error.status, Code.PDP_STATUS)
            raise Refused(code, f"{error.status.name}: {error.detail}") from None
        except Exception as error:  # noqa: BLE001 - whatever a broken answer does to the library is no decision
            raise Refused(Code.PDP_BAD_ANSWER, type(error).__name__) from None

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


# --- messages ---


def message_of(question: Question, principal: bytes, entries: list[bytes] | None = None) -> bytes:
    """The question as a serialized CheckResourcesRequest, `principal` as `principal_of` has it, `entries` as
    `_entries` where they are known. Raises Refused: see `principal_of`."""
    resources = _entries(question.resources) if entries is None else entries
    try:
        request_id = sized(_1, question.request_id.encode("utf-8"))
    except (ValueError, TypeError) as error:
        raise _untellable(error) from None
    return b"".join((request_id, _INCLUDE_META, principal, *resources))


def parts_of(resources: Sequence[Resource], entries: Sequence[bytes], principal: int) -> Iterator[slice]:
    """The places of resources that are asked about in one call, by number and by bytes; `entries` are their bytes,
    `principal` is the number of the principal's."""
    since, weight, named = 0, principal, 0
    for at, (resource, entry) in enumerate(zip(resources, entries, strict=True)):
        size, names = len(entry), _named_size(resource)
        if at > since and (at - since == BATCH or weight + size > MAX_CALL or named + names > MAX_NAMED):
            yield slice(since, at)
            since, weight, named = at, principal, 0
        weight, named = weight + size, named + names
    yield slice(since, len(resources))


def _named_size(resource: Resource) -> int:
    # a character may be four bytes, and the estimate may be too high
    actions = sum(map(len, resource.more_actions)) + len(resource.action)
    return 4 * (len(resource.kind) + len(resource.id) + actions)


def _entries(resources: Sequence[Resource]) -> list[bytes]:
    try:
        return [sized(_4, _entry(resource)) for resource in resources]
    except (ValueError, TypeError) as error:
        raise _untellable(error) from None


def principal_of(principal: Principal) -> bytes:
    """The principal as that field of the message. Raises Refused(REFERENCE_INVALID) for a value without exact form."""
    try:
        roles = [sized(_3, role.encode("utf-8")) for role in principal.roles]
        parts = (sized(_1, principal.id.encode("utf-8")), *roles, *_attributes(principal.attributes))
    except (ValueError, TypeError) as error:
        raise _untellable(error) from None
    return sized(_3, b"".join(parts))


def _untellable(error: Exception) -> Refused:
    return Refused(Code.REFERENCE_INVALID, f"a value that Cerbos cannot be told: {error}")


# fields of Cerbos' messages, made without the library: see `wire/protobuf.py`
_INCLUDE_META = number_tag(2) + varint(1)
_1, _2, _3, _4, _5 = (sized_tag(field) for field in range(1, 6))


# the route file names some hundred
@remembered(512 * 1024)
def _named(name: str) -> bytes:
    """A field 1 of what the route file names: a kind, an action, an attribute."""
    return sized(_1, name.encode("utf-8"))


def _entry(resource: Resource) -> bytes:
    parts = [_named(resource.kind), sized(_3, resource.id.encode("utf-8"))]
    parts += _attributes(resource.attributes)
    if resource.scope:
        parts.append(sized(_5, resource.scope.encode("utf-8")))
    actions = _named(resource.action)
    if resource.more_actions:
        actions += b"".join([sized(_1, action.encode("utf-8")) for action in resource.more_actions])
    return actions + sized(_2, b"".join(parts))


def _attributes(attributes: Mapping[str, Any]) -> list[bytes]:
    """`attr` of a principal or of a resource, which have the same number: a map, so an entry for each."""
    return [sized(_4, _named(name) + sized(_2, _value(value))) for name, value in attributes.items()]


def _value(value: Any) -> bytes:
    if isinstance(value, str):
        return sized(_3, value.encode("utf-8"))
    serialized: bytes = value_of(value).SerializeToString()
    return serialized


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


# about 1,000 results. A key is Cerbos' text and no client's, with the names of policies and derived roles in it
_results: Bounded[bytes, Result] = Bounded(2 * 1024 * 1024, longest=1024)
"""Results as Cerbos sent them lately -> what they say: it says the same of the same resource."""


def read_answer(data: bytes) -> PdpAnswer:
    """A serialized CheckResourcesResponse as an answer: as `answer_of` reads it, each result but once. Raises
    DecodeError, or what else the library makes of bytes that are no message."""
    # request_id, one result and cerbos_call_id, in this order, of which only the result may take 128 bytes or more
    first = data[1] + 2 if len(data) > 2 and data[0] == _REQUEST_ID and data[1] < 128 else 0
    size, at = short_size(data, first + 1) if first and data[first : first + 1] == _RESULT else (0, 0)
    last = at + size
    tail = data[last:]
    if not size or len(tail) < 2 or tail[0] != _CALL_ID or tail[1] != len(tail) - 2 or tail[1] > 127:
        return answer_of(CheckResourcesResponse.FromString(data))
    entry = data[at:last]
    result = _results.get(entry)
    if result is None:
        result = _result(CheckResourcesResponse.ResultEntry.FromString(entry))
        _results.put(entry, result)
    return PdpAnswer(data[2:first].decode("utf-8"), tail[2:].decode("utf-8"), (result,))


_REQUEST_ID, _RESULT, _CALL_ID = _1[0], _2, _3[0]
"""Tags of the fields of CheckResourcesResponse."""


def answer_of(message: CheckResourcesResponse) -> PdpAnswer:
    """Cerbos' message as an answer."""
    return PdpAnswer(message.request_id, message.cerbos_call_id, tuple([_result(entry) for entry in message.results]))


def _result(entry: CheckResourcesResponse.ResultEntry) -> Result:
    resource, meta = entry.resource, entry.meta
    effects = {action: _EFFECTS.get(effect, "?") for action, effect in entry.actions.items()}
    invalid = len(entry.validation_errors) > 0
    policies = {
        action: deciding_policy(told.matched_policy, told.matched_scope, effects.get(action) == ALLOW)
        for action, told in meta.actions.items()
    }
    return Result(resource.kind, resource.id, effects, invalid, policies, tuple(meta.effective_derived_roles))
