"""Shape of a path's segment: a word that the app may have, or one of the forms in which ids are written."""

from __future__ import annotations

import re
from enum import StrEnum

from sidecar.gate.routing import Pattern


class SegmentShape(StrEnum):
    """Forms of a segment."""

    WORD = "word"
    INT = "number"
    UUID = "UUID"
    HASH = "hash"
    DATE = "date"
    OPAQUE = "opaque text"
    SLUG = "slug"
    TEXT = "text"


MAX_WORD = 32
# `-` and `_` alone, and `.well-known`, are names of folders in some apps
_WORD = re.compile(r"[._]?[A-Za-z]+(?:[-_][A-Za-z]+){0,3}|[-_]|v[0-9]{1,2}(?:\.[0-9])?")
_FORMS = (
    (SegmentShape.INT, re.compile(r"-[1-9][0-9]{0,18}")),
    (SegmentShape.UUID, re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")),
    (SegmentShape.DATE, re.compile(r"[0-9]{4}-[0-9]{2}(?:-[0-9]{2}(?:T[0-9:.]+Z?)?)?|(?:19|20)[0-9]{6}")),
    (SegmentShape.HASH, re.compile(r"(?=.*[0-9])[0-9a-fA-F]{16,128}")),
)  # fmt: skip
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+|[a-z][a-z0-9]*")
_OPAQUE = re.compile(r"[A-Za-z0-9._~+-]{1,128}")
# two turns from lower case to capitals and back, as ids of random letters have, and words of three parts seldom do
_MIXED = re.compile(r"(?=.{8,}\Z)(?:[A-Z]{2,}[a-z]|[A-Za-z]*[a-z][A-Z]{2,}[a-z])")
_INT = re.compile(r"0|[1-9][0-9]{0,18}")
_LOWER_UUID = re.compile(r"[0-9a-f-]{36}")
_DEFAULT = re.compile(r"[A-Za-z0-9._~+-]{1,128}")


def shape_of(segment: str) -> SegmentShape:
    """Return the shape of a segment as a log has it."""
    if _INT.fullmatch(segment):
        return SegmentShape.INT
    if len(segment) <= MAX_WORD and _WORD.fullmatch(segment) and not _MIXED.match(segment):
        return SegmentShape.WORD
    for shape, pattern in _FORMS:
        if pattern.fullmatch(segment):
            return shape
    if _SLUG.fullmatch(segment):
        return SegmentShape.SLUG
    return SegmentShape.OPAQUE if _OPAQUE.fullmatch(segment) else SegmentShape.TEXT


def pattern_of(segment: str) -> Pattern:
    """Return the narrowest pattern of a variable that takes a segment; UUIDs are narrow in lower case alone."""
    if _INT.fullmatch(segment):
        return Pattern.INT
    shape = shape_of(segment)
    if shape is SegmentShape.UUID and _LOWER_UUID.fullmatch(segment):
        return Pattern.UUID
    return Pattern.DEFAULT if _DEFAULT.fullmatch(segment) else Pattern.ANY


def widest(patterns: set[Pattern]) -> Pattern:
    """Return the narrowest pattern that takes what all of these take."""
    if len(patterns) == 1:
        return next(iter(patterns))
    return Pattern.ANY if Pattern.ANY in patterns else Pattern.DEFAULT


_STATIC = re.compile(
    r"(.+)\.(?:js|mjs|css|map|png|jpe?g|gif|svg|ico|webp|avif|woff2?|ttf|otf|eot|wasm|mp3|mp4|webm)", re.IGNORECASE
)
_EXTENSION = re.compile(
    r"(.+)(\.(?:json|jsonl|ndjson|csv|tsv|xml|html?|pdf|txt|ya?ml|zip|xlsx?|php|aspx?|do|rss|atom|ics))"
)


def is_static(segment: str) -> bool:
    """Return whether a segment is the name of a file that pages load: a script, a style, a picture, a font."""
    return "." in segment and _STATIC.fullmatch(segment) is not None


def parts_of(segment: str) -> tuple[str, str]:
    """Return a segment without the ending that tells a format, and that ending: `7.json` is `7` and `.json`."""
    found = _EXTENSION.fullmatch(segment) if "." in segment else None
    return (found[1], found[2]) if found is not None else (segment, "")
