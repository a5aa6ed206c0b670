"""The head of an answer: what an app says is one header to a line, or no answer."""

from __future__ import annotations

import pytest

from sidecar.wire.response_head import STATUS_LINES, render, render_date


def test_headers_are_rendered_in_lower_case_and_those_of_the_connection_are_given_back() -> None:
    for _ in range(2):  # afresh, and from what is remembered
        assert render([(b"X-A", b"1"), (b"Connection", b"close"), (b"Date", b"d"), (b"x-b", b"")]) == (
            b"\r\nx-a: 1\r\nx-b: ",
            [(b"connection", b"close"), (b"date", b"d")],
        )


@pytest.mark.parametrize("value", [b"a\rb", b"a\nb", b"a\r\nb", b"a\0b"])
def test_a_value_that_would_be_another_line_is_an_error(value: bytes) -> None:
    with pytest.raises(RuntimeError):
        render([(b"x-a", value)])
    with pytest.raises(RuntimeError):
        render_date(value)


@pytest.mark.parametrize("name", [b"", b"x a", b"x:", b"x\r\ny", b"\xe9"])
def test_a_name_that_is_no_token_is_an_error(name: bytes) -> None:
    with pytest.raises(RuntimeError):
        render([(name, b"1")])


def test_each_status_has_its_line() -> None:
    assert STATUS_LINES[404] == b"HTTP/1.1 404 Not Found"
    assert STATUS_LINES[299] == b"HTTP/1.1 299 "
    assert set(range(102, 600)) <= set(STATUS_LINES)
