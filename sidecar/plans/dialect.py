"""A dialect of filters in a query: the terms that an app understands, and how they are written.

No dialect changes what a client asks for: where the client says something that only one can say, the client does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import NamedTuple, Protocol, TypeGuard
from urllib.parse import unquote_to_bytes

from sidecar.gate.query import taken_for
from sidecar.gate.trace import Header
from sidecar.gate.values import Type
from sidecar.plans.filter import (
    EVERYTHING,
    NEGATIVE,
    NOTHING,
    All,
    Any,
    Exactness,
    Filter,
    Operator,
    RenderedTerm,
    RowField,
    Term,
    Value,
    weakened,
)

MAX_PARAMETERS = 4096
"""Characters of all that a dialect adds to a query, escapes not counted: servers refuse a line of 8 KiB."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Narrowing(NamedTuple):
    """A filter as an app is told of it: parameters of the query and headers, with `exactness` of all of it."""

    parameters: tuple[tuple[str, str], ...]
    exactness: Exactness
    headers: tuple[Header, ...] = ()


class FilterDialect(Protocol):
    """One way to tell an app of a filter."""

    def narrow(self, whole: Filter, asked: AbstractSet[str]) -> Narrowing:
        """Say a filter, or as much of it as loses no row. `asked` are the names that the client's query may have."""


def asked_names(query: bytes) -> frozenset[str] | None:
    """Return all names that a server may find in a query, folded; None where it cannot be read in one way."""
    if b";" in query or _BROKEN_ESCAPE.search(query):
        return None
    names: set[str] = set()
    for pair in filter(None, query.split(b"&")):
        try:
            name = unquote_to_bytes(pair.partition(b"=")[0].replace(b"+", b" ")).decode("utf-8")
        except UnicodeDecodeError:
            return None
        names |= taken_for(name)
    return frozenset(names)


def is_asked(name: str, asked: AbstractSet[str]) -> bool:
    """Return whether a client's query may have a parameter of this name."""
    return not taken_for(name).isdisjoint(asked)


def joined(field: RowField, separator: str) -> str | None:
    """A field's name with a separator between its parts; None for one that has a meaning of its own for some app."""
    return separator.join(field.path) if all(map(_NAME.fullmatch, field.path)) else None


def number_text(number: float) -> str:
    """A number as each language reads it: in decimals, without an exponent."""
    return str(int(number)) if number == int(number) else format(Decimal(repr(number)), "f")


def scalar_text(value: Value) -> str:
    """A value as a query has it, without quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else number_text(value)


def is_number(value: Value) -> TypeGuard[float]:
    """Return whether a value is a number, which True is not."""
    return not isinstance(value, str | bool)


def in_columns(term: Term) -> RenderedTerm | None:
    """A term for an app whose fields are columns of a database, with types, collations and a rounding of their own.

    None for what such a column may take for another thing than JSON does: the id, whose type is not known, a list, and
    "is not" unless the route declares a type that no column rounds or folds. Numbers are whole, which every column of
    numbers takes.
    """
    if term.field.identifies or term.relation is Operator.HAS:
        return None
    numbers = [value for value in term.values if is_number(value)]
    if term.relation in NEGATIVE:
        whole = numbers and all(number == int(number) for number in numbers) and term.field.always(Type.INT)
        truths = not numbers and term.field.always(Type.BOOL) and all(isinstance(value, bool) for value in term.values)
        return RenderedTerm(term) if len(numbers) in (0, len(term.values)) and (whole or truths) else None
    if numbers:
        return _bounded(term, numbers) if len(numbers) == len(term.values) else None
    texts = all(isinstance(value, str) for value in term.values)
    truths = all(isinstance(value, bool) for value in term.values)
    return RenderedTerm(term, term.field.type is (Type.STRING if texts else Type.BOOL)) if texts or truths else None


def _bounded(term: Term, numbers: Sequence[float]) -> RenderedTerm:
    """A comparison with whole numbers. JSON may show a number of a database rounded (decimals of many digits, floats of
    32 bits), so a column that is not declared to be whole is asked for all that is as near."""
    low, high, relation = min(numbers), max(numbers), term.relation
    whole = term.field.type is Type.INT
    if whole and all(number == int(number) for number in numbers):
        return RenderedTerm(term)
    margin = 0.0 if whole else max(abs(low), abs(high)) * 1e-6 + 1e-6
    least = Term(term.field, Operator.GE, (float(math.ceil(low) if whole else math.floor(low - margin)),))
    most = Term(term.field, Operator.LE, (float(math.floor(high) if whole else math.ceil(high + margin)),))
    if relation in (Operator.LT, Operator.LE):
        return RenderedTerm(most, exact=whole)
    if relation in (Operator.GT, Operator.GE):
        return RenderedTerm(least, exact=whole)
    return RenderedTerm(All((least, most)), exact=False)


def in_one_parameter(
    whole: Filter,
    asked: AbstractSet[str],
    name: str,
    say: Callable[[Term], RenderedTerm | None],
    write: Callable[[Filter], str],
) -> Narrowing:
    """Say a filter in one parameter, unless the client has one of the same name."""
    said, exactness = weakened(whole, say)
    if said == EVERYTHING:
        return Narrowing((), exactness)
    text = write(said) if said != NOTHING else ""
    if not text or is_asked(name, asked) or len(text) > MAX_PARAMETERS:
        return Narrowing((), Exactness.NONE)
    return Narrowing(((name, text),), exactness)


class RenderedParameters(NamedTuple):
    """A term as parameters; `exact` unless they have more rows than it."""

    parameters: tuple[tuple[str, str], ...]
    exact: bool = True


def in_parameters(
    whole: Filter, asked: AbstractSet[str], write: Callable[[Term], RenderedParameters | None]
) -> Narrowing:
    """Say a filter to an app that knows no `or` but that of several values, each term in parameters of its own names.

    A name that the client asks for is not said, nor one twice: an app may take either value, or both.
    """
    parameters: dict[str, tuple[tuple[str, str], ...]] = {}
    exact, size = True, 0
    for part in whole.parts if isinstance(whole, All) else (whole,):
        term = _gathered(part)
        written = write(term) if term is not None else None
        names = dict.fromkeys(name for name, _ in written.parameters) if written is not None else {}
        length = sum(len(name) + len(value) + 2 for name, value in written.parameters) if written is not None else 0
        if (
            written is None
            or size + length > MAX_PARAMETERS
            or any(n in parameters or is_asked(n, asked) for n in names)
        ):
            exact = False
            continue
        size += length
        exact &= written.exact
        for name in names:
            parameters[name] = tuple(pair for pair in written.parameters if pair[0] == name)
    pairs = tuple(pair for each in parameters.values() for pair in each)
    if exact:
        return Narrowing(pairs, Exactness.EXACT)
    return Narrowing(pairs, Exactness.WEAKENED if pairs else Exactness.NONE)


def _gathered(part: Filter) -> Term | None:
    """One term for a part, also where it is made of equalities of one field; None for any other `Any`."""
    if isinstance(part, Term):
        return part
    if not isinstance(part, Any):
        return None
    terms = [each for each in part.parts if isinstance(each, Term) and each.relation in (Operator.EQ, Operator.IN)]
    if len(terms) != len(part.parts) or len({term.field for term in terms}) != 1:
        return None
    return Term(terms[0].field, Operator.IN, tuple(value for term in terms for value in term.values))
