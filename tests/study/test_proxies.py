"""What `sidecar check` says of routes that a proxy which asks gets no decision about, held against the gate itself."""

from __future__ import annotations

import pytest

from sidecar.gate.body import Show, Viewer
from sidecar.gate.codes import Code
from sidecar.gate.evaluation import Rules
from sidecar.gate.gate import Gate
from sidecar.gate.mcp_session import McpSessions
from sidecar.gate.request import Raw, Reading
from sidecar.gate.verdict import Refuse
from sidecar.study.explain import GivenClaims
from sidecar.study.proxies import Asking, warnings
from tests.config.routes.reading import read
from tests.fakes import OneByOne
from tests.study.test_explain import AllowedOf

ROUTES = """\
version: 1
routes:
  - {path: /plain, resource: a, actions: {GET: read, PUT: update}}
  - path: /list
    resource: a
    actions: {GET: list, POST: {action: create, attributes: {owner: "{body.owner}"}}}
    items: {at: data, id: id}
  - {path: /lines, resource: a, actions: {GET: list}, items: {at: lines, id: id}}
  - {path: /one, resource: a, actions: {GET: read}, fields: {phone: view}}
  - {path: /own, resource: a, actions: {GET: read}, lookup: {from: answer, attributes: {owner: o}}}
  - {path: /form, resource: a, actions: {POST: {action: create, attributes: {owner: "{form.owner}"}}}}
  - {path: /mcp, mcp: {server: crm, audience: any}}
  - {path: /foreign, access: authenticated, methods: [POST], mcp: {resource: "https://a.example/foreign"}}
  - {path: /graphql, graphql: {get: true, Query.a: {resource: a, action: read}}}
  - {path: /live, resource: a, actions: {WS: watch}}
  - {path: /open, access: public}
"""
BODIES = {
    "/mcp": b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}',
    "/graphql": b'{"query": "{a}"}',
    "/form": b"owner=a",
}
PROXIED = [
    "POST /list", "POST /form", "POST /graphql", "GET /list", "GET /lines", "GET /one", "GET /own", "POST /mcp", "GET /mcp",
    "DELETE /mcp", "POST /foreign", "WS /live",
]  # fmt: skip
BY_ENVOY = ["GET /list", "GET /lines", "GET /one", "GET /own", "POST /mcp", "GET /mcp", "DELETE /mcp", "POST /foreign"]


def told(asking: Asking, text: str = ROUTES) -> list[str]:
    return list(warnings(read(text), "routes.yaml", asking))


def named(found: list[str]) -> set[str]:
    """Method and route of each that is warned of."""
    pairs = set()
    for line in found:
        methods, route = line.partition("so that ")[2].partition(" is 501")[0].rsplit(" ", 1)
        pairs |= {f"{method} {route}" for method in methods.split(", ")}
    return pairs


def test_nobody_is_warned_where_no_proxy_asks() -> None:
    assert told(Asking()) == []
    assert told(Asking(ext_proc=True)) == []


def test_a_warning_says_where_what_and_what_to_do() -> None:
    route = "version: 1\nroutes:\n  - {path: /mcp, mcp: {server: crm, audience: any}}\n"
    begins = "routes.yaml:3:23: routes[0].mcp: found `mcp` and "
    ends = (
        "so that POST, GET, DELETE /mcp is 501 proxy_unable there: send these requests through the sidecar's own port"
    )
    shown = "it shows the sidecar no answers of the app, "
    assert told(Asking("nginx"), route) == [
        f"{begins}SIDECAR_FORWARD_AUTH=nginx, expected no such route where nginx asks: {shown}{ends}"
    ]
    by = ", or let Envoy ask by "
    assert told(Asking(ext_authz=True), route) == [
        f"{begins}SIDECAR_EXT_AUTHZ_LISTEN, expected no such route where envoy asks: {shown}{ends}{by}"
        "ext_proc (SIDECAR_EXT_PROC_LISTEN)"
    ]
    both = told(Asking("envoy", ext_authz=True, ext_proc=True), route)
    assert [line.partition(by)[2] for line in both] == ["the filter of SIDECAR_EXT_PROC_LISTEN"] * 2
    (live,) = told(Asking("caddy"), "version: 1\nroutes:\n  - {path: /live, resource: a, actions: {WS: watch}}\n")
    assert live.startswith("routes.yaml:3:41: routes[0].actions: found the action WS and SIDECAR_FORWARD_AUTH=caddy, ")


@pytest.mark.parametrize("sends_body", [False, True])
async def test_what_is_warned_of_is_what_the_gate_refuses(sends_body: bool) -> None:
    """A WebSocket does not come to the gate: the door does not know that it is one."""
    routes = read(ROUTES)
    asking, expected = (Asking(ext_authz=True), BY_ENVOY) if sends_body else (Asking("nginx"), PROXIED)
    assert named(told(asking)) == set(expected)
    claims = GivenClaims({"cognito:groups": ["user"], "client_id": "web"}, routes.principal)
    rules = Rules(routes.table, routes.lookups, claims, Reading())
    gate = Gate(rules, OneByOne(), AllowedOf(), now=lambda: 0.0, timer=lambda: 0.0, sessions=McpSessions(["secret"]))
    refused = set()
    for route in routes.table.routes:
        body = BODIES.get(route.path, b'{"owner": "a"}')

        async def show(limit: int, show: Show, viewer: Viewer, body: bytes = body) -> None:
            show(body)

        for method in set(route.actions) - {"WS"}:
            kind = b"application/x-www-form-urlencoded" if route.path == "/form" else b"application/json"
            has_body = method not in ("GET", "DELETE")
            headers = [(b"host", b"x"), (b"accept", b"application/json, text/event-stream")]
            headers += [(b"content-type", kind), (b"content-length", b"%d" % len(body))] if has_body else []
            target = "/graphql?query=%7Ba%7D" if (route.path, method) == ("/graphql", "GET") else route.path
            raw = Raw(method, target.encode(), headers, "", "http", "r")
            verdict = await gate.decide(raw, show if sends_body else None)
            if isinstance(verdict, Refuse) and verdict.code is Code.PROXY_UNABLE:
                refused.add(f"{method} {route.name}")
    assert refused == set(expected) - {"WS /live"}


def test_a_route_at_hosts_is_placed_too_and_a_draft_is_not_warned_of() -> None:
    text = """\
version: 1
routes:
  - {path: /a, resource: a, draft: true, actions: {GET: list}, items: {at: data, id: id}}
  - {path: /b, resource: a, hosts: b.test, actions: {GET: list}, items: {at: data, id: id}}
"""
    (found,) = told(Asking("nginx"), text)
    assert found.startswith("routes.yaml:4:73: routes[1].items: found `items` or `fields`")
    assert "GET b.test/b is 501" in found
    assert told(Asking("nginx"), text.replace("routes:", "draft: true\nroutes:", 1)) == []
