"""What a resource is like, out of the app's answer, read as a lookup reads that of a hook."""

from __future__ import annotations

import json
from typing import Any

import jmespath
import pytest

from sidecar.gate.codes import Code
from sidecar.gate.hook import Hook
from sidecar.gate.lookup import Attribute, Call, Lookup, Missing, Reply, attributes_from
from sidecar.gate.obligation import HeldAnswer, Reduced
from sidecar.gate.values import Type
from sidecar.gate.verdict import Refused
from sidecar.release.fields import FieldRule
from sidecar.release.lookup import AnswerLookupRule
from sidecar.release.single import FieldsRule

JSON = (b"content-type", b"application/json")
ATTRIBUTES = {
    "owner": Attribute(jmespath.compile("owner_id").search), "size": Attribute(jmespath.compile("size").search, Type.INT),
    "acl": Attribute(jmespath.compile("acl").search, Type.JSON),
}  # fmt: skip
OPTIONAL = frozenset(["size", "acl"])
ECHO = jmespath.compile("id").search
RULE = AnswerLookupRule(ATTRIBUTES, OPTIONAL, echo=ECHO)


def held(body: Any, status: int = 200, kind: bytes = b"application/json") -> HeldAnswer:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return HeldAnswer(status, [(b"content-type", kind)], data)


BODIES: list[Any] = [
    {"id": 7, "owner_id": "a"}, {"id": "7", "owner_id": "a", "size": 5, "acl": {"x": [1]}}, {"id": 7, "owner_id": 5, "size": None},
    {"id": 8, "owner_id": "a"}, {"owner_id": "a"}, {"id": 7}, {"id": 7, "owner_id": None}, {"id": 7, "owner_id": {}},
    {"id": 7, "owner_id": "a", "size": "5"}, {"id": 7, "owner_id": "a", "acl": [[[[[[1]]]]]]}, [], "x", None, b"{", b"[" * 9999, b"\xff",
    b'{"id": 7, "owner_id": "a", "owner_id": "b"}', b'{"id": 7, "owner_id": NaN}',
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("kind", ["application/json", "application/hal+json", "text/html"])
def test_a_row_reads_as_it_reads_from_a_hook(body: Any, kind: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lookup = Lookup("l", Hook("http://h", ("/",)), ATTRIBUTES, OPTIONAL, echo=ECHO)

    def outcome(read: Any) -> Any:
        try:
            return read()
        except Refused as refused:
            return refused.code, refused.about_another

    by_hook = outcome(lambda: attributes_from(Call(lookup, "/", "7"), Reply(200, kind, data)))
    assert outcome(lambda: RULE.read(held(data, kind=kind.encode()), "7")) == by_hook


@pytest.mark.parametrize(
    ("missing", "code"), [(Missing.DENY, Code.RESOURCE_MISSING), (Missing.HIDE, Code.RESOURCE_HIDDEN)]
)
def test_no_such_thing_means_what_the_rule_says(missing: Missing, code: Code) -> None:
    with pytest.raises(Refused) as refused:
        AnswerLookupRule(ATTRIBUTES, missing=missing).read(held(b"not here", 404, b"text/plain"), "7")
    assert refused.value.code is code
    assert AnswerLookupRule(ATTRIBUTES, missing=Missing.EMPTY).read(held(b"not here", 404), "7") == {}


@pytest.mark.parametrize("status", [201, 202, 204, 206, 301, 304, 400, 401, 403, 410, 500, 503])
def test_any_other_status_tells_nothing(status: int) -> None:
    with pytest.raises(Refused) as refused:
        RULE.read(held({"id": 7, "owner_id": "a"}, status), "7")
    assert refused.value.code is Code.LOOKUP_STATUS


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("missing", Missing)
def test_what_was_too_large_to_be_held_tells_nothing(status: int, missing: Missing) -> None:
    with pytest.raises(Refused) as refused:
        AnswerLookupRule(ATTRIBUTES, missing=missing).read(held(None, status), "7")
    assert refused.value.code is Code.LOOKUP_BAD_ANSWER


def test_fields_are_hidden_after_the_decision() -> None:
    answer = HeldAnswer(200, [JSON, (b"etag", b"1")], b'{"id": 7, "phone": 5}')
    assert RULE.asks == ()
    assert RULE.reduce(answer, frozenset()) == Reduced(answer, {})
    rule = AnswerLookupRule(ATTRIBUTES, fields=FieldsRule((FieldRule(("phone",), "view_phone"),)))
    assert rule.asks == ("view_phone",)
    assert rule.names == frozenset(ATTRIBUTES)
    assert rule.reduce(answer, frozenset(["view_phone"])).answer.body == answer.body
    assert rule.reduce(answer, frozenset()) == Reduced(HeldAnswer(200, [JSON], b'{"id": 7}'), {"masked": 1})


def test_what_is_decided_from_an_answer_is_not_looked_for_by_a_hidden_field() -> None:
    fields = FieldsRule((FieldRule(("phone",), "view_phone"),))
    rule = AnswerLookupRule(ATTRIBUTES, OPTIONAL, fields=fields)
    assert (RULE.searched(b"phone=1"), rule.searched(b"phone=1")) == ((), [("", "view_phone")])
