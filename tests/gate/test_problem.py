"""Problem JSON."""

from __future__ import annotations

import json

from sidecar.gate.codes import Code
from sidecar.gate.problem import problem_json


def test_a_problem_has_the_fields_of_rfc_9457_and_ours() -> None:
    assert json.loads(problem_json(503, Code.PDP_TIMEOUT, "r1")) == {
        "type": "about:blank", "title": "Service Unavailable", "status": 503, "code": "pdp_timeout", "request_id": "r1",
    }  # fmt: skip


def test_without_a_request_id_it_has_none() -> None:
    assert "request_id" not in json.loads(problem_json(400, Code.REQUEST_INVALID))
