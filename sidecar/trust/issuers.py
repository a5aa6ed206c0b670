"""Which issuers are trusted and where their keys are: from `identity` of the route file, or from the environment."""

from __future__ import annotations

from typing import NamedTuple

from sidecar.config.aws import domain_of
from sidecar.config.routes.file import Identity
from sidecar.config.setting_table import Settings
from sidecar.gate.identity import Issuer


class Trust(NamedTuple):
    """Trusted issuers by their exact `iss`, the key URL of each, and which issuers are one pool under two names.

    `issuers` are all; `everywhere` those at hosts that no `identity` names, and `by_host` those at others, by the entry
    that names them."""

    issuers: dict[str, Issuer]
    key_urls: dict[str, str]
    groups: tuple[tuple[str, ...], ...]
    everywhere: dict[str, Issuer]
    by_host: dict[str, dict[str, Issuer]]


def trust_from(settings: Settings, identities: tuple[Identity, ...], resources: frozenset[str] = frozenset()) -> Trust:
    """The trusted issuers. `identity` of the route file stands in place of the environment's pool; their tokens may be
    made for `resources`, which are routes'."""
    identities = identities or _from_environment(settings)
    trust = Trust({}, {}, (), {}, {host: {} for identity in identities for host in identity.hosts})
    for identity in identities:
        trust = _with_identity(trust, identity, settings, resources)
    return trust


def cognito_issuers(region: str, pool_id: str) -> tuple[str, str]:
    """Both forms of a pool's issuer: the original, and that of IssuerConfiguration "updated" (AWS developer guide)."""
    suffix = f"{region}.{domain_of(region)}/{pool_id}"
    return f"https://cognito-idp.{suffix}", f"https://issuer-cognito-idp.{suffix}"


def _from_environment(settings: Settings) -> tuple[Identity, ...]:
    if settings.issuers:
        return tuple(
            Identity(issuer, settings.jwks_url, "", "", settings.client_ids, ("access",), ())
            for issuer in settings.issuers
        )
    if not settings.pool_id:
        return ()
    return (Identity("", "", settings.region, settings.pool_id, settings.client_ids, ("access",), ()),)


def _with_identity(trust: Trust, identity: Identity, settings: Settings, resources: frozenset[str]) -> Trust:
    issuers = (identity.issuer,) if identity.issuer else cognito_issuers(identity.region, identity.user_pool_id)
    own = [trust.by_host[host] for host in identity.hosts]
    for issuer in issuers:
        made = Issuer(
            issuer, frozenset(identity.client_ids), frozenset(identity.token_use), frozenset(identity.audiences),
            resources,
        )  # fmt: skip
        for trusted in (trust.issuers, *(own or (trust.everywhere, *trust.by_host.values()))):
            trusted[issuer] = made
        trust.key_urls[issuer] = _key_url(issuer, identity, settings)
    return trust._replace(groups=(*trust.groups, issuers))


def _key_url(issuer: str, identity: Identity, settings: Settings) -> str:
    if identity.jwks_url:
        return identity.jwks_url
    if settings.jwks_url:
        return settings.jwks_url
    if settings.cognito_endpoint:
        return f"{settings.cognito_endpoint.rstrip('/')}/{identity.user_pool_id}/.well-known/jwks.json"
    return f"{issuer}/.well-known/jwks.json"
