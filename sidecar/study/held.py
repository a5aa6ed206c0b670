"""Warnings about bodies that are held: which of those that routes allow never find room."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.gate.ask import Ask
from sidecar.gate.routing import RouteTable

_MIB = 1024 * 1024
IN_MEMORY = _MIB
"""Bytes of a form in memory; the rest is on disk."""
PIECE = 256 * 1024
"""Bytes of that rest that are in memory before they are written."""
_TIMES = 2
"""Times its size that a body takes at the least which is read as a whole."""


def warnings(table: RouteTable, memory: int, disk: int) -> Iterator[str]:
    """Yield the methods of routes whose largest bodies need more room than one principal ever gets, which is half."""
    for route in table.routes:
        for method in route.actions:
            ask = route.asks[method]
            most, why = _most(ask, memory, disk)
            if why and ask.max_body > most:
                yield (
                    f"{method} {route.name}: found max_body of {_size(ask.max_body)}, expected at most {_size(most)}: "
                    f"one principal has {why}, so that larger bodies are always 503 body_no_room"
                )


def _most(ask: Ask, memory: int, disk: int) -> tuple[int, str]:
    """Return the bytes that the room leaves to a body of a method, and why; "" where none is read."""
    share = memory // 2
    if ask.form is not None:
        if share < IN_MEMORY + PIECE:
            # it runs out before anything is on disk
            return share, "half of SIDECAR_HELD_MEMORY"
        return IN_MEMORY + disk // 2, "half of SIDECAR_HELD_DISK"
    if ask.needs_body or ask.operations is not None:
        return share // _TIMES, "half of SIDECAR_HELD_MEMORY, and a body counts twice while it is read"
    return 0, ""


def _size(count: int) -> str:
    return f"{count} bytes" if count % _MIB else f"{count // _MIB}MiB"
