"""Answers to Envoy (envoy.service.auth.v3.CheckResponse) as bytes: protobuf's encoding of the few fields that we use.

Made by hand, since messages made of objects would cost half of what a decision does. Tests use Envoy's types.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.net.grpc_client import Status

OVERWRITE = b"\x18\x02"
"""Of a header: in place of all others of its name (HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD)."""
APPEND = b""
"""Of a header: beside the others of its name (APPEND_IF_EXISTS_OR_ADD, which is 0 and so is not written)."""
REPLACE = b"\x18\x03"
"""Of a header: in place of those of its name, and nothing where there is none (OVERWRITE_IF_EXISTS)."""

Change = tuple[bytes, bytes, bytes]
"""Name, value, and OVERWRITE, APPEND or REPLACE."""

# "tags" of fields whose values have a length: the field's number << 3 | 2
_1, _2, _3, _4, _5, _6 = (bytes((number << 3 | 2,)) for number in range(1, 7))


def _sized(data: bytes) -> bytes:
    """A value with its length before it, which is a varint."""
    size = len(data)
    if size < 0x80:
        return _SMALL[size] + data
    if size < 0x4000:
        return bytes((size & 0x7F | 0x80, size >> 7)) + data
    return bytes((size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21)) + data


_SMALL = [bytes((size,)) for size in range(0x80)]


def _option(tag: bytes, change: Change) -> bytes:
    """HeaderValueOption{header{key, value}, append_action}."""
    name, value, action = change
    return tag + _sized(_1 + _sized(_1 + _sized(name) + _2 + _sized(value)) + action)


def _metadata(facts: Iterable[tuple[bytes, str]]) -> bytes:
    """dynamic_metadata, a google.protobuf.Struct{fields{key, Value{string_value}}}."""
    return _4 + _sized(
        b"".join(
            [_1 + _sized(_1 + _sized(key) + _2 + _sized(_3 + _sized(text.encode("utf-8")))) for key, text in facts]
        )
    )


def allowed(
    changes: Iterable[Change], remove: Iterable[bytes], reply: Iterable[Change], facts: Iterable[tuple[bytes, str]]
) -> bytes:
    """What to change in the request, what to take out of it, what to change in the answer to the client, and what
    Envoy may log. Raises UnicodeDecodeError for a value that is not UTF-8, which no string of protobuf holds."""
    parts = [_option(_2, change) for change in changes]
    parts += [_5 + _sized(name) for name in remove]
    parts += [_option(_6, change) for change in reply]
    ok = b"".join(parts)
    if not ok.isascii():
        for _, value, _ in (*changes, *reply):
            value.decode("utf-8")
    return _3 + _sized(ok) + _metadata(facts)


def denied(
    status: int, code: Status, headers: Iterable[Change], body: bytes, facts: Iterable[tuple[bytes, str]]
) -> bytes:
    """The answer that the client gets in place of the app's; `code` is never OK. `status` is one of HTTP."""
    parts = [_1 + _sized(b"\x08" + bytes((status & 0x7F | 0x80, status >> 7)))]
    parts += [_option(_2, change) for change in headers]
    if body:
        parts.append(_3 + _sized(body))
    return _1 + _sized(b"\x08" + bytes((code,))) + _2 + _sized(b"".join(parts)) + _metadata(facts)
