"""Suggestions for names that are close to a known one, for messages about an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return the known name that is closest to `name`, "" where none is close.

    A `prefix` that all names share makes none of them closer.
    """
    by_folded = {one.removeprefix(prefix).casefold(): one for one in known}
    close = difflib.get_close_matches(name.removeprefix(prefix).casefold(), by_folded, n=1, cutoff=0.75)
    return by_folded[close[0]] if close else ""


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return `, did you mean 'path'?` for the `closest` name, "" where none is close."""
    meant = closest(name, known, prefix)
    return f", did you mean {meant!r}?" if meant else ""
