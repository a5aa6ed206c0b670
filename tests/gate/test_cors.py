"""Preflights for the listed origins, and marks on answers."""

from __future__ import annotations

import pytest

from sidecar.gate.cors import ANSWER_HEADERS, answer_headers, is_preflight, preflight_headers
from sidecar.gate.request import Header, Raw, Reading, Request, read
from sidecar.gate.routing import Cors
from sidecar.gate.verdict import Code, Refused

APP = b"https://front.test"
CORS = Cors(frozenset([APP.decode()]), ("GET", "PUT"))
FULL = CORS._replace(headers=("authorization", "x-a"), credentials=True, max_age=60)


def request(method: str, origin: bytes | None, asks: bytes | None = None) -> Request:
    headers: list[Header] = [(b"host", b"x")]
    headers += [(b"origin", origin)] if origin is not None else []
    headers += [(b"access-control-request-method", asks)] if asks is not None else []
    return read(Raw(method, b"/docs/1", headers, "", "http", "r"), Reading())


@pytest.mark.parametrize(
    ("method", "origin", "asks", "whether"),
    [
        ("OPTIONS", APP, b"PUT", True), ("OPTIONS", b"https://evil.test", b"PUT", True), ("OPTIONS", None, b"PUT", False),
        ("OPTIONS", APP, None, False), ("GET", APP, b"PUT", False),
    ],
)  # fmt: skip
def test_a_preflight_is_options_with_both_of_its_headers(
    method: str, origin: bytes | None, asks: bytes | None, whether: bool
) -> None:
    assert is_preflight(request(method, origin, asks)) is whether


def test_a_preflight_of_a_listed_origin_is_told_what_it_may() -> None:
    assert preflight_headers(CORS, request("OPTIONS", APP, b"PUT")) == (
        (b"access-control-allow-origin", APP),
        (b"vary", b"Origin"),
        (b"access-control-allow-methods", b"GET, PUT"),
        (b"access-control-max-age", b"600"),
    )


def test_headers_and_credentials_are_told_where_the_route_names_them() -> None:
    assert preflight_headers(FULL, request("OPTIONS", APP, b"GET")) == (
        (b"access-control-allow-origin", APP),
        (b"vary", b"Origin"),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-allow-methods", b"GET, PUT"),
        (b"access-control-max-age", b"60"),
        (b"access-control-allow-headers", b"authorization, x-a"),
    )


@pytest.mark.parametrize(
    ("cors", "origin", "asks"),
    [
        (None, APP, b"GET"), (CORS, b"https://evil.test", b"GET"), (CORS, APP + b".evil.test", b"GET"), (CORS, b"null", b"GET"),
        (CORS, b"http://front.test", b"GET"), (CORS, b"HTTPS://FRONT.TEST", b"GET"), (CORS, APP + b"/", b"GET"),
        (CORS, b"", b"GET"), (CORS, b"*", b"GET"), (CORS, b"https://\xff", b"GET"),
        (CORS, APP, b"DELETE"), (CORS, APP, b"get"), (CORS, APP, b"GET, PUT"), (CORS, APP, b""),
    ],
)  # fmt: skip
def test_an_origin_or_a_method_that_is_not_listed_is_refused(cors: Cors | None, origin: bytes, asks: bytes) -> None:
    with pytest.raises(Refused) as caught:
        preflight_headers(cors, request("OPTIONS", origin, asks))
    assert caught.value.code is Code.CORS_REFUSED


@pytest.mark.parametrize(
    ("cors", "origin", "marks"),
    [
        (None, APP, ()), (CORS, None, ((b"vary", b"Origin"),)), (CORS, b"https://evil.test", ((b"vary", b"Origin"),)),
        (CORS, APP, ((b"access-control-allow-origin", APP), (b"vary", b"Origin"))),
        (FULL, APP, ((b"access-control-allow-origin", APP), (b"vary", b"Origin"), (b"access-control-allow-credentials", b"true"))),
    ],
)  # fmt: skip
def test_an_answer_is_marked_for_a_listed_origin_by_name(
    cors: Cors | None, origin: bytes | None, marks: tuple[Header, ...]
) -> None:
    """A cache must keep the answers for different origins apart even where the mark is missing."""
    assert answer_headers(cors, request("GET", origin)) == marks


def test_whatever_lets_an_origin_read_an_answer_is_named_as_ours() -> None:
    marks = {name for name, _ in answer_headers(FULL, request("GET", APP))}
    assert marks - {b"vary"} == ANSWER_HEADERS
