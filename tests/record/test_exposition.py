"""Counts as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from sidecar.record.exposition import MEDIA_TYPE, exposition
from sidecar.record.metrics import FAMILIES, Metrics


def test_every_family_is_shown_with_its_kind_and_what_it_counts() -> None:
    shown = {each.name: each for each in text_string_to_metric_families(exposition(Metrics().of_all()).decode())}
    assert {name: (each.type, each.documentation) for name, each in shown.items()} == {
        name: (family.kind, family.doc) for name, family in FAMILIES.items()
    }
    assert MEDIA_TYPE.startswith("text/plain; version=")


def test_a_histogram_has_the_sum_of_the_buckets_below() -> None:
    metrics = Metrics()
    for seconds in (0.0002, 0.0002, 3.0):
        metrics.request("/x", "allow", "allowed", 200, seconds, {}, False)
    (family,) = (
        each
        for each in text_string_to_metric_families(exposition(metrics.of_all()).decode())
        if each.name == "sidecar_request_seconds"
    )
    found = {(each.name, each.labels.get("le")): each.value for each in family.samples}
    assert found["sidecar_request_seconds_bucket", "0.00025"] == 2
    assert found["sidecar_request_seconds_bucket", "2.5"] == 2
    assert found["sidecar_request_seconds_bucket", "+Inf"] == found["sidecar_request_seconds_count", None] == 3
    assert abs(found["sidecar_request_seconds_sum", None] - 3.0004) < 1e-9
