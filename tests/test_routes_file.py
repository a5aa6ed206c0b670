"""`routes.yaml` -> routes and lookups; every fault with file, line and column."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sidecar.gate.lookup import Missing, ResourceField
from sidecar.gate.request import Oddity
from sidecar.gate.routing import Access
from sidecar.routes_file import RoutesError, RoutesFile, json_schema, read_routes

ROOT = Path(__file__).parent.parent
WHOLE = """\
version: 1
identity:                        # optional: several trusted issuers; without it the environment names one pool
  - {region: eu-west-1, user_pool_id: eu-west-1_AbC, client_ids: [web, m2m], token_use: [access]}
principal:                       # claims -> Cerbos principal
  id: sub
  roles: "cognito:groups"        # a claim name, or a list of them
  attributes: {email: email, department: "custom:department", scopes: scope}
lookups:
  contact:
    url: "http://127.0.0.1:9000/internal/contacts/{id}"
    attributes: {owner: owner_id, tenant: account.tenant}
    timeout: 300ms
    cache: 2s
    missing: deny
    optional: [tenant]
defaults: {roles: [], access: deny, max_body: 1MiB}
routes:
  - {path: /healthz, access: public}
  - {path: "/static/**", access: public}
  - {path: /me, access: authenticated, methods: [GET, PUT]}
  - path: /contacts
    resource: contact
    actions: {GET: list, POST: create}
  - path: /contacts/{id}
    resource: contact
    id: "{path.id}"
    attributes: {tenant: "{header.x-tenant}"}
    lookup: contact
    actions: {GET: read, PUT: update, PATCH: update, DELETE: delete}
"""


def read(text: str, environ: dict[str, str] | None = None) -> RoutesFile:
    return read_routes(text, "routes.yaml", environ or {})


def faults(text: str) -> list[str]:
    with pytest.raises(RoutesError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


def one_route(route: str, more: str = "") -> str:
    return f"version: 1\n{more}routes:\n  - {route}\n"


def test_the_whole_grammar_is_read() -> None:
    file = read(WHOLE)
    route = file.table.find(("contacts", "7"))
    assert route is not None
    assert (route.kind, route.lookup, route.actions["PATCH"]) == ("contact", "contact", "update")
    lookup = file.lookups["contact"]
    assert lookup.origin == "http://127.0.0.1:9000"
    assert lookup.target == ("/internal/contacts/", ResourceField.ID)
    assert (lookup.timeout, lookup.cache, lookup.missing, lookup.optional) == (0.3, 2.0, Missing.DENY, {"tenant"})
    assert file.principal.attributes["department"] == "custom:department"
    assert file.identities[0].client_ids == ("web", "m2m")
    healthz = file.table.find(("healthz",))
    assert healthz is not None
    assert healthz.access is Access.PUBLIC
    assert dict(healthz.actions) == {"GET": ""}


def test_decisions_are_remembered_only_where_the_file_says_so() -> None:
    route = "{path: /x, resource: r, actions: {GET: read}}"
    assert read(one_route(route)).decisions() is None
    assert read(one_route(route, "cache: {}\n")).decisions() is None
    assert read(one_route(route, "cache: {decisions: 0s}\n")).decisions() is None
    cache = read(one_route(route, "cache: {decisions: 1500ms}\n")).decisions()
    assert cache is not None
    assert cache.seconds == 1.5


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("cache: {decisions: 61s}", "routes.yaml:2:20: cache.decisions: found '61s', expected at most 60s"),
        ("cache: {decisions: 1}", "routes.yaml:2:20: "),
        ("cache: {decisions: -1s}", "routes.yaml:2:20: "),
        ("cache: {denials: 1s}", "cache: found the name 'denials'"),
        ("cache: 1s", "routes.yaml:2:8: "),
    ],
)
def test_a_cache_that_is_none_is_refused_with_its_place(more: str, says: str) -> None:
    with pytest.raises(RoutesError) as caught:
        read(one_route("{path: /x, resource: r, actions: {GET: read}}", more + "\n"))
    assert says in str(caught.value)


def test_what_is_left_out_has_a_safe_default() -> None:
    file = read(
        one_route(
            "{path: /x, resource: r, actions: {GET: read}}",
            "lookups: {l: {url: 'http://h/{id}', attributes: {a: b}}}\n",
        )
    )
    lookup = file.lookups["l"]
    assert (lookup.timeout, lookup.cache, lookup.missing, lookup.optional, lookup.bearer) == (
        1.0,
        0,
        "deny",
        frozenset(),
        "",
    )
    assert file.principal.id == "sub"
    assert file.principal.roles == ("cognito:groups",)
    assert file.table.find(("nowhere",)) is None


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
        ("{path: /x, resource: r, actions: {FETCH: a}}", "found the method 'FETCH'"),
        ("{path: /x, resource: r, actions: {get: a}}", "found the name 'get', expected a method"),
        ("{path: /x, resource: r, actions: {GET: a, HEAD: b}}", "HEAD is decided as GET"),
        ("{path: /x, resource: r, actions: {GET: a}, id: '{path.id}'}", "expected a variable of the path: none"),
        ("{path: '/{x}', resource: r, actions: {GET: a}, id: '{path.id}'}", "expected a variable of the path: x"),
        ("{path: /x, resource: r, actions: {GET: a}, id: '{cookie.id}'}", "expected one of {path.…}"),
        ("{path: /x, resource: r, actions: {GET: a}, id: '{path.id'}", "found a lone brace"),
        ("{path: /x, resource: r, actions: {GET: a}, id: '{body.id}'}", "whose methods have no body"),
        ("{path: /x, resource: r, actions: {POST: a}, id: '{body.[}'}", "expected a JMESPath expression"),
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


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://{host}/owner", "without {values}"),
        ("http://hook/{id}/../admin", "without dot segments"),
        ("file:///x", "expected http(s)://host:port/path"),
        ("ftp://h/x", "expected http(s)://host:port/path"),
        ("http://169.254.169.254/{id}", "no link-local address"),
        ("http://[fe80::1]/{id}", "no link-local address"),
        ("http://user:pass@hook/{id}", "no user and password"),
        ("http://hook/{id}#x", "without a fragment"),
        ("http://ho ok/{id}", "expected http(s)://host:port"),
        ("http://hook/a b", "expected visible ASCII"),
        ("http://hook:port/{id}", "expected http(s)://host:port"),
        ("http://hook/{nope}", "expected one of {path.…}"),
        ("http://hook/{id", "found a lone brace"),
        ("http://hook", "expected http(s)://host:port/path"),
    ],
)
def test_a_hook_whose_host_could_move_is_refused(url: str, says: str) -> None:
    (fault,) = faults(f"version: 1\nlookups:\n  l: {{url: '{url}', attributes: {{a: b}}}}\nroutes: []\n")
    assert fault.startswith("routes.yaml:3:12: ")
    assert says in fault


def test_a_lookup_may_use_a_reference_that_all_its_routes_have() -> None:
    lookups = "lookups: {l: {url: 'http://h/{path.org}/{id}?t={claims.sub}', attributes: {a: 'b:list', c: d}}}\n"
    good = read(one_route("{path: '/{org}', resource: r, actions: {GET: a}, lookup: l}", lookups))
    assert [str(part) for part in good.lookups["l"].target] == ["/", "path.org", "/", "id", "?t=", "claims.sub"]
    (fault,) = faults(one_route("{path: '/x', resource: r, actions: {GET: a}, lookup: l}", lookups))
    assert "found {path.org}, expected a variable of the path: none" in fault


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


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("{client_ids: [a]}", "expected either region and user_pool_id, or issuer"),
        ("{region: eu-west-1, client_ids: [a]}", "expected both region and user_pool_id"),
        ("{issuer: 'https://i', client_ids: [a]}", "without jwks_url"),
        ("{issuer: 'https://i', jwks_url: 'https://k', region: eu-west-1, client_ids: [a]}", "expected either"),
        ("{issuer: 'https://i', jwks_url: 'https://k', client_ids: []}", "expected at least 1"),
        ("{issuer: 'https://i', jwks_url: 'http://k.example/jwks', client_ids: [a]}", "only a loopback host"),
        ("{issuer: 'https://i', jwks_url: 'http://127.0.0.1.evil.test/', client_ids: [a]}", "only a loopback host"),
        ("{issuer: 'https://i', jwks_url: 'https://u:p@k', client_ids: [a]}", "expected an https URL"),
        ("{issuer: 'https://i', jwks_url: 'https://k'}", "found no 'client_ids'"),
        (
            "{region: eu-west-1, user_pool_id: eu-west-1_A, client_ids: [a], token_use: [refresh]}",
            "expected access or id",
        ),
    ],
)
def test_an_identity_must_be_whole(entry: str, says: str) -> None:
    assert says in "\n".join(faults(f"version: 1\nidentity: [{entry}]\nroutes: []\n"))


def test_default_allow_is_refused() -> None:
    (fault,) = faults("version: 1\ndefaults: {access: public}\nroutes: []\n")
    assert fault == "routes.yaml:2:20: defaults.access: found text 'public', expected deny or authenticated"
    file = read("version: 1\ndefaults: {access: authenticated, roles: guest}\nroutes: []\n")
    assert file.principal.default_roles == ("guest",)
    assert file.table.find(("x",)) is None


def test_all_faults_of_a_file_are_told_at_once_in_order() -> None:
    text = one_route("{path: x, when: y}", "wat: 1\n").replace("version: 1", "version: 2")
    lines = [fault.split(":")[1] for fault in faults(text)]
    assert lines == sorted(lines)
    assert len(lines) >= 4


def test_what_is_not_a_mapping_is_a_fault() -> None:
    assert faults("- a") == ["routes.yaml:1:1: found a list, expected a mapping"]


def test_a_hooks_token_comes_from_the_environment() -> None:
    text = "version: 1\nlookups: {l: {url: 'http://h/{id}', attributes: {a: b}, bearer_env: HOOK_TOKEN, echo: id}}\nroutes: []\n"
    lookup = read(text, {"HOOK_TOKEN": "t0ken"}).lookups["l"]
    assert lookup.bearer == "t0ken"
    assert lookup.echo({"id": "7"}) == "7"
    (fault,) = faults(text)
    assert "the variable HOOK_TOKEN holds no token" in fault


def test_allow_and_cors_are_read() -> None:
    route = "{path: '/{x:any}', resource: r, actions: {GET: a, WS: sub}, allow: encoded_slash, recheck: 30s, cors: {origins: ['https://a.b:8443'], credentials: true}}"
    (read_route,) = read(one_route(route)).table.routes
    assert read_route.allow == {Oddity.ENCODED_SLASH}
    assert read_route.recheck == 30.0
    assert read_route.cors is not None
    assert read_route.cors.methods == ("GET",)
    assert read_route.cors.credentials is True


def schema_takes(document: Any) -> bool:
    validator = jsonschema.Draft202012Validator(json_schema())
    return bool(validator.is_valid(document))


def test_the_schema_in_the_repository_is_that_of_the_code() -> None:
    assert json.loads((ROOT / "docs/reference/routes.schema.json").read_text()) == json_schema()


def test_the_schema_takes_what_the_reader_takes_and_refuses_an_unknown_name() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert schema_takes(yaml.safe_load(WHOLE))
    assert schema_takes(yaml.safe_load((ROOT / "routes.yaml").read_text()))
    assert not schema_takes({"version": 1, "routes": [], "wat": 1})
    assert not schema_takes({"version": 1})


def test_the_routes_of_the_demo_have_no_fault() -> None:
    assert read((ROOT / "routes.yaml").read_text()).lookups
