"""`routes` of a route file -> routes of the gate."""

import pytest

from sidecar.gate.target import Oddity
from tests.config.routes.reading import faults, one_route, read


@pytest.mark.parametrize(
    ("route", "says"),
    [
        ("{path: x, access: public}", "expected a path that starts with '/'"),
        ("{path: /x}", "expected `resource` and `actions`, or `access`"),
        ("{path: /x, resource: r}", "found no 'actions'"),
        ("{path: /x, resource: r, actions: {GET: a}, methods: [GET]}", "expected `actions`"),
        ("{path: /x, access: public, resource: r}", "which asks no policy"),
        ("{path: /x, access: authenticated, lookup: l}", "which asks no policy"),
        ("{path: '/**', access: public}", "found everything made public"),
        ("{path: '/x/**', access: public, methods: [GET, POST]}", "found POST on a public wildcard"),
        ("{path: '/x/**/y', access: public}", "expected it as the last segment only"),
        ("{path: '/{a}/{a}', access: public}", "found {a} twice"),
        ("{path: '/{a:float}', access: public}", "expected int, uuid, slug or any"),
        ("{path: /a/../b, access: public}", "found the segment '..'"),
        ("{path: /a//b, access: public}", "found the segment ''"),
        ("{path: /x, access: open}", "expected authenticated or public"),
        ("{path: /x, resource: r, actions: {CONNECT: a}}", "found the method 'CONNECT', expected one of COPY, DELETE"),
        ("{path: /x, resource: r, actions: {TRACE: a, GET: b}}", "or another that is no tunnel and no echo"),
        ("{path: /x, access: authenticated, methods: [M_SEARCH]}", "found 'M_SEARCH', expected a method"),
        (
            "{path: '/users/:id', access: public}",
            "routes[0].path: found the segment ':id' in '/users/:id', did you mean '/users/{id}'?",
        ),
        (
            "{path: '/a/{x}.{y}', access: public}",
            "routes[0].path: found the segment '{x}.{y}', expected one variable in it",
        ),
        ("{path: /x, access: authenticated, cors: all}", "routes[0].cors: found text 'all', expected app or a mapping"),
        ("{path: /x, resource: r, actions: {get: a}}", "found the name 'get', expected a method"),
        ("{path: /x, resource: r, actions: {GET: a, HEAD: b}}", "HEAD is decided as GET"),
        ("{path: /x, resource: r, actions: {GET: a}, id: '{path.id}'}", "expected a variable of the path: none"),
        ("{path: '/{x}', resource: r, actions: {GET: a}, id: '{path.id}'}", "expected a variable of the path: x"),
        ("{path: /x, resource: r, actions: {GET: a}, id: '{cookie.id}'}", "expected one of {path.…}"),
        ("{path: /x, resource: r, actions: {GET: a}, id: '{path.id'}", "found a lone brace"),
        ("{path: /x, resource: r, actions: {GET: a}, id: '{body.id}'}", "on a method without a body"),
        ("{path: /x, resource: r, actions: {POST: a}, id: '{body.[}'}", "expected a JMESPath expression"),
        ("{path: /x, resource: r, actions: {POST: a}, id: '{body.lenght(a):int}'}", "did you mean length()?"),
        ("{path: /x, resource: r, actions: {POST: a}, id: '{body.abs(a, b):int}'}", "expected 1 argument"),
        ("{path: /x, resource: r, actions: {GET: a}, attributes: {a: ''}}", "found an empty text"),
        ("{path: /x, resource: r, actions: {GET: a}, lookup: nope}", "expected one of `lookups`: none"),
        ("{path: /x, resource: r, actions: {GET: a}, allow: [everything]}", "expected encoded_slash"),
        ("{path: /x, resource: r, actions: {GET: a}, max_body: 1MB}", "expected a size such as"),
        ("{path: /x, resource: r, actions: {GET: a}, recheck: 30s}", "without the action WS"),
        ("{path: '/{t}', resource: r, actions: {GET: a}, scope: '{path.t}'}", "found {path.t}, expected {claims"),
        ("{path: /x, resource: r, actions: {GET: a}, scope: 'x.{header.x-tenant}'}", "found {header.x-tenant}"),
        ("{path: /x, resource: r, actions: {POST: a}, scope: '{body.t}'}", "found {body.t}"),
        ("{path: /x, access: authenticated, scope: acme}", "asks no policy"),
        ("{path: /x, resource: r, actions: {GET: a}, cors: {origins: ['*']}}", "expected an origin"),
        ("{path: /x, resource: r, actions: {GET: a}, cors: {origins: []}}", "expected at least 1"),
        (
            "{path: /x, resource: r, actions: {GET: a}, cors: {origins: ['https://a.b'], methods: [PUT]}}",
            "methods that the route has",
        ),
        ("{path: /x, resource: r, actions: {GET: a}, when: admin}", "found the name 'when'"),
    ],
)
def test_a_route_that_cannot_be_meant_is_refused(route: str, says: str) -> None:
    text = "\n".join(faults(one_route(route)))
    assert says in text
    assert "routes.yaml:3:" in text


@pytest.mark.parametrize("first", ["/a/{x}", "/a/{y}", "/{p}/**", "/b/{i:int}", "/"])
def test_two_routes_for_the_same_paths_are_a_fault_that_names_both(first: str) -> None:
    second = first.replace("{x}", "{z}").replace("{y}", "{x}").replace("{p}", "{q}")
    text = f"version: 1\nroutes:\n  - {{path: '{first}', access: authenticated}}\n  - {{path: '{second}', access: authenticated}}\n"
    (fault,) = faults(text)
    assert f"names the same paths as '{first}' in line 3" in fault


def test_routes_that_only_overlap_are_no_fault() -> None:
    paths = ["/a/{x}", "/a/{x:int}", "/a/b", "/a/**", "/{y}/b", "/**"]
    routes = "".join(f"  - {{path: '{path}', access: authenticated}}\n" for path in paths)
    assert len(read(f"version: 1\nroutes:\n{routes}").table.routes) == 6


def test_allow_and_cors_are_read() -> None:
    route = "{path: '/{x:any}', resource: r, actions: {GET: a, WS: sub}, allow: encoded_slash, recheck: 30s, cors: {origins: ['https://a.b:8443'], credentials: true}}"
    (read_route,) = read(one_route(route)).table.routes
    assert read_route.allow == {Oddity.ENCODED_SLASH}
    assert read_route.recheck == 30.0
    assert read_route.cors is not None
    assert read_route.cors.methods == ("GET",)
    assert read_route.cors.credentials is True


def test_the_app_answers_preflights_where_the_route_says_so() -> None:
    (made,) = read(one_route("{path: /x, access: authenticated, cors: app}")).table.routes
    assert (made.cors, made.app_preflight) == (None, True)
    (other,) = read(one_route("{path: /x, access: authenticated, cors: {origins: ['https://a.b']}}")).table.routes
    assert (other.cors is not None, other.app_preflight) == (True, False)


def test_a_registered_method_is_taken_as_it_is_and_another_with_a_warning() -> None:
    found = read(one_route("{path: /x, resource: r, actions: {MKCALENDAR: a, REPORT: b, VERSION-CONTROL: c}}"))
    assert (found.table.routes[0].actions, found.warnings) == (
        {"MKCALENDAR": "a", "REPORT": "b", "VERSION-CONTROL": "c"},
        (),
    )
    (warning,) = read(one_route("{path: /x, access: authenticated, methods: [GET, GETT, WS]}")).warnings
    assert "routes[0].methods: found the method 'GETT', which is not registered" in str(warning)
    assert str(warning).endswith("did you mean 'GET'?")


def test_a_route_that_is_merged_says_the_rest_itself() -> None:
    text = """\
version: 1
routes:
  - &doc {path: /docs, resource: doc, query: [], actions: {GET: list}}
  - {<<: *doc, path: "/docs/{id:int}", id: "{path.id}", actions: {GET: read}}
  - {<<: *doc, path: "/docs/{id:int}.json", id: "{path.id}"}
"""
    made = read(text).table.routes
    assert [(route.name, route.actions, route.asks["GET"].kind) for route in made] == [
        ("/docs", {"GET": "list"}, "doc"), ("/docs/{id:int}", {"GET": "read"}, "doc"), ("/docs/{id:int}.json", {"GET": "list"}, "doc"),
    ]  # fmt: skip
    (fault,) = faults(text.replace(', path: "/docs/{id:int}.json", id: "{path.id}"', ""))
    assert fault.startswith("routes.yaml:3:17: routes[2].path: names the same paths as '/docs'")
