"""What is remembered is bounded in bytes, whatever is put in."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.bounded import ENTRY, LONGEST_KEY, Bounded, Expiring, remembered, size_of

KEYS = st.text(max_size=4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers(0, 2000)),
        st.tuples(st.just("drop"), KEYS, st.just(0)),
        st.tuples(st.just("drop_first"), st.just(""), st.just(0)),
        st.tuples(st.just("clear"), st.just(""), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(0, 5000))
def test_the_weight_is_never_over_the_bound_and_is_that_of_what_is_kept(
    steps: list[tuple[str, str, int]], most: int
) -> None:
    """Against a model that keeps a list and weighs it anew each time."""
    store: Bounded[str, int] = Bounded(most)
    model: list[tuple[str, int]] = []
    for step, key, weight in steps:
        if step == "put":
            store.put(key, weight, weight)
            model = [entry for entry in model if entry[0] != key]
            if weight + ENTRY <= most:
                model.append((key, weight))
            while sum(ENTRY + kept for _, kept in model) > most:
                model.pop(0)
        elif step == "drop":
            store.drop(key)
            model = [entry for entry in model if entry[0] != key]
        elif step == "drop_first":
            store.drop_first()
            model = model[1:]
        else:
            store.clear()
            model = []
        assert store.weight == sum(ENTRY + kept for _, kept in model) <= most
        assert len(store) == len(model)
        assert store.first() == (model[0][1] if model else None)
        assert all(store.get(kept) == weight for kept, weight in model)
        assert all(store.get(other) is None for other in {step[1] for step in steps} - dict(model).keys())


@given(st.lists(st.integers(0, 700), min_size=1, max_size=50))
def test_the_newest_stays(weights: list[int]) -> None:
    store: Bounded[int, int] = Bounded(1000)
    for at, weight in enumerate(weights):
        store.put(at, weight, weight)
        assert store.get(at) == weight


def test_what_is_heavier_than_the_bound_is_not_kept_and_pushes_nothing_out() -> None:
    store: Bounded[str, str] = Bounded(1000)
    store.put("a", "light", 100)
    store.put("b", "heavy", 1000)
    assert (store.get("a"), store.get("b")) == ("light", None)
    store.put("a", "heavy", 1000)
    assert store.get("a") is None
    assert store.weight == 0


@pytest.mark.parametrize(
    "key",
    [
        "k" * (LONGEST_KEY + 1), b"k" * (LONGEST_KEY + 1), "\u20ac" * 86, ("a", ("b", "k" * (LONGEST_KEY + 1))),
        frozenset([("name", b"k" * (LONGEST_KEY + 1))]),
    ],
)  # fmt: skip
def test_a_key_with_a_long_text_is_never_kept(key: Any) -> None:
    store: Bounded[Any, int] = Bounded(1 << 20)
    store.put(key, 1)
    assert store.get(key) is None
    assert len(store) == store.weight == 0


@pytest.mark.parametrize("key", ["k" * LONGEST_KEY, b"k" * LONGEST_KEY, "\u20ac" * 85, (1, None, "a" * LONGEST_KEY)])
def test_a_key_with_shorter_texts_is_kept(key: Any) -> None:
    store: Bounded[Any, int] = Bounded(1 << 20)
    store.put(key, 1)
    assert store.get(key) == 1


def test_a_bound_of_its_own_for_keys_that_are_no_clients() -> None:
    store: Bounded[bytes, int] = Bounded(1 << 20, longest=1024)
    store.put(b"k" * 1024, 1)
    store.put(b"k" * 1025, 1)
    assert (store.get(b"k" * 1024), store.get(b"k" * 1025)) == (1, None)


def test_presets_stay_for_good_and_as_they_are() -> None:
    store: Bounded[str, int] = Bounded(2 * ENTRY, preset={"fixed": 1})
    store.put("fixed", 2, 0)
    for number in range(100):
        store.put(str(number), number, 0)
    store.drop("fixed")
    assert store.get("fixed") == 1
    assert len(store) == 2
    store.clear()
    assert (store.get("fixed"), store.get("99"), store.weight) == (1, None, 0)


def test_a_value_that_is_put_again_is_the_newest() -> None:
    store: Bounded[str, int] = Bounded(2 * ENTRY)
    for key in ("a", "b", "a", "c"):
        store.put(key, 1, 0)
    assert (store.get("a"), store.get("b"), store.get("c")) == (1, None, 1)


@pytest.mark.slow
def test_the_weight_that_is_estimated_is_what_memory_takes() -> None:
    """Against the allocator: at least what is taken, and no more than three times as much."""
    for make in (
        lambda number: (f"{number:064}", True),
        lambda number: (number + (1 << 40), {"claims": {"sub": str(number) * 10, "roles": [f"a{number}", "b"]}}),
        lambda number: (b"%032d" % number, (b"x" * (number % 5000), [1.5 + number] * 3)),
    ):
        store: Bounded[Any, Any] = Bounded(1 << 30)
        tracemalloc.start()
        for number in range(3000):
            store.put(*make(number))
        taken = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert taken <= store.weight <= 3 * taken


def test_size_of_counts_parts_on_all_levels_without_recursion() -> None:
    deep: Any = "x" * 1000
    for _ in range(10_000):
        deep = [deep]
    assert size_of(deep) > 10_000 * 56 + 1000
    assert size_of({"a": {"b": "x" * 5000}}) > 5000
    assert size_of(frozenset(["x" * 5000])) > 5000


@pytest.mark.slow
def test_hostile_texts_take_no_more_than_the_bound() -> None:
    store: Bounded[bytes, bytes] = Bounded(256 * 1024)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(5_000):
        store.put(b"%0250d" % number, b"v" * 1000)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 512 * 1024


def test_a_function_finds_each_answer_once_and_forgets_in_bounds() -> None:
    asked: list[str] = []

    @remembered(10 * ENTRY)
    def found(key: str) -> bool:
        """Its doc."""
        asked.append(key)
        if key == "none":
            raise ValueError(key)
        return key == "yes"

    assert [found("yes"), found("no"), found("yes"), found("no")] == [True, False, True, False]
    for _ in range(2):
        with pytest.raises(ValueError, match="none"):
            found("none")
        found("k" * (LONGEST_KEY + 1))
    assert asked == ["yes", "no", "none", "k" * 257, "none", "k" * 257]
    for number in range(20):
        found(str(number))
    found("yes")
    assert asked.count("yes") == 2
    assert found.__doc__ == "Its doc."


# --- for a time ---


def test_a_value_is_there_until_its_time_has_passed() -> None:
    memo: Expiring[str, str] = Expiring(10_000, 60)
    memo.put("a", "x", 100)
    assert memo.get("a", 159.9) == "x"
    assert memo.get("a", 160) is None
    assert memo.get("b", 100) is None


def test_a_value_that_is_put_again_is_new() -> None:
    memo: Expiring[str, str] = Expiring(10_000, 60)
    memo.put("a", "x", 100)
    memo.put("a", "y", 130)
    assert memo.get("a", 170) == "y"
    memo.drop("a")
    memo.drop("a")
    assert memo.get("a", 170) is None


def test_a_value_with_a_time_of_its_own() -> None:
    memo: Expiring[str, str] = Expiring(10_000, 60)
    memo.put("a", "x", 100, seconds=5)
    assert memo.get("a", 104.9) == "x"
    assert memo.get("a", 105) is None


def test_of_too_many_the_first_is_forgotten() -> None:
    memo: Expiring[str, int] = Expiring(3 * ENTRY, 60)
    for number in range(3):
        memo.put(str(number), number, 100, weight=0)
    memo.put("0", 0, 101, weight=0)
    memo.put("3", 3, 101, weight=0)
    assert [memo.get(str(number), 101) for number in range(4)] == [0, None, 2, 3]
    assert len(memo) == 3
    assert memo.weight == 3 * ENTRY
    memo.clear()
    assert len(memo) == memo.weight == 0


def test_what_has_ended_takes_no_place() -> None:
    memo: Expiring[str, int] = Expiring(1 << 20, 60)
    for number in range(50):
        memo.put(str(number), number, 100 + number)
    memo.put("last", 1, 1000)
    assert len(memo) == 1


def test_nothing_is_kept_for_no_time() -> None:
    memo: Expiring[str, int] = Expiring(1 << 20, 0)
    memo.put("a", 1, 100)
    assert memo.get("a", 100) is None
    assert len(memo) == 0
