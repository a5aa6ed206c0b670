"""What was seen is held against the routes by the router of the gate, and what clients make up is bounded."""

from __future__ import annotations

import pytest

from sidecar.adoption import coverage_seen
from sidecar.adoption.coverage_seen import ObservedTraffic, SightingCount, shape_of
from sidecar.adoption.logs import Logged
from sidecar.config.routes.file import read_routes
from sidecar.gate.routing import Pattern, Segment, Variable
from sidecar.imports.sighting import Location, Sighting, SpecOperation
from sidecar.record.line import Line
from tests.adoption.recorded import decision, question

ROUTES = """
version: 1
routes:
  - {path: "/contacts/{id:int}", resource: contact, actions: {GET: read, WS: watch}}
  - {path: "/drafts/{slug}", resource: draft, draft: true, actions: {GET: read}}
  - path: /shared
    resource: contact
    cors: {origins: ["https://a.test"]}
    actions: {GET: read}
"""


@pytest.fixture(name="seen")
def _seen() -> ObservedTraffic:
    return ObservedTraffic(read_routes(ROUTES, "routes.yaml", {}))


def request(method: str, *segments: Segment, status: int | None = 200, websocket: bool = False) -> Sighting:
    return Sighting(method, segments, Location("a.log", 1), (), status, websocket)


def line(seen: ObservedTraffic, *lines: Line) -> None:
    for number, each in enumerate(lines, 1):
        seen.line(Logged("s.log", number, each))


def test_requests_are_of_the_route_that_the_router_finds(seen: ObservedTraffic) -> None:
    for sighting in (
        request("GET", "contacts", "7"), request("HEAD", "contacts", "8"),
        request("GET", "contacts", "7", websocket=True), request("GET", "contacts", "x"),
        request("OPTIONS", "shared"), request("DELETE", "shared"), request("GET", "none", status=404),
    ):  # fmt: skip
        seen.sighting(sighting)
    assert seen.hit == {
        ("GET", "/contacts/{id:int}"): SightingCount(2, "a.log:1"), ("WS", "/contacts/{id:int}"): SightingCount(1, "a.log:1"),
    }  # fmt: skip
    assert seen.unrouted == {
        ("GET", "/contacts/x"): SightingCount(1, "a.log:1"),
        ("DELETE", "/shared"): SightingCount(1, "a.log:1"),
    }
    assert seen.not_there == SightingCount(1, "a.log:1")


@pytest.mark.parametrize(("segment", "routed"), [
    (Variable("contact_id", Pattern.DEFAULT), True), (Variable("contact_id", Pattern.INT), True),
    (Variable("contact_id", Pattern.UUID), False), ("static", False),
])  # fmt: skip
def test_an_operation_of_a_spec_has_a_route_if_one_takes_its_paths(
    seen: ObservedTraffic, segment: Segment, routed: bool
) -> None:
    seen.sighting(request("GET", "contacts", segment, status=None)._replace(operation=SpecOperation()))
    assert (bool(seen.named), bool(seen.unrouted)) == (routed, not routed)


def test_a_request_without_a_route_is_of_the_spec_s_operation(seen: ObservedTraffic) -> None:
    for method in ("PUT", "GET"):
        named = request(method, "users", Variable("id", Pattern.DEFAULT), status=None)
        seen.sighting(named._replace(operation=SpecOperation()))
    seen.sighting(request("PUT", "users", "7"))
    seen.sighting(request("PUT", "users", "8", status=404))
    assert seen.unrouted == {
        ("PUT", "/users/{id}"): SightingCount(2, "a.log:1"),
        ("GET", "/users/{id}"): SightingCount(0, "a.log:1"),
    }


def test_a_request_or_operation_of_a_draft_is_told_by_its_path(seen: ObservedTraffic) -> None:
    named = request("GET", "drafts", Variable("id", Pattern.INT), status=None)
    seen.sighting(named._replace(operation=SpecOperation()))
    seen.sighting(request("GET", "drafts", "alice"))
    assert seen.unrouted == {("GET", "/drafts/{slug}"): SightingCount(1, "a.log:1")}


def test_a_line_counts_for_the_requests_that_it_stands_for(seen: ObservedTraffic) -> None:
    line(seen, question(weight=5, query=("page",)), decision(roles=("admin", "user")), question(path="/%2e%2e"))
    assert seen.hit == {("GET", "/contacts/{id:int}"): SightingCount(6, "s.log:1")}
    assert seen.query_sent == {("GET", "/contacts/{id:int}", "page"): SightingCount(5, "s.log:1")}
    assert seen.roles == {"user": SightingCount(7, "s.log:1"), "admin": SightingCount(1, "s.log:2")}


def test_what_is_counted_does_not_grow_with_people_and_ids(seen: ObservedTraffic) -> None:
    line(seen, *(question(path=f"/contacts/{at}", id=str(at), principal=f"p-{at}", policy="p") for at in range(50)))
    assert [len(table) for table in (seen.hit, seen.grants, seen.roles, seen.unrouted)] == [1, 1, 1, 0]


def test_a_request_that_was_refused_has_no_status_of_the_app(seen: ObservedTraffic) -> None:
    line(
        seen,
        decision(path="/a", route="", outcome="refuse", code="route_unmapped", status=404, method="GET"),
        decision(path="/b", route="", outcome="shadow_refuse", code="route_unmapped", status=404),
        question(path="/c", route="", outcome="refuse", code="route_unmapped", app_status=None),
        question(path="/d", route="", outcome="shadow_refuse", code="route_unmapped", app_status=404),
    )
    assert [path for _, path in seen.unrouted] == ["/a", "/c"]


def test_what_clients_make_up_is_bounded(seen: ObservedTraffic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage_seen, "MAX_DISTINCT", 2)
    for word in ("one", "two", "three", "one"):
        seen.sighting(request("GET", word))
    assert seen.unrouted == {("GET", "/one"): SightingCount(2, "a.log:1"), ("GET", "/two"): SightingCount(1, "a.log:1")}
    assert seen.more == 1


@pytest.mark.parametrize(("segments", "shape"), [
    (("users", "17", "v1"), "/users/{int}/v1"),
    (("a", "6BA7B810-9dad-41d1-80b4-00c04fd430c8"), "/a/{uuid}"),
    (("a", "0a1b2c3d4"), "/a/{id}"), (("a", "x" * 30), "/a/{id}"), (("a", "p@x.test"), "/a/{id}"),
    (("",), "/"), (("a",) * 12, "/a/a/a/a/a/a/a/a/**"),
])  # fmt: skip
def test_ids_are_replaced_by_their_shape(segments: tuple[str, ...], shape: str) -> None:
    assert shape_of(segments) == shape


BY_HOST = """
version: 1
upstreams: {crm: "http://crm", wiki: "http://wiki"}
routes:
  - {path: /a, hosts: [crm.test], upstream: crm, access: public}
  - {path: /a, hosts: ["*.wiki.test"], upstream: wiki, access: public, methods: [GET, POST]}
  - {path: /b, hosts: [crm.test], upstream: crm, access: public, draft: true}
  - {path: /c, access: public}
"""


def test_a_request_is_of_the_route_at_its_host_and_an_operation_of_that_at_any() -> None:
    seen = ObservedTraffic(read_routes(BY_HOST, "routes.yaml", {}))
    crm, wiki = "crm.test/a", "*.wiki.test/a"
    line(
        seen,
        decision(path="/a", method="GET", host="crm.test:8443"), decision(path="/a", method="GET", host="x.wiki.test"),
        question(path="/c", method="GET", host="crm.test"), decision(path="/a", method="POST", host="crm.test"),
    )  # fmt: skip
    # of a log that tells no host, or one of another machine
    seen.sighting(request("POST", "a"))
    seen.sighting(request("POST", "a")._replace(host="localhost"))
    assert {key: tally.requests for key, tally in seen.hit.items()} == {
        ("GET", crm): 1, ("GET", wiki): 1, ("GET", "/c"): 1, ("POST", wiki): 2,
    }  # fmt: skip
    assert list(seen.unrouted) == [("POST", crm)]
    seen.sighting(request("GET", "b", status=None)._replace(operation=SpecOperation()))
    assert list(seen.unrouted) == [("POST", crm), ("GET", "crm.test/b")]
