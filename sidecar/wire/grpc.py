"""gRPC over HTTP/2 as both ends write it (github.com/grpc/grpc, doc/PROTOCOL-HTTP2.md): fields, messages, statuses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple
from urllib.parse import quote, unquote

from sidecar.bounded import remembered
from sidecar.wire import http2
from sidecar.wire.hpack import BlockReader, Field, literal
from sidecar.wire.http2 import CompressionError

CONTENT_TYPE = b"application/grpc"
"""Of calls and of answers; what follows it names the encoding of messages."""
PREFIX = 5
"""Bytes before a message: whether it is compressed, and its length."""
_MAX_DETAIL = 1024
"""Bytes that are read of a `grpc-message`."""


class Status(IntEnum):
    """How a call ended (doc/statuscodes.md)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class CallFailed(Exception):
    """A call ends without a message; `status` is never OK. `detail` is for the log, or for the caller."""

    def __init__(self, status: Status, detail: str = "") -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


# --- messages ---


def prefixed(message: bytes) -> bytes:
    """A message as a body, which is not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def message_of(body: bytes) -> bytes | None:
    """The message of a body; None where that is not one whole message, or is compressed."""
    if len(body) < PREFIX or body[0] or int.from_bytes(body[1:PREFIX], "big") != len(body) - PREFIX:
        return None
    return body[PREFIX:]


def is_compressed(body: bytes) -> bool:
    """Return whether a body begins with a message that is compressed."""
    return body[:1] == b"\1"


# --- calls ---


def call_fields(path: str, authority: str, timeout: float, authorization: str, *, secure: bool) -> list[Field]:
    """The headers of a call of the method `path`, as `/package.Service/Method`; `timeout` in seconds, `authorization`
    "" for none, `secure` for TLS."""
    fields = [
        (b":method", b"POST"),
        (b":scheme", b"https" if secure else b"http"),
        (b":path", path.encode("ascii")),
        (b":authority", authority.encode("ascii")),
        (b"content-type", CONTENT_TYPE),
        (b"user-agent", b"authorization-sidecar"),
        (b"te", b"trailers"),
        (b"grpc-timeout", b"%dm" % max(1, math.ceil(timeout * 1000))),
    ]
    if authorization:
        fields.append((b"authorization", authorization.encode("ascii")))
    return fields


# --- answers as a server writes them ---

RESPONSE_HEADERS = b"\x88" + literal(b"content-type", CONTENT_TYPE)  # the first is `:status: 200` of the static table
TRAILERS_OK = literal(b"grpc-status", b"0")
UNSUPPORTED_MEDIA_TYPE = literal(b":status", b"415")
"""The only block of an answer to what is no call."""


def trailers_only(error: CallFailed) -> bytes:
    """The only block of an answer without a message."""
    return RESPONSE_HEADERS + trailers(error)


def trailers(error: CallFailed) -> bytes:
    """The last block of an answer that was begun."""
    block = literal(b"grpc-status", b"%d" % error.status)
    if error.detail:
        block += literal(b"grpc-message", quote(error.detail[:100], safe=" ")[:120].encode("ascii"))
    return block


# --- answers as a client reads them ---

_ONCE = frozenset((b":status", b"content-type", b"grpc-status", b"grpc-message"))
_READER = BlockReader(table_size=0, remembers=0)


class ResponseBlock(NamedTuple):
    """A server's block of headers, by its meaning."""

    interim: bool
    """Others follow it, which are the answer's (RFC 9110 section 15.2)."""
    not_headers: CallFailed | None
    """The reason why it cannot begin an answer; None where it can."""
    not_trailers: CallFailed | None
    """The reason why an answer that it ends has failed; None where it has not."""


# a server's blocks, which are much alike: about 100 of them
@remembered(128 * 1024)
def response_block(block: bytes) -> ResponseBlock:
    """Read a block of a server that we allow no table, so that equal blocks say the same. Raises CompressionError, also
    for a field that is there twice and can be there once only."""
    fields: dict[bytes, bytes] = {}
    for name, value in _READER.read(block):
        if name in fields and name in _ONCE:
            raise CompressionError(f"{name.decode('ascii')} twice")
        fields[name] = value
    interim = fields.get(b":status", b"").startswith(b"1")
    return ResponseBlock(interim, _not_headers(fields), _not_trailers(fields))


_STATUSES = {b"%d" % status: status for status in Status if status}

_OF_HTTP = {
    b"401": Status.UNAUTHENTICATED,
    b"403": Status.PERMISSION_DENIED,
    b"404": Status.UNIMPLEMENTED,
    b"400": Status.INTERNAL,
    b"429": Status.UNAVAILABLE,
    b"502": Status.UNAVAILABLE,
    b"503": Status.UNAVAILABLE,
    b"504": Status.UNAVAILABLE,
}
"""HTTP status -> status of an answer that has none (doc/http-grpc-status-mapping.md); UNKNOWN for the others."""


def _not_headers(fields: Mapping[bytes, bytes]) -> CallFailed | None:
    status = fields.get(b":status", b"")
    kind = fields.get(b"content-type", b"")
    if status != b"200":
        return CallFailed(_OF_HTTP.get(status, Status.UNKNOWN), f"HTTP status {status[:16].decode('latin-1')}")
    if not kind.startswith(CONTENT_TYPE):
        return CallFailed(Status.UNKNOWN, f"found {kind[:64].decode('latin-1')!r}, expected application/grpc")
    return None


def _not_trailers(fields: Mapping[bytes, bytes]) -> CallFailed | None:
    status = fields.get(b"grpc-status", b"")
    if status == b"0":
        return None
    detail = unquote(fields.get(b"grpc-message", b"")[:_MAX_DETAIL].decode("latin-1"))
    return CallFailed(_STATUSES.get(status, Status.UNKNOWN), detail)


_OF_RESET = {
    http2.REFUSED_STREAM: Status.UNAVAILABLE,  # nothing was done for it
    http2.CANCEL: Status.CANCELLED,
    http2.ENHANCE_YOUR_CALM: Status.RESOURCE_EXHAUSTED,
    http2.INADEQUATE_SECURITY: Status.PERMISSION_DENIED,
}
"""Error code of RST_STREAM -> status; INTERNAL for the others."""


def failure_of_reset(code: int) -> CallFailed:
    """The reason why a call failed whose stream the server has ended."""
    return CallFailed(_OF_RESET.get(code, Status.INTERNAL), f"reset with {code}")
