"""Values as people write them in settings: durations and sizes (`300ms`, `1MiB`), and hosts of this machine."""

from __future__ import annotations

import ipaddress
import re

_MAX_DIGITS = 9
"""Of a duration: a timer of the event loop takes no infinity."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"([0-9]+)(B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


FORMS = (
    f"A duration is a number and one of {', '.join(f'`{unit}`' for unit in _SECONDS)} (`300ms`, `1.5s`, `5m`); "
    f"a size is a whole number and one of {', '.join(f'`{unit}`' for unit in _BYTES)}, each 1024 of the one before "
    "(`64KiB`, `10MiB`)."
)
"""For people; the forms are those that `duration` and `size` read."""


def duration(text: str) -> float:
    """Seconds of `300ms`, `2s`, `5m` or `1h`. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or len(match[1]) > _MAX_DIGITS:
        raise ValueError(f"found {text!r}, expected a duration such as 300ms, 2s, 5m or 1h")
    return float(match[1]) * _SECONDS[match[2]]


def size(text: str) -> int:
    """Bytes of `512B`, `64KiB`, `1MiB` or `1GiB`. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"found {text!r}, expected a size such as 64KiB or 1MiB")
    return int(match[1]) * _BYTES[match[2]]


def is_loopback(host: str) -> bool:
    """Return whether a host name or address, brackets and all, is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
