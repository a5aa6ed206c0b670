"""A lookup's `upstream` in a route file."""

from __future__ import annotations

import pytest

from sidecar.gate.app_lookup import AppInquiry
from sidecar.gate.lookup import ResourceField
from sidecar.gate.references import parse_reference
from tests.config.routes.reading import faults, one_route, read


def text(fields: str) -> str:
    route = "{path: '/x/{id}', resource: r, id: '{path.id}', lookup: l, actions: {GET: a}}"
    return one_route(route, f"lookups: {{l: {{{fields}, attributes: {{a: b}}}}}}\n")


def inquiry(fields: str, environ: dict[str, str] | None = None) -> AppInquiry:
    found = read(text(fields), environ).lookups["l"].inquiry
    assert isinstance(found, AppInquiry)
    return found


def test_the_app_is_asked_as_the_sidecar_unless_the_file_says_otherwise() -> None:
    assert inquiry("upstream: '/orders/{id}'") == AppInquiry(("/orders/", ResourceField.ID))
    assert inquiry("upstream: '/orders/{id}', as: service, bearer_env: T", {"T": "s3cret"}).bearer == "s3cret"
    assert inquiry("upstream: '/orders/{id}', as: principal").as_principal


def test_references_fill_it_as_they_fill_a_url() -> None:
    asked = inquiry("upstream: '/{claims.org}/orders/{id}?kind={kind}'")
    org = parse_reference("claims.org")
    assert asked.target == ("/", org, "/orders/", ResourceField.ID, "?kind=", ResourceField.KIND)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("upstream: 'orders/{id}'", "found 'orders/{id}', expected a path that begins with '/'"),
        ("upstream: 'http://app/orders/{id}'", "expected a path that begins with '/'"),
        ("upstream: '//evil.test/{id}'", "lookups.l.upstream: found '//evil.test/{id}'"),
        ("upstream: '/a/../{id}'", "without dot segments"),
        ("upstream: '/a/%2e%2e/{id}'", "found '/a/%2e%2e/{id}', "),
        ("upstream: '/a%2Fb/{id}'", "found '/a%2Fb/{id}', "),
        ("upstream: '/%61/{id}'", "expected the plain form of the path, as '/a/x'"),
        ("upstream: '/a b/{id}'", "expected visible ASCII"),
        ("upstream: '/a#{id}'", "found '/a#{id}'"),
        ("upstream: '/a/{nope}'", "expected one of {path.…}"),
        ("upstream: '/a/{id'", "found a lone brace"),
        ("upstream: '/a/{body.x:json}'", "it is one part of a URL"),
        ("upstream: '/{id}', url: 'http://h/{id}'", "lookups.l.upstream: found it beside `url`"),
        ("upstream: '/{id}', bearer_env: NOTHING", "the variable NOTHING holds no token"),
        ("upstream: '/{id}', as: principal, bearer_env: T", "found it beside `as: principal`, expected one of the two"),
        ("upstream: ''", "expected a path that begins with '/'"),
    ],
)
def test_a_target_that_the_app_could_read_differently_is_a_fault(fields: str, says: str) -> None:
    assert any(says in fault for fault in faults(text(fields))), faults(text(fields))
