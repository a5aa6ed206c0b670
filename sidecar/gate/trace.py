"""The trace context of one request: plain data that is passed on with every call made for the request.

W3C Trace Context (www.w3.org/TR/trace-context). `record/tracing.py` begins and exports it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

Header = tuple[bytes, bytes]

TRACEPARENT, TRACESTATE = b"traceparent", b"tracestate"
MAX_STATE = 512
"""Bytes of a tracestate (section 3.3.1.5: "Vendors SHOULD propagate at least 512 characters")."""
MAX_MEMBERS = 32

# section 3.2.2: lower case hexadecimal; a later version may have more after another "-" (section 3.2.4)
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_KEY = rb"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_VALUE = rb"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(rb"(" + _KEY + rb")=" + _VALUE)


class Remote(NamedTuple):
    """Trace context of a caller: 32 and 16 hexadecimal digits, whether it is sampled, and its tracestate."""

    trace_id: str
    span_id: str
    sampled: bool
    state: bytes = b""


class Trace(NamedTuple):
    """One request's trace. `span` is the request's own, and the others are those of the stages that ask somebody: their
    ids are there before they are, so that whoever is asked can name its parent."""

    trace_id: str
    span: str
    lookup: str
    decision: str
    upstream: str
    sampled: bool
    remote: Remote | None = None

    def headers(self, span: str) -> tuple[Header, ...]:
        """The context of a call that belongs to `span`."""
        parent = f"00-{self.trace_id}-{span}-{'01' if self.sampled else '00'}".encode("ascii")
        state = self.remote.state if self.remote is not None else b""
        return ((TRACEPARENT, parent), (TRACESTATE, state)) if state else ((TRACEPARENT, parent),)


BeginTrace = Callable[[Sequence[Header]], Trace]
"""Gives a request its trace, by the headers that came with it."""


def remote_of(headers: Sequence[Header]) -> Remote | None:
    """The caller's context, None where there is none that has one reading: then a new trace begins (section 4.3)."""
    parents = [value for name, value in headers if name == TRACEPARENT]
    match = _PARENT.fullmatch(parents[0].strip(b" \t")) if len(parents) == 1 else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if (
        version == b"ff"
        or (version == b"00" and more is not None)
        or not trace_id.strip(b"0")
        or not span_id.strip(b"0")
    ):
        return None
    state = b",".join(value for name, value in headers if name == TRACESTATE)
    return Remote(trace_id.decode(), span_id.decode(), bool(int(flags, 16) & 1), _state(state))


def _state(text: bytes) -> bytes:
    """A tracestate as it is handed on: whole, or not at all (section 3.3.1.1)."""
    if len(text) > MAX_STATE:
        return b""
    members = [member.strip(b" \t") for member in text.split(b",")]
    members = [member for member in members if member]
    keys = [match[1] for match in map(_MEMBER.fullmatch, members) if match is not None]
    whole = b",".join(members)
    fits = len(keys) == len(members) == len(set(keys)) <= MAX_MEMBERS
    return whole if fits else b""
