"""Recordings of a browser (HAR 1.2): method, URL and status of each entry; headers, cookies and bodies are not read."""

from __future__ import annotations

from typing import Any

from sidecar.imports.sighting import Broken
from sidecar.imports.targets import LoggedRequest, Skipped, split_url

EXPECTED = '{"request": {"method": …, "url": …}, "response": {"status": …}}'


def read_entry(entry: Any) -> LoggedRequest:
    """Read one entry. Raises Broken, and Skipped for what no server was asked."""
    request = entry.get("request") if isinstance(entry, dict) else None
    method, url = (request.get("method"), request.get("url")) if isinstance(request, dict) else (None, None)
    if not isinstance(method, str) or not isinstance(url, str):
        raise Broken("no `request` with `method` and `url`", EXPECTED)
    host, _ = split_url(url.encode("utf-8", "surrogatepass"))
    if not host:
        raise Skipped("a URL that is not of HTTP, such as data: and blob:")
    response = entry.get("response")
    status = response.get("status") if isinstance(response, dict) else None
    if type(status) is not int or not 100 <= status <= 599:
        raise Skipped("no answer came")
    websocket = status == 101 or entry.get("_resourceType") == "websocket" or url[:2].lower() == "ws"
    return LoggedRequest(method.encode("latin-1", "replace"), url.encode("utf-8", "surrogatepass"), status, websocket)
