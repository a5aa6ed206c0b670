"""`each` of a route in `routes.yaml`: its names, and the rule for requests about many resources that it gives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sidecar.config.shapes import Entry, Field, ListOf, MapOf, Mark, Record, Text, Whole
from sidecar.gate.each import MAX_EACH, Each
from sidecar.gate.expressions import searcher
from sidecar.gate.lookup import Attribute
from sidecar.gate.references import Reference, ReferenceSource, names_in, parse_template
from sidecar.gate.values import Type, split_type

MOST = 1000
"""Elements of one request that a route may take at the most."""
_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"


class ElementAttribute(NamedTuple):
    """Reading of one value of an element; `names` are all that its expression has."""

    attribute: Attribute
    names: frozenset[str]
    is_plain: bool


def _reading(text: str) -> ElementAttribute:
    expression, kind = split_type(text)
    attribute = Attribute(searcher(expression), kind, expression)
    return ElementAttribute(attribute, *names_in(expression))


_LISTS = (ReferenceSource.BODY, ReferenceSource.FORM, ReferenceSource.QUERY)


def _list(text: str) -> Reference:
    parts = parse_template(text).parts
    reference = parts[0] if len(parts) == 1 else None
    if not isinstance(reference, Reference) or reference.source not in _LISTS:
        raise ValueError(f"found {text!r}, expected one {{body.…}}, {{form.…}} or {{query.…}} alone")
    if reference.optional or reference.type not in (Type.STRING, Type.LIST):
        raise ValueError(f"found {text!r}, expected it without '?' and without the type of an element: it is a list")
    return reference


LOOKUP_NAMES = ListOf(Text(pattern=_NAME, what="the name of a lookup"), single=True)
_ITSELF = _reading("@")
_EXPRESSION = Text(_reading, what="a JMESPath expression")
EACH = Record(
    {
        "at": Field(
            Text(_list, what="{body.…}, {form.…} or {query.…}"),
            "`{body.…}`, which finds the list, or `{form.…}` or `{query.…}`, whose values are the list", None, True,
        ),
        "id": Field(
            _EXPRESSION, "JMESPath over an element: its id, a string or a whole number; `:int` or `:string` after it "
            "where it must be one. Without it the element itself is the id",
        ),
        "attributes": Field(
            MapOf(_EXPRESSION, _NAME, "an attribute name"),
            "attribute: JMESPath over an element, `:type` after it where it must be of one", {},
        ),
        "optional": Field(
            ListOf(Text(pattern=_NAME, what="an attribute name"), single=True),
            "attributes that an element may lack", (),
        ),
        "lookup": Field(
            LOOKUP_NAMES, "the lookup that is asked for each id, or a list of some, as in `lookup` of a route", (),
        ),
        "max": Field(Whole(1, MOST), "elements that a request may have; more are 400", MAX_EACH),
        "separator": Field(
            Text(pattern=r"[!-~]", what="one visible character"),
            "the character between the ids, where a query or a form has them in one value: `?ids=1,2`", "",
        ),
    },
    "one request about many resources, all of which must be allowed",
)  # fmt: skip


def id_of(entry: Entry) -> ElementAttribute:
    """How an entry of the grammar EACH reads the id of an element."""
    return entry["id"] or _ITSELF


def each_of(entry: Entry) -> Each:
    """The rule that an entry of the grammar EACH gives."""
    readings: dict[str, ElementAttribute] = entry["attributes"]
    own_id = id_of(entry)
    optional = frozenset(entry["optional"])
    # one that is required and found by names alone is missing in any other spelling
    loose = [reading for name, reading in readings.items() if name in optional or not reading.is_plain]
    loose += [] if own_id.is_plain else [own_id]
    return Each(
        entry["at"], own_id.attribute, {name: reading.attribute for name, reading in readings.items()}, optional,
        tuple(entry["lookup"]), entry["max"], entry["separator"],
        frozenset().union(*(reading.names for reading in loose)),
    )  # fmt: skip


def each_faults(entry: Entry) -> Iterator[tuple[Mark, str]]:
    """Find what an entry of the grammar EACH cannot mean."""
    unknown = set(entry["optional"]) - set(entry["attributes"])
    if unknown:
        yield entry.at("optional"), f"found {sorted(unknown)[0]!r}, expected names of `attributes`"
    kind = id_of(entry).attribute.type
    if kind not in (None, Type.INT, Type.STRING):
        yield entry.at("id"), f"found the type {kind}, expected `:int`, `:string` or none"
    if entry["at"] is None:
        return
    if entry["at"].source is ReferenceSource.BODY and entry["separator"]:
        yield entry.at("separator"), "found it with {body.…}, expected it with {query.…} or {form.…}: JSON has lists"
    if entry["at"].source is not ReferenceSource.BODY:
        for name in ("id", "attributes"):
            readings = [id_of(entry)] if name == "id" else entry["attributes"].values()
            if any(reading.names for reading in readings):
                yield (
                    entry.at(name),
                    "found names, expected them with {body.…} alone: other values have none",
                )
