"""Warnings about bodies and answers that are held: which of those that routes allow never find room."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.config.routes.file import RoutesFile
from sidecar.gate.ask import Ask
from sidecar.release.items import ItemsRule
from sidecar.release.lookup import AnswerLookupRule
from sidecar.release.messages import MessagesRule
from sidecar.release.single import FieldsRule

_MIB = 1024 * 1024
IN_MEMORY = _MIB
"""Bytes of a form in memory; the rest is on disk."""
PIECE = 256 * 1024
"""Bytes of that rest that are in memory before they are written."""
_TIMES = 2
"""Times its size that a body takes at the least which is read as a whole."""

SMALL = _MIB
"""Bytes of an answer that are held in this room; a larger one has a place among a few."""
JUDGED = 4
"""Times its size that an answer takes while it is judged."""


def warnings(routes: RoutesFile, file: str, memory: int, disk: int) -> Iterator[str]:
    """Yield the methods of routes whose largest bodies need more room than one principal ever gets, which is half, with
    their places in `file`."""
    for route in routes.table.routes:
        for method in route.actions:
            ask = route.asks[method]
            most, why = _most(ask, memory, disk)
            if why and ask.max_body > most:
                text = (
                    f"{method} {route.name}: found max_body of {_size(ask.max_body)}, expected at most "
                    f"{_size(most)}: one principal has {why}, so that larger bodies are always 503 body_no_room"
                )
                yield routes.told_at(file, route, text, f"{method}.max_body", "max_body")


def answer_warnings(routes: RoutesFile, file: str, memory: int, *, ext_proc: bool) -> Iterator[str]:
    """Yield the methods of routes whose largest answers need more room than one principal ever gets, with their places
    in `file`. With `ext_proc` large ones take of it, too."""
    share = memory // 2
    if not ext_proc and share >= JUDGED * SMALL:
        # a larger one has a place of its own before it needs more
        return
    most = share // JUDGED
    for route in routes.table.routes:
        for method in route.actions:
            size, key = _answer(route.asks[method])
            if size > most:
                enough = 2 * JUDGED * (size if ext_proc else min(size, SMALL))
                text = (
                    f"{method} {route.name}: found answers of up to {_size(size)}, expected at most "
                    f"{_size(most)}: one principal has half of SIDECAR_HELD_MEMORY, and an answer counts four times "
                    f"while it is judged{' by ext_proc' if ext_proc else ''}, so that larger ones are always 503 "
                    "upstream_busy: "
                    f"lower `max_size`, or raise SIDECAR_HELD_MEMORY to {_size(enough)}"
                )
                yield routes.told_at(file, route, text, key)


def _answer(ask: Ask) -> tuple[int, str]:
    """Return the bytes of the largest answer that is judged as a whole, and the name of what says so; 0 for none."""
    if isinstance(ask.answer_lookup, AnswerLookupRule):
        return ask.answer_lookup.max_size, "lookup"
    match ask.answer:
        case ItemsRule():
            return ask.answer.max_size, "items"
        case FieldsRule():
            return ask.answer.max_size, "fields"
        case MessagesRule():
            return ask.answer.max_size, "mcp"
        case _:
            return 0, ""


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
