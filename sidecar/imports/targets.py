"""Targets and URLs of logs -> segments of the path and names of the query, in the reading of the gate."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_plus

from sidecar.gate.codes import Code
from sidecar.gate.target import read_target
from sidecar.gate.verdict import Refused
from sidecar.imports.sighting import is_name
from sidecar.wire.grammar import EXTENSION_METHODS, METHODS

MAX_NAMES = 64
"""Names of one query that are looked at."""
_ABSOLUTE = re.compile(rb"(?:https?|wss?)://([^/?#\s]*)([^\s#]*)", re.IGNORECASE)
_ESCAPED = re.compile(rb'\\(?:x([0-9A-Fa-f]{2})|([\\"nrtbv]))')
_CONTROLS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"v": b"\v"}


class LoggedRequest(NamedTuple):
    """A request as a log has it: `target` is a path with its query, or a URL; `host` where the log tells it."""

    method: bytes
    target: bytes
    status: int | None
    websocket: bool = False
    host: str = ""


class Skipped(Exception):
    """The request is no evidence of a route; the message says why."""


def split_url(target: bytes) -> tuple[str, bytes]:
    """Return the host of a URL in lower case and without its port, "" where it is no URL, and the target that a server
    gets. What stands before an `@` is a credential, and is not read."""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return "", target
    authority = absolute[1].rpartition(b"@")[2].decode("latin-1").lower()
    rest = absolute[2]
    return without_port(authority), rest if rest.startswith(b"/") else b"/" + rest


def without_port(authority: str) -> str:
    """Return a host without its port."""
    return re.sub(r":\d*\Z", "", authority).lower()


def unescaped(text: bytes) -> bytes:
    """Text of a log as it came to the server: nginx and Apache write `\\x22` for a quote, Apache also `\\"`."""
    if b"\\" not in text:
        return text
    return _ESCAPED.sub(
        lambda found: bytes([int(found[1], 16)]) if found[1] else _CONTROLS.get(found[2], found[2]), text
    )


def read_path(target: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the segments of a target and the names of its query, without a value.

    Raises Skipped for what the sidecar refuses whatever the routes say.
    """
    path = target.partition(b"#")[0]
    try:
        _, segments, query, _ = read_target(path)
    except Refused as refused:
        why = "too long" if refused.code is Code.TARGET_TOO_LONG else "ambiguous"
        raise Skipped(f"a path that the sidecar refuses: {why}") from None
    return segments, query_names(query) if query else ()


def query_names(query: bytes) -> tuple[str, ...]:
    """Return the names of a query that are names: a part without `=` may be a value."""
    names = (
        unquote_plus(pair.partition(b"=")[0].decode("latin-1"))
        for pair in query.split(b"&", MAX_NAMES)[:MAX_NAMES]
        if b"=" in pair
    )
    return tuple(dict.fromkeys(filter(is_name, names)))


def read_method(method: bytes) -> str:
    """Return a request's method. Raises Skipped for one that no route of this app is likely to have."""
    text = method.decode("latin-1")
    if text in METHODS or text in EXTENSION_METHODS:
        return text
    raise Skipped("a method that is not registered, or that the sidecar refuses")
