"""Warnings about bodies that are held: which of those that routes allow never find room."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.gate.ask import Ask
from sidecar.gate.routing import RouteTable

IN_MEMORY = 1024 * 1024
"""Bytes of a form in memory; the rest is on disk."""
_TIMES = 2
"""Times its size that a body takes at the least which is read as a whole."""


def warnings(table: RouteTable, memory: int, disk: int) -> Iterator[str]:
    """Yield the methods of routes whose largest bodies need more room than one principal ever gets, which is half."""
    for route in table.routes:
        for method in route.actions:
            ask = route.asks[method]
            setting, most = _most(ask, memory, disk)
            if setting and ask.max_body > most:
                yield (
                    f"{method} {route.name}: found max_body of {ask.max_body} bytes, expected at most {most}: one "
                    f"principal has half of {setting}, so that larger bodies are always 503 body_no_room"
                )


def _most(ask: Ask, memory: int, disk: int) -> tuple[str, int]:
    """Return the setting that bounds a body of a method, "" where none is read, and the bytes that it leaves."""
    if ask.form is not None:
        return "SIDECAR_HELD_DISK", min(IN_MEMORY, memory // 2) + disk // 2
    if ask.needs_body or ask.operations is not None:
        return "SIDECAR_HELD_MEMORY", memory // 2 // _TIMES
    return "", 0
