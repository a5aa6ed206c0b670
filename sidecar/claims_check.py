"""Claims that `routes.yaml` needs and that the tokens of a user pool lack: what `sidecar check` says of them.

Which token has which claim: AWS, "Understanding the access token", "Understanding the identity (ID) token".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sidecar.gate.claims import GROUPS
from sidecar.routes.principal import Need, NeededClaim
from sidecar.routes_file import RoutesFile
from sidecar.settings import Settings
from sidecar.shapes import Problem

_OF_ACCESS = frozenset(["client_id", "scope", "username", "device_key", "version"])
# the standard claims of OpenID Connect Core section 5.1 but `sub`, and what Cognito adds of its own
_OF_ID = frozenset([
    "name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture",
    "website", "email", "email_verified", "gender", "birthdate", "zoneinfo", "locale", "phone_number",
    "phone_number_verified", "address", "updated_at", "cognito:username", "cognito:roles", "cognito:preferred_role",
    "identities", "nonce", "at_hash",
])  # fmt: skip
_OF_PEOPLE = frozenset([GROUPS, "username", "origin_jti", "device_key", "event_id"])
"""Claims of an access token that one of the client credentials grant lacks."""

_INSTEAD = {"username": "cognito:username", "cognito:username": "username"}
"""A claim of one kind of token -> the one that says the same in the other."""


class Said(NamedTuple):
    """Warnings: no token that is accepted has the claim. Notes: those of programs lack it."""

    warnings: list[str]
    notes: list[str]


def lacking(routes: RoutesFile, settings: Settings) -> Said:
    """What is to be said of the claims that a route file needs, where a user pool of Cognito makes the tokens."""
    said = Said([], [])
    uses = _uses(routes, settings)
    for needed in routes.needed_claims:
        use = next((use for use in uses if use and not _carried(needed.claim, use)), None)
        if use is not None:
            said.warnings.append(_told(settings, needed, f"{_absent(needed.claim, use)}: {_EFFECT[needed.need]}"))
        elif needed.claim in _OF_PEOPLE and needed.need is not Need.ROLES and any("access" in use for use in uses):
            said.notes.append(_told(settings, needed, f"{_OF_A_PROGRAM.format(needed.claim)} {_PROGRAM[needed.need]}"))
    return said


def _uses(routes: RoutesFile, settings: Settings) -> list[frozenset[str]]:
    """Which tokens are accepted of each user pool. What another issuer puts into its tokens is not known."""
    if routes.identities:
        return [frozenset(identity.token_use) for identity in routes.identities if identity.user_pool_id]
    return [frozenset(["access"])] if settings.pool_id and not settings.issuers else []


def _carried(claim: str, use: Iterable[str]) -> bool:
    """Whether a token of these uses may have a claim; one of no known kind comes from a trigger."""
    kind = "access" if claim in _OF_ACCESS else "id" if claim in _OF_ID or claim.startswith("custom:") else None
    return kind is None or kind in use


def _absent(claim: str, use: frozenset[str]) -> str:
    (only,) = use
    instead = f" (it is {_INSTEAD[claim]!r} there)" if claim in _INSTEAD else ""
    return f"Cognito puts no claim {claim!r} into {only} tokens, and no other ones are accepted{instead}"


_EFFECT = {
    Need.ID: "every token is 401 token_invalid",
    Need.ROLES: "no role comes of it",
    Need.ATTRIBUTE: (
        "every decided request is 403 claim_missing, unless a pre token generation trigger adds it. Accept the other "
        "kind of tokens by `token_use`, or name the attribute in `principal.optional`"
    ),
}
_OF_A_PROGRAM = "the access token of a program (client credentials) has no claim {!r}:"
_PROGRAM = {
    Need.ID: "it is 401 token_invalid. `id: sub` takes people and programs",
    Need.ATTRIBUTE: "it is 403 claim_missing, unless the attribute is in `principal.optional`",
}


def _told(settings: Settings, needed: NeededClaim, message: str) -> str:
    mark = needed.mark
    return str(Problem(settings.routes, mark.line, mark.column, f"{mark.path}: {message}"))
