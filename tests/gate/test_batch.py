"""Many ids in one call: how they are put together, and what of the answer is about which of them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from sidecar.gate.batch import answer_of, batch_of, parts_of, replies_of
from sidecar.gate.codes import Code
from sidecar.gate.expressions import searcher
from sidecar.gate.function import Function
from sidecar.gate.hook import MAX_TARGET, Hook
from sidecar.gate.identity import Principal
from sidecar.gate.lookup import (
    Attribute,
    Batch,
    Call,
    Inquiry,
    Lookup,
    Missing,
    Reply,
    ResourceField,
    attributes_from,
    call_for,
)
from sidecar.gate.references import Material, parse_reference
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.statement import Database, SqlDialect, statement_of
from sidecar.gate.verdict import Refused

MATERIAL = Material(
    read(Raw("GET", b"/", [(b"host", b"x")], "", "http", "r"), Reading()), {"org": "a&b"}, Principal("p", ("r",), {}, "i", 1.0, {}), None
)  # fmt: skip
HOOK = Hook(
    "http://h", ("/", ResourceField.KIND, "?o=", parse_reference("path.org"), "&id=", ResourceField.IDS, "&x=1")
)
LOOKUP = Lookup("doc", HOOK, {"owner": Attribute(searcher("o"))}, batch=Batch(3))
ECHOED = LOOKUP._replace(echo=searcher("id"))
DATABASE = Database("DOCS_URL", "sqlite:///docs.db", SqlDialect.SQLITE)
IDS = ("7", "a&id=8", "ä/..", "+", "{ids}")


def calls(lookup: Lookup, *ids: str, kind: str = "doc") -> list[Call]:
    return [call_for(lookup, kind, one, MATERIAL) for one in ids]


def test_each_id_is_a_value_of_its_own_whatever_it_holds() -> None:
    joined = batch_of(calls(LOOKUP, *IDS))
    assert (joined.ids, joined.resource_id) == (IDS, "")
    parts = urlsplit(joined.question)
    assert (parts.path, parts.fragment) == ("/doc", "")
    assert parse_qsl(parts.query) == [("o", "a&b"), *(("id", one) for one in IDS), ("x", "1")]
    assert joined.question.isascii()


def test_ids_in_one_value_are_those_that_nobody_cuts() -> None:
    comma = LOOKUP._replace(inquiry=Hook("http://h", ("/d?id=in.(", ResourceField.IDS, ")&x=1"), "", ","))
    assert batch_of(calls(comma, "7", "a.b~c", "x+y")).question == "/d?id=in.(7,a.b~c,x%2By)&x=1"
    for one in ("7,8", "a b", "ä", "", "x)", 'a"', "%2c", "x" * 129):
        with pytest.raises(Refused) as caught:
            calls(comma, one)
        assert caught.value.code is Code.REFERENCE_INVALID


def test_calls_go_together_as_far_as_they_are_alike_and_fit() -> None:
    alike = calls(LOOKUP, *"1234567")
    assert [[call.resource_id for call in part] for part in parts_of(alike)] == [
        ["1", "2", "3"],
        ["4", "5", "6"],
        ["7"],
    ]
    mixed = [*calls(LOOKUP, "1"), *calls(LOOKUP, "2", kind="note"), *calls(LOOKUP, "3")]
    assert [batch_of(part).ids for part in parts_of(mixed)] == [("1", "3"), ("2",)]
    long = [*calls(LOOKUP._replace(batch=Batch(500)), *("x" * 500 + str(number) for number in range(40)))]
    questions = [batch_of(part).question for part in parts_of(long)]
    assert len(questions) > 1
    assert max(map(len, questions)) <= MAX_TARGET
    # one that fits nowhere is asked as it would be alone
    (alone,) = parts_of(calls(LOOKUP, "x" * 9000))
    assert len(alone) == 1


@pytest.mark.parametrize(
    "inquiry", [Function("m:f", batch=True), statement_of("select * from d where id in :ids", DATABASE, {})]
)
def test_only_a_url_is_cut_by_its_length(inquiry: Inquiry) -> None:
    lookup = LOOKUP._replace(inquiry=inquiry, batch=Batch(300))
    long = calls(lookup, *(f"{number:0900}" for number in range(301)))
    assert [len(part) for part in parts_of(long)] == [300, 1]


def answered(lookup: Lookup, document: Any, ids: tuple[str, ...] = ("7", "8"), status: int = 200) -> dict[str, Any]:
    call = batch_of(calls(lookup, *ids))
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    replies = replies_of(call, Reply(status, "application/json", body))
    assert list(replies) == list(ids)
    found: dict[str, Any] = {}
    for one, about in zip(calls(lookup, *ids), replies.values(), strict=True):
        try:
            found[one.resource_id] = attributes_from(one, about)
        except Refused as refused:
            found[one.resource_id] = refused.code
    return found


@pytest.mark.parametrize(
    ("lookup", "document", "found"),
    [
        (LOOKUP, {"7": {"o": "a"}, "8": {"o": "b"}}, [{"owner": "a"}, {"owner": "b"}]),
        (LOOKUP, {"8": {"o": "b"}}, [Code.RESOURCE_MISSING, {"owner": "b"}]),
        (LOOKUP, {"7": None, "8": {}}, [Code.RESOURCE_MISSING, Code.LOOKUP_MISMATCH]),
        (LOOKUP, {}, [Code.RESOURCE_MISSING, Code.RESOURCE_MISSING]),
        (LOOKUP, {"7": False, "8": []}, [Code.LOOKUP_MISMATCH, Code.LOOKUP_MISMATCH]),
        (LOOKUP._replace(batch=Batch(3, ("data", "byId"))), {"data": {"byId": {"7": {"o": "a"}}}}, [{"owner": "a"}, Code.RESOURCE_MISSING]),
        (LOOKUP._replace(missing=Missing.EMPTY), {"7": {"o": "a"}}, [{"owner": "a"}, {}]),
        (LOOKUP._replace(missing=Missing.HIDE), {"7": {"o": "a"}}, [{"owner": "a"}, Code.RESOURCE_HIDDEN]),
        (ECHOED, [{"id": 8, "o": "b"}, {"id": "7", "o": "a"}], [{"owner": "a"}, {"owner": "b"}]),
        (ECHOED, [], [Code.RESOURCE_MISSING, Code.RESOURCE_MISSING]),
        (ECHOED._replace(batch=Batch(3, ("rows",))), {"rows": [{"id": 8, "o": "b"}], "page": 1}, [Code.RESOURCE_MISSING, {"owner": "b"}]),
    ],
)  # fmt: skip
def test_each_id_gets_what_the_answer_says_of_it(lookup: Lookup, document: Any, found: list[Any]) -> None:
    assert list(answered(lookup, document).values()) == found


@pytest.mark.parametrize(
    ("lookup", "document", "status", "code"),
    [
        (LOOKUP, {"7": {"o": "a"}, "9": {"o": "b"}}, 200, Code.LOOKUP_BAD_ANSWER),
        (LOOKUP, {"07": {"o": "a"}}, 200, Code.LOOKUP_BAD_ANSWER),
        (LOOKUP, b'{"7": {"o": "a"}, "7": {"o": "b"}}', 200, Code.LOOKUP_BAD_ANSWER),
        (LOOKUP, [{"id": 7, "o": "a"}], 200, Code.LOOKUP_BAD_ANSWER),
        (LOOKUP._replace(batch=Batch(3, ("data",))), {"7": {"o": "a"}}, 200, Code.LOOKUP_BAD_ANSWER),
        (ECHOED, {"7": {"o": "a"}}, 200, Code.LOOKUP_BAD_ANSWER),
        (ECHOED, [{"id": 7, "o": "a"}, {"id": "7", "o": "b"}], 200, Code.LOOKUP_BAD_ANSWER),
        (ECHOED, [{"id": 7, "o": "a"}, {"id": 7, "o": "a"}], 200, Code.LOOKUP_BAD_ANSWER),
        *((ECHOED, [{"id": other, "o": "a"}], 200, Code.LOOKUP_BAD_ANSWER) for other in (9, "07", 7.0, True, None, ["7"], "")),
        (ECHOED, [{"o": "a"}], 200, Code.LOOKUP_BAD_ANSWER), (ECHOED, ["7"], 200, Code.LOOKUP_BAD_ANSWER),
        (ECHOED, None, 200, Code.LOOKUP_BAD_ANSWER), (ECHOED, b"[", 200, Code.LOOKUP_BAD_ANSWER),
        # that none is there says an empty list
        (ECHOED, [], 404, Code.LOOKUP_STATUS), (ECHOED, [], 500, Code.LOOKUP_STATUS), (ECHOED, [], 403, Code.LOOKUP_AUTH),
    ],
)  # fmt: skip
def test_an_answer_that_does_not_fit_is_one_about_none_of_them(
    lookup: Lookup, document: Any, status: int, code: Code
) -> None:
    with pytest.raises(Refused) as caught:
        answered(lookup, document, status=status)
    assert caught.value.code is code


@pytest.mark.parametrize("lookup", [LOOKUP, ECHOED, ECHOED._replace(batch=Batch(3, ("a", "b")))])
def test_an_answer_is_made_of_what_is_read_of_it(lookup: Lookup) -> None:
    call = batch_of(calls(lookup, "7", "8"))
    said = {"7": Reply(200, "application/json", b'{"id": 7, "o": "a"}'), "8": Reply(404, "", b"")}
    replies = replies_of(call, answer_of(call, said))
    assert (replies["7"].document, replies["8"].status) == ({"id": 7, "o": "a"}, 404)
