"""What is remembered ends by time and by number."""

from __future__ import annotations

from sidecar.clients.memo import Memo


def test_a_value_is_there_until_its_time_has_passed() -> None:
    memo: Memo[str] = Memo(10, 60)
    memo.put("a", "x", 100)
    assert memo.get("a", 159.9) == "x"
    assert memo.get("a", 160) is None
    assert memo.get("b", 100) is None


def test_a_value_that_is_put_again_is_new() -> None:
    memo: Memo[str] = Memo(10, 60)
    memo.put("a", "x", 100)
    memo.put("a", "y", 130)
    assert memo.get("a", 170) == "y"
    memo.drop("a")
    memo.drop("a")
    assert memo.get("a", 170) is None


def test_of_too_many_the_first_is_forgotten() -> None:
    memo: Memo[int] = Memo(3, 60)
    for number in range(3):
        memo.put(str(number), number, 100)
    memo.put("0", 0, 101)
    memo.put("3", 3, 101)
    assert [memo.get(str(number), 101) for number in range(4)] == [0, None, 2, 3]
    assert len(memo) == 3


def test_what_has_ended_takes_no_place() -> None:
    memo: Memo[int] = Memo(100, 60)
    for number in range(50):
        memo.put(str(number), number, 100 + number)
    memo.put("last", 1, 1000)
    assert len(memo) == 1


def test_nothing_is_kept_for_no_time() -> None:
    memo: Memo[int] = Memo(100, 0)
    memo.put("a", 1, 100)
    assert memo.get("a", 100) is None
    assert len(memo) == 0
