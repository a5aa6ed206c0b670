"""The hook's request, and what its answer gives."""

from __future__ import annotations

import json
from typing import Any

import jmespath
import pytest

from sidecar.gate.codes import Code
from sidecar.gate.expressions import value_expression
from sidecar.gate.hook import Hook
from sidecar.gate.identity import Principal
from sidecar.gate.lookup import (
    Attribute,
    Call,
    Lookup,
    Missing,
    Reply,
    ReplyReader,
    ResourceField,
    attributes_from,
    call_for,
)
from sidecar.gate.references import Material, Reference, parse_reference
from sidecar.gate.request import Raw, Reading, read
from sidecar.gate.values import MAX_JSON, Type
from sidecar.gate.verdict import Refused

MATERIAL = Material(
    read(Raw("GET", b"/", [(b"host", b"x")], "", "http", "r"), Reading()), {"org": "a/b"}, Principal("p", ("r",), {}, "i", 1.0, {"n": 5}), None
)  # fmt: skip
LOOKUP = Lookup(
    "contact", Hook("http://h", ("/c/", ResourceField.ID)),
    {"owner": Attribute(jmespath.compile("owner_id").search), "tenant": Attribute(jmespath.compile("account.tenant").search, Type.STRING)},
    optional=frozenset(["tenant"]),
)  # fmt: skip


def reply(body: Any, status: int = 200, kind: str = "application/json") -> Reply:
    return Reply(status, kind, body if isinstance(body, bytes) else json.dumps(body).encode())


def refusal(lookup: Lookup, answer: Reply) -> Code:
    with pytest.raises(Refused) as caught:
        attributes_from(Call(lookup, "/c/7", "7"), answer)
    return caught.value.code


def test_a_call_tells_whose_it_is() -> None:
    principal = MATERIAL.principal._replace(issuer="https://issuer.test", id="alice")
    asked = call_for(LOOKUP, "contact", "7", MATERIAL._replace(principal=principal))
    assert (asked.question, asked.resource_id) == ("/c/7", "7")
    assert asked.asker == ("https://issuer.test", "alice")


def test_attributes_are_read_where_they_are_and_optional_ones_may_be_absent() -> None:
    call = Call(LOOKUP, "/c/7", "7")
    assert attributes_from(call, reply({"owner_id": "a", "account": {"tenant": "t"}})) == {"owner": "a", "tenant": "t"}
    rests: tuple[dict[str, object], ...] = ({}, {"account": None}, {"account": {}})
    for rest in rests:
        assert attributes_from(call, reply({"owner_id": 7, **rest})) == {"owner": 7}
    assert attributes_from(call, reply({"owner_id": True}, kind="application/hal+json")) == {"owner": True}


OTHERS: list[object] = [
    {}, [], "x", None, {"owner_id": None}, {"owner_id": ["a"]}, {"owner_id": {}}, {"owner_id": 2**53},
    {"owner_id": "a", "account": {"tenant": 5}},
]  # fmt: skip
"""JSON without the attributes of LOOKUP."""


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (reply({}, 404), Code.RESOURCE_MISSING), (reply({}, 401), Code.LOOKUP_AUTH), (reply({}, 403), Code.LOOKUP_AUTH),
        *((reply({"owner_id": "a"}, status), Code.LOOKUP_STATUS) for status in (201, 204, 302, 400, 429, 500, 503)),
        *((reply({"owner_id": "a"}, kind=kind), Code.LOOKUP_STATUS) for kind in ("text/html", "", "text/json", "application/jsonx")),
        *((reply(body), Code.LOOKUP_BAD_ANSWER) for body in (b"", b"{", b'{"owner_id":"a","owner_id":"b"}', b'{"owner_id":NaN}', b"\xff", b"[" * 9999)),
        *((reply(body), Code.LOOKUP_MISMATCH) for body in OTHERS),
    ],
)  # fmt: skip
def test_any_other_answer_is_a_refusal(answer: Reply, code: Code) -> None:
    assert refusal(LOOKUP, answer) is code


def test_an_attribute_of_any_json_is_declared_and_within_bounds() -> None:
    lookup = LOOKUP._replace(attributes={"meta": Attribute(jmespath.compile("meta").search, Type.JSON)})
    meta = {"shared": [{"with": "bob", "until": None}], "size": 1.5}
    assert attributes_from(Call(lookup, "/c/7", "7"), reply({"meta": meta})) == {"meta": meta}
    for other in (None, [[[[[["deep"]]]]]], "x" * MAX_JSON, [2**53]):
        assert refusal(lookup, reply({"meta": other})) is Code.LOOKUP_MISMATCH


def test_no_such_thing_means_what_the_lookup_says() -> None:
    assert refusal(LOOKUP._replace(missing=Missing.HIDE), reply({}, 404)) is Code.RESOURCE_HIDDEN
    assert attributes_from(Call(LOOKUP._replace(missing=Missing.EMPTY), "/c/7", "7"), reply({}, 404)) == {}


@pytest.mark.parametrize(
    ("said", "taken"),
    [("7", True), (7, True), ("07", False), (8, False), (None, False), (7.0, False), (True, False), (["7"], False)],
)
def test_an_echo_must_be_the_id_that_was_asked(said: Any, taken: bool) -> None:
    lookup = LOOKUP._replace(echo=jmespath.compile("id").search)
    answer = reply({"id": said, "owner_id": "a"})
    if taken:
        assert attributes_from(Call(lookup, "/c/7", "7"), answer) == {"owner": "a"}
    else:
        assert refusal(lookup, answer) is Code.LOOKUP_MISMATCH


@pytest.mark.parametrize("kind", [None, Type.NUMBER])
@pytest.mark.parametrize("said", ["nan", "inf", "-inf"])
def test_a_number_that_compares_with_nothing_is_no_attribute(kind: Type | None, said: str) -> None:
    """A policy's `limit > 1000` is false of NaN: a DENY rule on it would be skipped."""
    lookup = LOOKUP._replace(attributes={"n": Attribute(jmespath.compile("to_number(n)").search, kind)})
    assert refusal(lookup, reply({"n": said})) is Code.LOOKUP_MISMATCH
    assert attributes_from(Call(lookup, "/c/7", "7"), reply({"n": "1.5"})) == {"n": 1.5}


def test_an_expression_that_fails_on_an_answer_is_the_answers_fault() -> None:
    lookup = LOOKUP._replace(attributes={"n": Attribute(jmespath.compile("abs(owner_id)").search)})
    assert refusal(lookup, reply({"owner_id": "a"})) is Code.LOOKUP_BAD_ANSWER


def test_a_cached_answer_is_read_once_and_only_for_its_own_question() -> None:
    asked = 0

    def search(document: Any) -> Any:
        nonlocal asked
        asked += 1
        return document["owner_id"]

    kept = LOOKUP._replace(attributes={"owner": Attribute(search)}, optional=frozenset(), echo=None, cache=10.0)
    readings, answer = ReplyReader(), reply({"owner_id": "a"})
    for _ in range(3):
        assert readings.attributes(Call(kept, "/c/7", "7"), answer) == {"owner": "a"}
    assert asked == 1
    # another answer, another question, and another lookup by a reload are read for themselves
    assert readings.attributes(Call(kept, "/c/7", "7"), reply({"owner_id": "b"})) == {"owner": "b"}
    assert readings.attributes(Call(kept, "/c/8", "8"), answer) == {"owner": "a"}
    other = kept._replace(attributes={"held_by": Attribute(search)})
    assert readings.attributes(Call(other, "/c/7", "7"), answer) == {"held_by": "a"}
    fresh = Call(kept._replace(cache=0.0), "/c/7", "7")
    before = asked
    for _ in range(2):
        readings.attributes(fresh, answer)
    assert asked == before + 2


def test_an_answer_that_is_refused_is_refused_each_time() -> None:
    readings, answer = ReplyReader(), reply({}, 404)
    for _ in range(2):
        with pytest.raises(Refused):
            readings.attributes(Call(LOOKUP._replace(cache=10.0), "/c/7", "7"), answer)


def test_what_is_kept_of_answers_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.gate.lookup.READINGS", 100_000)
    kept = LOOKUP._replace(
        attributes={"owner": Attribute(lambda document: document["owner_id"])}, echo=None, cache=10.0
    )
    readings = ReplyReader()
    for number in range(20):
        large = reply({"owner_id": number, "text": "x" * 20_000})
        assert readings.attributes(Call(kept, "/c/7", "7"), large) == {"owner": number}
    assert len(readings._known) == 4


def test_an_expression_reads_with_the_values_of_each_request_what_is_cached_for_all() -> None:
    text = "members[?id=='{principal.id}'].role | [0]"
    found, _ = value_expression(text)
    place: dict[str, Reference | ResourceField] = {
        "principal.id": parse_reference("principal.id"),
        "id": ResourceField.ID,
        "kind": ResourceField.KIND,
    }
    lookup = LOOKUP._replace(
        attributes={"role": Attribute(found, None, text)}, optional=frozenset(["role"]), cache=10.0, places=place
    )
    answer, readings = (
        reply({"members": [{"id": "alice", "role": "owner"}, {"id": "bob", "role": "guest"}]}),
        ReplyReader(),
    )

    def role_of(name: str) -> object:
        principal = MATERIAL.principal._replace(id=name)
        call = call_for(lookup, "contact", "7", MATERIAL._replace(principal=principal))
        assert dict(call.values) == {"principal.id": name, "id": "7", "kind": "contact"}
        return readings.attributes(call, answer).get("role")

    names = ["alice", "bob", "alice", "nobody", "bob", "alice' || 'x"]
    assert [role_of(name) for name in names] == ["owner", "guest", "owner", None, "guest", None]


def test_an_expression_without_its_values_finds_nothing() -> None:
    found, _ = value_expression("'{id}'")
    assert refusal(LOOKUP._replace(attributes={"a": Attribute(found)}), reply({})) is Code.LOOKUP_BAD_ANSWER
