"""A code -> status, headers and body."""

import json
from http import HTTPStatus

import pytest

from sidecar.doors import answer
from sidecar.gate.codes import Code

STATUSES = {
    Code.TARGET_AMBIGUOUS: 400, Code.SEGMENT_INVALID: 400, Code.REFERENCE_INVALID: 400, Code.BODY_INVALID: 400,
    Code.TOKEN_MISSING: 401, Code.TOKEN_INVALID: 401, Code.TOKEN_EXPIRED: 401,
    Code.ROUTE_UNMAPPED: 403, Code.OPERATION_UNMAPPED: 403, Code.DENIED_BY_POLICY: 403, Code.NO_ROLES: 403, Code.SCOPE_MISSING: 403, Code.PRINCIPAL_MISSING: 403, Code.RESOURCE_MISSING: 403,
    Code.RESOURCE_HIDDEN: 404, Code.METHOD_UNMAPPED: 405, Code.BODY_TOO_LARGE: 413, Code.TARGET_TOO_LONG: 414,
    Code.BODY_TYPE_UNSUPPORTED: 415, Code.HOST_NOT_ALLOWED: 421, Code.HEADERS_TOO_LARGE: 431,
    Code.INTERNAL_ERROR: 500, Code.UPSTREAM_UNAVAILABLE: 502, Code.UPSTREAM_TIMEOUT: 504,
    Code.PDP_UNAVAILABLE: 503, Code.LOOKUP_TIMEOUT: 503, Code.KEYS_UNAVAILABLE: 503, Code.OVERLOADED: 503,
}  # fmt: skip


@pytest.mark.parametrize(("code", "status"), STATUSES.items())
def test_the_contract_of_statuses(code: Code, status: int) -> None:
    assert answer.status_of(code) == status


@pytest.mark.parametrize("code", Code)
def test_every_code_has_a_problem_and_a_page_with_its_request_id(code: Code) -> None:
    made = answer.of(code, "req-1", methods=("GET",))
    problem = json.loads(made.body)
    assert (problem["code"], problem["status"], problem["request_id"]) == (code, made.status, "req-1")
    headers = dict(made.headers)
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"content-length"] == str(len(made.body)).encode()
    assert headers[b"cache-control"] == b"no-store"
    page = answer.of(code, "req-1", page=answer.plain_page)
    assert dict(page.headers)[b"content-type"].startswith(b"text/html")
    for part in (code.encode(), b"req-1", str(made.status).encode(), HTTPStatus(made.status).phrase.encode()):
        assert part in page.body


def test_a_problem_may_have_members_of_its_own() -> None:
    made = answer.of(Code.DENIED_BY_POLICY, "req-1", more={"each": {"asked": 3, "denied": 1}})
    assert json.loads(made.body)["each"] == {"asked": 3, "denied": 1}
    assert dict(made.headers)[b"content-length"] == str(len(made.body)).encode()


def test_each_status_brings_the_header_that_its_rfc_asks_for() -> None:
    assert dict(answer.of(Code.TOKEN_MISSING, "r").headers)[b"www-authenticate"] == b'Bearer error="invalid_token"'
    assert dict(answer.of(Code.TOKEN_MISSING, "r").headers)[b"vary"] == b"Cookie, Authorization"
    assert dict(answer.of(Code.METHOD_UNMAPPED, "r", methods=("GET", "PUT")).headers)[b"allow"] == b"GET, PUT"
    assert b"retry-after" in dict(answer.of(Code.PDP_TIMEOUT, "r").headers)
    assert b"retry-after" not in dict(answer.of(Code.UPSTREAM_TIMEOUT, "r").headers)


def test_a_page_never_runs_what_a_request_id_holds() -> None:
    assert b"<script>" not in answer.of(Code.DENIED_BY_POLICY, "<script>", page=answer.plain_page).body


@pytest.mark.parametrize(
    ("method", "accept", "page"),
    [
        ("GET", b"text/html,*/*;q=0.8", True),
        ("POST", b"text/html", False),
        ("GET", b"application/json", False),
        ("GET", b"", False),
    ],
)
def test_only_a_navigating_browser_gets_a_page(method: str, accept: bytes, page: bool) -> None:
    assert answer.wants_page(method, accept) is page
