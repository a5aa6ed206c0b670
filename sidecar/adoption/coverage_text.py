"""A coverage report as text for a person and as JSON for a program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sidecar.adoption.coverage import AREAS, Area, Gap
from sidecar.printable import printable

SHOWN = 25
"""Gaps of an area that the text shows; the JSON has all."""
_BOLD, _RED, _GREEN, _DIM, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[2m", "\x1b[0m"


def text_of(areas: Iterable[Area], notes: Sequence[str], under: Sequence[str], colours: bool) -> str:
    """Return the report as text. `under` are the areas that are under what was demanded."""

    def paint(colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if colours else text

    lines: list[str] = []
    for area in areas:
        if area.missing:
            lines.append(paint(_DIM, f"{area.name:<14} not measured: give {area.missing}"))
            continue
        colour = _RED if area.name in under else _GREEN if not area.gaps else _BOLD
        head = f"{area.name:<14} {_share(area):>9}  {area.covered:,} of {area.total:,} {AREAS[area.name]}"
        lines.append(paint(colour, head))
        lines += [printable(f"  {_line_of(gap)}") for gap in area.gaps[:SHOWN]]
        if more := len(area.gaps) - SHOWN:
            lines += [f"  … and {more:,} more, which --json lists"] if more > 0 else []
    return "\n".join([*lines, *(printable(f"note: {note}") for note in notes)]) + "\n"


def _share(area: Area) -> str:
    return f"{area.percent:.1f} %" if area.total else "nothing"


def _line_of(gap: Gap) -> str:
    requests = f", {gap.requests:,} request{'s' if gap.requests > 1 else ''}" if gap.requests else ""
    return f"{gap.place}: {gap.what}{requests}{f': {gap.why}' if gap.why else ''}"


def json_of(areas: Iterable[Area], notes: Sequence[str], under: Sequence[str]) -> dict[str, Any]:
    """Return the report as one JSON object. A field that is not there does not apply."""
    return {"areas": [_json_area(area) for area in areas], "under": list(under), "notes": list(notes)}


def _json_area(area: Area) -> dict[str, Any]:
    if area.missing:
        return {"name": area.name, "measured": False, "missing": area.missing}
    return {
        "name": area.name, "measured": True, "covered": area.covered, "total": area.total,
        "percent": round(area.percent, 2), "gaps": [_json_gap(gap) for gap in area.gaps],
    }  # fmt: skip


def _json_gap(gap: Gap) -> dict[str, Any]:
    found = {"what": gap.what, "place": gap.place, "requests": gap.requests, "why": gap.why}
    return {name: value for name, value in found.items() if value}
