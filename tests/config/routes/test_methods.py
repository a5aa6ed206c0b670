"""Methods of a route: what each asks, and what none can mean."""

from __future__ import annotations

import pytest

from sidecar.gate.form import FormRule
from sidecar.gate.query import rule_of
from tests.config.routes.reading import faults, one_route, read

LOOKUPS = """\
lookups:
  file: {url: 'http://h/files/{id}', attributes: {owner: owner}, echo: id}
  folder: {url: 'http://h/folders/{body.folder}', attributes: {owner: owner}}
"""


def test_what_an_action_says_takes_the_place_of_what_the_route_says() -> None:
    route = """\
path: "/files/{id:int}"
    resource: file
    id: "{path.id}"
    lookup: file
    attributes: {tenant: "{claims.tenant}"}
    query: [page]
    max_body: 2KiB
    actions:
      GET: read
      PATCH: {action: move, attributes: {target: "{body.folder}"}, max_body: 1KiB}
      POST: {action: create, resource: note, id: "{claims.sub}", query: any, set_query: {owner: "{principal.id}"}, scope: "{claims.tenant}"}"""
    (made,) = read(one_route(route, LOOKUPS)).table.routes
    get, patch, post = made.asks["GET"], made.asks["PATCH"], made.asks["POST"]
    assert made.asks["HEAD"] is get
    assert made.actions == {"GET": "read", "PATCH": "move", "POST": "create"}
    assert (get.kind, get.lookup, list(get.attributes), get.query, get.max_body, get.needs_body) == (
        "file", ("file",), ["tenant"], rule_of(["page"], ()), 2048, False,
    )  # fmt: skip
    assert (patch.kind, patch.lookup, list(patch.attributes), patch.query, patch.max_body, patch.needs_body) == (
        "file", ("file",), ["target"], rule_of(["page"], ()), 1024, True,
    )  # fmt: skip
    assert (post.kind, post.lookup, post.query, post.needs_body) == ("note", ("file",), rule_of(None, ["owner"]), False)
    assert (post.id, post.scope) != (None, None)
    assert post.id.source == "{claims.sub}" if post.id else False


def test_a_lookup_whose_url_reads_the_body_needs_it() -> None:
    (made,) = read(one_route("{path: /x, resource: r, lookup: folder, actions: {POST: create}}", LOOKUPS)).table.routes
    assert made.asks["POST"].needs_body


def test_each_action_may_have_a_resource_of_its_own() -> None:
    route = "{path: /x, actions: {GET: {action: a, resource: r}, POST: {action: b, resource: s}}}"
    (made,) = read(one_route(route)).table.routes
    assert {method: ask.kind for method, ask in made.asks.items()} == {"GET": "r", "HEAD": "r", "POST": "s"}


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ("actions: {GET: list, POST: create}, resource: r, attributes: {owner: '{body.owner}'}", "routes[0].attributes: GET: found {body.owner} on a method without a body, expected it in an action that has one"),
        ("actions: {GET: list, DELETE: drop, PUT: p}, resource: r, id: '{body.id}'", "routes[0].id: GET, DELETE: found {body.id} on a method without a body"),
        ("actions: {WS: a, OPTIONS: b}, resource: r, id: '{body.id}'", "WS, OPTIONS: found {body.id}"),
        ("actions: {GET: list, POST: a}, resource: r, id: '{form.id}'", "routes[0].id: GET: found {form.id} on a method without a body, expected it in an action that has one: POST: {action: create, attributes: {owner: '{form.owner}'}}"),
        ("actions: {POST: a}, resource: r, id: '{form.id}', attributes: {o: '{body.o}'}", "routes[0].id: found {form.id} beside {body.o}, expected one of both: a body is a form or JSON"),
        ("actions: {POST: a}, resource: r, id: '{form.id}', lookup: folder", "routes[0].id: found {form.id} beside {body.folder}"),
        ("actions: {POST: a}, resource: r, id: '{form.id}', attributes: {o: '{form.id[o]}'}", "found {form.id} beside {form.id[o]}, expected one of both: some servers take them for one"),
        ("actions: {POST: a}, resource: r, id: '{form.id}', attributes: {o: '{query.ID}'}, query: [ID]", "found {form.id} beside {query.ID}"),
        ("actions: {POST: a}, resource: r, id: '{form.id}', set_query: {id: '{principal.id}'}", "found {form.id}, expected another name: `set_query` puts it into the query"),
        ("actions: {POST: a}, resource: r, id: '{form.id:list}'", "found {form.id:list}, expected a string"),
        ("actions: {POST: a}, resource: r, attributes: {a: '{form.a:bool}'}", "found {form.a:bool}, expected a string, number or int: form gives text"),
        ("actions: {POST: a}, resource: r, attributes: {a: '{form.a b}'}", "expected a name that form can have"),
        ("actions: {GET: {action: list, attributes: {o: '{body.o}'}}}, resource: r", "routes[0].actions.GET.attributes: GET: found {body.o}"),
        ("actions: {GET: list, POST: create}, resource: r, lookup: folder", "routes[0].lookup: GET: found {body.folder}"),
        ("actions: {GET: {resource: r}}", "found no 'action'"),
        ("actions: {GET: {action: a, resource: r}, POST: b}", "found no 'resource'"),
        ("actions: {GET: {action: a, methods: [GET]}}, resource: r", "found the name 'methods', expected one of action, resource"),
        ("actions: {GET: {action: a, id: '{path.id}'}}, resource: r", "routes[0].actions.GET.id: found {path.id}, expected a variable of the path: none"),
        ("actions: {GET: {action: a, lookup: nope}}, resource: r", "routes[0].actions.GET.lookup: found 'nope'"),
        ("actions: {POST: {action: a, scope: '{body.t}'}}, resource: r", "found {body.t}, expected {claims"),
        ("actions: {GET: a, HEAD: {action: a, id: x}}, resource: r", "HEAD is decided as GET"),
        ("actions: {GET: {action: a, max_body: 1MB}}, resource: r", "expected a size"),
        # the query
        ("actions: {GET: a}, resource: r, query: page", "found text 'page', expected any or a list"),
        ("actions: {GET: a}, resource: r, query: ['a&b']", "expected a parameter's name"),
        ("actions: {GET: a}, resource: r, query: [page], attributes: {o: '{query.owner}'}", "routes[0].query: found no 'owner', expected it: {query.owner} reads it"),
        ("actions: {GET: a}, resource: r, query: [page], attributes: {o: '{query.owner?}'}", "found no 'owner'"),
        ("actions: {GET: a}, resource: r, set_query: {'a[b]': x}", "expected a parameter's name of letters"),
        ("actions: {GET: a}, resource: r, set_query: {owner: '{query.owner}'}", "expected a string or int of {principal"),
        ("actions: {GET: a}, resource: r, set_query: {owner: '{header.x-a}'}", "expected a string or int of {principal"),
        ("actions: {POST: a}, resource: r, set_query: {owner: '{body.a}'}", "expected a string or int of {principal"),
        ("actions: {GET: a}, resource: r, set_query: {owner: '{claims.sub?}'}", "without '?'"),
        ("actions: {GET: a}, resource: r, set_query: {owner: '{principal.roles:list}'}", "expected a string or int"),
        ("actions: {GET: a}, resource: r, set_query: {owner: '{path.id}'}", "expected a variable of the path: none"),
        ("actions: {GET: a}, resource: r, set_query: {owner: x, Owner: y}", "two names that are one for some servers"),
        ("actions: {GET: a}, resource: r, set_query: {a.b: x, a_b: y}", "two names that are one for some servers"),
        ("actions: {GET: a}, resource: r, set_query: {owner: x}, attributes: {o: '{query.Owner}'}", "found {query.Owner}, expected another"),
        ("access: public, set_query: {owner: x}", "on a public route"),
        # values that are no text
        ("actions: {POST: a}, resource: r, id: '{body.a:json}'", "routes[0].id: found {body.a:json}, expected a string, number, int or bool"),
        ("actions: {GET: a}, resource: r, scope: '{principal.roles:list}'", "found {principal.roles:list}, expected a string"),
        # optional references
        ("actions: {GET: a}, resource: r, id: '{query.id?}'", "found {query.id?}, expected no '?'"),
        ("actions: {GET: a}, resource: r, scope: '{claims.t?}'", "found {claims.t?}, expected no '?'"),
    ],
)  # fmt: skip
def test_a_method_that_cannot_be_meant_is_refused(route: str, says: str) -> None:
    found = faults(one_route(f"{{path: /x, {route}}}", LOOKUPS))
    assert says in "\n".join(found)
    assert len(found) == len(set(found))


def test_an_optional_reference_has_no_place_in_a_hooks_url() -> None:
    (fault,) = faults("version: 1\nlookups: {l: {url: 'http://h/{query.a?}', attributes: {a: b}}}\nroutes: []\n")
    assert "only an attribute of a route may be left out" in fault


def test_a_query_is_for_every_route_and_parameters_are_set_where_somebody_is_known() -> None:
    routes = read(
        one_route(
            "{path: /a, access: public, query: [v]}\n  - {path: /b, access: authenticated, set_query: {o: '{principal.id}'}}"
        )
    ).table.routes
    assert routes[0].asks["GET"].query == rule_of(["v"], ())
    assert list(routes[1].asks["GET"].set_query) == ["o"]
    assert routes[1].asks["GET"].query == rule_of(None, ["o"], given=False)


def test_a_form_is_read_in_place_of_json() -> None:
    route = """\
path: /x
    resource: r
    id: "{form.contact[id]:int}"
    attributes: {tags: "{form.tags:list?}", page: "{query.page}"}
    query: [page]
    set_query: {tenant: "{principal.id}"}
    actions: {POST: create}"""
    (made,) = read(one_route(route)).table.routes
    assert not made.asks["POST"].needs_body
    assert made.asks["POST"].form == FormRule(frozenset(["contact[id]", "tags"]), frozenset(["page", "tenant"]))
    lookups = "lookups:\n  file: {url: 'http://h/{form.folder}', attributes: {owner: owner}}\n"
    (made,) = read(one_route("{path: /x, resource: r, lookup: file, actions: {POST: a}}", lookups)).table.routes
    assert made.asks["POST"].form == FormRule(frozenset(["folder"]), frozenset())
