"""Metrics in Prometheus' text format, as its library writes it."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from sidecar.record.metrics import BOUNDS, FAMILIES, Values

MEDIA_TYPE = CONTENT_TYPE_LATEST


def exposition(values: Values) -> bytes:
    """Return the text of these counts."""
    return generate_latest(_Collector(values))


class _Collector:
    """The one source that the library asks."""

    def __init__(self, values: Values) -> None:
        self._values = values

    def collect(self) -> Iterator[Metric]:
        """Yield each metric."""
        return families_of(self._values)


def families_of(values: Values) -> Iterator[Metric]:
    """Return the counts in the library's form."""
    for name, family in FAMILIES.items():
        if family.kind == "histogram":
            histogram = HistogramMetricFamily(name, family.doc, labels=family.labels)
            for labels, numbers in values.get(name, {}).items():
                histogram.add_metric(labels, _cumulative(numbers), numbers[-1])
            yield histogram
        else:
            made = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            single = made(name, family.doc, labels=family.labels)
            for labels, (number,) in values.get(name, {}).items():
                single.add_metric(labels, number)
            yield single


def _cumulative(numbers: list[float]) -> list[tuple[str, float]]:
    buckets, total = [], 0.0
    for bound, count in zip([*map(str, BOUNDS), "+Inf"], numbers, strict=False):
        total += count
        buckets.append((bound, total))
    return buckets
