"""What is sealed opens for its purpose, with its secret, and unchanged; nothing else does."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.clients.seal import Seal

OLD, NEW = "o" * 32, "n" * 32
SEAL = Seal((NEW,))


@given(st.binary(max_size=200))
def test_what_is_sealed_opens_and_is_a_cookie_value(data: bytes) -> None:
    text = SEAL.seal("session", data)
    # RFC 6265 section 4.1.1: cookie-octet
    assert re.fullmatch(r"[A-Za-z0-9._-]+", text)
    assert SEAL.unseal("session", text) == data


def test_two_seals_of_the_same_differ_and_tell_nothing() -> None:
    one, two = SEAL.seal("session", b"secret"), SEAL.seal("session", b"secret")
    assert one != two
    assert "secret" not in one


@given(st.data())
def test_one_changed_character_opens_nothing(data: st.DataObject) -> None:
    text = SEAL.seal("session", b"some data")
    at = data.draw(st.integers(0, len(text) - 1))
    char = data.draw(st.sampled_from("ABCabc012-_.=\x00é"))
    changed = text[:at] + char + text[at + 1 :]
    if changed != text:
        with pytest.raises(ValueError, match="not "):
            SEAL.unseal("session", changed)


@pytest.mark.parametrize("cut", range(60))
def test_nothing_shorter_or_longer_opens(cut: int) -> None:
    text = SEAL.seal("session", b"some data")
    for changed in (text[: -1 - cut], text[1 + cut :], text + "A" * (1 + cut)):
        with pytest.raises(ValueError, match="not "):
            SEAL.unseal("session", changed)


def test_another_purpose_or_secret_opens_nothing() -> None:
    text = SEAL.seal("session", b"x")
    for seal, purpose in ((SEAL, "login"), (Seal((OLD,)), "session")):
        with pytest.raises(ValueError, match="not "):
            seal.unseal(purpose, text)


def test_the_first_secret_seals_and_all_open() -> None:
    before, both = Seal((OLD,)), Seal((NEW, OLD))
    assert both.unseal("session", before.seal("session", b"x")) == b"x"
    assert SEAL.unseal("session", both.seal("session", b"x")) == b"x"
    with pytest.raises(ValueError, match="not "):
        before.unseal("session", both.seal("session", b"x"))
