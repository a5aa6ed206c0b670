"""Answers that the server gives without an app."""

from __future__ import annotations

import pytest

from sidecar.doors.answer import status_of
from sidecar.gate.codes import Code
from sidecar.net.early_answer import problem, refusal_of
from sidecar.wire.http1_request import Violation


@pytest.mark.parametrize("fault", Violation)
def test_each_fault_has_the_status_that_its_code_has_everywhere(fault: Violation) -> None:
    """An unknown expectation has a status of its own (RFC 9110 section 10.1.1)."""
    status, code = refusal_of(fault)
    assert status == (417 if fault is Violation.EXPECTATION_UNKNOWN else status_of(code))


def test_a_problem_names_its_code_and_503_says_when_to_come_again() -> None:
    head, content = problem(503, Code.OVERLOADED, b"\r\ndate: x").split(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 503 Service Unavailable",
        b"date: x",
        b"retry-after: 1",
        b"content-type: application/problem+json",
        b"content-length: %d" % len(content),
        b"connection: close",
    ]
    assert content == b'{"type": "about:blank", "title": "Service Unavailable", "status": 503, "code": "overloaded"}'
