"""Problem JSON (RFC 9457), the body of a refusal wherever it is made."""

from __future__ import annotations

import json
from http import HTTPStatus

from sidecar.gate.codes import Code

CONTENT_TYPE = b"application/problem+json"


def problem_json(status: int, code: Code, request_id: str = "") -> bytes:
    """Write the problem of a code. Without a request id it has none."""
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code}
    if request_id:
        problem["request_id"] = request_id
    return json.dumps(problem).encode("ascii")
