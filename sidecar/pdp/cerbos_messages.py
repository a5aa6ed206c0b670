"""Messages of Cerbos' CheckResources: a question as bytes, and bytes as an answer, unjudged.

Questions are made without the library, and answers are read without it where they are what Cerbos writes: see
`wire/protobuf.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

from cerbos.effect.v1 import effect_pb2
from cerbos.response.v1.response_pb2 import CheckResourcesResponse

from sidecar.bounded import Bounded, remembered
from sidecar.gate.codes import Code
from sidecar.gate.decision import ALLOW, PdpAnswer, Resource, Result, deciding_policy
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.net.grpc_client_connection import MAX_MESSAGE
from sidecar.pdp.client import MAX_CALL
from sidecar.wire.protobuf import double_tag, number_tag, short_size, sized, sized_tag, varint
from sidecar.wire.strict_json import EXACT_INTEGER

BATCH = 50
"""Resources in one call, as many as Cerbos takes by default (its `requestLimits`)."""
MAX_NAMED = MAX_MESSAGE // 4
"""Bytes of kinds, ids and actions in one call: Cerbos says them again, some twice, in an answer of `MAX_MESSAGE`."""
_MAX_DEPTH = 32


def message_of(request_id: str, principal: bytes, entries: Sequence[bytes]) -> bytes:
    """A serialized CheckResourcesRequest, of what `principal_of` and `entries_of` have made."""
    # an id that is no text comes back as another, and the answer is refused
    told = sized(_1, request_id.encode("utf-8", "replace"))
    return b"".join((told, _INCLUDE_META, principal, *entries))


def parts_of(resources: Sequence[Resource], entries: Sequence[bytes], principal: int) -> Iterator[slice]:
    """The places of resources that are asked about in one call, by number and by bytes; `entries` are their bytes,
    `principal` is the number of the principal's."""
    whole = sum(map(len, entries))
    if len(entries) <= BATCH and principal + whole <= MAX_CALL and 4 * whole <= MAX_NAMED:
        # as most are, for names are a part of the bytes
        yield slice(0, len(entries))
        return
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


def entries_of(resources: Sequence[Resource]) -> list[bytes]:
    """Resources as that field of the message. Raises Refused: see `principal_of`."""
    try:
        return _entries_alike(resources) or [sized(_4, _entry(resource)) for resource in resources]
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


_INCLUDE_META = number_tag(2) + varint(1)
_1, _2, _3, _4, _5, _6 = (sized_tag(field) for field in range(1, 7))


# the route file names some hundred
@remembered(512 * 1024)
def _named(name: str) -> bytes:
    """A field 1 of what the route file names: a kind, an action, an attribute."""
    return sized(_1, name.encode("utf-8"))


def _entry(resource: Resource) -> bytes:
    parts = (_named(resource.kind), sized(_3, resource.id.encode("utf-8")), *_attributes(resource.attributes))
    return _actions(resource) + sized(_2, b"".join(parts) + _scope(resource.scope))


def _scope(scope: str) -> bytes:
    return sized(_5, scope.encode("utf-8")) if scope else b""


def _actions(resource: Resource) -> bytes:
    actions = _named(resource.action)
    if resource.more_actions:
        actions += b"".join([sized(_1, action.encode("utf-8")) for action in resource.more_actions])
    return actions


def _entries_alike(resources: Sequence[Resource]) -> list[bytes]:
    """Resources of a list, which differ in ids and in values of attributes alone: value by value of each attribute,
    which takes half of the time. None at all where they differ in more."""
    if len(resources) < 2:
        return []
    first, count = resources[0], len(resources)
    kinds, ids, actions, attributes, more_actions, scopes = zip(*resources, strict=True)
    names = tuple(first.attributes)
    alike = (
        kinds.count(first.kind) == actions.count(first.action) == more_actions.count(first.more_actions)
        == scopes.count(first.scope) == count and set(map(tuple, attributes)) == {names}
    )  # fmt: skip
    if not alike:
        return []
    columns = [
        _column(name, values)
        for name, values in zip(names, zip(*[known.values() for known in attributes], strict=True), strict=True)
    ]
    texts = _sized_each(_named(first.kind) + _3, list(map(str.encode, ids)))
    asked, scope = _actions(first), _scope(first.scope)
    known = list(map(b"".join, zip(texts, *columns, *([repeat(scope)] if scope else []), strict=False)))
    heads = {}
    for size in set(map(len, known)):
        before = asked + _2 + varint(size)
        heads[size] = _4 + varint(len(before) + size) + before
    return [heads[len(resource)] + resource for resource in known]


def _sized_each(before: bytes, values: Sequence[bytes]) -> list[bytes]:
    """Each value with its length before it, and `before` that: it is the same before values of one length."""
    heads = {size: before + varint(size) for size in set(map(len, values))}
    return [heads[len(value)] + value for value in values]


def _column(name: str, values: Sequence[Any]) -> list[bytes]:
    """One attribute of many resources: each of its values once, where equal ones are the same."""
    types = set(map(type, values))
    if len(types) == 1 and types <= _EQUAL_IS_SAME:
        known = {value: _attribute(name, value) for value in set(values)}
        return [known[value] for value in values]
    return [_attribute(name, value) for value in values]


_EQUAL_IS_SAME = frozenset((str, bool, int))
"""Types of which equal values are the same; of a float, 0.0 and -0.0 are equal."""


def _attributes(attributes: Mapping[str, Any]) -> list[bytes]:
    """`attr` of a principal or of a resource, which have the same number: a map, so an entry for each."""
    return [_attribute(name, value) for name, value in attributes.items()]


def _attribute(name: str, value: Any) -> bytes:
    if type(value) is str:
        text, named = value.encode("utf-8"), _named(name)
        size, whole = len(text), len(named) + len(text) + 4
        if whole < 0x80:
            # a short text, as most are: the two lines below in one step, at a third of their time
            return b"\x22%c%b\x12%c\x1a%c%b" % (whole, named, size + 2, size, text)
    return sized(_4, _named(name) + sized(_2, _value(value)))


# of google.protobuf.Value
_NULL, _FALSE, _TRUE = number_tag(1) + varint(0), number_tag(4) + varint(0), number_tag(4) + varint(1)
_DOUBLE, _double = double_tag(2), struct.Struct("<d").pack


def _value(value: Any, depth: int = 0) -> bytes:
    """A JSON value as a google.protobuf.Value. Raises ValueError for what a double or a protobuf string cannot hold
    exactly."""
    if isinstance(value, str):
        return sized(_3, value.encode("utf-8"))
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if isinstance(value, int | float):
        return _DOUBLE + _double(_exact(value))
    if depth >= _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if isinstance(value, list):
        return sized(_6, b"".join([sized(_1, _value(item, depth + 1)) for item in value]))
    if isinstance(value, dict):
        return sized(_5, b"".join([_member(name, item, depth + 1) for name, item in value.items()]))
    if value is None:
        return _NULL
    raise ValueError(f"a {type(value).__name__}")


def _member(name: Any, value: Any, depth: int) -> bytes:
    if not isinstance(name, str):
        raise ValueError(f"a {type(name).__name__} as a name")  # noqa: TRY004 - one kind of error for all of them
    return sized(_1, sized(_1, name.encode("utf-8")) + sized(_2, _value(value, depth)))


def _exact(number: float) -> float:
    if isinstance(number, int) and abs(number) >= EXACT_INTEGER:
        raise ValueError("an integer beyond 2^53")
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("a number that is not finite")
    return float(number)


_EFFECTS = {number: name for name, number in effect_pb2.Effect.items()}


class _Evaluation(NamedTuple):
    """Part of a result beside its resource: see `Result`."""

    effects: Mapping[str, str]
    invalid: bool
    policies: Mapping[str, str]
    derived_roles: tuple[str, ...]
    access_request: None = None
    """Cerbos offers none."""


# about 1,000. A key is Cerbos' text and no client's, with the names of policies and derived roles in it
_evaluations: Bounded[bytes, _Evaluation] = Bounded(2 * 1024 * 1024, longest=1024)
"""Results without their resources as Cerbos sent them lately -> their meaning: it says the same of many."""

# first bytes of the fields of CheckResourcesResponse, of a ResultEntry, and of its resource
(_REQUEST_ID,), (_RESULT,), (_CALL_ID,) = _1, _2, _3
(_RESOURCE,), (_ID,), (_KIND,) = _1, _1, _2


def read_answer(data: bytes) -> PdpAnswer:
    """A serialized CheckResourcesResponse as an answer, as `answer_of` reads it. Raises DecodeError, or what else the
    library makes of bytes that are no message."""
    try:
        answer = _read_plain(data)
    except IndexError:
        answer = None
    return answer_of(CheckResourcesResponse.FromString(data)) if answer is None else answer


def _read_plain(data: bytes) -> PdpAnswer | None:
    """Read an answer with request_id, results and cerbos_call_id, in this order, each of less than 16 KiB; None for
    another. Raises IndexError for one that ends early."""
    if data[0] != _REQUEST_ID:
        return None
    size, at = short_size(data, 1)
    request_id, at = data[at : at + size], at + size
    results: list[Result] = []
    at = _read_results(data, at, results) if size else 0
    size, last = short_size(data, at + 1) if data[at] == _CALL_ID else (0, 0)
    if not size or last + size != len(data):
        return None
    return PdpAnswer(request_id.decode("utf-8"), data[last:].decode("utf-8"), tuple(results))


def _read_results(data: bytes, at: int, results: list[Result]) -> int:
    """Read the results that begin here, and return where they end. In one piece: a list has many."""
    # what follows an id is the same of many: its bytes -> how many of them tell the kind, and all but the id
    alike: dict[bytes, tuple[int, str, _Evaluation]] = {}
    while data[at] == _RESULT:
        end, at = data[at + 1], at + 2
        if end >= 0x80:
            end, at = end & 0x7F | data[at] << 7, at + 1
        end += at
        if end > len(data) or data[at - 1] >= 0x80:
            return 0
        # a resource of an id and a kind, of less than 128 bytes together
        length = data[at + 1]
        middle, rest = at + 4 + data[at + 3], at + 2 + length
        same = alike.get(data[middle:end])
        if same is None:
            same = _read_after_id(data, middle, rest, end) if middle < rest <= end else None
            if same is not None:
                alike[data[middle:end]] = same
        if same is None or rest - middle != same[0] or data[at] != _RESOURCE or length >= 0x80 or data[at + 2] != _ID:
            results.append(_result(CheckResourcesResponse.ResultEntry.FromString(data[at:end])))
        else:
            # one tuple and another: to unpack the second would make a list of both first
            results.append(_result_of((same[1], data[at + 4 : middle].decode("utf-8")) + same[2]))
        at = end
    return at


def _read_after_id(data: bytes, middle: int, rest: int, end: int) -> tuple[int, str, _Evaluation] | None:
    """Read a kind up to `rest`, and the rest of a result; None where there is more or less than that."""
    if data[middle] != _KIND or middle + 2 + data[middle + 1] != rest:
        return None
    told = _evaluations.get(data[rest:end]) or _read_evaluation(data[rest:end])
    return None if told is None else (rest - middle, data[middle + 2 : rest].decode("utf-8"), told)


_result_of: Callable[[tuple[Any, ...]], Result] = partial(tuple.__new__, Result)
"""Makes a result of all its fields, at a third of the time of its constructor."""


def _read_evaluation(rest: bytes) -> _Evaluation | None:
    """Read a ResultEntry without its resource; None where there is one all the same."""
    entry = CheckResourcesResponse.ResultEntry.FromString(rest)
    if entry.HasField("resource"):
        return None
    told = _evaluation_of(entry)
    _evaluations.put(rest, told)
    return told


def answer_of(message: CheckResourcesResponse) -> PdpAnswer:
    """Cerbos' message as an answer."""
    return PdpAnswer(message.request_id, message.cerbos_call_id, tuple([_result(entry) for entry in message.results]))


def _result(entry: CheckResourcesResponse.ResultEntry) -> Result:
    return Result(entry.resource.kind, entry.resource.id, *_evaluation_of(entry))


def _evaluation_of(entry: CheckResourcesResponse.ResultEntry) -> _Evaluation:
    meta = entry.meta
    effects = {action: _EFFECTS.get(effect, "?") for action, effect in entry.actions.items()}
    policies = {
        action: deciding_policy(told.matched_policy, told.matched_scope, effects.get(action) == ALLOW)
        for action, told in meta.actions.items()
    }
    return _Evaluation(effects, len(entry.validation_errors) > 0, policies, tuple(meta.effective_derived_roles))
