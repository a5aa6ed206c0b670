"""Claims that `routes.yaml` needs and a user pool's tokens lack, and references to a principal that find nothing.

Which token has which claim: AWS, "Understanding the access token", "Understanding the identity (ID) token".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import yaml

from sidecar.config.routes.file import RoutesFile
from sidecar.config.routes.principal import Need, NeededClaim
from sidecar.config.setting_table import Settings
from sidecar.config.shapes import Mark, Problem, mark_of
from sidecar.gate.claims import GROUPS
from sidecar.gate.identity import PrincipalRules
from sidecar.gate.references import Reference, ReferenceSource, parse_reference
from sidecar.gate.values import Type

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


class ClaimFindings(NamedTuple):
    """Warnings: no token that is accepted has the claim. Notes: those of programs lack it."""

    warnings: list[str]
    notes: list[str]


def lacking(routes: RoutesFile, settings: Settings, text: str) -> ClaimFindings:
    """Look at a route file and its `text`: at claims, where a user pool of Cognito makes the tokens."""
    said = ClaimFindings([], [])
    uses = _uses(routes, settings)
    references = list(_references(yaml.compose(text, Loader=yaml.SafeLoader)))
    claims = [
        NeededClaim(one.name, Need.REFERENCE, mark)
        for one, mark in references
        if one.source is ReferenceSource.CLAIMS and not one.optional
    ]
    for needed in (one for one in routes.needed_claims if one.from_id):
        if why := _never_kept(needed, uses, settings):
            said.warnings.append(_problem_at(settings, needed.mark, f"{why}: {_EFFECT_OF_ID[needed.need]}"))
        elif needed.need is Need.ATTRIBUTE and any("access" in use for use in uses):
            said.notes.append(_problem_at(settings, needed.mark, f"{_OF_A_BEARER} {_PROGRAM[needed.need]}"))
    for needed in (*(one for one in routes.needed_claims if not one.from_id), *claims):
        use = next((use for use in uses if use and not _carried(needed.claim, use)), None)
        if use is not None:
            said.warnings.append(
                _problem_at(settings, needed.mark, f"{_absent(needed.claim, use)}: {_EFFECT[needed.need]}")
            )
        elif needed.claim in _OF_PEOPLE and needed.need in _PROGRAM and any("access" in use for use in uses):
            said.notes.append(
                _problem_at(settings, needed.mark, f"{_OF_A_PROGRAM.format(needed.claim)} {_PROGRAM[needed.need]}")
            )
    said.warnings.extend(
        _problem_at(settings, mark, fault)
        for one, mark in references
        if one.source is ReferenceSource.PRINCIPAL and (fault := _never(one, routes.principal))
    )
    return said


def references_of(text: str) -> list[Reference]:
    """Return the references in a route file, wherever the grammar has them."""
    return [one for one, _ in _references(yaml.compose(text, Loader=yaml.SafeLoader))]


def _references(node: yaml.Node | None, path: str = "") -> Iterator[tuple[Reference, Mark]]:
    """The references in all texts below a node, wherever the grammar has them."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                # it has its references where it stands
                continue
            yield from _references(value, f"{path}.{key.value}".lstrip("."))
    elif isinstance(node, yaml.SequenceNode):
        for at, value in enumerate(node.value):
            yield from _references(value, f"{path}[{at}]")
    elif isinstance(node, yaml.ScalarNode):
        for inner in re.findall(r"\{([^{}]*)\}", node.value):
            with contextlib.suppress(ValueError):
                yield parse_reference(inner), mark_of(node, path)


def _never(reference: Reference, rules: PrincipalRules) -> str:
    """Say why a reference to an attribute of the principal never has a value, "" where it may."""
    name = reference.name.removeprefix("attributes.")
    if name == reference.name:
        return ""
    claim = rules.attributes.get(name)
    if claim is None:
        effect = "the attribute is always left out" if reference.optional else "every request that it reads is refused"
        return f"found {{{reference}}}, which principal.attributes does not declare: {effect}"
    takes = _TAKES.get(reference.type, {reference.type})
    if claim.type is None or claim.type in takes or claim.type is Type.JSON:
        return ""
    kind = f"{reference}:{reference.type}" if reference.type is not Type.STRING else str(reference)
    return (
        f"found {{{kind}}}, expected {{{reference}:{claim.type}}}: the attribute is of the type {claim.type}, "
        "and every request that reads it as another is refused"
    )


_TAKES = {Type.NUMBER: {Type.NUMBER, Type.INT}, Type.INT: {Type.INT, Type.NUMBER}}
"""The type of a reference -> the types of an attribute that it may find. A number may be an integer."""


def _uses(routes: RoutesFile, settings: Settings) -> list[frozenset[str]]:
    """Which tokens are accepted of each user pool. What another issuer puts into its tokens is not known."""
    if routes.identities:
        return [frozenset(identity.token_use) for identity in routes.identities if identity.user_pool_id]
    return [frozenset(["access"])] if settings.pool_id and not settings.issuers else []


def _carried(claim: str, use: Iterable[str]) -> bool:
    """Return whether a token of these uses may have a claim; one of no known kind comes from a trigger."""
    kind = "access" if claim in _OF_ACCESS else "id" if claim in _OF_ID or claim.startswith("custom:") else None
    return kind is None or kind in use


def _absent(claim: str, use: frozenset[str]) -> str:
    (only,) = use
    instead = f" (it is {_INSTEAD[claim]!r} there)" if claim in _INSTEAD else ""
    return f"Cognito puts no claim {claim!r} into {only} tokens, and no other ones are accepted{instead}"


def _never_kept(needed: NeededClaim, uses: list[frozenset[str]], settings: Settings) -> str:
    """Say why no session has a claim of its id token, "" where one may."""
    if not settings.login_modes and not any("id" in use for use in uses):
        return "nobody signs in here, and only a session has an id token beside its access token"
    if uses and not _carried(needed.claim, ["id"]):
        return f"Cognito puts no claim {needed.claim!r} into id tokens"
    return ""


_EFFECT_OF_ID = {
    Need.ROLES: "no role comes of it",
    Need.ATTRIBUTE: "every decided request is 403 claim_missing. Leave out `from: id`, or name the attribute in "
    "`principal.optional`",
}
_OF_A_BEARER = "an access token that is sent as a bearer token comes without an id token:"
_EFFECT = {
    Need.ID: "every token is 403 principal_missing",
    Need.ROLES: "no role comes of it",
    Need.ATTRIBUTE: (
        "every decided request is 403 claim_missing, unless a pre token generation trigger adds it. Read it of a "
        "session's id token by `from: id`, accept the other kind of tokens by `token_use`, or name the attribute in "
        "`principal.optional`"
    ),
    Need.REFERENCE: (
        "every request that reads it is 400 reference_invalid, unless a pre token generation trigger adds it"
    ),
}
_OF_A_PROGRAM = "the access token of a program (client credentials) has no claim {!r}:"
_PROGRAM = {
    Need.ID: "it is 403 principal_missing. `id: sub` takes people and programs",
    Need.ATTRIBUTE: "it is 403 claim_missing, unless the attribute is in `principal.optional`",
}


def _problem_at(settings: Settings, mark: Mark, message: str) -> str:
    return str(Problem(settings.routes, mark.line, mark.column, f"{mark.path}: {message}"))
