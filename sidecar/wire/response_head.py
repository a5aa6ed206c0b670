"""Head of an answer to a client, as bytes: whatever the app says, one header to a line, and the framing left to us."""

from __future__ import annotations

import http
from collections.abc import Iterable

from sidecar.bounded import Bounded
from sidecar.wire.grammar import FIELD_NAME, HOP_BY_HOP, Header

STATUS_LINES = {status: b"HTTP/1.1 %d " % status for status in range(102, 600)}
STATUS_LINES.update({known: b"HTTP/1.1 %d %b" % (known, known.phrase.encode()) for known in http.HTTPStatus})

# the framing and the life of the connection are ours to say, whatever the app copied from elsewhere
_OURS = HOP_BY_HOP | {b"date"}
# an app may choose names anew for each answer: about 600 of them
_PREFIXES: Bounded[bytes, bytes] = Bounded(256 * 1024)
"""Names that apps use -> what goes before the value; empty for those in _OURS."""


def _learn_prefix(name: bytes) -> bytes:
    if not FIELD_NAME.fullmatch(name):
        raise RuntimeError(f"the header name {name[:64]!r} is not a token")
    lower = name.lower()
    prefix = b"" if lower in _OURS else b"\r\n%b: " % lower
    _PREFIXES.put(name, prefix, 2 * (33 + len(name)))
    return prefix


def render(headers: Iterable[Header]) -> tuple[bytes, list[Header]]:
    """-> (the headers to copy, as CRLF, name, colon, value; those of _OURS, for the caller to judge)."""
    parts: list[bytes] = []
    ours: list[Header] = []
    for name, value in headers:
        prefix = _PREFIXES.get(name)
        if prefix is None:
            prefix = _learn_prefix(name)
        if prefix:
            parts += (prefix, value)
        else:
            ours.append((name.lower(), value))
    rendered = b"".join(parts)
    # every prefix has one CR and one LF; another would be a header, or an answer, of somebody else's making
    if len(rendered.translate(None, b"\r\n\0")) != len(rendered) - len(parts):
        raise RuntimeError("a header value has a CR, LF or NUL in it")
    return rendered, ours


def render_date(value: bytes) -> bytes:
    """Render the app's own Date, in place of ours."""
    if value.translate(None, b"\r\n\0") != value:
        raise RuntimeError("a header value has a CR, LF or NUL in it")
    return b"\r\ndate: " + value
