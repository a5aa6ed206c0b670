"""What a client got of the app's answer: items and fields, told by both bodies."""

from __future__ import annotations

import json
from typing import Any

import jmespath
import pytest

from sidecar.gate.ask import Ask
from sidecar.release.fields import FieldRule
from sidecar.release.items import ItemsRule
from sidecar.release.lines import LINES, LinesRule
from sidecar.release.lookup import AnswerLookupRule
from sidecar.release.single import FieldsRule
from sidecar.study.cases import Items, VisibleFields
from sidecar.study.released import fields_left, items_left

FIELDS = (FieldRule(("phone",), "view_phone"), FieldRule(("home", "street"), "view_home", b'"***"'))


def list_rule(*at: str) -> ItemsRule:
    return ItemsRule(at, jmespath.compile("id").search, "contact", "read", {}, fields=FIELDS)


def of(rule: Any) -> Ask:
    return Ask("list", "contact", answer=rule)


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


HAD = [{"id": 1, "phone": "1"}, {"id": "b", "phone": "2", "home": {"street": "x"}}, {"id": 3}, {"id": 3}]


@pytest.mark.parametrize(
    ("got", "left"),
    [
        (HAD, Items(("1", "3", "3", "b"), (), {})),
        ([{"id": 1}, {"id": 3}], Items(("1", "3"), ("3", "b"), {"1": ("phone",)})),
        ([{"id": "b", "home": {"street": "***"}}], Items(("b",), ("1", "3", "3"), {"b": ("home.street", "phone")})),
        ([], Items((), ("1", "3", "3", "b"), {})),
    ],
)
def test_items_that_are_left(got: Any, left: Items) -> None:
    assert items_left(of(list_rule()), [body(HAD)], body(got)) == left
    lines = [b"\n".join(map(body, part)) + b"\n" for part in (HAD, got)]
    assert items_left(of(LinesRule(list_rule(*LINES))), [lines[0]], lines[1]) == left
    within = [body({"data": {"list": part}}) for part in (HAD[:2], HAD[2:], got)]
    assert items_left(of(list_rule("data", "list")), within[:2], within[2]) == left


def test_an_answer_without_a_list_has_no_items() -> None:
    assert items_left(of(list_rule()), [b"no JSON"], b'{"code": "items_unreadable"}') == Items((), (), {})
    assert items_left(of(list_rule()), [b"[1]"], b"[]") == Items((), ("",), {})
    assert items_left(of(FieldsRule(FIELDS)), [b"[]"], b"[]") is None
    assert items_left(None, [b"[]"], b"[]") is None


@pytest.mark.parametrize(
    ("had", "got", "shown"),
    [
        ({"phone": "1", "home": {"street": "x"}}, {"phone": "1", "home": {"street": "x"}}, VisibleFields(("home.street", "phone"), ())),
        ({"phone": "1", "home": {"street": "x"}}, {"home": {"street": "***"}}, VisibleFields((), ("home.street", "phone"))),
        ({"home": {}}, {"home": {}}, VisibleFields((), ())),
        ([], {}, None),
        ({}, [], None),
    ],
)  # fmt: skip
def test_fields_that_are_left(had: Any, got: Any, shown: VisibleFields | None) -> None:
    rule = FieldsRule(FIELDS)
    assert fields_left(of(rule), [body(had)], body(got)) == shown
    asked_first = Ask("read", "contact", answer_lookup=AnswerLookupRule({}, fields=rule))
    assert fields_left(asked_first, [body(had)], body(got)) == shown


def test_a_route_that_hides_nothing_has_no_fields() -> None:
    assert fields_left(Ask("read", "contact"), [b"{}"], b"{}") is None
    assert fields_left(of(FieldsRule(FIELDS)), [], b"{}") is None
    assert fields_left(None, [], b"") is None
