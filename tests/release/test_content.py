"""Which answers can be reduced, which pass as they are, and which are not released."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.obligation import HeldAnswer
from sidecar.gate.verdict import Refused
from sidecar.release.content import honest_headers, is_failed, readable, tells_number

JSON = (b"content-type", b"application/json; charset=utf-8")


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 422, 500, 503])
def test_errors_and_redirects_in_another_form_have_nothing_to_reduce(status: int) -> None:
    assert readable(HeldAnswer(status, [(b"content-type", b"text/html")], b"<p>")) is None
    assert readable(HeldAnswer(status, [JSON], b"")) is None
    assert readable(HeldAnswer(status, [JSON], b"{}")) == b"{}"
    assert is_failed(HeldAnswer(status, [], b""))


@pytest.mark.parametrize("status", [204, 205])
def test_answers_without_content_have_nothing_to_reduce(status: int) -> None:
    assert readable(HeldAnswer(status, [JSON], b"")) is None
    assert not is_failed(HeldAnswer(status, [], b""))


@pytest.mark.parametrize(
    ("name", "value", "tells"),
    [
        (b"x-wp-total", b"1", True), (b"x-total-pages", b"1", True), (b"total-count", b"1", True),
        (b"x-result-count", b"1", True), (b"x-pagination", b'{"TotalCount":1}', True), (b"x-account-id", b"1", False),
        (b"x-discount", b"1", False), (b"x-pagination", b'{"next":2}', False), (b"link", b"</?total=1>", False),
    ],
)  # fmt: skip
def test_headers_that_tell_a_number_are_known_by_their_words(name: bytes, value: bytes, tells: bool) -> None:
    assert tells_number(name, value) is tells


@pytest.mark.parametrize("kind", [b"application/json", b"Application/JSON;charset=utf-8", b"application/hal+json"])
@pytest.mark.parametrize("status", [200, 201, 202, 203])
def test_json_can_be_reduced(status: int, kind: bytes) -> None:
    assert readable(HeldAnswer(status, [(b"content-type", kind), (b"content-encoding", b"identity")], b"[]")) == b"[]"


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        (206, [JSON], b"[]", "found the status 206"),
        (226, [JSON], b"[]", "found the status 226"),
        (205, [JSON], b"[]", "found the status 205"),
        (404, [JSON, (b"content-encoding", b"gzip")], b"[]", "found the encoding 'gzip'"),
        (404, [JSON, (b"content-type", b"text/html")], b"[]", "found the content type"),
        (304, [JSON], b"", "found the status 304"),
        (200, [JSON, (b"content-encoding", b"gzip")], b"[]", "found the encoding 'gzip'"),
        (200, [JSON, (b"content-encoding", b""), (b"content-encoding", b"br")], b"[]", "found the encoding"),
        (200, [JSON], b"", "without content"),
        (200, [], b"[]", "found the content type ''"),
        (200, [(b"content-type", b"text/html")], b"[]", "found the content type 'text/html'"),
        (200, [JSON, JSON], b"[]", "found the content type"),
        (200, [(b"content-type", b"application/jsonp")], b"[]", "found the content type"),
    ],
)
def test_what_cannot_be_reduced_is_not_released(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, said: str
) -> None:
    with pytest.raises(Refused, match=said) as refused:
        readable(HeldAnswer(status, headers, body))
    assert refused.value.code is Code.ITEMS_UNREADABLE


def test_headers_about_the_whole_are_taken_away() -> None:
    gone = (
        b"etag", b"last-modified", b"digest", b"content-digest", b"repr-digest", b"content-md5", b"accept-ranges",
        b"content-range",
    )  # fmt: skip
    kept = [JSON, (b"link", b'</c?page=2>; rel="next"'), (b"set-cookie", b"a=1")]
    assert honest_headers([*kept, *[(name, b"x") for name in gone]]) == kept
