"""Public types for the Python functions that `lookups` names. They stay as they are, as the settings do.

A function gets a `LookupRequest`, and returns a dict of JSON values, or None where there is no such thing. One of a
lookup with `batch` gets a `BatchLookupRequest`, and returns a dict of such dicts by id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Principal:
    """Sender of the request, as Cerbos gets it, with the issuer of its token."""

    id: str
    roles: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class LookupRequest:
    """Question about one resource. The answer must come within `timeout` seconds. `principal` is None unless the lookup
    says `as: principal`: then the answer is remembered for this principal alone."""

    kind: str
    id: str
    principal: Principal | None = None
    timeout: float = 1.0


@dataclass(frozen=True, slots=True)
class BatchLookupRequest:
    """Question about many resources of one kind. An id that is not in the answer, or is None there, is missing; one
    that nobody has asked for is a fault. `principal` and `timeout` are those of a `LookupRequest`."""

    kind: str
    ids: tuple[str, ...]
    principal: Principal | None = None
    timeout: float = 1.0
