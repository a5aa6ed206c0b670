"""Geometry of charts: numbers → rectangles and labels of an SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MAX_LABELS = 10
"""Days with a label below a chart."""


class Part(NamedTuple):
    """A rectangle of a bar; `name` is the class that colors it."""

    name: str
    y: float
    height: float


class Bar(NamedTuple):
    """A bar of a chart, with what it says where one points at it."""

    x: float
    width: float
    parts: tuple[Part, ...]
    title: str


class Label(NamedTuple):
    """A label, and where it stands."""

    at: float
    text: str


class Chart(NamedTuple):
    """Bars beside each other, with a scale on the left and labels below."""

    width: float
    height: float
    left: float
    bottom: float
    bars: tuple[Bar, ...]
    scale: tuple[Label, ...]
    labels: tuple[Label, ...]


class Column(NamedTuple):
    """Numbers of one bar, by the class that colors them, from the bottom on."""

    label: str
    title: str
    numbers: Sequence[tuple[str, int]]


WIDTH, HEIGHT, LEFT, TOP, BELOW = 520.0, 190.0, 48.0, 10.0, 26.0


def chart_of(columns: Sequence[Column]) -> Chart:
    """Return the chart of these columns."""
    most = max((sum(number for _, number in column.numbers) for column in columns), default=0)
    steps = scale_of(most)
    bottom, unit = HEIGHT - BELOW, (HEIGHT - BELOW - TOP) / steps[-1]
    room = (WIDTH - LEFT) / max(len(columns), 1)
    width = max(min(room * 0.72, 48.0), 1.0)
    bars = []
    for number, column in enumerate(columns):
        x = LEFT + room * number + (room - width) / 2
        bars.append(Bar(round(x, 2), round(width, 2), tuple(_parts(column.numbers, bottom, unit)), column.title))
    scale = tuple(Label(round(bottom - step * unit, 2), f"{step:,}") for step in steps)
    every = max(math.ceil(len(columns) / MAX_LABELS), 1)
    labels = tuple(
        Label(round(LEFT + room * (number + 0.5), 2), column.label)
        for number, column in enumerate(columns)
        if number % every == 0
    )
    return Chart(WIDTH, HEIGHT, LEFT, bottom, tuple(bars), scale, labels)


def _parts(numbers: Iterable[tuple[str, int]], bottom: float, unit: float) -> Iterable[Part]:
    for name, number in numbers:
        if number:
            # what is there at all is to be seen
            height = max(number * unit, 1.5)
            bottom -= height
            yield Part(name, round(bottom, 2), round(height, 2))


def scale_of(most: int) -> list[int]:
    """Return three to six round numbers from 0 on, of which the last is not below `most`."""
    step = 1
    while step * 5 < most:
        # 1, 2, 5, 10, 20, 50, …
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return list(range(0, max(math.ceil(most / step), 2) * step + 1, step))


def share_of(number: float, whole: float, least: float = 0.0) -> float:
    """Return a number as percent of a whole, at least so much if it is not 0."""
    if not number or not whole:
        return 0.0
    return round(max(min(number / whole * 100, 100.0), least), 2)
