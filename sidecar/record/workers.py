"""How several workers count as one: a file for each in a folder of the parent's, and one of the parent's own.

A worker writes what it counts every half second, so what one of them shows of the others may be that old, and what a
worker counted in its last half second is lost where it is killed. When a worker ends, the parent takes what it counted
over and removes its file: counters never fall, and gauges are those of the living.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from sidecar.record.metrics import FAMILIES, Values, merged

PUBLISH_EVERY = 0.5
"""Seconds between two looks of others at what a process counts."""
_PARENT = "parent.json"
_REMEMBERED = 256
"""Workers that ended whose names are kept: as long as somebody may still hold what was read of their files."""


class WorkerFile:
    """A worker's side: `path` is its own file, those of the others are beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def publish(self, values: Values) -> None:
        """Let the others know. What cannot be written is not known to them."""
        with contextlib.suppress(OSError):
            _write(self._path, {"values": _packed(values)})

    def gather(self) -> Iterator[Values]:
        """Return the counts of each of the others, and what those did that have ended."""
        read = {path.name: _read(path) for path in self._path.parent.glob("*.json") if path != self._path}
        # last: a worker that has ended since is in here, and what was read of its own file is not counted again
        parent = _read(self._path.parent / _PARENT)
        read[_PARENT] = parent
        for name, content in read.items():
            if name not in parent.get("ended", ()):
                yield _unpacked(content.get("values", {}))


class ParentFile:
    """The parent's side: who has ended, and what the parent itself counts. Its counters begin at 0 in a new folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        self._taken: Values = {}

    def worker(self, number: int) -> Path:
        """The file of a worker that will be started; each needs another number."""
        return self._folder / f"worker-{number}.json"

    def take_over(self, path: Path) -> None:
        """A worker has ended: keep what it counted, and no reading of it."""
        counted = {
            name: samples
            for name, samples in _unpacked(_read(path).get("values", {})).items()
            if FAMILIES[name].kind != "gauge"
        }
        self._taken = merged([self._taken, counted])
        self._ended.append(path.name)

    def publish(self, own: Values) -> None:
        """Say what the parent counts, besides what it has taken over, and remove the files of those that have ended."""
        _write(
            self._folder / _PARENT, {"values": _packed(merged([self._taken, own])), "ended": list(self._ended)}
        )  # fmt: skip
        for name in self._ended:
            (self._folder / name).unlink(missing_ok=True)


def _packed(values: Values) -> dict[str, list[object]]:
    return {name: [[labels, numbers] for labels, numbers in samples.items()] for name, samples in values.items()}


def _unpacked(packed: dict[str, list[tuple[list[str], list[float]]]]) -> Values:
    return {name: {tuple(labels): numbers for labels, numbers in samples} for name, samples in packed.items()}


def _write(path: Path, content: object) -> None:
    """At once or not at all: a reader sees the old or the new."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(content), encoding="utf-8")
    os.replace(new, path)


def _read(path: Path) -> dict[str, dict[str, list[tuple[list[str], list[float]]]]]:
    try:
        content: dict[str, dict[str, list[tuple[list[str], list[float]]]]] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        # one that has not written yet, or has been taken over in between
        return {}
    return content
