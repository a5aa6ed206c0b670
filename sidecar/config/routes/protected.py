"""`mcp` of a route as far as it says for whom tokens are made, and `mcp_clients`: their names, and what they give."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from sidecar.config import units
from sidecar.config.routes.upstreams import PlacedHosts
from sidecar.config.shapes import Choice, Entry, Field, ListOf, Reader, Record, Text
from sidecar.gate.claims import Claim
from sidecar.gate.hosts import entries_for
from sidecar.gate.identity import PrincipalRules
from sidecar.gate.protected import Protected, RegisteredClient
from sidecar.gate.values import Type

CLIENT_ATTRIBUTE = "client_id"
"""The attribute of the principal that names the app client of the token, and so the agent, where a route has `mcp`."""
_HOST = r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?"
_URL = re.compile(rf"(https?)://({_HOST})(?::([1-9]\d{{0,4}}))?((?:/[A-Za-z0-9._~-]+)*/?)")
_DEFAULT_PORTS = {"https": "443", "http": "80"}
# RFC 6749 section 3.3: a scope-token
_SCOPE = r"[!#-\[\]-~]+"
# RFC 3986, without what a URL may be written with in two ways; never a fragment (RFC 6749 section 3.1.2)
_REDIRECT_URI = r"[A-Za-z][A-Za-z0-9+.-]*:[!$&-;=?-Z_a-z~%]+"
_NEVER = ("javascript", "data", "file", "blob", "about", "vbscript")


def _url(text: str) -> str:
    """Return a URL in the one form that clients and tokens have it in. Raises ValueError."""
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError(f"found {text!r}, expected a URL such as https://host/mcp, without query and fragment")
    scheme, host, port, path = match.groups()
    if scheme == "http" and not units.is_loopback(host):
        raise ValueError(f"found {text!r}, expected https: only a loopback host may have plain http")
    if port == _DEFAULT_PORTS[scheme]:
        raise ValueError(f"found {text!r}, expected it without :{port}, which {scheme} has anyway")
    if path == "/":
        raise ValueError(f"found {text!r}, expected it without the slash at the end")
    if {".", ".."} & set(path.split("/")):
        raise ValueError(f"found {text!r}, expected a path without . and ..")
    return text


def _redirect_uri(text: str) -> str:
    scheme, _, rest = text.partition(":")
    if not re.fullmatch(_REDIRECT_URI, text) or scheme.lower() != scheme or scheme in _NEVER:
        raise ValueError(f"found {text!r}, expected a redirect URI such as https://host/callback")
    if scheme in _DEFAULT_PORTS:
        host = urlsplit(text).hostname or ""
        if not rest.startswith("//") or not host:
            raise ValueError(f"found {text!r}, expected a redirect URI with a host")
        if scheme == "http" and not units.is_loopback(host):
            raise ValueError(f"found {text!r}, expected https: only a loopback host may have plain http")
    return text


PROTECTED = {
    "resource": Field(
        Text(_url, r"https?://\S+", "a URL"),
        "the URL of the MCP server as its clients know it: an access token must name it in `aud` (RFC 8707)", "",
    ),
    "audience": Field(
        Choice(("required", "optional", "any")),
        "`optional`: a token without `aud` is taken too, where the authorization server gives none; `any`, without "
        "`resource`: a token of the route's app clients is taken, whichever server it was made for", "required",
    ),
    "scopes": Field(
        ListOf(Text(pattern=_SCOPE, what="a scope"), single=True),
        "scopes that clients are told to ask for, and that a token must have: 403 `scope_missing` without one", (),
    ),
    "metadata": Field(
        Choice(("on", "off")),
        "with `resource`, `on`: the sidecar serves the metadata that clients sign in by (RFC 9728, RFC 8414)", "on",
    ),
    "authorization_server": Field(
        Text(_url, r"https?://\S+", "a URL"),
        "the issuer of another authorization server, which has metadata of its own; without it the sidecar tells of "
        "Cognito's, at `AWS_COGNITO_DOMAIN`", "",
    ),
}  # fmt: skip
"""Fields of `mcp` of a route that are about tokens."""
MCP_CLIENT = Record(
    {
        "client_id": Field(
            Text(pattern=r"[\w+.-]+", what="a client id"), "an app client without a secret, whose tokens are taken",
            "", True,
        ),
        "redirect_uris": Field(
            ListOf(Text(_redirect_uri, what="a redirect URI"), 1, single=True),
            "the exact callback URLs that the app client has: who registers with others is refused", (), True,
        ),
    },
    "the app client that an MCP client gets which registers with these redirect URIs",
)  # fmt: skip


def protected_of(entry: Entry, reader: Reader) -> Protected | None:
    """The protected resource that a route with `mcp` is, None where it says none. Faults are noted with `reader`."""
    mcp = entry["mcp"]
    if mcp is None:
        return None
    if not mcp["resource"]:
        _without_resource(entry, mcp, reader)
        return None
    if mcp["audience"] == "any":
        reader.fault(mcp.at("audience"), "found `any` with `resource`, expected `required` or `optional`")
    if entry["access"] == "public":
        reader.fault(mcp.at("resource"), "found it on a public route, expected it where somebody has to sign in")
    protected = Protected(
        mcp["resource"], tuple(dict.fromkeys(mcp["scopes"])), mcp["metadata"] == "on", mcp["audience"] == "optional",
        mcp["authorization_server"],
    )  # fmt: skip
    if not f"{entry['path']}/".startswith(f"{protected.path.removesuffix('/')}/"):
        reader.fault(
            mcp.at("resource"),
            f"found the path {protected.path!r}, expected {entry['path']!r}, the path of the route, or one above it",
        )
    if entry["hosts"] and set(entry["hosts"]).isdisjoint(entries_for(protected.host)):
        reader.fault(
            mcp.at("resource"),
            f"found the host {protected.host!r}, expected one of the route's hosts: {', '.join(entry['hosts'])}",
        )
    return protected


def _without_resource(entry: Entry, mcp: Entry, reader: Reader) -> None:
    openly = mcp["audience"] == "any"
    for name in PROTECTED:
        if mcp.has(name) and not (name == "resource" or (name == "audience" and openly)):
            reader.fault(mcp.at(name), "found it without `resource`, expected both")
    if not openly and entry["access"] != "public":
        reader.warn(
            mcp.mark,
            f"{entry['path']}: a token that was made for another server of the same app clients is taken too, expected "
            "`resource`, the URL of this one, or `audience: any`",
        )


def resource_hosts(entries: Iterable[Entry]) -> tuple[PlacedHosts, ...]:
    """The hosts of resources whose metadata the sidecar serves, and so is asked at."""
    found = [entry["mcp"] for entry in entries if entry["mcp"] is not None and entry["mcp"]["resource"]]
    return tuple(
        PlacedHosts(mcp.at("resource"), (Protected(mcp["resource"]).host,)) for mcp in found if mcp["metadata"] == "on"
    )


def check_agreement(found: Iterable[tuple[Protected | None, Entry]], reader: Reader) -> None:
    """Note each route that says something else of a resource than a route before it."""
    known: dict[str, Protected] = {}
    for protected, entry in found:
        if protected is None:
            continue
        before = known.setdefault(protected.resource, protected)
        if before != protected:
            reader.fault(
                entry["mcp"].at("resource"),
                f"found {protected.resource}, of which another route says otherwise, expected the same scopes, "
                "audience and authorization_server for one resource",
            )


def clients_of(entries: Iterable[Entry], reader: Reader) -> tuple[RegisteredClient, ...]:
    """The app clients of `mcp_clients`. Faults are noted with `reader`."""
    clients: list[RegisteredClient] = []
    for entry in entries:
        uris = frozenset(entry["redirect_uris"])
        for other in clients:
            if other.client_id == entry["client_id"]:
                reader.fault(entry.at("client_id"), "found one app client twice, expected each once")
            if other.redirect_uris & uris:
                reader.fault(
                    entry.at("redirect_uris"),
                    f"found {min(other.redirect_uris & uris)!r} at two app clients, expected it at one: who registers "
                    "with it gets that one",
                )
        clients.append(RegisteredClient(entry["client_id"], uris))
    return tuple(clients)


def with_client(rules: PrincipalRules) -> PrincipalRules:
    """The same rules, by which the principal has the app client of its token, unless they have that name already."""
    if CLIENT_ATTRIBUTE in rules.attributes:
        return rules
    attributes = {**rules.attributes, CLIENT_ATTRIBUTE: Claim("client_id", Type.STRING)}
    return rules._replace(attributes=attributes, optional=rules.optional | {CLIENT_ATTRIBUTE})
