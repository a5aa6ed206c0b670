"""What is counted is what is shown, cheaply, and several processes count as one."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from sidecar.gate.codes import Code, Ground
from sidecar.record.exposition import exposition
from sidecar.record.metrics import AT_ONCE, BOUNDS, CANDIDATE_RESULTS, FAMILIES, Metrics, Values, merged
from tests.conftest import Stack, policies
from tests.counting import instructions
from tests.stack import Recorder, Seen, running_sidecar


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """(name, label values in the order of the labels' names) -> value."""
    families = text_string_to_metric_families(exposition(metrics.of_all()).decode())
    return {(each.name, _values(each.labels)): each.value for family in families for each in family.samples}


def _values(labels: dict[str, str]) -> tuple[str, ...]:
    return tuple(value for _, value in sorted(labels.items()))


def test_a_request_is_counted_by_route_outcome_code_and_status() -> None:
    metrics = Metrics()
    for status in (200, 200, 404):
        metrics.request("/x/{id}", "allow", "allowed", status, 0.01, {}, True)
    metrics.refused_unread("request_invalid", 400)
    found = samples(metrics)
    assert found["sidecar_requests_total", ("allowed", "allow", "/x/{id}", "200")] == 2
    assert found["sidecar_requests_total", ("allowed", "allow", "/x/{id}", "404")] == 1
    assert found["sidecar_requests_total", ("request_invalid", "refuse", "-", "400")] == 1


def test_a_status_that_http_does_not_name_is_counted_by_its_class() -> None:
    """An app whose status the client chooses does not let it choose the series."""
    metrics = Metrics()
    for status in range(200, 600):
        metrics.request("/status/{n}", "allow", "public", status, 0.0, {}, True)
    statuses = {
        labels[3]: count for (name, labels), count in samples(metrics).items() if name.startswith("sidecar_requests_")
    }
    assert {"2xx", "5xx", "200", "418", "499"} <= set(statuses)
    assert len(statuses) < 70
    assert sum(statuses.values()) == 400


@pytest.mark.parametrize("count", [3, AT_ONCE, 3 * AT_ONCE + 1])
def test_times_fall_into_the_buckets_that_the_library_would_choose(count: int) -> None:
    metrics = Metrics()
    plain = Histogram("plain", "", registry=CollectorRegistry(), buckets=BOUNDS)
    times = [0.0, 0.0001, 0.00011, 0.003, 2.5, 30.0, 99.0]
    for at in range(count):
        seconds = times[at % len(times)]
        metrics.request("/", "allow", "allowed", 200, seconds + 0.5, {"decision": seconds}, True)
        plain.observe(seconds)
    found = samples(metrics)
    for sample in next(iter(plain.collect())).samples:
        if not sample.name.endswith("_created"):
            name = sample.name.replace("plain", "sidecar_stage_seconds")
            assert found[name, _values({"stage": "decision", **sample.labels})] == pytest.approx(sample.value), sample
    assert found["sidecar_request_seconds_count", ("allow",)] == count
    assert found["sidecar_stage_seconds_count", ("upstream",)] == count
    assert found["sidecar_stage_seconds_sum", ("upstream",)] == pytest.approx(count * 0.5)


def test_items_are_counted_by_what_became_of_them() -> None:
    metrics = Metrics()
    metrics.reduced("/list", {"seen": 5, "kept": 3, "masked": 2, "calls": 1, "pushed": "exact"})
    metrics.reduced("/list", {"seen": 1, "kept": 0, "masked": 0, "calls": 1})
    metrics.reduced("/one", {"masked": 1})
    found = samples(metrics)
    assert [found["sidecar_items_total", (result, "/list")] for result in ("kept", "dropped", "masked")] == [3, 3, 2]
    assert [found["sidecar_items_total", (result, "/one")] for result in ("kept", "dropped", "masked")] == [0, 0, 1]
    # what is not enforced was not done
    metrics.reduced("/list", {"seen": 3, "kept": 1, "masked": 1}, enforced=False)
    metrics.reduced("/list", {"unjudged": "busy"}, enforced=False)
    found = samples(metrics)
    results = ("kept", "shadow_kept", "shadow_dropped", "shadow_masked", "shadow_unjudged")
    assert [found["sidecar_items_total", (result, "/list")] for result in results] == [3, 1, 2, 1, 1]


def test_what_was_never_there_is_zero_where_a_rise_is_to_be_seen() -> None:
    found = samples(Metrics())
    assert found["sidecar_cache_total", ("token", "hit")] == 0
    assert found["sidecar_config_reloads_total", ("failed",)] == 0
    assert found["sidecar_worker_restarts_total", ()] == 0


def test_gauges_are_read_when_they_are_wanted() -> None:
    metrics, now = Metrics(), [1.0]
    metrics.read = lambda: [("sidecar_key_age_seconds", ('i"\n',), now[0])]
    assert samples(metrics)["sidecar_key_age_seconds", ('i"\n',)] == 1
    now[0] = 2.0
    assert samples(metrics)["sidecar_key_age_seconds", ('i"\n',)] == 2


class Others:
    """Other processes."""

    def __init__(self, *values: Values) -> None:
        self.values = values
        self.told: list[Values] = []

    def publish(self, values: Values) -> None:
        self.told.append(values)

    def gather(self) -> Iterable[Values]:
        return self.values


def test_several_processes_count_as_one_each_metric_in_its_way() -> None:
    other: Values = {
        "sidecar_requests": {("/", "allow", "allowed", "200"): [5.0]},
        "sidecar_connections": {(): [3.0]},
        "sidecar_ready": {("cerbos",): [0.0]},
        "sidecar_key_age_seconds": {("i",): [9.0]},
        "sidecar_config_agreed": {(): [8.0]},
    }
    others = Others(other)
    metrics = Metrics(others)
    metrics.read = lambda: [
        ("sidecar_connections", (), 4), ("sidecar_ready", ("cerbos",), True), ("sidecar_key_age_seconds", ("i",), 2),
        ("sidecar_config_agreed", (), 7),
    ]  # fmt: skip
    metrics.request("/", "allow", "allowed", 200, 0.0, {}, False)
    found = samples(metrics)
    assert found["sidecar_requests_total", ("allowed", "allow", "/", "200")] == 6
    assert found["sidecar_connections", ()] == 7
    assert found["sidecar_ready", ("cerbos",)] == 0
    assert found["sidecar_key_age_seconds", ("i",)] == 9
    assert found["sidecar_config_agreed", ()] == 0
    other["sidecar_config_agreed"] = {(): [7.0]}
    assert samples(metrics)["sidecar_config_agreed", ()] == 1
    metrics.publish()
    assert others.told[-1]["sidecar_connections"] == {(): [4]}
    assert merged([]) == {name: {} for name in FAMILIES}


ALLOWED = {
    "place": {"memory", "disk"},
    "mode": {"enforce", "shadow", "shadow-policy"},
    "method": {"*", "GET", "PUT"},
    "outcome": {"allow", "refuse", "shadow_refuse", "hit", "miss", "ok", "failed"},
    "code": {*Code, *Ground},
    "stage": {"request", "routing", "identity", "lookup", "decision", "upstream"},
    "cache": {"token", "lookup", "decision"},
    "dep": {"jwks", "pdp", "lookup", "upstream", "sessions", "idp"},
    "fault": {
        "unavailable",
        "timeout",
        "protocol",
        "partial",
        "open",
        "busy",
        "bad_answer",
        "status",
        "auth",
        "mismatch",
    },
    "result": {*CANDIDATE_RESULTS},
    "state": {"idle", "busy", "under_way", "waiting"},
    "part": {"cerbos", "keys", "routes", "log", "serving"},
}


def test_no_client_can_make_a_label(stack: Stack, tmp_path: Path) -> None:
    """Every place of a request that a client fills is filled with what would be a new series in a careless proxy."""
    upstream = Recorder()

    def chosen(_: Recorder, connection: socket.socket, seen: Seen) -> None:
        status = int(seen.target.rpartition("/")[2])
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)

    upstream.answer = chosen
    routes = stack.routes + "  - {path: '/status/{n:int}', access: public}\n"
    with running_sidecar(
        tmp_path, routes, policies(), f"http://127.0.0.1:{upstream.port}", stack.environ, shared=True
    ) as sidecar:
        series: list[set[str]] = []
        for n in range(24):
            if n % 12 == 0:
                series.append(_series(sidecar.admin("/metrics").body.decode()))
            sidecar.get(f"/nowhere-{n}/EVIL{n}")
            sidecar.get(f"/status/{500 + n % 12}")
            sidecar.get(f"/contacts/{n + 100}", stack.tokens["alice"], x_request_id=f"EVIL{n}", user_agent=f"EVIL{n}")
            sidecar.get("/me", f"e30.e30.EVIL{n}", traceparent=f"EVIL{n}", x_forwarded_for=f"EVIL{n}")
            sidecar.request(f"EVIL{n}", "/public")
            with socket.create_connection(("127.0.0.1", sidecar.port)) as raw:
                raw.sendall(b"EVIL%d /\xff%d HTTP/9\r\n\r\n" % (n, n))
                raw.recv(65536)
        text = sidecar.admin("/metrics").body.decode()
    upstream.close()
    assert "EVIL" not in text
    assert "nowhere" not in text
    for name, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', text):
        if name in ALLOWED:
            assert value in ALLOWED[name], (name, value)
        elif name == "route":
            assert value == "-" or f"path: {value}" in routes or f'path: "{value}"' in routes or f"'{value}'" in routes
        elif name == "status":
            assert re.fullmatch(r"\d\d\d|[2-5]xx", value)
        else:
            assert name in ("le", "issuer", "name", "upstream"), name
    assert len(series[1]) > len(series[0])
    # the second round came with other values in every place, and made nothing new
    assert _series(text) == series[1]


def _series(text: str) -> set[str]:
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


def test_a_request_costs_next_to_nothing() -> None:
    """In instructions of the interpreter, which no load changes: 220 here, 1,200 in six observations of a prometheus_client
    histogram with its labels."""
    metrics, stages = Metrics(), dict.fromkeys(("request", "routing", "identity", "lookup", "decision"), 0.001)

    def observe() -> None:
        for _ in range(2 * AT_ONCE):
            metrics.request("/x/{id}", "allow", "allowed", 200, 0.01, stages, True)

    assert instructions(observe) / (2 * AT_ONCE) < 300
