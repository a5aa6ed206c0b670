"""Members that are hidden or put otherwise, with every other byte as it came."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.release.fields import Edit, FieldRule, asked_of, changes
from sidecar.wire.json_slices import JsonText, spliced


def hidden(body: bytes, *rules: FieldRule) -> bytes:
    text = JsonText(body)
    return spliced(body, changes(text, text.whole(), [rule.hide() for rule in rules]))


PHONE = FieldRule(("phone",), "view_phone")
MASKED = FieldRule(("phone",), "view_phone", b'"***"')
STREET = FieldRule(("address", "street"), "view_address")


@pytest.mark.parametrize(
    ("body", "rules", "left"),
    [
        (b'{"id": 1, "phone": "x"}', [PHONE], b'{"id": 1}'),
        (b'{"phone": {"a": [1, {}]}, "id": 1.0}', [PHONE], b'{"id": 1.0}'),
        (b'{"phone": "x"}', [PHONE], b"{}"),
        (b'{ "a": 1, "phone": "x" , "b": 2 }', [PHONE], b'{ "a": 1 , "b": 2 }'),
        (b'{"id": 1, "phone": "x"}', [MASKED], b'{"id": 1, "phone": "***"}'),
        (b'{"id": 1, "phone": null}', [MASKED], b'{"id": 1, "phone": "***"}'),
        (b'{"id": 1}', [PHONE, MASKED, STREET], b'{"id": 1}'),
        (b'{"\\u0070hone": "x", "id": 1}', [PHONE], b'{"id": 1}'),
        (b'{"address": {"street": "s", "city": "c"}}', [STREET], b'{"address": {"city": "c"}}'),
        (b'{"address": null}', [STREET], b'{"address": null}'),
        (b'{"address": {}, "phone": 1}', [STREET, PHONE], b'{"address": {}}'),
        (b'{"address": {"street": "s"}}', [STREET, FieldRule(("address",), "view")], b"{}"),
        (b'{"street": "s", "address": {"x": {"street": 1}}}', [STREET], b'{"street": "s", "address": {"x": {"street": 1}}}'),
    ],
)  # fmt: skip
def test_a_field_goes_and_the_rest_stays(body: bytes, rules: list[FieldRule], left: bytes) -> None:
    assert hidden(body, *rules) == left


@pytest.mark.parametrize("body", [b"[]", b'"a"', b'{"address": ["street"]}', b'{"address": "a street"}'])
def test_what_is_no_object_where_a_field_is_looked_for_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="expected an object"):
        hidden(body, STREET)


@pytest.mark.parametrize(
    "body", [b'{"Phone": "x"}', b'{"PHONE": 1, "phone": 2}', b'{"\\uff50hone": 1}', b'{"Address": {"street": 1}}']
)
def test_another_spelling_of_a_field_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="another spelling"):
        hidden(body, PHONE, STREET)


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=8,
)
OBJECTS = st.dictionaries(
    st.sampled_from("abcd"), VALUES | st.dictionaries(st.sampled_from("abcd"), VALUES), max_size=4
)


def expected(value: Any, path: tuple[str, ...], mask: bytes) -> Any:
    if path[0] not in value:
        return value
    if len(path) > 1:
        below = value[path[0]]
        return value if below is None else {**value, path[0]: expected(below, path[1:], mask)}
    if mask:
        return {**value, path[0]: json.loads(mask)}
    return {name: item for name, item in value.items() if name != path[0]}


@given(OBJECTS, st.lists(st.sampled_from("abcd"), min_size=1, max_size=2), st.sampled_from([b"", b'"-"']))
def test_what_is_left_is_the_object_without_the_field(value: dict[str, Any], path: list[str], mask: bytes) -> None:
    body = json.dumps(value).encode()
    below = value.get(path[0])
    if len(path) > 1 and below is not None and not isinstance(below, dict):
        with pytest.raises(ValueError, match="expected an object"):
            hidden(body, FieldRule(tuple(path), "view", mask))
        return
    made = hidden(body, FieldRule(tuple(path), "view", mask))
    assert json.loads(made) == expected(value, tuple(path), mask)
    assert list(json.loads(made)) == list(expected(value, tuple(path), mask))


def test_an_edit_gets_the_text_of_the_value() -> None:
    text = JsonText(b'{"meta": {"total": 12}}')
    edit = Edit(("meta", "total"), lambda said: said + b"0")
    assert spliced(text.data, changes(text, text.whole(), [edit])) == b'{"meta": {"total": 120}}'


@pytest.mark.parametrize(
    "query",
    [
        b"phone=1", b"phone_like=1", b"phone__contains=1", b"phone.gte=1", b"filter[phone]=1", b"a=1&phone", b"PHONE=1",
        b"sort=phone", b"sort=-phone", b"order=name,phone.desc", b"%70hone=1", b"%2570hone=1", b"_sort=phone&_order=asc",
        b"$filter=phone%20eq%20'1'", b"q=1&home-phone=1", b"sort=homePhone", b"{\"phone\":1}", b"search=x", b"a&Search[]=x",
        b"sort=\xef\xbd\x90hone", b'where={"\\u0070hone":1}', b"where=%7B%22%5Cu0070hone%22:1}", b"%u0070hone=1", b"a=1;search=x",
        b"%2573earch=x", b"pho%E2%80%8Bne=1", b"sort=pho.ne",
    ],
)  # fmt: skip
def test_a_query_that_may_search_by_a_field_is_seen(query: bytes) -> None:
    assert FieldRule(("address", "phone"), "view_phone", b"", ("search",)).is_searched(asked_of(query))


@pytest.mark.parametrize(
    "query", [b"", b"q=1", b"telephone=1", b"sort=phones", b"page=2&sort=name", b"searches=1", b"%ff=1"]
)
def test_a_query_about_something_else_is_none(query: bytes) -> None:
    assert not FieldRule(("phone",), "view_phone", b"", ("search",)).is_searched(asked_of(query))


def test_a_name_of_several_words_is_seen_in_each_spelling() -> None:
    for name in ("phoneNumber", "phone_number", "phone-number"):
        rule = FieldRule((name,), "view")
        for query in (b"sort=phoneNumber", b"sort=phone_number", b"phone-number=1", b"PHONENUMBER=1", b"phonenumber=1"):
            assert rule.is_searched(asked_of(query))
        assert not rule.is_searched(asked_of(b"telephonenumber=1&phonenumbers=2"))
