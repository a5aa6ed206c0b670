"""A refusal as a GraphQL client reads it, where it says that it does."""

from __future__ import annotations

import json

import pytest

from sidecar.bodies.graphql_reply import REPLY, reply_for
from sidecar.gate.codes import Code


@pytest.mark.parametrize(
    ("accept", "is_told"),
    [
        (b"application/graphql-response+json, application/json;q=0.9", True), (b"Application/GraphQL-Response+JSON", True),
        (b"application/graphql-response+json, application/graphql+json, application/json, text/event-stream, multipart/mixed", True),
        (b"application/json", False), (b"*/*", False), (b"", False), (b"text/html", False),
    ],
)  # fmt: skip
def test_a_client_that_takes_graphql_responses_is_told_in_one(accept: bytes, is_told: bool) -> None:
    assert (reply_for(accept) is REPLY) is is_told


@pytest.mark.parametrize(
    ("code", "status", "says"),
    [
        (Code.DENIED_BY_POLICY, 403, "access"),
        (Code.BODY_INVALID, 400, "malformed"),
        (Code.PDP_TIMEOUT, 503, "Try again"),
    ],
)
def test_it_has_one_error_and_no_data(code: Code, status: int, says: str) -> None:
    told = json.loads(REPLY.body(code, status, "r-1", {"each": {"asked": 2, "denied": 1}}))
    (error,) = told["errors"]
    assert (told.keys(), says in error["message"]) == ({"errors"}, True)
    assert error["extensions"] == {
        "code": code,
        "status": status,
        "request_id": "r-1",
        "each": {"asked": 2, "denied": 1},
    }
    assert REPLY.status(status) == status
