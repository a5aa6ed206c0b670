"""Kinds, ids and actions from paths, methods, operationIds and tags."""

from __future__ import annotations

import pytest

from tests.imports.collecting import proposed, spec


def said(path: str, *requests: str, **options: object) -> tuple[str, str | None, dict[str, str]]:
    one = proposed(*requests, **options)[path].named
    return (
        one.kind.value,
        one.id.value if one.id else None,
        {method: guess.value for method, guess in one.actions.items()},
    )


@pytest.mark.parametrize(
    ("operations", "path", "expected"),
    [
        (["GET /contacts", "POST /contacts", "GET /contacts/{id}"], "/contacts", ("contact", None, {"GET": "list", "POST": "create"})),
        (["GET /contacts/{id}", "PUT /contacts/{id}", "PATCH /contacts/{id}", "DELETE /contacts/{id}"], "/contacts/{id}",
         ("contact", "{path.id}", {"GET": "read", "PUT": "update", "PATCH": "update", "DELETE": "delete"})),
        (["GET /api/v1/purchase-orders/{po}"], "/api/v1/purchase-orders/{po}", ("purchase_order", "{path.po}", {"GET": "read"})),
        (["POST /contacts/{id}/archive"], "/contacts/{id}/archive", ("contact", "{path.id}", {"POST": "archive"})),
        (["POST /contacts/{id}/frobnicate"], "/contacts/{id}/frobnicate", ("contact", "{path.id}", {"POST": "frobnicate"})),
        (["GET /contacts/{id}/export"], "/contacts/{id}/export", ("contact", "{path.id}", {"GET": "export"})),
        (["DELETE /contacts/{id}/star"], "/contacts/{id}/star", ("contact", "{path.id}", {"DELETE": "delete_star"})),
        (["GET /contacts/{id}/notes", "POST /contacts/{id}/notes"], "/contacts/{id}/notes", ("note", None, {"GET": "list", "POST": "create"})),
        (["GET /contacts/{id}/notes/{n}"], "/contacts/{id}/notes/{n}", ("note", "{path.n}", {"GET": "read"})),
        (["GET /contacts/{id}/photo", "PUT /contacts/{id}/photo"], "/contacts/{id}/photo",
         ("contact", "{path.id}", {"GET": "read_photo", "PUT": "update_photo"})),
        (["POST /contacts/import"], "/contacts/import", ("contact", None, {"POST": "import"})),
        (["GET /contacts/search"], "/contacts/search", ("contact", None, {"GET": "search"})),
        (["GET /users/me", "PATCH /users/me"], "/users/me", ("user", None, {"GET": "read", "PATCH": "update"})),
        (["GET /repos/{owner}/{repo}"], "/repos/{owner}/{repo}", ("repo", "{path.repo}", {"GET": "read"})),
        (["GET /{database}/{table}/{pk}"], "/{database}/{table}/{pk}", ("item", "{path.pk}", {"GET": "read"})),
        (["GET /healthz"], "/healthz", ("healthz", None, {"GET": "read"})),
        (["POST /login"], "/login", ("login", None, {"POST": "login"})),
        (["GET /"], "/", ("page", None, {"GET": "read"})),
        (["GET /contacts/"], "/contacts/", ("contact", None, {"GET": "list"})),
        (["GET /2fa/codes/{id}", "GET /2fa"], "/2fa", ("kind_2_fa", None, {"GET": "read"})),
        (["GET /contacts.json", "GET /contacts/{id}.json"], "/contacts/{id}.json", ("contact", "{path.id}", {"GET": "read"})),
        (["GET /inventory listInventory"], "/inventory", ("inventory", None, {"GET": "read"})),
    ],
)  # fmt: skip
def test_paths_tell_kind_id_and_action(operations: list[str], path: str, expected: object) -> None:
    assert said(path, specs=(spec(*operations),)) == expected


@pytest.mark.parametrize(
    ("operation", "action", "more"),
    [
        ("GET /contacts/{id} readContact", "read", True),
        ("GET /contacts/{id} read_contact_contacts__id__get", "read", True),
        ("GET /contacts/{id}/ contacts_retrieve", "read", True),
        ("PATCH /contacts/{id}/ contacts_partial_update", "update", True),
        ("GET /contacts/{id} deleteContact", "read", False),
        ("GET /contacts/{id} frobnicate", "read", False),
        ("POST /contacts searchContacts", "search", None),
        ("POST /contacts listContacts", "list", None),
        ("POST /contacts archiveContacts", "archive", None),
        ("POST /contacts createContact", "create", True),
    ],
)
def test_an_operation_id_confirms_or_doubts(operation: str, action: str, more: bool | None) -> None:
    method, path, name = operation.split()
    (with_it,) = proposed(specs=(spec(operation),)).values()
    (without,) = proposed(specs=(spec(f"{method} {path}"),)).values()
    guess, before = with_it.named.actions[method], without.named.actions[method]
    assert guess.value == action
    assert name in guess.reason
    if more is not None:
        assert (guess.confidence > before.confidence) == more


def test_a_tag_confirms() -> None:
    with_it = proposed(specs=(spec("GET /contacts x contacts"),))["/contacts"].named.kind
    without = proposed(specs=(spec("GET /contacts x"),))["/contacts"].named.kind
    assert with_it.confidence > without.confidence
    assert "the tag" in with_it.reason


def test_what_belongs_to_another_resource_says_so() -> None:
    found = proposed(specs=(spec("GET /contacts/{cid}/notes/{nid}", "GET /contacts/{cid}/notes", "GET /a/{x}/a/{y}"),))
    assert found["/contacts/{cid}/notes/{nid}"].named.parents == {"contact": "{path.cid}"}
    assert found["/contacts/{cid}/notes"].named.parents == {"contact": "{path.cid}"}
    assert found["/a/{x}/a/{y}"].named.parents == {"x": "{path.x}"}


def test_confidence_is_a_number_and_a_word() -> None:
    few, many = proposed("GET /contacts/7"), proposed(*(f"GET /contacts/{n}" for n in range(30)))
    low, high = few["/contacts/{id:int}"].named.kind, many["/contacts/{id:int}"].named.kind
    assert low.confidence < high.confidence
    assert (low.word, high.word) == ("medium", "high")
    assert proposed("GET /x", "GET /x")["/x"].named.kind.word == "low"


def test_a_websocket_is_an_action() -> None:
    assert said("/ws", "WS /ws 101") == ("ws", None, {"WS": "connect"})


def test_self_and_graphql_have_notes() -> None:
    assert "whoever asks" in " ".join(proposed("GET /users/me")["/users/me"].decide)
    assert "in the body" in " ".join(proposed("POST /graphql")["/graphql"].decide)
