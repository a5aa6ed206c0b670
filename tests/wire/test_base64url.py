"""One text for any bytes, and bytes for no other text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.base64url import decode, encode


@given(st.binary())
def test_what_is_encoded_is_decoded(data: bytes) -> None:
    text = encode(data)
    assert decode(text) == data
    assert b"=" not in text


@given(st.binary(max_size=12) | st.text("AQgwB_-=+/ \n", max_size=9).map(str.encode))
def test_no_other_text_stands_for_the_same_bytes(text: bytes) -> None:
    try:
        data = decode(text)
    except ValueError:
        return
    assert encode(data) == text


@pytest.mark.parametrize(
    "text", [b"AA==", b"AB", b"A", b"A+/A", b"AA A", b"AA\n", b"AAA=", b"\xe9AAA", b"=", b"A_-B\0"]
)
def test_what_is_not_in_the_one_form_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="base64url"):
        decode(text)


def test_all_that_read_it_read_it_alike() -> None:
    """A token, a load balancer's data and a sealed cookie: each refuses stray bits of a last character."""
    from sidecar.gate.identity import _base64url
    from sidecar.gate.verdict import Refused
    from sidecar.sessions.seal import Seal
    from sidecar.trust.alb import _decoded

    with pytest.raises(Refused):
        _base64url(b"AB")
    for text in (b"AB", b"AB==", b"AA="):
        with pytest.raises(ValueError, match="base64url"):
            _decoded(text)
    assert _decoded(b"AA==") == _decoded(b"AA") == b"\0"
    sealed = Seal(("s" * 32,)).seal("p", b"12")  # 30 octets: no bits to spare, so that one is cut off
    with pytest.raises(ValueError, match="base64url"):
        Seal(("s" * 32,)).unseal("p", sealed[:-2] + "B")
