"""Hosts of a configuration: which of its entries stand for the host that a request names."""

from __future__ import annotations

import re

_PORT = re.compile(r":\d+\Z")


def without_port(host: str) -> str:
    """The host alone: a browser shows a cookie to every port of it."""
    return _PORT.sub("", host)


def entries_for(host: str) -> tuple[str, ...]:
    """List the entries that may stand for a host in lower case, the most specific first: itself, itself without its
    port, and with any first label (as RFC 9525 section 6.3 has it)."""
    bare = without_port(host)
    label, _, rest = bare.partition(".")
    wild = (f"*.{rest}{host[len(bare) :]}", f"*.{rest}") if label and rest else ()
    return tuple(dict.fromkeys((host, bare, *wild)))
