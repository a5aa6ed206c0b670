"""Refusals as JSON-RPC errors, for who asks in that protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sidecar.gate.codes import Code
from sidecar.wire import strict_json

MessageId = str | int | None
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
DENIED = -32001
"""The code of a denial (OpenID AuthZEN, COAZ binding for MCP)."""
HEADER_MISMATCH = -32020
"""The code where the headers and the body say different things (MCP 2026-07-28)."""

_TEXTS = {
    PARSE_ERROR: "The body is no JSON that is read in one way only.",
    INVALID_REQUEST: "The body is not one JSON-RPC message.",
    METHOD_NOT_FOUND: "This method isn't available here.",
    INVALID_PARAMS: "The parameters are invalid, or they can be read in more than one way.",
    HEADER_MISMATCH: "The headers say something else than the body.",
    DENIED: "You don't have access to this.",
    INTERNAL_ERROR: "Something that this server depends on isn't available. Try again in a moment.",
}
"""Messages of errors, by code; nothing in them helps an attacker."""


class JsonRpcReply(NamedTuple):
    """Way to refuse one message: the error has its `id`. `error` is the code of JSON-RPC where it is known, 0 where our
    code tells it.

    `answered_by` is the status of HTTP, 0 for that of our code. A request that could be read is answered by 200: a
    client that gets another status gives up its whole session, and not the one request.
    """

    id: MessageId
    answered_by: int = 0
    error: int = 0

    @property
    def content_type(self) -> bytes:
        """Media type of the answer."""
        return b"application/json"

    def status(self, status: int) -> int:
        """Return the status of an answer whose code has this one."""
        return self.answered_by or status

    def body(self, code: Code, status: int, request_id: str, more: Mapping[str, object]) -> bytes:
        """Write the answer to a refusal of a code, which has this status elsewhere."""
        error = self.error or _error_of(code, status)
        data = {"code": str(code), "status": status, "request_id": request_id, **more}
        told = {"code": error, "message": _TEXTS[error], "data": data}
        return strict_json.dumps({"jsonrpc": "2.0", "id": self.id, "error": told})


def _error_of(code: Code, status: int) -> int:
    if status >= 500:
        return INTERNAL_ERROR
    return INVALID_PARAMS if code in (Code.BODY_INVALID, Code.REFERENCE_INVALID) else DENIED
