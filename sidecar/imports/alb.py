"""Access logs of AWS application load balancers, whose lines have URLs and no user
(docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html)."""

from __future__ import annotations

import re

from sidecar.imports.sighting import Broken
from sidecar.imports.targets import LoggedRequest, Skipped, unescaped

EXPECTED = 'TYPE TIME ELB CLIENT TARGET SECONDS SECONDS SECONDS STATUS STATUS BYTES BYTES "METHOD URL HTTP/1.1" …'
_LINE = re.compile(
    rb"(https?|h2|grpcs?|wss?) [0-9]{4}-[0-9]{2}-[0-9]{2}T\S+ \S+ \S+ \S+ \S+ \S+ \S+ "
    rb'([0-9]{3}|-) ([0-9]{3}|-) \S+ \S+ "([^ "]+) ([^ "]+)[^"]*"'
)


def is_line(line: bytes) -> bool:
    """Return whether a line is of this format."""
    return _LINE.match(line) is not None


def read_line(line: bytes) -> LoggedRequest:
    """Read one line. Raises Broken, and Skipped where the balancer did not ask the app."""
    found = _LINE.match(line)
    if found is None:
        raise Broken("another order of fields", EXPECTED)
    kind, _, status, method, url = found.groups()
    if status == b"-":
        raise Skipped("the balancer answered by itself")
    return LoggedRequest(method, unescaped(url), int(status), kind.startswith(b"ws") or status == b"101")
