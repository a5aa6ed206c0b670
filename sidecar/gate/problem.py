"""Problem JSON (RFC 9457), the body of a refusal wherever it is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from sidecar.gate.codes import Code

CONTENT_TYPE = b"application/problem+json"
NOTHING: Mapping[str, object] = MappingProxyType({})


def problem_json(status: int, code: Code, request_id: str = "", more: Mapping[str, object] = NOTHING) -> bytes:
    """Write the problem of a code. Without a request id it has none; `more` are members of its own."""
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code, **more}
    if request_id:
        problem["request_id"] = request_id
    return json.dumps(problem).encode("ascii")
