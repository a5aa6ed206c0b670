"""Dialects of the proxies that ask by HTTP: which headers describe the held request, in one table, and their parser."""

from __future__ import annotations

import ipaddress
from enum import Enum, auto
from typing import NamedTuple

from sidecar.bounded import remembered
from sidecar.gate.codes import Code
from sidecar.gate.headers import ALB_HEADERS, OVERRIDES
from sidecar.gate.own import (
    AUTHORIZE_PATH,
    FORWARDED_FOR,
    FORWARDED_HOST,
    FORWARDED_PROTO,
    REMOVE,
    SET_BY_SIDECAR,
)
from sidecar.gate.peers import MAX_ADDRESS
from sidecar.gate.request import Raw
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import FORWARDED_BY_SOME, Header, is_method

AUTHORIZE = AUTHORIZE_PATH.encode("ascii")

FIXED = frozenset(
    [
        *OVERRIDES, *SET_BY_SIDECAR, *ALB_HEADERS, *FORWARDED_BY_SOME,
        *(
            b"x-forwarded-port x-forwarded-uri x-forwarded-path x-forwarded-method x-forwarded-prefix "
            b"x-forwarded-server x-forwarded-scheme x-forwarded-protocol x-forwarded-ssl "
            b"x-forwarded-by x-forwarded-user x-forwarded-email x-forwarded-groups x-forwarded-roles "
            b"x-forwarded-tenant x-forwarded-preferred-username x-forwarded-access-token "
            b"x-forwarded-client-cert x-forwarded-tls-client-cert x-forwarded-tls-client-cert-info "
            b"x-original-url x-original-uri x-original-path x-original-method x-original-host "
            b"x-original-forwarded-for cookie"
        ).split(),
    ]
)  # fmt: skip
"""Headers that deploy/nginx and deploy/traefik remove by name, since these proxies know no other way."""


class ProxyDialect(NamedTuple):
    """The headers, in lower case, in which one proxy says what its client asked for.

    `method` and `target` are b"" where the question itself has them: its method, and its target after AUTHORIZE. The
    client's address is in X-Forwarded-For, the scheme in X-Forwarded-Proto. With `exact` the proxy sends the target on
    as it came, so that it must be in its canonical form; others send the one that the answer names. With `flat` the
    proxy reads one line of each of our headers, and no body; with `complete` it must be told of each header that the
    sidecar may set, with an empty value where it does not. `removal` is the header that lists what must go; `removable`
    are the names that the proxy can take away, None where it can every one that the sidecar's own tables have; with
    `deaf` it takes away what its file names, and nothing else that the answer lists. With `adds` it adds headers of our
    answer to the app's under their own names.
    """

    method: bytes
    target: bytes
    host: bytes
    exact: bool
    flat: bool = False
    complete: bool = False
    removal: bytes = REMOVE
    removable: frozenset[bytes] | None = None
    deaf: bool = False
    adds: bool = False


DIALECTS = {
    # deploy/nginx sets them from $request_method and $request_uri
    "nginx": ProxyDialect(
        b"x-original-method", b"x-original-uri", b"host", exact=False, flat=True, removable=FIXED, deaf=True
    ),
    # Traefik's documentation of ForwardAuth, "Forward-Request Headers"
    "traefik": ProxyDialect(
        b"x-forwarded-method", b"x-forwarded-uri", FORWARDED_HOST, exact=True, removable=FIXED, deaf=True
    ),
    # Caddy's documentation of forward_auth, "Expanded form"; X-Forwarded-Host is reverse_proxy's own
    "caddy": ProxyDialect(
        b"x-forwarded-method", b"x-forwarded-uri", FORWARDED_HOST, exact=True, complete=True, deaf=True
    ),
    # deploy/haproxy/sidecar.lua
    "haproxy": ProxyDialect(b"x-original-method", b"x-original-uri", b"host", exact=False),
    # Envoy's ext_authz HttpService: method, host and path are the client's, the path after path_prefix
    "envoy": ProxyDialect(b"", b"", b"host", exact=True, removal=b"x-envoy-auth-headers-to-remove", adds=True),
}
"""By the words of SIDECAR_FORWARD_AUTH."""


class _Part(Enum):
    """Part of a header in a question; one without a part is the client's."""

    SAID = auto()
    CONNECTION = auto()
    OTHER_DIALECT = auto()
    WEBSOCKET = auto()


def _spoken(dialect: ProxyDialect) -> frozenset[bytes]:
    return frozenset((dialect.method, dialect.target, dialect.host, FORWARDED_FOR, FORWARDED_PROTO)) - {b""}


def _parts(dialect: ProxyDialect) -> dict[bytes, _Part]:
    parts = {name: _Part.OTHER_DIALECT for other in DIALECTS.values() for name in (other.method, other.target)}
    # the connection between the proxy and us is not the client's
    parts.update(dict.fromkeys(b"host connection content-length transfer-encoding".split(), _Part.CONNECTION))
    parts[b"sec-websocket-key"] = _Part.WEBSOCKET
    return parts | dict.fromkeys(_spoken(dialect), _Part.SAID)


_SPOKEN = {dialect: _spoken(dialect) for dialect in DIALECTS.values()}
_PARTS = {dialect: _parts(dialect) for dialect in DIALECTS.values()}


def read_question(question: Raw, dialect: ProxyDialect) -> Raw:
    """The request that a proxy asks about. Raises Refused: PROXY_AMBIGUOUS for what is missing, stands twice or is said
    in another dialect, PROXY_UNABLE for a WebSocket, REQUEST_INVALID for a method that the sidecar does not know."""
    parts, spoken = _PARTS[dialect], _SPOKEN[dialect]
    said: dict[bytes, bytes] = {}
    kept: list[Header] = []
    for header in question.headers:
        name = header[0]
        part = parts.get(name)
        if part is None:
            kept.append(header)
        elif part is _Part.SAID:
            if name in said:
                raise Refused(Code.PROXY_AMBIGUOUS, f"two headers {name.decode()}")
            said[name] = header[1]
        elif part is _Part.OTHER_DIALECT:
            raise Refused(Code.PROXY_AMBIGUOUS, f"{name.decode()} is no header of this dialect")
        elif part is _Part.WEBSOCKET:
            raise Refused(Code.PROXY_UNABLE, "a WebSocket, which the proxy does not show to be one")
    if len(said) != len(spoken):
        raise Refused(Code.PROXY_AMBIGUOUS, f"without {b', '.join(sorted(spoken - said.keys())).decode()}")
    method = said[dialect.method].decode("latin-1") if dialect.method else question.method
    if not is_method(method):
        raise Refused(Code.REQUEST_INVALID, f"the method {method[:32]!r}")
    client, before = _client(said[FORWARDED_FOR])
    kept.append((b"host", said[dialect.host]))
    if before:
        kept.append((FORWARDED_FOR, before))
    target, scheme = _target(question.target, said, dialect), _scheme(said[FORWARDED_PROTO])
    return Raw(method, target, kept, client, scheme, question.request_id, False, question.trace)


def _target(asked: bytes, said: dict[bytes, bytes], dialect: ProxyDialect) -> bytes:
    if not dialect.target:
        return asked.removeprefix(AUTHORIZE)
    if asked.partition(b"?")[::2] != (AUTHORIZE, b""):
        raise Refused(Code.PROXY_AMBIGUOUS, "a query at the path that is asked")
    return said[dialect.target]


def _scheme(said: bytes) -> str:
    if said not in (b"http", b"https"):
        raise Refused(Code.PROXY_AMBIGUOUS, f"X-Forwarded-Proto: found {said[:32]!r}, expected http or https")
    return said.decode("ascii")


def _client(said: bytes) -> tuple[str, bytes]:
    """X-Forwarded-For -> (who is connected to the proxy, what that one says of those before it)."""
    before, _, client = said.rpartition(b",")
    address = client.strip().decode("latin-1")
    if len(address) > MAX_ADDRESS or not _is_address(address):
        raise Refused(Code.PROXY_AMBIGUOUS, f"X-Forwarded-For: found {said[:64]!r}, expected addresses")
    return address, before.strip()


# about 1,000 clients
@remembered(512 * 1024)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    # RFC 4007 section 11: a zone means something on one machine alone
    return "%" not in text
