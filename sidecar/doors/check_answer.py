"""Answers to Envoy (envoy.service.auth.v3.CheckResponse) as bytes, with the few fields that the sidecar uses."""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.wire.grpc import Status
from sidecar.wire.protobuf import number_tag, sized, sized_tag, varint

_ACTION = number_tag(3)
OVERWRITE = _ACTION + varint(2)
"""Of a header: in place of all others of its name (HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD)."""
APPEND = b""
"""Of a header: beside the others of its name (APPEND_IF_EXISTS_OR_ADD, which is 0 and so is not written)."""
REPLACE = _ACTION + varint(3)
"""Of a header: in place of those of its name, and nothing where there is none (OVERWRITE_IF_EXISTS)."""

Change = tuple[bytes, bytes, bytes]
"""Name, value, and OVERWRITE, APPEND or REPLACE."""

_1, _2, _3, _4, _5, _6 = (sized_tag(field) for field in range(1, 7))
_NUMBER = number_tag(1)


def _option(tag: bytes, change: Change) -> bytes:
    """HeaderValueOption{header{key, value}, append_action}."""
    name, value, action = change
    return sized(tag, sized(_1, sized(_1, name) + sized(_2, value)) + action)


def _metadata(facts: Iterable[tuple[bytes, str]]) -> bytes:
    """dynamic_metadata, a google.protobuf.Struct{fields{key, Value{string_value}}}."""
    return sized(
        _4, b"".join([sized(_1, sized(_1, key) + sized(_2, sized(_3, text.encode("utf-8")))) for key, text in facts])
    )


def allowed(
    changes: Iterable[Change], remove: Iterable[bytes], reply: Iterable[Change], facts: Iterable[tuple[bytes, str]]
) -> bytes:
    """Make an allow: changes to the request, names to take out of it, changes to the answer for the client, and facts
    that Envoy may log. Raises UnicodeDecodeError for a value that is not UTF-8, which no string of protobuf holds."""
    parts = [_option(_2, change) for change in changes]
    parts += [sized(_5, name) for name in remove]
    parts += [_option(_6, change) for change in reply]
    ok = b"".join(parts)
    if not ok.isascii():
        for _, value, _ in (*changes, *reply):
            value.decode("utf-8")
    return sized(_3, ok) + _metadata(facts)


def denied(
    status: int, code: Status, headers: Iterable[Change], body: bytes, facts: Iterable[tuple[bytes, str]]
) -> bytes:
    """The answer that the client gets in place of the app's; `code` is never OK. `status` is one of HTTP."""
    parts = [sized(_1, _NUMBER + varint(status))]
    parts += [_option(_2, change) for change in headers]
    if body:
        parts.append(sized(_3, body))
    return sized(_1, _NUMBER + varint(code)) + sized(_2, b"".join(parts)) + _metadata(facts)
