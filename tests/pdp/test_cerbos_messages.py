"""`pdp/cerbos_messages.py`: bytes against what the library makes of the same."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from cerbos.effect.v1 import effect_pb2
from cerbos.engine.v1 import engine_pb2
from cerbos.request.v1 import request_pb2
from cerbos.response.v1 import response_pb2
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.decision import Question, Resource
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.pdp.cerbos_messages import (
    answer_of,
    entries_of,
    message_of,
    parts_of,
    principal_of,
    read_answer,
)
from tests.json_values import json_values
from tests.tries import tries

ALICE = Principal("alice", ("user",), {"town": "Köln"}, "iss", 0.0, {})


def value_of(value: Any) -> Value:
    """A JSON value as the library's."""
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, bool):
        return Value(bool_value=value)
    if value is None:
        return Value(null_value=NULL_VALUE)
    if isinstance(value, list):
        return Value(list_value=ListValue(values=map(value_of, value)))
    if isinstance(value, dict):
        return Value(struct_value=Struct(fields={name: value_of(item) for name, item in value.items()}))
    return Value(number_value=float(value))


def question(*resources: Resource, request_id: str = "r-1") -> Question:
    return Question(request_id, ALICE, resources)


def doc(number: int = 1, action: str = "edit", **attributes: Any) -> Resource:
    return Resource("doc", str(number), action, attributes or {"owner": "alice"})


def request_of(asked: Question) -> request_pb2.CheckResourcesRequest:
    """The question as Cerbos reads it."""
    return request_pb2.CheckResourcesRequest.FromString(
        message_of(asked.request_id, principal_of(asked.principal), entries_of(asked.resources))
    )


def test_a_call_has_so_many_resources_and_so_many_bytes() -> None:
    resources = [doc(number) for number in range(60)]
    entries = [b"x" * 90_000] * 60
    calls = [slice(*part.indices(60)) for part in parts_of(resources, entries, 1000)]
    assert [(part.start, part.stop) for part in calls] == [(0, 23), (23, 46), (46, 60)]
    assert [part.stop - part.start for part in parts_of([doc()] * 107, [b"x"] * 107, 10)] == [50, 50, 7]
    # what is too much alone is asked alone
    assert [part.stop for part in parts_of(resources[:3], [b"x", b"x" * 3_000_000, b"x"], 10)] == [1, 2, 3]


ANY_TEXT = st.text(st.characters())
ANYTHING = json_values(st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT, ANY_TEXT)


def plain(value: Any) -> bool:
    """Whether a JSON document can say the value so that everybody reads the same."""
    if isinstance(value, str):
        return not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return abs(value) < 2**53
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(plain, value.keys())) and all(map(plain, value.values()))
    return all(map(plain, value))


@given(ANYTHING)
@tries(150)
def test_a_value_is_told_exactly_or_refused(value: Any) -> None:
    asked = question(Resource("doc", "1", "read", {"x": value}))
    if not plain(value):
        with pytest.raises(Refused) as caught:
            request_of(asked)
        assert caught.value.code is Code.REFERENCE_INVALID
        return
    told = request_of(asked).resources[0].resource.attr["x"]
    assert json.loads(MessageToJson(told)) == value


@pytest.mark.parametrize(
    "value", [2**53, -(2**53), float("nan"), float("inf"), "\ud800", {"\udfff": 1}, [b"x"], {1: 2}, object()]
)
def test_what_has_no_exact_form_is_refused(value: Any) -> None:
    for asked in (
        question(Resource("doc", "1", "read", {"x": value})),
        Question("r", ALICE._replace(attributes={"x": {"y": [value]}}), (doc(),)),
    ):
        with pytest.raises(Refused) as caught:
            request_of(asked)
        assert caught.value.code is Code.REFERENCE_INVALID


def test_what_is_nested_without_end_is_refused() -> None:
    value: Any = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(Refused) as caught:
        request_of(question(Resource("doc", "1", "read", {"x": value})))
    assert caught.value.code is Code.REFERENCE_INVALID


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.builds(
    # longer than 127 bytes, whose length takes two
    lambda character, times: character * times, st.characters(exclude_categories=["Cs"]), st.integers(100, 300)
)  # fmt: skip
PLAIN_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = json_values(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False) | PLAIN_TEXT,
    PLAIN_TEXT,
)  # fmt: skip
ATTRIBUTES = st.dictionaries(TEXT, PLAIN, max_size=4)
RESOURCES = st.builds(Resource, TEXT, TEXT, TEXT, ATTRIBUTES, scope=TEXT)


@given(
    TEXT,
    st.builds(Principal, TEXT, st.lists(TEXT).map(tuple), ATTRIBUTES, TEXT, st.just(0.0), st.just({})),
    st.lists(RESOURCES, max_size=4),
)
def test_the_message_is_what_the_library_makes_of_the_question(
    request_id: str, principal: Principal, resources: list[Resource]
) -> None:
    """Byte for byte but for the order in a map, which has none."""
    asked = Question(request_id, principal, tuple(resources))
    theirs = request_pb2.CheckResourcesRequest(
        request_id=request_id,
        include_meta=True,
        principal=engine_pb2.Principal(
            id=principal.id, roles=principal.roles, attr={n: value_of(v) for n, v in principal.attributes.items()}
        ),
        resources=[
            request_pb2.CheckResourcesRequest.ResourceEntry(
                actions=[each.action, *each.more_actions],
                resource=engine_pb2.Resource(
                    kind=each.kind,
                    id=each.id,
                    scope=each.scope,
                    attr={n: value_of(v) for n, v in each.attributes.items()},
                ),
            )
            for each in resources
        ],
    )
    ours = request_of(asked)
    assert ours == theirs
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


VALUES = st.sampled_from(["", "a", "a" * 130, True, False, 1, 0, 1.0, 0.0, -0.0, None, [], [1], {"a": 1}])


@given(st.data(), st.lists(TEXT, unique=True, max_size=3), TEXT, st.lists(TEXT, max_size=2).map(tuple))
def test_resources_that_are_alike_are_told_as_each_alone_is(
    data: st.DataObject, names: list[str], scope: str, more: tuple[str, ...]
) -> None:
    rows = st.tuples(TEXT, *[VALUES for _ in names])
    resources = [
        Resource("doc", one, "read", dict(zip(names, values, strict=True)), more, scope)
        for one, *values in data.draw(st.lists(rows, min_size=2, max_size=5))
    ]
    if data.draw(st.booleans()):
        # one that is not like the others
        others: list[dict[str, Any]] = [{"kind": "x"}, {"action": "x"}, {"scope": "x"}, {"attributes": {"x": 1}}]
        other = data.draw(st.sampled_from(others))
        resources.insert(data.draw(st.integers(0, len(resources))), resources[0]._replace(**other))
    assert entries_of(resources) == [entry for one in resources for entry in entries_of([one])]


@pytest.mark.parametrize("field", ["id", "kind", "action"])
def test_a_lone_surrogate_anywhere_in_the_question_is_refused(field: str) -> None:
    with pytest.raises(Refused) as caught:
        request_of(question(Resource(**{**doc()._asdict(), field: "\ud800"})))
    assert caught.value.code is Code.REFERENCE_INVALID


def test_a_bool_stays_a_bool_and_an_integer_a_number() -> None:
    kinds: dict[str, Any] = {"a": True, "b": 1, "c": None, "d": [], "e": {}, "f": 0.0, "g": False}
    told = request_of(question(Resource("doc", "1", "read", kinds))).resources[0].resource.attr
    assert {name: value.WhichOneof("kind") for name, value in told.items()} == {
        "a": "bool_value", "b": "number_value", "c": "null_value", "d": "list_value", "e": "struct_value",
        "f": "number_value", "g": "bool_value",
    }  # fmt: skip


def read_by_library(data: bytes) -> object:
    try:
        return answer_of(response_pb2.CheckResourcesResponse.FromString(data))
    except (DecodeError, UnicodeDecodeError):
        return None


def read_here(data: bytes) -> object:
    try:
        return read_answer(data)
    except (DecodeError, UnicodeDecodeError):
        return None


TEXTS = st.text(max_size=5) | st.sampled_from(["r" * 32, "r" * 127, "r" * 128, "é" * 300])


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=2), st.data())
def test_an_answer_is_read_as_the_library_reads_it_whatever_is_done_to_its_bytes(
    request_id: str, call_id: str, ids: list[str], draw: st.DataObject
) -> None:
    message = response_pb2.CheckResourcesResponse(request_id=request_id, cerbos_call_id=call_id)
    for number, name in enumerate(ids):
        entry = message.results.add()
        entry.resource.kind, entry.resource.id = "contact", name
        entry.actions["read"] = effect_pb2.EFFECT_ALLOW if number else effect_pb2.EFFECT_DENY
        entry.meta.actions["read"].matched_policy = "p" * (number * 100)
    data = message.SerializeToString()
    for _ in range(2):  # afresh, and from what is remembered
        assert read_here(data) == answer_of(message)
    at = draw.draw(st.integers(0, max(0, len(data) - 1)))
    changed = data[:at] + draw.draw(st.binary(max_size=2)) + data[at + draw.draw(st.integers(0, 2)) :]
    assert read_here(changed) == read_by_library(changed)
