"""Origin check: a browser's request with cookies must come from the app's own pages (R21)."""

from __future__ import annotations

from urllib.parse import urlsplit

from sidecar.gate.codes import Code
from sidecar.gate.request import Request
from sidecar.gate.verdict import Refused

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def require_own_origin(request: Request, extra_origins: frozenset[str] = frozenset()) -> None:
    """Raises Refused(ORIGIN_REFUSED) unless the page that sent the request is of our origin or of `extra_origins`.

    A browser's own word in Sec-Fetch-Site (W3C Fetch Metadata) goes first, then Origin against Host. A WebSocket
    handshake must have an Origin (RFC 6455 section 10.2).
    """
    origin = request.seen.get(b"origin")
    if origin is not None and origin.decode("latin-1") in extra_origins:
        return
    site = request.seen.get(b"sec-fetch-site")
    if site is not None and site != b"same-origin":
        raise Refused(Code.ORIGIN_REFUSED, f"Sec-Fetch-Site: found {site[:32]!r}, expected same-origin")
    if site is not None and origin == b"null" and not request.websocket:
        # what a page of ours with the policy `no-referrer` sends (Fetch standard, "append a request Origin header")
        return
    if origin is not None:
        if not is_of_own(origin.decode("latin-1"), request):
            raise Refused(Code.ORIGIN_REFUSED, f"the origin {origin[:128]!r} is not the host {request.host!r}")
    elif site is None or request.websocket:
        raise Refused(Code.ORIGIN_REFUSED, "neither Origin nor Sec-Fetch-Site")


def is_of_own(origin: str, request: Request) -> bool:
    """Return whether an origin names the host of this request, with the port that a trusted proxy adds to it too."""
    host, port = request.host, request.port
    return is_own_origin(origin, host) or (bool(port) and is_own_origin(origin, f"{host}:{port}"))


def is_own_origin(origin: str, host: str) -> bool:
    """Return whether an origin (RFC 6454 section 6.2) names this host. The scheme may differ: TLS may end before us."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in _DEFAULT_PORTS or origin != f"{parts.scheme}://{parts.netloc}":
        return False
    default = _DEFAULT_PORTS[parts.scheme]
    return parts.netloc.lower().removesuffix(default) == host.removesuffix(default)


def own_page(referer: bytes, host: str) -> str:
    """The path and query of a Referer (RFC 9110 section 10.1.3) that names a page of this host, else ""."""
    try:
        parts = urlsplit(referer.decode("latin-1"))
    except ValueError:
        return ""
    if not is_own_origin(f"{parts.scheme}://{parts.netloc}", host):
        return ""
    return parts.path + (f"?{parts.query}" if parts.query else "")
