"""PIP: attributes of the resource. A lookup, its calls, and the attributes in a reply, for any source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

from sidecar.bounded import Bounded, size_of
from sidecar.gate.app_question import AppQuestion
from sidecar.gate.codes import Code
from sidecar.gate.expressions import ValueExpression, member_name
from sidecar.gate.references import Material, Reference, ReferenceSource, resolve
from sidecar.gate.trace import Header
from sidecar.gate.values import Type, checked, is_number, type_of
from sidecar.gate.verdict import Refused
from sidecar.wire import strict_json

READINGS = 8 * 1024 * 1024
"""Bytes of cached answers whose attributes are kept, their bodies included: about 6,000 usual ones."""


class Missing(StrEnum):
    """Meaning of "no such thing" (404 of the hook): refuse with 403, hide with 404, or decide without attributes."""

    DENY = "deny"
    HIDE = "hide"
    EMPTY = "empty"


# a resource that is not there and one of somebody else are one answer, or its codes tell which ids there are (CWE-204).
# RFC 9110 section 15.5.4 has 404 for what is forbidden and must stay hidden
_TOLD = {
    # of several lookups one denies and one hides
    (Missing.HIDE, Code.RESOURCE_MISSING): Code.RESOURCE_HIDDEN,
    (Missing.DENY, Code.RESOURCE_MISSING): Code.DENIED_BY_POLICY,
    (Missing.HIDE, Code.DENIED_BY_POLICY): Code.RESOURCE_HIDDEN,
}


def masked_code(refused: Refused, missing: Missing | None) -> Code | None:
    """Return what a client is told in place of a code where a lookup has said so; None where it is the code itself."""
    if missing is Missing.HIDE and refused.about_another:
        # of `07` the hook says that it has 7: only of what is there
        return Code.RESOURCE_HIDDEN
    return _TOLD.get((missing, refused.code)) if missing is not None else None


def is_missing(refused: Refused, missing: Missing) -> bool:
    """Return whether a lookup has no such resource, or a client may not be told that there is another."""
    hidden = missing is Missing.HIDE and refused.about_another
    return hidden or refused.code in (Code.RESOURCE_MISSING, Code.RESOURCE_HIDDEN)


class ResourceField(StrEnum):
    """A field of the resource that may be asked with: `{id}`, `{kind}`; `{ids}` where many are asked about at once."""

    ID = "id"
    KIND = "kind"
    IDS = "ids"


class Attribute(NamedTuple):
    """How to read one attribute out of JSON: the compiled `expression`, as a ValueExpression where values of a request
    belong in it, with its `places`. Without a type any scalar is taken as it is."""

    search: Any
    type: Type | None = None
    expression: str = ""
    places: Mapping[str, Reference | ResourceField] = {}


class Inquiry(Protocol):
    """Question of a lookup, with places for values of a request, and whom it asks; its type is that of its source."""

    @property
    def source(self) -> str:
        """Place that is asked: the same question has another answer at another."""

    @property
    def values(self) -> tuple[Reference | ResourceField, ...]:
        """The values of a request that fill it."""

    def fill(self, kind: str, resource_id: str, material: Material) -> str:
        """The question of one request, all of it: equal questions have the same answer. Raises Refused."""

    def shown(self, question: str) -> str:
        """A question as a person reads it."""


class Batch(NamedTuple):
    """How a lookup is asked about many ids in one call: `most` of them; `at` are the names that lead to what it says of
    each, in its answer."""

    most: int
    at: tuple[str, ...] = ()


class Lookup(NamedTuple):
    """One entry of `lookups`. Times are seconds; `cache` 0 means every request asks. `places` are those for values of a
    request in the expressions of its attributes."""

    name: str
    inquiry: Inquiry
    attributes: Mapping[str, Attribute]
    optional: frozenset[str] = frozenset()
    missing: Missing = Missing.DENY
    timeout: float = 1.0
    cache: float = 0.0
    echo: Any = None
    places: Mapping[str, Reference | ResourceField] = {}
    batch: Batch | None = None

    @property
    def references(self) -> tuple[Reference, ...]:
        """The references that fill the question, and those in expressions."""
        return tuple(part for part in (*self.inquiry.values, *self.places.values()) if isinstance(part, Reference))

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the lookups whose attributes it reads."""
        read = [one.name.partition(".")[0] for one in self.references if one.source is ReferenceSource.LOOKUP]
        return tuple(dict.fromkeys(read))


class Call(NamedTuple):
    """One question to a source. Calls that differ in `trace` (headers that go with it), `asker` (issuer and id of the
    principal) or `values` (place in an expression -> what stands there) alone have the same answer. `app` is the
    warrant of one to the protected app."""

    lookup: Lookup
    question: str
    resource_id: str
    trace: tuple[Header, ...] = ()
    asker: tuple[str, str] = ("", "")
    values: tuple[tuple[str, Any], ...] = ()
    app: AppQuestion | None = None
    ids: tuple[str, ...] = ()
    """The ids of a call about many, whose `resource_id` is ""."""


class Reply(NamedTuple):
    """Answer of a source, in the words of HTTP: 200, or 404 for no such thing; the content type without parameters in
    lower case, and the body as it came."""

    status: int
    content_type: str
    body: bytes
    document: Any = None
    """The body as it was read already: it came with others in one answer."""


def call_for(lookup: Lookup, kind: str, resource_id: str, material: Material) -> Call:
    """Ask for one resource. Raises Refused."""
    principal = material.principal
    question = lookup.inquiry.fill(kind, resource_id, material)
    values = tuple([(place, _value(part, kind, resource_id, material)) for place, part in lookup.places.items()])
    return Call(lookup, question, resource_id, (), (principal.issuer, principal.id), values)


def _value(part: Reference | ResourceField, kind: str, resource_id: str, material: Material) -> Any:
    if isinstance(part, Reference):
        return resolve(part, material)
    return resource_id if part is ResourceField.ID else kind


def attributes_from(call: Call, reply: Reply) -> dict[str, Any]:
    """The attributes that a hook's answer gives. Raises Refused: RESOURCE_*, or LOOKUP_* for any other answer."""
    if reply.status == 404:
        return _missing(call.lookup)
    return _read(call, document_of(call, reply))


def document_of(call: Call, reply: Reply) -> Any:
    """The JSON that a source has answered with. Raises Refused(LOOKUP_*)."""
    if reply.document is not None:
        return reply.document
    if reply.status in (401, 403):
        raise Refused(Code.LOOKUP_AUTH, f"lookups.{call.lookup.name}: the hook answered {reply.status}")
    if reply.status != 200:
        raise Refused(Code.LOOKUP_STATUS, f"lookups.{call.lookup.name}: the hook answered {reply.status}")
    if reply.content_type != "application/json" and not reply.content_type.endswith("+json"):
        raise Refused(
            Code.LOOKUP_STATUS, f"lookups.{call.lookup.name}: found {reply.content_type[:64]!r}, expected JSON"
        )
    try:
        return strict_json.loads(reply.body)
    except ValueError as error:
        raise Refused(Code.LOOKUP_BAD_ANSWER, f"lookups.{call.lookup.name}: {error}") from None


def attributes_in(
    document: Any, attributes: Mapping[str, Attribute], optional: frozenset[str], place: str
) -> dict[str, Any]:
    """Read attributes out of a JSON value, whether a hook or the app says it. `place` names them in a refusal.

    Raises Refused: LOOKUP_MISMATCH for one that is not there and not optional, or of another type than declared,
    LOOKUP_BAD_ANSWER for a value that an expression cannot be applied to.
    """
    found: dict[str, Any] = {}
    for name, attribute in attributes.items():
        value = search_in(attribute.search, document)
        if attribute.type is None and isinstance(value, str | bool):
            # as most are: a list has some of each item
            found[name] = value
        elif value is not None:
            found[name] = _typed(f"{place}.{name}", attribute.type, value)
        elif name not in optional:
            raise Refused(Code.LOOKUP_MISMATCH, f"{place}.{name}: found nothing")
    return found


_AS_IT_IS = frozenset((str, bool))
"""Types of values that need no look where none is declared."""


def attributes_in_all(
    documents: Sequence[Any], attributes: Mapping[str, Attribute]
) -> list[dict[str, Any]] | None:  # fmt: skip
    """Read attributes out of JSON values as `attributes_in` does, attribute by attribute, which takes a third of the
    time. None where that does not do: not each is a name that all values have, with what is declared."""
    columns = []
    for attribute in attributes.values():
        column = column_of(documents, attribute.search)
        if column is None or not _are_of_type(attribute.type, column):
            return None
        columns.append(column)
    if not columns:
        return [{} for _ in documents]
    return list(map(dict, map(zip, repeat(tuple(attributes)), zip(*columns, strict=True))))


def column_of(documents: Sequence[Any], search: Any) -> list[Any] | None:
    """Apply a search to each of some JSON values, where it looks up a member, and each has it; None where not."""
    name = member_name(search)
    if name is None:
        return None
    try:
        return list(map(itemgetter(name), documents))
    except (KeyError, TypeError):
        return None


def _are_of_type(kind: Type | None, values: list[Any]) -> bool:
    if kind is None and set(map(type, values)) <= _AS_IT_IS:
        return True
    try:
        for value in values:
            if kind is not None or not isinstance(value, str | bool):
                _typed("", kind, value)
    except Refused:
        return False
    return True


class ReplyReader:
    """Reads the answers of hooks, each only once as long as it is cached: the same object says the same again."""

    def __init__(self) -> None:
        self._known: Bounded[int, tuple[Call, Reply, dict[str, Any]]] = Bounded(READINGS)

    def attributes(self, call: Call, reply: Reply) -> dict[str, Any]:
        """As `attributes_from`; what it returns may not be changed."""
        if not call.lookup.cache:
            return attributes_from(call, reply)
        known = self._known.get(id(reply))
        if known is not None and known[1] is reply and _reads_alike(known[0], call):
            return known[2]
        found = attributes_from(call, reply)
        # without the lookup, which all have in common
        self._known.put(id(reply), (call, reply, found), size_of((call[1:], reply, found)))
        return found


def _reads_alike(one: Call, other: Call) -> bool:
    return one.lookup is other.lookup and one[1:3] == other[1:3] and one.values == other.values


def merged(said: Mapping[str, Any], lookups: Sequence[Lookup], read: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that a request says, and those that were read of what lookups told: where one of them has no value for
    one of its own, what the request says does not stand in for it."""
    attributes = dict(said)
    for lookup in lookups if said else ():
        attributes = {name: value for name, value in attributes.items() if name not in lookup.attributes}
    attributes.update(read)
    return attributes


def _missing(lookup: Lookup) -> dict[str, Any]:
    if lookup.missing is Missing.EMPTY:
        return {}
    hidden = lookup.missing is Missing.HIDE
    raise Refused(Code.RESOURCE_HIDDEN if hidden else Code.RESOURCE_MISSING, f"lookups.{lookup.name}: no such thing")


def _read(call: Call, document: Any) -> dict[str, Any]:
    lookup = call.lookup
    if lookup.echo is not None and id_text(search_in(lookup.echo, document)) != call.resource_id:
        detail = f"lookups.{lookup.name}: the answer is about another id"
        raise Refused(Code.LOOKUP_MISMATCH, detail, about_another=True)
    attributes = lookup.attributes if not call.values else _bound(lookup.attributes, dict(call.values))
    return attributes_in(document, attributes, lookup.optional, f"lookups.{lookup.name}.attributes")


def _bound(attributes: Mapping[str, Attribute], values: Mapping[str, Any]) -> dict[str, Attribute]:
    return {
        name: attribute._replace(search=attribute.search.bind(values))
        if isinstance(attribute.search, ValueExpression)
        else attribute
        for name, attribute in attributes.items()
    }


def search_in(search: Any, document: Any) -> Any:
    """Apply a compiled expression to a JSON value. Raises Refused(LOOKUP_BAD_ANSWER) where it cannot be."""
    try:
        return search(document)
    except Exception as error:  # noqa: BLE001 - whatever a hook's answer does to an expression is that answer's fault
        raise Refused(Code.LOOKUP_BAD_ANSWER, type(error).__name__) from None


def id_text(value: Any) -> str:
    """Return a JSON value as the id that it is, a text or a whole number; "" for any other."""
    return value if isinstance(value, str) else str(value) if type(value) is int else ""


def _typed(place: str, kind: Type | None, value: Any) -> Any:
    if kind is not None:
        return checked(kind, value, place, Code.LOOKUP_MISMATCH)
    if not is_number(value):
        told = f"{place}: found {type_of(value)}, expected a string, number or bool: `:list` or `:json` takes others"
        raise Refused(Code.LOOKUP_MISMATCH, told)
    return value
