"""Bars, scales and shares of charts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.adoption.charts import HEIGHT, LEFT, WIDTH, Column, chart_of, scale_of, share_of


@pytest.mark.parametrize(
    ("most", "scale"),
    [(0, [0, 1, 2]), (1, [0, 1, 2]), (5, [0, 1, 2, 3, 4, 5]), (6, [0, 2, 4, 6]), (94, [0, 20, 40, 60, 80, 100]), (751, [0, 200, 400, 600, 800])],
)  # fmt: skip
def test_a_scale_has_round_numbers(most: int, scale: list[int]) -> None:
    assert scale_of(most) == scale


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=400))
def test_no_bar_leaves_its_chart_and_what_is_there_is_seen(numbers: list[tuple[int, int]]) -> None:
    chart = chart_of([Column("01-31", "title", [("a", one), ("b", other)]) for one, other in numbers])
    assert len(chart.bars) == len(numbers)
    assert len(chart.labels) <= 20
    for bar, pair in zip(chart.bars, numbers, strict=True):
        assert bar.x >= LEFT
        assert bar.x + bar.width <= WIDTH + 1
        assert [part.name for part in bar.parts] == [name for name, number in zip("ab", pair, strict=True) if number]
        assert all(part.y >= 0 and part.y + part.height <= HEIGHT for part in bar.parts)
        assert all(part.height >= 1.5 for part in bar.parts)


def test_a_share_is_percent_and_never_nothing_where_there_is_something() -> None:
    assert [share_of(1, 4), share_of(0, 4, 2), share_of(1, 0), share_of(1, 1000, 0.8), share_of(9, 4)] == [
        25,
        0,
        0,
        0.8,
        100,
    ]
