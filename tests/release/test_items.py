"""Lists item by item: what is kept is what the policy allows, and what cannot be judged is not released."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.gate.codes import Code
from sidecar.gate.expressions import searcher
from sidecar.gate.lookup import Attribute
from sidecar.gate.obligation import NOT_THERE, AnswerItems, HeldAnswer, Reduced
from sidecar.gate.values import Type
from sidecar.gate.verdict import Refused
from sidecar.release.fields import FieldRule
from sidecar.release.items import ItemsRule
from tests.gate.test_obligation import nobody

JSON = (b"content-type", b"application/json")
RULE = ItemsRule(
    ("data",), searcher("id"), "contact", "read", {"owner": Attribute(searcher("owner_id"))},
    fields=(FieldRule(("phone",), "view_phone"),), totals=(("meta", "total"),),
)  # fmt: skip
ALL = frozenset(("read", "view_phone"))


class Policy:
    """A judge that lets each see their own, and phones of those with an even id."""

    def __init__(self, owner: str = "alice") -> None:
        self.owner = owner
        self.asked: list[AnswerItems] = []
        self.under_way = self.most = 0

    async def __call__(self, items: AnswerItems) -> list[frozenset[str]]:
        self.asked.append(items)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        return [self.allowed(*item) for item in zip(items.ids, items.attributes, strict=True)]

    def allowed(self, item_id: str, attributes: Mapping[str, Any]) -> frozenset[str]:
        if attributes.get("owner") != self.owner:
            return frozenset()
        return ALL if int(item_id) % 2 == 0 else frozenset(("read",))


def rows(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": at, "owner_id": ("alice", "bob")[at % 3 == 0], "phone": f"+{at}", **more} for at in range(count)]


def answer(value: Any, *headers: tuple[bytes, bytes]) -> HeldAnswer:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return HeldAnswer(200, [JSON, *headers], body)


async def reduced(held: HeldAnswer, rule: ItemsRule = RULE, judge: Any = None) -> Reduced:
    return await rule.reduce(held, judge or Policy(), frozenset())


async def test_only_allowed_items_stay_and_fields_that_are_denied_go() -> None:
    made = await reduced(answer({"data": rows(7), "next": "/c?page=2"}))
    assert json.loads(made.answer.body or b"") == {
        "data": [
            {"id": 1, "owner_id": "alice"},
            {"id": 2, "owner_id": "alice", "phone": "+2"},
            {"id": 4, "owner_id": "alice", "phone": "+4"},
            {"id": 5, "owner_id": "alice"},
        ],
        "next": "/c?page=2",
    }
    assert made.counts == {"seen": 7, "kept": 4, "masked": 2, "calls": 1}


async def test_each_item_is_asked_with_what_it_says_of_itself() -> None:
    policy = Policy()
    rule = replace(
        RULE, attributes={**RULE.attributes, "n": Attribute(searcher("n"), Type.INT)}, optional=frozenset(["n"])
    )
    await reduced(
        answer({"data": [{"id": "a-1", "owner_id": "bob"}, {"id": 7, "owner_id": "carol", "n": 3}]}), rule, policy
    )
    assert policy.asked == [
        AnswerItems("contact", ("read", "view_phone"), ["a-1", "7"], [{"owner": "bob"}, {"owner": "carol", "n": 3}])
    ]


IDS = st.sampled_from([1, 2, "a", "b"]) | st.sampled_from(["", True, None, 1.5, []])
OWNERS = st.sampled_from(["bob", "", True, 1, 2.5]) | st.sampled_from([None, 2**53, [], {"a": 1}])
NUMBERS = st.sampled_from([1, 2]) | st.sampled_from([None, True, 1.0, "1", 2**53])


@given(
    st.lists(
        st.fixed_dictionaries({"id": IDS, "owner_id": OWNERS}, optional={"n": NUMBERS}) | st.sampled_from([[], "id", None]),
        min_size=1, max_size=6,
    ),
    st.sampled_from([Type.INT, None]), st.booleans(),
)  # fmt: skip
async def test_items_are_read_together_as_each_alone_is(items: list[Any], kind: Type | None, optional: bool) -> None:
    rule = replace(
        RULE, at=(), totals=(), optional=frozenset(["n"] if optional else []),
        attributes={**RULE.attributes, "n": Attribute(searcher("n"), kind)},
    )  # fmt: skip
    told, fault = list[Any](), ""
    try:
        told = [rule.item(item) for item in items]
    except Refused as refused:
        fault = refused.detail

    async def judge(asked: AnswerItems) -> list[frozenset[str]]:
        assert list(zip(asked.ids, map(repr, asked.attributes), strict=True)) == [
            (one, repr(known)) for one, known in told
        ]
        return [ALL] * len(items)

    if told:
        assert (await reduced(answer(items), rule, judge)).counts["kept"] == len(items)
    else:
        with pytest.raises(Refused) as caught:
            await reduced(answer(items), rule, nobody)
        assert fault in caught.value.detail


@pytest.mark.parametrize(
    ("total", "left"),
    [
        ({"total": 3, "page": 1}, {"total": 2, "page": 1}),
        ({"total": 30, "page": 1}, {"page": 1}),
        ({"total": "3"}, {}),
        ({"total": 3.0}, {}),
        ({}, {}),
        (None, None),
    ],
)
async def test_a_total_is_made_true_or_taken_out(total: Any, left: Any) -> None:
    made = await reduced(answer({"meta": total, "data": rows(3)}))
    assert json.loads(made.answer.body or b"")["meta"] == left


async def test_totals_beside_each_other_and_beside_the_list_go_together() -> None:
    rule = replace(RULE, totals=(("total",), ("pages",), ("count",)))
    made = await reduced(answer({"total": 9, "pages": 5, "data": rows(3), "count": 9}), rule)
    assert list(json.loads(made.answer.body or b"")) == ["data"]


@pytest.mark.parametrize(("said", "left"), [(b"3", b"2"), (b"30", None), (b"x", None)])
async def test_a_total_in_a_header_too(said: bytes, left: bytes | None) -> None:
    rule = replace(RULE, total_headers=(b"x-total-count", b"x-count"))
    made = await reduced(answer({"data": rows(3)}, (b"x-count", said), (b"x-other", said)), rule)
    assert dict(made.answer.headers).get(b"x-count") == left
    assert dict(made.answer.headers)[b"x-other"] == said


async def test_headers_about_what_came_are_not_sent() -> None:
    told = [
        (b"etag", b'"1"'), (b"content-range", b"0-1/2"), (b"x-total-pages", b"1"), (b"x-wp-totalpages", b"1"),
        (b"x-result-count", b"1"), (b"x-pagination", b'{"TotalCount": 1}'),
    ]  # fmt: skip
    kept = [JSON, (b"link", b"x"), (b"x-account", b"1"), (b"x-pagination", b'{"next": "/?total=1"}'[:14])]
    made = await reduced(answer({"data": rows(1)}, *told, *kept[1:]))
    assert made.answer.headers == kept


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"[]", "items.at: found another value, expected an object"),
        ({"data": {}}, "items.at: found another value, expected an array"),
        ({"items": []}, "items.at: no member 'data'"),
        (b'{"data": [], "data": []}', "twice"),
        ({"data": [1]}, r"items\[0\]: found no id"),
        ({"data": [{"id": 1, "owner_id": "a"}, {"owner_id": "a"}]}, r"items\[1\]: found no id"),
        ({"data": [{"id": "", "owner_id": "a"}]}, "found no id"),
        ({"data": [{"id": True, "owner_id": "a"}]}, "found no id"),
        ({"data": [{"id": 1.5, "owner_id": "a"}]}, "found no id"),
        ({"data": [{"id": 1}]}, r"items\[0\]: attributes.owner: found nothing"),
        ({"data": [{"id": 1, "owner_id": None}]}, "attributes.owner: found nothing"),
        ({"data": [{"id": 1, "owner_id": {"a": 1}}]}, "attributes.owner: found dict"),
        (b'{"data": [{"id": 1, "owner_id": "alice", "id": 2}]}', "items.at: a name that stands twice"),
        (b'{"data": [{"id": 1, "owner_id": "alice", "n": NaN}]}', "NaN"),
        (b'{"data": [{"id": 1, "owner_id": "alice"}]', "without a comma"),
    ],
)
async def test_what_is_not_what_the_route_says_is_not_released(value: Any, said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        await reduced(answer(value))
    assert refused.value.code is Code.ITEMS_UNREADABLE


async def test_more_items_than_allowed_are_refused_and_never_cut() -> None:
    policy = Policy()
    rule = replace(RULE, max_items=3)
    assert (await reduced(answer({"data": rows(3)}), rule, policy)).counts["seen"] == 3
    with pytest.raises(Refused, match="more than 3 items") as refused:
        await reduced(answer({"data": rows(4)}), rule, policy)
    assert (refused.value.code, len(policy.asked)) == (Code.ITEMS_TOO_MANY, 1)


async def test_an_item_that_cannot_be_decided_refuses_the_list() -> None:
    async def fails(items: AnswerItems) -> list[frozenset[str]]:
        await asyncio.sleep(0)
        if "60" in items.ids:
            raise Refused(Code.PDP_TIMEOUT)
        return [ALL] * len(items.ids)

    for count in (61, 200):
        with pytest.raises(Refused) as refused:
            await reduced(answer({"data": rows(count)}), RULE, fails)
        assert refused.value.code is Code.PDP_TIMEOUT


async def test_many_items_are_asked_by_fifty_and_some_at_once() -> None:
    policy = Policy()
    made = await reduced(answer({"data": rows(501)}), RULE, policy)
    assert sorted(len(items.ids) for items in policy.asked) == [1, *[50] * 10]
    assert (policy.most, made.counts["calls"]) == (4, 11)
    kept = [row["id"] for row in json.loads(made.answer.body or b"")["data"]]
    assert kept == [row["id"] for row in rows(501) if row["owner_id"] == "alice"]


async def test_questions_are_counted_without_items_that_a_lookup_does_not_have() -> None:
    rule = replace(RULE, lookups=("doc",), part=100)

    def without(*gone: int) -> Any:
        async def judge(items: AnswerItems) -> list[frozenset[str]]:
            return [NOT_THERE if int(each) in gone else ALL for each in items.ids]

        return judge

    for count, gone, calls in (
        (100, range(0), 2), (100, range(50), 1), (100, range(49), 2), (100, range(100), 0), (150, range(100, 150), 2),
        (150, range(100), 1), (1, range(1), 0),
    ):  # fmt: skip
        made = await reduced(answer({"data": rows(count)}), rule, without(*gone))
        assert made.counts == {"seen": count, "kept": count - len(gone), "masked": 0, "calls": calls}


async def test_an_empty_list_asks_nobody() -> None:
    policy = Policy()
    made = await reduced(answer(b'{"data": [ ]}'), RULE, policy)
    assert (made.answer.body, policy.asked, made.counts["seen"]) == (b'{"data": [ ]}', [], 0)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"text/html", b"no such page"),
        (b"application/json", b'{"detail": "no such page", "results": []}'),
        (b"application/problem+json", b'{"data": "of another kind"}'),
        (b"application/json", b""),
    ],
)
async def test_an_error_of_the_app_passes_without_what_tells_a_number(kind: bytes, body: bytes) -> None:
    kept = [(b"content-type", kind), (b"location", b"/x")]
    told = [(b"x-total-count", b"3"), (b"etag", b"x"), (b"content-range", b"bytes */12345")]
    held = HeldAnswer(404, [*kept, *told], body)
    assert await reduced(held) == Reduced(HeldAnswer(404, kept, body), {})


@pytest.mark.parametrize("status", [302, 404, 500])
async def test_a_list_in_an_error_is_a_list(status: int) -> None:
    made = await reduced(answer({"data": rows(3), "meta": {"total": 9}}, (b"x-total", b"3"))._replace(status=status))
    assert made.answer.status == status
    assert json.loads(made.answer.body or b"") == {
        "data": [{"id": 1, "owner_id": "alice"}, {"id": 2, "owner_id": "alice", "phone": "+2"}], "meta": {},
    }  # fmt: skip
    assert (b"x-total", b"2") in made.answer.headers


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"data": [{"id": 1}]}', []),
        (b'{"data": [{"id": 1, "owner_id": "alice"}', []),
        (b'{"error": 1, "data": [{"id": 1, "owner_id": "alice"}], "data": 1}', []),
        (b'{"error": ', []),
        (b'{"data": []}', [(b"content-encoding", b"gzip")]),
    ],
)
async def test_an_error_in_json_that_cannot_be_read_is_not_released(
    body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    with pytest.raises(Refused) as refused:
        await reduced(answer(body, *headers)._replace(status=404))
    assert refused.value.code is Code.ITEMS_UNREADABLE


async def test_a_field_that_may_not_be_hidden_refuses_the_list() -> None:
    rule = replace(RULE, fields=(FieldRule(("phone", "home"), "view_phone"),))
    with pytest.raises(Refused, match=r"items\[1\].fields") as refused:
        await reduced(answer({"data": rows(2)}), rule)
    assert refused.value.code is Code.ITEMS_UNREADABLE


@pytest.mark.parametrize(("at", "body"), [((), b"[%s]"), (("a", "b"), b'{"a": {"b": [%s], "c": 1}}')])
async def test_the_list_is_where_the_route_says(at: tuple[str, ...], body: bytes) -> None:
    rule = replace(RULE, at=at, totals=())
    items = rows(3)
    made = await reduced(answer(body % b", ".join(json.dumps(item).encode() for item in items)), rule)
    assert made.answer.body == body % b'{"id": 1, "owner_id": "alice"}, {"id": 2, "owner_id": "alice", "phone": "+2"}'


def test_the_fields_that_a_query_searches_are_told_by_kind_and_action() -> None:
    rule = replace(RULE, fields=(*RULE.fields, FieldRule(("mobile",), "view_phone"), FieldRule(("note",), "view_note")))
    assert rule.searched(b"page=1&sort=phone,mobile") == [("contact", "view_phone")]
    assert rule.searched(b"note=1&phone=1") == [("contact", "view_phone"), ("contact", "view_note")]
    assert (rule.searched(b"page=1"), rule.searched(b""), replace(RULE, fields=()).searched(b"phone=1")) == ([], [], [])


async def test_an_answer_without_items_is_known_where_the_whole_answer_is_the_list() -> None:
    assert RULE.nothing is None
    rule = replace(RULE, at=(), totals=())
    assert rule.nothing is not None
    made = await reduced(rule.nothing, rule)
    assert (made.answer.body, made.counts["seen"]) == (b"[]", 0)
