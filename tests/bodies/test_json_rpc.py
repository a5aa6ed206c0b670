"""Refusals in JSON-RPC: the error has the request's id, and a status that its client does not take for the end of all."""

from __future__ import annotations

import json

import pytest

from sidecar.bodies.json_rpc import DENIED, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, JsonRpcReply
from sidecar.gate.codes import Code


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        (Code.DENIED_BY_POLICY, 403, DENIED),
        (Code.RESOURCE_HIDDEN, 404, DENIED),
        (Code.REFERENCE_INVALID, 400, INVALID_PARAMS),
        (Code.BODY_INVALID, 400, INVALID_PARAMS),
        (Code.PDP_UNAVAILABLE, 503, INTERNAL_ERROR),
        (Code.ITEMS_UNREADABLE, 502, INTERNAL_ERROR),
    ],
)
def test_an_error_has_the_id_of_its_request_and_our_code(code: Code, status: int, error: int) -> None:
    reply = JsonRpcReply("a-1", 200)
    told = json.loads(reply.body(code, status, "r-1", {"each": 2}))
    assert (told["jsonrpc"], told["id"], told["error"]["code"]) == ("2.0", "a-1", error)
    assert told["error"]["data"] == {"code": code, "status": status, "request_id": "r-1", "each": 2}
    assert told["error"]["message"]
    assert reply.status(status) == 200


def test_what_is_no_request_keeps_the_status_of_the_code() -> None:
    reply = JsonRpcReply(None)
    assert reply.status(403) == 403
    assert json.loads(reply.body(Code.DENIED_BY_POLICY, 403, "r", {}))["id"] is None


def test_a_code_of_the_protocol_goes_before_ours() -> None:
    reply = JsonRpcReply(None, 400, INVALID_REQUEST)
    assert json.loads(reply.body(Code.BODY_INVALID, 400, "r", {}))["error"]["code"] == INVALID_REQUEST
