"""Bodies of application/x-www-form-urlencoded: their fields in order, or a refusal."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.urlencoded import MAX_NAME, UNCLEAR, FormField, decoded, fields_of, has_later_name

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="%"), min_size=1, max_size=20)


@given(st.lists(st.tuples(NAMES, st.text(st.characters(exclude_categories=["Cs"])))))
def test_what_a_client_writes_is_read_as_it_was_written(pairs: list[tuple[str, str]]) -> None:
    assert fields_of(urlencode(pairs).encode(), 1000) == [FormField(name, text) for name, text in pairs]


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_but_valueerror(data: bytes) -> None:
    try:
        fields_of(data, 5)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"", []), (b"&&", []), (b"a=1", [("a", "1")]), (b"a", [("a", "")]), (b"a=", [("a", "")]), (b"=1", [("", "1")]),
        (b"a=1&&b=2&", [("a", "1"), ("b", "2")]), (b"a=b=c", [("a", "b=c")]), (b"%61=%62+c", [("a", "b c")]),
        (b"a[]=1&a[]=2", [("a[]", "1"), ("a[]", "2")]), (b"a=%C3%BC", [("a", "\xfc")]),
    ],
)  # fmt: skip
def test_fields_are_read_in_order(body: bytes, found: list[tuple[str, str]]) -> None:
    assert fields_of(body, 4) == [FormField(name, text) for name, text in found]


@pytest.mark.parametrize(
    "body",
    [
        b"a=1;b=2", b"a=1 2", b"a=1\n", b"a=1\r\nb=2", b"a=1\0", b"a=\xc3\xbc", b"\xef\xbb\xbfa=1", b"%=1", b"%6=1", b"%zz=1",
        b"%ff=1", b"%c0%af=1", b"a%00=1", b"a%0a=1", b"%2561=1", b"a=b]=c", b"a=b%5D=c", b"a=1&b=2&c=3&d=4",
        b"n" * (MAX_NAME + 1) + b"=1",
    ],
)  # fmt: skip
def test_what_two_servers_may_read_differently_is_no_form(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"a |more than"):
        fields_of(body, 3)


@pytest.mark.parametrize("value", [b"%ff", b"%", b"%u0041", b"%c0%af", b"%ed%a0%80"])
def test_a_value_that_is_no_text_takes_nothing_from_the_others(value: bytes) -> None:
    first, second = fields_of(b"a=" + value + b"&b=2", 3)
    assert (first.name, first.text, second) == ("a", None, FormField("b", "2"))
    assert "UTF-8" in first.description


def test_the_parts_of_a_reading() -> None:
    assert decoded(b"a+%2B") == b"a +"
    assert UNCLEAR.search("a\x00")
    assert UNCLEAR.search("%")
    assert not UNCLEAR.search("a.b[c] d")
    assert has_later_name(b"x%5d=y")
    assert not has_later_name(b"x]y=")
