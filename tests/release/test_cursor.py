"""Where a page tells of the next one: what an app writes, and what is taken of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sidecar.release.cursor import (
    LINK,
    PageOrigin,
    Refill,
    links_of,
    next_links,
    next_query,
    place_of,
    with_next_links,
)
from sidecar.wire.json_slices import JsonText

HERE = PageOrigin("/v1/notes", frozenset(["app.example:8080"]), b"page=1&q=a", b"page=1&q=a")
BODY = Refill(3, ("paging", "next"))


def by_link(*values: str, origin: PageOrigin = HERE) -> bytes | None:
    return next_query(Refill(3), origin, [(b"link", value.encode()) for value in values], JsonText(b"[]"))


def by_body(value: Any, refill: Refill = BODY, origin: PageOrigin = HERE) -> bytes | None:
    return next_query(refill, origin, [], JsonText(json.dumps(value).encode()))


@pytest.mark.parametrize(
    "said",
    [
        '<?page=2>; rel="next"',
        "</v1/notes?page=2>; rel=next",
        "<notes?page=2>; rel=next",
        '<http://app.example:8080/v1/notes?page=2>; rel="next"',
        '<https://APP.example:8080/v1/notes?page=2#top>; rel="next"',
        '<//app.example:8080/v1/notes?page=2>; rel="next"',
        '<?page=9>; rel=last, </v1/notes?page=2> ; title="a, \\"<b>; rel=x" ; REL="Next last"',
        '<?page=1>; rel="first", , <?page=2>; rel="next"; rel="prev",',
        '<?page=0>; rel="next"; anchor="#other", <?page=2>;rel=next;',
    ],
)
def test_a_link_to_the_next_page_is_found(said: str) -> None:
    assert by_link(said) == b"page=2"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "<?page=2>",
        "<?page=2>; rel=prev",
        "<?page=2>; rel=prev; rel=next",
        '<?page=2>; rel="nextpage"',
        "</v1/users?page=2>; rel=next",
        "</v1/notes/?page=2>; rel=next",
        "</v1/%6eotes?page=2>; rel=next",
        "<../notes?page=2>; rel=next",
        "<http://app.example/v1/notes?page=2>; rel=next",
        "<http://evil.example/v1/notes?page=2>; rel=next",
        "<http://app.example:8080@evil.example/v1/notes?page=2>; rel=next",
        "<//evil.example/v1/notes?page=2>; rel=next",
        "<http://app.example:8080?page=2>; rel=next",
        "<ftp://app.example:8080/v1/notes?page=2>; rel=next",
        "<javascript:page=2>; rel=next",
    ],
)
def test_what_leads_elsewhere_is_no_next_page(said: str) -> None:
    assert by_link(said) is None


@pytest.mark.parametrize(
    "said",
    [
        "page=2; rel=next",
        "<?page=2; rel=next",
        "<?page= 2>; rel=next",
        '<?page=2>; rel="next',
        "<?page=2>; rel=next <?page=3>",
        "<?page=2\u00e9>; rel=next",
        "<http://[x/v1/notes?page=2>; rel=next",
        "<>; rel=next",
        "<?page=2>; rel=next, <?page=3>; rel=next",
    ],
)
def test_a_link_that_cannot_be_read_in_one_way_is_a_fault(said: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        by_link(said)


@pytest.mark.parametrize(
    ("said", "query"),
    [
        ("?page=2", b"page=2"),
        ("page=2&q=a", b"page=2&q=a"),
        ("/v1/notes?page=2", b"page=2"),
        ("http://app.example:8080/v1/notes?page=2", b"page=2"),
        ("/v1/notes", b""),
        ("", None),
        (None, None),
        (False, None),
        ("abc", None),
        ("http://evil.example/v1/notes?page=2", None),
    ],
)
def test_a_member_of_the_body_tells_of_the_next_page(said: object, query: bytes | None) -> None:
    assert by_body({"data": [], "paging": {"next": said, "more": 1}}) == query


@pytest.mark.parametrize("body", [{"data": []}, {"paging": None}, {"paging": {}}])
def test_without_the_member_there_is_no_next_page(body: object) -> None:
    assert by_body(body) is None


@pytest.mark.parametrize("said", [2, True, {}, ["?page=2"], "?page=\u00e9", "?page=2\r\nx: y", "? page=2"])
def test_a_member_that_is_no_url_is_a_fault(said: object) -> None:
    with pytest.raises(ValueError, match="next page"):
        by_body({"paging": {"next": said}})
    with pytest.raises(ValueError, match="expected an object"):
        by_body({"paging": "x"})


@pytest.mark.parametrize(
    ("said", "query"),
    [
        ("a/b+c=", b"q=a&page=a%2Fb%2Bc%3D"),
        (2, b"q=a&page=2"),
        (0, b"q=a&page=0"),
        ("x&admin=1\r\n", b"q=a&page=x%26admin%3D1%0D%0A"),
        (None, None),
        ("", None),
    ],
)
def test_a_parameter_takes_the_value_in_the_clients_query(said: object, query: bytes | None) -> None:
    refill = Refill(3, ("next",), "page")
    assert by_body({"next": said}, refill) == query
    again = replace(refill, parameter="cursor")
    assert by_body({"next": 7}, again, HERE._replace(query=b"")) == b"cursor=7"


def test_a_value_that_no_parameter_takes_is_a_fault() -> None:
    refill = Refill(3, ("next",), "page")
    unfit: list[object] = [1.5, True, [1], {}]
    for said in unfit:
        with pytest.raises(ValueError, match="no text and no whole number"):
            by_body({"next": said}, refill)
    with pytest.raises(ValueError, match="';'"):
        by_body({"next": 2}, refill, HERE._replace(query=b"a=1;page=1"))


def test_what_the_sidecar_put_into_the_query_is_taken_out_of_the_apps() -> None:
    origin = HERE._replace(query=b"page=1&kind=x", sent=b"page=1&kind=x&tenant=a%20b&kind=y")
    assert by_link("<?page=2&kind=x&tenant=a+b&kind=y>; rel=next", origin=origin) == b"page=2&kind=x"
    assert by_link("<?page=2&tenant=other>; rel=next", origin=origin) == b"page=2&tenant=other"


def test_the_next_link_is_put_in_the_place_of_another_and_the_rest_keeps_its_bytes() -> None:
    first = [(b"link", b'<?p=1>;rel=first,<?p=2>; rel="next"'), (b"x", b"y"), (b"link", b"<a> ;rel = x ,<b>")]
    last = next_links([(b"link", b'<?p=0>; rel=prev, <?p=5>;rel="next" ')])
    made = with_next_links(first, last)
    assert made == [(b"link", b'<?p=5>;rel="next", <?p=1>;rel=first'), *first[1:]]
    assert with_next_links(first, []) == [(b"link", b"<?p=1>;rel=first"), *first[1:]]
    assert with_next_links([(b"link", b"<?p=2>; rel=next"), (b"x", b"y")], []) == [(b"x", b"y")]
    assert with_next_links([(b"x", b"y")], last) == [(b"x", b"y")]


def test_links_of_a_header_come_as_they_were_written() -> None:
    links = links_of(b' <a>; rel=next ;title="x" , <b>')
    assert [(link.text, link.reference, link.is_next) for link in links] == [
        (b'<a>; rel=next ;title="x"', "a", True),
        (b"<b>", "b", False),
    ]
    assert links_of(b" , ") == []


def test_a_long_header_is_read_in_time_that_grows_with_it() -> None:
    """Where the pattern went back, these would take minutes."""
    for value in (b"<a>" + b"; x" * 20_000 + b'"', b"<a>; x=" + b'"' + b"\\a" * 30_000, b"<a>" + b" " * 60_000 + b"x"):
        with pytest.raises(ValueError, match="Link"):
            links_of(value)


def test_a_place_in_a_body() -> None:
    text = JsonText(b' {"a": {"b": [1, 2]}, "n": null} ')
    span = place_of(text, ("a", "b"))
    assert span is not None
    assert text.data[span.start : span.end] == b"[1, 2]"
    assert (place_of(text, ("a", "c")), place_of(text, ("n", "x")), place_of(text, LINK)) == (None, None, text.whole())
