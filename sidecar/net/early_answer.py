"""Responses of the server itself, before the app gets a request or when the app fails to respond."""

from __future__ import annotations

import http
from typing import assert_never

from sidecar.gate.codes import Code
from sidecar.gate.own import REQUEST_ID
from sidecar.gate.problem import CONTENT_TYPE, problem_json
from sidecar.wire.http1_request import Violation
from sidecar.wire.response_head import STATUS_LINES


def refusal_of(fault: Violation) -> tuple[int, Code]:
    """The status and the code for a fault in a client's bytes; a fault that has none here does not type-check."""
    match fault:
        case Violation.INVALID:
            return 400, Code.REQUEST_INVALID
        case Violation.EXPECTATION_UNKNOWN:
            return 417, Code.REQUEST_INVALID
        case Violation.TARGET_INVALID:
            return 400, Code.TARGET_AMBIGUOUS
        case Violation.TARGET_TOO_LONG:
            return 414, Code.TARGET_TOO_LONG
        case Violation.HEADER_AMBIGUOUS:
            return 400, Code.HEADER_AMBIGUOUS
        case Violation.HEADERS_TOO_LARGE:
            return 431, Code.HEADERS_TOO_LARGE
        case _:
            assert_never(fault)


def problem(status: int, code: Code, fixed: bytes = b"", *, body: bool = True, request_id: str = "") -> bytes:
    """A whole answer of the server's own, after which the connection is closed (RFC 9457). `fixed`: as fixed_headers.

    `body` is False for the answer to HEAD. `request_id`, if there is one, is in the body and in its header.
    """
    content = problem_json(status, code, request_id)
    if request_id:
        fixed += b"\r\n" + REQUEST_ID + b": " + request_id.encode("ascii")
    retry = b"\r\nretry-after: 1" if status == http.HTTPStatus.SERVICE_UNAVAILABLE else b""
    head = b"%b%b%b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (STATUS_LINES[status], fixed, retry, CONTENT_TYPE, len(content)) + (content if body else b"")
