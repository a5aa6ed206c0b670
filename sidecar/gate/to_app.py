"""`to_app`: headers of the user's choice that tell the app of the principal, and the rule for Authorization."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Any, NamedTuple

from sidecar.bounded import remembered
from sidecar.gate.codes import Code
from sidecar.gate.identity import Principal
from sidecar.gate.own import IDENTITY, ForwardedPrincipal, header_text
from sidecar.gate.references import Reference, Template, principal_value
from sidecar.gate.values import checked
from sidecar.gate.verdict import Refused
from sidecar.wire.grammar import TOKEN, Header

MAX_IDENTITY = 8000
"""Bytes of one header that tells of the principal: many servers take no field over 8190 (gunicorn, Apache)."""


class AuthorizationRule(StrEnum):
    """Rule for the client's Authorization: the app never gets it, gets one of another scheme than Bearer too, or gets
    a bearer token alone."""

    DROP = "drop"
    KEEP = "keep"
    FORWARD = "forward"


class ToApp(NamedTuple):
    """Facts that the app gets of the principal beside the headers that are always sent. Without a rule for
    Authorization the app gets a bearer token as it came, and nobody passes with another scheme: `forward` says so."""

    headers: tuple[tuple[bytes, Template], ...] = ()
    authorization: AuthorizationRule | None = None

    def values(self, principal: Principal) -> list[Header]:
        """The headers; one whose reference is optional and finds nothing is left out, and so is an empty list.

        Raises Refused: CLAIM_MISSING, CLAIM_INVALID, IDENTITY_HEADER_TOO_LARGE.
        """
        found = [(name, _value(name, template, principal)) for name, template in self.headers]
        require_size(found)
        return [(name, value) for name, value in found if value]

    @property
    def drops_authorization(self) -> bool:
        """Return whether the app gets no Authorization at all."""
        return self.authorization is AuthorizationRule.DROP

    def takes(self, authorization: bytes | None) -> bool:
        """Return whether a value of Authorization is the app's business, and tells nothing of the principal."""
        if self.authorization is not AuthorizationRule.KEEP or authorization is None:
            return False
        return is_of_app(authorization)


_SCHEME = re.compile(rb"(%b)(?: .*)?" % TOKEN, re.DOTALL)


def is_of_app(authorization: bytes) -> bool:
    """Return whether a value of Authorization names another scheme than Bearer (RFC 9110 section 11.4)."""
    scheme = _SCHEME.fullmatch(authorization)
    return scheme is not None and scheme[1].lower() != b"bearer"


def require_size(headers: list[Header]) -> None:
    """Check what the app is told of the principal. Raises Refused(IDENTITY_HEADER_TOO_LARGE)."""
    for name, value in headers:
        if len(value) > MAX_IDENTITY:
            detail = f"{name.decode('ascii')}: {len(value)} bytes, at most {MAX_IDENTITY}"
            raise Refused(Code.IDENTITY_HEADER_TOO_LARGE, detail)


class _Who(NamedTuple):
    """A principal, as far as the headers that are always sent tell of it."""

    id: str
    roles: tuple[str, ...]


# about 2,000 principals
@remembered(1024 * 1024)
def identity_headers(who: tuple[str, tuple[str, ...]]) -> tuple[Header, ...]:
    """The headers that are always sent, of a principal's id and roles. Raises Refused(IDENTITY_HEADER_TOO_LARGE)."""
    headers = _always_sent(_Who(*who))
    require_size(headers)
    return tuple(headers)


def short_headers(principal: Principal) -> list[Header]:
    """Those among them that are not too large."""
    return [pair for pair in _always_sent(principal) if len(pair[1]) <= MAX_IDENTITY]


def _always_sent(principal: ForwardedPrincipal) -> list[Header]:
    return [(header.name, header.value(principal)) for header in IDENTITY]


def _value(name: bytes, template: Template, principal: Principal) -> bytes:
    """One header's value, b"" for none."""
    return b"".join(
        part.encode("ascii") if isinstance(part, str) else _header_value(name, part, principal)
        for part in template.parts
    )


def _header_value(name: bytes, reference: Reference, principal: Principal) -> bytes:
    value = principal_value(reference, principal)
    place = f"to_app.headers.{name.decode('ascii')}: {reference}"
    if value is None:
        if reference.optional:
            return b""
        raise Refused(Code.CLAIM_MISSING, f"{place}: found nothing")
    checked(reference.type, value, place, Code.CLAIM_INVALID)
    items = value if isinstance(value, list) else [value]
    return b",".join(header_text(_plain(item)) for item in items)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
