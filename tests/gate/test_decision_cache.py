"""What is remembered, for whom and for how long: two questions share a decision only if Cerbos is told the same."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from cerbos.request.v1.request_pb2 import CheckResourcesRequest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.decision import Resource
from sidecar.gate.decision_cache import LONGEST_TEXT, DecisionCache, Key, key_of
from sidecar.gate.identity import Principal
from sidecar.gate.verdict import Refused
from sidecar.pdp.cerbos_messages import entries_of, message_of, principal_of

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
        (principal(attributes={"owner": None}), resource()), (principal(), resource(more_actions=("edit",))),
        (principal(), resource(id="1" * 1000)), (principal(), resource(scope="acme")),
    ],
)  # fmt: skip
def test_whatever_differs_is_another_question(other: tuple[Principal, Resource]) -> None:
    assert key_of(*other) != key_of(principal(), resource())


LONG = "x" * LONGEST_TEXT
VALUES: list[Any] = [
    1, 1.0, True, "1", "1.0", "true", None, "None", "", [], {}, [1], [1.0], ["1"], [[1]], [True], {"a": 1}, {"a": 1.0}, {"a": "1"},
    {"a": [1]}, {"a": None}, [["a", 1]], [None], 0, 0.0, -0.0, False, [0.0], [-0.0], 1.5, "1.5", 2**53, float(2**53), 2.0**61, 2.0**122,
    ["int", 1], ["float", "1.0"], ["json"], {"int": 1}, {"a": 1, "b": 2}, [{"a": 1}, {"b": 2}], ["a", "b"], ["a,b"], ['a","b'],
    LONG, LONG + "x", [LONG], LONG + "y", "\U0001f600", ["\U0001f600"],
]  # fmt: skip


def test_values_of_other_types_are_other_values() -> None:
    keys = [key_of(principal(), resource(attributes={"v": value})) for value in VALUES]
    assert len(set(keys)) == len(VALUES)


def test_the_order_of_names_is_no_difference() -> None:
    one = key_of(principal(attributes={"a": 1, "b": [1]}), resource(attributes={"x": {"y": 1, "z": 2}}))
    two = key_of(principal(attributes={"b": [1], "a": 1}), resource(attributes={"x": {"z": 2, "y": 1}}))
    assert one == two
    assert hash(one) == hash(two)


def test_nobody_can_choose_numbers_of_one_hash() -> None:
    # to Python all powers of 2^61 have the hash of 1, and looking one up would compare it with all the others
    numbers = [2.0 ** (61 * power) for power in range(16)]
    assert len({hash(number) for number in numbers}) == 1
    keys = [key_of(principal(), resource(attributes={"v": number})) for number in numbers]
    assert len({hash(key) for key in keys}) == len(numbers)


def weight(part: Any) -> int:
    """Bytes of a key with everything in it."""
    inner = part if isinstance(part, tuple | frozenset) else ()
    return sys.getsizeof(part) + sum(map(weight, inner))


@pytest.mark.parametrize("large", ["x" * 10**6, list(range(10**5)), {str(number): number for number in range(10**5)}])
def test_a_key_has_a_size_that_no_client_chooses(large: Any) -> None:
    assert weight(key_of(principal(attributes={"v": large}), resource(attributes={"v": large}))) < 3000
    assert weight(key_of(principal(), resource(id="x" * 8000))) < 3000


def test_what_is_nested_too_deeply_is_refused_as_cerbos_would_not_be_told_of_it() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(Refused) as caught:
        key_of(principal(), resource(attributes={"v": deep}))
    assert caught.value.code is Code.REFERENCE_INVALID
    while isinstance(deep, list):
        deep = deep.pop()


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
    st.sampled_from([(), ("a",), ("b",)]),
)


def told(one: Principal, what: Resource) -> CheckResourcesRequest:
    """What Cerbos reads."""
    return CheckResourcesRequest.FromString(message_of("r", principal_of(one), entries_of([what])))


@given(_PRINCIPALS, _RESOURCES, _PRINCIPALS, _RESOURCES)
def test_two_questions_share_a_key_only_if_the_message_to_cerbos_is_the_same(
    one: Principal, what: Resource, two: Principal, other: Resource
) -> None:
    if key_of(one, what) == key_of(two, other):
        try:
            # the bytes: to protobuf's own == 0.0 is -0.0
            assert canonical(one, what) == canonical(two, other)
        except Refused:
            return


def canonical(one: Principal, what: Resource) -> bytes:
    return told(one, what).SerializeToString(deterministic=True)


@given(_ATTRIBUTES, _ATTRIBUTES)
def test_two_sets_of_attributes_share_a_key_only_if_they_are_the_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    alike = key_of(principal(), resource(attributes=one)) == key_of(principal(), resource(attributes=two))
    assert alike is (typed(one) == typed(two))


def typed(value: Any) -> Any:
    """A value with the type of everything in it, made in another way than the key."""
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    return [typed(item) for item in value] if isinstance(value, list) else f"{type(value).__name__} {value!r}"


@given(_PRINCIPALS, _RESOURCES)
def test_a_question_is_the_same_as_itself(one: Principal, what: Resource) -> None:
    assert key_of(one, what) == key_of(
        one._replace(attributes=dict(one.attributes)), what._replace(attributes=dict(what.attributes))
    )


KEY: Key = key_of(principal(), resource())
"""Of a principal whose token ends at 2000."""


@pytest.mark.parametrize(
    ("asked", "looked", "there"),
    [
        # (Unix seconds, monotonic seconds) of both
        ((1000.0, 50.0), (1000.0, 50.0), True),
        ((1000.0, 50.0), (1009.9, 59.9), True),
        ((1000.0, 50.0), (1010.0, 60.0), False),
        # the token ends before
        ((1995.0, 50.0), (1999.9, 54.9), True),
        ((1995.0, 50.0), (2000.0, 55.0), False),
        # the clock was set back: nothing lives longer
        ((1000.0, 50.0), (500.0, 59.9), True),
        ((1000.0, 50.0), (500.0, 60.0), False),
        ((1995.0, 50.0), (1991.0, 60.0), False),
        # the machine was suspended, or the clock set forward
        ((1000.0, 50.0), (1010.0, 50.1), False),
    ],
)
def test_a_decision_lives_for_its_seconds_and_no_longer_than_the_token(
    asked: tuple[float, float], looked: tuple[float, float], there: bool
) -> None:
    cache = DecisionCache(10.0)
    assert cache.find(KEY, *asked) is None
    cache.keep(KEY, principal(), ALLOWED, *asked)
    found = cache.find(KEY, *looked)
    assert (found is not None) is there
    assert found is None or found[:3] == ALLOWED


def test_what_has_ended_is_forgotten() -> None:
    cache = DecisionCache(10.0)
    cache.keep(KEY, principal(), ALLOWED, 1000.0, 0.0)
    assert cache.find(KEY, 1000.0, 10.0) is None
    assert cache.find(KEY, 1000.0, 0.0) is None


def test_of_too_many_the_first_is_forgotten() -> None:
    keys = [key_of(principal(), resource(id=str(number))) for number in range(4)]
    alone = DecisionCache(10.0)
    alone.keep(keys[0], principal(), ALLOWED, 1000.0, 0.0)
    cache = DecisionCache(10.0, remembered=3 * alone._decisions.weight)
    # the first, kept anew, is the newest again, and is one decision still
    for number in (0, 1, 0, 2, 3):
        cache.keep(keys[number], principal(), ALLOWED, 1000.0, 0.0)
    assert [cache.find(key, 1000.0, 0.0) is not None for key in keys] == [True, False, True, True]
