"""Access logs of nginx and Apache in the combined or common format, with whatever stands before the time."""

from __future__ import annotations

import re

from sidecar.imports.sighting import Broken
from sidecar.imports.targets import LoggedRequest, Skipped, unescaped

EXPECTED = 'CLIENT - USER [TIME] "METHOD TARGET HTTP/1.1" STATUS SIZE …'
# the first quoted text after the time is the request line: a quote within it is escaped by both servers
_LINE = re.compile(rb'\] "(?:([A-Z]+(?:-[A-Z]+)*) ([^ "]+)(?: HTTP/[0-9.]{1,3})?|((?:[^"\\]|\\.)*))" ([0-9]{3}) ')


def is_line(line: bytes) -> bool:
    """Return whether a line is of this format."""
    return _LINE.search(line + b" ") is not None


def read_line(line: bytes) -> LoggedRequest:
    """Read one line. Raises Broken, and Skipped where the client sent no request that could be read."""
    found = _LINE.search(line + b" ")
    if found is None:
        raise Broken("no time, request line in quotes and status", EXPECTED)
    method, target, other, status = found.groups()
    if other is not None:
        raise Skipped("a request line that is not HTTP")
    code = int(status)
    return LoggedRequest(method, unescaped(target), code, code == 101)
