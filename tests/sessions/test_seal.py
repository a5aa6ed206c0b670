"""A seal opens what it sealed for one purpose, byte for byte, and nothing else."""

from __future__ import annotations

import base64
import re

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.sessions.seal import Seal, UnknownKey

OLD, NEW, OTHER = (letter * 32 for letter in "onx")
SEAL = Seal((NEW, OLD))
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def opens(seal: Seal, purpose: str, text: str) -> bool:
    try:
        seal.unseal(purpose, text)
    except ValueError:
        return False
    return True


@given(st.binary(max_size=5000), st.text(max_size=30))
def test_what_was_sealed_opens(data: bytes, purpose: str) -> None:
    text = SEAL.seal(purpose, data)
    assert re.fullmatch(r"[A-Za-z0-9_-]{8}\.[A-Za-z0-9_-]+", text)
    assert SEAL.unseal(purpose, text) == data


@given(st.binary(max_size=100), st.sampled_from(["session", "login", "session ", "", "sessio"]))
def test_another_purpose_does_not_open(data: bytes, purpose: str) -> None:
    text = SEAL.seal("session handle", data)
    assert not opens(SEAL, purpose, text)


@given(st.binary(max_size=60), st.data())
def test_no_other_text_opens(data: bytes, draw: st.DataObject) -> None:
    text = SEAL.seal("p", data)
    at = draw.draw(st.integers(0, len(text) - 1))
    chars = [*ALPHABET, ".", "=", "+", "/", " ", "\n", "é"]
    char = chars[(chars.index(text[at]) + draw.draw(st.integers(1, len(chars) - 1))) % len(chars)]
    assert not opens(SEAL, "p", text[:at] + char + text[at + 1 :])


@given(st.binary(max_size=60), st.data())
def test_no_part_of_it_opens_and_nothing_longer(data: bytes, draw: st.DataObject) -> None:
    text = SEAL.seal("p", data)
    start = draw.draw(st.integers(0, len(text)))
    end = draw.draw(st.integers(start, len(text)))
    if (start, end) != (0, len(text)):
        assert not opens(SEAL, "p", text[start:end])
    more = draw.draw(st.text([*ALPHABET, "=", ".", "\n"], min_size=1, max_size=8))
    assert not opens(SEAL, "p", text + more)
    assert not opens(SEAL, "p", more + text)


@given(st.text(max_size=200))
@example("")
@example(".")
@example("é" * 60)
@example("A" * 8 + "." + "A" * 1_000_000)
@example("A" * 8 + "." + "A" * 41)
def test_any_text_is_refused_by_a_value_error(text: str) -> None:
    assert not opens(SEAL, "p", text)


def test_every_bit_counts() -> None:
    text = SEAL.seal("p", b"data")
    for at, char in enumerate(text):
        if char == ".":
            continue
        for bit in range(6):
            other = ALPHABET[ALPHABET.index(char) ^ (1 << bit)]
            assert not opens(SEAL, "p", text[:at] + other + text[at + 1 :]), (at, bit)


@pytest.mark.parametrize("length", range(4))
def test_stray_bits_of_the_last_character_are_refused(length: int) -> None:
    text = SEAL.seal("p", b"x" * length)
    last = ALPHABET.index(text[-1])
    same = [text[:-1] + ALPHABET[last ^ stray] for stray in (1, 2, 3)]
    assert not any(opens(SEAL, "p", other) for other in same)


def test_key_and_text_are_made_as_the_format_says() -> None:
    key_id, _, sealed = Seal((NEW,)).seal("purpose", b"data").partition(".")
    made = [
        HKDF(SHA256(), length, salt=None, info=info).derive(NEW.encode())
        for length, info in ((32, b"sidecar seal: purpose"), (6, b"sidecar seal id"))
    ]
    data = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    assert AESGCM(made[0]).decrypt(data[:12], data[12:], b"purpose") == b"data"
    assert base64.urlsafe_b64encode(made[1]).decode() == key_id


def test_the_same_data_is_another_text_each_time() -> None:
    assert len({SEAL.seal("p", b"data") for _ in range(1000)}) == 1000


def test_secrets_are_replaced_without_a_gap() -> None:
    old, both, new = Seal((OLD,)), Seal((NEW, OLD)), Seal((NEW,))
    before = old.seal("p", b"data")
    after = both.seal("p", b"data")
    assert [opens(seal, "p", before) for seal in (old, both, new)] == [True, True, False]
    assert [opens(seal, "p", after) for seal in (old, both, new)] == [False, True, True]
    with pytest.raises(UnknownKey):
        new.unseal("p", before)
    assert not opens(Seal((OTHER,)), "p", before)


def test_a_changed_text_of_a_known_secret_is_not_one_of_an_unknown_secret() -> None:
    text = SEAL.seal("p", b"data")
    with pytest.raises(ValueError, match="changed since") as caught:
        SEAL.unseal("q", text)
    assert caught.type is ValueError


def test_the_key_id_says_which_secret_and_nothing_of_it() -> None:
    first = {Seal((NEW,)).seal(purpose, b"").partition(".")[0] for purpose in ("a", "b")}
    assert len(first) == 1
    assert first != {Seal((OLD,)).seal("a", b"").partition(".")[0]}
    # by no purpose does one get the key id's own bytes as a key
    assert not opens(SEAL, "sidecar seal id", Seal((NEW,)).seal("a", b""))


def test_there_must_be_a_secret() -> None:
    with pytest.raises(ValueError, match="expected a secret"):
        Seal(())


def test_one_secret_twice_is_one() -> None:
    assert Seal((NEW, NEW)).unseal("p", Seal((NEW,)).seal("p", b"x")) == b"x"


def test_many_purposes_are_served() -> None:
    texts = {f"p{number}": SEAL.seal(f"p{number}", b"x") for number in range(2000)}
    assert all(SEAL.unseal(purpose, text) == b"x" for purpose, text in texts.items())
