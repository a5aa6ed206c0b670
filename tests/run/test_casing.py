"""Cases go the whole way: the sidecar's server, doors, gate and a real Cerbos, with the demo's routes and policies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sidecar.run.casing import run_cases
from sidecar.run.errors import StartError
from sidecar.study.case_results import CaseResult, block
from sidecar.study.cases import read_cases
from tests.conftest import policies
from tests.stack import ROOT, binary
from tests.tokens import SESSION_SECRET

pytestmark = pytest.mark.usefixtures("embedded_shared", "one_key")

ENVIRON = {
    "SIDECAR_ROUTES": str(ROOT / "routes.yaml"), "SIDECAR_POLICIES": str(policies()),
    "SIDECAR_CERBOS_BINARY": str(binary()),
}  # fmt: skip
DEMO = """\
users:
  alice: {username: alice, "cognito:groups": [user], email: alice@example.com}
  admin: {username: root, "cognito:groups": [admin]}
lookups:
  contact:
    1: {id: 1, owner_id: alice, visibility: team}
    2: {id: 2, owner_id: bob, visibility: private}
    3: {id: 4}
    6: {status: 200}
    7: unavailable
    8: timeout
    9: missing
    10: 500
cases:
  - name: her own, with what the app is told
    user: alice
    request: GET /contacts/1
    headers: {Remote-User: eve}
    app: {body: {id: 1, phone: "12"}}
    expect:
      {status: 200, code: allowed, told: allowed, route: "/contacts/{id}", principal: alice, roles: [user], kind: contact, id: 1, action: read,
       policy: resource.contact.vdefault, fields: {shown: [phone], hidden: []},
       sent: {method: GET, target: /contacts/1, headers: {Remote-User: alice, X-Auth-Subject: alice, X-Forwarded-Email: alice@example.com, Authorization: []}}}
  - {name: another's, user: alice, request: GET /contacts/2, expect: {status: 403, code: denied_by_policy, sent: nothing}}
  - {name: another id than asked for, user: alice, request: GET /contacts/3, expect: {status: 503, code: lookup_mismatch}}
  - {name: the hook is down, user: alice, request: GET /contacts/7, expect: {status: 503, code: lookup_unavailable, headers: {Retry-After: 2}}}
  - {name: the hook is slow, user: alice, request: GET /contacts/8, expect: lookup_timeout}
  - {name: no such thing, user: alice, request: GET /contacts/9, expect: {status: 403, code: resource_missing, told: denied_by_policy}}
  - {name: the hook is broken, user: alice, request: GET /contacts/10, expect: lookup_status}
  - name: an admin, where the hook tells otherwise in one case
    user: admin
    request: DELETE /contacts/2
    lookups: {contact: {2: {id: 2, owner_id: alice}}}
    app: {status: 204}
    expect: {status: 204, code: allowed, action: delete}
  - name: a list
    user: alice
    request: GET /contacts
    app:
      headers: {X-Total-Count: 3}
      body:
        - {id: 1, owner_id: alice, visibility: private, phone: "1"}
        - {id: 2, owner_id: bob, visibility: team, phone: "2"}
        - {id: 3, owner_id: bob, visibility: private, phone: "3"}
    expect: {status: 200, items: {kept: [1, 2], hidden: [3], masked: {2: [phone]}}, headers: {X-Total-Count: 2}}
  - {name: a list that is none, user: alice, request: GET /contacts, app: {body: {no: list}}, expect: {status: 502, code: items_unreadable}}
  - {name: a change, user: alice, request: POST /contacts, body: {name: Ada}, app: {status: 201}, expect: {status: 201, action: create}}
  - {name: nobody, request: GET /contacts/1, expect: {status: 401, code: token_missing, headers: {WWW-Authenticate: 'Bearer error="invalid_token"'}}}
  - {name: a person who is not signed in, request: GET /contacts/1, headers: {Accept: text/html}, expect: {status: 401, headers: {Content-Type: text/html; charset=utf-8}}}
  - {name: no token at all, token: a.b.c, request: GET /contacts/1, expect: {status: 401, code: token_invalid}}
  - {name: a token that has ended, claims: {sub: a, username: alice, exp: 5}, request: GET /contacts/1, expect: token_expired}
  - {name: another app client, claims: {sub: a, username: alice, client_id: x}, request: GET /contacts/1, expect: token_invalid}
  - {name: no role, claims: {sub: a, username: alice}, request: GET /contacts/1, expect: {status: 403, code: no_roles}}
  - {name: no route, user: alice, request: GET /nothing, expect: {status: 403, code: route_unmapped}}
  - {name: no such method, user: alice, request: PUT /contacts, expect: {status: 405, headers: {Allow: "GET, HEAD, POST"}}}
  - {name: two readings, user: alice, request: GET /contacts/../hello, expect: {status: 400, code: target_ambiguous}}
  - {name: a query that is not allowed, user: alice, request: "GET /contacts/1?x=1", expect: query_not_allowed}
  - {name: a head, user: alice, request: HEAD /hello, app: {body: hello}, expect: {status: 200, code: authenticated, headers: {Content-Length: 5}}}
  - {name: a page of the sidecar's own, user: alice, request: GET /_sidecar/whoami, expect: {status: 200, sent: nothing}}
  - {name: a page for nobody, request: GET /_sidecar/whoami, expect: {status: 401, code: token_missing}}
  - {name: a host that is none, user: alice, request: GET /hello, headers: {Host: "a b"}, expect: {status: 400}}
  - {name: a lookup of which nothing is said, user: alice, request: GET /contacts/42, expect: {status: 503, code: lookup_unavailable}}
  - {name: an app of which nothing is said, user: alice, request: GET /contacts/1, expect: {code: allowed}}
"""
UNJUDGED = {
    "a lookup of which nothing is said": "it asks lookup contact for id 42, and says nothing about it: add it to `lookups`, or `missing`",
    "an app of which nothing is said": "its route judges the app's answer, and the case gives none: add `app`",
}
ROUTES = """\
version: 1
principal: {id: username, roles: "cognito:groups"}
lookups:
  contact: {url: "http://127.0.0.1:1/{id}", attributes: {owner: owner_id}, missing: hide, cache: 5s}
  several: {url: "http://127.0.0.1:1/?id={ids}", batch: true, attributes: {owner: owner_id}, missing: hide}
  team: {url: "http://127.0.0.1:1/team/{principal.id}", attributes: {owner: owner_id}}
cache: {decisions: 5s}
routes:
  - {path: /public, access: public}
  - {path: /budgeted, resource: contact, mode: {enforce: 100%, budget: {refusals: 1, principals: 2, within: 1h}}, actions: {GET: update}}
  - {path: /shadowed, resource: contact, mode: shadow, actions: {GET: update}}
  - {path: /form, access: authenticated, methods: [POST], cors: {origins: ["https://a.example"]}}
  - {path: /live, resource: contact, id: live, attributes: {owner: "{principal.id}"}, actions: {WS: update}}
  - {path: /of/team, resource: contact, id: x, lookup: team, actions: {GET: update}}
  - {path: "/contacts/{id}", resource: contact, id: "{path.id}", lookup: contact, actions: {GET: update}}
  - {path: /archive, resource: contact, each: {at: "{body.ids}", id: "@", lookup: contact}, actions: {POST: update}}
  - path: /pages
    resource: contact
    query: [page]
    actions: {GET: list}
    items: {at: data, id: id, action: update, attributes: {owner: owner_id}, push: {dialect: json-server}, refill: {pages: 2, next: next}}
  - {path: /listed, resource: contact, query: [], actions: {GET: list}, items: {at: "@", id: id, action: update, lookup: several}}
  - {path: /lines, resource: contact, query: [], actions: {GET: list}, items: {at: lines, id: id, action: update, attributes: {owner: owner_id}}}
  - path: /answered/{id}
    resource: contact
    id: "{path.id}"
    query: []
    lookup: {from: answer, attributes: {owner: owner_id}}
    actions: {GET: update}
"""
OTHERS = r"""
users: {alice: {username: alice, "cognito:groups": [user]}, bob: {username: bob, "cognito:groups": [user]}}
lookups: {contact: {1: {owner_id: alice}, 2: {owner_id: bob}}, several: {1: {owner_id: alice}, 2: {owner_id: bob}, 3: missing, 5: timeout}, team: {"*": {owner_id: alice}}}
cases:
  - {name: a socket, user: alice, request: WS /live, expect: {status: 101, code: allowed, id: live, sent: {method: GET}}}
  - {name: nobody's socket, request: WS /live, expect: {status: 401, sent: nothing}}
  - {name: a preflight, request: OPTIONS /form, headers: {Origin: "https://a.example", Access-Control-Request-Method: POST}, expect: {status: 204, code: preflight}}
  - {name: in shadow, user: alice, request: GET /shadowed, expect: {status: 200, outcome: shadow_refuse, code: denied_by_policy}}
  - {name: a refusal of a budget, user: bob, request: GET /budgeted, expect: {status: 403, outcome: refuse}}
  - {name: another one, user: alice, request: GET /budgeted, expect: {status: 403, outcome: refuse}}
  - {name: and one more, user: bob, request: GET /budgeted, expect: {status: 403, outcome: refuse}}
  - {name: enforced, user: bob, request: GET /of/team, expect: {outcome: refuse}}
  - {name: not changed, request: GET /public, app: {status: 304, headers: {ETag: '"x"'}}, expect: {status: 304, code: public}}
  - {name: a form, user: alice, request: POST /form, headers: {Content-Type: application/x-www-form-urlencoded}, body: a=b, expect: authenticated}
  - {name: all, user: alice, request: POST /archive, body: {ids: ["1"]}, expect: {status: 200, denied: []}}
  - {name: not all, user: alice, request: POST /archive, body: {ids: ["1", "2"]}, expect: {status: 404, told: resource_hidden, denied: [2]}}
  - {name: of the team, user: bob, request: GET /of/team, expect: {status: 403, code: denied_by_policy}}
  - {name: before, user: alice, request: GET /contacts/1, expect: allowed}
  - {name: "what one case is told, no other knows", user: alice, request: GET /contacts/1, lookups: {contact: {1: {owner_id: bob}}}, expect: {status: 404, code: denied_by_policy, told: resource_hidden}}
  - name: a page that is filled
    user: alice
    request: GET /pages
    app:
      - {body: {data: [{id: 1, owner_id: alice}, {id: 2, owner_id: bob}], next: "/pages?page=2"}}
      - {body: {data: [{id: 3, owner_id: alice}], next: null}}
    expect: {status: 200, items: {kept: [1, 3], hidden: [2]}, sent: {target: "/pages?owner_id=alice"}}
  - name: a page of which no further one is given
    user: alice
    request: GET /pages
    app: {body: {data: [{id: 2, owner_id: bob}], next: "/pages?page=2"}}
    expect: {items: []}
  - {name: a list that is looked up, user: alice, request: GET /listed, app: {body: [{id: 1}, {id: 2}, {id: 3}]}, expect: {items: {kept: [1], hidden: [2, 3]}}}
  - {name: a list whose lookup is late, user: alice, request: GET /listed, app: {body: [{id: 1}, {id: 5}]}, expect: {status: 503, code: lookup_timeout}}
  - {name: a list whose lookup is not told, user: alice, request: GET /listed, app: {body: [{id: 4}]}, expect: {status: 503}}
  - name: lines
    user: alice
    request: GET /lines
    app: {headers: {Content-Type: application/x-ndjson}, body: "{\"id\": 1, \"owner_id\": \"alice\"}\n{\"id\": 2, \"owner_id\": \"bob\"}\n"}
    expect: {status: 200, items: {kept: [1], hidden: [2]}}
  - name: lines that break off
    user: alice
    request: GET /lines
    app: {headers: {Content-Type: application/x-ndjson}, body: "{\"id\": 1, \"owner_id\": \"alice\"}\n{}\n"}
    expect: {status: 200}
  - {name: an answer that is released, user: alice, request: GET /answered/1, app: {body: {owner_id: alice}}, expect: {status: 200}}
  - {name: an answer that is not, user: alice, request: GET /answered/1, app: {body: {owner_id: bob}}, expect: {status: 403}}
"""
UNJUDGED_OTHERS = {
    "a list whose lookup is not told": "it asks lookup several for id 4, and says nothing about it: add it to `lookups`, or `missing`",
    "a page of which no further one is given": "it asks the app once more, GET /pages?page=2&owner_id=alice, and `app` has no further answer",
    "lines that break off": "the answer broke off",
}


def results_of(text: str, environ: Mapping[str, str], **flags: str) -> dict[str, CaseResult]:
    done: list[int] = []
    results = asyncio.run(run_cases(read_cases(text, "cases.yaml"), environ, flags, done.append))
    assert done == list(range(1, len(results) + 1))
    return {result.case.name: result for result in results}


def shown(results: Mapping[str, CaseResult], unjudged: Mapping[str, str]) -> list[str]:
    """The blocks of those that did not come out as expected, but for those that cannot be judged."""
    for name, fault in unjudged.items():
        assert (results[name].observed.faults, results[name].differences) == ((fault,), ()), block(results[name])
    return [block(result) for name, result in results.items() if not result.passed and name not in unjudged]


def test_the_demo_does_what_its_cases_say() -> None:
    assert shown(results_of(DEMO, ENVIRON), UNJUDGED) == []


def test_every_kind_of_route_is_gone_through(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(ROUTES)
    assert shown(results_of(OTHERS, ENVIRON, SIDECAR_ROUTES=str(tmp_path / "routes.yaml")), UNJUDGED_OTHERS) == []


def test_a_token_is_made_for_the_resource_that_is_asked(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text("""\
version: 1
principal: {id: username, roles: "cognito:groups"}
mcp_clients: [{client_id: not-the-cases-own, redirect_uris: "https://a.example/cb"}]
routes:
  - {path: /mcp, access: authenticated, methods: [POST], mcp: {resource: "https://a.example/mcp", scopes: [use]}}
  - {path: /other, access: authenticated}
""")
    cases = """\
users: {alice: {username: alice}}
cases:
  - {name: for it, user: alice, request: POST /mcp, app: {status: 200}, expect: {status: 200, sent: {headers: {Authorization: []}}}}
  - {name: for another, claims: {username: alice, aud: "https://b.example"}, request: POST /mcp, expect: token_invalid}
  - {name: for none, claims: {username: alice, aud: null}, request: POST /mcp, expect: token_invalid}
  - {name: without the scope, claims: {sub: a, username: alice, scope: other}, request: POST /mcp, expect: scope_missing}
  - {name: for it and elsewhere, claims: {username: alice, aud: "https://a.example/mcp"}, request: GET /other, expect: token_invalid}
  - {name: elsewhere, user: alice, request: GET /other, app: {status: 200}, expect: {status: 200}}
"""
    assert shown(results_of(cases, ENVIRON, SIDECAR_ROUTES=str(tmp_path / "routes.yaml")), {}) == []


def test_a_failure_tells_how_it_came_about() -> None:
    (result,) = results_of(DEMO.partition("cases:")[0] + """\
cases:
  - name: a list
    user: alice
    request: GET /contacts
    app: {body: [{id: 1, owner_id: bob, visibility: private}]}
    expect: {items: [1]}
""", ENVIRON).values()  # fmt: skip
    assert [(each.name, each.expected, each.found) for each in result.differences] == [("items.kept", "[1]", "[]")]
    why = list(result.observed.why)
    assert why[:5] == [
        "client     200",
        "request    GET /contacts",
        "route      /contacts, action list",
        "principal  alice",
        "resource   contact -",
    ]
    assert any(
        "item       1 " in line and "read: EFFECT_DENY" in line and "policy resource.contact" in line for line in why
    )
    assert why[-1] == "verdict    FORWARD allowed"


LOOKED_UP = """\
version: 1
principal: {id: username, roles: "cognito:groups"}
lookups: {doc: {url: "http://127.0.0.1:1/docs?id={ids}", batch: true, attributes: {owner: owner}}}
routes:
  - {path: /list, resource: contact, query: [], actions: {GET: list}, items: {at: "@", id: id, lookup: doc}}
"""


def test_a_list_whose_lookup_fails_is_told_by_what_the_client_gets(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(LOOKED_UP)
    (result,) = results_of("""\
users: {alice: {username: alice, "cognito:groups": [user]}}
lookups: {doc: {1: timeout}}
cases: [{name: a list, user: alice, request: GET /list, app: {body: [{id: 1}]}, expect: {items: [1]}}]
""", {**ENVIRON, "SIDECAR_ROUTES": str(tmp_path / "routes.yaml")}).values()  # fmt: skip
    why = result.observed.why
    assert why[0] == "client     503 lookup_timeout"
    assert why[-2:] == (
        "verdict    FORWARD allowed, and then lookup_timeout",
        "detail     lookups.doc: http_response_timeout: as the case says",
    )


LOGIN = {
    **ENVIRON, "AWS_REGION": "eu-west-1", "AWS_COGNITO_POOL_ID": "eu-west-1_X", "AWS_COGNITO_CLIENT_ID": "web",
    "AWS_COGNITO_DOMAIN": "https://login.example.com", "SIDECAR_SESSION_SECRET": SESSION_SECRET,
    "SIDECAR_HOSTS": "app.example.com",
}  # fmt: skip


def test_settings_are_those_of_production_but_for_where_it_runs() -> None:
    elsewhere = {
        "SIDECAR_LISTEN": "/nowhere", "SIDECAR_ADMIN_LISTEN": "x", "SIDECAR_DECISION_LOG": "/nowhere/at/all", "SIDECAR_MODE": "shadow",
        "SIDECAR_CERBOS": "cerbos:3593", "SIDECAR_TLS_CERTIFICATE": "/no", "SIDECAR_TLS_KEY": "/no", "SIDECAR_UPSTREAM": "https://app",
        "SIDECAR_UPSTREAM_CA": "/no", "SIDECAR_REDIS_URL": "redis://nowhere", "SIDECAR_TRACES": "otlp", "SIDECAR_WORKERS": "9",
        "SIDECAR_EXT_AUTHZ_LISTEN": "x", "SIDECAR_FORWARD_AUTH": "nginx", "SIDECAR_QUESTION_LOG": "/nowhere/at/all",
    }  # fmt: skip
    results = results_of(
        """\
cases:
  - {name: signs in, request: GET /hello, headers: {Accept: text/html}, expect: {status: 302, code: token_missing}}
  - {name: a program, request: GET /hello, expect: {status: 401}}
  - {name: another host, request: GET /hello, headers: {Host: other.example.com}, expect: {status: 421}}
""",
        {**LOGIN, **elsewhere},
    )
    assert shown(results, {}) == []
    location = dict(results["signs in"].observed.headers)[b"location"]
    assert location.startswith(b"/_sidecar/login?"), location


SOURCES = """\
version: 1
principal: {id: username, roles: "cognito:groups"}
upstreams: {crm: "http://127.0.0.1:8080"}
lookups:
  app: {upstream: "/api/{id}", as: principal, attributes: {owner: owner_id}}
  code: {function: "json:dumps", attributes: {owner: owner_id}, missing: hide}
routes:
  - {path: "/app/{id:int}", resource: contact, id: "{path.id}", query: [], lookup: app, upstream: crm, actions: {GET: delete}}
  - {path: "/code/{id:int}", resource: contact, id: "{path.id}", query: [], lookup: code, actions: {GET: delete}}
"""


def test_the_app_and_functions_are_asked_by_no_case(tmp_path: Path) -> None:
    """An app on the port where the sidecar listens without a setting is the app all the same."""
    (tmp_path / "routes.yaml").write_text(SOURCES)
    results = results_of(
        """\
users: {alice: {username: alice, "cognito:groups": [user]}}
lookups: {app: {1: {owner_id: alice}, 2: timeout}, code: {1: {owner_id: bob}, 2: missing}}
cases:
  - {name: hers, user: alice, request: GET /app/1, expect: {status: 200, sent: {target: /app/1}}}
  - {name: late, user: alice, request: GET /app/2, expect: {status: 503, code: lookup_timeout}}
  - {name: his, user: alice, request: GET /code/1, expect: {status: 404, code: denied_by_policy}}
  - {name: nobody's, user: alice, request: GET /code/2, expect: {status: 404, code: resource_hidden}}
""",
        {**ENVIRON, "SIDECAR_ROUTES": str(tmp_path / "routes.yaml")},
    )
    assert shown(results, {}) == []


WRONG: list[tuple[dict[str, str], str, list[str]]] = [
    ({"SIDECAR_PDP": "authzen+https://pdp"}, "{}", [
        "SIDECAR_PDP: found 'authzen+https://pdp', expected none: cases are run against Cerbos and the policies of SIDECAR_POLICIES; "
        "unset it for this command"]),
    ({"SIDECAR_POLICIES": "/nowhere", "SIDECAR_HOSTS": "a b"}, "{}", ["SIDECAR_HOSTS", "SIDECAR_POLICIES"]),
    ({}, "{contcat: {1: {}}}", [
        "cases.yaml:2:9: lookups: found 'contcat', expected one of contact, did you mean 'contact'?"]),
]  # fmt: skip


@pytest.mark.parametrize(("environ", "lookups", "problems"), WRONG)
def test_what_cannot_be_run_is_told_at_once(environ: dict[str, str], lookups: str, problems: list[str]) -> None:
    text = f"lookups: {lookups}\ncases: [{{name: a, request: GET /hello, expect: allowed}}, {{name: b, request: GET /, expect: allowed}}]"
    with pytest.raises(StartError) as caught:
        results_of(text, {**ENVIRON, **environ})
    found: list[Any] = list(caught.value.problems)
    assert [said[: len(problem)] for said, problem in zip(found, problems, strict=True)] == problems


BY_HOST = """\
version: 1
identity:
  - {region: eu-west-1, user_pool_id: eu-west-1_Crm, client_ids: [crm], hosts: [crm.test]}
  - {region: eu-west-1, user_pool_id: eu-west-1_Wiki, client_ids: [wiki], hosts: [wiki.test]}
upstreams: {crm: "http://crm", wiki: {url: "https://wiki", ca: /nowhere.pem}}
routes:
  - {path: /a, access: authenticated, hosts: [crm.test], upstream: crm}
  - {path: /a, access: authenticated, hosts: [wiki.test], upstream: wiki}
  - {path: /w, access: authenticated, hosts: [wiki.test], upstream: wiki}
"""
CASES_BY_HOST = """\
users: {alice: {sub: a, username: alice}}
cases:
  - {name: at the first, user: alice, request: GET /a, headers: {Host: crm.test}, expect: {status: 200, route: crm.test/a, sent: {headers: {Host: crm.test}}}}
  - {name: at the other, user: alice, request: GET /a, headers: {Host: wiki.test}, expect: {status: 200, route: wiki.test/a}}
  - {name: at the one that has it, user: alice, request: GET /w, expect: {status: 200, route: wiki.test/w}}
  - {name: by another's pool, claims: {sub: a, client_id: wiki, iss: "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_Wiki"}, request: GET /a, headers: {Host: crm.test}, expect: token_invalid}
  - {name: at none, user: alice, request: GET /a, headers: {Host: evil.test}, expect: {status: 421, code: host_not_allowed}}
"""


def test_cases_are_of_a_host_and_of_its_pool(tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(BY_HOST)
    assert shown(results_of(CASES_BY_HOST, ENVIRON, SIDECAR_ROUTES=str(tmp_path / "routes.yaml")), {}) == []
