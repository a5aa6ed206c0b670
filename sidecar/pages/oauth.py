"""How OAuth clients get a token for a protected resource: its metadata, those of Cognito, and a registration.

Cognito's own document says nothing of S256, and Cognito registers nobody: clients of MCP stop there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import NamedTuple

from sidecar.doors.answer import Answer
from sidecar.gate.codes import Code
from sidecar.gate.evaluation import Rules
from sidecar.gate.own import METADATA_PATH, REGISTRATION_PATH, SERVER_METADATA_PATH
from sidecar.gate.protected import Protected, RegisteredClient
from sidecar.gate.routing import RouteTable
from sidecar.gate.verdict import Refused
from sidecar.pages.router import Handler, PageRequest, Paths
from sidecar.wire import strict_json
from sidecar.wire.grammar import Header

log = logging.getLogger("sidecar.own")

MAX_REGISTRATION = 16 * 1024
"""Bytes of a registration."""
MAX_REDIRECT_URIS = 16
CACHED = b"public, max-age=300"
"""How long metadata may be kept: so late may a client see a change."""
_MAX_SHOWN = 256
_JSON = b"application/json"
# of a public document, for every page: a browser sends no cookie along, and what is here depends on none
_ANY_ORIGIN: list[Header] = [(b"access-control-allow-origin", b"*")]
_PREFLIGHT: list[Header] = [
    *_ANY_ORIGIN,
    # clients of MCP send its version along
    (b"access-control-allow-headers", b"Content-Type, MCP-Protocol-Version"),
    (b"access-control-max-age", b"600"),
]
_NONE: Paths = {}
_GRANTS = ["authorization_code", "refresh_token"]

Documents = Mapping[str, bytes]
"""Origin -> the document that is for it."""


class PoolEndpoints(NamedTuple):
    """The endpoints of a user pool: `origin` is that of its domain, `keys` the URL of its keys, "" where unknown."""

    origin: str
    keys: str = ""

    def metadata(self, issuer: str, scopes: Iterable[str], *, registers: bool) -> dict[str, object]:
        """Authorization server metadata (RFC 8414 section 2) under the identifier `issuer`."""
        document: dict[str, object] = {
            "issuer": issuer,
            "authorization_endpoint": f"{self.origin}/oauth2/authorize",
            "token_endpoint": f"{self.origin}/oauth2/token",
            "revocation_endpoint": f"{self.origin}/oauth2/revoke",
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": _GRANTS,
            "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
        }
        if self.keys:
            document["jwks_uri"] = self.keys
        if registers:
            document["registration_endpoint"] = issuer + REGISTRATION_PATH
        wanted = list(dict.fromkeys(scopes))
        return document | ({"scopes_supported": wanted} if wanted else {})


def resource_metadata(protected: Protected) -> dict[str, object]:
    """Protected resource metadata (RFC 9728 section 2)."""
    document: dict[str, object] = {
        "resource": protected.resource,
        "authorization_servers": [protected.issuer],
        "bearer_methods_supported": ["header"],
    }
    return document | ({"scopes_supported": list(protected.scopes)} if protected.scopes else {})


class OAuthPaths:
    """The paths that OAuth clients ask, as the rules in force have them. `pool` is None where no domain is known."""

    def __init__(self, pool: PoolEndpoints | None) -> None:
        self._pool = pool
        self._known: tuple[RouteTable | None, Paths] = (None, _NONE)

    def paths(self, rules: Rules) -> Paths:
        """The paths by these rules: none where no route has metadata."""
        table, paths = self._known
        if rules.table is not table:
            paths = self._made(rules)
            self._known = (rules.table, paths)
        return paths

    def _made(self, rules: Rules) -> Paths:
        shown = [protected for protected in rules.table.protected if protected.metadata]
        documents: dict[str, dict[str, bytes]] = {}
        for protected in shown:
            document = strict_json.dumps(resource_metadata(protected))
            documents.setdefault(protected.metadata_path, {})[protected.origin] = document
        for origin, one in _alone(shown).items():
            documents.setdefault(METADATA_PATH, {}).setdefault(origin, strict_json.dumps(resource_metadata(one)))
        ours = [protected for protected in shown if not protected.server]
        if self._pool is not None:
            for protected in ours:
                scopes = [scope for one in ours if one.origin == protected.origin for scope in one.scopes]
                metadata = self._pool.metadata(protected.origin, scopes, registers=bool(rules.clients))
                documents.setdefault(SERVER_METADATA_PATH, {})[protected.origin] = strict_json.dumps(metadata)
        paths = {path: _reading(partial(_show, found)) for path, found in documents.items()}
        if ours and self._pool is not None and rules.clients:
            paths[REGISTRATION_PATH] = {"POST": _register, "OPTIONS": partial(_preflight, b"POST")}
        return paths


def _alone(shown: Iterable[Protected]) -> dict[str, Protected]:
    """Origin -> its one resource, where it has no other: clients may ask without a path then."""
    by_origin: dict[str, set[Protected]] = {}
    for protected in shown:
        by_origin.setdefault(protected.origin, set()).add(protected)
    return {origin: next(iter(found)) for origin, found in by_origin.items() if len(found) == 1}


def _reading(show: Handler) -> Mapping[str, Handler]:
    return {"GET": show, "OPTIONS": partial(_preflight, b"GET, HEAD")}


async def _preflight(methods: bytes, asked: PageRequest) -> Answer:
    return Answer(204, [*_PREFLIGHT, (b"access-control-allow-methods", methods)], b"")


async def _show(documents: Documents, asked: PageRequest) -> Answer:
    """Answer with the document of the host that was asked, which is one that routes name. Raises
    Refused(ROUTE_UNMAPPED)."""
    document = next(iter(documents.values())) if len(documents) == 1 else _of_host(documents, asked.request.host)
    if document is None:
        raise Refused(Code.ROUTE_UNMAPPED, "no resource of this host")
    return _json(200, document, CACHED)


def _of_host(documents: Documents, host: str) -> bytes | None:
    return documents.get(f"https://{host}") or documents.get(f"http://{host}")


def _json(status: int, document: bytes, cached: bytes) -> Answer:
    headers = [
        (b"content-type", _JSON),
        (b"content-length", str(len(document)).encode("ascii")),
        (b"cache-control", cached),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Answer(status, [*headers, *_ANY_ORIGIN], document)


# --- registration (RFC 7591) ---


class Unregistered(Exception):
    """A registration that is refused: the error by its name in RFC 7591 section 3.2.2, and why."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(error, description)
        self.error = error
        self.description = description


async def _register(asked: PageRequest) -> Answer:
    """Answer a registration: with the app client whose redirect URIs it names. Nothing is kept of it."""
    try:
        client, uris = client_for(asked.rules.clients, _body(asked))
    except Unregistered as refused:
        log.info("a registration was refused: %s, request %s", refused.description, asked.request.request_id)
        body: dict[str, object] = {"error": refused.error, "error_description": refused.description}
        return _json(400, strict_json.dumps(body), b"no-store")
    information: dict[str, object] = {
        "client_id": client.client_id,
        "redirect_uris": uris,
        "grant_types": _GRANTS,
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    }
    return _json(201, strict_json.dumps(information), b"no-store")


def _body(asked: PageRequest) -> bytes:
    kind = asked.request.seen.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind != _JSON:
        raise Unregistered("invalid_client_metadata", "Content-Type: expected application/json")
    if len(asked.body) > MAX_REGISTRATION:
        raise Unregistered("invalid_client_metadata", f"found over {MAX_REGISTRATION} bytes")
    return asked.body


def client_for(clients: Iterable[RegisteredClient], body: bytes) -> tuple[RegisteredClient, list[str]]:
    """The app client for a registration, and the redirect URIs that it names: each must be one of that app client. What
    else it asks for is answered with what there is (RFC 7591 section 3.2.1). Raises Unregistered."""
    try:
        metadata = strict_json.loads(body)
    except ValueError as error:
        raise Unregistered("invalid_client_metadata", f"expected a JSON object: {error}") from None
    if not isinstance(metadata, dict):
        raise Unregistered("invalid_client_metadata", "expected a JSON object")
    _require(metadata, "grant_types", "authorization_code")
    _require(metadata, "response_types", "code")
    uris = metadata.get("redirect_uris")
    if not isinstance(uris, list) or not 1 <= len(uris) <= MAX_REDIRECT_URIS:
        raise Unregistered("invalid_redirect_uri", f"redirect_uris: expected 1 to {MAX_REDIRECT_URIS}")
    for uri in uris:
        if not isinstance(uri, str):
            raise Unregistered("invalid_redirect_uri", "redirect_uris: expected texts")
    for client in clients:
        if client.redirect_uris.issuperset(uris):
            return client, uris
    raise Unregistered(
        "invalid_redirect_uri",
        f"redirect_uris: found {ascii(uris)[:_MAX_SHOWN]}, expected those of one app client that this server lists",
    )


def _require(metadata: Mapping[str, object], name: str, wanted: str) -> None:
    found = metadata.get(name)
    if found is not None and not (isinstance(found, list) and wanted in found):
        raise Unregistered("invalid_client_metadata", f"{name}: expected {wanted} among them")
