"""`mcp` of a route with a `server`: what its methods ask, and what it cannot mean."""

from __future__ import annotations

import pytest

from sidecar.bodies.mcp import Mcp
from sidecar.gate.query import QueryRule
from sidecar.release.messages import MessagesRule
from tests.config.routes.reading import faults, one_route, read

LOOKUPS = """\
lookups:
  contact: {url: "http://h/{id}", attributes: {owner: o}, echo: id}
"""
ROUTE = """\
path: /mcp
    scope: "{claims.tenant}"
    mode: shadow
    max_body: 2MiB
    mcp:
      server: crm
      arguments: [amount]
      max: 7
      max_size: 1MiB
      tools: {delete_contact: {resource: contact, id: "{args.id}", lookup: contact, action: delete}}"""


def test_messages_say_what_is_asked_and_the_other_methods_are_about_the_server() -> None:
    (route,) = read(one_route(ROUTE, LOOKUPS)).table.routes
    assert set(route.asks) == {"POST", "GET", "HEAD", "DELETE"}
    post, get, delete = route.asks["POST"], route.asks["GET"], route.asks["DELETE"]
    assert isinstance(post.operations, Mcp)
    assert (post.operations.policy_arguments, post.max_body, post.query, str(post.mode)) == (
        frozenset(["amount"]), 2 * 1024**2, QueryRule(frozenset()), "shadow",
    )  # fmt: skip
    assert isinstance(post.answer, MessagesRule)
    assert post.answer.max_size == 1024**2
    assert {rule.max_items for rule in post.answer.lists.values()} == {7}
    assert [(ask.kind, ask.action, ask.answer is post.answer) for ask in (get, delete)] == [
        ("mcp_server", "listen", True),
        ("mcp_server", "connect", False),
    ]
    own = post.operations.tools["delete_contact"]
    assert (own.kind, own.action, own.lookups) == ("contact", "delete", ("contact",))
    asks = dict(route.questions)
    call = asks["POST mcp_tool call"]
    assert (call.kind, call.action, list(call.attributes)) == ("mcp_tool", "call", ["arguments"])
    assert all(ask.scope is not None for name, ask in asks.items() if "delete_contact" not in name)
    assert "POST mcp_tool delete_contact" in asks


def test_without_a_server_actions_say_what_is_asked() -> None:
    (route,) = read(one_route("path: /mcp\n    resource: a\n    actions: {POST: use}\n    mcp: {}")).table.routes
    assert {name: (ask.kind, ask.action) for name, ask in route.asks.items()} == {"POST": ("a", "use")}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("mcp: {server: a/b}", "mcp.server: found 'a/b', expected a name of letters"),
        ("mcp: {server: ''}\n    resource: a\n    actions: {POST: use}", "mcp.server: found ''"),
        ("mcp: {server: crm}\n    actions: {POST: use}", "actions: found it beside `mcp.server`"),
        ("mcp: {server: crm}\n    access: public", "access: found it beside `mcp.server`"),
        ("mcp: {server: crm}\n    resource: a", "resource: found it beside `mcp.server`"),
        ("mcp: {server: crm}\n    items: {at: a, id: b}", "items: found it beside `mcp.server`"),
        ("mcp: {server: crm}\n    graphql: {Query.a: {action: read, resource: a}}", "graphql: found it beside"),
        ("mcp: {server: crm}\n    query: any", "query: found `any`, expected names"),
        ("mcp: {server: crm}\n    scope: '{query.a}'", "scope: found {query.a}"),
        ("mcp: {server: crm, max: 0}", "mcp.max: found"),
        ("mcp: {server: crm, arguments: some}", "mcp.arguments: found"),
        ("mcp: {server: crm, tools: {a: {action: b}}}", "found no 'resource' for a"),
        ("mcp: {server: crm, tools: {a: {action: b, resource: c, id: '{body.id}'}}}", "found {body.id}"),
        ("mcp: {server: crm, tools: {a: {action: b, resource: c, lookup: d}}}", "found 'd'"),
        ("mcp: {arguments: all}\n    resource: a\n    actions: {POST: use}", "mcp.arguments: found it without `server`"),
        ("mcp: {tools: {}}\n    resource: a\n    actions: {POST: use}", "mcp.tools: found it without `server`"),
    ],
)  # fmt: skip
def test_what_it_cannot_mean_is_a_fault(more: str, says: str) -> None:
    found = faults(one_route(f"path: /mcp\n    {more}", LOOKUPS))
    assert any(says in fault for fault in found), found
