"""`graphql` of a route: what it is read into, and what it cannot mean."""

from __future__ import annotations

import pytest

from sidecar.bodies.graphql import GraphQL
from sidecar.config.routes.grammar import json_schema
from sidecar.gate.codes import Code
from sidecar.gate.query import QueryRule
from sidecar.gate.verdict import Refused
from tests.config.routes.reading import faults, one_route, read

LOOKUPS = """\
lookups:
  contact: {url: "http://h/{id}", attributes: {owner: o}}
  echoed: {url: "http://h/{id}", attributes: {owner: o}, echo: id}
"""
ROUTE = """\
path: /graphql
    resource: contact
    attributes: {tenant: "{claims.tenant}"}
    mode: shadow
    graphql:
      max_fields: 3
      introspection: true
      directives: defer
      Query.contact: {id: "{args.id}", lookup: echoed, action: read}
      Query.contacts: list
      Mutation.pay: {resource: invoice, attributes: {sum: "{args.input.sum:number}"}, action: pay, scope: "{claims.s}"}"""


def test_each_root_field_has_a_question_and_post_takes_them() -> None:
    (route,) = read(one_route(ROUTE, LOOKUPS)).table.routes
    assert set(route.asks) == {"POST"}
    post = route.asks["POST"]
    assert isinstance(post.operations, GraphQL)
    assert (post.action, post.query, str(post.mode)) == ("", QueryRule(frozenset()), "shadow")
    asks = dict(route.questions)
    assert list(asks) == ["POST Query.contact", "POST Query.contacts", "POST Mutation.pay"]
    contact, contacts, pay = asks.values()
    assert (contact.kind, contact.action, contact.lookups, list(contact.attributes)) == (
        "contact",
        "read",
        ("echoed",),
        ["tenant"],
    )
    assert (contacts.kind, contacts.action, contacts.id, contacts.lookups) == ("contact", "list", None, ())
    assert (pay.kind, pay.action, list(pay.attributes), pay.scope is not None) == ("invoice", "pay", ["sum"], True)


def test_get_has_its_parameters_and_asks_queries_alone() -> None:
    text = one_route(ROUTE.replace("max_fields: 3", "get: true").replace("mode: shadow", "query: [trace]"), LOOKUPS)
    (route,) = read(text).table.routes
    assert set(route.asks) == {"POST", "GET", "HEAD"}
    names = frozenset((b"trace", b"query", b"variables", b"operationName", b"extensions"))
    assert route.asks["GET"].query == QueryRule(names)
    assert route.asks["POST"].query == QueryRule(frozenset((b"trace",)))
    assert [name for name, _ in route.questions if name.startswith("GET")] == [
        "GET Query.contact",
        "GET Query.contacts",
    ]
    post, get = (route.asks[method].operations for method in ("POST", "GET"))
    assert isinstance(post, GraphQL)
    assert isinstance(get, GraphQL)
    # what is remembered of a document is remembered for both
    assert post._reader is get._reader


def test_its_limits_are_those_of_the_reader() -> None:
    text = "path: /graphql\n    resource: c\n    graphql: {max_fields: 1, max_depth: 2, max_aliases: 1, max_tokens: 10, batch: 2, Query.a: read}"
    rule = read(one_route(text)).table.routes[0].asks["POST"].operations
    assert isinstance(rule, GraphQL)
    for text, why in (
        ("{a b}", "2 root fields"), ("{a{b{c}}}", "3 selections"), ("{x:a{y:b}}", "2 aliases"), ("{a(b:1,c:1)d}", "12 tokens"),
        ("{a@defer}", "@defer"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=why) as refused:
            rule._reader.calls([{"query": text}])
        assert refused.value.code is Code.BODY_INVALID
    with pytest.raises(Refused, match="__schema"):
        rule._reader.calls({"query": "{__schema{a}}"})


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ("graphql: {}", "routes[0].graphql: found no root field, expected such as Query.contact"),
        ("graphql: {introspection: true}", "found no root field"),
        ("graphql: [Query.a]", "routes[0].graphql: found a list, expected a mapping"),
        ("graphql: {Query.a: {action: read}}", "found no 'resource' for Query.a"),
        ("graphql: {Query.a: {resource: c}}", "found no 'action'"),
        ("graphql: {contact: {resource: c, action: read}}", "found the name 'contact', expected one of introspection, get, batch"),
        ("graphql: {max_dept: 3, Query.a: read}", "did you mean 'max_depth'"),
        ("graphql: {Contact.phone: read}", "found the name 'Contact.phone', expected Query.FIELD, Mutation.FIELD or Subscription.FIELD"),
        ("graphql: {query.a: read}", "expected Query.FIELD"),
        ("graphql: {Query.a.b: read}", "expected Query.FIELD"),
        ("graphql: {Query.__schema: read}", "expected Query.FIELD"),
        ("graphql: {Query.a: {action: read, items: {at: a, id: b}}}", "found the name 'items'"),
        ("graphql: {get: yes please, Query.a: read}", "routes[0].graphql.get: found text 'yes please'"),
        ("resource: c, graphql: {get: true, Mutation.a: pay}", "routes[0].graphql.get: found no root field of Query"),
        ("graphql: {batch: 51, Query.a: read}", "a whole number from 0 to 50"),
        ("graphql: {max_fields: 0, Query.a: read}", "a whole number from 1 to 100"),
        ("graphql: {directives: '@x', Query.a: read}", "a directive's name without @"),
        ("resource: c, graphql: {Query.a: read}, actions: {GET: read}", "routes[0].actions: found it beside `graphql`"),
        ("resource: c, graphql: {Query.a: read}, methods: [GET]", "routes[0].methods: found it beside `graphql`"),
        ("resource: c, graphql: {Query.a: read}, fields: {a: b}", "routes[0].fields: found it beside `graphql`"),
        ("resource: c, graphql: {Query.a: read}, items: {at: a, id: b}", "routes[0].items: found it beside `graphql`"),
        ("resource: c, graphql: {Query.a: read}, each: {at: '{body.ids}'}", "routes[0].each: found it beside `graphql`"),
        ("resource: c, graphql: {Query.a: read}, recheck: 1m", "routes[0].recheck: found it on a route without the action WS"),
        ("access: authenticated, graphql: {Query.a: read}", "routes[0].graphql: found it beside `access: authenticated`"),
        ("resource: c, graphql: {Query.a: read}, query: any", "routes[0].query: found `any`, expected names"),
        ("resource: c, graphql: {Query.a: read}, query: [v, Query]", "routes[0].query: found 'Query', by which servers take a document"),
        ("resource: c, graphql: {Query.a: read}, set_query: {operationName: '{claims.x}'}", "routes[0].set_query: found 'operationName'"),
        ("resource: c, graphql: {Query.a: {action: read, id: '{query.id}'}}", "found no `query`, expected `query: [id]`"),
        ("resource: c, graphql: {Query.a: {action: read, id: '{body.id}'}}", "expected {args.…}"),
        ("resource: c, graphql: {Query.a: {action: read, id: '{form.id}'}}", "expected {args.…}"),
        ("resource: c, graphql: {Query.a: {action: read, scope: '{args.id}'}}", "expected {claims.…} or {principal.…}"),
        ("resource: c, graphql: {Query.a: {action: read, id: '{args.id?}'}}", "expected no '?'"),
        ("resource: c, graphql: {Query.a: {action: read, id: '{path.id}'}}", "expected a variable of the path"),
        ("resource: c, graphql: {Query.a: {action: read, lookup: nope}}", "found 'nope', expected one of `lookups`"),
        ("resource: c, graphql: {Query.a: {action: read, lookup: {from: answer, attributes: {o: o}}}}", "found `from: answer`"),
        ("resource: c, id: '{args.id}', actions: {POST: read}", "found {args.id}, expected it in operations"),
    ],
)  # fmt: skip
def test_what_it_cannot_mean_is_told_with_its_place(route: str, says: str) -> None:
    text = one_route(f"{{path: /graphql, {route}}}", LOOKUPS)
    assert says in "\n".join(faults(text))


def test_an_id_with_several_spellings_is_hinted_at() -> None:
    route = "{path: /graphql, resource: c, graphql: {Query.a: {action: read, id: '{args.id}', lookup: contact}}}"
    (warning,) = read(one_route(route, LOOKUPS)).warnings
    assert "expected `{args.id:int}`, or `echo` in lookups.contact" in str(warning)
    assert read(one_route(route.replace("{args.id}", "{args.id:int}"), LOOKUPS)).warnings == ()


def test_the_schema_has_its_names() -> None:
    graphql = json_schema()["properties"]["routes"]["items"]["properties"]["graphql"]
    assert "introspection" in graphql["properties"]
    assert [name for name in graphql["patternProperties"] if "Mutation" in name]
    assert graphql["additionalProperties"] is False
