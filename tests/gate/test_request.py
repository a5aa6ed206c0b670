"""The canonical reading of a whole request, and the one of shadow mode."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.request import Raw, Reading, as_it_came, read
from sidecar.gate.target import Oddity
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import Header
from tests.gate.raw_request import READING, raw


def test_the_target_that_is_sent_is_the_canonical_path_and_the_query_as_it_came() -> None:
    assert read(raw(b"/%64ocs/%31?q=%64"), READING).target == b"/docs/1?q=%64"
    assert read(raw(b"/docs/1?"), READING).target == b"/docs/1?"
    assert read(raw(b"/docs/1"), READING).target == b"/docs/1"


@pytest.mark.parametrize(
    ("method", "header", "odd", "has"),
    [
        ("GET", (b"content-length", b"5"), True, True), ("HEAD", (b"transfer-encoding", b"chunked"), True, True),
        ("DELETE", (b"content-length", b"1"), True, True), ("GET", (b"content-length", b"0"), False, False),
        ("POST", (b"content-length", b"5"), False, True), ("POST", (b"x-a", b""), False, False),
    ],
)  # fmt: skip
def test_a_body_where_none_belongs_is_odd(method: str, header: Header, odd: bool, has: bool) -> None:
    request = read(raw(b"/", header, method=method), READING)
    assert (Oddity.REQUEST_BODY in request.oddities, request.has_body) == (odd, has)


TWO = (((b"x-forwarded-host", b"b.test"),), ((b"forwarded", b"host=b.test"),))


@pytest.mark.parametrize("said", TWO)
def test_where_hosts_are_told_apart_a_request_names_one_of_them(said: tuple[Header, ...]) -> None:
    reading = Reading(frozenset(("a.test", "*.b.test", "b.test")), (ip_network("192.0.2.0/24"),), by_host=True)

    def at(host: bytes) -> Raw:
        return Raw("GET", b"/", [(b"host", host), *said], "192.0.2.1", "http", "r")

    assert read(at(b"inner:8080"), reading).host == "b.test"
    assert read(at(b"B.test"), reading).host == "b.test"
    # nginx says `$http_host` in the one and `$host` in the other
    assert read(at(b"b.test:8443"), reading).host == "b.test"
    for host in (b"a.test", b"A.test:80", b"x.b.test"):
        with pytest.raises(Refused) as refused:
            read(at(host), reading)
        assert refused.value.code is Code.HEADER_AMBIGUOUS
        # shadow changes nothing of what the app answers
        assert as_it_came(at(host), reading).host == "b.test"
        assert read(at(host), reading._replace(by_host=False)).host == "b.test"


# --- shadow mode's reading ---


def test_as_it_came_judges_nothing_and_still_takes_our_headers_out() -> None:
    headers = (
        (b"x-auth-subject", b"root"), (b"x_odd", b"1"), (b"authorization", b"a"), (b"authorization", b"b"),
        (b"connection", b"x-auth-subject, x-mine"), (b"x-mine", b"1"), (b"x-forwarded-for", b"1.1.1.1"),
    )  # fmt: skip
    request = as_it_came(raw(b"/a/../b?x=1", *headers), READING)
    assert (request.target, request.path, request.query) == (b"/a/../b?x=1", "/a/../b", b"x=1")
    names = [name for name, _ in request.headers]
    assert names.count(b"authorization") == 2
    assert not {b"x-auth-subject", b"x_odd", b"x-mine"} & set(names)
    assert dict(request.headers)[b"x-forwarded-for"] == b"10.0.0.9"


def test_as_it_came_needs_a_host_without_which_the_app_cannot_be_asked() -> None:
    with pytest.raises(Refused) as caught:
        as_it_came(Raw("GET", b"/", [], "", "http", "r"), READING)
    assert caught.value.code is Code.REQUEST_INVALID


def test_as_it_came_lets_connection_take_nothing_that_decides_and_drops_no_plain_name() -> None:
    headers = ((b"connection", b"authorization"), (b"authorization", b"a"), (b"x-shadow-only", b"\x01"))
    kept = as_it_came(raw(b"/", *headers), READING).headers
    assert kept[1:3] == [(b"authorization", b"a"), (b"x-shadow-only", b"\x01")]
