"""A plan of the PDP as a tree: what must be true of a resource so that an action on it is allowed.

It may hold attributes of the principal, so it is neither logged nor cached, and shows no value in its `repr`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

Scalar = str | float | bool | None
"""A constant as JSON has it; numbers are doubles, as they are to Cerbos."""


@dataclass(frozen=True, slots=True, repr=False)
class Constant:
    """A value that is known: a scalar, or a list of scalars."""

    value: Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True, repr=False)
class PlanVariable:
    """A part of the question that is not known, by its long name: `request.resource.attr.owner`."""

    name: str


@dataclass(frozen=True, slots=True, repr=False)
class PlanExpression:
    """An operator and its operands, as Cerbos names and orders them: `lt(5, n)` of `5 < n`."""

    operator: str
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True, repr=False)
class UnknownNode:
    """A part that cannot be read: of another form, too deep, or too long. It may be true of any resource."""


Node = Constant | PlanVariable | PlanExpression | UnknownNode


class Always(Enum):
    """A plan without a condition."""

    ALLOWED = "allowed"
    DENIED = "denied"


@dataclass(frozen=True, slots=True, repr=False)
class Conditional:
    """A plan with a condition."""

    condition: Node


Plan = Always | Conditional
