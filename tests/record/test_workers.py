"""Workers and their parent count as one: nothing is counted twice, nothing is lost, and the dead have no gauges."""

from __future__ import annotations

from pathlib import Path

from sidecar.record.exposition import families_of
from sidecar.record.metrics import Metrics
from sidecar.record.workers import ParentFile, WorkerFile

REQUEST = ("/", "allow", "allowed", "200")


def worker(path: Path, requests: int, connections: int = 1) -> Metrics:
    metrics = Metrics(WorkerFile(path))
    metrics.read = lambda: [("sidecar_connections", (), connections), ("sidecar_workers", (), 1)]
    for _ in range(requests):
        metrics.request("/", "allow", "allowed", 200, 0.001, {"decision": 0.0005}, True)
    metrics.publish()
    return metrics


def shown(metrics: Metrics) -> tuple[float, float, float, float]:
    """Requests, decisions timed, connections, restarts: as one worker shows those of all."""
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in families_of(metrics.of_all()):
        for sample in family.samples:
            values[sample.name, tuple(sample.labels.items())] = sample.value
    labels = tuple(zip(("route", "outcome", "code", "status"), REQUEST, strict=True))
    return (
        values["sidecar_requests_total", labels],
        values["sidecar_stage_seconds_count", (("stage", "decision"),)],
        values["sidecar_connections", ()],
        values["sidecar_worker_restarts_total", ()],
    )


def test_any_worker_shows_what_all_count(tmp_path: Path) -> None:
    parent = ParentFile(tmp_path)
    first, second = worker(parent.worker(1), 3), worker(parent.worker(2), 4, 5)
    parent.publish({"sidecar_worker_restarts": {(): [2.0]}})
    assert shown(first) == (7, 7, 6, 2)
    assert shown(second) == (7, 7, 6, 2)


def test_the_dead_are_counted_once_and_have_no_gauges(tmp_path: Path) -> None:
    parent = ParentFile(tmp_path)
    first, dead = worker(parent.worker(1), 3), parent.worker(2)
    worker(dead, 4, 5)
    held = dead.read_text()
    parent.take_over(dead)
    parent.publish({"sidecar_worker_restarts": {(): [1.0]}})
    assert not dead.exists()
    assert shown(first) == (7, 7, 1, 1)
    # one that reads the folder while the parent takes over finds both
    dead.write_text(held)
    assert shown(first) == (7, 7, 1, 1)
    worker(parent.worker(3), 2)
    assert shown(first) == (9, 9, 2, 1)


def test_as_many_may_die_as_want_and_leave_one_file(tmp_path: Path) -> None:
    parent = ParentFile(tmp_path)
    first = worker(parent.worker(0), 1)
    for number in range(1, 20):
        worker(parent.worker(number), 1)
        parent.take_over(parent.worker(number))
        parent.publish({"sidecar_worker_restarts": {(): [float(number)]}})
    assert shown(first) == (20, 20, 1, 19)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parent.json", "worker-0.json"]


def test_one_that_has_not_written_or_cannot_be_read_counts_nothing(tmp_path: Path) -> None:
    parent = ParentFile(tmp_path)
    first = worker(parent.worker(1), 3)
    parent.worker(2).write_text('{"values": {"sidecar_req')
    parent.take_over(parent.worker(3))
    parent.publish({})
    assert shown(first)[:2] == (3, 3)


def test_a_folder_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    first = worker(ParentFile(folder).worker(1), 3)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    first.publish()
    assert shown(first)[:2] == (3, 3)
