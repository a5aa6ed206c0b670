"""Answers about one thing, of which fields are hidden."""

from __future__ import annotations

import pytest

from sidecar.gate.codes import Code
from sidecar.gate.obligation import HeldAnswer, Reduced
from sidecar.gate.verdict import Refused
from sidecar.release.fields import FieldRule
from sidecar.release.single import FieldsRule
from tests.gate.test_obligation import nobody

JSON = (b"content-type", b"application/json")
RULE = FieldsRule((FieldRule(("phone",), "view_phone"), FieldRule(("note",), "view_note", b'"-"')))


def test_the_actions_of_the_fields_are_asked_once() -> None:
    assert RULE.asks == ("view_phone", "view_note")
    assert FieldsRule((FieldRule(("a",), "x"), FieldRule(("b",), "x"))).asks == ("x",)


@pytest.mark.parametrize(
    ("granted", "left"),
    [
        (frozenset(), b'{"id": 1, "note": "-"}'),
        (frozenset(["view_phone"]), b'{"id": 1, "phone": 7, "note": "-"}'),
        (frozenset(["view_phone", "view_note"]), b'{"id": 1, "phone": 7, "note": "n"}'),
    ],
)
async def test_fields_stay_where_their_action_is_allowed(granted: frozenset[str], left: bytes) -> None:
    held = HeldAnswer(200, [JSON, (b"etag", b"1")], b'{"id": 1, "phone": 7, "note": "n"}')
    made = await RULE.reduce(held, nobody, granted)
    assert made == Reduced(HeldAnswer(200, [JSON], left), {"masked": int(left != held.body)})


@pytest.mark.parametrize("body", [b"[]", b'"a"', b"{", b"{} {}", b'{"a": 1, "a": 2}', b'{"a": NaN}'])
async def test_what_is_not_one_object_is_not_released(body: bytes) -> None:
    with pytest.raises(Refused, match="fields") as refused:
        await RULE.reduce(HeldAnswer(200, [JSON], body), nobody, frozenset())
    assert refused.value.code is Code.ITEMS_UNREADABLE


@pytest.mark.parametrize(("status", "body"), [(200, b""), (204, b""), (404, b"[]"), (302, b"")])
async def test_what_has_nothing_to_hide_passes(status: int, body: bytes) -> None:
    held = HeldAnswer(status, [(b"etag", b"1")], body)
    assert await RULE.reduce(held, nobody, frozenset()) == Reduced(held, {})


@pytest.mark.parametrize("body", [b'["no"]', b'"no"', b"null"])
async def test_an_error_that_tells_of_nothing_passes(body: bytes) -> None:
    held = HeldAnswer(400, [JSON], body)
    assert await RULE.reduce(held, nobody, frozenset()) == Reduced(held, {})


@pytest.mark.parametrize("status", [300, 400, 409, 412])
async def test_fields_are_hidden_in_an_error_that_tells_how_things_are(status: int) -> None:
    made = await RULE.reduce(HeldAnswer(status, [JSON], b'{"id": 1, "phone": 7}'), nobody, frozenset())
    assert made == Reduced(HeldAnswer(status, [JSON], b'{"id": 1}'), {"masked": 1})


@pytest.mark.parametrize(
    ("status", "body"), [(205, b'{"phone": 7}'), (409, b'{"phone": 7'), (409, b'{"a": 1, "a": 2}')]
)
async def test_what_cannot_be_read_of_an_unusual_answer_is_not_released(status: int, body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        await RULE.reduce(HeldAnswer(status, [JSON], body), nobody, frozenset())
    assert refused.value.code is Code.ITEMS_UNREADABLE


@pytest.mark.parametrize(
    ("query", "named"),
    [
        (b"", []), (b"page=1", []), (b"phone__startswith=0", [("", "view_phone")]),
        (b"note=1&phone=2", [("", "view_phone"), ("", "view_note")]),
    ],
)  # fmt: skip
def test_one_thing_is_not_looked_for_by_a_hidden_field(query: bytes, named: list[tuple[str, str]]) -> None:
    assert RULE.searched(query) == named
