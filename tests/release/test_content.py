"""Which answers can be reduced, which pass as they are, and which are not released."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.obligation import HeldAnswer
from sidecar.gate.verdict import Refused
from sidecar.release.content import honest_headers, readable

JSON = (b"content-type", b"application/json; charset=utf-8")


@pytest.mark.parametrize("status", [204, 205, 301, 302, 307, 400, 404, 422, 500, 503])
def test_errors_redirects_and_empty_answers_have_nothing_to_reduce(status: int) -> None:
    assert readable(HeldAnswer(status, [(b"content-type", b"text/html")], b"<p>")) is None


@pytest.mark.parametrize("kind", [b"application/json", b"Application/JSON;charset=utf-8", b"application/hal+json"])
@pytest.mark.parametrize("status", [200, 201, 202, 203])
def test_json_can_be_reduced(status: int, kind: bytes) -> None:
    assert readable(HeldAnswer(status, [(b"content-type", kind), (b"content-encoding", b"identity")], b"[]")) == b"[]"


@pytest.mark.parametrize(
    ("status", "headers", "body", "said"),
    [
        (206, [JSON], b"[]", "found the status 206"),
        (226, [JSON], b"[]", "found the status 226"),
        (304, [JSON], b"", "found the status 304"),
        (200, [JSON, (b"content-encoding", b"gzip")], b"[]", "found the encoding b'gzip'"),
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
