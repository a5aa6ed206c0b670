"""A lookup's `function` -> its inquiry. Nothing is imported here: a route file can be read where the module is not."""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.config.shapes import Entry, Reader
from sidecar.gate.function import Function


def read_function(entry: Entry, environ: Mapping[str, str], reader: Reader) -> Function:
    """The function of a lookup."""
    return Function(entry["function"], entry["as"] == "principal", entry["batch"] is not None)
