"""Refusals as GraphQL responses, for clients that say that they read those whatever the status is."""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.gate.codes import Code
from sidecar.wire import strict_json

CONTENT_TYPE = b"application/graphql-response+json"
"""Media type of a response that comes of a GraphQL request whatever its status (GraphQL over HTTP, section 6.4)."""
_TEXTS = {
    400: "The request is malformed, or it can be read in more than one way.",
    403: "You don't have access to this.",
    404: "This doesn't exist, or you don't have access to it.",
}
_OTHERWISE = "Something that this server depends on isn't available. Try again in a moment."
"""Messages of errors, by status; nothing in them helps an attacker."""


class GraphQLReply:
    """Way to refuse a whole request: it has no `data`, and one error with our code. The status stays."""

    content_type = CONTENT_TYPE

    def status(self, status: int) -> int:
        """Return the status of an answer whose code has this one."""
        return status

    def body(self, code: Code, status: int, request_id: str, more: Mapping[str, object]) -> bytes:
        """Write the answer to a refusal of a code."""
        extensions = {"code": str(code), "status": status, "request_id": request_id, **more}
        return strict_json.dumps(
            {"errors": [{"message": _TEXTS.get(status, _OTHERWISE), "extensions": extensions}]}
        )  # fmt: skip


REPLY = GraphQLReply()


def reply_for(accept: bytes) -> GraphQLReply | None:
    """Return how a client is told of a refusal that takes these types, None where a problem does it."""
    return REPLY if CONTENT_TYPE in accept.lower() else None
