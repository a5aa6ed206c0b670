"""Places in a JSON text: what is taken out is taken out, and every other byte stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.wire.json_slices import JsonText, Replacement, Span, TooMany, spliced, without

NAMES = st.text(max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False) | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
INDENTS = st.sampled_from([None, 0, 2])


def nothing(at: int, values: list[Any]) -> None:
    """Take no item."""


def written(value: Any, indent: int | None, escaped: bool) -> bytes:
    return json.dumps(value, indent=indent, ensure_ascii=escaped).encode("utf-8")


@given(st.lists(VALUES, max_size=6), st.data(), INDENTS, st.booleans())
def test_kept_items_are_the_bytes_that_came(
    items: list[Any], data: st.DataObject, indent: int | None, escaped: bool
) -> None:
    body = written({"é": {"data": items}, "n": 1}, indent, escaped)
    text = JsonText(body)
    taken: list[Any] = []
    spans = text.array(("é", "data"), 6, 4, lambda _, values: taken.extend(values))
    assert taken == [text.value(span) for span in spans] == items
    gone = data.draw(st.sets(st.integers(0, len(items) - 1)) if items else st.just(set()))
    made = spliced(body, without(spans, gone))
    kept = [item for at, item in enumerate(items) if at not in gone]
    assert json.loads(made) == {"é": {"data": kept}, "n": 1}
    for at, span in enumerate(spans):
        assert at in gone or body[span.start : span.end] in made


MARKS = st.text(st.sampled_from('{}[]:," \\\néü1'), max_size=4)
ITEMS = st.one_of(
    st.dictionaries(MARKS, MARKS | st.integers() | st.lists(MARKS, max_size=2)).map(json.dumps),
    st.dictionaries(MARKS, MARKS, max_size=2).map(lambda item: json.dumps(item, ensure_ascii=False)),
    st.sampled_from([
        "{}", "1", '{"a": {}}', '{"a": 1, "a": 2}', '{"a": "\\ud800"}', '{"a": "\\ud83d\\ude00"}', '{"a": NaN}', "[{}]", "{}}", "{",
        '{"a": "}, {"}', '{"a": 12345678901234567890}', '{"a": 1e999}', "",
    ]),
)  # fmt: skip


@given(st.lists(ITEMS, max_size=9), st.sampled_from([",", ", ", "\n ,\n  ", ",,", "", "," + " " * 80]), st.data())
def test_items_that_are_read_together_are_read_as_each_alone(
    items: list[str], between: str, data: st.DataObject
) -> None:
    body = f"[{between.join(items)}]".encode()
    at = data.draw(st.integers(0, len(body)))
    body = body[:at] + data.draw(st.sampled_from([b"", b"{", b"}", b'"', b"\xff", b",", b" "])) + body[at:]

    def read(together: int) -> object:
        taken: list[Any] = []
        try:
            spans = JsonText(body).array((), 8, together, lambda _, values: taken.extend(values))
        except ValueError as error:
            return str(error)
        return spans, [*map(repr, taken)]

    # of one at a time, none is read with another
    assert read(3) == read(1)


def test_items_that_are_read_together_are_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JsonText, "_walk_each", None)
    for separator, name in ((",", "a"), (", ", "ä"), (",\n  ", "a")):
        body = f"[{separator.join([json.dumps({name: [1, '{'], 'b': None}, ensure_ascii=False)] * 6)}]".encode()
        assert len(JsonText(body).array((), 6, 3, nothing)) == 6


@given(st.dictionaries(NAMES, VALUES, max_size=6), st.data(), INDENTS, st.booleans())
def test_members_are_found_and_taken_out(
    value: dict[str, Any], data: st.DataObject, indent: int | None, escaped: bool
) -> None:
    body = b" " + written(value, indent, escaped) + b"\n"
    text = JsonText(body)
    members = text.members(text.whole())
    assert {member.name: text.value(member.value) for member in members} == value
    gone = data.draw(st.sets(st.integers(0, len(value) - 1)) if value else st.just(set()))
    made = spliced(body, without([member.whole for member in members], gone))
    assert json.loads(made) == {name: item for at, (name, item) in enumerate(value.items()) if at not in gone}


def test_white_space_numbers_and_escapes_stay() -> None:
    body = b'[ {"n": 1.50e2} ,\n {"n": 12345678901234567890},\t{"n": "\\u00e9\\/"} ]'
    spans = JsonText(body).array((), 9, 2, nothing)
    assert spliced(body, without(spans, [])) == body
    assert spliced(body, without(spans, [0])) == b'[ {"n": 12345678901234567890},\t{"n": "\\u00e9\\/"} ]'
    assert spliced(body, without(spans, [1])) == b'[ {"n": 1.50e2},\t{"n": "\\u00e9\\/"} ]'
    assert spliced(body, without(spans, [1, 2])) == b'[ {"n": 1.50e2} ]'
    assert spliced(body, without(spans, [0, 1, 2])) == b"[  ]"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "expected an object"),
        (b"{}", "no member 'data'"),
        (b"[]", "expected an object"),
        (b'{"data": {}}', "expected an array"),
        (b'{"data": null}', "expected an array"),
        (b'{"data": []} x', "text after"),
        (b'{"data": []', "without a comma"),
        (b'{"data": [1 2]}', "without a comma"),
        (b'{"data": [1,]}', "missing or broken"),
        (b'{"data": [,1]}', "missing or broken"),
        (b'{"data": [1], "data": []}', "twice"),
        (b'{"data": [], "d\\u0061ta": []}', "twice"),
        (b'{"data" []}', "without a colon"),
        (b"{data: []}", "without a name"),
        (b'{"data": [], }', "without a name"),
        (b'{"m": {"a": 1, "a": 2}, "data": []}', "twice"),
        (b'{"m": NaN, "data": []}', "NaN"),
        (b'{"m": "\xff", "data": []}', "UTF-8"),
        (b'{"\xff": 1, "data": []}', "UTF-8"),
        (b'\xef\xbb\xbf{"data": []}', "expected an object"),
        (b'{"m": "\\ud800", "data": []}', "surrogates"),
        (b'{"data": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_not_one_sound_text_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        JsonText(body).array(("data",), 9, 2, nothing)


@pytest.mark.parametrize("item", [b'{"a": 1, "a": 2}', b"NaN", b'"\xff"', b'"\\ud800"', b"1e999", b"{", b'"\x01"'])
@pytest.mark.parametrize("before", [b"", b'"\xc3\xa9", '])
def test_an_item_that_is_unsound_is_refused(item: bytes, before: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        JsonText(b"[" + before + item + b"]").array((), 9, 2, nothing)


def test_more_items_than_allowed_are_not_walked() -> None:
    assert len(JsonText(b"[1,2,3]").array((), 3, 2, nothing)) == 3
    with pytest.raises(TooMany, match="more than 2 items"):
        JsonText(b"[1,2,3").array((), 2, 2, nothing)


def test_members_of_what_is_no_object_are_refused() -> None:
    text = JsonText(b"[1]")
    with pytest.raises(ValueError, match="expected an object"):
        text.members(text.whole())
    with pytest.raises(ValueError, match="text after"):
        JsonText(b"{} {}").members(Span(0, 5))


def test_changes_are_made_in_the_order_of_their_places() -> None:
    assert (
        spliced(b"abcdef", [Replacement(Span(4, 5), b"EE"), Replacement(Span(0, 2)), Replacement(Span(2, 2), b"-")])
        == b"-cdEEf"
    )


@pytest.mark.parametrize(
    ("body", "is_json"),
    [(b" {} ", True), (b'"a"', True), (b"", False), (b"{} {}", False), (b'{"a": 1, "a": 2}', False)],
)
def test_a_text_is_json_or_not(body: bytes, is_json: bool) -> None:
    assert JsonText(body).is_json() is is_json


@pytest.mark.parametrize("body", [b'{"data": [], "Data": [1]}', b'{"DATA": [1]}', b'{"\\uff44ata": 1, "data": []}'])
def test_another_spelling_of_the_way_to_a_list_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="another spelling of 'data'"):
        JsonText(body).array(("data",), 9, 2, nothing)
