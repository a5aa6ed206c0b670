"""CORS for the routes that configure it (Fetch standard, section 3.2): preflights answered here, answers marked."""

from __future__ import annotations

from sidecar.gate.codes import Code
from sidecar.gate.request import Request
from sidecar.gate.routing import Cors
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import Header

ANSWER_HEADERS = frozenset((b"access-control-allow-origin", b"access-control-allow-credentials"))


def is_preflight(request: Request) -> bool:
    """Return whether a browser asks what it may send, instead of sending it."""
    seen = request.seen
    return request.method == "OPTIONS" and b"origin" in seen and b"access-control-request-method" in seen


def without_credentials(request: Request) -> Request:
    """The preflight as a browser sends it (Fetch standard, section 4.8): without cookies and Authorization."""
    return request._replace(headers=[header for header in request.headers if header[0] not in _CREDENTIALS])


_CREDENTIALS = frozenset((b"cookie", b"authorization"))


def preflight_headers(cors: Cors | None, request: Request) -> tuple[Header, ...]:
    """The headers of the answer to a preflight. Raises Refused(CORS_REFUSED) for an origin or method not listed."""
    origin = request.seen[b"origin"].decode("latin-1")
    method = request.seen[b"access-control-request-method"].decode("latin-1")
    if cors is None or origin not in cors.origins:
        raise Refused(Code.CORS_REFUSED, f"the origin {origin[:128]!r} is not listed")
    if method not in cors.methods:
        raise Refused(Code.CORS_REFUSED, f"the method {method[:32]!r} is not listed")
    headers = [
        *answer_headers(cors, request),
        (b"access-control-allow-methods", ", ".join(cors.methods).encode("ascii")),
        (b"access-control-max-age", str(cors.max_age).encode("ascii")),
    ]
    if cors.headers:
        headers.append((b"access-control-allow-headers", ", ".join(cors.headers).encode("ascii")))
    return tuple(headers)


def answer_headers(cors: Cors | None, request: Request) -> tuple[Header, ...]:
    """Return the headers that mark an answer as readable by the origin that asked; the origin by name, never `*`."""
    origin = request.seen.get(b"origin")
    if cors is None:
        return ()
    if origin is None or origin.decode("latin-1") not in cors.origins:
        return ((b"vary", b"Origin"),)
    marks = [(b"access-control-allow-origin", origin), (b"vary", b"Origin")]
    if cors.credentials:
        marks.append((b"access-control-allow-credentials", b"true"))
    return tuple(marks)
