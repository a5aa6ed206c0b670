"""Names that servers may take for one another."""

from __future__ import annotations

import pytest

from sidecar.wire.spelling import are_distinct, folded, respelled


@pytest.mark.parametrize(
    "other",
    [
        "ISOWNER", "IsOwner", "i\u017fowner", "isO\uff57ner", "\u0130sowner", "\u0131sowner", "is\u200bowner", "iso\u00adwner", "\ufeffisowner",
        "isOwner\0", "isowner\0x", "is\x7fOwner", "isOwner\n",
    ],
)  # fmt: skip
def test_what_a_reader_without_case_takes_for_a_name_is_that_name(other: str) -> None:
    assert folded(other) == folded("isOwner") == "isowner"
    assert not are_distinct(["isOwner", other])


def test_the_kelvin_sign_and_sharp_s_are_letters() -> None:
    assert folded("\u212aey") == folded("key")
    assert folded("stra\u00dfe") == folded("STRASSE")


@pytest.mark.parametrize("other", ["is_owner", "is-owner", "owner", "isowners", "r\u00e9sum\u00e9"])
def test_other_names_are_others(other: str) -> None:
    assert are_distinct(["isOwner", other, "resume"])


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": [{"OWNER": 1}]}, "OWNER"),
        ({"owner": {"id": 1}}, None),
        ([], None),
        ("Owner", None),
        ({"x": "Owner"}, None),
        ({"Id": 1}, "Id"),
    ],
)
def test_a_name_in_another_spelling_is_found_however_deep(value: object, found: str | None) -> None:
    assert respelled(value, ["owner", "id"]) == found
