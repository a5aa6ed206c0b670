"""What a lookup's function is asked, and what stands for it in the cache."""

from __future__ import annotations

import json

from sidecar.gate.function import Function
from sidecar.gate.identity import Principal
from sidecar.gate.lookup import ResourceField
from sidecar.gate.references import Material
from sidecar.gate.request import Raw, Reading, read

ALICE = Principal("alice", ("admin", "user"), {"tenant": "t1"}, "https://issuer", 1.0, {"email": "a@x"})
REQUEST = read(Raw("GET", b"/", [(b"host", b"x")], "", "http", "r"), Reading())


def material(principal: Principal = ALICE) -> Material:
    return Material(REQUEST, {}, principal)


def test_a_service_is_asked_the_same_for_everybody() -> None:
    asked = Function("acme:team")
    question = asked.fill("order", 'ü"7', material())
    assert json.loads(question) == {"kind": "order", "id": 'ü"7'}
    assert question == asked.fill("order", 'ü"7', material(ALICE._replace(id="bob")))
    assert question.isascii()


def test_who_asks_is_in_the_question_where_the_function_is_told() -> None:
    asked = Function("acme:team", as_principal=True)
    told = {"id": "alice", "roles": ["admin", "user"], "attributes": {"tenant": "t1"}, "issuer": "https://issuer"}
    question = asked.fill("order", "7", material())
    assert json.loads(question) == {"kind": "order", "id": "7", "principal": told}
    others = [
        ALICE._replace(id="bob"), ALICE._replace(roles=("user",)), ALICE._replace(attributes={}),
        ALICE._replace(issuer="https://other"),
    ]  # fmt: skip
    assert len({question, *(asked.fill("order", "7", material(other)) for other in others)}) == 5
    # what it is not told makes no other question
    assert question == asked.fill("order", "7", material(ALICE._replace(expires=2.0, claims={})))


def test_a_function_tells_what_fills_it_and_how_it_is_called() -> None:
    asked = Function("acme.authz:team", as_principal=True)
    assert (asked.source, set(asked.values)) == ("acme.authz:team", {ResourceField.ID, ResourceField.KIND})
    assert asked.shown(asked.fill("order", "7", material())) == "acme.authz:team(order 7, alice)"
    assert Function("a:b").shown(Function("a:b").fill("order", "7", material())) == "a:b(order 7)"


def test_many_ids_are_joined_to_what_is_the_same_for_all() -> None:
    asked = Function("a:b", as_principal=True, batch=True)
    question = asked.fill("order", "7", material())
    assert question == asked.fill("order", "8", material())
    joined = asked.join(question, ("7", "ä"))
    assert {**json.loads(joined), "principal": None} == {"kind": "order", "ids": ["7", "ä"], "principal": None}
    assert json.loads(joined)["principal"]["id"] == "alice"
    assert asked.shown(joined) == "a:b(order [7, ä], alice)"
    assert asked.values == (ResourceField.KIND, ResourceField.IDS)
