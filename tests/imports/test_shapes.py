"""Shapes of segments."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.ask import asks
from sidecar.gate.routing import Access, Pattern, Route, RouteTable, Variable
from sidecar.imports.shapes import SegmentShape, is_static, parts_of, pattern_of, shape_of, widest


@pytest.mark.parametrize(
    ("segment", "shape"),
    [
        ("contacts", SegmentShape.WORD), ("purchase-orders", SegmentShape.WORD), ("getContact", SegmentShape.WORD), ("v1", SegmentShape.WORD), ("v2.1", SegmentShape.WORD),
        ("oauth2", SegmentShape.SLUG), ("-", SegmentShape.WORD), (".well-known", SegmentShape.WORD), ("_search", SegmentShape.WORD), ("7", SegmentShape.INT), ("-7", SegmentShape.INT),
        ("0", SegmentShape.INT), ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", SegmentShape.UUID), ("3F2504E0-4F89-11D3-9A0C-0305E82C3301", SegmentShape.UUID),
        ("2026-11-29", SegmentShape.DATE), ("2026-11", SegmentShape.DATE), ("2026-11-29T10:00:00Z", SegmentShape.DATE), ("20261129", SegmentShape.INT),
        ("507f1f77bcf86cd799439011", SegmentShape.HASH), ("d41d8cd98f00b204e9800998ecf8427e", SegmentShape.HASH), ("my-1st-post", SegmentShape.SLUG),
        ("a-b-c-d-e", SegmentShape.SLUG), ("01ARZ3NDEKTSV4RRFFQ69G5FAV", SegmentShape.OPAQUE), ("dQw4w9WgXcQ", SegmentShape.OPAQUE), ("eyJhbGciOiJIUzI1NiJ9.e30.x", SegmentShape.OPAQUE),
        ("alice@example.com", SegmentShape.TEXT), ("a b", SegmentShape.TEXT), ("\u00e4", SegmentShape.TEXT), ("x" * 33, SegmentShape.SLUG), ("QkzJXwvPRabcDEf", SegmentShape.OPAQUE),
    ],
)  # fmt: skip
def test_a_segment_has_a_shape(segment: str, shape: SegmentShape) -> None:
    assert shape_of(segment) is shape


@given(st.text(min_size=1, max_size=40).filter(lambda text: "/" not in text))
def test_the_pattern_of_a_segment_takes_it(segment: str) -> None:
    route = Route("/{x}", (Variable("x", pattern_of(segment)),), Access.POLICY, asks({}))
    assert RouteTable([route]).find((segment,)) is route


def test_the_pattern_of_several_takes_each() -> None:
    assert widest({Pattern.INT}) is Pattern.INT
    assert widest({Pattern.INT, Pattern.UUID}) is Pattern.DEFAULT
    assert widest({Pattern.INT, Pattern.ANY}) is Pattern.ANY
    assert [pattern_of(text) for text in ("7", "007", "a", "a b")] == [
        Pattern.INT, Pattern.DEFAULT, Pattern.DEFAULT, Pattern.ANY,
    ]  # fmt: skip


def test_endings_tell_formats_and_files() -> None:
    assert [parts_of(text) for text in ("7.json", "a.b.csv", "a", ".json", "a.exe")] == [
        ("7", ".json"), ("a.b", ".csv"), ("a", ""), (".json", ""), ("a.exe", ""),
    ]  # fmt: skip
    assert [is_static(text) for text in ("a.js", "a.4f.CSS", "a.json", "js", ".js")] == [
        True,
        True,
        False,
        False,
        False,
    ]
