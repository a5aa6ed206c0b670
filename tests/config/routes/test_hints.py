"""Warnings of a route file."""

from __future__ import annotations

import pytest

from sidecar.config.routes.file import read_routes
from tests.config.routes.reading import one_route, read

LOOKUPS = """\
lookups:
  free: {url: 'http://h/{id}', attributes: {owner: owner}}
  echoing: {url: 'http://h/{id}', attributes: {owner: owner}, echo: id}
  other: {url: 'http://h/{path.id}', attributes: {owner: owner}}
  query: {url: 'http://h/?o={query.owner}', attributes: {owner: owner}}
"""


def warnings(route: str) -> list[str]:
    return [str(warning) for warning in read(one_route(f"{{{route}}}", LOOKUPS)).warnings]


@pytest.mark.parametrize(
    ("route", "methods", "names", "listed"),
    [
        ("path: /x, resource: r, actions: {GET: a}, attributes: {o: '{query.owner}'}", "GET /x", "owner", "owner, …"),
        ("path: /x, resource: r, actions: {GET: a, PUT: b}, id: '{query.owner}'", "GET, PUT /x", "owner", "owner, …"),
        ("path: /x, resource: r, actions: {GET: a}, lookup: query", "GET /x", "owner", "owner, …"),
        ("path: /x, resource: r, actions: {GET: a, POST: {action: b, attributes: {o: '{query.a?}', p: '{query.b:int}'}}}", "POST /x", "a, b", "a, b, …"),
        ("path: /x, resource: r, actions: {GET: a}, attributes: {o: '{query.owner}'}, set_query: {t: '{principal.id}'}", "GET /x", "owner, t", "owner, …"),
        ("path: /x, resource: r, actions: {GET: a}, set_query: {owner: '{principal.id}'}", "GET /x", "owner", "…"),
        ("path: /x, access: authenticated, set_query: {owner: '{principal.id}'}", "GET /x", "owner", "…"),
    ],
)  # fmt: skip
def test_a_rule_that_depends_on_an_open_query_is_told(route: str, methods: str, names: str, listed: str) -> None:
    (warning,) = warnings(route)
    assert warning == (
        f"routes.yaml:8:5: routes[0]: {methods}: the rule depends on the query ({names}), and a client may send every other parameter "
        f"too, expected `query: [{listed}]` with all that the app needs, or `query: any`"
    )


@pytest.mark.parametrize(
    "route",
    [
        "path: /x, resource: r, actions: {GET: a}",
        "path: /x, resource: r, actions: {GET: a}, query: any, attributes: {o: '{query.owner}'}",
        "path: /x, resource: r, actions: {GET: a}, query: [owner], attributes: {o: '{query.owner}'}",
        "path: /x, resource: r, actions: {GET: {action: a, query: any}}, attributes: {o: '{query.owner}'}",
        "path: '/{id}', resource: r, id: '{path.id}', actions: {GET: a}",
        "path: '/{id:int}', resource: r, id: '{path.id}', lookup: free, actions: {GET: a}",
        "path: '/{id:uuid}', resource: r, id: '{path.id}', lookup: free, actions: {GET: a}",
        "path: '/{id:slug}', resource: r, id: '{path.id}', lookup: free, actions: {GET: a}",
        "path: '/{id}', resource: r, id: '{path.id}', lookup: echoing, actions: {GET: a}",
        "path: '/{id}', resource: r, id: 'me', lookup: other, actions: {GET: a}",
        "path: '/{id}', resource: r, id: '{path.id:int}', lookup: free, actions: {GET: a}",
        "path: /x, resource: r, id: '{principal.id}', lookup: free, actions: {GET: a}",
        "path: /x, resource: r, id: '{query.id:int}', query: [id], lookup: free, actions: {GET: a}",
        "path: /x, resource: r, id: '{claims.sub}', lookup: free, actions: {GET: a}",
    ],
)  # fmt: skip
def test_nothing_is_told_where_nothing_is_left_open(route: str) -> None:
    assert warnings(route) == []


@pytest.mark.parametrize(
    ("route", "place", "narrower"),
    [
        ("path: '/{id}', resource: r, id: '{path.id}', lookup: free, actions: {GET: a}", "GET /{id}: {path.id}", "{id:int}"),
        ("path: '/{id:any}', resource: r, id: 'x-{path.id}', lookup: free, actions: {GET: a}", "GET /{id:any}: {path.id}", "{id:int}"),
        ("path: /x, resource: r, id: '{query.id}', query: [id], lookup: free, actions: {GET: a}", "GET /x: {query.id}", "{query.id:int}"),
        ("path: /x, resource: r, id: '{query.id:number}', query: [id], lookup: free, actions: {GET: a}", "GET /x: {query.id}", "{query.id:int}"),
        ("path: /x, resource: r, id: '{header.x-id}', lookup: free, actions: {GET: a}", "GET /x: {header.x-id}", "{header.x-id:int}"),
        ("path: /x, resource: r, id: '{body.id}', lookup: free, actions: {POST: a}", "POST /x: {body.id}", "{body.id:int}"),
    ],
)  # fmt: skip
def test_an_id_that_has_several_spellings_is_told(route: str, place: str, narrower: str) -> None:
    (warning,) = warnings(route)
    assert f"{place} takes `07`, `+7` and `7.0`" in warning
    assert f"expected `{narrower}`, or `echo` in lookups.free" in warning
    assert warning.startswith("routes.yaml:8:")


def test_an_id_that_the_lookup_takes_from_the_path_is_told_too() -> None:
    (warning,) = warnings("path: '/{id}', resource: r, id: '{path.id}', lookup: other, actions: {GET: a}")
    assert "expected `{id:int}`, or `echo` in lookups.other" in warning


@pytest.mark.parametrize(("kind", "count"), [("int", 0), ("uuid", 0), ("string", 1)])
def test_an_id_that_a_statement_takes_in_one_spelling_is_not_told(kind: str, count: int) -> None:
    text = (
        f"version: 1\nlookups: {{doc: {{sql: 'select o from docs where id = :id', database: DOCS_URL, "
        f"parameters: {{id: '{{id:{kind}}}'}}, attributes: {{owner: o}}}}}}\n"
        "routes: [{path: '/{id}', resource: r, id: '{path.id}', lookup: doc, actions: {GET: a}}]\n"
    )
    found = read_routes(text, "routes.yaml", {"DOCS_URL": "postgresql://db/app"})
    assert len(found.warnings) == count


LIST = "path: /x, resource: r, actions: {GET: list, POST: create}"


@pytest.mark.parametrize(
    ("route", "methods", "fields"),
    [
        (f"{LIST}, items: {{at: '@', id: id, fields: {{phone: call, a.b: see}}}}", "GET", "phone, a.b"),
        ("path: /x, resource: r, actions: {GET: read, PATCH: update}, fields: {phone: call}", "GET", "phone"),
        ("path: /x, resource: r, actions: {GET: {action: read, fields: {phone: call}}}", "GET", "phone"),
    ],
)
def test_a_hidden_field_that_may_be_searched_is_told(route: str, methods: str, fields: str) -> None:
    (warning,) = warnings(route)
    assert (
        f"{methods} /x: a client may send every parameter, and one that searches all fields finds what is hidden ({fields})"
        in warning
    )
    for said in ("any", "[]", "[page]"):
        assert warnings(f"{route}, query: {said}") == []


def test_numbers_of_pages_that_nothing_names_are_told() -> None:
    route = f"{LIST}, query: [q, 'PAGE'], items: {{at: data"
    for name in ("page", "_page", "per_page", "pageSize", "page-size", "limit", "$skip", "_next", "page[size]"):
        (warning,) = warnings(f"{route}, id: id}}".replace("PAGE", name))
        assert f"GET /x: the app gives pages ({name}), and most say with them how many there are" in warning
        assert "expected `total: […]`" in warning
    for more in (", total: meta.total", ", total: [header.x-count]", ", total: []"):
        assert warnings(f"{route}, id: id{more}}}".replace("PAGE", "page")) == []
    for other in ("homepage", "sort", "resize"):
        assert warnings(f"{route}, id: id}}".replace("PAGE", other)) == []
    assert warnings(f"{LIST}, query: [page], items: {{at: '@', id: id}}") == []
    assert warnings(f"{LIST}, query: [page], items: {{at: lines, id: id}}") == []
