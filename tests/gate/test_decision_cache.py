"""What is remembered, for whom and for how long: two questions share a decision only if Cerbos is told the same."""

from __future__ import annotations

from typing import Any

import pytest
from cerbos.request.v1.request_pb2 import CheckResourcesRequest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.clients.cerbos import message_of, principal_of
from sidecar.gate.decision import Question, Resource
from sidecar.gate.decision_cache import DecisionCache, key_of
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused

ALLOWED = (True, "call", "policy")


def principal(**more: Any) -> Principal:
    made = Principal("alice", ("user",), {}, "https://issuer", 2000.0, {"sub": "a-1"})
    return made._replace(**more)


def resource(**more: Any) -> Resource:
    return Resource("doc", "1", "view", {})._replace(**more)


@pytest.mark.parametrize(
    "other",
    [
        (principal(id="bob"), resource()), (principal(roles=("user", "admin")), resource()), (principal(roles=()), resource()),
        (principal(attributes={"a": 1}), resource()), (principal(issuer="https://other"), resource()),
        (principal(claims={"sub": "b-2"}), resource()), (principal(), resource(kind="a:doc")),
        (principal(), resource(id="01")), (principal(), resource(action="edit")), (principal(), resource(attributes={"owner": None})),
    ],
)  # fmt: skip
def test_whatever_differs_is_another_question(other: tuple[Principal, Resource]) -> None:
    assert key_of(*other) != key_of(principal(), resource())


VALUES: list[Any] = [
    1, True, "1", "true", None, "", [], {}, [1], ["1"], [[1]], [True], {"a": 1}, {"a": "1"}, {"a": [1]}, [["a", 1]], 0, False, 1.5, "1.5",
    ["number", 1], ["list", 1], ["map"], {"number": 1}, [None], "None",
]  # fmt: skip


def test_values_of_other_types_are_other_values() -> None:
    keys = [key_of(principal(), resource(attributes={"v": value})) for value in VALUES]
    assert len(set(keys)) == len(VALUES)


def test_what_is_the_same_to_cerbos_is_the_same() -> None:
    one = key_of(principal(attributes={"a": 1, "b": [1.0]}), resource(attributes={"x": {"y": 1, "z": 2}}))
    two = key_of(principal(attributes={"b": [1], "a": 1.0}), resource(attributes={"x": {"z": 2, "y": 1}}))
    assert one == two
    assert hash(one) == hash(two)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-2, 2) | st.text("ab:1,", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=6,
)
_ATTRIBUTES = st.dictionaries(st.text("ab:", min_size=1, max_size=2), _JSON, max_size=2)
_PRINCIPALS = st.builds(
    Principal, st.text("ab:", min_size=1, max_size=2), st.lists(st.sampled_from("ab:"), max_size=2).map(tuple), _ATTRIBUTES,
    st.just("i"), st.just(2000.0), st.just({"sub": "s"}),
)  # fmt: skip
_RESOURCES = st.builds(
    Resource,
    st.text("ab:", min_size=1, max_size=2),
    st.text("ab:", min_size=1, max_size=2),
    st.sampled_from(["a", "b"]),
    _ATTRIBUTES,
)


def told(one: Principal, what: Resource) -> CheckResourcesRequest:
    """What Cerbos reads."""
    return CheckResourcesRequest.FromString(message_of(Question("r", one, (what,)), principal_of(one)))


@given(_PRINCIPALS, _RESOURCES, _PRINCIPALS, _RESOURCES)
def test_two_questions_share_a_key_only_if_the_message_to_cerbos_is_the_same(
    one: Principal, what: Resource, two: Principal, other: Resource
) -> None:
    try:
        same = told(one, what) == told(two, other)
    except Refused:
        return
    if key_of(one, what) == key_of(two, other):
        assert same


@given(_PRINCIPALS, _RESOURCES)
def test_a_question_is_the_same_as_itself(one: Principal, what: Resource) -> None:
    assert key_of(one, what) == key_of(
        one._replace(attributes=dict(one.attributes)), what._replace(attributes=dict(what.attributes))
    )


def test_a_decision_lives_for_its_seconds_and_no_longer_than_the_token() -> None:
    cache, key = DecisionCache(10.0), key_of(principal(), resource())
    assert cache.find(key, 1000.0) is None
    cache.keep(key, principal(), ALLOWED, 1000.0)
    found = cache.find(key, 1009.9)
    assert found is not None
    assert found[:3] == ALLOWED
    assert cache.find(key, 1010.0) is None
    cache.keep(key, principal(), ALLOWED, 1995.0)
    assert cache.find(key, 1999.9) is not None
    assert cache.find(key, 2000.0) is None


def test_a_clock_that_is_set_back_lengthens_nothing() -> None:
    cache, key = DecisionCache(10.0), key_of(principal(), resource())
    cache.keep(key, principal(), ALLOWED, 1000.0)
    assert cache.find(key, 500.0) is None


def test_of_too_many_the_first_is_forgotten() -> None:
    cache = DecisionCache(10.0, remembered=2)
    keys = [key_of(principal(), resource(id=str(number))) for number in range(3)]
    for key in keys:
        cache.keep(key, principal(), ALLOWED, 1000.0)
    assert [cache.find(key, 1000.0) is not None for key in keys] == [False, True, True]
