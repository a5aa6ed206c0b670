"""Causes for which our verdict and the app's status differ, and what to look at, for each code of a line."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Self

from sidecar.gate.codes import Code, Dependency, Ground, Kind


class LabeledEnum(StrEnum):
    """A name for programs, with a text for people."""

    text: str

    def __new__(cls, value: str, text: str) -> Self:
        """Make one of both."""
        made = str.__new__(cls, value)
        made._value_ = value
        made.text = text
        return made


class Cause(StrEnum):
    """Why verdict and status differ; `remedy` is what to look at."""

    text: str
    remedy: str

    def __new__(cls, value: str, text: str, remedy: str) -> Self:
        """Make one of all three."""
        made = str.__new__(cls, value)
        made._value_ = value
        made.text, made.remedy = text, remedy
        return made

    # fmt: off
    NO_ROUTE = "no_route", "no route", "add the path to routes.yaml"
    NO_METHOD = "no_method", "the route has no action for the method", "add the method to the route's actions"
    OPERATION = "no_operation", "the body asks for an operation that the route does not name", "add the operation to the route"
    QUERY = "query_not_allowed", "a query name that the route does not list", "add the name to the route's query, or mend the client"
    SIGNED_OUT = "not_signed_in", "nobody was signed in", "let the client sign in, or make the route public"
    TOKEN = "token", "the token or session was not taken", "see the detail in the decision log"
    NO_ROLES = "no_roles", "a principal without a role", "put the user into a group, or set defaults.roles"
    NO_POLICY = "no_policy", "no policy for the kind", "write a policy for the kind"
    ROLE = "no_rule_for_roles", "nobody with any of these roles was ever allowed it", "add a rule for one of the roles, if they should"
    CLAIM = "claim_missing", "a claim of the token is missing or of another type", "let the pool put the claim into the token, or make it optional"
    ATTRIBUTE = "attribute_missing", "an attribute is missing or of another type", "compare what the lookup answers with the route's attributes"
    POLICY = "policy", "the policy says no", "change the policy, or keep the refusal"
    NO_RESOURCE = "no_such_resource", "the lookup knows no such thing", "look at what the lookup knows"
    VALUE = "value_missing", "the request lacks a value that the route reads", "compare the route with what clients send"
    SEGMENT = "segment_unfit", "a segment of the path does not fit the route's pattern", "add the path to routes.yaml if it is one without a route of its own, else give the variable another pattern, or mend the client"
    ORIGIN = "other_origin", "a page of another origin", "add the origin to the route's cors"
    BODY = "body", "a body that the route does not take", "see the detail in the decision log"
    REQUEST = "request", "a request that can be read in more than one way", "mend the client, or allow it on the route"
    PROXY = "proxy", "the proxy in front cannot bring what the decision needs", "let the sidecar forward the route itself"
    LIST = "list_unreadable", "the answer is not the list that the route says", "compare the route's items with the app's answer"
    LOOKUP = "lookup_failed", "the lookup failed or came late", "make the lookup faster or more reliable"
    PDP = "pdp_failed", "the PDP failed or came late", "give Cerbos more CPU, or look at its log"
    SERVICES = "sign_in_failed", "keys, sessions or the identity provider could not be reached", "look at the dependency that the code names"
    SIDECAR = "sidecar", "a fault or limit of the sidecar", "look at stderr"
    APP = "app_failed", "the app gave no answer", "look at the app"
    WIDER_POLICY = "policy_wider", "the policy allows what the app refuses", "narrow the policy: the app has a rule that it lacks"
    WIDER_ROUTE = "route_wider", "the route asks no policy, and the app refuses", "let the route ask a policy, or leave it to the app"
    OTHER = "other", "a code of a later version", "read what its version says of it"
    # fmt: on


_OF_CODE: Mapping[str, Cause] = {
    Code.ROUTE_UNMAPPED: Cause.NO_ROUTE, Code.METHOD_UNMAPPED: Cause.NO_METHOD,
    Code.OPERATION_UNMAPPED: Cause.OPERATION, Code.QUERY_NOT_ALLOWED: Cause.QUERY,
    Code.CORS_REFUSED: Cause.ORIGIN, Code.ORIGIN_REFUSED: Cause.ORIGIN, Code.TOKEN_MISSING: Cause.SIGNED_OUT,
    Code.NO_ROLES: Cause.NO_ROLES, Code.PRINCIPAL_MISSING: Cause.NO_ROLES, Code.CLAIM_MISSING: Cause.CLAIM,
    Code.CLAIM_INVALID: Cause.CLAIM, Code.SCOPE_MISSING: Cause.CLAIM, Code.RESOURCE_MISSING: Cause.NO_RESOURCE, Code.RESOURCE_HIDDEN: Cause.NO_RESOURCE,
    Code.LOOKUP_MISMATCH: Cause.ATTRIBUTE, Code.LOOKUP_INCOMPLETE: Cause.ATTRIBUTE, Code.LOOKUP_LOOP: Cause.LOOKUP,
    Code.DENIED_BY_POLICY: Cause.POLICY, Code.REFERENCE_INVALID: Cause.VALUE,
    Code.SEGMENT_INVALID: Cause.SEGMENT, Code.BODY_UNEXPECTED: Cause.BODY, Code.BODY_TOO_LARGE: Cause.BODY,
    Code.BODY_TYPE_UNSUPPORTED: Cause.BODY, Code.BODY_INVALID: Cause.BODY, Code.ITEMS_UNREADABLE: Cause.LIST,
    Code.ITEMS_TOO_MANY: Cause.LIST, Ground.ALLOWED: Cause.WIDER_POLICY, Ground.AUTHENTICATED: Cause.WIDER_ROUTE,
    Ground.PUBLIC: Cause.WIDER_ROUTE, Ground.PREFLIGHT: Cause.WIDER_ROUTE,
}  # fmt: skip
_OF_DEPENDENCY = {
    Dependency.LOOKUP: Cause.LOOKUP, Dependency.PDP: Cause.PDP, Dependency.JWKS: Cause.SERVICES,
    Dependency.SESSIONS: Cause.SERVICES, Dependency.IDP: Cause.SERVICES, Dependency.UPSTREAM: Cause.APP,
}  # fmt: skip
_OF_KIND = {
    Kind.REQUEST: Cause.REQUEST, Kind.PROXY: Cause.PROXY, Kind.PRINCIPAL: Cause.TOKEN, Kind.SIDECAR: Cause.SIDECAR,
}  # fmt: skip
CODES = {str(code): code for code in Code}


def cause_of(code: str) -> Cause:
    """Return the cause that a code tells of."""
    if code in _OF_CODE:
        return _OF_CODE[code]
    known = CODES.get(code)
    if known is None:
        return Cause.OTHER
    if known.dependency is not None:
        return _OF_DEPENDENCY[known.dependency]
    return _OF_KIND.get(known.kind, Cause.OTHER)
