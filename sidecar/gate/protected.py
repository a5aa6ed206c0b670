"""A route as a protected resource of OAuth 2.0: for whom its tokens are made, and what a client without one is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sidecar.gate.codes import Code
from sidecar.gate.own import METADATA_PATH
from sidecar.gate.verdict import Refused


class Protected(NamedTuple):
    """A protected resource (RFC 9728). `resource` is its identifier, a URL: the audience that an access token must name
    (RFC 8707), or with `unbound` may name. A token must have all `scopes`. With `metadata` the sidecar tells clients
    how to get one, at the authorization server with the identifier `server`; "" is the sidecar's own document."""

    resource: str
    scopes: tuple[str, ...] = ()
    metadata: bool = True
    unbound: bool = False
    server: str = ""

    @property
    def origin(self) -> str:
        """The resource's scheme, host and port."""
        return "/".join(self.resource.split("/", 3)[:3])

    @property
    def host(self) -> str:
        """The host, with its port where it has one."""
        return self.resource.split("/", 3)[2]

    @property
    def path(self) -> str:
        """The path of the resource, "" for none."""
        return self.resource.removeprefix(self.origin)

    @property
    def metadata_path(self) -> str:
        """The path of its metadata (RFC 9728 section 3.1)."""
        return METADATA_PATH + self.path

    @property
    def issuer(self) -> str:
        """The identifier of its authorization server."""
        return self.server or self.origin

    @property
    def challenge(self) -> bytes:
        """Parameters of a `Bearer` challenge, each after a comma (RFC 6750 section 3, RFC 9728 section 5.1)."""
        parameters = [f'scope="{" ".join(self.scopes)}"'] if self.scopes else []
        if self.metadata:
            parameters.append(f'resource_metadata="{self.origin}{self.metadata_path}"')
        return "".join(f", {parameter}" for parameter in parameters).encode("ascii")

    def require_audience(self, audience: object) -> None:
        """See that a token is made for the resource; `audience` is None where it names none. Raises
        Refused(TOKEN_INVALID)."""
        if audience != self.resource and not (self.unbound and audience is None):
            found = "none" if audience is None else "another"
            raise Refused(Code.TOKEN_INVALID, f"aud: found {found}, expected {self.resource}")

    def require_scopes(self, claims: Mapping[str, Any]) -> None:
        """See that a token has the scopes. Raises Refused(SCOPE_MISSING)."""
        scope = claims.get("scope")
        had = frozenset(scope.split(" ")) if isinstance(scope, str) else frozenset()
        missing = [name for name in self.scopes if name not in had]
        if missing:
            raise Refused(Code.SCOPE_MISSING, f"scope: found none of {' '.join(missing)} in the token")


class RegisteredClient(NamedTuple):
    """An app client without a secret, which a client gets that registers with some of its `redirect_uris`."""

    client_id: str
    redirect_uris: frozenset[str]
