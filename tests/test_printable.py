"""Text out of a log that a terminal only shows."""

from __future__ import annotations

import pytest

from sidecar.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë at /contacts/{id}", "Zoë at /contacts/{id}"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\nb\r\tc\x7f", r"a\nb\r\tc\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("\u202egnp\u2028\ufeff", r"\u202egnp\u2028\ufeff"),
        ("\ud800", r"\ud800"),
    ],
)  # fmt: skip
def test_what_a_terminal_would_obey_is_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
