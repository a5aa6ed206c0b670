"""Recorded requests under another route file: which question they would be, or what the routes decide."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.adoption.replay import Recalled, SkipReason, Unreplayed
from sidecar.adoption.rerouting import Rerouting, Settled
from sidecar.config.routes.file import read_routes
from sidecar.record.line import QuestionLine
from tests.adoption.questions import denied, question, unasked

ROUTES = """
version: 1
principal: {attributes: {level: "custom:level"}, optional: [level]}
lookups:
  note: {url: "http://127.0.0.1:9/notes/{id}", attributes: {owner: owner_id}}
routes:
  - {path: /public, access: public}
  - {path: /me, access: authenticated}
  - {path: /notes, resource: note, query: [page, "filter.x"], actions: {GET: list}}
  - path: /notes/{id}
    resource: note
    id: "{path.id}"
    lookup: note
    attributes: {tenant: "{principal.roles}", by: "{principal.id}"}
    actions: {GET: read, WS: listen, PUT: {action: update, attributes: {to: "{body.to}"}}}
  - {path: /docs, resource: doc, id: "{query.id}", actions: {GET: read}}
  - {path: /archive, resource: note, each: {at: "{body.ids}", id: "@", lookup: note}, actions: {POST: archive}}
  - {path: /graphql, resource: note, graphql: {Query.note: {id: "{args.id}", action: read}}}
""".replace('tenant: "{principal.roles}", ', "")
REROUTING = Rerouting(read_routes(ROUTES, "routes.yaml", {}))
NOTE = {"owner": "bob", "by": "somebody", "old": 1}


def routed(line: QuestionLine) -> Recalled | Settled | Unreplayed:
    return REROUTING.route(line)


def asked(line: QuestionLine) -> Recalled:
    found = routed(line)
    assert isinstance(found, Recalled), found
    return found


def test_what_comes_from_the_path_and_the_principal_is_read_anew() -> None:
    found = asked(denied(path="/notes/9", attributes=NOTE))
    (one,) = found.resources
    assert (one.kind, one.id, one.action) == ("note", "9", "read")
    assert one.attributes == {"owner": "bob", "by": "alice"}
    assert not found.allowed


def test_what_was_left_out_and_is_known_is_put_in() -> None:
    line = question(path="/notes/9", attributes={}, redacted=("resource.owner",), owner=("owner",))
    assert asked(line).resources[0].attributes == {"owner": "alice", "by": "alice"}


def test_a_handshake_and_a_head_are_what_they_were() -> None:
    assert asked(question(path="/notes/9", method="WS", attributes=NOTE)).resources[0].action == "listen"
    assert asked(question(path="/notes/9", method="HEAD", attributes=NOTE)).resources[0].action == "read"


@pytest.mark.parametrize(
    ("line", "before", "now"),
    [
        (question(path="/public"), True, True),
        (denied(path="/public"), False, True),
        (denied(path="/me"), False, True),
        (unasked("route_unmapped", path="/me", principal=""), False, False),
        (question(path="/gone"), True, False),
        (question(path="/notes", method="DELETE"), True, False),
        (question(path="/notes", query=("page", "sort")), True, False),
        (question(asked=False, code="public", path="/gone", principal=""), True, False),
    ],
)
def test_what_the_routes_alone_decide(line: QuestionLine, before: bool, now: bool) -> None:
    found = routed(line)
    assert isinstance(found, Settled)
    assert (found.before, found.allowed) == (before, now)


def test_names_of_the_query_that_are_allowed_pass() -> None:
    assert asked(question(path="/notes", query=("page", "filter.x"), attributes={})).resources[0].action == "list"


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (question(path="/notes/9", attributes={}), SkipReason.REROUTED, "resource.owner"),
        (question(path="/notes/9", method="PUT", attributes=NOTE), SkipReason.REROUTED, "resource.to"),
        (unasked("route_unmapped", path="/notes/9"), SkipReason.REROUTED, "resource.owner"),
        (unasked("route_unmapped", path="/docs"), SkipReason.REROUTED, "{query.id}"),
        (unasked("token_missing", principal="", path="/notes"), SkipReason.NO_PRINCIPAL, "token_missing"),
        (unasked("route_unmapped", principal="", path="/notes"), SkipReason.NO_PRINCIPAL, "route_unmapped"),
        (denied(code="pdp_timeout", path="/notes/9"), SkipReason.UNDECIDED, "pdp_timeout"),
        (question(path="/archive", method="POST"), SkipReason.REROUTED, "one about many"),
        (question(path="/graphql", method="POST"), SkipReason.REROUTED, "a body that says what is asked"),
        (question(path="/notes/%2e%2e/x"), SkipReason.REROUTED, "target"),
    ],
)
def test_what_a_line_has_not_is_never_guessed(line: QuestionLine, reason: SkipReason, detail: str) -> None:
    found = routed(line)
    assert isinstance(found, Unreplayed), found
    assert found.reason is reason
    assert detail in found.detail


def test_an_id_from_elsewhere_is_the_recorded_one() -> None:
    assert asked(question(path="/docs", id="d-1", attributes={})).resources[0].id == "d-1"


def test_requests_about_many_are_asked_about_many() -> None:
    ids: Any = ({"id": "1", "allowed": True, "attributes": {"owner": "a"}}, {"id": "2", "allowed": True, "attributes": {"owner": "b"}})  # fmt: skip
    found = asked(question(path="/archive", method="POST", attributes=None, resources=ids))
    assert [(one.id, one.action, one.attributes) for one in found.resources] == [
        ("1", "archive", {"owner": "a"}), ("2", "archive", {"owner": "b"}),
    ]  # fmt: skip


def test_an_attribute_of_the_principal_that_was_not_recorded_is_not_guessed() -> None:
    text = ROUTES.replace(", optional: [level]", "")
    found = Rerouting(read_routes(text, "routes.yaml", {})).route(question(path="/notes", attributes={}))
    assert isinstance(found, Unreplayed)
    assert found.detail == "principal.level"
