"""Paths beside a path of a spec: those of requests that have there what the spec's type does not take.

`/reports/{id:int}` takes 7, and 007 is another spelling of that; `/reports/export` is a path that the spec leaves out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sidecar.gate.routing import Pattern, Segment, Variable
from sidecar.imports.shapes import SegmentShape, parts_of, pattern_of, shape_of
from sidecar.imports.words import is_known, stands_beside_ids

_SPELLINGS = {
    Pattern.INT: re.compile(r"[+-]?[0-9]+(?:\.0*)?"),
    Pattern.UUID: re.compile(r"\{?[0-9A-Fa-f]{8}-?(?:[0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}\}?"),
}


def is_other_spelling(variable: Variable, text: str) -> bool:
    """Return whether a segment has a number or UUID, as declared, in a spelling that the sidecar refuses."""
    spellings = _SPELLINGS.get(variable.pattern)
    value = variable.value(text)
    return spellings is not None and spellings.fullmatch(value) is not None and not _fits(variable, value)


def path_beside(declared: Sequence[Segment], seen: Sequence[Segment]) -> tuple[Segment, ...] | None:
    """Return the path that a request has: the declared one where its values are of the types declared, else one with
    words in their place. None where a value is neither of its type nor a word."""
    made: list[Segment] = []
    above = ""
    for one, text in zip(declared, seen, strict=False):
        segment: Segment | None = one
        if isinstance(one, Variable) and isinstance(text, str) and not _is_taken(one, text):
            segment = _other(one, text, above)
        if segment is None:
            return None
        if isinstance(segment, str):
            above = segment
        made.append(segment)
    return tuple(made)


def _fits(variable: Variable, value: str) -> bool:
    return variable.pattern not in _SPELLINGS or pattern_of(value) is variable.pattern


def _is_taken(variable: Variable, text: str) -> bool:
    return _fits(variable, variable.value(text)) or is_other_spelling(variable, text)


def _other(variable: Variable, text: str, above: str) -> Segment | None:
    stem, ending = parts_of(variable.value(text))
    if ending and _fits(variable, stem):
        return variable._replace(after=f"{ending}{variable.after}")
    is_word = is_known(stem) or (shape_of(stem) is SegmentShape.WORD and stands_beside_ids(stem, above))
    return text if is_word else None
