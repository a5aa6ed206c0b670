"""Pairs of a query or of an application/x-www-form-urlencoded body, read in one way only (WHATWG URL, section 5)."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

MAX_NAME = 100
"""Bytes of the name of a field: busboy cuts off what is more."""
# a NUL ends a name for some, and who decodes twice reads another name
UNCLEAR = re.compile(r"[\x00-\x1f\x7f-\x9f%]")
"""Characters of a decoded name that some servers take for an end or an escape."""
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
# qs, which Express reads forms with, looks for the first "]=" before it looks for "="
_LATER_NAME = re.compile(rb"(?:\]|%5d)=", re.IGNORECASE)
# browsers escape all but letters, digits and "*-._"; curl sends what it is given
_STRANGE = re.compile(rb"[^!-~]|;")


def decoded(data: bytes) -> bytes:
    """`data` without escapes, and with a blank for each '+'. Raises ValueError."""
    if _BROKEN_ESCAPE.search(data):
        raise ValueError("a broken escape")
    return unquote_to_bytes(data.replace(b"+", b" "))


def has_later_name(value: bytes) -> bool:
    """Return whether a name reaches into this value, as it is on the wire, for some servers."""
    return _LATER_NAME.search(value) is not None


class FormField(NamedTuple):
    """Field of a form: its name, and its text if it has one that all servers read alike; else its `description` says
    what it is."""

    name: str
    text: str | None
    description: str = ""


def fields_of(body: bytes, most: int) -> list[FormField]:
    """The fields of a body, in order. Raises ValueError for a body that two servers may read differently, and for one
    of more than `most` fields."""
    if _STRANGE.search(body):
        raise ValueError("a ';', a blank, or a byte that is not ASCII, expected it as an escape")
    if body.count(b"&") >= most:
        raise ValueError(f"more than {most} fields")
    return [_field(*pair.partition(b"=")[::2]) for pair in body.split(b"&") if pair]


def _field(raw: bytes, value: bytes) -> FormField:
    try:
        name = decoded(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("a name that is not UTF-8") from None
    if UNCLEAR.search(name):
        raise ValueError("a control character, or an escape of an escape, in a name")
    if len(name.encode("utf-8")) > MAX_NAME:
        raise ValueError(f"a name of more than {MAX_NAME} bytes")
    if has_later_name(value):
        raise ValueError("']=' in a value, to which a name reaches for some servers")
    try:
        return FormField(name, decoded(value).decode("utf-8"))
    except ValueError:
        return FormField(name, None, "a text that is not UTF-8 in whole escapes")
