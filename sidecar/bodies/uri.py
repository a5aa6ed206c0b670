"""URIs in their one form: as each parser of URLs, and each file system, would write them (RFC 3986 section 6.2.2)."""

from __future__ import annotations

import re
from ipaddress import ip_address

from sidecar.gate.hosts import without_port

_URI = re.compile(r"[a-z][a-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-F]{2})*")
_UNRESERVED = re.compile(r"%(?:2D|2E|5F|7E|3[0-9]|4[1-9A-F]|5[0-9A]|6[1-9A-F]|7[0-9A])")
_SEPARATORS = re.compile(r"%(?:2F|5C|00)")
_AUTHORITY = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)([^?#]*)")
_PORTS = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443", "ftp": ":21", "file": ""}
"""The special schemes of WHATWG URL, section 4.2, each with its default port: parsers put in what their URLs lack."""
_ODD_PORT = re.compile(r".*:(?:0[0-9]*)?")
_DRIVE = re.compile(r"/[A-Za-z]:(?:/|\Z)")
_SPECIAL_HOST = re.compile(r"(?:\[[0-9a-f:]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|)(?::[0-9]+)?")
_ENDS_IN_A_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")


def is_normal(text: str) -> bool:
    """Return whether a text is a URI in its normal form: a server may find by `file:///public/../a` what is at
    `file:///a`."""
    whole = text.partition("#")[0]
    path, _, query = whole.partition("?")
    return (
        _URI.fullmatch(text) is not None
        and not _UNRESERVED.search(text)
        and not _SEPARATORS.search(path)
        and not any(segment in (".", "..") for segment in path.partition(":")[2].split("/"))
        and text[-1:] not in ("?", "#")
        and _is_normal_from_host_on(path, query)
    )


def _is_normal_from_host_on(path: str, query: str) -> bool:
    """Return whether host, port, path and query of a URI are as each parser of URLs would write them, and as a file
    system does: SDKs normalize a URI before they look for it (WHATWG URL), and `/a//b` is the file `/a/b`."""
    parts = _AUTHORITY.fullmatch(path)
    if parts is None:
        return "//" not in path and path.partition(":")[0] not in _PORTS
    scheme, authority, rest = parts.groups()
    if "//" in rest or not _is_normal_host(authority):
        return False
    port = _PORTS.get(scheme)
    if port is None:
        return True
    if not rest or "'" in query or not _SPECIAL_HOST.fullmatch(authority):
        return False
    if scheme == "file":
        return authority != "localhost" and not (authority and _DRIVE.match(rest))
    return authority != "" and not authority.endswith(port)


def _is_normal_host(authority: str) -> bool:
    """Return whether host and port have one spelling: an address may be written in many ways."""
    if authority != authority.lower() or "@" in authority or "%" in authority or _ODD_PORT.fullmatch(authority):
        return False
    host = without_port(authority)
    if host.startswith("["):
        return _is_address(host[1:-1])
    return not _ENDS_IN_A_NUMBER.fullmatch(host) or _is_address(host)


def _is_address(text: str) -> bool:
    try:
        return str(ip_address(text)) == text
    except ValueError:
        return False
