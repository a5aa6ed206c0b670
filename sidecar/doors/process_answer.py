"""Answers to Envoy's streams (envoy.service.ext_proc.v3.ProcessingResponse) as bytes, with the few fields in use."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from sidecar.wire.grammar import Header
from sidecar.wire.grpc import Status
from sidecar.wire.protobuf import number_tag, sized, sized_tag, varint

REQUEST_HEADERS, RESPONSE_HEADERS, REQUEST_BODY, RESPONSE_BODY, REQUEST_TRAILERS, RESPONSE_TRAILERS = (
    sized_tag(field) for field in range(1, 7)
)
"""The part of a request, or of its answer, that an answer of ours is about."""
_IMMEDIATE, _METADATA, _MODE = sized_tag(7), sized_tag(8), sized_tag(9)
_1, _2, _3, _5 = (sized_tag(field) for field in (1, 2, 3, 5))
_4 = sized_tag(4)
_NUMBER = number_tag(1)
# HeaderValueOption.append, a google.protobuf.BoolValue: beside others of its name, or in place of them
_BESIDE, _INSTEAD = sized(_2, _NUMBER + varint(1)), sized(_2, b"")
METADATA = b"envoy.filters.http.ext_proc"
"""The namespace of the facts that Envoy may log."""


class HeaderMutation(NamedTuple):
    """Changes to a message that Envoy holds: `remove` are names, `set` take the place of all others of their name, and
    `add` come beside them; they are done in this order."""

    remove: Iterable[bytes] = ()
    set: Iterable[Header] = ()
    add: Iterable[Header] = ()


def difference(before: Iterable[Header], after: Iterable[Header]) -> HeaderMutation:
    """Return the change that makes of some headers others; of those whose values are the same it says nothing."""
    had, has = _by_name(before), _by_name(after)
    changed = [name for name in had if had[name] != has.get(name)]
    return HeaderMutation(
        changed, (), [(name, value) for name in has if has[name] != had.get(name) for value in has[name]]
    )


def _by_name(headers: Iterable[Header]) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        found.setdefault(name, []).append(value)
    return found


def _mutation(change: HeaderMutation) -> bytes:
    """HeaderMutation{set_headers, remove_headers}."""
    options = [(header, _INSTEAD) for header in change.set] + [(header, _BESIDE) for header in change.add]
    parts = [
        sized(_1, sized(_1, sized(_1, name) + sized(_3, value)) + how) for (name, value), how in options
    ]  # fmt: skip
    parts += [sized(_2, name) for name in change.remove]
    return b"".join(parts)


class BodyMode(IntEnum):
    """How Envoy shows a body (ProcessingMode.BodySendMode): not at all, piece by piece, whole, or up to what it can
    hold, after which the rest passes. Of what it shows it sends nothing before it was answered."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3


# ProcessingMode.HeaderSendMode
_SEND, _SKIP = 1, 2


def mode(request_body: BodyMode, response_body: BodyMode) -> bytes:
    """A mode_override: how Envoy shows both bodies, and with the app's its trailers."""
    fields = (_SEND, _SEND, request_body, response_body, _SKIP, _SEND if response_body else _SKIP)
    return sized(_MODE, b"".join([number_tag(field) + varint(value) for field, value in enumerate(fields, 1)]))


def go_on(part: bytes, change: HeaderMutation | None = None, body: bytes | None = None, more: bytes = b"") -> bytes:
    """Let Envoy go on with one part of what it holds, changed, and with another body where one is given. `more` are
    further fields of the answer."""
    common = b""
    if change is not None:
        common = sized(_2, _mutation(change))
    if body is not None:
        common += sized(_3, sized(_1, body) if body else number_tag(2) + varint(1))
    return sized(part, sized(_1, common)) + more


def without_trailers(part: bytes, names: Iterable[bytes]) -> bytes:
    """Let Envoy go on without any of these trailers."""
    return sized(part, sized(_1, _mutation(HeaderMutation(names))))


def metadata(facts: Iterable[tuple[bytes, str]]) -> bytes:
    """dynamic_metadata, a google.protobuf.Struct, of which each field is a namespace."""
    told = b"".join([sized(_1, sized(_1, key) + sized(_2, sized(_3, text.encode("utf-8")))) for key, text in facts])
    return sized(_METADATA, sized(_1, sized(_1, METADATA) + sized(_2, sized(_5, told))))


def instead(status: int, change: HeaderMutation, body: bytes, grpc: Status | None = None, more: bytes = b"") -> bytes:
    """The answer that the client gets in place of the app's, whatever came of that; `grpc` for a call of gRPC."""
    parts = [sized(_1, _NUMBER + varint(status)), sized(_2, _mutation(change))]
    if body:
        parts.append(sized(_3, body))
    if grpc is not None:
        parts.append(sized(_4, _NUMBER + varint(grpc)))
    return sized(_IMMEDIATE, b"".join(parts)) + more
