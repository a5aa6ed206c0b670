"""Identity: a bearer token and the issuer's keys -> verified claims -> the principal that Cerbos gets."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from types import MappingProxyType
from typing import Any, NamedTuple, Self

from jwt import PyJWK

from sidecar.bounded import Bounded
from sidecar.gate.claims import GROUPS, Claim, Format, Incomplete, RoleClaim, attributes_from, is_name, roles_from
from sidecar.gate.codes import Code
from sidecar.gate.hosts import entries_for
from sidecar.gate.protected import Protected
from sidecar.gate.request import Request
from sidecar.gate.values import type_of
from sidecar.gate.verdict import Refused
from sidecar.wire import base64url, strict_json

MAX_TOKEN = 16 * 1024
LEEWAY = 60
"""Seconds by which an issuer's clock may run ahead of ours (`nbf`, `iat`). A token ends when its `exp` says."""
REMEMBERED_TOKENS = 32 * 1024 * 1024
"""Bytes of what verified tokens said: about 8,000 with 20 claims, 500 of the longest."""

FindKey = Callable[[str, str], Awaitable[PyJWK]]
Count = Callable[[str, str], None]
"""Port: (issuer, kid) -> its key. Raises Refused: TOKEN_INVALID for an unknown kid, KEYS_UNAVAILABLE."""


class Issuer(NamedTuple):
    """One trusted issuer and what its tokens must say.

    `client_ids` are accepted as `client_id` (access token) or `aud` (id token); `audiences` are the resource servers
    that an access token with an `aud` may name (RFC 8707): without any, an access token with an `aud` is refused.
    `resources` are those that it may name at their own routes alone.
    """

    issuer: str
    client_ids: frozenset[str]
    token_use: frozenset[str] = frozenset(["access"])
    audiences: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()


class PrincipalRules(NamedTuple):
    """Which claims make the principal. Every attribute must be in the token unless it is `optional`."""

    id: str = "sub"
    roles: tuple[RoleClaim, ...] = (RoleClaim(GROUPS, Format.LIST),)
    attributes: Mapping[str, Claim] = {}
    default_roles: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()

    @property
    def of_id_token(self) -> frozenset[str]:
        """The claims that are read from an id token."""
        sources: list[Claim | RoleClaim] = [*self.roles, *self.attributes.values()]
        return frozenset(claim.name for claim in sources if claim.from_id)


class Principal(NamedTuple):
    """Principal, as Cerbos gets it. `roles` are sorted, each once; `expires` is the token's `exp`, in Unix seconds.

    `incomplete` says why no policy may be asked about it, None where one may.
    """

    id: str
    roles: tuple[str, ...]
    attributes: Mapping[str, Any]
    issuer: str
    expires: float
    claims: Mapping[str, Any]
    incomplete: Incomplete | None = None

    @property
    def asker(self) -> tuple[str, str]:
        """Issuer and id: two issuers may have equal ids."""
        return self.issuer, self.id


class Tokens:
    """Verifies bearer tokens (R13), and remembers each verified one by its digest until it ends or the keys change.

    Of more than `remembered` bytes the one that was verified first is forgotten. `count` is told of each look at what
    is remembered. `by_host` are the issuers at hosts where others are trusted, by the entries that stand for them."""

    _by_host: Mapping[str, Tokens] = {}

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        rules: PrincipalRules,
        find_key: FindKey,
        *,
        remembered: int = REMEMBERED_TOKENS,
        count: Count = lambda cache, outcome: None,
        by_host: Mapping[str, Mapping[str, Issuer]] = MappingProxyType({}),
    ) -> None:
        self.rules = rules
        self.find_key = find_key
        self._count = count
        self._known: Bounded[bytes, Principal] = Bounded(remembered)
        self._trust(issuers, "")
        self._by_host = {host: copy(self)._trust(trusted, host) for host, trusted in by_host.items()}  # noqa: SLF001 - of its own kind

    def _trust(self, issuers: Mapping[str, Issuer], host: str) -> Self:
        """Take tokens of these issuers, and remember them for a host alone."""
        self.issuers = issuers
        takes_access = any("access" in issuer.token_use for issuer in issuers.values())
        self.session_claims = self.rules.of_id_token if takes_access else frozenset()
        """Claims of the id token that a session must keep: one whose token is an id token has them all."""
        self._whose = host.encode("ascii") + b"\n" if host else b""
        return self

    def at(self, host: str) -> Tokens:
        """Return the verifier of tokens at a host: those of other hosts' issuers are nobody's."""
        if not self._by_host:
            return self
        return next((self._by_host[entry] for entry in entries_for(host) if entry in self._by_host), self)

    def _digest(self, token: bytes) -> bytes:
        return hashlib.sha256(self._whose + token).digest()

    @property
    def remembered(self) -> int:
        """Bytes of what verified tokens said."""
        return self._known.weight

    def forget(self) -> None:
        """Drop every remembered token: the keys which vouched for them changed."""
        self._known.clear()

    async def principal_of(self, request: Request, now: float) -> Principal:
        """The principal of the request's bearer token. Raises Refused: TOKEN_MISSING, what
        `principal_of_token` raises."""
        value = request.seen.get(b"authorization", b"")
        if value.startswith(b"Bearer "):
            # one that is known was in the form that `bearer_token` wants
            known = self._known.get(self._digest(value[7:]))
            if known is not None and known.expires > now:
                self._count("token", "hit")
                return known
        return await self.principal_of_token(bearer_token(request), now)

    def require_audience(self, principal: Principal, protected: Protected | None) -> None:
        """Require that the token of a principal is made for the resource of a route. On a route without one, the token
        may not be made for the resource of another route. Raises Refused(TOKEN_INVALID)."""
        claims = principal.claims
        audience = claims.get("aud")
        if protected is not None:
            protected.require_audience(None if audience is None else str(audience))
        elif (
            audience is not None
            and claims.get("token_use") != "id"
            and audience not in self.issuers[principal.issuer].audiences
        ):
            raise Refused(Code.TOKEN_INVALID, "aud: the resource of another route")

    async def principal_of_session(self, token: bytes, identity: str, now: float) -> Principal:
        """The principal of a compact JWS, and of claims of the id token that came with it, as JSON. They were verified
        when they were kept; "" is none. Raises Refused: what `principal_of_token` raises."""
        principal = await self.principal_of_token(token, now)
        if not identity:
            return principal
        # no token has a line end in it, so that no bearer token is taken for a session
        digest = self._digest(token + b"\n" + identity.encode("utf-8"))
        known = self._known.get(digest)
        if known is None:
            kept = kept_claims(identity)
            known = principal_from(principal.claims, principal.issuer, self.rules, kept)
            self._known.put(digest, known)
        return known

    async def principal_of_token(self, token: bytes, now: float) -> Principal:
        """The principal of a compact JWS. Raises Refused: TOKEN_INVALID, TOKEN_EXPIRED, KEYS_UNAVAILABLE,
        PRINCIPAL_MISSING."""
        digest = self._digest(token)
        known = self._known.get(digest)
        if known is not None:
            if known.expires > now:
                self._count("token", "hit")
                return known
            self._known.drop(digest)
            raise Refused(Code.TOKEN_EXPIRED)
        self._count("token", "miss")
        claims, issuer = await verified_claims(token, self.issuers, self.find_key, now)
        principal = principal_from(claims, issuer.issuer, self.rules)
        self._known.put(digest, principal)
        return principal


async def verified_claims(
    token: bytes, issuers: Mapping[str, Issuer], find_key: FindKey, now: float
) -> tuple[dict[str, Any], Issuer]:
    """The claims of a compact JWS, verified by R13, and whose they are. Raises Refused: TOKEN_INVALID, TOKEN_EXPIRED,
    KEYS_UNAVAILABLE."""
    if len(token) > MAX_TOKEN or not _JWS.fullmatch(token):
        raise Refused(Code.TOKEN_INVALID, "expected one JWT")
    signed, _, signature = token.rpartition(b".")
    header, payload = (_json_object(part) for part in signed.split(b"."))
    kid = _read_header(header)
    issuer = issuers.get(payload["iss"]) if isinstance(payload.get("iss"), str) else None
    if issuer is None:
        raise Refused(Code.TOKEN_INVALID, "iss: not one of the trusted issuers")
    key = await find_key(issuer.issuer, kid)
    _verify_signature(key, signed, _base64url(signature))
    check_claims(payload, issuer, now)
    return payload, issuer


_JWS = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
# RFC 6750 section 2.1: one space, then b64token; of a JWS in compact form (RFC 7515 section 7.1), three segments
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] ([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)")


def bearer_token(request: Request) -> bytes:
    """The compact JWS in Authorization, its only place. Raises Refused: TOKEN_MISSING or TOKEN_INVALID."""
    value = request.seen.get(b"authorization")
    if value is None:
        raise Refused(Code.TOKEN_MISSING)
    if len(value) > MAX_TOKEN:
        raise Refused(Code.TOKEN_INVALID, f"{len(value)} bytes of Authorization, at most {MAX_TOKEN}")
    match = _BEARER.fullmatch(value)
    if match is None:
        raise Refused(Code.TOKEN_INVALID, "Authorization: expected 'Bearer' and one JWT")
    return match[1]


def _base64url(segment: bytes) -> bytes:
    try:
        return base64url.decode(segment)
    except ValueError as error:
        raise Refused(Code.TOKEN_INVALID, f"a segment that is {error}") from None


def _json_object(segment: bytes) -> dict[str, Any]:
    try:
        value = strict_json.loads(_base64url(segment))
    except ValueError as error:
        raise Refused(Code.TOKEN_INVALID, str(error)) from None
    if not isinstance(value, dict):
        raise Refused(Code.TOKEN_INVALID, "a segment that is not a JSON object")
    return value


_KID = re.compile(r"[\x21-\x7e]{1,128}")
_TYPES = ("JWT", "at+jwt")


def _read_header(header: dict[str, Any]) -> str:
    if not header.keys() <= {"alg", "kid", "typ"}:
        raise Refused(Code.TOKEN_INVALID, "a header parameter beside alg, kid and typ")
    if header.get("alg") != "RS256":
        raise Refused(Code.TOKEN_INVALID, "alg: expected RS256")
    if header.get("typ", "JWT") not in _TYPES:
        raise Refused(Code.TOKEN_INVALID, "typ: expected JWT")
    kid = header.get("kid")
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise Refused(Code.TOKEN_INVALID, "kid: expected up to 128 visible characters")
    return kid


def _verify_signature(key: PyJWK, signed: bytes, signature: bytes) -> None:
    # the key's own algorithm, never the header's; that the key store takes RS256 keys only is not relied on
    if key.algorithm_name != "RS256" or not key.Algorithm.verify(signed, key.key, signature):
        raise Refused(Code.TOKEN_INVALID, "the signature")


def check_claims(claims: Mapping[str, Any], issuer: Issuer, now: float) -> None:
    """Check times, use and audience of verified claims. Raises Refused: TOKEN_INVALID, TOKEN_EXPIRED.

    Cognito, "Verifying a JSON Web Token": `exp`, `iss`, `token_use`, then `client_id` (access) or `aud` (id).
    """
    expires, issued = _seconds(claims, "exp"), _seconds(claims, "iat")
    if "nbf" in claims and _seconds(claims, "nbf") > now + LEEWAY:
        raise Refused(Code.TOKEN_INVALID, "nbf: not valid yet")
    if issued > now + LEEWAY:
        raise Refused(Code.TOKEN_INVALID, "iat: issued in the future")
    if expires <= now:
        raise Refused(Code.TOKEN_EXPIRED)
    use = claims.get("token_use")
    if not isinstance(use, str) or use not in issuer.token_use:
        raise Refused(Code.TOKEN_INVALID, f"token_use: expected {' or '.join(sorted(issuer.token_use))}")
    _check_audience(claims, issuer, use)


def _check_audience(claims: Mapping[str, Any], issuer: Issuer, use: str) -> None:
    claim = "aud" if use == "id" else "client_id"
    client = claims.get(claim)
    if not isinstance(client, str) or client not in issuer.client_ids:
        raise Refused(Code.TOKEN_INVALID, f"{claim}: a token of another app client")
    audience = claims.get("aud")
    if use != "id" and audience is not None and not (isinstance(audience, str) and _is_known(audience, issuer)):
        raise Refused(Code.TOKEN_INVALID, "aud: not one of `audiences`")


def _is_known(audience: str, issuer: Issuer) -> bool:
    return audience in issuer.audiences or audience in issuer.resources


def _seconds(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    # RFC 7519 section 2 lets NumericDate have fractions; Cognito's have none, and bool is an int to Python
    if type(value) is not int or not 0 <= value < strict_json.EXACT_INTEGER:
        raise Refused(Code.TOKEN_INVALID, f"{name}: expected Unix seconds as an integer")
    return value


def keep_claims(identity: Mapping[str, Any], names: Iterable[str]) -> str:
    """Claims of an id token as a session keeps them: JSON with each of `names`, null where there is none; "" for no
    names."""
    kept = {name: identity.get(name) for name in sorted(names)}
    return json.dumps(kept, separators=(",", ":"), ensure_ascii=False) if kept else ""


def kept_claims(text: str) -> dict[str, Any]:
    """The claims that a session keeps, none where the text is another one."""
    try:
        kept = strict_json.loads(text.encode("utf-8"))
    except ValueError:
        return {}
    return kept if isinstance(kept, dict) else {}


def principal_from(
    claims: Mapping[str, Any], issuer: str, rules: PrincipalRules, identity: Mapping[str, Any] | None = None
) -> Principal:
    """The principal that verified claims make; `identity` are those of the id token that came with them.

    Raises Refused: TOKEN_INVALID for a `sub` or roles that no trusted issuer writes, PRINCIPAL_MISSING where the claim
    that `principal.id` names is absent or no name. Another sign-in would give the same, so that it is no 401.
    """
    if not is_name(claims.get("sub")):
        raise Refused(Code.TOKEN_INVALID, f"sub: {_EXPECTS_NAME}")
    identifier = claims["sub"] if rules.id == "sub" else _named_claim(claims, rules.id)
    if identity is None:
        identity = claims if claims.get("token_use") == "id" else {}
    roles = roles_from(claims, identity, rules.roles, rules.default_roles)
    attributes, incomplete = attributes_from(claims, identity, rules.attributes, rules.optional)
    if not roles:
        incomplete = Incomplete(Code.NO_ROLES)
    return Principal(identifier, roles, attributes, issuer, float(claims["exp"]), claims, incomplete)


def principal_as(
    name: str, roles: Iterable[str], attributes: Mapping[str, Any], me: Principal, rules: PrincipalRules
) -> Principal:
    """The principal that an administrator describes, held to the rules as one of a token is. It has no claims but the
    name, and the issuer and the time of `me`."""
    wanted = {name: Claim(name, claim.type) for name, claim in rules.attributes.items()}
    read, incomplete = attributes_from(attributes, {}, wanted, rules.optional)
    told = tuple(sorted(set(roles)))
    if not told:
        incomplete = Incomplete(Code.NO_ROLES)
    return Principal(name, told, {**attributes, **read}, me.issuer, me.expires, {"sub": name}, incomplete)


_EXPECTS_NAME = "expected 1 to 256 characters without controls or spaces"


def _named_claim(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None:
        raise Refused(Code.PRINCIPAL_MISSING, f"principal.id: the token has no claim {name}")
    if not is_name(value):
        # never the value itself: it may be an email
        raise Refused(
            Code.PRINCIPAL_MISSING, f"principal.id: the claim {name}: found {type_of(value)}, {_EXPECTS_NAME}"
        )
    return str(value)
