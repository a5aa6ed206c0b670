"""CORS: who may ask, and what an answer says to whom."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.cors import answer_headers, is_preflight, preflight_headers, without_credentials
from sidecar.gate.request import Raw, Reading, Request, read
from sidecar.gate.routing import Cors
from sidecar.gate.verdict import Refused

FRONT = "https://front.example"
CORS = Cors(frozenset([FRONT]), ("GET", "PUT"), ("authorization", "x-a"), False, 300)


def request(method: str = "OPTIONS", origin: str | None = FRONT, asked: str | None = "GET") -> Request:
    headers = [(b"host", b"x")]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    if asked is not None:
        headers.append((b"access-control-request-method", asked.encode()))
    return read(Raw(method, b"/", headers, "", "http", "r"), Reading())


def test_a_preflight_is_options_with_both_headers() -> None:
    assert is_preflight(request())
    for other in (request("GET"), request(origin=None), request(asked=None)):
        assert not is_preflight(other)


def test_a_listed_origin_is_told_what_it_may() -> None:
    assert preflight_headers(CORS, request()) == (
        (b"access-control-allow-origin", FRONT.encode()), (b"vary", b"Origin"), (b"access-control-allow-methods", b"GET, PUT"),
        (b"access-control-max-age", b"300"), (b"access-control-allow-headers", b"authorization, x-a"),
    )  # fmt: skip
    assert b"access-control-allow-headers" not in dict(preflight_headers(CORS._replace(headers=()), request()))


@pytest.mark.parametrize(
    ("cors", "asked"),
    [
        (None, request()), (CORS, request(origin="https://evil.test")), (CORS, request(origin="null")), (CORS, request(origin=FRONT + "/")),
        (CORS, request(origin="HTTPS://FRONT.EXAMPLE")), (CORS, request(asked="DELETE")), (CORS, request(asked="get")),
    ],
)  # fmt: skip
def test_everybody_else_is_refused(cors: Cors | None, asked: Request) -> None:
    with pytest.raises(Refused) as caught:
        preflight_headers(cors, asked)
    assert caught.value.code is Code.CORS_REFUSED


def test_an_answer_is_marked_for_the_origin_that_asked_and_never_for_all() -> None:
    assert answer_headers(None, request("GET")) == ()
    assert answer_headers(CORS, request("GET", "https://evil.test")) == ((b"vary", b"Origin"),)
    assert answer_headers(CORS, request("GET", None)) == ((b"vary", b"Origin"),)
    marks = answer_headers(CORS._replace(credentials=True), request("GET"))
    assert marks == (
        (b"access-control-allow-origin", FRONT.encode()), (b"vary", b"Origin"), (b"access-control-allow-credentials", b"true"),
    )  # fmt: skip


def test_a_preflight_for_the_app_has_no_credentials() -> None:
    headers = [
        (b"host", b"x"),
        (b"cookie", b"a=1"),
        (b"authorization", b"Basic x"),
        (b"origin", b"https://a"),
        (b"x-a", b"1"),
    ]
    made = without_credentials(read(Raw("OPTIONS", b"/", headers, "", "http", "r"), Reading()))
    assert [name for name, _ in made.headers][:3] == [b"host", b"origin", b"x-a"]
