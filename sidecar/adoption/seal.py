"""Seal of a drafted file: a checksum in its head, by which a later draft knows whether somebody has changed it."""

from __future__ import annotations

import hashlib

MARK = "# Drafted by `sidecar draft`"
"""Begins each drafted file."""
_BEFORE, _BEHIND = "# Checksum ", ": while it holds, `sidecar draft --force` may replace this file."


def sealed(text: str) -> str:
    """Return a drafted text with its seal as the second line."""
    head, rest = text.split("\n", 1)
    return f"{head}\n{_seal_of(text.encode('utf-8'))}\n{rest}"


def is_drafted(data: bytes) -> bool:
    """Return whether a file was drafted, even if it was changed since."""
    return data.startswith(MARK.encode("utf-8"))


def is_as_drafted(data: bytes) -> bool:
    """Return whether a file is, byte for byte, as it was drafted."""
    head, _, behind = data.partition(b"\n")
    seal, _, rest = behind.partition(b"\n")
    return is_drafted(data) and seal == _seal_of(head + b"\n" + rest).encode("utf-8")


def _seal_of(data: bytes) -> str:
    return f"{_BEFORE}{hashlib.sha256(data).hexdigest()[:16]}{_BEHIND}"
