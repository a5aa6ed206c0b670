"""A GraphQL request: its JSON body, or its URL -> what each root field that may be executed asks for.

A request is read as `GraphQL over HTTP` says (draft of 2025), and whatever servers read in another way is refused:
names of a body that are not the specification's, an operation that is chosen in two ways, persisted documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from sidecar.bodies.graphql_document import (
    NO_DEFAULT,
    Definition,
    Document,
    DocumentLimits,
    RootField,
    VariableReference,
    read_document,
)
from sidecar.bodies.graphql_reply import reply_for
from sidecar.bounded import Bounded, size_of
from sidecar.gate.ask import Ask, Operation
from sidecar.gate.body import json_of, require_json
from sidecar.gate.codes import Code
from sidecar.gate.query import query_value
from sidecar.gate.request import Request
from sidecar.gate.values import type_of
from sidecar.gate.verdict import RefusalFormat, Refused

DIRECTIVES = frozenset(("include", "skip"))
"""Directives that every server has. Another may change what is executed."""
INERT_EXTENSIONS = frozenset(("clientLibrary",))
"""Extensions of a request that say who sends it, and no more."""
RESERVED_PARAMETERS = frozenset(
    ("query", "variables", "operationname", "extensions", "id", "documentid", "docid", "doc_id", "queryid", "hash")
)
"""Parameters of a URL, without case, by which servers take a document, or one that they know, instead of the body's."""
MEMBERS = ("query", "variables", "operationName", "extensions")
"""Members of a request, which are parameters of the URL where a query comes by GET."""
_MEMBERS = frozenset(MEMBERS)
_FOLDED = frozenset(map(str.lower, MEMBERS))
_PERSISTED = "persistedQuery"
_THE_DOCUMENT = (
    "the document itself in `query`: the sidecar knows no persisted one; turn persisted documents off in the client"
)
_IN_JSON = frozenset(("variables", "extensions"))
QUERY = "Query"
"""The kind of the operations that may come by GET."""
_INTROSPECTION = frozenset(("__schema", "__type"))
_REMEMBERED = 2 * 1024 * 1024
_MOST_SHOWN = 64
MAX_REPEATED = 20_000
"""Values, and characters of their names, within variables that stand in arguments more than once: all of them are read
each time, and so are counted each time."""


class RootCall(NamedTuple):
    """A root field as it may be executed: `Query.contact`, the name of its answer, and its arguments. An argument
    whose variable is not given is not there."""

    field: str
    alias: str
    arguments: Mapping[str, Any]


class GraphqlReader:
    """Reads requests by the rules of one route. Documents repeat with other variables, so each is parsed once, as long
    as it is remembered."""

    def __init__(
        self, limits: DocumentLimits, *, introspection: bool = False, directives: frozenset[str] = DIRECTIVES
    ) -> None:  # fmt: skip
        self._limits = limits
        self._introspection = introspection
        self._directives = directives
        self._documents: Bounded[bytes, Document] = Bounded(_REMEMBERED)

    def calls(self, body: Any) -> list[RootCall]:
        """Return what a body asks for; nothing, where it is `__typename` or allowed introspection alone.

        Raises Refused: BODY_INVALID, OPERATION_UNMAPPED.
        """
        if not isinstance(body, list):
            return self._calls_of(body)
        if not 1 <= len(body) <= self._limits.batch:
            raise Refused(
                Code.BODY_INVALID, f"found a list of {len(body)} requests, expected at most {self._limits.batch}"
            )
        calls = [call for one in body for call in self._calls_of(one)]
        if len(calls) > self._limits.fields:
            raise Refused(
                Code.BODY_INVALID, f"found {len(calls)} root fields, expected at most {self._limits.fields}"
            )  # fmt: skip
        return calls

    def calls_by_url(self, query: bytes) -> list[RootCall]:
        """Return what the query of a URL asks for, as `calls`. It changes nothing (GraphQL over HTTP, section 5.3).

        Raises Refused: BODY_INVALID, REFERENCE_INVALID, OPERATION_UNMAPPED, METHOD_UNMAPPED for another operation.
        """
        return self._calls_of(_said_in(query), by_url=True)

    def _calls_of(self, body: Any, *, by_url: bool = False) -> list[RootCall]:
        text, variables, name = _parts_of(body)
        document = self._document(text)
        operation = _chosen(document, name)
        if by_url and operation.kind != QUERY:
            detail = f"found a {operation.kind.lower()} by GET, expected a query, and others by POST"
            raise Refused(Code.METHOD_UNMAPPED, detail, ("POST",))
        values = _values_of(operation, variables)
        _require_few(operation, values)
        return [
            RootCall(f"{operation.kind}.{field.name}", field.alias, _arguments_of(field, values))
            for field in operation.fields
            if not self._is_introspection(operation, field)
        ]

    def _document(self, text: str) -> Document:
        digest = sha256(text.encode("utf-8")).digest()
        document = self._documents.get(digest)
        if document is None:
            document = read_document(text, self._limits, self._directives)
            parts = [(one.name, one.variables, one.fields) for one in document.operations.values()]
            self._documents.put(digest, document, size_of((digest, parts)))
        return document

    def _is_introspection(self, operation: Definition, field: RootField) -> bool:
        if field.name in _INTROSPECTION and operation.kind == QUERY:
            if not self._introspection:
                raise Refused(
                    Code.OPERATION_UNMAPPED, f"introspection: found {field.name}, the route does not allow it"
                )
            return True
        return field.name == "__typename"


class GraphQL:
    """Rule of a route that takes GraphQL: what its root fields ask, by names such as `Query.contact`."""

    def __init__(self, asks: Mapping[str, Ask], reader: GraphqlReader) -> None:
        self.asks = asks
        self._reader = reader

    def read(self, request: Request, body: bytes) -> list[Operation]:
        """Read what each root field asks for. Raises Refused: BODY_TYPE_UNSUPPORTED, BODY_INVALID,
        OPERATION_UNMAPPED; of a GET what is in its URL, REFERENCE_INVALID and METHOD_UNMAPPED, too."""
        reply = reply_for(request.seen.get(b"accept", b""))
        try:
            return [self._operation(call, reply) for call in self._calls(request, body)]
        except Refused as refused:
            refused.reply = reply
            raise

    def _calls(self, request: Request, body: bytes) -> list[RootCall]:
        # a HEAD asks for what a GET would
        if request.method != "POST":
            if request.has_body:
                # servers take from it what the URL does not say, such as the variables
                raise _fault("found a body beside a query in the URL, expected none")
            return self._reader.calls_by_url(request.query)
        require_json(request)
        return self._reader.calls(json_of(body))

    def _operation(self, call: RootCall, reply: RefusalFormat | None) -> Operation:
        ask = self.asks.get(call.field)
        if ask is None:
            raise Refused(Code.OPERATION_UNMAPPED, f"found {call.field[:_MOST_SHOWN]}, which the route does not name")
        alias = f" as {call.alias[:_MOST_SHOWN]}" if call.alias else ""
        return Operation(ask, call.arguments, call.field + alias, reply)


def _fault(detail: str) -> Refused:
    return Refused(Code.BODY_INVALID, detail)


def _said_in(query: bytes) -> dict[str, Any]:
    """The request in the query of a URL, as its body would be; an empty parameter is one that is there."""
    said = {name: query_value(query, name) for name in MEMBERS}
    return {
        name: _json_in(name, value) if name in _IN_JSON else value for name, value in said.items() if value is not None
    }


def _json_in(name: str, text: str) -> Any:
    try:
        return json_of(text.encode("utf-8"))
    except Refused as refused:
        raise _fault(f"{name}: {refused.detail}") from None


def _parts_of(body: Any) -> tuple[str, Mapping[str, Any], str | None]:
    """The document, the variables and the operation's name of one request."""
    if not isinstance(body, dict):
        raise _fault(f"found {type_of(body)}, expected an object with `query`")
    if unknown := next((name for name in body if name not in _MEMBERS), None):
        raise _fault(
            f"found {unknown[:_MOST_SHOWN]!r}, expected {_THE_DOCUMENT}"
            if unknown.lower() in RESERVED_PARAMETERS and unknown.lower() not in _FOLDED
            else f"found {unknown[:_MOST_SHOWN]!r}, expected no other names than {', '.join(sorted(_MEMBERS))}"
        )
    text, variables, name, extensions = (body.get(of) for of in ("query", "variables", "operationName", "extensions"))
    if not isinstance(text, str):
        raise _fault(f"query: found {type_of(text)}, expected {_THE_DOCUMENT}")
    if not isinstance(variables, dict | None):
        raise _fault(f"variables: found {type_of(variables)}, expected an object")
    # "" is a name for some servers, and for others none
    if name == "" or not isinstance(name, str | None):
        raise _fault("operationName: expected a name, or none at all")
    if not isinstance(extensions, dict | None):
        raise _fault(f"extensions: found {type_of(extensions)}, expected an object")
    if unknown := next((one for one in extensions or () if one not in INERT_EXTENSIONS), None):
        raise _fault(
            f"extensions: found {unknown[:_MOST_SHOWN]!r}, which may change what is executed, expected "
            + (_THE_DOCUMENT if unknown == _PERSISTED else f"no other than {', '.join(sorted(INERT_EXTENSIONS))}")
        )
    return text, variables or {}, name


def _chosen(document: Document, name: str | None) -> Definition:
    operations = document.operations
    if name is None and len(operations) == 1:
        return next(iter(operations.values()))
    chosen = operations.get(name) if name is not None else None
    if chosen is None:
        raise _fault(
            f"operationName: found {'nothing' if name is None else repr(name[:_MOST_SHOWN])}, expected the name of one "
            f"of {len(operations)} operations"
        )
    return chosen


def _values_of(operation: Definition, variables: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of an operation's variables, without those that are not given and have no default."""
    if unknown := next((name for name in variables if name not in operation.variables), None):
        raise _fault(f"variables: found {unknown[:_MOST_SHOWN]!r}, which the operation does not declare")
    return {**operation.variables, **variables}


def _require_few(operation: Definition, values: Mapping[str, Any]) -> None:
    """See that a document does not make much of a large variable by naming it often. Raises Refused(BODY_INVALID)."""
    large = [name for name, value in values.items() if type(value) in (dict, list)]
    if not large:
        return
    named = Counter([name for field in operation.fields for name in field.variables])
    room = MAX_REPEATED
    for name in large:
        if (count := named[name]) > 1:
            room -= count * _size(values[name], room // count)
            if room < 0:
                raise _fault(
                    f"variables: {name[:_MOST_SHOWN]!r} stands in arguments {count} times, expected at most "
                    f"{MAX_REPEATED} values and characters of names in those that stand there more than once"
                )


def _size(value: Any, most: int) -> int:
    """Count the values within a value, and the characters of their names, or more than `most` of them."""
    rest, size = [value], 0
    while rest and size <= most:
        part = rest.pop()
        if isinstance(part, dict):
            size += sum(map(len, part), len(part))
            rest += part.values()
        elif isinstance(part, list):
            size += len(part)
            rest += part
    return size


def _arguments_of(field: RootField, values: Mapping[str, Any]) -> Mapping[str, Any]:
    return _filled_members(field.arguments, values) if field.variables else field.arguments


def _filled_members(members: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    filled = {name: _filled(value, values) for name, value in members.items()}
    return {name: value for name, value in filled.items() if value is not NO_DEFAULT}


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, VariableReference):
        if value.name not in values:
            raise _fault(f"query: the variable {value.name[:_MOST_SHOWN]!r} is not declared")
        return values[value.name]
    if isinstance(value, dict):
        return _filled_members(value, values)
    if isinstance(value, list):
        # in a list null takes the place of a variable that is not given (specification, section 3.11)
        filled: Sequence[Any] = [_filled(item, values) for item in value]
        return [None if item is NO_DEFAULT else item for item in filled]
    return value
