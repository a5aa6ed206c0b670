"""Cerbos' globs of actions and resources (its source, internal/util/glob)."""

from __future__ import annotations

import re

_PART = re.compile(r"\*\*|[*?]|\[[^\]]*\]|\{[^}]*\}|.", re.DOTALL)


def matches(glob: str, text: str) -> bool:
    """Return whether a glob names a text. `*` and `?` stop at a colon, `**` and a lone `*` do not; without `*` it is
    text."""
    if not is_glob(glob):
        return glob == text
    return glob == "*" or _compiled(glob).fullmatch(text) is not None


def _compiled(glob: str) -> re.Pattern[str]:
    return re.compile("".join(_translated(part) for part in _PART.findall(glob)), re.DOTALL)


def _translated(part: str) -> str:
    if part in ("**", "*", "?"):
        return {"**": ".*", "*": "[^:]*", "?": "[^:]"}[part]
    if part[0] == "[" and len(part) > 2:
        inner = part[1:-1]
        return f"[{'^' if inner[0] == '!' else ''}{re.escape(inner.removeprefix('!')).replace(re.escape('-'), '-')}]"
    if part[0] == "{" and len(part) > 2:
        return f"(?:{'|'.join(map(re.escape, part[1:-1].split(',')))})"
    return re.escape(part)


def overlap(one: str, other: str) -> bool:
    """Return whether two globs may name one text; of two that both have wildcards it is taken for granted."""
    return matches(one, other) or matches(other, one) or (is_glob(one) and is_glob(other))


def is_glob(text: str) -> bool:
    """Return whether a text has wildcards."""
    return "*" in text


def looks_like_glob(text: str) -> bool:
    """Return whether a text has wildcards that Cerbos does not take for such, for want of a `*`."""
    return not is_glob(text) and any(mark in text for mark in "?[{")
