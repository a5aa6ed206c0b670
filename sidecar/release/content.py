"""The body of the app's answer as JSON that can be reduced, and the headers that are true of what is left of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecar.gate.codes import Code
from sidecar.gate.obligation import HeldAnswer
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import Header

_OF_THE_WHOLE = frozenset(
    (
        b"etag",
        b"last-modified",
        b"digest",
        b"content-digest",
        b"repr-digest",
        b"content-md5",
        b"accept-ranges",
        b"content-range",
    )
)
"""Headers of an answer that are about bytes which are not sent as they came (RFC 9110 sections 8.8, 14; RFC 9530)."""


def readable(held: HeldAnswer) -> bytes | None:
    """Return the JSON text of an answer, None where it is an error or a redirect, or has no content.

    Raises Refused(ITEMS_UNREADABLE) for what cannot be reduced, and so is not released.
    """
    if not require_readable(held, _is_json):
        return None
    if not held.body:
        raise Refused(Code.ITEMS_UNREADABLE, "found an answer without content, expected JSON")
    return held.body


def require_readable(held: HeldAnswer, is_kind: Callable[[bytes], bool]) -> bool:
    """Return whether an answer has content to reduce: an error and a redirect have none. `is_kind` knows the content
    types that can be. Raises Refused(ITEMS_UNREADABLE)."""
    status = held.status
    if status in (204, 205) or (status >= 300 and status != 304):
        return False
    if status not in (200, 201, 202, 203):
        raise Refused(Code.ITEMS_UNREADABLE, f"found the status {status}, expected the whole answer")
    encoding = b", ".join(value for name, value in held.headers if name == b"content-encoding").strip().lower()
    if encoding not in (b"", b"identity"):
        raise Refused(Code.ITEMS_UNREADABLE, f"found the encoding {encoding[:32]!r}, expected none: none was asked for")
    kinds = [value for name, value in held.headers if name == b"content-type"]
    if len(kinds) != 1 or not is_kind(kinds[0].partition(b";")[0].strip().lower()):
        found = b", ".join(kinds)[:64].decode("latin-1")
        raise Refused(Code.ITEMS_UNREADABLE, f"found the content type {found!r}, expected JSON")
    return True


def _is_json(kind: bytes) -> bool:
    return kind == b"application/json" or kind.endswith(b"+json")


def honest_headers(headers: Sequence[Header]) -> list[Header]:
    """Return an answer's headers without those that are about the whole of it."""
    return [header for header in headers if header[0] not in _OF_THE_WHOLE]
