"""`principal` of `routes.yaml`: its grammar, and how it is read into the rules that make a principal of claims."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from sidecar.config.shapes import Choice, Entry, Field, ListOf, MapOf, Mark, Reader, Record, Short, Text
from sidecar.gate.claims import GROUPS, Claim, Format, RoleClaim
from sidecar.gate.identity import PrincipalRules
from sidecar.gate.values import Type

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_CLAIM = Field(Text(pattern=r"\S+", what="a claim name"), "the claim's name", "", True)
_FROM = Field(
    Choice(("id",)), "`id`: a claim of the session's id token, which a bearer token that is no id token comes without"
)

ATTRIBUTE = Record(
    {
        "claim": _CLAIM,
        "type": Field(
            Choice(tuple(Type)),
            "what it must be: that JSON type, or for `number`, `int` and `bool` a text that is exactly one",
        ),
        "from": _FROM,
    },
    "an attribute of the principal",
)
ROLES = Record(
    {
        "claim": _CLAIM,
        "format": Field(
            Choice(tuple(Format)),
            "`list` of names; `text`: or names with spaces between; `saml`: or the text `[a, b]` that Cognito makes of "
            f"a SAML attribute. Without it `list` for `{GROUPS}` and `text` for others",
        ),
        "from": _FROM,
    },
    "a claim that holds roles",
)
PRINCIPAL = Record(
    {
        "id": Field(Text(pattern=r"\S+", what="a claim name"), "the claim that is the principal's id", "sub"),
        "roles": Field(
            ListOf(Short(ROLES, "claim"), single=True), "the claim, or claims, that hold the roles", (GROUPS,)
        ),
        "attributes": Field(
            MapOf(Short(ATTRIBUTE, "claim"), _NAME, "an attribute name"),
            "attribute: claim. A token without the claim is 403 `claim_missing` wherever a policy is asked",
            {},
        ),
        "optional": Field(
            ListOf(Text(pattern=_NAME, what="an attribute name"), single=True),
            "attributes whose claim may be absent: each rule over one needs `has(…)`",
            (),
        ),
    },
    "how claims become the Cerbos principal",
)


def principal_rules(entry: Entry | None, default_roles: tuple[str, ...], reader: Reader) -> PrincipalRules:
    """The rules that an entry of the grammar PRINCIPAL gives; None stands for a file without it."""
    if entry is None:
        return PrincipalRules(default_roles=default_roles)
    unknown = set(entry["optional"]) - set(entry["attributes"])
    if unknown:
        reader.fault(entry.at("optional"), f"found {sorted(unknown)[0]!r}, expected names of `attributes`")
    roles = tuple(map(_role, entry["roles"])) if entry.has("roles") else PrincipalRules().roles
    attributes = {name: _claim(claim) for name, claim in entry["attributes"].items()}
    return PrincipalRules(entry["id"], roles, attributes, default_roles, frozenset(entry["optional"]))


class Need(StrEnum):
    """Purpose of a claim."""

    ID = "id"
    ROLES = "roles"
    ATTRIBUTE = "attribute"
    REFERENCE = "reference"


class NeededClaim(NamedTuple):
    """A claim that the principal or a reference is read from, and where it is named; `from_id` is of an id token."""

    claim: str
    need: Need
    mark: Mark
    from_id: bool = False


def needed_claims(entry: Entry | None) -> tuple[NeededClaim, ...]:
    """The claims that an entry needs, as far as it names them itself. An optional attribute needs none."""
    if entry is None:
        return ()
    own = [NeededClaim(entry["id"], Need.ID, entry.at("id"))] if entry.has("id") else []
    roles = [one for one in entry["roles"] if isinstance(one, Entry)]
    required = [one for name, one in entry["attributes"].items() if name not in entry["optional"]]
    return (
        *own, *(NeededClaim(one["claim"], Need.ROLES, one.at("claim"), one["from"] == "id") for one in roles),
        *(NeededClaim(one["claim"], Need.ATTRIBUTE, one.at("claim"), one["from"] == "id") for one in required),
    )  # fmt: skip


def _claim(entry: Entry) -> Claim:
    return Claim(entry["claim"], Type(entry["type"]) if entry["type"] else None, entry["from"] == "id")


def _role(entry: Any) -> RoleClaim:
    if not isinstance(entry, Entry):
        # the default of the grammar, where a fault was found in its place
        return PrincipalRules().roles[0]
    name = entry["claim"]
    usual = Format.LIST if name == GROUPS else Format.TEXT
    return RoleClaim(name, Format(entry["format"]) if entry["format"] else usual, entry["from"] == "id")
