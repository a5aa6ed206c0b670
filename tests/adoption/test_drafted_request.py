"""A recorded request, written again: what a route reads is where the route reads it."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.adoption.drafted_request import (
    SOMEBODY_ELSE,
    DraftedRequest,
    LoggedAttributes,
    Undraftable,
    nested,
    put_principal,
    put_resource,
)
from sidecar.config.routes.file import RoutesFile, read_routes
from sidecar.record.line import Decision, QuestionLine
from sidecar.study.explain import ask_named

TIME, ID = "2026-01-31T12:00:00.250+00:00", "8c9b1f1d4f0e4c0f9f3a6f0b5d1c2e3a"


def question(
    path: str = "/r", route: str = "/r", method: str = "POST", resource_id: str = "7", **more: Any
) -> QuestionLine:
    whole = {
        "outcome": "allow", "code": "allowed", "status": 200, "principal": "alice", "roles": ("user",), "kind": "contact",
        "action": "read", "asked": True, "attributes": {}, "principal_attributes": {}, **more,
    }  # fmt: skip
    return QuestionLine(
        TIME, ID, "enforce", method=method, host="localhost", path=path, route=route, id=resource_id, total_ms=1.0,
        weight=1, **whole,
    )  # fmt: skip


def decision(**more: Any) -> Decision:
    whole = {"kind": "contact", "id": "7", "action": "read", "roles": ("user",), **more}
    return Decision(
        TIME, ID, "enforce", "allow", "allowed", 200, "POST", "localhost", "/r", "/r", "alice", whole.pop("roles"),
        whole.pop("kind"), whole.pop("id"), whole.pop("action"), "", {}, 1.0, **whole,
    )  # fmt: skip


def routes_of(route: str, principal: str = "{id: username}", lookups: str = "{}", actions: str = "POST") -> RoutesFile:
    text = f"version: 1\nprincipal: {principal}\nlookups: {lookups}\nroutes: [{{resource: contact, actions: {{{actions}: read}}, {route}}}]"
    return read_routes(text, "routes.yaml", {})


def made_of(
    line: QuestionLine | Decision, routes: RoutesFile, *, own: bool = False, missing: bool = False
) -> tuple[DraftedRequest, LoggedAttributes]:
    made, told = DraftedRequest(line), LoggedAttributes(line, own=own)
    put_principal(made, line, routes.principal)
    ask = ask_named(routes.table, line.route, line.method)
    assert ask is not None
    put_resource(made, line, ask, routes, told, missing=missing)
    return made, told


def test_each_part_of_a_request_is_where_the_route_reads_it() -> None:
    routes = routes_of(
        'path: "/r/{id}", id: "{path.id}", attributes: {tenant: "{header.x-tenant}", page: "{query.page:int}", '
        'owner: "{body.doc.owner}", size: "{body.size:int}", fixed: text, mine: "{principal.id}", org: "{claims.org}", '
        'gone: "{header.x-gone?}"}'
    )
    attributes = {"tenant": "t", "page": 2, "owner": "bob", "size": 3, "fixed": "text", "mine": "alice", "org": "o"}
    made, told = made_of(question("/r/7", "/r/{id}", attributes=attributes), routes)
    assert (made.target, made.headers, made.body) == (
        "/r/7?page=2",
        {"x-tenant": "t"},
        {"doc": {"owner": "bob"}, "size": 3},
    )
    assert (made.claims, made.lookups, told.made_up) == (
        {"username": "alice", "cognito:groups": ["user"], "org": "o"}, {}, {}
    )  # fmt: skip


def test_a_form_is_written_where_the_route_reads_one() -> None:
    routes = routes_of(
        'path: /r, attributes: {owner: "{form.owner}", size: "{form.size:int}", tags: "{form.tags:list}", gone: "{form.gone?}"}'
    )
    line = question("/r", "/r", attributes={"owner": "bob", "size": 3, "tags": ["a", "b"]})
    made, _ = made_of(line, routes)
    assert (made.form, made.body) == ({"owner": ["bob"], "size": ["3"], "tags": ["a", "b"]}, None)


LOOKUPS = '{doc: {url: "http://h/{id}", attributes: {owner: account.owner, level: "level:int", note: note}, optional: [note], echo: key}}'


def test_a_lookup_tells_what_its_attributes_are_read_from() -> None:
    routes = routes_of('path: /r, id: "7", lookup: doc', lookups=LOOKUPS)
    made, told = made_of(question(attributes={"owner": "bob", "level": 4}), routes)
    assert made.lookups == {"doc": {"7": {"account": {"owner": "bob"}, "level": 4, "key": "7"}}}
    assert told.made_up == {}
    assert made_of(question(), routes, missing=True)[0].lookups == {"doc": {"7": "missing"}}


@pytest.mark.parametrize(("own", "owner"), [(True, "alice"), (False, SOMEBODY_ELSE)])
def test_what_the_log_leaves_out_is_made_up_and_named(own: bool, owner: str) -> None:
    routes = routes_of('path: /r, id: "7", lookup: doc', lookups=LOOKUPS)
    whole = {"account": {"owner": owner}, "level": 0, "note": owner, "key": "7"}
    made, told = made_of(decision(), routes, own=own)
    assert (made.lookups["doc"]["7"], list(told.made_up)) == (whole, ["owner", "level", "note"])
    redacted = question(redacted=("resource.owner", "resource.level"), owner=("owner",))
    made, told = made_of(redacted, routes, own=own)
    assert made.lookups["doc"]["7"] == {"account": {"owner": "alice"}, "level": 0, "key": "7"}
    assert list(told.made_up) == ["level"]


@pytest.mark.parametrize(("principal", "owner", "level"), [("somebody-else", "1", 0), ("0", "somebody-else", 1)])
def test_what_is_made_up_of_another_is_not_the_principal(principal: str, owner: str, level: int) -> None:
    routes = routes_of('path: /r, id: "7", lookup: doc', lookups=LOOKUPS)
    redacted = question(redacted=("resource.owner", "resource.level"), principal=principal)
    for own in (True, False):
        made, told = made_of(redacted, routes, own=own)
        assert made.lookups["doc"]["7"] == {"account": {"owner": owner}, "level": level, "key": "7"}
        assert list(told.made_up) == ["owner", "level"]


def test_of_many_resources_each_may_be_the_principal_s() -> None:
    routes = routes_of('path: /r, each: {at: "{body.list}", id: "id", attributes: {owner: owner}}')
    line = question(attributes=None, redacted=("resource.owner",), resources=({"id": "1", "allowed": True},))
    assert made_of(line, routes, own=True)[0].body == {"list": [{"id": "1", "owner": "alice"}]}


def test_what_path_and_principal_give_is_not_made_up() -> None:
    routes = routes_of(
        'path: "/r/{id}", id: "-", attributes: {parent: "{path.id}", mine: "{principal.id}", both: "{path.id}-{principal.id}", '
        'org: "{claims.org}"}'
    )
    names = tuple(f"resource.{name}" for name in ("parent", "mine", "both", "org"))
    made, told = made_of(question("/r/7", "/r/{id}", redacted=names), routes)
    assert list(told.made_up) == ["org"]
    assert made.claims["org"] == SOMEBODY_ELSE


def test_a_principal_is_made_of_claims() -> None:
    principal = '{id: sub, roles: [groups, more], attributes: {level: {claim: "custom:level", type: int}, mail: mail}, optional: [mail]}'
    routes = routes_of('path: /r, id: "7"', principal)
    made, _ = made_of(question(principal_attributes={"level": 3}), routes)
    assert made.claims == {"groups": ["user"], "custom:level": 3}
    with pytest.raises(Undraftable, match=r"principal's attribute level: list principal\.level in"):
        made_of(question(redacted=("principal.level",)), routes)
    with pytest.raises(Undraftable, match="attribute mail"):
        made_of(question(principal_attributes={"level": 3}, redacted=("principal.mail",)), routes)
    with pytest.raises(Undraftable, match="attribute level"):
        made_of(decision(), routes)


@pytest.mark.parametrize(
    ("each", "resources", "body", "target"),
    [
        ('{at: "{body.ids}", id: "@", lookup: doc}', ["1", "x"], {"ids": ["1", "x"]}, "/r"),
        ('{at: "{body.list}", id: "key:int", attributes: {owner: owner}}', ["1", "2"],
         {"list": [{"key": 1, "owner": "bob"}, {"key": 2, "owner": "bob"}]}, "/r"),
        ('{at: "{query.id}", id: "@"}', ["1", "2"], None, "/r?id=1&id=2"),
        ('{at: "{query.id}", separator: ",", id: "@"}', ["1", "2"], None, "/r?id=1%2C2"),
    ],
)  # fmt: skip
def test_a_request_about_many_names_them_all(each: str, resources: list[str], body: Any, target: str) -> None:
    routes = routes_of(f"path: /r, each: {each}", lookups='{doc: {url: "http://h/{id}", attributes: {owner: owner}}}')
    told = tuple({"id": one, "allowed": True, "attributes": {"owner": "bob"}} for one in resources)
    made, _ = made_of(question(attributes=None, resources=told), routes)
    assert (made.body, made.target) == (body, target)
    assert made.lookups == ({"doc": {one: {"owner": "bob"} for one in resources}} if "lookup" in each else {})


def test_what_cannot_be_turned_round_is_told() -> None:
    for route, line, reason in (
        ('path: /r, id: "{body.a}-{body.b}"', question(), "`id` is made of several parts"),
        ('path: /r, id: "{body.ids[0]}"', question(), r"`body.ids\[0\]` is read by 'ids\[0\]', which cannot be turned round"),
        ('path: /r, id: "{body.a}", attributes: {b: "{body.a.b}"}', question(attributes={"b": "1"}), "two values"),
        ('path: /r, each: {at: "{body.ids}", id: "@"}', decision(each={"asked": 40, "ids": ["1"]}), "does not have all"),
        ('path: /r, each: {at: "{body.ids}", id: "@"}', question(), "does not have all"),
        ('path: /r, id: "7"', decision(roles_cut=3), "leaves out 3 roles"),
    ):  # fmt: skip
        with pytest.raises(Undraftable, match=reason):
            made_of(line, routes_of(route))


def test_a_request_whose_body_says_what_is_asked_is_left_out() -> None:
    text = "version: 1\nroutes: [{path: /r, resource: contact, graphql: {Query.a: read}}]"
    with pytest.raises(Undraftable, match="its body says what is asked"):
        made_of(question(route="/r", method="POST"), read_routes(text, "routes.yaml", {}))


def test_a_document_grows_by_paths() -> None:
    assert nested(nested({"a": 1}, ("b", "c"), 2), ("b", "d"), 3) == {"a": 1, "b": {"c": 2, "d": 3}}
    assert nested(None, (), [1]) == [1]
    assert nested({"a": 1}, ("a",), 1) == {"a": 1}
    with pytest.raises(Undraftable):
        nested({"a": 1}, ("a",), 2)
