"""Route files for the tests of their reading."""

import functools

import pytest

from sidecar.config.routes.file import RoutesError, RoutesFile, read_routes
from sidecar.gate.hook import Hook
from sidecar.gate.lookup import Lookup

WHOLE = """\
version: 1
identity:                        # optional: several trusted issuers; without it the environment names one pool
  - {region: eu-west-1, user_pool_id: eu-west-1_AbC, client_ids: [web, m2m], token_use: [access]}
principal:                       # claims -> Cerbos principal
  id: sub
  roles: "cognito:groups"        # a claim name, or a list of them
  attributes: {email: email, department: {claim: "custom:department", type: int}, scopes: scope}
  optional: [email]
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


def hook_of(lookup: Lookup) -> Hook:
    """The question of a lookup that asks by HTTP."""
    assert isinstance(lookup.inquiry, Hook)
    return lookup.inquiry


def faults(text: str) -> list[str]:
    with pytest.raises(RoutesError) as caught:
        read(text)
    return [str(problem) for problem in caught.value.problems]


def one_route(route: str, more: str = "") -> str:
    return f"version: 1\n{more}routes:\n  - {route}\n"


@functools.cache
def read_once(text: str) -> RoutesFile:
    """The routes of a text, which nothing changes: to read them takes longer than to decide by them."""
    return read_routes(text, "routes.yaml", {})
