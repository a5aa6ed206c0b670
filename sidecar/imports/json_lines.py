"""Access logs of a JSON object per line: Caddy's, and Envoy's with the names of its documentation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sidecar.imports.sighting import Broken
from sidecar.imports.targets import LoggedRequest, Skipped, without_port

CADDY = '{"request": {"method": …, "uri": …, "host": …}, "status": …}'
ENVOY = '{"method": …, "path": …, "response_code": …}'
_METHODS = ("method", "request_method", ":method", ":METHOD", "requestMethod")
_PATHS = ("path", "original_path", "x-envoy-original-path", "uri", "url_path", ":path", ":PATH", "request_path")
_STATUSES = ("response_code", "status", "response_status", "responseCode", "status_code")
_HOSTS = ("authority", ":authority", ":AUTHORITY", "host", "domain")


def caddy(line: bytes) -> LoggedRequest:
    """Read a line of Caddy's access log. Raises Broken, and Skipped for a line that is not about a request."""
    value = _object(line, CADDY)
    request = value.get("request")
    if not isinstance(request, dict):
        if isinstance(value.get("msg"), str):
            raise Skipped("a line of the log that is of no request")
        raise Broken("no `request`", CADDY)
    return _seen(request, request.get("uri"), value.get("status"), request.get("host"), CADDY)


def envoy(line: bytes) -> LoggedRequest:
    """Read a line of Envoy's access log. Raises Broken, and Skipped where Envoy got no request."""
    value = _object(line, ENVOY)
    path, status = _first(value, _PATHS), _first(value, _STATUSES)
    if path is None and _first(value, _METHODS) is None and status is not None:
        raise Skipped("a line of the log that is of no request")
    return _seen(value, path, status, _first(value, _HOSTS), ENVOY)


def is_caddy(line: bytes) -> bool:
    """Return whether a line is of Caddy's format."""
    try:
        caddy(line)
    except (Broken, Skipped):
        return False
    return True


def is_envoy(line: bytes) -> bool:
    """Return whether a line is of Envoy's format."""
    try:
        envoy(line)
    except (Broken, Skipped):
        return False
    return True


def _object(line: bytes, expected: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise Broken("no JSON", expected) from None
    if not isinstance(value, dict):
        raise Broken("JSON that is no object", expected)
    return value


def _first(value: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The first that is there; Envoy writes null, and `-` in texts, for what there is not."""
    return next((value[name] for name in names if value.get(name) not in (None, "-", "")), None)


def _seen(asked: Mapping[str, Any], target: Any, status: Any, host: Any, expected: str) -> LoggedRequest:
    method = _first(asked, _METHODS)
    if not isinstance(method, str) or not isinstance(target, str):
        raise Broken("no method, or no path", expected)
    code = _status(status)
    if code is None:
        raise Broken("no status", expected)
    host = without_port(host) if isinstance(host, str) else ""
    return LoggedRequest(_bytes(method), _bytes(target), code, code == 101, host)


def _status(status: Any) -> int | None:
    """The status; a number in a text is one too. None for what is no status; 0 stands for an answer that never came."""
    if isinstance(status, str) and status.isascii() and status.isdecimal() and len(status) <= 3:
        status = int(status)
    return status if type(status) is int and 0 <= status <= 999 else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
