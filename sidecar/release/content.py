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
    """Return the JSON text of an answer, None where it has no content, or is an error or a redirect in another form. An
    error in JSON may have in it what is to be reduced, as a conflict does that tells how things are.

    Raises Refused(ITEMS_UNREADABLE) for what cannot be reduced, and so is not released.
    """
    if not require_readable(held, _is_json):
        return None
    if not held.body:
        raise Refused(Code.ITEMS_UNREADABLE, "found an answer without content, expected JSON")
    return held.body


def require_readable(held: HeldAnswer, is_kind: Callable[[bytes], bool]) -> bool:
    """Return whether an answer has content to reduce: an error and a redirect have none that is not of such a kind.
    `is_kind` knows the content types that can be reduced. Raises Refused(ITEMS_UNREADABLE)."""
    status = held.status
    kinds = [value for name, value in held.headers if name == b"content-type"]
    known = [is_kind(kind.partition(b";")[0].strip().lower()) for kind in kinds]
    if status == 204 or (status == 205 and held.body == b""):
        return False
    if is_failed(held):
        # of one that is held the body is known
        if held.body == b"" or not any(known):
            return False
    elif status not in (200, 201, 202, 203):
        raise Refused(Code.ITEMS_UNREADABLE, f"found the status {status}, expected the whole answer")
    encoding = b", ".join(value for name, value in held.headers if name == b"content-encoding").strip().lower()
    if encoding not in (b"", b"identity"):
        raise Refused(
            Code.ITEMS_UNREADABLE,
            f"found the encoding {encoding[:32].decode('latin-1')!r}, expected none: none was asked for",
        )
    if known != [True]:
        found = b", ".join(kinds)[:64].decode("latin-1")
        raise Refused(Code.ITEMS_UNREADABLE, f"found the content type {found!r}, expected JSON")
    return True


def is_failed(held: HeldAnswer) -> bool:
    """Return whether an answer is an error or a redirect, in which what a route says of its answers need not be."""
    return held.status >= 300 and held.status != 304


def _is_json(kind: bytes) -> bool:
    return kind == b"application/json" or kind.endswith(b"+json")


def honest_headers(headers: Sequence[Header]) -> list[Header]:
    """Return an answer's headers without those that are about the whole of it."""
    return [header for header in headers if header[0] not in _OF_THE_WHOLE]


def tells_number(name: bytes, value: bytes) -> bool:
    """Return whether a header tells how many there are: `X-WP-Total`, `X-Total-Pages`, `X-Result-Count`, or a total
    within `X-Pagination`."""
    return b"total" in name or b"count" in name.split(b"-") or (b"pagination" in name and b"total" in value.lower())
