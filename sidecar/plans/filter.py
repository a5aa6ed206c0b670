"""A filter of rows without negation: terms about one field each, under `All` and `Any`.

A filter stands for a set of rows that has every row a check could allow. To leave something out of `All` makes the set
larger, so that is always right; to leave something out of `Any` is never right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from sidecar.gate.values import Type


class Operator(StrEnum):
    """How a field must be to a value, in the words of its JSON (the dialect `header`)."""

    EQ = "eq"
    NE = "ne"
    IN = "in"
    NOT_IN = "not_in"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"
    STARTS_WITH = "starts_with"
    ENDS_WITH = "ends_with"
    CONTAINS = "contains"
    HAS = "has"


NEGATIVE = frozenset((Operator.NE, Operator.NOT_IN))
"""Relations that are met by all but some rows. An app whose equality is wider than Cerbos' would lose rows by them."""
TEXTUAL = frozenset((Operator.STARTS_WITH, Operator.ENDS_WITH, Operator.CONTAINS))
ORDER = frozenset((Operator.LT, Operator.LE, Operator.GT, Operator.GE))

Value = str | float | bool


@dataclass(frozen=True, slots=True)
class RowField:
    """A field of the app's rows: the names that lead to it. `type` is its JSON type where the route declares one; it is
    `required` where the route says that no row is without it. The one that `identifies` is a text or a number in the
    row, and always a text to the policy."""

    path: tuple[str, ...]
    type: Type | None = None
    required: bool = False
    identifies: bool = False

    def always(self, *types: Type) -> bool:
        """Return whether each row that is shown has a value of one of these types: else its list is refused."""
        return self.required and self.type in types


@dataclass(frozen=True, slots=True, repr=False)
class Term:
    """One field in a relation to `values`, of which only `IN` and `NOT_IN` have several.

    A negative term is met by a row without the field, too, and by one whose value is of another type.
    """

    field: RowField
    relation: Operator
    values: tuple[Value, ...]

    @property
    def value(self) -> Value:
        """The value, where there is one."""
        return self.values[0]


@dataclass(frozen=True, slots=True, repr=False)
class All:
    """Rows that each part has; of no part, every row."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Any:
    """Rows that one of the parts has; of no part, no row."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Unsayable:
    """A part that cannot be said: any row may be meant."""


Filter = Term | All | Any | Unsayable

EVERYTHING = All(())
NOTHING = Any(())


def all_of(parts: list[Filter]) -> Filter:
    """The parts under one `All`, as flat as it can be."""
    flat: list[Filter] = []
    for part in parts:
        flat += part.parts if isinstance(part, All) else (part,)
    if any(part == NOTHING for part in flat):
        return NOTHING
    return flat[0] if len(flat) == 1 else All(tuple(flat))


def any_of(parts: list[Filter]) -> Filter:
    """The parts under one `Any`, as flat as it can be."""
    flat: list[Filter] = []
    for part in parts:
        flat += part.parts if isinstance(part, Any) else (part,)
    if any(part == EVERYTHING for part in flat):
        return EVERYTHING
    return flat[0] if len(flat) == 1 else Any(tuple(flat))


class Exactness(StrEnum):
    """How much of a plan an app is told: all of it, a part that loses no row, or nothing."""

    EXACT = "exact"
    WEAKENED = "weakened"
    NONE = "none"


class RenderedTerm(NamedTuple):
    """A term in the words of a dialect; `exact` unless it has more rows than the term."""

    filter: Filter
    exact: bool = True


def weakened(whole: Filter, say: Callable[[Term], RenderedTerm | None]) -> tuple[Filter, Exactness]:
    """The filter in the terms that `say` makes of its own: None for one that cannot be said. No row is lost by it, and
    no `Unsayable` is in it."""
    exact = True

    def spoken(part: Filter) -> Filter:
        nonlocal exact
        match part:
            case All(parts):
                return all_of([spoken(each) for each in parts])
            case Any(parts):
                return any_of([spoken(each) for each in parts])
            case Term():
                said = say(part)
                exact &= said is not None and said.exact
                return EVERYTHING if said is None else said.filter
            case Unsayable():
                exact = False
                return EVERYTHING

    found = spoken(whole)
    if exact:
        return found, Exactness.EXACT
    return found, Exactness.NONE if found == EVERYTHING else Exactness.WEAKENED
