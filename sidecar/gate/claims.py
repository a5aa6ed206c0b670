"""Claims of a verified token -> attributes and roles of the principal, each exactly as `routes.yaml` declares it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from sidecar.gate.codes import Code
from sidecar.gate.values import Type, checked, from_text, type_of
from sidecar.gate.verdict import Refused

GROUPS = "cognito:groups"
"""The claim that lists a user's groups (AWS: "Understanding user pool JSON web tokens")."""


class Claim(NamedTuple):
    """Source of an attribute of the principal. Without a type a text, number, boolean or list is taken as it is. With
    `from_id` it is a claim of the id token."""

    name: str
    type: Type | None = None
    from_id: bool = False


class Format(StrEnum):
    """Form of a claim that holds roles: a list of names always, and besides that a text of one kind or none."""

    LIST = "list"
    TEXT = "text"
    """Names with spaces between, as `scope` has them (RFC 8693 section 4.2)."""
    SAML = "saml"
    """`[a, b]`, or one name: what Cognito makes of a SAML attribute that may have several values."""


class RoleClaim(NamedTuple):
    """Source of roles of the principal. With `from_id` it is a claim of the id token."""

    name: str
    format: Format
    from_id: bool = False


class Incomplete(NamedTuple):
    """Reason why no policy may be asked about a principal: what its refusal says."""

    code: Code
    detail: str = ""


class Attributes(NamedTuple):
    """Attributes that were read, and why they are not all that a policy must be told, None where they are."""

    values: Mapping[str, Any]
    incomplete: Incomplete | None


def attributes_from(
    claims: Mapping[str, Any], identity: Mapping[str, Any], wanted: Mapping[str, Claim], optional: frozenset[str]
) -> Attributes:
    """Read the `wanted` attributes of a token's claims and of `identity`, those of an id token. One that is absent or
    null is missing, unless it is `optional`.

    A condition over an absent attribute counts as not met in a DENY rule of Cerbos, too: it would be skipped.
    """
    values: dict[str, Any] = {}
    faults: list[Incomplete] = []
    for name, claim in wanted.items():
        value = (identity if claim.from_id else claims).get(claim.name)
        if value is not None:
            try:
                values[name] = _typed(name, claim, value)
            except Refused as refused:
                faults.append(Incomplete(refused.code, refused.detail))
        elif name not in optional:
            token = "no id token of a session has the claim" if claim.from_id else "the token has no claim"
            detail = f"principal.attributes.{name}: {token} {claim.name}"
            faults.append(Incomplete(Code.CLAIM_MISSING, detail))
    if not faults:
        return Attributes(values, None)
    return Attributes(values, Incomplete(faults[0].code, "; ".join(fault.detail for fault in faults)))


def _typed(name: str, claim: Claim, value: Any) -> Any:
    place = f"principal.attributes.{name}: the claim {claim.name}"
    if claim.type is None:
        if isinstance(value, dict):
            raise Refused(Code.CLAIM_INVALID, f"{place}: found an object, expected `type: json` for it")
        # a list may hold lists and objects, within the bounds of JSON
        return checked(Type.JSON, value, place, Code.CLAIM_INVALID) if isinstance(value, list) else value
    # custom attributes of a user pool are texts in its tokens, whatever their type in the pool is
    taken = from_text(claim.type, value) if isinstance(value, str) else value
    return checked(claim.type, taken, place, Code.CLAIM_INVALID)


# what becomes a header, a field of the question to Cerbos or of the log: no control or space, nothing endless
_NAME = re.compile(r"[^\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff]{1,256}")
# no name in it has a comma, a bracket or a space: two readers would split it alike
_SAML = re.compile(r"\[(?:[^\s,\[\]]+(?:, ?[^\s,\[\]]+)*)?\]|[^\s,\[\]]+")


def is_name(value: object) -> bool:
    """Return whether a claim can be the id or a role of a principal: 1 to 256 characters without controls or spaces."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def roles_from(
    claims: Mapping[str, Any], identity: Mapping[str, Any], wanted: tuple[RoleClaim, ...], default: tuple[str, ...]
) -> tuple[str, ...]:
    """The roles of all `wanted` claims, or the `default` ones: each once, and in one order whatever the token's is.

    Where Cerbos evaluates strictly, the order of roles decides. Raises Refused(TOKEN_INVALID).
    """
    found = {role for claim in wanted for role in _roles(identity if claim.from_id else claims, claim)}
    return tuple(sorted(found or set(default)))


def _roles(claims: Mapping[str, Any], claim: RoleClaim) -> list[str]:
    value = claims.get(claim.name)
    if value is None and (claim.from_id or claim.name not in claims):
        return []
    roles = _split(value, claim.format) if isinstance(value, str) else value
    if not isinstance(roles, list) or not all(map(is_name, roles)):
        wanted = {
            Format.LIST: "a list of names", Format.TEXT: "a list of names, or names with spaces between",
            Format.SAML: "a list of names, or a text such as [a, b]",
        }[claim.format]  # fmt: skip
        raise Refused(Code.TOKEN_INVALID, f"{claim.name}: found {type_of(value)}, expected {wanted}")
    return roles


def _split(text: str, kind: Format) -> list[str] | None:
    if kind is Format.TEXT:
        return text.split()
    if kind is Format.SAML and _SAML.fullmatch(text):
        return text.strip("[]").replace(",", " ").split()
    return None
